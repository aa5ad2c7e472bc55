//! How much of versions that the under store may have is still the beginning of a file: that need not be sent when the file is stored again.
//!
//! The versions are those that the file was, and one that another file is, which was copied into this one from its front.
//!
//! Invariant: before the length of a head, the staged bytes are those of its version. What may still be changed by a call that nobody waited for
//! counts as changed.

use headpond_proto::v1;
use headpond_types::{ContentId, InodeId};

/// Versions remembered: the one that was opened, and the last that were stored, of which the answers may have been lost.
const REMEMBERED: usize = 4;

/// A version of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) inode: InodeId,
    pub(super) content: ContentId,
}

/// The heads of a file.
#[derive(Debug)]
pub(super) struct Heads {
    /// Each version with the length of its head, the latest last.
    known: Vec<(ContentId, u64)>,
    /// What was copied last from the front of another file to the front of this one.
    original: Option<(Original, u64)>,
    /// The first byte that the change under way may make another.
    changing: Option<u64>,
    /// The same of all changes whose end nobody waited for.
    unsettled: u64,
}

impl Heads {
    /// Of a file that is the version `known`, which is so long.
    pub(super) fn new(known: Option<(ContentId, u64)>) -> Self {
        Self { known: known.into_iter().collect(), original: None, changing: None, unsettled: u64::MAX }
    }

    /// A change is about to be made, of no byte before `first`.
    pub(super) fn begin(&mut self, first: u64) {
        if let Some(before) = self.changing.replace(first) {
            self.unsettled = self.unsettled.min(before);
        }
        let original = self.original.iter_mut().map(|(_, length)| length);
        for length in self.known.iter_mut().map(|(_, length)| length).chain(original) {
            *length = first.min(*length);
        }
    }

    /// The change has ended.
    pub(super) const fn end(&mut self) {
        self.changing = None;
    }

    /// The change that has just ended made the bytes from `offset` to `end` those that `original` has there. Whether all before `end` are now.
    pub(super) fn copied(&mut self, original: Original, offset: u64, end: u64) -> bool {
        let before = match self.original {
            Some((known, length)) if known == original => length,
            Some(_) | None => 0,
        };
        if before < offset {
            return false;
        }
        let length = end.min(self.unsettled);
        self.original = Some((original, length));
        length == end
    }

    /// What was copied from the front of another file, and how much of it is still the beginning of this one.
    pub(super) const fn original(&self) -> Option<(Original, u64)> {
        self.original
    }

    /// The `length` bytes are about to be stored as `content`: the heads as they are now, of what the file itself was. Whether that succeeds is of no matter here: what was
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
    fn what_was_copied_is_a_head_up_to_the_first_byte_that_was_not() {
        let copy = |heads: &mut Heads, original, start, end| {
            change(heads, start);
            heads.copied(original, start, end)
        };
        let of = |n| Original { inode: InodeId(n), content: ContentId(n.into()) };
        let mut heads = Heads::new(None);
        assert!(!copy(&mut heads, of(7), 5, 9), "its front was not copied");
        assert_eq!(heads.original(), None);
        assert!(copy(&mut heads, of(7), 0, 100) && copy(&mut heads, of(7), 100, 150));
        assert_eq!(heads.original(), Some((of(7), 150)));
        // It is none that the file itself was.
        assert_eq!(store(&mut heads, FIRST, 150), []);
        assert_eq!(store(&mut heads, SECOND, 150), [(FIRST, 150)]);
        // Again, behind a gap, and from another.
        assert!(copy(&mut heads, of(7), 120, 170));
        assert!(!copy(&mut heads, of(7), 171, 200) && !copy(&mut heads, of(8), 150, 200));
        assert_eq!(heads.original(), Some((of(7), 150)));
        change(&mut heads, 90);
        assert_eq!(heads.original(), Some((of(7), 90)));
        assert!(copy(&mut heads, of(8), 0, 10));
        assert_eq!(heads.original(), Some((of(8), 10)));
    }

    #[test]
    fn what_was_copied_may_be_changed_by_what_nobody_waited_for() {
        let of = Original { inode: InodeId(7), content: OLD };
        let mut heads = Heads::new(None);
        heads.begin(30);
        change(&mut heads, 0);
        assert!(!heads.copied(of, 0, 100));
        assert_eq!(heads.original(), Some((of, 30)));
        change(&mut heads, 100);
        assert!(!heads.copied(of, 100, 200));
        assert_eq!(heads.original(), Some((of, 30)));
    }

    #[test]
    fn heads_are_what_the_files_have_in_common() {
        use rand::{RngExt as _, SeedableRng as _};
        let originals = [[1_u8; 64], [2; 64], [3; 64]];
        let mut rng = rand::rngs::StdRng::seed_from_u64(20_261);
        let (mut heads, mut bytes, mut copied) = (Heads::new(None), Vec::<u8>::new(), 0);
        for _ in 0..20_000 {
            let (start, length) = (rng.random_range(0..60_usize), rng.random_range(1..30_usize));
            let start = if rng.random_bool(0.5) { 0 } else { start };
            let end = (start + length).min(64);
            match rng.random_range(0..10) {
                0 => {
                    change(&mut heads, start as u64);
                    bytes.resize(start, 0);
                }
                1 => {
                    change(&mut heads, start as u64);
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[start..end].fill(9);
                }
                _ => {
                    let which = rng.random_range(0..originals.len());
                    let start = if rng.random_bool(0.5) { bytes.len().min(end - 1) } else { start };
                    change(&mut heads, start as u64);
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[start..end].copy_from_slice(&originals[which][start..end]);
                    let of = Original { inode: InodeId(which as u64), content: ContentId(which as u128) };
                    heads.copied(of, start as u64, end as u64);
                }
            }
            if let Some((of, length)) = heads.original() {
                let (which, length) = (usize::try_from(of.inode.0).unwrap(), usize::try_from(length).unwrap());
                assert_eq!(bytes[..length], originals[which][..length]);
                copied += length;
            }
        }
        assert!(copied > 20_000, "hardly anything was copied: {copied}");
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
