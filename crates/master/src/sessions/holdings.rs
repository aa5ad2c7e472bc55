//! What a session may believe: the directories that it was told something of under a validity.
//!
//! A directory stands for its names, its listing, its own attributes and those of what is in it. Errs on the side of holding: what is too much to
//! remember is everything.

use std::{collections::HashMap, time::Duration};

use headpond_types::InodeId;
use tokio::time::Instant;

/// Directories remembered, about 50 bytes each.
const MOST: usize = 16 << 10;

/// Directories, each with the end of the last validity that was given.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    until: HashMap<InodeId, Instant>,
    /// Until then anything may be held.
    all_until: Option<Instant>,
    /// Until then something is held.
    last: Option<Instant>,
}

impl Holdings {
    /// Something of `dir` is told for `valid`.
    pub(super) fn add(&mut self, dir: InodeId, now: Instant, valid: Duration) {
        let until = now + valid;
        self.last = self.last.max(Some(until));
        if let Some(known) = self.until.get_mut(&dir) {
            *known = until.max(*known);
            return;
        }
        if self.until.len() >= MOST {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() >= MOST {
            self.add_all(now, valid);
            return;
        }
        self.until.insert(dir, until);
    }

    /// Anything may have been told for `valid`.
    pub(super) fn add_all(&mut self, now: Instant, valid: Duration) {
        let until = now + valid;
        self.last = self.last.max(Some(until));
        self.all_until = self.all_until.max(Some(until));
    }

    /// Whether something of `dir` may be believed.
    pub(super) fn has(&self, dir: InodeId, now: Instant) -> bool {
        self.all_until.is_some_and(|until| now < until) || self.until.get(&dir).is_some_and(|until| now < *until)
    }

    /// When nothing is believed any more if nothing else is told; `None`: now.
    pub(super) fn end(&self, now: Instant) -> Option<Instant> {
        self.last.filter(|last| now < *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_directory_is_held_until_the_last_validity_ends() {
        let (mut holdings, began) = (Holdings::default(), Instant::now());
        assert_eq!(holdings.end(began), None);
        holdings.add(InodeId(5), began, VALID);
        holdings.add(InodeId(5), began, VALID / 2);
        assert!(holdings.has(InodeId(5), began) && !holdings.has(InodeId(6), began));
        assert_eq!(holdings.end(began), Some(began + VALID));
        assert!(!holdings.has(InodeId(5), began + VALID));
        assert_eq!(holdings.end(began + VALID), None);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_can_be_remembered_is_everything_for_a_time() {
        let (mut holdings, began) = (Holdings::default(), Instant::now());
        for dir in 0..=MOST as u64 {
            holdings.add(InodeId(dir), began, VALID);
        }
        assert!(holdings.has(InodeId(u64::MAX), began));
        let later = began + VALID;
        assert!(!holdings.has(InodeId(u64::MAX), later));
        holdings.add(InodeId(u64::MAX), later, VALID);
        assert!(holdings.has(InodeId(u64::MAX), later) && !holdings.has(InodeId(7), later), "there is room again");
    }
}
