//! What the master counts, for Prometheus.

use std::fmt;

use headpond_ufs::Meters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::Counter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{core::Core, sync::SyncMetrics};

/// Counters of the services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) lookups: Counter,
    pub(crate) lists: Counter,
    pub(crate) opens: Counter,
    pub(crate) sweeps: Counter,
    pub(crate) sync: SyncMetrics,
    pub(crate) write: WriteMetrics,
    /// Requests to under stores, by mount.
    pub(crate) stores: Meters,
}

/// Counters of what clients change.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteMetrics {
    pub(crate) mutations: Counter,
    pub(crate) relocated_objects: Counter,
    pub(crate) relocated_bytes: Counter,
    pub(crate) relocation_failures: Counter,
    pub(crate) persisted_objects: Counter,
    pub(crate) persisted_bytes: Counter,
    pub(crate) persist_failures: Counter,
}

/// Reads sizes when it is asked.
#[derive(Debug)]
pub(crate) struct Sizes(pub(crate) Core);

impl Metrics {
    /// Whether anybody asked about names or inodes since the start. Questions are counted before they are looked into.
    pub(crate) fn has_been_asked(&self) -> bool {
        [&self.lookups, &self.lists, &self.opens].into_iter().any(|counter| counter.get() > 0)
    }

    /// Registers everything under `headpond_master_`.
    pub(crate) fn register(&self, sizes: Sizes, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("headpond_master");
        let counters = [
            ("lookups", "Names, paths and inodes asked for", &self.lookups),
            ("lists", "Listings asked for", &self.lists),
            ("opens", "Grants asked for", &self.opens),
            ("sweeps", "Steps that cleared away what lay below directories that are gone", &self.sweeps),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        self.sync.register(registry);
        let WriteMetrics {
            mutations,
            relocated_objects,
            relocated_bytes,
            relocation_failures,
            persisted_objects,
            persisted_bytes,
            persist_failures,
        } = &self.write;
        let counters = [
            ("mutations", "Changes that clients made", mutations),
            ("relocated_objects", "Objects moved since renames", relocated_objects),
            ("relocated_bytes", "Bytes of the objects moved since renames", relocated_bytes),
            ("relocation_failures", "Times that moving objects since a rename stopped", relocation_failures),
            ("persisted_objects", "Objects put of contents that workers held", persisted_objects),
            ("persisted_bytes", "Bytes of the objects put of contents that workers held", persisted_bytes),
            ("persist_failures", "Times that a content that workers hold could not be put", persist_failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register_collector(Box::new(self.stores.clone()));
        registry.register_collector(Box::new(sizes));
    }
}

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Core { catalog, mounts, workers, sessions, relocator, writing, .. } = &self.0;
        let counts = catalog.snapshot().and_then(|snapshot| snapshot.counts()).unwrap_or_default();
        let mounts = mounts.table();
        let (due, not_due) = self.0.backlog.amounts();
        let gauges = [
            ("due", "Files and directories that are to be persisted", due.items),
            ("due_bytes", "Bytes of the files that are to be persisted", due.bytes),
            ("deferred", "Files and directories that are not to be persisted under their name", not_due.items),
            ("deferred_bytes", "Bytes of the files that are not to be persisted under their name", not_due.bytes),
            ("inodes", "Inodes of the namespace", counts.inodes),
            ("file_bytes", "Bytes of all known files", counts.file_bytes),
            ("journal_bytes", "Bytes of the journal's log", catalog.journal_status().log_bytes),
            ("journal_applied_index", "Last entry of the journal that is applied", catalog.applied_index()),
            ("mounts", "Mounts", mounts.mounts().len() as u64),
            ("failing_mounts", "Mounts whose under store fails", mounts.problems().len() as u64),
            ("pending_relocations", "Renames whose objects are still being moved", relocator.pending()),
            ("write_leases", "Files that are being written", writing.leases.count()),
            ("workers", "Workers in the ring", workers.ring().members.len() as u64),
            ("clients", "Sessions of clients", sessions.count()),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
