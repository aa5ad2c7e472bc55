//! When the under store was last asked about what.
//!
//! Memory is bounded: what falls out is asked again, or, for a directory, read from the namespace, which keeps the time of
//! its last complete listing. A time is always that at which asking *began*.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use headpond_namespace::Snapshot;
use headpond_types::{InodeId, Name, Result, Timestamp};
use moka::{policy::EvictionPolicy, sync::Cache};

/// Directories remembered, about 100 bytes each.
const DIRECTORIES: u64 = 200_000;

/// Single names remembered, about 120 bytes each.
const ENTRIES: u64 = 200_000;

/// Moved directories and files remembered, about 100 bytes each.
const MOVES: u64 = 100_000;

/// No listing that matters takes longer.
const MOVES_COUNT_FOR: Duration = Duration::from_hours(6);

/// How long answers of a mount may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// A change behind our back may stay unseen this long; `None`: for ever; zero: ask at every use.
    pub(crate) sync_interval: Option<Duration>,
    /// Longest validity of any answer.
    pub(crate) lease: Duration,
}

/// The times of last checks.
#[derive(Debug)]
pub(crate) struct Freshness {
    directories: Cache<InodeId, Timestamp>,
    /// Names stand as keyed 64-bit hashes: two of one directory meet once in 2^64.
    entries: Cache<(InodeId, u64), Timestamp>,
    /// Directories below which everything was listed at once.
    trees: Cache<InodeId, Timestamp>,
    /// When clients last changed names; hashed alike.
    changed: Cache<(InodeId, u64), Timestamp>,
    /// What was moved in its store, with all below, until when.
    moved: Cache<InodeId, Timestamp>,
    /// Whether anything was, so that most need not look.
    any_moved: AtomicBool,
    names: RandomState,
}

impl Bounds {
    /// How much longer an answer of `checked` may be used at `now`; `None`: not any more. A check that lies in the future
    /// (the clock was set back) does not count.
    pub(crate) fn remaining(&self, checked: Timestamp, now: Timestamp) -> Option<Duration> {
        if checked > now {
            return None;
        }
        let Some(interval) = self.sync_interval else { return Some(self.lease) };
        let left = interval.checked_sub(now.saturating_since(checked))?;
        Some(left.min(self.lease)).filter(|left| !left.is_zero())
    }

    /// Whether an asking that began at `began` answers somebody who came at `arrived`.
    pub(crate) fn answers(&self, began: Timestamp, arrived: Timestamp) -> bool {
        began >= arrived || self.remaining(began, arrived).is_some()
    }

    /// Whether the store is asked at every use.
    pub(crate) fn is_always(&self) -> bool {
        self.sync_interval == Some(Duration::ZERO)
    }

    /// The bounds for somebody who wants the store asked now.
    pub(crate) const fn refreshed(self) -> Self {
        Self { sync_interval: Some(Duration::ZERO), ..self }
    }
}

impl Freshness {
    pub(crate) fn new() -> Self {
        Self {
            directories: Cache::new(DIRECTORIES),
            // Least recently used: a new check must always be remembered, listings rely on it (`Merge`).
            entries: Cache::builder().max_capacity(ENTRIES).eviction_policy(EvictionPolicy::lru()).build(),
            trees: Cache::new(DIRECTORIES),
            changed: Cache::builder().max_capacity(ENTRIES).eviction_policy(EvictionPolicy::lru()).build(),
            moved: Cache::builder().max_capacity(MOVES).time_to_live(MOVES_COUNT_FOR).build(),
            any_moved: AtomicBool::new(false),
            names: RandomState::new(),
        }
    }

    /// Whether objects of `dir` were moved after `began`: what a listing from then shows of it may be half of the truth.
    pub(crate) fn moved_since(&self, snapshot: &Snapshot, dir: InodeId, began: Timestamp) -> Result<bool> {
        if !self.any_moved.load(Ordering::Acquire) {
            return Ok(false);
        }
        let mut at = dir;
        loop {
            if self.moved.get(&at).is_some_and(|moved| moved > began) {
                return Ok(true);
            }
            match snapshot.attr(at)? {
                Some(attr) if attr.parent != at => at = attr.parent,
                _ => return Ok(false),
            }
        }
    }

