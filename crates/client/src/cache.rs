//! What the client believes of names and attributes, each until its validity ends.
//!
//! Invariants:
//! - An entry is believed only while the session in which it was asked for is live and its validity has not ended. The
//!   master tells a live session of changes; without one nothing in memory counts as current (DESIGN P2).
//! - An answer never overtakes a change: a [`Ticket`] taken before the call notes which changes had been seen. If a change
//!   to the same directory or inode arrives before the answer, the answer is given to the caller but not kept.
//! - Expired entries stay in memory while there is room: they serve reads while no master can be reached.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use headpond_types::{Attr, ContentId, InodeId, Name};
use moka::{ops::compute::Op, sync::Cache};
use tokio::time::Instant;

use crate::Lookup;

/// Slots of change counters. Directories and inodes that share one cost each other a question more after a change.
const SLOTS: usize = 1024;

/// How long an inode that a worker found outdated has the under store asked about it.
const SUSPICION: Duration = Duration::from_mins(1);

/// Names and attributes in memory. Getters never wait.
#[derive(Debug)]
pub(crate) struct MetaCache {
    attrs: Cache<InodeId, AttrEntry>,
    names: Cache<(InodeId, Box<[u8]>), NameEntry>,
    suspects: Cache<InodeId, ()>,
    /// Odd while a session is live; grows with every beginning, loss and reset.
    session: AtomicU64,
    /// Changes seen, per slot of directory or inode.
    changes: Box<[AtomicU64]>,
    /// Changes seen of whole listings, per slot of directory: names kept from before are no longer believed.
    relistings: Box<[AtomicU64]>,
    /// Changes seen of anything.
    all_changes: AtomicU64,
    hasher: RandomState,
}

#[derive(Clone, Debug)]
struct AttrEntry {
    attr: Arc<Attr>,
    valid_until: Instant,
    session: u64,
}

#[derive(Clone, Copy, Debug)]
struct NameEntry {
    inode: Option<InodeId>,
    valid_until: Instant,
    session: u64,
    relistings: u64,
}

/// What an answer will be about, so that only changes to that keep it out of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    /// The inode itself, or entries of that directory.
    Inode(InodeId),
    /// Not known before the answer.
    Any,
}

/// The state of belief when a question was asked; goes with the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    scope: Scope,
    session: u64,
    changes: u64,
    asked: Instant,
}

impl Ticket {
    /// When the question was asked.
    pub(crate) const fn asked(&self) -> Instant {
        self.asked
    }

    /// The same question, with the part of the answer that is awaited from now on.
    pub(crate) fn again(self) -> Self {
        Self { asked: Instant::now(), ..self }
    }
}

impl MetaCache {
    /// Room for `entries` attributes and as many names.
    pub(crate) fn new(entries: u64) -> Self {
        let counters = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            attrs: Cache::new(entries),
            names: Cache::new(entries),
            suspects: Cache::builder().max_capacity(4096).time_to_live(SUSPICION).build(),
            session: AtomicU64::new(0),
            changes: counters(),
            relistings: counters(),
            all_changes: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }

    /// To be taken before a question is sent.
    pub(crate) fn ticket(&self, scope: Scope) -> Ticket {
        Ticket {
            scope,
            session: self.session.load(Ordering::Acquire),
            changes: self.changes_of(scope),
            asked: Instant::now(),
        }
    }

    /// Keeps attributes and says until when they are valid.
    pub(crate) fn put_attr(&self, ticket: &Ticket, attr: Arc<Attr>, valid: Duration) -> Lookup {
        let valid_until = self.end_of(ticket, valid);
        let inode = attr.inode;
        if self.is_current(ticket) {
            self.attrs.insert(inode, AttrEntry { attr: Arc::clone(&attr), valid_until, session: ticket.session });
            if !self.is_current(ticket) {
                self.attrs.invalidate(&inode);
            }
        }
        Lookup { attr: Some(attr), valid_until }
    }

    /// Keeps what `name` is in `parent`, `None` for its absence, and says until when that is valid.
    pub(crate) fn put_name(
        &self,
        ticket: &Ticket,
        parent: InodeId,
        name: &[u8],
        attr: Option<Arc<Attr>>,
        valid: Duration,
    ) -> Lookup {
        let relistings = self.relistings[self.slot(parent)].load(Ordering::Acquire);
        let valid_until = self.end_of(ticket, valid);
        if self.is_current(ticket) {
            let inode = attr.as_ref().map(|attr| attr.inode);
            let key = (parent, Box::from(name));
            let entry = NameEntry { inode, valid_until, session: ticket.session, relistings };
            self.names.insert(key.clone(), entry);
            if !self.is_current(ticket) {
                self.names.invalidate(&key);
            }
        }
        match attr {
            Some(attr) => self.put_attr(ticket, attr, valid),
            None => self.absent(ticket, valid),
        }
    }

    /// Says until when an absence of which nothing can be kept is valid.
    pub(crate) fn absent(&self, ticket: &Ticket, valid: Duration) -> Lookup {
        Lookup { attr: None, valid_until: self.end_of(ticket, valid) }
    }

