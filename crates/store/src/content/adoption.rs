//! Staged files that become contents.

use std::sync::{Arc, atomic::Ordering};

use headpond_types::{ContentId, PAGE_SIZE, page_count};

use super::{Content, MAX_LENGTH, pin::Pinned};
use crate::{
    dir::Place,
    error::{Result, StoreError},
    index::Record,
    pages::{VERIFIED, publish},
    shared::lock,
    staging::{Staging, checksums},
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

        let content = Arc::new(Self::new(id, length, Arc::clone(&dir)));
        let pages = content.page_count();
        // Holes become pages of zeros, which count.
        staging.reserve((0..pages).map(|page| content.charge(page)).sum())?;
        let generation = staging.generation();
        dir.move_staged(generation, id).map_err(|error| dir.write_error("move a staged file", error))?;
        let reservation = staging.into_moved();
        let slot = lock(&dir.policy).allocate(&content);
        let _the_first = content.place.set(Place { slot, generation });
        dir.contents.fetch_add(1, Ordering::Relaxed);

        if let Err(error) = content.note_all(slot, generation, expected) {
            content.discard();
            return Err(error);
        }
        for (page, crc) in (0..pages).zip(expected) {
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
            let known = dir.shared.find_or_insert(id, || Arc::clone(&content));
            if Arc::ptr_eq(&known, &content) {
                let mut policy = lock(&dir.policy);
                (0..pages).for_each(|page| policy.insert(&content, slot, page));
                break;
            }
            if known.is_complete() {
                content.discard();
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
        self.dir.append(Record::Content { slot, id: self.id, length: self.length, generation })?;
        for (page, crc) in (0..).zip(checksums) {
            self.dir.append(Record::Page { slot, page, crc: *crc })?;
        }
        Ok(())
    }
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
