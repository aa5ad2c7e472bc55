//! Which bytes of a partial cache file are known to be there.

use std::collections::BTreeMap;

use headpond_types::ByteRange;

/// A set of byte offsets as disjoint ranges that do not touch.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// End by start.
    ranges: BTreeMap<u64, u64>,
}

impl Present {
    /// Adds a range, merged with those it touches.
    pub(crate) fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let ByteRange { mut start, mut end } = range;
        while let Some((&before, &until)) = self.ranges.range(..=end).next_back() {
            if until < start {
                break;
            }
            self.ranges.remove(&before);
            start = start.min(before);
            end = end.max(until);
        }
        self.ranges.insert(start, end);
    }

    /// Whether all of `range` is in the set.
    pub(crate) fn covers(&self, range: &ByteRange) -> bool {
        range.is_empty() || self.ranges.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn touching_ranges_merge_and_gaps_stay() {
        let mut present = Present::default();
        present.insert(10..20);
        present.insert(30..40);
        assert!(present.covers(&(12..20)));
        assert!(!present.covers(&(10..31)));
        present.insert(20..30);
        assert!(present.covers(&(10..40)));
        assert_eq!(present.ranges.len(), 1);
        assert!(present.covers(&(50..50)));
        assert!(!present.covers(&(39..41)));
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_offsets(
            inserts in prop::collection::vec((0_u64..200, 0_u64..40), 0..40),
            asked in (0_u64..240, 0_u64..40),
        ) {
            let mut present = Present::default();
            let mut model = [false; 300];
            for (start, length) in inserts {
                present.insert(start..start + length);
                for offset in start..start + length {
                    model[usize::try_from(offset).expect("small")] = true;
                }
            }
            let asked = asked.0..asked.0 + asked.1;
            let expected = asked.clone().all(|offset| model[usize::try_from(offset).expect("small")]);
            prop_assert_eq!(present.covers(&asked), expected);
            let runs = model.windows(2).filter(|pair| !pair[0] && pair[1]).count() + usize::from(model[0]);
            prop_assert_eq!(present.ranges.len(), runs);
        }
    }
}
