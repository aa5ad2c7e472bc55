//! All settings of a process, one section per part, put together from file, environment and flags.

use std::{collections::BTreeMap, path::Path};

use clap::ValueEnum;
use headpond_client::ClientConfig;
use headpond_fuse::FuseConfig;
use headpond_master::MasterConfig;
use headpond_runtime::{CredentialConfig, HttpConfig, LogConfig, config::Layers};
use headpond_transport::TlsConfig;
use headpond_worker::WorkerConfig;
use serde::{Deserialize, Serialize};

use crate::{
    args::{ProcessArgs, TlsArgs},
    failure::Result,
};

/// Read when no file is named, if it exists.
const DEFAULT_FILE: &str = "/etc/headpond/headpond.toml";

/// The sections of the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// `[master]`.
    pub(crate) master: MasterConfig,
    /// `[worker]`.
    pub(crate) worker: WorkerConfig,
    /// `[mount]`: the FUSE mount.
    pub(crate) mount: FuseConfig,
    /// `[client]`: the SDK inside mounts and commands.
    pub(crate) client: ClientConfig,
    /// `[tls]`: of all gRPC.
    pub(crate) tls: TlsConfig,
    /// `[log]`.
    pub(crate) log: LogConfig,
    /// `[http]`: metrics and health.
    pub(crate) http: HttpConfig,
    /// `[credentials.NAME]`: keys of under stores, by the name that mounts use.
    #[serde(skip_serializing)]
    pub(crate) credentials: BTreeMap<String, CredentialConfig>,
}

/// What a process is; defaults differ where two on one machine would be in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// A master, a mount and a worker in one process.
    Up,
    /// A master.
    Master,
    /// A worker.
    Worker,
    /// A mount.
    Mount,
    /// A command.
    Command,
}

impl Settings {
    /// The defaults of a process.
    pub(crate) fn of(role: Role) -> Self {
        let mut settings = Self::default();
        match role {
            Role::Up => {
                // The terminal is for what is said at the start; more is to be asked for.
                "warn,openraft=error".clone_into(&mut settings.log.level);
                settings.master.cache_bytes = 16 << 20;
            }
            Role::Master | Role::Command => {}
            Role::Worker => "127.0.0.1:7210".clone_into(&mut settings.http.bind),
            Role::Mount => "127.0.0.1:7310".clone_into(&mut settings.http.bind),
        }
        settings
    }

    /// What `layers` say, to all parts.
    pub(crate) fn load(layers: &Layers) -> Result<Self> {
        let mut settings: Self = layers.load()?.value;
        for tls in [&mut settings.master.tls, &mut settings.worker.tls, &mut settings.client.tls] {
            tls.clone_from(&settings.tls);
        }
        Ok(settings)
    }
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
    let layers = flag(layers, "--log-format", "log.format", process.log_format.as_ref())?;
    let TlsArgs { tls_ca, tls_cert, tls_key, tls_server_name } = &process.tls;
    let layers = flag(layers, "--tls-ca", "tls.ca", tls_ca.as_ref())?;
    let layers = flag(layers, "--tls-cert", "tls.cert", tls_cert.as_ref())?;
    let layers = flag(layers, "--tls-key", "tls.key", tls_key.as_ref())?;
    flag(layers, "--tls-server-name", "tls.server_name", tls_server_name.as_ref())
}

/// The variable of the environment that names the masters for mounts and commands.
const MASTERS: &str = "HEADPOND_MASTER";

/// Adds what [`MASTERS`] says and, above that, `--master`.
pub(crate) fn masters(layers: Layers, given: Option<&Vec<String>>) -> Result<Layers> {
    let named = std::env::var(MASTERS).ok().filter(|named| !named.is_empty());
    let layers = match named {
        Some(named) => layers.variable(MASTERS, "client.masters", &named.split(',').collect::<Vec<_>>())?,
        None => layers,
    };
    flag(layers, "--master", "client.masters", given)
}

/// Adds a flag if it was given.
pub(crate) fn flag<T: Serialize>(layers: Layers, flag: &str, key: &str, value: Option<&T>) -> Result<Layers> {
    Ok(match value {
        Some(value) => layers.flag(flag, key, value)?,
        None => layers,
    })
}
