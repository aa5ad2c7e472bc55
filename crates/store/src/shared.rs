//! What all directories of a store share: the map from ids to contents, counters, recalls.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use headpond_types::ContentId;
use tokio::sync::{mpsc, watch};

use crate::{
    content::Content,
    dir::Dir,
    usage::{self, Counters},
};

const SHARDS: u128 = 64;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    shards: Vec<RwLock<Shard>>,
    pub(crate) counters: Counters,
    recalls: Mutex<Option<mpsc::Sender<ContentId>>>,
    /// Counts contents that were dropped while they were lent.
    drops: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shard {
    contents: HashSet<ById>,
    /// Size at which contents that nobody began to fill are looked for.
    sweep_at: usize,
}

/// A content, found by its id: a map entry of one pointer.
#[derive(Debug)]
struct ById(Arc<Content>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), ..Self::default() }
    }

    pub(crate) fn find(&self, id: ContentId) -> Option<Arc<Content>> {
        read(self.shard(id)).contents.get(&id).map(|entry| Arc::clone(&entry.0))
    }

    /// The content of `id`: the one in the map, or else `new`, which is put there.
    pub(crate) fn find_or_insert(&self, id: ContentId, new: impl FnOnce() -> Arc<Content>) -> Arc<Content> {
        let mut unused = Vec::new();
        let mut shard = write(self.shard(id));
        if let Some(entry) = shard.contents.get(&id) {
            return Arc::clone(&entry.0);
        }
        if shard.contents.len() >= shard.sweep_at {
            unused =
                shard.contents.extract_if(|entry| Arc::strong_count(&entry.0) == 1 && entry.0.is_unused()).collect();
            shard.sweep_at = shard.contents.len() * 2 + 64;
        }
        let content = new();
        shard.contents.insert(ById(Arc::clone(&content)));
        drop(shard);
        for ById(content) in unused {
            content.discard();
        }
        content
    }

    /// Removes `content`, unless another took its place.
    pub(crate) fn remove(&self, content: &Content) {
        let mut shard = write(self.shard(content.id()));
        if shard.contents.get(&content.id()).is_some_and(|entry| std::ptr::eq(Arc::as_ptr(&entry.0), content)) {
            shard.contents.remove(&content.id());
        }
    }

    /// Removes all contents of `dir`; of every directory if `None`.
    pub(crate) fn remove_all(&self, dir: Option<&Dir>) {
        for shard in &self.shards {
            let of_dir = |entry: &ById| dir.is_none_or(|dir| std::ptr::eq(Arc::as_ptr(entry.0.dir()), dir));
            // Dropped after the lock: the last reference may do IO.
            let removed: Vec<ById> = write(shard).contents.extract_if(of_dir).collect();
            drop(removed);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Content>> {
        self.shards
            .iter()
            .flat_map(|shard| read(shard).contents.iter().map(|e| Arc::clone(&e.0)).collect::<Vec<_>>())
            .collect()
    }

    /// Asks for a lent content to be given back.
    pub(crate) fn recall(&self, id: ContentId) {
        let sent = lock(&self.recalls).as_ref().is_some_and(|sender| sender.try_send(id).is_ok());
        usage::count(if sent { &self.counters.recalls } else { &self.counters.lost_recalls }, 1);
    }

    pub(crate) fn set_recalls(&self, sender: mpsc::Sender<ContentId>) {
        *lock(&self.recalls) = Some(sender);
    }

    /// A lent content was dropped.
    pub(crate) fn dropped_lent(&self) {
        self.drops.send_modify(|drops| *drops += 1);
    }

    pub(crate) fn drops(&self) -> watch::Receiver<u64> {
        self.drops.subscribe()
    }

    fn shard(&self, id: ContentId) -> &RwLock<Shard> {
        &self.shards[usize::try_from(id.0 % SHARDS).expect("less than the number of shards")]
    }
}

impl Borrow<ContentId> for ById {
    fn borrow(&self) -> &ContentId {
        self.0.id_ref()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id_ref().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id_ref() == other.0.id_ref()
    }
}

impl Eq for ById {}

/// Locks `mutex`. A thread that panicked under one of this crate's locks left the data whole: no lock spans a partial update.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
