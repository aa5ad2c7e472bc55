//! Directories that a store lists although nothing lies below them.
//!
//! A MinIO that is killed while it stores or deletes an object may leave a folder on its disk, which it lists as a common prefix from then on.
//! To ask of every prefix whether anything lies below would cost a request each. So that is asked of those where clients have changed something, and others are
//! believed until somebody looks into them. What was found to hold nothing then is asked about whenever its name is listed again.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
};

use headpond_types::InodeId;
use moka::sync::Cache;

/// Names remembered, about 100 bytes each. One that falls out is believed once more.
const NAMES: u64 = 10_000;

/// The names, by the directories that they are listed in.
#[derive(Debug)]
pub(crate) struct Hollow {
    /// As keyed hashes: two that meet cost a request.
    known: Cache<(InodeId, u64), ()>,
    /// Whether there are any, so that most listings need not look.
    any: AtomicBool,
    names: RandomState,
}

impl Hollow {
    pub(crate) fn new() -> Self {
        Self { known: Cache::new(NAMES), any: AtomicBool::new(false), names: RandomState::new() }
    }

    /// Below `name` in `dir` lies nothing.
    pub(crate) fn note(&self, dir: InodeId, name: &[u8]) {
        self.known.insert((dir, self.names.hash_one(name)), ());
        self.any.store(true, Ordering::Release);
    }

    /// Whether that was so when it was asked last.
    pub(crate) fn contains(&self, dir: InodeId, name: &[u8]) -> bool {
        self.any.load(Ordering::Acquire) && self.known.contains_key(&(dir, self.names.hash_one(name)))
    }

    /// Something lies there.
    pub(crate) fn remove(&self, dir: InodeId, name: &[u8]) {
        self.known.invalidate(&(dir, self.names.hash_one(name)));
    }
}
