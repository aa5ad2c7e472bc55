//! What of a staged file the worker keeps, for what it was last acknowledged as: that may be changed through its descriptor.

use headpond_types::{ByteRange, ContentId};

use super::present::Present;

/// The worker is asked for whole pieces of so many bytes.
const ALIGNED: u64 = 4 << 10;

/// Most bytes that it is asked for ahead of who changes a file from front to end.
const AHEAD: u64 = 4 << 20;

/// The last version, and what of it is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    version: Option<(ContentId, u64)>,
    ranges: Present,
    /// What was asked for last.
    last: ByteRange,
}

impl Kept {
    /// What the file is now is a version of `length` bytes.
    pub(super) fn begin(&mut self, content: ContentId, length: u64) {
        *self = Self { version: Some((content, length)), ..Self::default() };
    }

    /// Whether the file may be changed in a range.
    pub(super) fn allows(&self, range: &ByteRange) -> bool {
        self.of_version(range).is_none_or(|(_, range)| self.ranges.covers(&range))
    }

    /// What the worker has to be asked to keep before the file is changed in a range: a range of the version, which has a content and a length.
    pub(super) fn missing(&self, range: &ByteRange) -> Option<((ContentId, u64), ByteRange)> {
        let (version, range) = self.of_version(range).filter(|(_, range)| !self.ranges.covers(range))?;
        let goes_on = range.start <= self.last.end && range.start > self.last.start;
        let ahead = if goes_on { (2 * (self.last.end - self.last.start)).min(AHEAD) } else { 0 };
        let end = range.end.max(range.start.saturating_add(ahead)).next_multiple_of(ALIGNED);
        Some((version, range.start / ALIGNED * ALIGNED..end.min(version.1)))
    }

    /// The worker keeps a range of a version.
    pub(super) fn add(&mut self, content: ContentId, range: ByteRange) {
        if self.version.is_some_and(|(version, _)| version == content) {
            self.last = range.clone();
            self.ranges.insert(range);
        }
    }

    /// The version, and what it has of a range, if that is not nothing.
    fn of_version(&self, range: &ByteRange) -> Option<((ContentId, u64), ByteRange)> {
        let version = self.version?;
        let range = range.start..range.end.min(version.1);
        (!range.is_empty()).then_some((version, range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const ONE: ContentId = ContentId(1);
    const OTHER: ContentId = ContentId(2);

    #[test]
    fn only_what_a_version_has_is_asked_for_and_once() {
        let mut kept = Kept::default();
        assert!(kept.allows(&(0..u64::MAX)) && kept.missing(&(0..u64::MAX)).is_none());
        kept.begin(ONE, 10 * KIB);
        assert!(kept.allows(&(10 * KIB..20 * KIB)) && kept.missing(&(10 * KIB..20 * KIB)).is_none());
        assert_eq!(kept.missing(&(5 * KIB..5 * KIB + 1)), Some(((ONE, 10 * KIB), 4 * KIB..8 * KIB)));
        kept.add(ONE, 4 * KIB..8 * KIB);
        assert!(kept.allows(&(6 * KIB..8 * KIB)) && !kept.allows(&(6 * KIB..9 * KIB)));
        assert_eq!(kept.missing(&(9 * KIB..u64::MAX)), Some(((ONE, 10 * KIB), 8 * KIB..10 * KIB)));
        kept.begin(OTHER, 8 * KIB);
        kept.add(ONE, 8 * KIB..10 * KIB);
        assert!(!kept.allows(&(6 * KIB..8 * KIB)));
    }

    #[test]
    fn who_goes_on_from_front_to_end_is_kept_ahead_of() {
        let mut kept = Kept::default();
        kept.begin(ONE, 1 << 30);
        let (mut asked, mut at) = (0, 0);
        while at < 64 << 20 {
            let range = at..at + 4 * KIB;
            if let Some(((content, _), missing)) = kept.missing(&range) {
                assert!(missing.start <= range.start && missing.end >= range.end);
                kept.add(content, missing);
                asked += 1;
            }
            assert!(kept.allows(&range));
            at += 4 * KIB;
        }
        assert!(asked < 40, "{asked} times");
        assert_eq!(kept.missing(&(900 << 20..(900 << 20) + 1)).expect("far off").1, 900 << 20..(900 << 20) + 4 * KIB);
    }
}
