//! What is counted, for Prometheus.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use headpond_proto::status;
use headpond_store::{Counters, PageStore, StoreError};
use headpond_types::ErrorKind;
use headpond_ufs::Meters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};

use crate::staging::Room;

/// Where filled bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// From another worker, as the owner of the block.
    Peer,
    /// From the under store.
    UnderStore,
    /// From a file that was written here.
    Staged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct From {
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// The counters of one worker; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    filled_bytes: Family<From, Counter>,
    failed_fills: Family<Kind, Counter>,
    failed_owners: Counter,
    served_bytes: Counter,
    store_faults: Family<Kind, Counter>,
    persisted_bytes: Counter,
    failed_persists: Family<Kind, Counter>,
    heartbeats: Counter,
    failed_heartbeats: Counter,
    /// Connections on the unix socket.
    pub(crate) local_clients: Gauge,
    /// Contents lent out.
    pub(crate) leases: Gauge,
    /// Files that are being written.
    pub(crate) staged: Gauge,
    /// Requests to under stores, by mount.
    pub(crate) stores: Meters,
}

impl Metrics {
    /// Bytes of a page came.
    pub(crate) fn filled(&self, source: Source, bytes: u64) {
        let source = match source {
            Source::Peer => "peer",
            Source::UnderStore => "under_store",
            Source::Staged => "staged",
        };
        self.filled_bytes.get_or_create(&From { source }).inc_by(bytes);
    }

    /// A run ended before all its pages had come.
    pub(crate) fn fill_failed(&self, kind: ErrorKind) {
        self.failed_fills.get_or_create(&Kind { kind: status::name(kind) }).inc();
    }

    /// The owner of a block could not be had, and the under store was asked.
    pub(crate) fn owner_failed(&self) {
        self.failed_owners.inc();
    }

    /// Bytes were given to a reader over gRPC.
    pub(crate) fn served(&self, bytes: usize) {
        self.served_bytes.inc_by(bytes as u64);
    }

    /// A staged file was stored, or could not be.
    pub(crate) fn persisted(&self, bytes: Result<u64, ErrorKind>) {
        match bytes {
            Ok(bytes) => self.persisted_bytes.inc_by(bytes),
            Err(kind) => self.failed_persists.get_or_create(&Kind { kind: status::name(kind) }).inc(),
        };
    }

    /// The page store failed.
    pub(crate) fn store_fault(&self, error: &StoreError) {
        self.store_faults.get_or_create(&Kind { kind: status::name(error.kind()) }).inc();
    }

    /// Failures of the page store so far.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> u64 {
        let kinds = [ErrorKind::Unavailable, ErrorKind::ResourceExhausted, ErrorKind::Corrupt];
        kinds.map(|kind| self.store_faults.get_or_create(&Kind { kind: status::name(kind) }).get()).iter().sum()
    }

    /// A master was told that this worker lives, or could not be.
    pub(crate) fn heartbeat(&self, succeeded: bool) {
        if succeeded {
            self.heartbeats.inc()
        } else {
            self.failed_heartbeats.inc()
        };
    }

    /// Adds all of it and what `store` counts to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry, store: Arc<PageStore>, room: Arc<Room>) {
        let registry = registry.sub_registry_with_prefix("headpond_worker");
        let bytes = || Unit::Bytes;
        registry.register_with_unit("filled", "Bytes fetched, by source", bytes(), self.filled_bytes.clone());
        registry.register_with_unit("served", "Bytes read over gRPC", bytes(), self.served_bytes.clone());
        registry.register_with_unit("persisted", "Bytes stored in under stores", bytes(), self.persisted_bytes.clone());
        registry.register("failed_persists", "Files that could not be stored, by kind", self.failed_persists.clone());
        registry.register("staged", "Files that are being written", self.staged.clone());
        registry.register("failed_fills", "Fetches that failed, by kind of error", self.failed_fills.clone());
        registry.register("failed_owners", "Fetches from a block's owner that failed", self.failed_owners.clone());
        registry.register("store_faults", "Failures of the page store, by kind", self.store_faults.clone());
        registry.register("heartbeats", "Heartbeats that a master answered", self.heartbeats.clone());
        registry.register("failed_heartbeats", "Heartbeats that failed", self.failed_heartbeats.clone());
        registry.register("local_clients", "Connections on the unix socket", self.local_clients.clone());
        registry.register("leases", "Contents lent as descriptors", self.leases.clone());
        registry.register_collector(Box::new(self.stores.clone()));
        registry.register_collector(Box::new(StoreCollector(store, room)));
    }
}

/// Reads the page store's own numbers, and those of the bound on dirty bytes, when Prometheus asks.
#[derive(Debug)]
struct StoreCollector(Arc<PageStore>, Arc<Room>);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let usage = self.0.usage();
        let failed = usage.dirs.iter().filter(|dir| dir.problem.is_some()).count() as u64;
        for (name, help, value) in [
            ("cache_capacity_bytes", "Bytes that the cache may hold", usage.capacity_bytes()),
            ("cache_used_bytes", "Bytes that the cache holds", usage.used_bytes()),
            ("cache_pages", "Pages in the cache", usage.pages()),
            ("cache_contents", "Contents in the cache", usage.contents()),
            ("dirty_bytes", "Bytes of contents that no under store has", usage.dirty_bytes()),
            ("dirty_contents", "Contents that no under store has", usage.dirty_contents()),
            ("dirty_limit_bytes", "Bytes that no under store has at most", self.1.limit()),
            ("reserved_bytes", "Bytes set aside within that for files that are being written", self.1.reserved()),
            ("waiting_writers", "Writers that wait for room within that", self.1.waiting() as u64),
            ("cache_failed_dirs", "Cache directories out of use", failed),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let Counters {
            hits,
            misses,
            filled_pages,
            evicted_pages,
            evicted_bytes,
            corrupt_pages,
            write_errors,
            failed_dirs,
            recalls,
            lost_recalls,
        } = self.0.counters();
        for (name, help, value) in [
            ("cache_hits", "Reads that found their pages", hits),
            ("cache_misses", "Reads that did not", misses),
            ("cache_filled_pages", "Pages written", filled_pages),
            ("cache_evicted_pages", "Pages evicted", evicted_pages),
            ("cache_evicted_bytes", "Bytes evicted", evicted_bytes),
            ("cache_corrupt_pages", "Pages whose checksum did not match", corrupt_pages),
            ("cache_write_errors", "Writes that failed", write_errors),
            ("cache_dir_failures", "Times a directory went out of use", failed_dirs),
            ("cache_recalls", "Lent contents asked back", recalls),
            ("cache_lost_recalls", "Recalls that nobody received", lost_recalls),
        ] {
            let counter = ConstCounter::new(value.load(Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
