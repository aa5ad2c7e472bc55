//! What can be wrong with a configuration.

use std::path::{Path, PathBuf};

use figment::{Figment, error::Kind};
use headpond_types::{Error, ErrorKind};

use super::layer::{self, Origin};
use crate::credentials::SECRET_KEYS;

/// How alike (0 to 1, Jaro-Winkler) a known key must be to be offered for an unknown one.
const SIMILAR: f64 = 0.75;

/// A configuration that cannot be used; each variant is one line that names the place.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML at line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Nothing reads this key.
    #[error("unknown setting `{key}` ({origin}): {advice}")]
    UnknownKey {
        /// The key with its section.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The keys that are near, or all.
        advice: String,
    },
    /// The value has the wrong type or makes no sense.
    #[error("setting `{key}` ({origin}) is wrong: {message}")]
    Invalid {
        /// The key with its section.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        Self::Syntax { path: path.to_owned(), line, message: error.message().replace('\n', ", ") }
    }

    /// The first error that figment found. Values of secrets are not repeated.
    pub(super) fn from_figment(error: figment::Error, figment: &Figment) -> Self {
        let mut path = error.path;
        match error.kind {
            Kind::UnknownField(name, known) => {
                if path.last() != Some(&name) {
                    path.push(name.clone());
                }
                let key = path.join(".");
                let origin = layer::origin(figment, &key);
                Self::UnknownKey { origin, advice: advice(&name, known), key }
            }
            kind => {
                let secret = path.last().is_some_and(|name| SECRET_KEYS.contains(&name.as_str()));
                let message = match kind {
                    Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if secret => {
                        format!("expected {expected}")
                    }
                    Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
                        format!("found {actual}, expected {expected}")
                    }
                    Kind::MissingField(name) => format!("`{name}` is missing"),
                    _ if secret => "the value cannot be read".to_owned(),
                    kind => kind.to_string(),
                };
                let key = path.join(".");
                let origin = layer::origin(figment, &key);
                Self::Invalid { key, origin, message }
            }
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let converted = Self::new(ErrorKind::InvalidArgument, error.to_string());
        match error {
            ConfigError::Unreadable { source, .. } => converted.with_source(source),
            ConfigError::Syntax { .. } | ConfigError::UnknownKey { .. } | ConfigError::Invalid { .. } => converted,
        }
    }
}

fn advice(name: &str, known: &[&str]) -> String {
    let mut near: Vec<_> = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .collect();
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let quote = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match &near[..] {
        [] if known.is_empty() => "no setting may stand here".to_owned(),
        [] => format!("known here are {}", quote(known)),
        near => {
            let names: Vec<_> = near.iter().take(3).map(|(_, name)| *name).collect();
            format!("did you mean {}?", quote(&names).replace(", ", " or "))
        }
    }
}
