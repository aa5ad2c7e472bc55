//! Which unit of one directory leaves when room is needed: S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all
//! you need for cache eviction", SOSP 2023).
//!
//! New units enter a small queue that holds a tenth of the capacity. A unit that reaches its end leaves, unless it was used
//! more than once on the way: then it moves to the main queue, where units circulate as long as they are used between two
//! visits. What left the small queue is remembered by a ghost queue, and enters the main queue when it comes back soon. So a
//! scan, however long, passes through the small queue only.
//!
//! The unit is the page for contents of more than [`WHOLE_UNIT_PAGES`] pages, and the whole content for smaller ones: an entry
//! is 8 bytes either way (slot and page number), there is never more than one per page, and evicting a small content is one
//! unlink instead of holes. Uses are counted in the page's own word, without a lock, so a hit never touches the queues.
//!
//! Entries are not searched for when their page or content goes otherwise; they are recognised as stale when they come
//! to an end, and swept out when they are the majority.

mod ghost;
mod queue;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Weak, atomic::Ordering},
};

use headpond_types::{ContentId, page_len};

use self::{
    ghost::Ghost,
    queue::{Entry, Queue},
};
use crate::{content::Content, pages};

/// Contents of up to this many pages are evicted as a whole.
pub(crate) const WHOLE_UNIT_PAGES: u64 = 8;
/// Pages count in this granularity, the block size of common file systems.
const BLOCK: u64 = 4096;
/// Entries looked at under one hold of the lock.
const VISITS_PER_HOLD: usize = 256;

#[derive(Debug)]
pub(crate) struct Policy {
    slots: Vec<Slot>,
    free: Vec<u32>,
    small: Queue,
    main: Queue,
    ghost: Ghost,
    hasher: RandomState,
    small_target: u64,
    /// Entries whose content is gone.
    stale: usize,
}

#[derive(Debug, Default)]
struct Slot {
    content: Weak<Content>,
    length: u64,
    entries: u32,
    /// The content is gone; the slot is free once its entries are.
    released: bool,
}

/// What to evict next.
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) content: Arc<Content>,
    /// `None`: the whole content.
    pub(crate) page: Option<u32>,
}

/// Outcome of a bounded search.
#[derive(Debug)]
pub(crate) enum Search {
    Found(Victim),
    /// Looked at this many entries and found none to evict; there are more.
    More(usize),
    /// Nothing is queued.
    Empty,
}

