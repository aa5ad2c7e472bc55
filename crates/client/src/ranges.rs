//! Reading many ranges with few requests.

use bytes::Bytes;
use headpond_types::ByteRange;

/// Ranges that are no further apart than this are fetched as one: transferring 64 KiB in vain costs about as much as another
/// request at 10 Gbit/s.
const GAP: u64 = 64 << 10;

/// Which ranges to fetch, and how to cut the wanted ones out of them.
#[derive(Debug)]
pub(crate) struct Plan {
    wanted: Vec<ByteRange>,
    /// Disjoint, in order, none empty.
    fetches: Vec<ByteRange>,
}

impl Plan {
    /// A plan for `wanted`, in any order; they may overlap or be empty.
    pub(crate) fn new(wanted: Vec<ByteRange>) -> Self {
        let mut sorted: Vec<_> = wanted.iter().filter(|range| !range.is_empty()).cloned().collect();
        sorted.sort_by_key(|range| range.start);
        let mut fetches: Vec<ByteRange> = Vec::new();
        for range in sorted {
            match fetches.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(GAP) => last.end = last.end.max(range.end),
                _ => fetches.push(range),
            }
        }
        Self { wanted, fetches }
    }

    /// What to fetch.
    pub(crate) fn fetches(&self) -> &[ByteRange] {
        &self.fetches
    }

    /// The wanted ranges out of what was fetched, which shares its memory with them.
    pub(crate) fn cut(&self, fetched: &[Bytes]) -> Vec<Bytes> {
        let cut = |range: &ByteRange| {
            if range.is_empty() {
                return Bytes::new();
            }
            let index = self.fetches.partition_point(|fetch| fetch.end < range.end);
            let from = usize::try_from(range.start - self.fetches[index].start).expect("it is in memory");
            let length = usize::try_from(range.end - range.start).expect("it is in memory");
            fetched[index].slice(from..from + length)
        };
        self.wanted.iter().map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn near_ranges_are_fetched_together_and_far_ones_apart() {
        let far = 10 * GAP;
        let plan = Plan::new(vec![far..far + 5, 0..10, 10 + GAP..20 + GAP, 3..3]);
        assert_eq!(plan.fetches(), [0..20 + GAP, far..far + 5]);
    }

    proptest! {
        #[test]
        fn every_range_gets_its_own_bytes(ranges in prop::collection::vec((0_u64..500_000, 0_u64..3_000), 0..20)) {
            let byte = |offset: u64| u8::try_from(offset % 251).expect("small");
            let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| start..start + length).collect();
            let plan = Plan::new(ranges.clone());
            let fetched: Vec<_> =
                plan.fetches().iter().map(|fetch| fetch.clone().map(byte).collect::<Bytes>()).collect();
            for (range, bytes) in ranges.into_iter().zip(plan.cut(&fetched)) {
                prop_assert_eq!(bytes, range.map(byte).collect::<Bytes>());
            }
        }
    }
}
