//! How much of versions that the under store may have is still the beginning of a file: that need not be sent when the file is stored again.
//!
//! Invariant: before the length of a head, the staged bytes are those of its version. What may still be changed by a call that nobody waited for
//! counts as changed.

use headpond_proto::v1;
use headpond_types::ContentId;

/// Versions remembered: the one that was opened, and the last that were stored, of which the answers may have been lost.
const REMEMBERED: usize = 4;

/// The heads of a file.
#[derive(Debug)]
pub(super) struct Heads {
    /// Each version with the length of its head, the latest last.
    known: Vec<(ContentId, u64)>,
    /// The first byte that the change under way may make another.
    changing: Option<u64>,
    /// The same of all changes whose end nobody waited for.
    unsettled: u64,
}

impl Heads {
    /// Of a file that is the version `known`, which is so long.
    pub(super) fn new(known: Option<(ContentId, u64)>) -> Self {
        Self { known: known.into_iter().collect(), changing: None, unsettled: u64::MAX }
    }

    /// A change is about to be made, of no byte before `first`.
    pub(super) fn begin(&mut self, first: u64) {
        if let Some(before) = self.changing.replace(first) {
            self.unsettled = self.unsettled.min(before);
        }
        for (_, length) in &mut self.known {
            *length = first.min(*length);
        }
    }

    /// The change has ended.
    pub(super) const fn end(&mut self) {
        self.changing = None;
    }

    /// The `length` bytes are about to be stored as `content`: the heads as they are now. Whether that succeeds is of no matter here: what was
    /// not stored is never the version that is replaced.
    pub(super) fn store(&mut self, content: ContentId, length: u64) -> Vec<v1::Head> {
        let known = self.known.iter().filter(|(_, length)| *length > 0);
        let head = |(content, length): &(ContentId, u64)| v1::Head {
            content: Some((*content).into()),
            length: *length,
            original: None,
        };
        let heads = known.map(head).collect();
        if self.known.len() == REMEMBERED {
            self.known.remove(0);
        }
        self.known.push((content, length.min(self.unsettled).min(self.changing.unwrap_or(u64::MAX))));
        heads
    }

    /// The length of the head of a version; 0 when it is not known any more.
    pub(super) fn unchanged_in(&self, content: ContentId) -> u64 {
        self.known.iter().rfind(|(known, _)| *known == content).map_or(0, |(_, length)| *length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ContentId = ContentId(1);
    const FIRST: ContentId = ContentId(2);
    const SECOND: ContentId = ContentId(3);

    fn of_old(size: u64) -> Heads {
        Heads::new(Some((OLD, size)))
    }

    fn change(heads: &mut Heads, first: u64) {
        heads.begin(first);
        heads.end();
    }

    fn store(heads: &mut Heads, content: ContentId, length: u64) -> Vec<(ContentId, u64)> {
        let heads = heads.store(content, length).into_iter();
        heads.map(|head| (head.content.expect("a content").into(), head.length)).collect()
    }

    #[test]
    fn a_head_ends_where_the_first_byte_may_be_another() {
        let mut heads = of_old(100);
        change(&mut heads, 100);
        assert_eq!(store(&mut heads, FIRST, 110), [(OLD, 100)]);
        change(&mut heads, 105);
        change(&mut heads, 107);
        assert_eq!(store(&mut heads, SECOND, 108), [(OLD, 100), (FIRST, 105)]);
        change(&mut heads, 0);
        assert_eq!(store(&mut heads, FIRST, 9), []);
        assert_eq!(store(&mut Heads::new(None), FIRST, 9), []);
    }

    #[test]
    fn a_change_that_nobody_waited_for_may_be_made_whenever() {
        let mut heads = of_old(100);
        heads.begin(50);
        assert_eq!(store(&mut heads, FIRST, 100), [(OLD, 50)]);
        change(&mut heads, 90);
        assert_eq!(store(&mut heads, SECOND, 100), [(OLD, 50), (FIRST, 50)]);
        change(&mut heads, 95);
        assert_eq!(store(&mut heads, ContentId(4), 100), [(OLD, 50), (FIRST, 50), (SECOND, 50)]);
    }

    #[test]
    fn a_change_while_the_file_is_stored_may_be_in_what_is_stored() {
        let mut heads = of_old(100);
        store(&mut heads, FIRST, 100);
        assert_eq!(heads.unchanged_in(FIRST), 100);
        change(&mut heads, 70);
        assert_eq!((heads.unchanged_in(FIRST), heads.unchanged_in(SECOND)), (70, 0));
        assert_eq!(store(&mut heads, SECOND, 100), [(OLD, 70), (FIRST, 70)]);
    }

    #[test]
    fn few_versions_are_remembered() {
        let mut heads = of_old(100);
        for content in 10..20 {
            store(&mut heads, ContentId(content), 100);
        }
        let known: Vec<_> = (16..20).map(|content| (ContentId(content), 100)).collect();
        assert_eq!(store(&mut heads, SECOND, 100), known);
    }
}
