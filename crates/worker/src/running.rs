//! A worker at work, as its process sees it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use headpond_store::Usage;
use headpond_types::{Epoch, Result, WorkerId};
use prometheus_client::registry::Registry;

use crate::{reader::Reader, registration::Standing, staging::Room};

/// A started worker. It runs in the [`headpond_runtime::Tasks`] it was started with and ends with them; dropping this ends
/// nothing.
#[derive(Clone, Debug)]
pub struct RunningWorker {
    pub(crate) reader: Arc<Reader>,
    pub(crate) room: Arc<Room>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) address: SocketAddr,
    pub(crate) advertised: String,
    pub(crate) socket: Option<PathBuf>,
}

/// What a worker is doing now.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// Its id; `None` before it was first registered.
    pub worker: Option<WorkerId>,
    /// Epoch of the ring that it goes by.
    pub ring: Epoch,
    /// What the cache holds.
    pub usage: Usage,
    /// Pages being fetched.
    pub pages_in_flight: usize,
}

impl RunningWorker {
    /// Where gRPC listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port` that clients and other workers are told.
    #[must_use]
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// The unix socket, if there is one.
    #[must_use]
    pub const fn socket(&self) -> Option<&PathBuf> {
        self.socket.as_ref()
    }

    /// Whether a master has this worker in the ring, as far as the worker knows. It also serves when not: what it has, and what it
    /// knows how to fetch.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub fn ready(&self) -> Result<()> {
        self.standing.check()
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        WorkerStatus {
            worker: self.reader.cluster.me(),
            ring: self.reader.cluster.ring().epoch,
            usage: self.reader.cache.store().usage(),
            pages_in_flight: self.reader.filler.in_flight(),
        }
    }

    /// Adds the worker's metrics to `registry`, under the prefix `headpond_worker`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.reader.metrics.register(registry, Arc::clone(self.reader.cache.store()), Arc::clone(&self.room));
    }
}
