//! Arithmetic of pages, the unit of caching, and blocks, the unit of placement.

use std::ops::Range;

/// Bytes in a page. Larger wastes store bandwidth on random reads, smaller costs an index entry more per byte.
pub const PAGE_SIZE: u64 = 1 << 20;

/// Bytes in a block: all pages of a block have one owner on the ring.
pub const BLOCK_SIZE: u64 = 64 << 20;

/// A half-open range of byte offsets in a content.
pub type ByteRange = Range<u64>;

/// The number of pages of a content of `length` bytes; 0 for an empty one.
#[must_use]
pub const fn page_count(length: u64) -> u64 {
    length.div_ceil(PAGE_SIZE)
}

/// The bytes of page `page` of a content of `length` bytes; empty when the page lies past the end.
#[must_use]
pub fn page_range(page: u64, length: u64) -> ByteRange {
    let start = page.saturating_mul(PAGE_SIZE).min(length);
    start..start.saturating_add(PAGE_SIZE).min(length)
}

/// How many bytes page `page` of a content of `length` bytes has.
#[must_use]
pub fn page_len(page: u64, length: u64) -> u64 {
    let range = page_range(page, length);
    range.end - range.start
}

/// The pages that `range` touches; empty for an empty range.
#[must_use]
pub const fn pages_of(range: &ByteRange) -> Range<u64> {
    if range.start >= range.end {
        return 0..0;
    }
    range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE)
}

/// The block that holds `offset`.
#[must_use]
pub const fn block_of(offset: u64) -> u64 {
    offset / BLOCK_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_tile_a_content_exactly() {
        for length in [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE] {
            let sum: u64 = (0..page_count(length)).map(|page| page_len(page, length)).sum();
            assert_eq!(sum, length);
            assert_eq!(page_len(page_count(length), length), 0);
        }
    }

    #[test]
    fn a_range_touches_each_page_it_overlaps() {
        assert_eq!(pages_of(&(0..0)), 0..0);
        assert_eq!(pages_of(&(5..5)), 0..0);
        assert_eq!(pages_of(&(0..1)), 0..1);
        assert_eq!(pages_of(&(PAGE_SIZE - 1..PAGE_SIZE + 1)), 0..2);
        assert_eq!(pages_of(&(PAGE_SIZE..2 * PAGE_SIZE)), 1..2);
    }
}
