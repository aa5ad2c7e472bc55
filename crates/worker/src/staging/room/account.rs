//! Who fills the bound, by mount.
//!
//! Half of the bound is anybody's. The other half is divided evenly among the mounts that persist later, and what is one mount's part of it no other fills.
//! A mount that is alone may fill all; of two, one fills three quarters at most.
//!
//! Invariants:
//!
//! 1. Whatever others have, a mount gets what is its part.
//! 2. What all mounts have, and what is dirty of no known mount, is never more than the bound; but for copies, which come without being asked for, and the
//!    parts of mounts that came when others had them already.
//! 3. What is dirty counts as of a mount once the master has said so; until then it takes from what is anybody's, and from nobody's part.

use std::collections::{BTreeMap, HashMap, HashSet};

use headpond_types::MountId;
use tokio::time::Instant;

/// Who waits: since when, and a number.
pub(super) type Ticket = (Instant, u64);

/// What a mount has dirty on this worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) bytes: u64,
    /// Some of it is to be persisted in its turn.
    pub(crate) is_due: bool,
}

/// What is shared.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) limit: u64,
    /// Bytes of dirty contents, of whatever mount.
    pub(super) dirty: u64,
    /// Mounts that persist later.
    pub(super) mounts: Vec<MountId>,
}

impl Bound {
    /// What no other mount fills.
    fn part_of(&self, mount: MountId) -> u64 {
        let all = self.mounts.len().max(1) as u64;
        if self.mounts.contains(&mount) { self.limit / 2 / all } else { 0 }
    }

    /// What a mount may have if nobody else has anything.
    pub(super) fn most(&self, mount: MountId) -> u64 {
        let others = self.mounts.iter().filter(|other| **other != mount);
        self.limit - others.map(|other| self.part_of(*other)).sum::<u64>()
    }
}

/// What one mount has of the bound.
#[derive(Debug)]
pub(super) struct Share {
    /// Set aside for staged files.
    pub(super) reserved: u64,
    /// Of dirty contents, as the master last said.
    dirty: u64,
    /// Writers that wait, and what their files have set aside.
    pub(super) line: BTreeMap<Ticket, u64>,
    /// When room was given or came free last.
    moved: Instant,
    /// When writers are told that no room will come, while nothing is to be persisted that could make some.
    pub(super) stuck: Option<Instant>,
    /// Somebody was told that no room will come, since room was given or came free last.
    pub(super) is_told: bool,
}

impl Share {
    fn new() -> Self {
        Self { reserved: 0, dirty: 0, line: BTreeMap::new(), moved: Instant::now(), stuck: None, is_told: false }
    }

    /// Room was given, or came free.
    pub(super) fn go_on(&mut self) {
        (self.moved, self.stuck, self.is_told) = (Instant::now(), None, false);
    }

    /// Since when who waits `since` then waits for nothing to happen.
    pub(super) fn waits_since(&self, since: Instant) -> Instant {
        since.max(self.moved)
    }

    /// Whether nobody who waits should give up before him: nothing comes free if he does, or his file is the one that began to wait last.
    pub(super) fn gives_up_first(&self, ticket: &Ticket) -> bool {
        let last = self.line.iter().rev().find(|(_, held)| **held > 0).map(|(last, _)| last);
        self.line.get(ticket) == Some(&0) || last == Some(ticket)
    }

    const fn used(&self) -> u64 {
        self.reserved.saturating_add(self.dirty)
    }
}

/// What all mounts have.
#[derive(Debug, Default)]
pub(super) struct Account {
    shares: HashMap<MountId, Share>,
    numbers: u64,
}

impl Account {
    /// What a mount has.
    pub(super) fn share(&mut self, mount: MountId) -> &mut Share {
        self.shares.entry(mount).or_insert_with(Share::new)
    }

    pub(super) const fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn reserved(&self) -> u64 {
        self.shares.values().map(|share| share.reserved).sum()
    }

    pub(super) fn waiting(&self) -> usize {
        self.shares.values().map(|share| share.line.len()).sum()
    }

    /// How much more a mount may have now.
    pub(super) fn free(&self, mount: MountId, bound: &Bound) -> u64 {
        let known: u64 = self.shares.values().map(|share| share.dirty).sum();
        let used = |of: &MountId| self.shares.get(of).map_or(0, Share::used);
        let others: HashSet<_> = self.shares.keys().chain(&bound.mounts).filter(|other| **other != mount).collect();
        let others: u64 = others.into_iter().map(|other| used(other).max(bound.part_of(*other))).sum();
        // Others may have more of it than they may: copies come unasked, and a mount may be new.
        let others = others.min(bound.limit - bound.part_of(mount));
        let taken = used(&mount).saturating_add(others).saturating_add(bound.dirty.saturating_sub(known));
        bound.limit.saturating_sub(taken)
    }

    /// What the master says of the dirty contents, and whether some of no mount yet `is_coming`. Where nothing that could make room is to be persisted,
    /// writers are told at `stuck` unless they were to be told before.
    pub(super) fn told(&mut self, dirty: &HashMap<MountId, Dirty>, is_coming: bool, bound: &Bound, stuck: Instant) {
        for mount in dirty.keys() {
            self.share(*mount);
        }
        for (mount, share) in &mut self.shares {
            let bytes = dirty.get(mount).map_or(0, |dirty| dirty.bytes);
            if bytes < share.dirty {
                share.go_on();
            }
            share.dirty = bytes;
        }
        let is_due = |mount: &MountId| dirty.get(mount).is_some_and(|dirty| dirty.is_due);
        // What lies in a mount's own part makes room for nobody else.
        let lending =
            self.shares.iter().filter(|(mount, share)| is_due(mount) && share.used() > bound.part_of(**mount));
        let is_lent = lending.count() > 0;
        for (mount, share) in &mut self.shares {
            if is_coming || is_due(mount) || is_lent {
                share.stuck = None;
            } else {
                share.stuck.get_or_insert(stuck);
            }
        }
    }
}
