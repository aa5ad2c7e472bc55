//! All settings of a process, one section per part, put together from file, environment and flags.

use std::{collections::BTreeMap, path::Path};

use headpond_client::ClientConfig;
use headpond_runtime::{
    CredentialConfig, HttpConfig, LogConfig,
    config::{Layers, Loaded},
};
use serde::{Deserialize, Serialize};

use crate::{args::ProcessArgs, failure::Result};

/// Read when no file is named, if it exists.
const DEFAULT_FILE: &str = "/etc/headpond/headpond.toml";

/// The sections of the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// `[client]`: the SDK inside mounts and commands.
    pub(crate) client: ClientConfig,
    /// `[log]`.
    pub(crate) log: LogConfig,
    /// `[http]`: metrics and health.
    pub(crate) http: HttpConfig,
    /// `[credentials.NAME]`: keys of under stores, by the name that mounts use.
    #[serde(skip_serializing)]
    pub(crate) credentials: BTreeMap<String, CredentialConfig>,
}

/// Layers over `defaults`: the configuration file, the environment and the flags that all processes take. A command adds its
/// own flags on top.
pub(crate) fn layers(defaults: &Settings, process: &ProcessArgs) -> Result<Layers> {
    let layers = Layers::new(defaults)?;
    let layers = match &process.config {
        Some(path) => layers.file(path)?,
        None if Path::new(DEFAULT_FILE).exists() => layers.file(Path::new(DEFAULT_FILE))?,
        None => layers,
    };
    let variables = std::env::vars_os();
    let layers = layers
        .environment(variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))));
    let layers = flag(layers, "--log-level", "log.level", process.log_level.as_ref())?;
    flag(layers, "--log-format", "log.format", process.log_format.as_ref())
}

/// Adds a flag if it was given.
pub(crate) fn flag<T: Serialize>(layers: Layers, flag: &str, key: &str, value: Option<&T>) -> Result<Layers> {
    Ok(match value {
        Some(value) => layers.flag(flag, key, value)?,
        None => layers,
    })
}

/// Settings of a command that has no flags for them.
pub(crate) fn load(process: &ProcessArgs) -> Result<Loaded<Settings>> {
    Ok(layers(&Settings::default(), process)?.load()?)
}
