//! What is cached where: load, free, presence.

use headpond_types::{Error, Member, Result};

/// How to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Load all files below a directory; without it a directory is refused.
    pub recursive: bool,
    /// Load into the worker of this node rather than into the blocks' owners.
    pub local: bool,
    /// Files loaded at once, at least 1.
    pub parallel: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { recursive: false, local: false, parallel: 16 }
    }
}

/// How far a load is.
#[derive(Debug, Default)]
pub struct LoadProgress {
    /// Files found so far; final once `listed`.
    pub files_total: u64,
    /// Bytes of those files.
    pub bytes_total: u64,
    /// Files that are wholly cached now.
    pub files_done: u64,
    /// Bytes cached or found cached.
    pub bytes_done: u64,
    /// Files that failed.
    pub files_failed: u64,
    /// The first of those failures, at most 100.
    pub failures: Vec<LoadFailure>,
    /// The listing is complete, so the totals are final.
    pub listed: bool,
}

/// A file that could not be loaded.
#[derive(Debug)]
pub struct LoadFailure {
    /// Its path relative to the directory that was loaded; empty for that file itself.
    pub path: String,
    /// Why.
    pub error: Error,
}

/// What a free dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Contents of which something was cached, counted once per worker.
    pub contents: u64,
    /// Bytes over all workers.
    pub bytes: u64,
}

/// How much of some contents a worker has.
#[derive(Debug)]
pub struct Presence {
    /// The worker.
    pub worker: Member,
    /// Cached bytes per content, in the order asked; an error when the worker could not be asked.
    pub cached_bytes: Result<Vec<u64>>,
}

/// Size of the namespace and of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Known inodes.
    pub inodes: u64,
    /// Bytes of all known files.
    pub bytes: u64,
    /// Bytes that the workers can cache.
    pub cache_capacity: u64,
    /// Bytes that they have cached.
    pub cache_used: u64,
}
