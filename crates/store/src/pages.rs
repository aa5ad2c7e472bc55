//! The pages of one content: a word of state per page, readable without a lock.
//!
//! A word holds the page's CRC32C in its low half and flags above. Words of small contents stand side by side; large
//! contents allocate theirs in groups when the first page of a group arrives, so a long content of which little is cached
//! stays small: 8 bytes a page within a group, 2 bytes per page of length for the table of groups.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// All bytes are written and the index knows.
pub(crate) const PRESENT: u64 = 1 << 32;
/// The checksum was computed or compared since the store was opened.
pub(crate) const VERIFIED: u64 = 1 << 33;
/// The eviction queues hold an entry for the page.
pub(crate) const QUEUED: u64 = 1 << 34;
const FREQUENCY_SHIFT: u32 = 35;
/// Largest count of accesses that is remembered, as in S3-FIFO.
pub(crate) const MAX_FREQUENCY: u8 = 3;
const CRC_MASK: u64 = 0xffff_ffff;

/// Pages a group of a large content.
const GROUP: usize = 8;

type Group = Box<[AtomicU64; GROUP]>;

#[derive(Debug)]
pub(crate) enum PageTable {
    One(AtomicU64),
    Dense(Box<[AtomicU64]>),
    Sparse(Box<[OnceLock<Group>]>),
}

impl PageTable {
    /// A table for `pages` pages, none of them present.
    pub(crate) fn new(pages: u32) -> Self {
        let pages = pages as usize;
        match pages {
            0 | 1 => Self::One(AtomicU64::new(0)),
            2..=GROUP => Self::Dense((0..pages).map(|_| AtomicU64::new(0)).collect()),
            _ => Self::Sparse((0..pages.div_ceil(GROUP)).map(|_| OnceLock::new()).collect()),
        }
    }

    /// The word of `page`; `None` when it was never touched or lies past the end.
    pub(crate) fn get(&self, page: u32) -> Option<&AtomicU64> {
        let page = page as usize;
        match self {
            Self::One(word) => (page == 0).then_some(word),
            Self::Dense(words) => words.get(page),
            Self::Sparse(groups) => groups.get(page / GROUP)?.get()?.get(page % GROUP),
        }
    }

    /// As [`Self::get`], making room for the word. `None` only past the end.
    pub(crate) fn get_or_make(&self, page: u32) -> Option<&AtomicU64> {
        match self {
            Self::Sparse(groups) => {
                let group = groups.get(page as usize / GROUP)?;
                group.get_or_init(|| Box::new([const { AtomicU64::new(0) }; GROUP])).get(page as usize % GROUP)
            }
            Self::One(_) | Self::Dense(_) => self.get(page),
        }
    }

    /// The word's value, 0 for a page never touched.
    pub(crate) fn load(&self, page: u32) -> u64 {
        self.get(page).map_or(0, |word| word.load(Ordering::Acquire))
    }

    pub(crate) fn is_present(&self, page: u32) -> bool {
        self.load(page) & PRESENT != 0
    }
}

/// The checksum in a word.
pub(crate) const fn crc_of(word: u64) -> u32 {
    (word & CRC_MASK) as u32
}

/// Makes the page present with `crc`; other flags (queued, frequency) stay.
pub(crate) fn publish(word: &AtomicU64, crc: u32, flags: u64) {
    let update = |old: u64| Some(old & !(CRC_MASK | VERIFIED) | u64::from(crc) | PRESENT | flags);
    let _always_some = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
}

/// How often the page was used lately, 0 to [`MAX_FREQUENCY`].
#[expect(clippy::cast_possible_truncation, reason = "two bits are left")]
pub(crate) const fn frequency(word: u64) -> u8 {
    ((word >> FREQUENCY_SHIFT) & MAX_FREQUENCY as u64) as u8
}

/// Counts one use of the page.
pub(crate) fn count_use(word: &AtomicU64) {
    // A word at its maximum is left alone, so hot pages cost no write to a shared cache line.
    let update = |old: u64| (frequency(old) < MAX_FREQUENCY).then(|| old + (1 << FREQUENCY_SHIFT));
    let _saturated = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
}

/// Sets the frequency of the page.
pub(crate) fn set_frequency(word: &AtomicU64, frequency: u8) {
    let bits = u64::from(frequency.min(MAX_FREQUENCY)) << FREQUENCY_SHIFT;
    let update = |old: u64| Some(old & !(u64::from(MAX_FREQUENCY) << FREQUENCY_SHIFT) | bits);
    let _always_some = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_exactly_its_pages() {
        for pages in [1, 2, 8, 9, 17] {
            let table = PageTable::new(pages);
            for page in 0..pages {
                publish(table.get_or_make(page).expect("a word"), page + 7, VERIFIED);
            }
            for page in 0..pages {
                assert_eq!(crc_of(table.load(page)), page + 7);
                assert!(table.is_present(page));
            }
            assert!(!table.is_present(pages.next_multiple_of(8)));
        }
    }

    #[test]
    fn frequency_saturates_and_leaves_the_rest_alone() {
        let word = AtomicU64::new(0);
        publish(&word, u32::MAX, 0);
        for _ in 0..5 {
            count_use(&word);
        }
        let value = word.load(Ordering::Relaxed);
        assert_eq!((frequency(value), crc_of(value), value & VERIFIED), (MAX_FREQUENCY, u32::MAX, 0));
        set_frequency(&word, 1);
        assert_eq!(frequency(word.load(Ordering::Relaxed)), 1);
    }
}
