//! Filling a page.

use std::{
    fs::File,
    io::{self, IoSlice},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use headpond_types::{page_len, page_range};
use rustix::{
    fs::OFlags,
    io::{Errno, pwritev},
};

use super::{
    Content,
    pin::{PinKind, Pinned},
};
use crate::{
    dir::{FULL_DISK_BYTES, Reservation, is_full},
    error::{Result, StoreError},
    index::Record,
    pages::{self, VERIFIED},
    shared::lock,
    usage::count,
};

/// Parts written by one system call: `IOV_MAX` of limits.h(0p) on Linux.
const MAX_PARTS: usize = 1024;

/// A page being written, in order from its start. Nothing is to be seen of it before [`PageWriter::commit`]; dropped without, nothing
/// happened (dropping does IO then: the blocks written so far are freed).
///
/// Two writers of one page are safe, given that both write the content's own bytes: whoever commits first makes it present, the other
/// stops writing and commits nothing. Should the bytes of the slower one differ, the page's checksum is compared before it is read.
#[derive(Debug)]
pub struct PageWriter {
    content: Arc<Content>,
    page: u32,
    file: File,
    /// Taken at commit.
    reservation: Option<Reservation>,
    written: u64,
    crc: u32,
    _pin: Pinned,
}

impl Content {
    /// Begins to write page `page`. Does IO: room is made for it, which may evict.
    ///
    /// `AlreadyPresent`: nothing to do. `Absent`: the content is gone, ask the store for it again. `Full`, `DirFailed`: go on without
    /// the cache.
    pub fn page_writer(self: &Arc<Self>, page: u64) -> Result<PageWriter> {
        let number = u32::try_from(page).ok().filter(|page| *page < self.page_count());
        let Some(page) = number else {
            return Err(StoreError::PageLength { content: self.id, page, expected: 0, got: 0 });
        };
        self.begin()?;
        let pin = self.pin_write(page)?;
        let reservation = self.dir.reserve(self.charge(page))?;
        let file = self.open(OFlags::RDWR)?;
        Ok(PageWriter {
            content: Arc::clone(self),
            page,
            file,
            reservation: Some(reservation),
            written: 0,
            crc: 0,
            _pin: pin,
        })
    }

    fn pin_write(self: &Arc<Self>, page: u32) -> Result<Pinned> {
        let mut state = lock(&self.state);
        loop {
            if self.is_gone() {
                return Err(self.absent(page.into()));
            }
            if self.table.is_present(page) {
                return Err(StoreError::AlreadyPresent { content: self.id, page: page.into() });
            }
            if state.pins_of(page, PinKind::Remove) == 0 {
                return Ok(Pinned::add(self, &mut state, page..page + 1, PinKind::Write));
            }
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl PageWriter {
    /// The page.
    #[must_use]
    pub fn page(&self) -> u64 {
        self.page.into()
    }

    /// Bytes still to be written.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        page_len(self.page.into(), self.content.length) - self.written
    }

    /// Writes the next bytes of the page. Does IO. After an error drop the writer.
    ///
    /// `PageLength`: more than the page has. `Full`: the disk is full although the capacity is not, and evicting did not help.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes the next bytes of the page, all of `parts` at once, which is better than one by one: the kernel's page cache gets large
    /// folios for them (42 KiB each on average for a page in 64 parts, up to 1 MiB so), from which warm reads copy faster.
    /// Otherwise as [`PageWriter::write`].
    pub fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        let got = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if got > self.remaining() {
            return Err(self.wrong_length(self.written + got));
        }
        // A page that another writer finished is left alone.
        if !self.content.table.is_present(self.page) {
            let at = page_range(self.page.into(), self.content.length).start + self.written;
            let dir = &self.content.dir;
            let mut written = self.write_at(parts, at);
            if written.as_ref().is_err_and(is_full) && dir.evict_bytes(FULL_DISK_BYTES) {
                written = self.write_at(parts, at);
            }
            written.map_err(|error| dir.write_error("write a page", error))?;
        }
        self.crc = parts.iter().fold(self.crc, |crc, part| crc32c::crc32c_append(crc, part));
        self.written += got;
        Ok(())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut at: u64) -> io::Result<()> {
        let mut parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).copied().collect();
        let mut left = parts.as_mut_slice();
        let _one = lock(&self.content.writing);
        while !left.is_empty() {
            match pwritev(&self.file, &left[..left.len().min(MAX_PARTS)], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes the page present. Does IO: one small append; once in a million or so, the index is rewritten. Also fine when another writer was first.
    ///
    /// `PageLength`: bytes are missing. `Absent`: the content was freed meanwhile.
    pub fn commit(mut self) -> Result<()> {
        if self.remaining() > 0 {
            return Err(self.wrong_length(self.written));
        }
        let (content, page, crc) = (Arc::clone(&self.content), self.page, self.crc);
        if content.is_gone() {
            return Err(content.absent(page.into()));
        }
        if content.table.is_present(page) {
            return Ok(());
        }
        let place = content.begin()?;
        content.dir.append(Record::Page { slot: place.slot, page, crc })?;
        let state = lock(&content.state);
        if content.is_gone() {
            return Err(content.absent(page.into()));
        }
        let Some(word) = content.table.get_or_make(page) else { return Err(self.wrong_length(self.written)) };
        if word.load(Ordering::Acquire) & pages::PRESENT != 0 {
            return Ok(());
        }
        let alone = state.pins_of(page, PinKind::Write) == 1;
        pages::publish(word, crc, if alone { VERIFIED } else { 0 });
        if !alone {
            content.unverified.fetch_add(1, Ordering::AcqRel);
        }
        content.present.fetch_add(1, Ordering::AcqRel);
        drop(state);
        if let Some(reservation) = self.reservation.take() {
            reservation.keep();
        }
        content.dir.pages.fetch_add(1, Ordering::Relaxed);
        count(&content.dir.shared.counters.filled_pages, 1);
        lock(&content.dir.policy).insert(&content, place.slot, page);
        Ok(())
    }

    fn wrong_length(&self, got: u64) -> StoreError {
        let expected = page_len(self.page.into(), self.content.length);
        StoreError::PageLength { content: self.content.id, page: self.page.into(), expected, got }
    }
}

impl Drop for PageWriter {
    fn drop(&mut self) {
        self.content.dir.released();
        if self.reservation.is_none()
            || self.written == 0
            || self.content.keep_whole
            || self.content.table.is_present(self.page)
        {
            return;
        }
        let mut state = lock(&self.content.state);
        if self.content.table.is_present(self.page) || state.pins_of(self.page, PinKind::Write) > 1 {
            return;
        }
        // A writer that begins now waits for this, so the hole cannot take its bytes.
        let erasing = Pinned::add(&self.content, &mut state, self.page..self.page + 1, PinKind::Remove);
        drop(state);
        if let Some(_removing) = self.content.dir.removing()
            && let Err(error) = self.content.punch(&self.file, self.page)
        {
            tracing::debug!(content = %self.content.id, page = self.page, %error, "cannot free an unfinished page");
        }
        drop(erasing);
    }
}
