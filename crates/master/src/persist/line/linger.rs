//! How long something is left alone after a change.

use std::time::Duration;

use headpond_types::InodeId;
use tokio::time::Instant;

use super::{
    Line,
    item::{Class, Entry, State, place},
};

/// What is changed again and again is left alone for so many times as long as what is changed once, and no longer.
const TIMES: u32 = 10;

/// How long nothing is left alone after a worker told that writers wait. It tells again every second.
const PRESSED: Duration = Duration::from_secs(3);

/// Until when something is left alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    /// From the last change on.
    pub(super) until: Instant,
    /// Whatever changes.
    at_most: Instant,
}

impl Linger {
    /// Of something that was changed at `now`, and left alone until then as `before` says.
    pub(super) fn changed(now: Instant, linger: Duration, before: Option<Self>) -> Self {
        let at_most = before.map_or(now + linger * TIMES, |before| before.at_most);
        Self { until: (now + linger).min(at_most), at_most }
    }

    /// Of something that is not left alone from `now` on, unless it is changed.
    pub(super) fn over(now: Instant, linger: Duration) -> Self {
        Self { until: now, at_most: now + linger * TIMES }
    }
}

impl Line {
    /// Files what is ready, unless it is still to be left alone.
    pub(super) fn settle(&mut self, inode: InodeId) {
        if let Some(Entry { item, state: state @ State::Ready, linger }) = self.entries.get_mut(&inode)
            && linger.until > Instant::now()
            && place(inode, item).1 == Class::Plain
        {
            *state = State::Fresh(linger.until);
            self.fresh.insert((linger.until, inode));
        }
        self.file(inode);
    }

    /// What was left alone until `now` is ready.
    pub(super) fn ripen(&mut self, now: Instant) {
        while let Some((_, inode)) = self.fresh.first().copied().filter(|(until, _)| *until <= now) {
            self.fresh.pop_first();
            if let Some(entry) = self.entries.get_mut(&inode) {
                entry.state = State::Ready;
                self.file(inode);
            }
        }
    }

    /// When the first of what is left alone is ready.
    pub(crate) fn ripens_at(&self) -> Option<Instant> {
        self.fresh.first().map(|(until, _)| *until)
    }

    /// Writers wait for room at `now`, and may for a while: until then nothing is left alone.
    pub(crate) fn press(&mut self, now: Instant) {
        self.pressed = Some(now + PRESSED);
    }

    pub(super) fn is_pressed(&self, now: Instant) -> bool {
        self.pressed.is_some_and(|until| now < until)
    }

    /// Somebody waits: nothing that is in the line now is left alone any more. Whether anything was.
    pub(crate) fn hurry(&mut self) -> bool {
        let Some((last, _)) = self.fresh.last().copied() else { return false };
        self.ripen(last);
        true
    }
}
