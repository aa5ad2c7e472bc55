//! Counts of what was asked of under stores.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counters of the sync engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncMetrics {
    pub(crate) listings: Counter,
    pub(crate) listed: Counter,
    pub(crate) checks: Counter,
    pub(crate) failures: Counter,
    pub(crate) skipped: Counter,
    pub(crate) stale_answers: Counter,
}

impl SyncMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("sync_listings", "Listings of directories or subtrees begun", &self.listings),
            ("sync_listed_keys", "Keys and prefixes that under stores listed", &self.listed),
            ("sync_checks", "Single names asked for at under stores", &self.checks),
            ("sync_failures", "Listings and checks that failed", &self.failures),
            ("sync_skipped_keys", "Keys left out because no path can express them", &self.skipped),
            (
                "sync_stale_answers",
                "Answers given from what was known while an under store failed",
                &self.stale_answers,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
