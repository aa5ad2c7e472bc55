//! A first-in-first-out queue of units, 8 bytes each.

use std::collections::{VecDeque, vec_deque};

/// A unit of eviction: a page of the content in a slot, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    page: u32,
}

const WHOLE: u32 = u32::MAX;

impl Entry {
    pub(crate) fn of(slot: u32, page: Option<u32>) -> Self {
        Self { slot, page: page.unwrap_or(WHOLE) }
    }

    /// `None`: the whole content.
    pub(crate) fn page(self) -> Option<u32> {
        (self.page != WHOLE).then_some(self.page)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, entry: Entry, bytes: u64) {
        self.entries.push_back(entry);
        self.bytes += bytes;
    }

    /// The oldest entry; the caller takes its bytes off with [`Self::subtract`].
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        // A queue that was long once gives its memory back, so that both queues together stay within twice their entries.
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        self.entries.pop_front()
    }

    pub(crate) const fn subtract(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl IntoIterator for Queue {
    type Item = Entry;
    type IntoIter = vec_deque::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}
