//! Files that cannot be moved, since somebody else's objects are where they belong. In memory: after a restart it is tried, and noted again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use headpond_types::{InodeId, Timestamp};

/// So many are noted, and can be decided about; others follow when some of these are over.
const MOST: usize = 1000;

/// What is in the way of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    /// Where the object of the file is to go, relative to the mount's prefix.
    pub(super) key: Vec<u8>,
    /// The version of what is there.
    pub(super) version: String,
    /// When it was seen first.
    pub(super) since: Timestamp,
}

/// The conflicts, by file.
#[derive(Debug, Default)]
pub(super) struct Conflicts(Mutex<BTreeMap<InodeId, Conflict>>);

impl Conflicts {
    /// Notes what is in the way of `file`. What was in its way there before, in another version, was so since then.
    pub(super) fn note(&self, file: InodeId, conflict: Conflict) {
        let mut all = self.all();
        let since =
            all.get(&file).filter(|known| known.key == conflict.key).map_or(conflict.since, |known| known.since);
        if all.len() < MOST || all.contains_key(&file) {
            all.insert(file, Conflict { since, ..conflict });
        }
    }

    pub(super) fn forget(&self, file: InodeId) {
        self.all().remove(&file);
    }

    pub(super) fn get(&self, file: InodeId) -> Option<Conflict> {
        self.all().get(&file).cloned()
    }

    /// All, in order of their files.
    pub(super) fn list(&self) -> Vec<(InodeId, Conflict)> {
        self.all().iter().map(|(file, conflict)| (*file, conflict.clone())).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<InodeId, Conflict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_as_old_as_what_is_in_the_way_and_they_are_not_too_many() {
        let conflicts = Conflicts::default();
        let conflict = |key: &str, version: &str, since| Conflict {
            key: key.as_bytes().to_vec(),
            version: version.to_owned(),
            since: Timestamp(since),
        };
        conflicts.note(InodeId(5), conflict("new/f", "1", 7));
        conflicts.note(InodeId(5), conflict("new/f", "2", 9));
        assert_eq!(conflicts.get(InodeId(5)), Some(conflict("new/f", "2", 7)));
        conflicts.note(InodeId(5), conflict("other/f", "2", 11));
        assert_eq!(conflicts.get(InodeId(5)), Some(conflict("other/f", "2", 11)));
        (100..).take(MOST).for_each(|file| conflicts.note(InodeId(file), conflict("x", "1", 1)));
        assert_eq!(conflicts.list().len(), MOST);
        conflicts.note(InodeId(5), conflict("other/f", "3", 12));
        assert_eq!(
            conflicts.get(InodeId(5)),
            Some(conflict("other/f", "3", 11)),
            "one that is known is kept up to date"
        );
        conflicts.forget(InodeId(5));
        assert_eq!(conflicts.get(InodeId(5)), None);
    }
}
