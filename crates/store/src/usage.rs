//! What the store holds and what happened to it.

use std::{path::PathBuf, sync::atomic::AtomicU64};

/// What a store holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// One per configured directory, in that order.
    pub dirs: Vec<DirUsage>,
}

/// What one directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirUsage {
    /// The directory.
    pub path: PathBuf,
    /// Bytes it may hold.
    pub capacity_bytes: u64,
    /// Bytes it holds: present pages rounded up to 4 KiB, pages being written, staged files, and dropped contents still lent.
    pub used_bytes: u64,
    /// Present pages.
    pub pages: u64,
    /// Contents with a file.
    pub contents: u64,
    /// Bytes of contents that are nowhere else, and so are never evicted.
    pub dirty_bytes: u64,
    /// These contents.
    pub dirty_contents: u64,
    /// Why it is out of use, if it is; the other numbers are then 0.
    pub problem: Option<String>,
}

impl Usage {
    /// Bytes that all directories in use may hold.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.dirs.iter().filter(|dir| dir.problem.is_none()).map(|dir| dir.capacity_bytes).sum()
    }

    /// Bytes held.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.used_bytes).sum()
    }

    /// Bytes of contents that are nowhere else.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.dirty_bytes).sum()
    }

    /// Contents that are nowhere else.
    #[must_use]
    pub fn dirty_contents(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.dirty_contents).sum()
    }

    /// Pages present.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.pages).sum()
    }

    /// Contents with a file.
    #[must_use]
    pub fn contents(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.contents).sum()
    }
}

/// What happened since the store was opened. Only ever grow; read them with relaxed loads.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls of [`crate::Content::read`] that found their pages.
    pub hits: AtomicU64,
    /// Calls of [`crate::Content::read`] that did not.
    pub misses: AtomicU64,
    /// Pages written and committed.
    pub filled_pages: AtomicU64,
    /// Pages evicted to make room.
    pub evicted_pages: AtomicU64,
    /// Bytes evicted to make room.
    pub evicted_bytes: AtomicU64,
    /// Pages whose bytes did not match their checksum.
    pub corrupt_pages: AtomicU64,
    /// Writes of pages or index records that failed, a full disk included.
    pub write_errors: AtomicU64,
    /// Times a directory went out of use.
    pub failed_dirs: AtomicU64,
    /// Lent contents asked back.
    pub recalls: AtomicU64,
    /// Recalls nobody had room to receive.
    pub lost_recalls: AtomicU64,
}

/// Adds `by` to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
}
