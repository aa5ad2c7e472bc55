//! What could not be persisted, why, and when it is tried again. In memory: after a restart it is tried, and noted again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_types::{InodeId, Timestamp};

use crate::pause;

/// Why something is not persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    /// The store has another version than the one that was changed: it is not tried again before somebody has decided.
    pub(crate) conflict: bool,
    failures: u32,
}

/// The problems, by inode.
#[derive(Debug, Default)]
pub(crate) struct Problems(Mutex<HashMap<InodeId, Problem>>);

impl Problems {
    /// Notes a failure; gives the pause until the next try, `None` for a conflict.
    pub(crate) fn failed(&self, inode: InodeId, reason: String, conflict: bool, now: Timestamp) -> Option<Duration> {
        let mut problems = self.all();
        let problem =
            problems.entry(inode).or_insert(Problem { reason: String::new(), since: now, conflict, failures: 0 });
        let pause = pause::after(problem.failures);
        (problem.reason, problem.conflict) = (reason, conflict);
        problem.failures += 1;
        (!conflict).then_some(pause)
    }

    pub(crate) fn forget(&self, inode: InodeId) -> Option<Problem> {
        self.all().remove(&inode)
    }

    pub(crate) fn get(&self, inode: InodeId) -> Option<Problem> {
        self.all().get(&inode).cloned()
    }

    /// Drops those that `is_left` does not know any more; gives the others, in order of the inodes.
    pub(crate) fn current(&self, is_left: impl Fn(InodeId) -> bool) -> Vec<(InodeId, Problem)> {
        let mut problems = self.all();
        problems.retain(|inode, _| is_left(*inode));
        let mut current: Vec<_> = problems.iter().map(|(inode, problem)| (*inode, problem.clone())).collect();
        current.sort_unstable_by_key(|(inode, _)| *inode);
        current
    }

    fn all(&self) -> MutexGuard<'_, HashMap<InodeId, Problem>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_a_conflict_waits_for_somebody() {
        let (problems, file, now) = (Problems::default(), InodeId(5), Timestamp(7));
        let pause = |text: &str, conflict| problems.failed(file, text.to_owned(), conflict, now);
        let pauses: Vec<_> = (0..3).map(|_| pause("down", false).expect("tried again").as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4]);
        assert_eq!(problems.failed(file, "another version".to_owned(), true, Timestamp(9)), None);
        let problem = problems.get(file).expect("noted");
        assert_eq!((&problem.reason[..], problem.since, problem.conflict), ("another version", now, true));
        assert!(problems.current(|inode| inode != file).is_empty() && problems.get(file).is_none());
    }
}
