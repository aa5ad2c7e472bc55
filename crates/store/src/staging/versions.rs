//! What a staged file was whenever it was made durable, while it is changed in place.
//!
//! Before bytes of the latest such *version* are changed for the first time, they are written to a file beside it (a *segment*). So a version is the
//! file as it is now, with what was kept of it, and of the versions after it, laid over: that of the oldest on top.
//!
//! Invariants:
//! 1. Bytes are changed only while the latest version does not have them, or after they were kept for it. Who changes the file through a descriptor
//!    has asked for that before.
//! 2. Who reads a version reads the file first and what was kept afterwards, while nothing is kept: what was changed in between was kept before.
//! 3. A version is forgotten only after all that are older. A segment is removed with the last version that has something in it.
//! 4. While there are segments, each has the records in the order in which versions were begun: a version that comes then is noted
//!    although it has nothing yet. So of a version that they do not name it is known, after the death of the process, that it is older than all
//!    that they have. Segments are not synced: a machine that loses power keeps of changes, and of what was before, what it happened to write.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use headpond_types::ContentId;

use crate::dir::{Claim, Claims, Dir};

/// Most bytes in one record.
const PIECE: u64 = 1 << 20;

/// A segment that is longer gets no more records.
const SEGMENT: u64 = 64 << 20;

/// Begins each record: "HPkv".
const MAGIC: u32 = 0x766b_5048;

/// Magic, length of the bytes, content, its length, offset of the bytes in it, and the CRC32C of all that and of the bytes.
const HEADER: usize = 4 + 4 + 16 + 8 + 8 + 4;

/// The versions of one staged file, the oldest first.
#[derive(Debug)]
pub(crate) struct Versions {
    dir: Arc<Dir>,
    generation: u32,
    versions: VecDeque<Version>,
    /// The segment that records are added to.
    current: Option<Arc<Segment>>,
    next_segment: u32,
    stay: Arc<AtomicBool>,
    /// In all segments.
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Version {
    claim: Claim,
    /// What was changed since, by offset.
    kept: BTreeMap<u64, Kept>,
    /// Where it is noted that it was begun; that stays as long as it does.
    noted: Option<Arc<Segment>>,
    /// Shared with those who read it.
    users: Arc<()>,
}

/// Bytes in a segment.
#[derive(Debug)]
struct Kept {
    length: u64,
    segment: Arc<Segment>,
    at: u64,
}

/// Removed when nobody needs it.
#[derive(Debug)]
struct Segment {
    dir: Arc<Dir>,
    generation: u32,
    number: u32,
    file: File,
    size: AtomicU64,
    /// It is left for the next open.
    stay: Arc<AtomicBool>,
    /// In all segments of the file.
    bytes: Arc<AtomicU64>,
}

impl Segment {
    fn grow_to(&self, size: u64) {
        let before = self.size.swap(size, Ordering::Relaxed);
        self.bytes.fetch_add(size - before, Ordering::Relaxed);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size.load(Ordering::Relaxed), Ordering::Relaxed);
        if !self.stay.load(Ordering::Acquire) {
            self.dir.remove_segment(self.generation, self.number);
        }
    }
}

/// A version stays readable while this is there.
#[derive(Clone, Debug)]
#[must_use]
pub struct Held {
    _users: Arc<()>,
}

impl Versions {
    /// Of a file that was not made durable yet.
    pub(crate) fn new(dir: Arc<Dir>, generation: u32) -> Self {
        let versions = VecDeque::new();
        Self { dir, generation, versions, current: None, next_segment: 0, stay: Arc::default(), bytes: Arc::default() }
    }

    /// As an earlier process left it. Does IO.
    pub(crate) fn recovered(dir: Arc<Dir>, generation: u32, claims: &Claims, segments: &[u32]) -> io::Result<Self> {
        let mut this = Self::new(dir, generation);
        for number in segments {
            let segment = this.segment(*number, this.dir.open_segment(generation, *number)?);
            let mut at = 0;
            while let Some((claim, offset, length)) = read_record(&segment.file, at)? {
                let known = this.versions.iter_mut().find(|version| version.claim.id == claim.id);
                let version = match known {
                    Some(version) => version,
                    None => {
                        this.versions.push_back(Version::new(claim, Some(Arc::clone(&segment))));
                        this.versions.back_mut().expect("just put there")
                    }
                };
                if length > 0 {
                    let kept = Kept { length, segment: Arc::clone(&segment), at: at + HEADER as u64 };
                    version.kept.insert(offset, kept);
                }
                at += HEADER as u64 + length;
            }
            segment.grow_to(at);
            this.next_segment = this.next_segment.max(number + 1);
        }
        let is_unnamed = |claim: &&Claim| this.place(claim.id).is_none();
        let older: Vec<_> = claims.as_slice().iter().filter(is_unnamed).copied().collect();
        older.into_iter().rev().for_each(|claim| this.versions.push_front(Version::new(claim, None)));
        Ok(this)
    }

