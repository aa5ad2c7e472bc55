//! A change that others have to hear of before its author is answered.
//!
//! A kernel that waits for the answer to its own change of a directory holds that directory's lock, and takes no notice of names in it. So a
//! change can wait for a session whose own change waits for the session of this one. Such circles are found here by whoever closes one; it does
//! not wait then for the session through which it would wait for itself.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Weak},
};

use headpond_types::InodeId;
use tokio::{sync::watch, time::Instant};

/// A change that was made, and the sessions that may not have heard of it.
#[derive(Debug)]
pub(crate) struct Settling {
    /// Tells them apart.
    pub(super) began: Instant,
    author: Option<u64>,
    /// Inodes that the author's kernel may hold locked until it is answered.
    locked: Vec<InodeId>,
    /// The directories of the names that sessions have to forget.
    dirs: Vec<InodeId>,
    /// Sessions, and when they will believe nothing of it any more whether or not they heard.
    pending: watch::Sender<BTreeMap<u64, Instant>>,
}

impl Settling {
    pub(super) fn new(author: Option<u64>, locked: Vec<InodeId>, dirs: Vec<InodeId>, began: Instant) -> Self {
        Self { began, author, locked, dirs, pending: watch::Sender::new(BTreeMap::new()) }
    }

    /// Waits for `session`, at most until `until`.
    pub(super) fn add(&self, session: u64, until: Instant) {
        self.pending.send_modify(|pending| {
            pending.insert(session, until);
        });
    }

    /// `session` has heard of it, or is not waited for.
    pub(super) fn settle(&self, session: u64) {
        self.pending.send_if_modified(|pending| pending.remove(&session).is_some());
    }

    pub(super) fn is_settled(&self) -> bool {
        self.pending.borrow().is_empty()
    }

    /// Waits until all have heard of it; otherwise tells who has not when their time is up. Cancel-safe.
    pub(super) async fn settled(&self) -> Result<(), Vec<u64>> {
        let mut pending = self.pending.subscribe();
        loop {
            let Some(first) = pending.borrow_and_update().values().min().copied() else { return Ok(()) };
            if tokio::time::timeout_at(first, pending.changed()).await.is_err() {
                let now = Instant::now();
                let late = |(session, until): (&u64, &Instant)| (*until <= now).then_some(*session);
                return Err(pending.borrow().iter().filter_map(late).collect());
            }
        }
    }

    /// Whether this waits for the author of `other`, who cannot hear of it before `other` is answered.
    fn waits_behind(&self, other: &Self) -> bool {
        other.author.is_some_and(|author| self.pending.borrow().contains_key(&author))
            && self.dirs.iter().any(|dir| other.locked.contains(dir))
    }
}

/// The changes that are waiting.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Weak<Settling>>);

impl Waiting {
    /// Adds `new`, which does not wait for itself by others from then on.
    pub(super) fn add(&mut self, new: &Arc<Settling>) {
        self.0.retain(|other| other.upgrade().is_some_and(|other| !other.is_settled()));
        let others: Vec<_> = self.0.iter().filter_map(Weak::upgrade).collect();
        for first in &others {
            if new.waits_behind(first)
                && leads_to(first, new, &others)
                && let Some(author) = first.author
            {
                new.settle(author);
            }
        }
        self.0.push(Arc::downgrade(new));
    }
}

/// Whether `from` waits for `to`, by others.
fn leads_to(from: &Arc<Settling>, to: &Settling, others: &[Arc<Settling>]) -> bool {
    let (mut seen, mut next) = (HashSet::new(), vec![from]);
    while let Some(at) = next.pop() {
        if !seen.insert(Arc::as_ptr(at)) {
            continue;
        }
        if at.waits_behind(to) {
            return true;
        }
        next.extend(others.iter().filter(|other| at.waits_behind(other)));
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DIR: InodeId = InodeId(5);
    const OTHER: InodeId = InodeId(6);

    fn change(author: u64, dir: InodeId, waits_for: &[u64]) -> Arc<Settling> {
        let now = Instant::now();
        let settling = Settling::new(Some(author), vec![dir], vec![dir], now);
        waits_for.iter().for_each(|session| settling.add(*session, now + Duration::from_secs(30)));
        Arc::new(settling)
    }

    fn waits_for(settling: &Settling) -> Vec<u64> {
        settling.pending.borrow().keys().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_heard_is_named_when_its_time_is_up() {
        let settling = change(1, DIR, &[2, 3]);
        settling.settle(2);
        assert_eq!(settling.settled().await, Err(vec![3]));
        settling.settle(3);
        assert_eq!(settling.settled().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_change_that_closes_a_circle_does_not_wait_in_it() {
        let mut waiting = Waiting::default();
        let (first, second) = (change(1, DIR, &[2, 9]), change(2, DIR, &[1, 9]));
        waiting.add(&first);
        waiting.add(&second);
        assert_eq!((waits_for(&first), waits_for(&second)), (vec![2, 9], vec![9]));

        let mut waiting = Waiting::default();
        let ring = [change(1, DIR, &[2]), change(2, DIR, &[3]), change(3, DIR, &[1])];
        ring.iter().for_each(|change| waiting.add(change));
        assert_eq!(ring.map(|change| waits_for(&change).len()), [1, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_other_directories_make_no_circle() {
        let mut waiting = Waiting::default();
        let (first, second) = (change(1, DIR, &[2]), change(2, OTHER, &[1]));
        waiting.add(&first);
        waiting.add(&second);
        assert_eq!((waits_for(&first), waits_for(&second)), (vec![2], vec![1]));
        first.settle(2);
        let third = change(2, DIR, &[1]);
        waiting.add(&third);
        assert_eq!(waits_for(&third), [1], "what is settled is in nobody's way");
    }
}
