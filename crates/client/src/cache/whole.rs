//! Directories of which all names are known: what has none of them is absent, without a question.
//!
//! Names stand as hashes that may be taken, and a name once taken is never let go of: of two with one hash, and of one that went, the master is asked as
//! ever. So what is here need not keep up with the names and attributes beside it, which leave memory by themselves.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use headpond_types::InodeId;
use moka::sync::Cache;

use super::Answered;

/// Directories, of about 200 bytes each without their names.
const DIRECTORIES: u64 = 16 << 10;

/// Names in all of them, of about 16 bytes each. When there are more, all are forgotten.
const NAMES: usize = 1 << 19;

/// Directories that are known whole.
#[derive(Debug)]
pub(super) struct Wholes {
    known: Cache<InodeId, Arc<Whole>>,
    /// How many names there are since all were forgotten last.
    names: Mutex<Arc<AtomicUsize>>,
}

/// All names of a directory, for as long as `answered` says.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) answered: Answered,
    taken: Mutex<HashSet<u64>>,
    /// Where its names are counted.
    names: Arc<AtomicUsize>,
}

impl Wholes {
    pub(super) fn new() -> Self {
        Self { known: Cache::new(DIRECTORIES), names: Mutex::default() }
    }

    /// `dir` has no names.
    pub(super) fn put_empty(&self, answered: Answered, dir: InodeId) {
        let names = Arc::clone(&self.names());
        self.known.insert(dir, Arc::new(Whole { answered, taken: Mutex::default(), names }));
    }

    /// `dir` if it is known, and has no name of this hash.
    pub(super) fn without(&self, dir: InodeId, name: u64) -> Option<Arc<Whole>> {
        self.known.get(&dir).filter(|whole| !whole.taken().contains(&name))
    }

    /// `dir` may have a name of this hash.
    pub(super) fn take(&self, dir: InodeId, name: u64) {
        let Some(whole) = self.known.get(&dir) else { return };
        if whole.taken().insert(name) {
            self.count(&whole);
        }
    }

    /// Nothing is known of the names in `dir`.
    pub(super) fn forget(&self, dir: InodeId) {
        self.known.invalidate(&dir);
    }

    /// Counts one more name of a directory.
    fn count(&self, whole: &Whole) {
        if whole.names.fetch_add(1, Ordering::Relaxed) < NAMES {
            return;
        }
        {
            let mut names = self.names();
            if !Arc::ptr_eq(&names, &whole.names) {
                return;
            }
            // Others count from nothing, whenever the last of these is dropped.
            *names = Arc::default();
        }
        for (dir, known) in &self.known {
            if Arc::ptr_eq(&known.names, &whole.names) {
                self.known.invalidate(&*dir);
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, Arc<AtomicUsize>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whole {
    fn taken(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.names.fetch_sub(self.taken().len(), Ordering::Relaxed);
    }
}
