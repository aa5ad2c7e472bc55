use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MAX: u64 = 256 * MIB;

/// What is asked for over a number of reads.
fn asked(readahead: &mut Readahead, reads: impl IntoIterator<Item = ByteRange>) -> Vec<ByteRange> {
    reads.into_iter().flat_map(|read| readahead.observe(&read)).collect()
}

fn sequential(from: u64, to: u64, size: u64) -> impl Iterator<Item = ByteRange> {
    (from..to).step_by(usize::try_from(size).expect("small")).map(move |start| start..(start + size).min(to))
}

#[test]
fn a_single_read_with_the_kernels_readahead_asks_for_nothing() {
    let mut readahead = Readahead::new(GIB, MAX);
    assert_eq!(asked(&mut readahead, sequential(512 * MIB, 514 * MIB, MIB / 4)), []);
}

#[test]
fn a_long_reader_keeps_the_whole_window_under_way() {
    let mut readahead = Readahead::new(GIB, MAX);
    let mut requested = 0;
    for read in sequential(0, GIB, MIB) {
        let front = read.end;
        if let Some(range) = readahead.observe(&read).last() {
            requested = range.end;
        }
        if front >= 64 * MIB {
            assert!(requested > (front + MAX - 8 * MIB).min(GIB - 1), "{requested} at {front}");
        }
    }
}

#[test]
fn pieces_grow_with_the_run() {
    let mut readahead = Readahead::new(4 * GIB, MAX);
    let begun = asked(&mut readahead, sequential(0, 3 * MIB, 128 << 10));
    assert_eq!(begun[..2], [2 * MIB + (128 << 10)..4 * MIB, 4 * MIB..6 * MIB]);
    asked(&mut readahead, sequential(3 * MIB, GIB, 128 << 10));
    let steady = asked(&mut readahead, sequential(GIB, 2 * GIB, 128 << 10));
    assert!(
        steady.iter().all(|range| range.start % (8 * MIB) == 0 && range.end - range.start == 8 * MIB),
        "{steady:?}"
    );
}

#[test]
fn reordered_reads_are_one_stream() {
    let mut readahead = Readahead::new(GIB, MAX);
    let mut reads: Vec<_> = sequential(0, 16 * MIB, MIB / 4).collect();
    reads.chunks_mut(4).for_each(|four| four.reverse());
    assert!(asked(&mut readahead, reads).last().is_some_and(|last| last.end >= 48 * MIB));
}

#[test]
fn two_readers_of_one_file_have_a_window_each() {
    let mut readahead = Readahead::new(GIB, MAX);
    let pairs = sequential(0, 8 * MIB, MIB).zip(sequential(512 * MIB, 520 * MIB, MIB));
    let asked = asked(&mut readahead, pairs.flat_map(|(a, b)| [a, b]));
    assert!(asked.iter().any(|range| range.end > 16 * MIB && range.end < 100 * MIB));
    assert!(asked.iter().any(|range| range.end > 528 * MIB));
}

#[test]
fn a_columnar_reader_is_left_alone() {
    let length = 100 * MIB;
    let mut readahead = Readahead::new(length, MAX);
    let reads = [length - 8..length, length - 60_000..length - 8, 4 * MIB..5 * MIB, 40 * MIB..41 * MIB];
    assert_eq!(asked(&mut readahead, reads), []);
}

#[test]
fn it_can_be_turned_off() {
    let mut readahead = Readahead::new(GIB, 0);
    assert_eq!(asked(&mut readahead, sequential(0, 64 * MIB, MIB)), []);
}

proptest! {
    #[test]
    fn random_readers_get_what_they_asked_for(starts in prop::collection::vec(0..GIB / 4096, 1..300)) {
        let mut starts = starts;
        starts.sort_unstable();
        starts.dedup();
        // No two touch, so there is no run.
        let mut reads: Vec<_> = starts.iter().map(|start| start * 4096..start * 4096 + 4000).collect();
        let middle = reads.len() / 2;
        reads.rotate_left(middle);
        prop_assert_eq!(asked(&mut Readahead::new(GIB, MAX), reads), []);
    }

    #[test]
    fn nothing_is_asked_for_twice_or_beyond_the_bounds(
        start in 0..GIB,
        sizes in prop::collection::vec(1..4 * MIB, 1..200),
        max in MIB..MAX,
    ) {
        let mut readahead = Readahead::new(2 * GIB, max);
        let (mut front, mut requested) = (start, start);
        for size in sizes {
            let read = front..(front + size).min(2 * GIB);
            front = read.end;
            for range in readahead.observe(&read) {
                prop_assert!(range.start >= requested && range.start >= front && range.start < range.end);
                prop_assert!(range.end <= 2 * GIB && range.end - front <= max);
                // What a reader that stops here has cost is bounded by what it read.
                prop_assert!(range.end - front <= RATIO * (front - start));
                requested = range.end;
            }
        }
    }
}
