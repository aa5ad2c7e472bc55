//! Staged files that become contents.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use headpond_types::{ContentId, PAGE_SIZE, page_count, page_len, page_range};
use rustix::fs::OFlags;

use super::{Content, MAX_LENGTH, pin::Pinned};
use crate::{
    dir::{Claim, Dir, Place, Reservation},
    error::{Result, StoreError},
    index::Record,
    pages::{VERIFIED, publish},
    policy::charge,
    shared::lock,
    staging::{Staging, checksums, read_at},
    usage::count,
};

impl Content {
    /// See [`crate::PageStore::adopt`].
    ///
    /// Nothing is to be seen of the content before all is done, and until then nothing of it is on the account but what was staged. The
    /// order is that of invariant 1: bytes (they are there), the file's name, its record, those of its pages, then the pages are present.
    /// What a death leaves is a file without a record, or one with the records of some of its pages: recovery knows both.
    pub(crate) fn adopt(staging: Staging, id: ContentId, expected: &[u32]) -> Result<()> {
        let dir = Arc::clone(staging.dir());
        dir.check()?;
        let length = staging.len()?;
        if length == 0 {
            return Ok(());
        }
        if length > MAX_LENGTH {
            return Err(StoreError::Full { dir: dir.config().path.clone() });
        }
        verify(&staging, id, length, expected)?;
        // Holes become pages of zeros, which count.
        staging.reserve(charged(length))?;
        let generation = staging.generation();
        dir.move_staged(generation, id).map_err(|error| dir.write_error("move a staged file", error))?;
        let reservation = staging.into_moved();
        Self::new(id, length, dir).install(generation, reservation, expected)
    }

    /// See [`crate::PageStore::adopt_dirty`]. The file stays for the next open if it fails.
    pub(crate) fn adopt_dirty(staging: Staging, claims: &[Claim]) -> Result<()> {
        match adopt_claims(&staging, claims) {
            Ok(Some((newest, checksums))) => {
                let generation = staging.generation();
                let mut reservation = staging.into_moved();
                reservation.set(charged(newest.length));
                newest.mark_dirty();
                newest.install(generation, reservation, &checksums)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                staging.leave_behind();
                Err(error)
            }
        }
    }

    /// Takes up the file of a dirty content which the index does not know well enough. It stays where it is.
    pub(crate) fn take_up(dir: &Arc<Dir>, claim: Claim, generation: u32) -> Result<()> {
        let file = dir.open_file(claim.id, generation, OFlags::RDONLY);
        let file = file.map_err(|error| dir.error("open a file", error))?;
        let checksums = checksums_of(claim.length, |at, length| read_at(dir, &file, at, length))?;
        let mut reservation = dir.nothing_reserved();
        reservation.set(charged(claim.length));
        let content = Self::new(claim.id, claim.length, Arc::clone(dir));
        content.mark_dirty();
        content.install(generation, reservation, &checksums)
    }

    /// Makes a file that is in its place, and has all bytes, the content's. If it fails, both are gone, unless the content is dirty: then only a file
    /// that another of the same content makes needless.
    fn install(self, generation: u32, reservation: Reservation, checksums: &[u32]) -> Result<()> {
        let content = Arc::new(self);
        let (dir, pages) = (Arc::clone(&content.dir), content.page_count());
        let slot = lock(&dir.policy).allocate(&content);
        let _the_first = content.place.set(Place { slot, generation });
        dir.contents.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = content.note_all(slot, generation, checksums) {
            if !content.is_dirty() {
                content.discard();
                return Err(error);
            }
            // Its file says as much.
            tracing::debug!(content = %content.id, %error, "the index lacks a file that is needed");
        }
        for (page, crc) in (0..pages).zip(checksums) {
            if let Some(word) = content.table.get_or_make(page) {
                publish(word, *crc, VERIFIED);
            }
        }
        content.present.store(pages, Ordering::Release);
        reservation.keep();
        dir.pages.fetch_add(pages.into(), Ordering::Relaxed);
        count(&dir.shared.counters.filled_pages, pages.into());
        // Until its pages are queued it must not go.
        let pin = match Pinned::read(&content, 0..pages) {
            Ok(pin) => pin,
            Err(error) => {
                content.discard();
                return Err(error);
            }
        };
        loop {
            let known = dir.shared.find_or_insert(content.id, || Arc::clone(&content));
            if Arc::ptr_eq(&known, &content) {
                if !content.is_dirty() {
                    let mut policy = lock(&dir.policy);
                    (0..pages).for_each(|page| policy.insert(&content, slot, page));
                }
                break;
            }
            if known.is_complete() && (known.is_dirty() || !content.is_dirty()) {
                content.discard();
                if known.is_dirty() {
                    known.dir.note_dirty(known.id, known.length);
                }
                break;
            }
            // Somebody reads it and has some of it; who finds it gone finds ours.
            known.discard();
            dir.shared.remove(&known);
        }
        drop(pin);
        Ok(())
    }