    /// What the file has from now on is a version; nothing is done for one that is known. Does IO.
    pub(crate) fn begin(&mut self, claim: Claim) -> io::Result<()> {
        if self.place(claim.id).is_some() {
            return Ok(());
        }
        let noted = match self.current {
            Some(_) => Some(self.append(claim, 0, &mut [0; HEADER])?.0),
            None => None,
        };
        self.versions.push_back(Version::new(claim, noted));
        Ok(())
    }

    /// Forgets versions that are not among `claims`, are older than all that are, and that nobody reads. Does IO.
    pub(crate) fn forget(&mut self, claims: &Claims) {
        let is_needed =
            |version: &Version| claims.of(version.claim.id).is_some() || Arc::strong_count(&version.users) > 1;
        while self.versions.front().is_some_and(|version| !is_needed(version)) {
            self.versions.pop_front();
        }
        if self.versions.iter().all(|version| version.kept.is_empty()) {
            // All are alike, so their order is of no matter.
            self.versions.iter_mut().for_each(|version| version.noted = None);
            self.current = None;
        }
    }

    /// Whether `range` of the file may be changed: the latest version does not have it, or it was kept.
    pub(crate) fn allows(&self, range: &Range<u64>) -> bool {
        self.versions.back().is_none_or(|version| version.gaps(range).is_empty())
    }

    /// Keeps `range` of `file` for the latest version, as far as that was not done. Does IO.
    pub(crate) fn keep(&mut self, file: &File, range: &Range<u64>) -> io::Result<()> {
        let Some(version) = self.versions.back() else { return Ok(()) };
        let (claim, gaps) = (version.claim, version.gaps(range));
        let mut record = Vec::new();
        for gap in gaps {
            let mut start = gap.start;
            while start < gap.end {
                let length = (gap.end - start).min(PIECE);
                record.clear();
                record.resize(HEADER + usize::try_from(length).expect("a piece fits in memory"), 0);
                file.read_exact_at(&mut record[HEADER..], start)?;
                let (segment, at) = self.append(claim, start, &mut record)?;
                let kept = Kept { length, segment, at: at + HEADER as u64 };
                self.versions.back_mut().expect("it was there").kept.insert(start, kept);
                start += length;
            }
        }
        Ok(())
    }

    /// The length of a version.
    pub(crate) fn length(&self, id: ContentId) -> Option<u64> {
        Some(self.versions[self.place(id)?].claim.length)
    }

    /// Keeps a version readable.
    pub(crate) fn hold(&self, id: ContentId) -> Option<Held> {
        Some(Held { _users: Arc::clone(&self.versions[self.place(id)?].users) })
    }

    /// Makes `bytes`, which the file has from `offset` on, those that a version has there. Does IO.
    pub(crate) fn lay_over(&self, id: ContentId, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let Some(place) = self.place(id) else { return Ok(()) };
        let range = offset..offset + bytes.len() as u64;
        for version in self.versions.range(place..).rev() {
            for (start, kept) in version.within(&range) {
                let (from, to) = (range.start.max(start), range.end.min(start + kept.length));
                let into = &mut bytes[index(from - offset)..index(to - offset)];
                kept.segment.file.read_exact_at(into, kept.at + (from - start))?;
            }
        }
        Ok(())
    }

    /// Whether nothing was changed in place between two versions: one is the beginning of the other.
    pub(crate) fn are_alike(&self, one: ContentId, other: ContentId) -> bool {
        let (Some(one), Some(other)) = (self.place(one), self.place(other)) else { return false };
        self.versions.range(one.min(other)..one.max(other)).all(|version| version.kept.is_empty())
    }

    /// Makes `file` what a version was, as far as that went. It can be done again. Does IO.
    pub(crate) fn roll_back(&self, id: ContentId, file: &File) -> io::Result<()> {
        let Some(place) = self.place(id) else { return Ok(()) };
        let mut bytes = Vec::new();
        for version in self.versions.range(place..).rev() {
            for (start, kept) in &version.kept {
                bytes.resize(index(kept.length), 0);
                kept.segment.file.read_exact_at(&mut bytes, kept.at)?;
                file.write_all_at(&bytes, *start)?;
            }
        }
        Ok(())
    }

