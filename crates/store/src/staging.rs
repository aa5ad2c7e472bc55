//! Files that are being written.

mod versions;

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use headpond_types::{ContentId, PAGE_SIZE};
use rustix::{buffer::spare_capacity, fs::OFlags, io::Errno};

pub use self::versions::Held;
use self::versions::Versions;
use crate::{
    content::MAX_LENGTH,
    dir::{Claim, Claims, Dir, FULL_DISK_BYTES, Reservation, is_full},
    error::{Result, StoreError},
    policy::charge,
    shared::{lock, read, write},
};

/// Bytes of a version that are read at a time: who changes the file waits for no more.
const PIECE: usize = 1 << 20;

/// A sparse file in a cache directory whose bytes are no content yet. What it occupies counts against the directory's capacity, and clean
/// contents are evicted for it. Dropping it removes the file, unless it was made durable as a content: then the next open of the store finds it.
/// Descriptors that were handed out lead to a file without a name then.
///
/// Every method does IO. Methods may run side by side; what overlapping writes leave is theirs to settle.
#[derive(Debug)]
pub struct Staging {
    dir: Arc<Dir>,
    file: File,
    generation: u32,
    /// What the file occupied when it was last looked at.
    charge: Mutex<Reservation>,
    /// What its bytes were made durable as. Taken before `versions`.
    claims: Mutex<Claims>,
    /// What its bytes were then. Read-locked while the file is changed, or a version read.
    versions: RwLock<Versions>,
    /// The file is a content's by now, or left to the next open.
    moved: bool,
}

impl Staging {
    pub(crate) fn create(dir: Arc<Dir>) -> Result<Self> {
        let (generation, charge) = (dir.next_generation(), Mutex::new(dir.nothing_reserved()));
        let create = || dir.create_staged(generation);
        let mut file = create();
        if file.as_ref().is_err_and(is_full) && dir.evict_bytes(FULL_DISK_BYTES) {
            file = create();
        }
        let file = file.map_err(|error| dir.write_error("stage a file", error))?;
        let versions = RwLock::new(Versions::new(Arc::clone(&dir), generation));
        Ok(Self { dir, file, generation, charge, claims: Mutex::default(), versions, moved: false })
    }

    /// What an earlier process staged and made durable.
    pub(crate) fn recovered(dir: Arc<Dir>, generation: u32, claims: Claims, segments: &[u32]) -> Result<Self> {
        let file = dir.open_staged(generation, OFlags::RDWR);
        let file = file.map_err(|error| dir.error("open a staged file", error))?;
        let versions = Versions::recovered(Arc::clone(&dir), generation, &claims, segments);
        let versions = RwLock::new(versions.map_err(|error| dir.error("read what a staged file was", error))?);
        let charge = Mutex::new(dir.nothing_reserved());
        Ok(Self { dir, file, generation, charge, claims: Mutex::new(claims), versions, moved: false })
    }