    fn note_all(&self, slot: u32, generation: u32, checksums: &[u32]) -> Result<()> {
        self.dir.append(self.first_record(slot, generation))?;
        for (page, crc) in (0..).zip(checksums) {
            self.dir.append(Record::Page { slot, page, crc: *crc })?;
        }
        Ok(())
    }
}

/// Makes the file what it was as the last of `claims`, which is still to be installed, and gives those before that, which were the same, a name of it,
/// too. Others get files of their own.
fn adopt_claims(staging: &Staging, claims: &[Claim]) -> Result<Option<(Content, Vec<u32>)>> {
    let dir = staging.dir();
    dir.check()?;
    let Some((newest, older)) = claims.split_last() else { return Ok(None) };
    let (alike, others): (Vec<_>, Vec<_>) =
        older.iter().copied().partition(|claim| staging.are_alike(claim.id, newest.id));
    for claim in others {
        Content::adopt_dirty(staging.copy_of(claim)?, &[claim])?;
    }
    staging.roll_back(newest.id)?;
    let length = alike.iter().chain([newest]).map(|claim| claim.length).max().unwrap_or_default();
    if staging.len()? != length {
        staging.cut(length)?;
    }
    let checksums = |length| checksums_of(length, |at, length| staging.read_at(at, length));
    for claim in alike {
        let (checksums, generation) = (checksums(claim.length)?, dir.next_generation());
        let linked = dir.link_staged(staging.generation(), claim.id, generation);
        linked.map_err(|error| dir.write_error("link a staged file", error))?;
        let mut reservation = dir.nothing_reserved();
        reservation.set(charged(claim.length));
        let content = Content::new(claim.id, claim.length, Arc::clone(dir));
        content.mark_dirty();
        content.install(generation, reservation, &checksums)?;
    }
    let checksums = checksums(newest.length)?;
    let moved = dir.move_staged(staging.generation(), newest.id);
    moved.map_err(|error| dir.write_error("move a staged file", error))?;
    Ok(Some((Content::new(newest.id, newest.length, Arc::clone(dir)), checksums)))
}

/// Bytes that all pages of a content of `length` bytes count as.
fn charged(length: u64) -> u64 {
    (0..page_count(length)).map(|page| charge(page_len(page, length))).sum()
}

/// The checksums of the pages of a file of `length` bytes. `Io`: it has become shorter.
fn checksums_of(length: u64, read: impl Fn(u64, usize) -> Result<Bytes>) -> Result<Vec<u32>> {
    let page = |page| {
        let range = page_range(page, length);
        let bytes = read(range.start, usize::try_from(range.end - range.start).expect("a page fits in memory"))?;
        Ok(crc32c::crc32c(&bytes))
    };
    (0..page_count(length)).map(page).collect()
}

/// Compares the file with the checksums that its pages must have.
fn verify(staging: &Staging, id: ContentId, length: u64, expected: &[u32]) -> Result<()> {
    let corrupt = |page| StoreError::Corrupt { content: id, page };
    if expected.len() as u64 != page_count(length) {
        return Err(corrupt(0));
    }
    let one_page = usize::try_from(PAGE_SIZE).expect("a page fits in memory");
    for (page, crc) in (0_u64..).zip(expected) {
        let bytes = staging.read_at(page * PAGE_SIZE, one_page)?;
        if checksums(&bytes) != [*crc] {
            return Err(corrupt(page));
        }
    }
    Ok(())
}
