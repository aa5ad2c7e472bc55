//! The beginning of a file that is still that of the version to be replaced, or that was copied from another file: the store copies it within itself, and
//! only what comes behind it is sent.
//!
//! Each copy is made on condition of that version, so a part is of no other bytes than those that are staged, unless they are changed meanwhile: of those who
//! write only the client knows, so it is told what was copied, and has the file stored again then. Where it cannot be made, as of an object that
//! was moved or replaced meanwhile, or by a store that copies no parts, all bytes are sent: whether that may replace what is there is decided by the condition
//! of the request that makes the object, as always.

use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use headpond_proto::v1;
use headpond_store::checksums;
use headpond_types::{ContentId, MountId, PAGE_SIZE, Result};
use headpond_ufs::{Key, Label};

use super::{
    Stager,
    parts::{PART, PARTS_AT_ONCE, Parts, Sender},
    settle::told,
};

/// Parts that are copied are so many times as large as those that are sent: 64 MiB, which any store copies well within the deadline of a request.
const COPIED: u64 = 4;

/// What the staged bytes begin with.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The object that begins with it, too: what is replaced, or another file's in the same mount.
    pub(super) key: Key,
    /// The version of it that does.
    pub(super) version: String,
    /// Its bytes.
    pub(super) length: u64,
}

impl Head {
    /// What was copied from another file of a mount, with that file's object, as far as it is shown that it may be read and the store has it.
    pub(super) fn original(stager: &Stager, heads: &[v1::Head]) -> Option<(MountId, Self)> {
        let granted = heads.iter().filter_map(|head| {
            let checked = stager.cluster.grants.check(Some(head.original.as_ref()?), stager.clock.now());
            let grant = checked
                .inspect_err(|error| tracing::debug!(%error, "what was copied from another file is sent"))
                .ok()
                .filter(|grant| !grant.is_dirty() && head.length <= grant.length)
                .filter(|grant| head.content.map(ContentId::from) == Some(grant.content))?;
            let (key, version) = (grant.key.clone(), grant.version.clone());
            Some((grant.mount, Self { key, version, length: head.length }))
        });
        granted.max_by_key(|(_, head)| head.length)
    }

    /// The longer of two; the first if they are of one length.
    pub(super) fn longer(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if other.length > one.length { other } else { one }),
            (one, other) => one.or(other),
        }
    }
}

/// A part of the upload.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Copied(Range<u64>),
    Sent(Range<u64>),
}

/// The parts of a file of `length` bytes that begins with a head, of which those that are sent have `part` bytes: never more than if all were
/// sent. `None` for a head that is shorter than a part: as many requests are made without it.
fn pieces(head: u64, length: u64, part: u64) -> Option<Vec<Piece>> {
    // Parts have the checksums of whole pages. A head that reaches to the end has that of the last one, too.
    let head = if head < length { head - head % PAGE_SIZE } else { length };
    if head < part {
        return None;
    }
    let size = part * COPIED;
    // The last one takes the rest, so none is smaller than stores take.
    let copies = (head / size).max(1);
    let copied = (0..copies).map(|n| n * size..if n + 1 == copies { head } else { (n + 1) * size });
    let sends = (length - head).div_ceil(part);
    let sent = (0..sends).map(|n| head + n * part..(head + (n + 1) * part).min(length));
    Some(copied.map(Piece::Copied).chain(sent.map(Piece::Sent)).collect())
}

impl Sender<'_> {
    /// Uploads a file of `length` bytes, of which those of its head are copied. `None` when nothing was begun, because it is not worth it. Dropped, or
    /// failed, it leaves an upload to be aborted in the background.
    ///
    /// # Errors
    /// What the store answered, naming mount and key; `Stale` when the staged file was ended.
    pub(super) async fn send_behind(
        &self,
        head: &Head,
        (part, length): (u64, u64),
        label: Label,
    ) -> Result<Option<Parts>> {
        let Some(pieces) = pieces(head.length, length, part) else {
            return Ok(None);
        };
        let (upload, noted) = self.begin(label, true).await?;
        let sending = (1..).zip(pieces).map(|(number, piece)| {
            let upload = &upload;
            async move {
                match piece {
                    Piece::Copied(range) => self.copied(head, upload, number, range).await,
                    Piece::Sent(range) => self.part(upload, number, range).await,
                }
            }
        });
        let parts: Vec<_> = stream::iter(sending).buffered(PARTS_AT_ONCE).try_collect().await?;
        let (tags, of_pages): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok(Some(Parts { upload, noted, tags, checksums: of_pages.concat().into() }))
    }

    /// As [`Sender::part`], of bytes that the store has.
    async fn copied(
        &self,
        head: &Head,
        upload: &str,
        number: u32,
        range: Range<u64>,
    ) -> Result<((u32, String), Vec<u32>)> {
        let key = &self.target.key;
        let copy = async {
            let copied = self.store.copy_part(key, upload, number, &head.key, range.clone(), &head.version).await;
            copied.map_err(|error| told(self.target, error))
        };
        let read = async {
            let mut of_pages = Vec::new();
            for start in range.clone().step_by(usize::try_from(PART).expect("a part fits in memory")) {
                let (_memory, bytes) = self.read(start, PART.min(range.end - start)).await?;
                of_pages.extend(checksums(&bytes));
            }
            Ok(of_pages)
        };
        let (tag, of_pages) = futures::try_join!(copy, read)?;
        Ok(((number, tag), of_pages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn planned(head: u64, length: u64) -> Option<Vec<Piece>> {
        pieces(head, length, PART)
    }

    #[test]
    fn what_lies_behind_the_head_is_sent() {
        let (copied, sent) = (Piece::Copied, Piece::Sent);
        assert_eq!(planned(64 * MIB, 64 * MIB + 5), Some(vec![copied(0..64 * MIB), sent(64 * MIB..64 * MIB + 5)]));
        // The page in which the head ends is sent as a whole.
        let length = 70 * MIB + 9;
        assert_eq!(planned(20 * MIB + 1, length), {
            let tail = [20, 36, 52, 68].map(|start| sent(start * MIB..((start + 16) * MIB).min(length)));
            Some([copied(0..20 * MIB)].into_iter().chain(tail).collect())
        });
        // A file that was only cut is all copied.
        assert_eq!(planned(90 * MIB, 33 * MIB + 3), Some(vec![copied(0..33 * MIB + 3)]));
    }

    #[test]
    fn no_part_is_smaller_than_stores_take_it_and_there_are_no_more_than_without() {
        let heads = [16, 17, 31, 32, 63, 64, 65, 127, 128, 192, 159_999].into_iter();
        let lengths = heads.flat_map(|head| [(head * MIB, head * MIB + 100), (head * MIB + 7, 10_000 * PART)]);
        for (head, length) in lengths {
            let pieces = planned(head, length).expect("worth it");
            assert!(pieces.len() as u64 <= length.div_ceil(PART), "{} parts", pieces.len());
            let ranges = pieces.iter().map(|(Piece::Copied(range) | Piece::Sent(range))| range.clone());
            let mut reached = 0;
            for range in ranges {
                assert_eq!(range.start, reached);
                assert!(range.end - range.start >= 5 * MIB || range.end == length, "{range:?}");
                reached = range.end;
            }
            assert_eq!(reached, length);
        }
    }

    #[test]
    fn a_short_head_is_not_worth_it() {
        assert_eq!(planned(0, 100 * MIB), None);
        assert_eq!(planned(16 * MIB - 1, 100 * MIB), None);
        assert!(planned(16 * MIB, 100 * MIB).is_some());
    }
}