    /// Writes `bytes` at `offset`; what lies between there and the end before reads as zeros.
    ///
    /// `Full`: no room can be made, or the disk is full; some of the bytes may have been written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check_end(offset.saturating_add(bytes.len() as u64))?;
        let (offset, bytes) = self.news(offset, bytes)?;
        let length = bytes.len() as u64;
        let _ahead = self.dir.reserve(charge(length))?;
        let versions = self.to_change(&(offset..offset + length))?;
        let write = || self.file.write_all_at(bytes, offset);
        let mut written = write();
        if written.as_ref().is_err_and(is_full) && self.dir.evict_bytes(length.max(FULL_DISK_BYTES)) {
            written = write();
        }
        drop(versions);
        let counted = self.count();
        written.and(counted).map_err(|error| self.dir.write_error("write a staged file", error))
    }

    /// The bytes from `offset`, up to `length`; fewer only at the end of the file.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        read_at(&self.dir, &self.file, offset, length)
    }

    /// The same, read behind what is in `buffer`.
    pub fn read_onto(&self, offset: u64, length: usize, buffer: Vec<u8>) -> Result<Vec<u8>> {
        read_onto(&self.dir, &self.file, offset, length, buffer)
    }

    /// Makes the file `length` bytes long; what is added reads as zeros.
    ///
    /// `Full`: files cannot be so long.
    pub fn set_len(&self, length: u64) -> Result<()> {
        self.check_end(length)?;
        let versions = self.to_change(&(length..u64::MAX))?;
        let done = self.file.set_len(length);
        drop(versions);
        let done = done.and_then(|()| self.count());
        done.map_err(|error| self.dir.write_error("set the length of a staged file", error))
    }

    /// The same, of a file that nobody writes any more, without keeping what it was.
    pub(crate) fn cut(&self, length: u64) -> Result<()> {
        let done = self.file.set_len(length).and_then(|()| self.count());
        done.map_err(|error| self.dir.write_error("set the length of a staged file", error))
    }

    /// Bytes in the file, holes included.
    #[expect(clippy::len_without_is_empty, reason = "a length that is asked of the disk")]
    pub fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.dir.error("look at a staged file", error))?.len())
    }

    /// A further descriptor of the file for reading and writing, to be handed to another process. It shares the file's position, which nothing here
    /// uses. Does no IO.
    pub fn descriptor(&self) -> Result<File> {
        self.file.try_clone().map_err(|error| self.dir.error("hand out a staged file", error))
    }

    /// The file, opened once more for reading. It also reads what the file was when it was dropped, or became a content.
    pub fn reader(&self) -> Result<File> {
        let opened = self.dir.open_staged(self.generation, OFlags::RDONLY);
        opened.map_err(|error| self.dir.error("open a staged file", error))
    }

    /// Makes what was written durable, as the content `id` of the first `length` bytes, which no store may have: from now on the file survives
    /// everything but [`PageStore::adopt`](crate::PageStore::adopt), and [`PageStore::adopt_dirty`](crate::PageStore::adopt_dirty)
    /// makes it that content. It may go on to be written: what it was is kept beside it, as far as it is changed in place. Who does that through a
    /// descriptor has [`Staging::keep`] done before. The last few contents are
    /// remembered, since which of them is needed may be decided late. One sync of the file, however large it is.
    ///
    /// `Full`: the disk is. After any error the file stands for what it did before, or for both.
    pub fn make_durable(&self, id: ContentId, length: u64) -> Result<()> {
        let mut claims = lock(&self.claims);
        let mut news = claims.clone();
        news.add(Claim { id, length });
        let begun = {
            let mut versions = write(&self.versions);
            let begun = versions.begin(Claim { id, length });
            versions.forget(&news);
            begun
        };
        begun.map_err(|error| self.keep_error(error))?;
        let done = news.write(&self.file).and_then(|()| {
            // The file says it already, should it not get to the disk.
            *claims = news;
            self.file.sync_all()
        });
        drop(claims);
        let counted = self.count();
        done.and(counted).map_err(|error| self.dir.claim_error(error))
    }

    /// Keeps what the file has in `range` for the latest content that it was made durable as, so that it may be changed there through a descriptor.
    /// `version`, with its length, is one that it is about to be made durable as, and of which it has all bytes before the first change: that is
    /// the latest then.
    ///
    /// `Full`: there is no room to keep it; it must not be changed then.
    pub fn keep(&self, version: Option<(ContentId, u64)>, range: &Range<u64>) -> Result<()> {
        if let Some((id, length)) = version {
            let is_known = read(&self.versions).length(id).is_some();
            if !is_known {
                let begun = write(&self.versions).begin(Claim { id, length });
                begun.map_err(|error| self.keep_error(error))?;
            }
        }
        if read(&self.versions).allows(range) {
            return Ok(());
        }
        drop(self.to_change(range)?);
        self.count().map_err(|error| self.dir.error("look at a staged file", error))
    }

    /// What of `bytes` the file does not have at `offset`, where something would have to be kept for it: who is sent whole pages has most of them.
    fn news<'b>(&self, offset: u64, bytes: &'b [u8]) -> Result<(u64, &'b [u8])> {
        if read(&self.versions).allows(&(offset..offset + bytes.len() as u64)) {
            return Ok((offset, bytes));
        }
        let old = self.read_at(offset, bytes.len())?;
        let same = old.iter().zip(bytes).take_while(|(old, new)| old == new).count();
        let behind = if old.len() == bytes.len() {
            let left = old[same..].iter().rev().zip(bytes[same..].iter().rev());
            left.take_while(|(old, new)| old == new).count()
        } else {
            0
        };
        Ok((offset + same as u64, &bytes[same..bytes.len() - behind]))
    }

    /// The right to change a range, after what it has was kept.
    fn to_change(&self, range: &Range<u64>) -> Result<RwLockReadGuard<'_, Versions>> {
        loop {
            let versions = read(&self.versions);
            if versions.allows(range) {
                return Ok(versions);
            }
            drop(versions);
            let keep = || write(&self.versions).keep(&self.file, range);
            let mut kept = keep();
            if kept.as_ref().is_err_and(is_full) && self.dir.evict_bytes(FULL_DISK_BYTES) {
                kept = keep();
            }
            kept.map_err(|error| self.keep_error(error))?;
        }
    }

    fn keep_error(&self, source: io::Error) -> StoreError {
        const DOING: &str = "keep what a staged file was";
        if source.kind() == io::ErrorKind::UnexpectedEof {
            // Somebody has cut it through a descriptor without a word: that says nothing of the disk.
            return StoreError::Io { dir: self.dir.config().path.clone(), doing: DOING, source };
        }
        self.dir.write_error(DOING, source)
    }

    /// Has a content that the file was made durable as stay readable here, if it still is.
    #[must_use]
    pub fn hold(&self, id: ContentId) -> Option<Held> {
        read(&self.versions).hold(id)
    }

    /// The bytes from `offset`, up to `length`, that the file had when it was made durable as `id`, read behind what is in `buffer`; fewer only at the end. `None`
    /// when that is not known any more, or never was.
    pub fn read_version(
        &self,
        id: ContentId,
        offset: u64,
        length: usize,
        mut buffer: Vec<u8>,
    ) -> Result<Option<Vec<u8>>> {
        let begin = buffer.len();
        loop {
            let versions = read(&self.versions);
            let Some(whole) = versions.length(id) else { return Ok(None) };
            let (at, done) = (buffer.len(), buffer.len() - begin);
            let start = offset.saturating_add(done as u64);
            let left = usize::try_from(whole.saturating_sub(start)).unwrap_or(usize::MAX);
            let piece = left.min(length - done).min(PIECE);
            if piece == 0 {
                return Ok(Some(buffer));
            }
            buffer = read_onto(&self.dir, &self.file, start, piece, buffer)?;
            // It may have been cut since.
            buffer.resize(at + piece, 0);
            let laid = versions.lay_over(id, start, &mut buffer[at..]);
            laid.map_err(|error| self.dir.error("read what a staged file was", error))?;
        }
    }

    /// Makes the file what it was when it was made durable as `id`.
    pub(crate) fn roll_back(&self, id: ContentId) -> Result<()> {
        let done = write(&self.versions).roll_back(id, &self.file);
        done.map_err(|error| self.dir.write_error("make a staged file what it was", error))
    }

    /// Whether nothing of it was changed in place between being made durable as one and as the other.
    pub(crate) fn are_alike(&self, one: ContentId, other: ContentId) -> bool {
        read(&self.versions).are_alike(one, other)
    }

    /// A further staged file, of what this one was when it was made durable as `claim` says, and durable as that.
    pub(crate) fn copy_of(&self, claim: Claim) -> Result<Self> {
        let copy = Self::create(Arc::clone(&self.dir))?;
        let mut buffer = Vec::new();
        for start in (0..claim.length).step_by(PIECE) {
            buffer.clear();
            let read = self.read_version(claim.id, start, PIECE, buffer)?;
            buffer = read.ok_or(StoreError::Absent { content: claim.id, page: start / PAGE_SIZE })?;
            copy.write_at(start, &buffer)?;
        }
        copy.make_durable(claim.id, claim.length)?;
        Ok(copy)
    }

    /// Contents that the file stands for, the oldest first.
    #[must_use]
    pub fn durable(&self) -> Vec<ContentId> {
        lock(&self.claims).as_slice().iter().map(|claim| claim.id).collect()
    }

    /// The file stands for nothing any more.
    pub(crate) fn disclaim(&self) {
        let claims = std::mem::take(&mut *lock(&self.claims));
        if !claims.as_slice().is_empty()
            && let Err(error) = Claims::default().write(&self.file)
        {
            tracing::debug!(%error, "a staged file goes on to say that it is needed");
        }
    }

    pub(crate) fn claims(&self) -> Claims {
        lock(&self.claims).clone()
    }

    /// Leaves the file for the next open to find.
    pub(crate) fn leave_behind(mut self) {
        self.moved = true;
        read(&self.versions).leave_behind();
    }

    /// Counts what was written through descriptors, and makes room for it.
    ///
    /// `Full`: there is none to be made; the bytes are there all the same.
    pub fn account(&self) -> Result<()> {
        self.count().map_err(|error| self.dir.error("look at a staged file", error))?;
        self.dir.reserve(0).map(drop)
    }

    /// Counts what the file occupies now, room or not.
    fn count(&self) -> io::Result<()> {
        // Under the lock, so that the latest count is the one that stays.
        let mut charge = lock(&self.charge);
        let blocks = rustix::fs::fstat(&self.file)?.st_blocks;
        let kept = read(&self.versions).bytes();
        charge.set(u64::try_from(blocks).unwrap_or(0).saturating_mul(512).saturating_add(kept));
        drop(charge);
        Ok(())
    }

    fn check_end(&self, end: u64) -> Result<()> {
        if end <= MAX_LENGTH { Ok(()) } else { Err(StoreError::Full { dir: self.dir.config().path.clone() }) }
    }

    pub(crate) const fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Counts `bytes`, which the file may come to occupy, and makes room for them.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<()> {
        lock(&self.charge).resize(bytes)
    }

    /// The file has another name and another owner from now on; its bytes stay counted.
    pub(crate) fn into_moved(mut self) -> Reservation {
        self.moved = true;
        let nothing = self.dir.nothing_reserved();
        std::mem::replace(&mut *lock(&self.charge), nothing)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        if lock(&self.claims).as_slice().is_empty() {
            self.dir.remove_staged(self.generation);
        } else {
            read(&self.versions).leave_behind();
        }
    }
}

/// The bytes of a file of `dir` from `offset`, up to `length`; fewer only at its end.
pub(crate) fn read_at(dir: &Dir, file: &File, offset: u64, length: usize) -> Result<Bytes> {
    read_onto(dir, file, offset, length, Vec::new()).map(Bytes::from)
}

fn read_onto(dir: &Dir, file: &File, offset: u64, length: usize, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
    let begin = buffer.len();
    let end = begin + length;
    buffer.reserve_exact(length);
    while buffer.len() < end {
        let at = offset.saturating_add((buffer.len() - begin) as u64);
        if at > MAX_LENGTH {
            break;
        }
        match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(dir.error("read a staged file", error.into())),
        }
    }
    // The allocator may have given more room than was asked for.
    buffer.truncate(end);
    Ok(buffer)
}

/// The CRC32C of each page of `bytes`, which begin where a page does.
#[must_use]
pub fn checksums(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(usize::try_from(PAGE_SIZE).expect("a page fits in memory")).map(crc32c::crc32c).collect()
}
