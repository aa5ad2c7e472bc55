//! Names that were changed elsewhere a moment ago.
//!
//! A kernel that revalidates a name holds no lock, and sets the validity of the answer some time after the answer was written: a notice that comes
//! between is lost on it. So for a while after its change a name is answered without validity; and where one was answered with it
//! shortly before, the notice has to be given twice, the second time when that answer has been taken for sure.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use headpond_types::InodeId;
use tokio::time::Instant;

/// Names that share a slot cost each other validity.
const SLOTS: usize = 8192;

/// How long a name is answered without validity after its change.
const CALM: Duration = Duration::from_secs(1);

/// How long the kernel may take to set the validity of an answer that was given: a switch to who waits for it, on a busy machine.
const TAKEN: Duration = Duration::from_millis(50);

/// Times of changes and of answers, by slot of a name in a directory.
#[derive(Debug)]
pub(crate) struct Unrest {
    /// In milliseconds since `began`, from 1 on; 0: never.
    changed: Box<[AtomicU64]>,
    answered: Box<[AtomicU64]>,
    began: Instant,
    hasher: RandomState,
}

impl Default for Unrest {
    fn default() -> Self {
        let times = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { changed: times(), answered: times(), began: Instant::now(), hasher: RandomState::new() }
    }
}

impl Unrest {
    /// Whether an answer for a name that is about to be given may have validity.
    pub(super) fn may_answer(&self, dir: InodeId, name: &[u8]) -> bool {
        let (slot, now) = (self.slot(dir, name), self.now());
        // Either the notice sees this, or this the change.
        self.answered[slot].fetch_max(now, Ordering::SeqCst);
        let changed = self.changed[slot].load(Ordering::SeqCst);
        changed == 0 || between(changed, now) >= CALM
    }

    /// A name was changed. Answers how long from now on an earlier answer for it may still be on its way.
    pub(super) fn change(&self, dir: InodeId, name: &[u8]) -> Duration {
        let (slot, now) = (self.slot(dir, name), self.now());
        let before = self.changed[slot].swap(now, Ordering::SeqCst);
        if before != 0 && between(before, now) < CALM {
            // What was answered since had no validity.
            return Duration::ZERO;
        }
        match self.answered[slot].load(Ordering::SeqCst) {
            0 => Duration::ZERO,
            answered => (Duration::from_millis(answered) + TAKEN).saturating_sub(Duration::from_millis(now)),
        }
    }

    fn now(&self) -> u64 {
        1 + u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn slot(&self, dir: InodeId, name: &[u8]) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than `SLOTS`")]
        let slot = (self.hasher.hash_one((dir, name)) % SLOTS as u64) as usize;
        slot
    }
}

const fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_millis(later.saturating_sub(earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: InodeId = InodeId(5);

    #[tokio::test(start_paused = true)]
    async fn a_name_has_no_validity_for_a_while_after_its_change() {
        let unrest = Unrest::default();
        assert!(unrest.may_answer(DIR, b"a"));
        unrest.change(DIR, b"a");
        assert!(!unrest.may_answer(DIR, b"a"));
        tokio::time::advance(CALM).await;
        assert!(unrest.may_answer(DIR, b"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_shortly_before_a_change_may_be_on_its_way() {
        let unrest = Unrest::default();
        assert_eq!(unrest.change(DIR, b"a"), Duration::ZERO);
        tokio::time::advance(2 * CALM).await;
        unrest.may_answer(DIR, b"a");
        assert_eq!(unrest.change(DIR, b"a"), TAKEN);
        unrest.may_answer(DIR, b"a");
        assert_eq!(unrest.change(DIR, b"a"), Duration::ZERO, "it was answered without validity");
        tokio::time::advance(2 * CALM).await;
        unrest.may_answer(DIR, b"a");
        tokio::time::advance(TAKEN).await;
        assert_eq!(unrest.change(DIR, b"a"), Duration::ZERO, "it was taken long ago");
    }
}
