//! Who need hear what a first listing discovers: those who were told that a name does not exist.
//!
//! Nobody has a whole listing of a directory before it was listed to its end, so an entry that turns up until then contradicts only
//! what was said about its name alone. Telling every session of a hundred thousand entries would take from clients, and
//! from the kernel, what they were just given.
//!
//! Invariant: a name is noted before the state is read from which its absence is concluded. Either that state has the entry, or
//! the entry is told after the note.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_namespace::Effect;
use headpond_types::{InodeId, Name};
use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::time::Instant;

/// Names remembered, about 100 bytes each. Each cost the under store a check, which are far fewer within a lease.
const NAMES: u64 = 200_000;

/// Names that clients may hold to be absent.
#[derive(Debug)]
pub(crate) struct Denials {
    /// Keyed 64-bit hashes: two names of one directory meet once in 2^64.
    names: Cache<(InodeId, u64), ()>,
    hasher: RandomState,
    /// Longest validity of any answer.
    lease: Duration,
    /// Until then clients may hold more than is noted here.
    unsure_until: Mutex<Option<Instant>>,
}

impl Denials {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            names: Cache::builder().max_capacity(NAMES).eviction_policy(EvictionPolicy::lru()).build(),
            hasher: RandomState::new(),
            lease,
            unsure_until: Mutex::default(),
        }
    }

    /// The absence of `name` may be answered from now on.
    pub(crate) fn note(&self, dir: InodeId, name: &Name) {
        self.names.insert(self.key(dir, name), ());
    }

    /// Whether the absence of `name` may be answered.
    pub(crate) fn is_noted(&self, dir: InodeId, name: &Name) -> bool {
        self.names.get(&self.key(dir, name)).is_some()
    }

    /// Clients may hold what is not noted, for as long as answers hold.
    pub(crate) fn be_unsure(&self) {
        *self.unsure_until() = Some(Instant::now() + self.lease);
    }

    /// Whether a session may hold something that `effect` makes wrong.
    pub(crate) fn concern(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Discovered { parent, name } => {
                self.is_noted(*parent, name) || self.unsure_until().is_some_and(|until| Instant::now() < until)
            }
            Effect::Entry { .. } => true,
            Effect::Mounts => false,
        }
    }

    fn key(&self, dir: InodeId, name: &Name) -> (InodeId, u64) {
        (dir, self.hasher.hash_one(name))
    }

    fn unsure_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unsure_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
