//! What somebody else did to objects that were ours, and what became of it: nothing is left to be decided, but somebody may want to know.
//!
//! In memory, until an operator dismisses it or the master ends: it says what has been done, and nothing goes on from it. The latest [`MOST`] are kept.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use headpond_types::{NsPath, Timestamp};

/// So many are kept; older ones make room.
const MOST: usize = 1000;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) path: NsPath,
    pub(crate) reason: String,
    /// When it was seen last.
    pub(crate) since: Timestamp,
}

/// All, oldest first, one for each path.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<VecDeque<Notice>>);

impl Notices {
    /// Notes what became of the object at `path`, in place of what was noted of it before.
    pub(crate) fn note(&self, path: NsPath, what: &str, since: Timestamp) {
        tracing::warn!(%path, "{what}");
        let mut all = self.all();
        all.retain(|known| known.path != path);
        if all.len() == MOST {
            all.pop_front();
        }
        let reason = format!("{what}; nothing is left to be done: `admin problems skip` dismisses this notice");
        all.push_back(Notice { path, reason, since });
    }

    /// Whether there was one at `path`.
    pub(crate) fn dismiss(&self, path: &NsPath) -> bool {
        let mut all = self.all();
        let before = all.len();
        all.retain(|known| known.path != *path);
        all.len() < before
    }

    pub(crate) fn is_at(&self, path: &NsPath) -> bool {
        self.all().iter().any(|known| known.path == *path)
    }

    pub(crate) fn list(&self) -> Vec<Notice> {
        self.all().iter().cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_one_for_each_path() {
        let notices = Notices::default();
        let path = |n: usize| -> NsPath { format!("/m/f{n}").parse().expect("a path") };
        for n in 0..=MOST {
            notices.note(path(n), "it was deleted", Timestamp(5));
        }
        notices.note(path(7), "it was changed", Timestamp(9));
        let all = notices.list();
        assert_eq!((all.len(), &all[0].path, all[MOST - 1].since), (MOST, &path(1), Timestamp(9)));
        assert!(all[MOST - 1].reason.starts_with("it was changed") && all[MOST - 1].path == path(7));
        assert!(notices.is_at(&path(7)) && notices.dismiss(&path(7)) && !notices.dismiss(&path(7)));
        assert_eq!(notices.list().len(), MOST - 1);
    }
}
