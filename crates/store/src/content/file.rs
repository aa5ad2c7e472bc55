//! The file behind a content: made when the first page is written or the content is lent.

use std::{fs::File, io, os::fd::AsFd, sync::Arc, sync::PoisonError};

use headpond_types::{PAGE_SIZE, page_range};
use rustix::fs::{FallocateFlags, OFlags};

use super::Content;
use crate::{
    dir::{FULL_DISK_BYTES, Place, is_full},
    error::Result,
    index::Record,
    shared::lock,
    usage::count,
};

impl Content {
    /// Where the file is, made if need be. Does IO.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Place> {
        self.dir.check()?;
        let mut state = lock(&self.state);
        loop {
            if self.is_gone() {
                return Err(self.absent(0));
            }
            if state.creating {
                state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(place) = self.place.get() {
                return Ok(*place);
            }
            state.creating = true;
            break;
        }
        drop(state);
        let created = self.create();
        let mut state = lock(&self.state);
        state.creating = false;
        // Freed while it was made: whoever did it left the file to us.
        let gone = self.is_gone();
        let retire = self.retires(&mut state);
        drop(state);
        self.settled.notify_all();
        if gone {
            self.remove_file();
            if retire {
                self.retire();
            }
            return Err(self.absent(0));
        }
        if created.is_err() && self.place.get().is_some() {
            self.discard();
        }
        created
    }

    fn create(self: &Arc<Self>) -> Result<Place> {
        let dir = &self.dir;
        let generation = dir.next_generation();
        let create = || dir.create_file(self.id, generation, self.length);
        let mut created = create();
        if created.as_ref().is_err_and(is_full) && dir.evict_bytes(FULL_DISK_BYTES) {
            created = create();
        }
        created.map_err(|error| dir.write_error("create a file", error))?;
        let slot = lock(&dir.policy).allocate(self);
        let place = *self.place.get_or_init(|| Place { slot, generation });
        dir.contents.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        dir.append(Record::Content { slot, id: self.id, length: self.length, generation })?;
        Ok(place)
    }

    /// Opens the file. Does IO.
    pub(super) fn open(self: &Arc<Self>, flags: OFlags) -> Result<File> {
        let Some(place) = self.place.get() else { return Err(self.absent(0)) };
        self.dir.open_file(self.id, place.generation, flags).map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return self.dir.error("open a file", error);
            }
            if self.is_gone() {
                return self.absent(0);
            }
            if !self.dir.is_in_place() {
                return self.dir.error("open a file", error);
            }
            // The file alone was taken away behind our back: its pages are lost, the directory is sound.
            tracing::warn!(dir = %self.dir.config().path.display(), content = %self.id, "a cache file has vanished");
            count(&self.dir.shared.counters.corrupt_pages, self.present_pages().into());
            self.discard();
            self.absent(0)
        })
    }

    /// Gives the blocks of a page back to the file system.
    pub(super) fn punch(&self, file: impl AsFd, page: u32) -> rustix::io::Result<()> {
        debug_assert!(!self.keep_whole, "somebody outside may still read the file");
        let range = page_range(page.into(), self.length);
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // The last page is punched to the end of its last block.
        rustix::fs::fallocate(file, mode, range.start, PAGE_SIZE.min(self.charge(page)))
    }

    /// Punches what unfinished writers of an earlier run left in pages that are not present. Only while the directory is opened.
    pub(crate) fn punch_absent(self: &Arc<Self>) {
        if self.keep_whole {
            return;
        }
        let Ok(file) = self.open(OFlags::RDWR) else { return };
        for run in self.missing(0..self.page_count().into()) {
            let range = page_range(run.start, self.length).start..page_range(run.end - 1, self.length).end;
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if let Err(error) = rustix::fs::fallocate(&file, mode, range.start, range.end - range.start) {
                tracing::debug!(content = %self.id, %error, "cannot punch a hole");
            }
        }
    }

    /// Forgets the file in the index and removes it.
    pub(super) fn remove_file(&self) {
        let Some(place) = self.place.get() else { return };
        let Some(_removing) = self.dir.removing() else { return };
        // Without the record the file's absence says the same at the next open.
        if let Err(error) = self.dir.append_removal(Record::ContentRemoved { slot: place.slot }) {
            tracing::debug!(content = %self.id, %error, "cannot note a removal in the index");
        }
        self.dir.remove_file(self.id, place.generation);
    }
}