    /// Valid attributes of an inode.
    pub(crate) fn attr(&self, inode: InodeId) -> Option<Lookup> {
        let entry = self.attrs.get(&inode)?;
        self.believes(entry.session, entry.valid_until)
            .then_some(Lookup { attr: Some(entry.attr), valid_until: entry.valid_until })
    }

    /// A valid answer for a name, also that it does not exist.
    pub(crate) fn name(&self, parent: InodeId, name: &[u8]) -> Option<Lookup> {
        let entry = self.names.get(&(parent, Box::from(name)))?;
        if !self.believes(entry.session, entry.valid_until)
            || entry.relistings != self.relistings[self.slot(parent)].load(Ordering::Acquire)
        {
            return None;
        }
        let Some(inode) = entry.inode else { return Some(Lookup { attr: None, valid_until: entry.valid_until }) };
        let mut found = self.attr(inode)?;
        found.valid_until = found.valid_until.min(entry.valid_until);
        Some(found)
    }

    /// Attributes that expired less than `window` ago; to be used only while no master can be reached. Not valid.
    pub(crate) fn known_attr(&self, inode: InodeId, window: Duration) -> Option<Lookup> {
        let entry = self.attrs.get(&inode)?;
        let now = Instant::now();
        (now < entry.valid_until + window).then_some(Lookup { attr: Some(entry.attr), valid_until: now })
    }

    /// Likewise for a name; absences are not remembered.
    pub(crate) fn known_name(&self, parent: InodeId, name: &[u8], window: Duration) -> Option<Lookup> {
        let entry = self.names.get(&(parent, Box::from(name)))?;
        if Instant::now() >= entry.valid_until + window {
            return None;
        }
        self.known_attr(entry.inode?, window)
    }

    /// A session has begun: what is asked from now on may be believed.
    pub(crate) fn begin_session(&self) {
        let _ = self.session.fetch_update(Ordering::AcqRel, Ordering::Acquire, |session| Some((session + 1) | 1));
    }

    /// The session is lost: nothing is believed until the next.
    pub(crate) fn end_session(&self) {
        let _ = self.session.fetch_update(Ordering::AcqRel, Ordering::Acquire, |session| Some((session + 2) & !1));
    }

    /// Changes were missed within a live session: nothing kept is believed.
    pub(crate) fn reset(&self) {
        self.session.fetch_add(2, Ordering::AcqRel);
    }

    /// `name` of `parent` changed (`None`: any of them), and `old` is gone or changed.
    pub(crate) fn invalidate(&self, parent: InodeId, name: Option<&Name>, old: Option<InodeId>) {
        self.all_changes.fetch_add(1, Ordering::AcqRel);
        self.changes[self.slot(parent)].fetch_add(1, Ordering::AcqRel);
        match name {
            Some(name) => self.names.invalidate(&(parent, Box::from(name.as_bytes()))),
            None => {
                self.relistings[self.slot(parent)].fetch_add(1, Ordering::AcqRel);
            }
        }
        // The directory's own attributes (mtime) change with its entries, but it stays a known directory.
        self.attrs.entry(parent).and_compute_with(|known| match known {
            Some(known) => Op::Put(AttrEntry { session: 0, ..known.into_value() }),
            None => Op::Nop,
        });
        if let Some(old) = old {
            self.changes[self.slot(old)].fetch_add(1, Ordering::AcqRel);
            self.attrs.invalidate(&old);
        }
    }

    /// A worker found that the under store has another version of `content` than this inode says.
    pub(crate) fn suspect(&self, inode: InodeId, content: ContentId) {
        self.suspects.insert(inode, ());
        if self.attrs.get(&inode).is_some_and(|entry| entry.attr.content == Some(content)) {
            self.attrs.invalidate(&inode);
        }
    }

    /// Whether the under store must be asked about an inode, whatever the master believes.
    pub(crate) fn is_suspect(&self, inode: InodeId) -> bool {
        self.suspects.contains_key(&inode)
    }

    /// The under store was asked about an inode.
    pub(crate) fn clear(&self, inode: InodeId) {
        self.suspects.invalidate(&inode);
    }

    fn believes(&self, session: u64, valid_until: Instant) -> bool {
        session % 2 == 1 && session == self.session.load(Ordering::Acquire) && Instant::now() < valid_until
    }

    fn is_current(&self, ticket: &Ticket) -> bool {
        ticket.changes == self.changes_of(ticket.scope)
    }

    /// Answers of a session that is not live are valid for their one caller only. Validity counts from the question: the
    /// answer may have been under way for long.
    fn end_of(&self, ticket: &Ticket, valid: Duration) -> Instant {
        let believed = ticket.session % 2 == 1 && ticket.session == self.session.load(Ordering::Acquire);
        if believed && self.is_current(ticket) { ticket.asked + valid } else { ticket.asked }
    }

    fn changes_of(&self, scope: Scope) -> u64 {
        match scope {
            Scope::Inode(inode) => self.changes[self.slot(inode)].load(Ordering::Acquire),
            Scope::Any => self.all_changes.load(Ordering::Acquire),
        }
    }

    fn slot(&self, inode: InodeId) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than SLOTS")]
        let slot = (self.hasher.hash_one(inode) % SLOTS as u64) as usize;
        slot
    }
}

#[cfg(test)]
mod tests;
