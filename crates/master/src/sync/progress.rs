//! How far a listing run has come, for those who read along in the namespace.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use headpond_types::{InodeId, Name};
use tokio::sync::watch;

use super::name_order::Settled;

/// What a run shares. Directories in work are few: one, or a path's worth in a recursive run.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Never held across an await.
    state: Mutex<State>,
    /// Counts changes of `state`.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Up to which name the namespace holds what the store listed, for each directory in work.
    merged: HashMap<InodeId, Settled>,
    /// Seen to be missing; still in the namespace until the directory is complete.
    vanished: HashSet<InodeId>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Tells of changes from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Up to which name `dir` is merged; `None` when it is not in work (not yet, or not any more).
    pub(crate) fn merged(&self, dir: InodeId) -> Option<Settled> {
        self.state().merged.get(&dir).cloned()
    }

    /// Drops entries that the run has seen to be missing.
    pub(crate) fn retain_present<T>(&self, entries: &mut Vec<T>, inode: impl Fn(&T) -> InodeId) {
        let state = self.state();
        if !state.vanished.is_empty() {
            entries.retain(|entry| !state.vanished.contains(&inode(entry)));
        }
    }

    pub(super) fn add_vanished(&self, entries: &[(Name, InodeId)]) {
        self.state().vanished.extend(entries.iter().map(|(_, inode)| *inode));
    }

    pub(super) fn advance(&self, dir: InodeId, merged: Settled) {
        self.state().merged.insert(dir, merged);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The directory is complete: the namespace itself says so from now on.
    pub(super) fn finish(&self, dir: InodeId) {
        self.state().merged.remove(&dir);
        self.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
