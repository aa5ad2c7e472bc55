//! Settings of TLS.

use std::{path::PathBuf, time::Duration};

use headpond_runtime::units;
use serde::{Deserialize, Serialize};

/// Section `[tls]`. Either none of `ca`, `cert` and `key` is set, and everything is plaintext, or all are. Holds no secret but where
/// one is. What stands in the files is seen without a restart, a change of these settings is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificates of the authorities that sign the cluster's certificates. Default: none.
    pub ca: Option<PathBuf>,
    /// PEM file with this process's certificate and whatever lies between it and the authority. Its subject alternative names say
    /// what it may do ([`crate::Role`]) and, for a server, under which hosts it is dialled. Default: none.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of `cert`, not encrypted. Default: none.
    pub key: Option<PathBuf>,
    /// The name that certificates of servers must have, where they share one. Default: the host of the address that is dialled.
    pub server_name: Option<String>,
    /// How often the files are looked at: changed ones count for connections from then on. Default: 1 minute; 0 never.
    #[serde(with = "units::duration")]
    pub reload_interval: Duration,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, server_name: None, reload_interval: Duration::from_mins(1) }
    }
}
