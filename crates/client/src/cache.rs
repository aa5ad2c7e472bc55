//! What the client believes of names and attributes, each until its validity ends.
//!
//! Invariants:
//! - An entry is believed only while the session in which it was asked for is live and its validity has not ended. The
//!   master tells a live session of changes; without one nothing in memory counts as current (DESIGN P2).
//! - An answer never overtakes a change. Answers and changes carry positions in the journal: an answer that is older than
//!   a change seen to the same directory or inode is given to its caller but not kept, and a change takes away belief in what is
//!   older than it. What a question itself brought to light (an entry discovered in the under store) is in its answer,
//!   so it is kept although its change is told, too.
//! - Of a directory that is known whole, what is no name of it is absent; a name that is told of changed there is one that it may have.
//! - Expired entries stay in memory while there is room: they serve reads while no master can be reached.

mod whole;

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

use self::whole::Wholes;
use crate::Lookup;

/// Slots of positions of inodes. Those that share one cost each other a question more after a change.
const SLOTS: usize = 1024;

/// Slots of positions of names, 256 KiB: a listing that discovers thousands of entries shall not keep out its own pages.
const NAME_SLOTS: usize = 32 << 10;

/// How long an inode that a worker found outdated has the under store asked about it.
const SUSPICION: Duration = Duration::from_mins(1);

/// A session that never is.
const DOUBTED: u64 = 0;

/// Names and attributes in memory. Getters never wait.
#[derive(Debug)]
pub(crate) struct MetaCache {
    attrs: Cache<InodeId, AttrEntry>,
    names: Cache<(InodeId, Box<[u8]>), NameEntry>,
    wholes: Wholes,
    suspects: Cache<InodeId, ()>,
    /// Odd while a session is live; grows with every beginning, loss and reset.
    session: AtomicU64,
    /// Position of the last change seen in this session, per slot of an inode, or of a directory for any of its entries.
    changes: Box<[AtomicU64]>,
    /// The same per slot of a name in a directory.
    name_changes: Box<[AtomicU64]>,
    /// Position of the last change of a whole listing, per slot of directory: older names are no longer believed.
    relistings: Box<[AtomicU64]>,
    hasher: RandomState,
}

#[derive(Clone, Debug)]
struct AttrEntry {
    attr: Arc<Attr>,
    valid_until: Instant,
    /// [`DOUBTED`] after a change.
    session: u64,
    as_of: u64,
}

#[derive(Clone, Copy, Debug)]
struct NameEntry {
    inode: Option<InodeId>,
    valid_until: Instant,
    /// [`DOUBTED`] after a change.
    session: u64,
    as_of: u64,
}

/// A question under way: taken before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    session: u64,
    asked: Instant,
}

/// What holds for all of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    session: u64,
    /// Position in the journal of the state that it shows.
    as_of: u64,
    valid_until: Instant,
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

    /// The answer, which shows the state `as_of` and is valid for `valid`. That counts from the question: the answer may have
    /// been under way for long.
    pub(crate) fn answered(self, as_of: u64, valid: Duration) -> Answered {
        let Self { session, asked } = self;
        Answered { session, as_of, valid_until: asked + valid, asked }
    }
}

impl Answered {
    /// End of the validity that the master gave.
    pub(crate) const fn valid_until(&self) -> Instant {
        self.valid_until
    }
}

impl MetaCache {
    /// Room for `entries` attributes and as many names.
    pub(crate) fn new(entries: u64) -> Self {
        let positions = |slots| (0..slots).map(|_| AtomicU64::new(0)).collect();
        Self {
            attrs: Cache::new(entries),
            names: Cache::new(entries),
            wholes: Wholes::new(),
            suspects: Cache::builder().max_capacity(4096).time_to_live(SUSPICION).build(),
            session: AtomicU64::new(0),
            changes: positions(SLOTS),
            name_changes: positions(NAME_SLOTS),
            relistings: positions(SLOTS),
            hasher: RandomState::new(),
        }
    }

