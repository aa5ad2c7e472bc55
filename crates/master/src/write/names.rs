//! Locks on names: of two changes of one name one waits, nobody else does. And on requests, of which a repetition may come while the first is under way.
//!
//! They may be held across a request to a store. Lock order: a request, then names by directory and bytes; whoever needs several takes them by
//! [`NameLocks::lock_all`]. Nothing else that waits is taken under them but the store and the journal.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_types::{InodeId, Name};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Tables that the keys in use are spread over.
const SHARDS: usize = 64;

/// A name in a directory.
pub(crate) type Place = (InodeId, Name);

/// What can be locked.
pub(crate) trait Lockable: Hash + Eq + Clone + fmt::Debug {}

impl<K: Hash + Eq + Clone + fmt::Debug> Lockable for K {}

type Shard<K> = HashMap<K, Arc<AsyncMutex<()>>>;

/// The keys that are locked or waited for.
pub(crate) struct Locks<K: Lockable> {
    /// Never held across an await.
    shards: [Mutex<Shard<K>>; SHARDS],
    hasher: RandomState,
}

/// The names that are.
pub(crate) type NameLocks = Locks<Place>;

/// A locked key; dropped, it is free.
pub(crate) struct Guard<K: Lockable> {
    /// Goes first: the ticket looks at who else is interested.
    guard: Option<OwnedMutexGuard<()>>,
    ticket: Ticket<K>,
}

/// A locked name.
pub(crate) type NameGuard = Guard<Place>;

/// Somebody's interest in a key. The last one takes it off the table.
struct Ticket<K: Lockable> {
    locks: Arc<Locks<K>>,
    key: K,
    lock: Option<Arc<AsyncMutex<()>>>,
}

impl<K: Lockable> Locks<K> {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }

    /// Locks one key. Cancel-safe.
    pub(crate) async fn lock_key(self: &Arc<Self>, key: K) -> Guard<K> {
        let ticket = self.ticket(key);
        let guard = match &ticket.lock {
            Some(lock) => Some(lock.clone().lock_owned().await),
            None => None,
        };
        Guard { guard, ticket }
    }

    fn ticket(self: &Arc<Self>, key: K) -> Ticket<K> {
        let lock = self.shard(&key).entry(key.clone()).or_default().clone();
        Ticket { locks: self.clone(), key, lock: Some(lock) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 64")]
    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K>> {
        let index = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameLocks {
    /// Locks one name. Cancel-safe.
    pub(crate) async fn lock(self: &Arc<Self>, dir: InodeId, name: &Name) -> NameGuard {
        self.lock_key((dir, name.clone())).await
    }

    /// Locks one name unless it is locked.
    pub(crate) fn try_lock(self: &Arc<Self>, dir: InodeId, name: &Name) -> Option<NameGuard> {
        let ticket = self.ticket((dir, name.clone()));
        let guard = ticket.lock.clone()?.try_lock_owned().ok()?;
        Some(NameGuard { guard: Some(guard), ticket })
    }

    /// Locks all of `places`, each once. Cancel-safe.
    pub(crate) async fn lock_all(self: &Arc<Self>, mut places: Vec<Place>) -> Vec<NameGuard> {
        places.sort_unstable();
        places.dedup();
        let mut guards = Vec::with_capacity(places.len());
        for (dir, name) in places {
            guards.push(self.lock(dir, &name).await);
        }
        guards
    }
}

impl<K: Lockable> Drop for Ticket<K> {
    fn drop(&mut self) {
        let mut shard = self.locks.shard(&self.key);
        self.lock = None;
        if let Entry::Occupied(entry) = shard.entry(self.key.clone())
            && Arc::strong_count(entry.get()) == 1
        {
            entry.remove();
        }
    }
}

impl<K: Lockable> fmt::Debug for Locks<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}

impl<K: Lockable> fmt::Debug for Guard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.guard.is_some();
        f.debug_struct("Guard").field("key", &self.ticket.key).field("held", &held).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[tokio::test]
    async fn only_the_same_name_waits_and_nothing_is_left() {
        let locks = Arc::new(NameLocks::new());
        let held = locks.lock(InodeId(2), &name("a")).await;
        assert!(locks.lock(InodeId(2), &name("a")).now_or_never().is_none(), "given up while waiting");
        let other = locks.lock(InodeId(3), &name("a")).now_or_never().expect("another directory");
        assert!(locks.try_lock(InodeId(2), &name("a")).is_none());
        let a = name("a");
        let waiting = locks.lock(InodeId(2), &a);
        let mut waiting = std::pin::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        let again = waiting.await;
        drop((again, other));
        assert!(locks.shards.iter().all(|shard| shard.lock().expect("not poisoned").is_empty()));
    }

    #[tokio::test]
    async fn one_name_named_twice_is_locked_once() {
        let locks = Arc::new(NameLocks::new());
        let place = (InodeId(2), name("a"));
        assert_eq!(locks.lock_all(vec![place.clone(), place]).await.len(), 1);
    }
}
