//! A master at work.

use std::{net::SocketAddr, time::Duration};

use headpond_namespace::{Mount, Persistence};
use headpond_types::{Error, ErrorKind, MountId, NsPath, Result};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use crate::{core::Core, metrics::Sizes};

/// A master that serves. It ends when the shutdown of its tasks begins; see [`RunningMaster::stopped`].
#[derive(Debug)]
pub struct RunningMaster {
    pub(crate) address: SocketAddr,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) core: Core,
    pub(crate) server: JoinHandle<Result<()>>,
}

impl RunningMaster {
    /// Where the gRPC services are.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether calls are taken and the journal takes commands.
    ///
    /// # Errors
    /// `Unavailable`, saying what is missing.
    pub fn ready(&self) -> Result<()> {
        if self.server.is_finished() {
            return Err(Error::new(ErrorKind::Unavailable, "the master has ended"));
        }
        match self.core.catalog.journal_status().stopped {
            None => Ok(()),
            Some(cause) => Err(Error::new(ErrorKind::Unavailable, format!("the journal takes no commands: {cause}"))),
        }
    }

    /// A mount of `uri` at `path` with the defaults: the configured `sync_interval`, read only, files 0644 and directories
    /// 0755 of root.
    #[must_use]
    pub fn default_mount(&self, path: NsPath, uri: impl Into<String>) -> Mount {
        let millis = |interval: Duration| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Mount {
            id: MountId(0),
            path,
            uri: uri.into(),
            options: std::collections::BTreeMap::new(),
            read_only: true,
            sync_interval_ms: self.sync_interval.map(millis),
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
            persistence: Persistence { copies: 2, ..Persistence::default() },
        }
    }

    /// Adds `mount`, unless its URI is mounted at its path already; then that mount stays as it is. The store's root is listed once.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad URI or option, the store's error when it cannot be listed, `AlreadyExists` when something else
    /// is mounted there, `NotADirectory` when a file is in the way; nothing is changed then.
    pub async fn ensure_mount(&self, mount: Mount) -> Result<Mount> {
        self.core.mounting.ensure(mount).await
    }

    /// The mount table, in order of paths.
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        self.core.mounts.table().mounts().into_iter().cloned().collect()
    }

    /// Adds the master's metrics to `registry`, under `headpond_master_`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.core.metrics.register(Sizes(self.core.clone()), registry);
    }

    /// Waits until the master has ended: calls in flight are answered and the journal is closed. Begin the shutdown of its tasks
    /// first.
    ///
    /// # Errors
    /// What made the server fail or the journal not close.
    pub async fn stopped(self) -> Result<()> {
        let served = self.server.await;
        served.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "the server broke off").with_source(error)))
    }
}