    /// To be taken before a question is sent.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { session: self.session.load(Ordering::Acquire), asked: Instant::now() }
    }

    /// Keeps attributes and says until when they are valid. Under which name the inode is found is not known, so any change in
    /// its directory may be of it.
    pub(crate) fn put_attr(&self, answered: &Answered, attr: Arc<Attr>) -> Lookup {
        let (inode, parent) = (attr.inode, attr.parent);
        let is_current = || self.shows_changes_of(answered, inode) && self.shows_changes_of(answered, parent);
        self.put_attr_while(answered, attr, is_current)
    }

    fn put_attr_while(&self, answered: &Answered, attr: Arc<Attr>, is_current: impl Fn() -> bool) -> Lookup {
        let inode = attr.inode;
        let current = is_current();
        if current {
            let Answered { session, as_of, valid_until, .. } = *answered;
            self.attrs.insert(inode, AttrEntry { attr: Arc::clone(&attr), valid_until, session, as_of });
            if !is_current() {
                self.attrs.invalidate(&inode);
            }
        }
        Lookup { attr: Some(attr), valid_until: self.end_of(answered, current) }
    }

    /// Keeps what `name` is in `parent`, `None` for its absence, and says until when that is valid.
    pub(crate) fn put_name(
        &self,
        answered: &Answered,
        parent: InodeId,
        name: &[u8],
        attr: Option<Arc<Attr>>,
    ) -> Lookup {
        let is_current = || self.shows_changes_of_name(answered, parent, name);
        let current = is_current();
        if current {
            let inode = attr.as_ref().map(|attr| attr.inode);
            let key = (parent, Box::from(name));
            let Answered { session, as_of, valid_until, .. } = *answered;
            self.names.insert(key.clone(), NameEntry { inode, valid_until, session, as_of });
            if !is_current() {
                self.names.invalidate(&key);
            }
        }
        match attr {
            Some(attr) => {
                let inode = attr.inode;
                self.put_attr_while(answered, attr, || self.shows_changes_of(answered, inode) && is_current())
            }
            None => Lookup { attr: None, valid_until: self.end_of(answered, current) },
        }
    }

    /// Keeps that `dir` has no names.
    pub(crate) fn put_empty(&self, answered: &Answered, dir: InodeId) {
        if !self.shows_changes_of(answered, dir) {
            return;
        }
        self.wholes.put_empty(*answered, dir);
        if !self.shows_changes_of(answered, dir) {
            self.wholes.forget(dir);
        }
    }

    /// Says until when an absence of which nothing can be kept is valid: for its one caller only.
    pub(crate) const fn absent(&self, answered: &Answered) -> Lookup {
        Lookup { attr: None, valid_until: answered.asked }
    }

    /// Valid attributes of an inode.
    pub(crate) fn attr(&self, inode: InodeId) -> Option<Lookup> {
        let entry = self.attrs.get(&inode)?;
        self.believes(entry.session, entry.valid_until)
            .then_some(Lookup { attr: Some(entry.attr), valid_until: entry.valid_until })
    }

    /// A valid answer for a name, also that it does not exist.
    pub(crate) fn name(&self, parent: InodeId, name: &[u8]) -> Option<Lookup> {
        let entry = self.names.get(&(parent, Box::from(name))).filter(|entry| {
            self.believes(entry.session, entry.valid_until)
                && entry.as_of >= self.relistings[self.slot(parent)].load(Ordering::Acquire)
        });
        let Some(entry) = entry else { return self.absence(parent, name) };
        let Some(inode) = entry.inode else { return Some(Lookup { attr: None, valid_until: entry.valid_until }) };
        let mut found = self.attr(inode)?;
        found.valid_until = found.valid_until.min(entry.valid_until);
        Some(found)
    }

    /// That a directory which is known whole lacks a name. What is no name is for others to refuse.
    fn absence(&self, parent: InodeId, name: &[u8]) -> Option<Lookup> {
        Name::new(name).ok()?;
        let Answered { session, valid_until, .. } = self.wholes.without(parent, self.hash_of(parent, name))?.answered;
        self.believes(session, valid_until).then_some(Lookup { attr: None, valid_until })
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

    /// A session has begun: what is asked from now on may be believed. Its master may have another journal than the last.
    pub(crate) fn begin_session(&self) {
        for position in self.changes.iter().chain(&self.name_changes).chain(&self.relistings) {
            position.store(0, Ordering::Release);
        }
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

    /// Answers older than `as_of` lack this change: `name` of `parent` appeared, changed or went (`None`: any of them), and
    /// `old` is gone or changed. What is still likely to be so stays known.
    pub(crate) fn invalidate(&self, as_of: u64, parent: InodeId, name: Option<&Name>, old: Option<InodeId>) {
        self.changes[self.slot(parent)].fetch_max(as_of, Ordering::AcqRel);
        match name {
            Some(name) => {
                self.name_changes[self.name_slot(parent, name.as_bytes())].fetch_max(as_of, Ordering::AcqRel);
                self.wholes.take(parent, self.hash_of(parent, name.as_bytes()));
                self.doubt_name(as_of, parent, name, old);
            }
            None => {
                self.relistings[self.slot(parent)].fetch_max(as_of, Ordering::AcqRel);
                self.wholes.forget(parent);
            }
        }
        // The directory's own attributes (mtime) change with its entries, but it stays a known directory.
        self.doubt_attr(as_of, parent);
        if let Some(old) = old {
            self.outdate(as_of, old);
        }
    }

    /// Attributes of `inode` that are older than `as_of` are wrong.
    pub(crate) fn outdate(&self, as_of: u64, inode: InodeId) {
        self.changes[self.slot(inode)].fetch_max(as_of, Ordering::AcqRel);
        self.attrs.entry(inode).and_compute_with(|known| match known {
            Some(known) if known.value().as_of < as_of => Op::Remove,
            Some(_) | None => Op::Nop,
        });
    }

    fn doubt_name(&self, as_of: u64, parent: InodeId, name: &Name, old: Option<InodeId>) {
        let mut changed = None;
        self.names.entry((parent, Box::from(name.as_bytes()))).and_compute_with(|known| {
            let Some(known) = known.map(moka::Entry::into_value).filter(|known| known.as_of < as_of) else {
                return Op::Nop;
            };
            if known.inode.is_none() || known.inode == old {
                return Op::Remove;
            }
            changed = known.inode;
            Op::Put(NameEntry { session: DOUBTED, ..known })
        });
        if let Some(inode) = changed {
            self.doubt_attr(as_of, inode);
        }
    }

    fn doubt_attr(&self, as_of: u64, inode: InodeId) {
        self.attrs.entry(inode).and_compute_with(|known| match known {
            Some(known) if known.value().as_of < as_of => Op::Put(AttrEntry { session: DOUBTED, ..known.into_value() }),
            Some(_) | None => Op::Nop,
        });
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

    /// Whether the answer has all changes seen to `inode` or, if it is a directory, to its entries.
    fn shows_changes_of(&self, answered: &Answered, inode: InodeId) -> bool {
        answered.as_of >= self.changes[self.slot(inode)].load(Ordering::Acquire)
    }

    fn shows_changes_of_name(&self, answered: &Answered, parent: InodeId, name: &[u8]) -> bool {
        let listing = self.relistings[self.slot(parent)].load(Ordering::Acquire);
        let name = self.name_changes[self.name_slot(parent, name)].load(Ordering::Acquire);
        answered.as_of >= listing.max(name)
    }

    /// Until when an answer is valid. One that lacks a change, or of a session that is not live, is for its one caller only.
    fn end_of(&self, answered: &Answered, current: bool) -> Instant {
        let Answered { session, valid_until, asked, .. } = *answered;
        let live = session % 2 == 1 && session == self.session.load(Ordering::Acquire);
        if live && current { valid_until } else { asked }
    }

    fn slot(&self, inode: InodeId) -> usize {
        slot_of(self.hasher.hash_one(inode), SLOTS)
    }

    fn name_slot(&self, parent: InodeId, name: &[u8]) -> usize {
        slot_of(self.hash_of(parent, name), NAME_SLOTS)
    }

    fn hash_of(&self, parent: InodeId, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }
}

fn slot_of(hash: u64, slots: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than `slots`")]
    let slot = (hash % slots as u64) as usize;
    slot
}

#[cfg(test)]
mod tests;