    /// The objects of `inode` and of all below it were moved until `at`.
    pub(crate) fn moved(&self, inode: InodeId, at: Timestamp) {
        self.moved.insert(inode, at);
        self.any_moved.store(true, Ordering::Release);
    }

    /// When `dir` was last listed completely.
    pub(crate) fn directory(&self, snapshot: &Snapshot, dir: InodeId) -> Result<Option<Timestamp>> {
        if let Some(at) = self.directories.get(&dir) {
            return Ok(Some(at));
        }
        let listed = snapshot.listed(dir)?.map(|listed| listed.at);
        if let Some(at) = listed {
            self.directories.insert(dir, at);
        }
        Ok(listed)
    }

    /// When the store was last asked about `name` alone.
    pub(crate) fn entry(&self, dir: InodeId, name: &Name) -> Option<Timestamp> {
        self.entries.get(&(dir, self.names.hash_one(name)))
    }

    /// When everything below `dir` was last listed at once.
    pub(crate) fn tree(&self, dir: InodeId) -> Option<Timestamp> {
        self.trees.get(&dir)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.directories.invalidate_all();
        self.entries.invalidate_all();
        self.trees.invalidate_all();
    }

    pub(crate) fn directory_listed(&self, dir: InodeId, at: Timestamp) {
        self.directories.insert(dir, at);
    }

    pub(crate) fn entry_checked(&self, dir: InodeId, name: &Name, at: Timestamp) {
        self.entries.insert((dir, self.names.hash_one(name)), at);
    }

    /// A client changes `name`: what the store showed before `at` is not to undo it.
    pub(crate) fn entry_changed(&self, dir: InodeId, name: &Name, at: Timestamp) {
        self.changed.insert((dir, self.names.hash_one(name)), at);
    }

    /// Whether a client has changed `name`, as far as is remembered.
    pub(crate) fn was_changed(&self, dir: InodeId, name: &Name) -> bool {
        self.changed.contains_key(&(dir, self.names.hash_one(name)))
    }

    /// Whether `name` was checked alone, or changed by a client, after `began`.
    pub(crate) fn is_newer(&self, dir: InodeId, name: &Name, began: Timestamp) -> bool {
        let key = (dir, self.names.hash_one(name));
        [self.entries.get(&key), self.changed.get(&key)].into_iter().flatten().any(|at| at > began)
    }

    pub(crate) fn tree_listed(&self, dir: InodeId, at: Timestamp) {
        self.trees.insert(dir, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn bounds(seconds: Option<u64>) -> Bounds {
        Bounds { sync_interval: seconds.map(Duration::from_secs), lease: Duration::from_secs(30) }
    }

    #[test]
    fn validity_is_the_smaller_of_lease_and_what_is_left() {
        let at = Timestamp(100 * SECOND);
        let after = |seconds: i64| Timestamp((100 + seconds) * SECOND);
        assert_eq!(bounds(Some(60)).remaining(at, after(10)), Some(Duration::from_secs(30)));
        assert_eq!(bounds(Some(60)).remaining(at, after(50)), Some(Duration::from_secs(10)));
        assert_eq!(bounds(Some(60)).remaining(at, after(60)), None);
        assert_eq!(bounds(Some(60)).remaining(at, after(-1)), None);
        assert_eq!(bounds(Some(0)).remaining(at, at), None);
        assert_eq!(bounds(None).remaining(at, after(1_000_000)), Some(Duration::from_secs(30)));
    }

    #[test]
    fn who_checks_at_every_use_is_answered_by_what_began_after_them() {
        let always = bounds(None).refreshed();
        assert!(always.answers(Timestamp(5), Timestamp(5)));
        assert!(!always.answers(Timestamp(4), Timestamp(5)));
        assert!(bounds(Some(1)).answers(Timestamp(4), Timestamp(5)));
    }
}
