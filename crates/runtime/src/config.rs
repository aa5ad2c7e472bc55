//! Layered configuration: defaults, then a TOML file, then the environment, then flags; the later one wins.
//!
//! Every value remembers where it came from ([`Origin`]), for `headpond config show` and for errors. A key that nothing
//! reads is an error: a mistyped setting must not be ignored.

mod environment;
mod error;
mod layer;

use std::path::Path;

use figment::{Figment, value::Value};
use serde::{Serialize, de::DeserializeOwned};

pub use error::ConfigError;
pub use layer::Origin;

use crate::credentials::SECRET_KEYS;
use layer::Layer;

/// Layers of configuration, lowest first.
#[derive(Clone, Debug)]
pub struct Layers {
    figment: Figment,
}

/// A configuration and where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Its values one by one, in order of their keys.
    pub settings: Vec<Setting>,
}

/// One value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Section and name, as `worker.node`.
    pub key: String,
    /// The value; a secret stands as `[redacted]`, an unset option as `null`.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: Origin,
}

impl Layers {
    /// The defaults alone.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when they cannot be written as settings, a defect.
    pub fn new<T: Serialize>(defaults: &T) -> Result<Self, ConfigError> {
        let value = Value::serialize(defaults).map_err(|error| ConfigError::from_figment(error, &Figment::new()))?;
        let dict = value.into_dict().unwrap_or_default();
        Ok(Self { figment: Figment::from(Layer::new(Origin::Default, dict)) })
    }

    /// Adds a TOML file. Blocks on reading it.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] and [`ConfigError::Syntax`], naming the file.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let dict = toml::from_str(&text).map_err(|error| ConfigError::syntax(path, &text, &error))?;
        Ok(Self { figment: self.figment.merge(Layer::new(Origin::File(path.to_owned()), dict)) })
    }

    /// Adds variables of the environment: `HEADPOND_WORKER__NODE` is `worker.node`. A value is a TOML value or plain text;
    /// variables without `__` are not settings and are left alone.
    #[must_use]
    pub fn environment(self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let figment = variables.into_iter().fold(self.figment, |figment, (name, value)| {
            match environment::setting(&figment, &name, &value) {
                Some((key, value)) => figment.merge(Layer::one(Origin::Environment(name), &key, value)),
                None => figment,
            }
        });
        Self { figment }
    }

    /// Adds one value given by the variable `name` of the environment, which is no setting by its name.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the value cannot be written as a setting, a defect.
    pub fn variable<T: Serialize>(self, name: &str, key: &str, value: &T) -> Result<Self, ConfigError> {
        self.one(Origin::Environment(name.to_owned()), key, value)
    }

    /// Adds one value given by the command line's `flag` (`--node`).
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the value cannot be written as a setting, a defect.
    pub fn flag<T: Serialize>(self, flag: &str, key: &str, value: &T) -> Result<Self, ConfigError> {
        self.one(Origin::Flag(flag.to_owned()), key, value)
    }

    fn one<T: Serialize>(self, origin: Origin, key: &str, value: &T) -> Result<Self, ConfigError> {
        let value = Value::serialize(value).map_err(|error| ConfigError::from_figment(error, &self.figment))?;
        Ok(Self { figment: self.figment.merge(Layer::one(origin, key, value)) })
    }

    /// Puts the layers together.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`] and [`ConfigError::Invalid`], naming the key and where it stands.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Loaded<T>, ConfigError> {
        let value = self.figment.extract().map_err(|error| ConfigError::from_figment(error, &self.figment))?;
        let all: figment::value::Dict =
            self.figment.extract().map_err(|error| ConfigError::from_figment(error, &self.figment))?;
        let mut settings = Vec::new();
        for (name, value) in &all {
            self.flatten(name, name, value, &mut settings);
        }
        Ok(Loaded { value, settings })
    }

    /// Appends `value` as one setting, or the settings of a section.
    fn flatten(&self, key: &str, name: &str, value: &Value, settings: &mut Vec<Setting>) {
        if let Value::Dict(_, dict) = value {
            for (name, value) in dict {
                self.flatten(&format!("{key}.{name}"), name, value, settings);
            }
            return;
        }
        let secret = SECRET_KEYS.contains(&name);
        let value = match serde_json::to_value(value) {
            _ if secret => "[redacted]".into(),
            Ok(value) => value,
            Err(_) => serde_json::Value::Null,
        };
        let origin = layer::origin(&self.figment, key);
        settings.push(Setting { key: key.to_owned(), value, origin });
    }
}

#[cfg(test)]
mod tests;
