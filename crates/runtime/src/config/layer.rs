//! One layer of configuration and the origin that its values carry.

use std::{fmt, path::PathBuf};

use figment::{
    Error, Figment, Metadata, Profile, Provider, Source,
    value::{Dict, Map, Value},
};
use serde::{Serialize, Serializer};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A TOML file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// This flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Values of one origin.
pub(super) struct Layer {
    origin: Origin,
    values: Dict,
}

impl Layer {
    pub(super) const fn new(origin: Origin, values: Dict) -> Self {
        Self { origin, values }
    }

    /// A layer of one value under a dotted key.
    pub(super) fn one(origin: Origin, key: &str, value: Value) -> Self {
        Self::new(origin, figment::util::nest(key, value).into_dict().unwrap_or_default())
    }
}

impl Provider for Layer {
    /// Origin in figment's words: its kind is the name, what it names is the source.
    fn metadata(&self) -> Metadata {
        let (kind, source) = match &self.origin {
            Origin::Default => return Metadata::named("default"),
            Origin::File(path) => ("file", Source::File(path.clone())),
            Origin::Environment(name) => ("environment", Source::Custom(name.clone())),
            Origin::Flag(name) => ("flag", Source::Custom(name.clone())),
        };
        Metadata::from(kind, source)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The origin of the value under `key`; of what stands in a list, that of the list.
pub(super) fn origin(figment: &Figment, key: &str) -> Origin {
    let mut above = Some(key);
    let metadata = std::iter::from_fn(|| {
        let key = above?;
        above = key.rsplit_once('.').map(|(above, _)| above);
        Some(figment.find_metadata(key))
    });
    let metadata = metadata.flatten().next();
    match metadata.and_then(|metadata| Some((metadata.name.as_ref(), metadata.source.as_ref()?))) {
        Some((_, Source::File(path))) => Origin::File(path.clone()),
        Some(("environment", Source::Custom(name))) => Origin::Environment(name.clone()),
        Some((_, Source::Custom(name))) => Origin::Flag(name.clone()),
        _ => Origin::Default,
    }
}
