//! How many keys are left out because no path can express them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use headpond_namespace::Snapshot;
use headpond_types::{InodeId, Result};

/// By directory: those that this master has listed since it started, or shown as they were known. Others are not counted, as that would
/// take a walk through the namespace.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Only directories that lack keys. Nothing else is locked meanwhile.
    known: Mutex<HashMap<InodeId, u64>>,
}

impl LeftOut {
    /// Notes how many keys are left out of `dir`; answers how many were known before.
    pub(crate) fn note(&self, dir: InodeId, keys: u64) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if keys == 0 { known.remove(&dir) } else { known.insert(dir, keys) };
        before.unwrap_or(0)
    }

    /// All of them, in directories that are there.
    ///
    /// # Errors
    /// The namespace's.
    pub(crate) fn total(&self, snapshot: &Snapshot) -> Result<u64> {
        let known: Vec<_> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(dir, keys)| (*dir, *keys)).collect()
        };
        let mut total = 0;
        for (dir, keys) in known {
            if snapshot.attr(dir)?.is_some() {
                total += keys;
            } else {
                self.note(dir, 0);
            }
        }
        Ok(total)
    }
}
