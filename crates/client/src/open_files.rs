//! Open files in memory, so that the next open of the same content finds them.
//!
//! Not a general cache: those free what they drop at a time of their own, and an open file holds a descriptor and a lease that
//! the worker may be waiting for. Here whatever leaves is let go of at once, outside the locks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_types::ContentId;
use tokio::time::Instant;

use crate::OpenFile;

/// Parts with a lock each, so that opens of different contents do not meet.
const SHARDS: usize = 16;

/// A bounded set of open files by content.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    /// Most entries of one shard.
    capacity: usize,
    idle: Duration,
    /// Held for a look-up or a sweep; no other lock is taken inside.
    shards: [Mutex<HashMap<ContentId, Kept>>; SHARDS],
}

#[derive(Debug)]
struct Kept {
    file: Arc<OpenFile>,
    used: Instant,
}

impl OpenFiles {
    /// Room for about `capacity` files, each kept for `idle` after it was last opened or read.
    pub(crate) fn new(capacity: usize, idle: Duration) -> Self {
        Self { capacity: capacity.div_ceil(SHARDS), idle, shards: Default::default() }
    }

    /// The open file of a content.
    pub(crate) fn get(&self, content: ContentId) -> Option<Arc<OpenFile>> {
        let mut shard = self.shard(content);
        let kept = shard.get_mut(&content)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.file))
    }

    /// Keeps a file and answers it, or the one that is kept for the content already.
    pub(crate) fn keep(&self, file: Arc<OpenFile>) -> Arc<OpenFile> {
        if self.capacity == 0 {
            return file;
        }
        let content = file.content();
        let mut shard = self.shard(content);
        if let Some(kept) = shard.get(&content) {
            return Arc::clone(&kept.file);
        }
        let oldest = if shard.len() < self.capacity {
            None
        } else {
            let oldest = shard.iter().min_by_key(|(_, kept)| kept.used).map(|(content, _)| *content);
            oldest.and_then(|content| shard.remove(&content))
        };
        shard.insert(content, Kept { file: Arc::clone(&file), used: Instant::now() });
        drop(shard);
        drop(oldest);
        file
    }

    /// Lets go of a content.
    pub(crate) fn forget(&self, content: ContentId) {
        let kept = self.shard(content).remove(&content);
        drop(kept);
    }

    /// Lets go of what was not used for too long. What somebody has open anyway costs nothing and stays.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            let mut shard = lock(shard);
            for kept in shard.values_mut().filter(|kept| Arc::strong_count(&kept.file) > 1) {
                kept.used = now;
            }
            let idle: Vec<_> = shard.extract_if(|_, kept| now.duration_since(kept.used) >= self.idle).collect();
            drop(shard);
            drop(idle);
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let all = std::mem::take(&mut *lock(shard));
            drop(all);
        }
    }

    fn shard(&self, content: ContentId) -> MutexGuard<'_, HashMap<ContentId, Kept>> {
        // A content id is a hash already.
        let (_, low) = content.halves();
        let [.., last] = low.to_be_bytes();
        lock(&self.shards[usize::from(last) % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
