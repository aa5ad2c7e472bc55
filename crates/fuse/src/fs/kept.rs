//! Directories whose whole listing the kernel may still have, so that it need not ask again.

use headpond_types::InodeId;
use moka::sync::Cache;
use tokio::time::Instant;

/// Most directories remembered; the listing of one forgotten is read again, nothing worse.
const MOST: u64 = 16 << 10;

/// Complete listings handed to the kernel, with the end of their validity.
#[derive(Debug)]
pub(super) struct KeptListings(Cache<InodeId, Instant>);

impl Default for KeptListings {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl KeptListings {
    /// The kernel was given the whole listing of `dir`.
    pub(super) fn keep(&self, dir: InodeId, valid_until: Instant) {
        self.0.insert(dir, valid_until);
    }

    /// Whether the kernel may answer from the listing it was given.
    pub(super) fn is_valid(&self, dir: InodeId) -> bool {
        self.0.get(&dir).is_some_and(|valid_until| Instant::now() < valid_until)
    }

    /// Listings remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }

    pub(super) fn forget(&self, dir: InodeId) {
        self.0.invalidate(&dir);
    }

    pub(super) fn forget_all(&self) {
        self.0.invalidate_all();
    }
}