impl Policy {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            small: Queue::default(),
            main: Queue::default(),
            ghost: Ghost::new(capacity),
            hasher: RandomState::new(),
            small_target: capacity / 10,
            stale: 0,
        }
    }

    /// A slot for `content`, which stays its own until [`Self::release`].
    pub(crate) fn allocate(&mut self, content: &Arc<Content>) -> u32 {
        let slot = Slot { content: Arc::downgrade(content), length: content.length(), entries: 0, released: false };
        if let Some(free) = self.free.pop() {
            self.slots[free as usize] = slot;
            return free;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 contents fit in memory")
    }

    /// Puts a content found at open where its records say.
    pub(crate) fn adopt(&mut self, slot: u32, content: &Arc<Content>) {
        while self.slots.len() <= slot as usize {
            self.slots.push(Slot { released: true, ..Slot::default() });
        }
        self.slots[slot as usize] =
            Slot { content: Arc::downgrade(content), length: content.length(), entries: 0, released: false };
    }

    /// Ends the adopting: slots in between are free.
    pub(crate) fn adopted(&mut self) {
        self.free = (0..).zip(&self.slots).filter(|(_, slot)| slot.released).map(|(index, _)| index).collect();
    }

    /// The content of `slot` is gone for good.
    pub(crate) fn release(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.content = Weak::new();
        entry.released = true;
        if entry.entries == 0 {
            self.free.push(slot);
        } else {
            self.stale += entry.entries as usize;
            self.sweep_if_mostly_stale();
        }
    }

    /// The contents that have slots, for a walk without the lock.
    pub(crate) fn contents(&self) -> Vec<Arc<Content>> {
        self.slots.iter().filter_map(|slot| slot.content.upgrade()).collect()
    }

    /// The first content at or after `slot`, with its slot.
    pub(crate) fn next_content(&self, slot: u32) -> Option<(u32, Arc<Content>)> {
        (slot..).zip(self.slots.get(slot as usize..)?).find_map(|(at, slot)| Some((at, slot.content.upgrade()?)))
    }

    /// Queues a page that became present.
    pub(crate) fn insert(&mut self, content: &Arc<Content>, slot: u32, page: u32) {
        let unit = Entry::of(slot, (!content.is_one_unit()).then_some(page));
        if content.set_queued(unit.page(), true) {
            return;
        }
        self.slots[slot as usize].entries += 1;
        let bytes = self.bytes(unit);
        if self.ghost.take(self.fingerprint(content.id(), unit)) {
            self.main.push(unit, bytes);
        } else {
            self.small.push(unit, bytes);
        }
    }

    /// Queues a page found at open: it has survived before, so it does not have to prove itself again.
    pub(crate) fn insert_recovered(&mut self, content: &Arc<Content>, slot: u32, page: u32) {
        let unit = Entry::of(slot, (!content.is_one_unit()).then_some(page));
        if !content.set_queued(unit.page(), true) {
            self.slots[slot as usize].entries += 1;
            self.main.push(unit, self.bytes(unit));
        }
    }

    /// Puts back a victim that could not be evicted after all.
    pub(crate) fn put_back(&mut self, victim: &Victim, slot: u32) {
        let unit = Entry::of(slot, victim.page);
        if !victim.content.is_gone() && !victim.content.set_queued(victim.page, true) {
            self.slots[slot as usize].entries += 1;
            self.main.push(unit, self.bytes(unit));
        }
    }

    /// Most entries that a search for one victim needs to look at: after so many, each was seen often enough for its
    /// count of uses to have run out.
    pub(crate) fn patience(&self) -> usize {
        (self.small.len() + self.main.len()) * (usize::from(pages::MAX_FREQUENCY) + 2)
    }

    /// Looks for a unit to evict, at a bounded number of entries. `recall` is told of contents that are cold but lent.
    pub(crate) fn search(&mut self, mut recall: impl FnMut(&Arc<Content>)) -> Search {
        for _ in 0..VISITS_PER_HOLD {
            let from_small = self.main.is_empty() || self.small.bytes() > self.small_target;
            let Some(unit) = (if from_small { self.small.pop() } else { self.main.pop() }) else {
                return Search::Empty;
            };
            let bytes = self.bytes(unit);
            let queue = if from_small { &mut self.small } else { &mut self.main };
            queue.subtract(bytes);
            let Some(content) = self.live(unit) else {
                self.forget(unit);
                continue;
            };
            let uses = content.uses(unit.page());
            if from_small && uses > 1 {
                content.set_uses(unit.page(), uses - 1);
                self.main.push(unit, bytes);
            } else if !from_small && uses > 0 {
                content.age(unit.page());
                self.main.push(unit, bytes);
            } else if content.is_lent() {
                recall(&content);
                self.main.push(unit, bytes);
            } else {
                if from_small {
                    self.ghost.remember(self.fingerprint(content.id(), unit));
                }
                self.forget(unit);
                return Search::Found(Victim { content, page: unit.page() });
            }
        }
        if self.small.is_empty() && self.main.is_empty() { Search::Empty } else { Search::More(VISITS_PER_HOLD) }
    }

    /// The content of an entry whose unit is still there.
    fn live(&self, unit: Entry) -> Option<Arc<Content>> {
        let content = self.slots[unit.slot as usize].content.upgrade()?;
        (!content.is_gone() && content.holds(unit.page())).then_some(content)
    }

    /// An entry left its queue for good.
    fn forget(&mut self, unit: Entry) {
        let slot = &mut self.slots[unit.slot as usize];
        if let Some(content) = slot.content.upgrade() {
            content.set_queued(unit.page(), false);
        }
        slot.entries -= 1;
        if slot.released {
            self.stale -= 1;
            if slot.entries == 0 {
                self.free.push(unit.slot);
            }
        }
    }

    fn sweep_if_mostly_stale(&mut self) {
        if self.stale < 1024 || self.stale < (self.small.len() + self.main.len()) / 2 {
            return;
        }
        for main in [false, true] {
            let queue = std::mem::take(if main { &mut self.main } else { &mut self.small });
            let mut kept = Queue::default();
            for unit in queue {
                if self.slots[unit.slot as usize].released {
                    self.forget(unit);
                } else {
                    kept.push(unit, self.bytes(unit));
                }
            }
            *(if main { &mut self.main } else { &mut self.small }) = kept;
        }
    }

    /// What a unit may occupy. Small contents count whole, also while not all of their pages are there.
    fn bytes(&self, unit: Entry) -> u64 {
        let length = self.slots[unit.slot as usize].length;
        charge(unit.page().map_or(length, |page| page_len(page.into(), length)))
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of a good hash is a good hash")]
    fn fingerprint(&self, id: ContentId, unit: Entry) -> u32 {
        self.hasher.hash_one((id, unit.page())) as u32
    }
}

/// Bytes that a page of `length` bytes counts as.
pub(crate) const fn charge(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

/// Counts a use in a word that may be shared; see [`Content::uses`].
pub(crate) fn count_use_of_content(uses: &std::sync::atomic::AtomicU8) {
    let update = |old: u8| (old < pages::MAX_FREQUENCY).then(|| old + 1);
    let _saturated = uses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
}
