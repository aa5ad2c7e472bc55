//! Reading and verifying pages.
//!
//! Bytes may rot, and a read may want 4 KiB of a page of 1 MiB. So a page is read and compared with its checksum as a whole when it
//! is touched for the first time since the store was opened, and whenever a read covers all of it; a smaller read of a page
//! that was compared before reads just its bytes. [`crate::PageStore::scrub_step`] bounds how old that comparison gets.

use std::{fs::File, ops::Range, sync::Arc, sync::atomic::Ordering};

use bytes::Bytes;
use headpond_types::{ByteRange, PAGE_SIZE, page_count, page_range, pages_of};
use rustix::{buffer::spare_capacity, fs::OFlags, io::Errno};

use super::{
    Content,
    pin::{PinKind, Pinned},
};
use crate::{
    error::{Result, StoreError},
    pages::{PRESENT, VERIFIED, crc_of},
    shared::lock,
    usage::count,
};

impl Content {
    /// The bytes of `range`, which is cut at the end of the content, in one piece of memory. Does IO. Counts as a use of its pages.
    ///
    /// `Absent`: not all of its pages are present, nothing was read. `Corrupt`: a page did not match its checksum and was dropped; the
    /// others are still there.
    pub fn read(self: &Arc<Self>, range: ByteRange) -> Result<Bytes> {
        let range = range.start.min(self.length)..range.end.min(self.length);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let counters = &self.dir.shared.counters;
        let read = self.read_pages(&range);
        match &read {
            Ok(_) => {
                count(&counters.hits, 1);
                self.touch_range(&range);
            }
            Err(_) => count(&counters.misses, 1),
        }
        read
    }

    /// Compares every present page that is not verified yet with its checksum. Does IO: reads what is unverified, at the speed of the disk.
    ///
    /// `Corrupt` names the first page that was dropped; all were looked at.
    pub fn verify(self: &Arc<Self>) -> Result<()> {
        self.verify_pages(0..page_count(self.length))
    }

    /// As [`Content::verify`], for the pages among `pages`.
    pub fn verify_pages(self: &Arc<Self>, pages: Range<u64>) -> Result<()> {
        let mut first_error = Ok(());
        let unverified = self.runs(pages, |word| word & (PRESENT | VERIFIED) == PRESENT);
        for page in unverified.into_iter().flatten() {
            match self.check_page(page) {
                Err(error @ StoreError::Corrupt { .. }) => first_error = first_error.and(Err(error)),
                // Evicted meanwhile: nothing to verify.
                Err(StoreError::Absent { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        first_error
    }

    /// Reads the page and compares it with its checksum. Does IO.
    pub(crate) fn check_page(self: &Arc<Self>, page: u64) -> Result<()> {
        let range = page_range(page, self.length);
        self.read_pages(&range).map(drop)
    }

    fn read_pages(self: &Arc<Self>, range: &ByteRange) -> Result<Bytes> {
        let Range { start, end } = pages_of(range);
        let [first, past] = [start, end].map(|page| u32::try_from(page).expect("checked against MAX_LENGTH"));
        let pin = Pinned::read(self, first..past)?;
        let file = self.open(OFlags::RDONLY)?;
        let whole = |page: u64| {
            let bytes = page_range(page, self.length);
            range.start <= bytes.start && bytes.end <= range.end || !Self::is_word_verified(self.word(page))
        };
        // What is read: the range, widened to whole pages at either end where these have to be compared.
        let from = if whole(start) { start * PAGE_SIZE } else { range.start };
        let to = if whole(end - 1) { page_range(end - 1, self.length).end } else { range.end };
        let mut buffer = self.read_file(&file, from..to)?;
        let mut corrupt = None;
        for page in (start..end).filter(|page| whole(*page)) {
            let bytes = page_range(page, self.length);
            let good = buffer
                .get(index(bytes.start - from)..index(bytes.end - from))
                .is_some_and(|bytes| crc32c::crc32c(bytes) == crc_of(self.word(page)));
            if good {
                self.mark_verified(page);
            } else {
                corrupt = Some(page);
                break;
            }
        }
        if corrupt.is_none() && (buffer.len() as u64) < to - from {
            corrupt = Some((from + buffer.len() as u64) / PAGE_SIZE);
        }
        drop(pin);
        if let Some(page) = corrupt {
            self.drop_corrupt(u32::try_from(page).expect("checked against MAX_LENGTH"));
            return Err(StoreError::Corrupt { content: self.id, page });
        }
        buffer.truncate(index(range.end - from));
        Ok(Bytes::from(buffer).slice(index(range.start - from)..))
    }

    /// The bytes of `range` in the file; fewer if the file is shorter.
    fn read_file(&self, file: &File, range: ByteRange) -> Result<Vec<u8>> {
        let length = index(range.end - range.start);
        let mut buffer = Vec::with_capacity(length);
        while buffer.len() < length {
            let at = range.start + buffer.len() as u64;
            match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.dir.error("read a page", error.into())),
            }
        }
        Ok(buffer)
    }

    fn mark_verified(&self, page: u64) {
        if Self::is_word_verified(self.word(page)) {
            return;
        }
        let Ok(page) = u32::try_from(page) else { return };
        let state = lock(&self.state);
        // While a slower writer of the page is still at work its bytes may change once more.
        if state.pins_of(page, PinKind::Write) == 0
            && let Some(word) = self.table.get(page)
            && word.load(Ordering::Acquire) & (PRESENT | VERIFIED) == PRESENT
        {
            word.fetch_or(VERIFIED, Ordering::AcqRel);
            self.unverified.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn word(&self, page: u64) -> u64 {
        u32::try_from(page).map_or(0, |page| self.table.load(page))
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a buffer fits in memory")
}