    /// Bytes in segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Segments stay for the next open.
    pub(crate) fn leave_behind(&self) {
        self.stay.store(true, Ordering::Release);
    }

    fn segment(&self, number: u32, file: File) -> Arc<Segment> {
        let (dir, stay, bytes) = (Arc::clone(&self.dir), Arc::clone(&self.stay), Arc::clone(&self.bytes));
        Arc::new(Segment { dir, generation: self.generation, number, file, size: AtomicU64::new(0), stay, bytes })
    }

    fn place(&self, id: ContentId) -> Option<usize> {
        self.versions.iter().position(|version| version.claim.id == id)
    }

    /// Adds a record, whose bytes stand behind room for its header: where it begins.
    fn append(&mut self, claim: Claim, offset: u64, record: &mut [u8]) -> io::Result<(Arc<Segment>, u64)> {
        let (header, bytes) = record.split_at_mut(HEADER);
        let length = u32::try_from(bytes.len()).expect("a piece is short");
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8..24].copy_from_slice(&claim.id.0.to_le_bytes());
        header[24..32].copy_from_slice(&claim.length.to_le_bytes());
        header[32..40].copy_from_slice(&offset.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..40]), bytes);
        header[40..44].copy_from_slice(&crc.to_le_bytes());
        let full = |segment: &&Arc<Segment>| segment.size.load(Ordering::Relaxed) < SEGMENT;
        let segment = match self.current.as_ref().filter(full) {
            Some(segment) => Arc::clone(segment),
            None => {
                let file = self.dir.create_segment(self.generation, self.next_segment)?;
                let segment = self.segment(self.next_segment, file);
                self.next_segment += 1;
                self.current = Some(Arc::clone(&segment));
                segment
            }
        };
        let at = segment.size.load(Ordering::Relaxed);
        if let Err(error) = segment.file.write_all_at(record, at) {
            // What is left of it could be taken for a record behind the next.
            let _it_has_a_checksum = segment.file.set_len(at);
            return Err(error);
        }
        segment.grow_to(at + record.len() as u64);
        Ok((segment, at))
    }
}

impl Version {
    fn new(claim: Claim, noted: Option<Arc<Segment>>) -> Self {
        Self { claim, kept: BTreeMap::new(), noted, users: Arc::default() }
    }

    /// What was kept and touches a range, by offset.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Kept)> {
        let before = self.kept.range(..range.start).next_back();
        let before = before.filter(|(start, kept)| *start + kept.length > range.start);
        let inside = if range.is_empty() { None } else { Some(self.kept.range(range.clone())) };
        before.into_iter().chain(inside.into_iter().flatten()).map(|(start, kept)| (*start, kept))
    }

    /// What of a range it has, and was not kept.
    fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let range = range.start..range.end.min(self.claim.length);
        let (mut gaps, mut at) = (Vec::new(), range.start);
        if range.is_empty() {
            return gaps;
        }
        for (start, kept) in self.within(&range) {
            if start > at {
                gaps.push(at..start);
            }
            at = at.max(start + kept.length);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }
}

/// The record at `at`, if one is there: its version, and offset and length of the bytes.
fn read_record(file: &File, at: u64) -> io::Result<Option<(Claim, u64, u64)>> {
    let mut header = [0; HEADER];
    if !read_whole(file, &mut header, at)? {
        return Ok(None);
    }
    let word = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("eight bytes"));
    let half = |at: usize| u32::from_le_bytes(*header[at..].first_chunk().expect("four bytes"));
    let (magic, length, crc) = (half(0), u64::from(half(4)), half(40));
    if magic != MAGIC || length > PIECE {
        return Ok(None);
    }
    let mut bytes = vec![0; index(length)];
    let is_whole = read_whole(file, &mut bytes, at + HEADER as u64)?;
    if !is_whole || crc32c::crc32c_append(crc32c::crc32c(&header[..40]), &bytes) != crc {
        return Ok(None);
    }
    let id = ContentId(u128::from_le_bytes(*header[8..].first_chunk().expect("sixteen bytes")));
    Ok(Some((Claim { id, length: word(24) }, word(32), length)))
}

/// Fills `buffer` from `at` on; whether the file reaches so far.
fn read_whole(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset in memory")
}
