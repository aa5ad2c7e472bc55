//! One content in the store: which of its pages are present, who uses them, and how they come and go.

mod adoption;
mod check;
mod dirty;
mod file;
mod loan;
mod pin;
mod removal;
mod writer;

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use headpond_types::{ByteRange, ContentId, PAGE_SIZE, page_count, page_len, pages_of};

use self::pin::Pin;
pub use self::{
    loan::{Hold, Loan},
    writer::PageWriter,
};
use crate::{
    dir::{Dir, Place},
    error::StoreError,
    index::Record,
    pages::{self, PRESENT, PageTable, QUEUED, VERIFIED, crc_of},
    policy::{WHOLE_UNIT_PAGES, charge, count_use_of_content},
    shared::lock,
};

/// Longest content that the store takes: page numbers have 32 bits, the last one is reserved.
pub(crate) const MAX_LENGTH: u64 = (u32::MAX as u64 - 1) * PAGE_SIZE;

/// A content in the store. It stays usable as long as somebody holds it, but may be evicted or freed meanwhile: then every
/// operation answers [`StoreError::Absent`], and [`crate::PageStore::content`] begins a new one.
pub struct Content {
    id: ContentId,
    length: u64,
    dir: Arc<Dir>,
    table: PageTable,
    /// A leaf: no other lock is taken under it. Held for a few instructions.
    state: Mutex<State>,
    /// Signalled when a page's removal or the file's creation ends.
    settled: Condvar,
    /// Held for a write to the file: one at a time goes on in the kernel anyway, whose lock others would spend a processor on.
    writing: Mutex<()>,
    /// Set when the file is made.
    place: OnceLock<Place>,
    /// Pages present.
    present: AtomicU32,
    /// Of these, not verified.
    unverified: AtomicU32,
    /// Pages looked at by eviction since `uses` last went down.
    visits: AtomicU32,
    /// Where the last read ended: a read that goes on there is no new use.
    last_end: AtomicU64,
    /// Uses of the content as a whole, 0 to 3.
    uses: AtomicU8,
    queued: AtomicBool,
    /// The file was lent, now or before, in this process or another since the machine was started.
    lent: AtomicBool,
    /// The index says so. Set after the record was appended, `lent` before: so a rewrite of the index misses neither.
    lent_noted: AtomicBool,
    /// An earlier process lent the file, perhaps to somebody who still reads it: no hole may be punched.
    keep_whole: bool,
    /// The file is the only place of the bytes: it is in no queue of eviction, and stays whatever is asked.
    dirty: AtomicBool,
    /// Evicted or freed. Set once, under `state`.
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    pins: Vec<Pin>,
    loans: u32,
    /// The file is being made.
    creating: bool,
    /// The bytes were taken off the directory's account.
    retired: bool,
    /// Asked back since it was last used; leaves when the last loan does.
    recalled: bool,
}

impl Content {
    pub(crate) fn new(id: ContentId, length: u64, dir: Arc<Dir>) -> Self {
        let pages = u32::try_from(page_count(length)).expect("checked against MAX_LENGTH");
        Self::with_table(id, length, dir, PageTable::new(pages), OnceLock::new())
    }

    /// A content found at open: its pages are present and unverified. `borrowed`: descriptors that an earlier process lent may be open.
    pub(crate) fn recovered(
        id: ContentId,
        length: u64,
        dir: Arc<Dir>,
        place: Place,
        table: PageTable,
        borrowed: bool,
    ) -> Self {
        let mut content = Self::with_table(id, length, dir, table, OnceLock::from(place));
        content.keep_whole = borrowed;
        content.lent = AtomicBool::new(borrowed);
        let present = u32::try_from(content.present_list().count()).expect("page numbers have 32 bits");
        content.present.store(present, Ordering::Relaxed);
        content.unverified.store(present, Ordering::Relaxed);
        content
    }

    fn with_table(id: ContentId, length: u64, dir: Arc<Dir>, table: PageTable, place: OnceLock<Place>) -> Self {
        Self {
            id,
            length,
            dir,
            table,
            state: Mutex::default(),
            settled: Condvar::new(),
            writing: Mutex::default(),
            place,
            present: AtomicU32::new(0),
            unverified: AtomicU32::new(0),
            visits: AtomicU32::new(0),
            last_end: AtomicU64::new(0),
            uses: AtomicU8::new(0),
            queued: AtomicBool::new(false),
            lent: AtomicBool::new(false),
            lent_noted: AtomicBool::new(false),
            keep_whole: false,
            dirty: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> ContentId {
        self.id
    }

    /// Bytes in it.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Whether all pages are present.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.is_lost() && self.present.load(Ordering::Acquire) == self.page_count()
    }

    /// Whether the checksum of every present page was computed or compared since the store was opened.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.unverified.load(Ordering::Acquire) == 0
    }

    /// Whether page `page` is present.
    #[must_use]
    pub fn is_present(&self, page: u64) -> bool {
        !self.is_lost() && u32::try_from(page).is_ok_and(|page| self.table.is_present(page))
    }

    /// The pages among `pages` that are not present, as runs in ascending order. Pages past the end are not missing.
    #[must_use]
    pub fn missing(&self, pages: Range<u64>) -> Vec<Range<u64>> {
        let lost = self.is_lost();
        self.runs(pages, |word| lost || word & PRESENT == 0)
    }

    /// Counts a use of the whole content, as an open is: reads through a lent descriptor are not seen here. It keeps the pages
    /// of a content in the store only while it is complete; those of a partial one are kept by their own reads.
    pub fn touch(&self) {
        if self.is_one_unit() || self.is_complete() {
            count_use_of_content(&self.uses);
        }
        let mut state = lock(&self.state);
        state.recalled = false;
    }

    /// Counts a use of the pages of `range`, for a reader that uses a lent descriptor and only asks for the range to be there.
    /// [`Content::read`] does it by itself. A range that begins where the last one ended is the same use going on.
    pub fn touch_range(&self, range: &ByteRange) {
        if range.is_empty() {
            return;
        }
        let goes_on = self.last_end.swap(range.end, Ordering::Relaxed) == range.start && range.start != 0;
        if self.is_one_unit() {
            if !goes_on {
                count_use_of_content(&self.uses);
            }
            return;
        }
        for page in pages_of(range) {
            let counted = goes_on && page * PAGE_SIZE < range.start;
            if let Ok(page) = u32::try_from(page)
                && !counted
                && let Some(word) = self.table.get(page)
            {
                pages::count_use(word);
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked against MAX_LENGTH")]
    const fn page_count(&self) -> u32 {
        page_count(self.length) as u32
    }

    fn runs(&self, pages: Range<u64>, wanted: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for page in pages.start..pages.end.min(page_count(self.length)) {
            let word = u32::try_from(page).map_or(0, |page| self.table.load(page));
            if !wanted(word) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == page => run.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        runs
    }

    /// Gone, or its directory is out of use.
    fn is_lost(&self) -> bool {
        self.is_gone() || self.dir.check().is_err()
    }

    fn absent(&self, page: u64) -> StoreError {
        StoreError::Absent { content: self.id, page }
    }
}

/// For the map, the eviction policy and the index.
impl Content {
    pub(crate) const fn id_ref(&self) -> &ContentId {
        &self.id
    }

    pub(crate) const fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether eviction takes it as a whole.
    pub(crate) const fn is_one_unit(&self) -> bool {
        page_count(self.length) <= WHOLE_UNIT_PAGES
    }

    pub(crate) fn present_pages(&self) -> u32 {
        self.present.load(Ordering::Acquire)
    }

    pub(crate) fn present_list(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.page_count()).filter(|page| self.table.is_present(*page))
    }

    /// Bytes that the present pages count as.
    pub(crate) fn present_bytes(&self) -> u64 {
        let pages = self.present_pages();
        let Some(last) = self.page_count().checked_sub(1) else { return 0 };
        let last_missing = if self.table.is_present(last) { PAGE_SIZE - self.charge(last) } else { 0 };
        u64::from(pages) * PAGE_SIZE - last_missing
    }

    /// Bytes that a page counts as.
    pub(crate) fn charge(&self, page: u32) -> u64 {
        charge(page_len(page.into(), self.length))
    }

    /// Whether anything of a unit is there.
    pub(crate) fn holds(&self, page: Option<u32>) -> bool {
        page.map_or_else(|| self.present_pages() > 0, |page| self.table.is_present(page))
    }

    /// Notes whether the queues hold an entry for the unit; the answer is what it was before.
    pub(crate) fn set_queued(&self, page: Option<u32>, queued: bool) -> bool {
        match page.map(|page| self.table.get_or_make(page)) {
            None => self.queued.swap(queued, Ordering::AcqRel),
            Some(Some(word)) if queued => word.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED != 0,
            Some(Some(word)) => word.fetch_and(!QUEUED, Ordering::AcqRel) & QUEUED != 0,
            Some(None) => true,
        }
    }

    /// How often a unit was used lately. Uses of the content count for each of its pages.
    pub(crate) fn uses(&self, page: Option<u32>) -> u8 {
        let whole = self.uses.load(Ordering::Relaxed);
        page.map_or(whole, |page| pages::frequency(self.table.load(page)).max(whole))
    }

    /// Sets how often a unit was used.
    pub(crate) fn set_uses(&self, page: Option<u32>, uses: u8) {
        match page {
            None => self.uses.store(uses, Ordering::Relaxed),
            Some(page) => {
                if let Some(word) = self.table.get(page) {
                    pages::set_frequency(word, uses);
                }
            }
        }
    }

    /// Takes one from the uses of a unit. Those of a content of many units go down once all of these were visited.
    pub(crate) fn age(&self, page: Option<u32>) {
        let whole = self.uses.load(Ordering::Relaxed);
        let Some(page) = page else { return self.set_uses(None, whole.saturating_sub(1)) };
        self.set_uses(Some(page), pages::frequency(self.table.load(page)).saturating_sub(1));
        if whole > 0 && self.visits.fetch_add(1, Ordering::Relaxed) >= self.present_pages() {
            self.visits.store(0, Ordering::Relaxed);
            self.set_uses(None, whole - 1);
        }
    }

    /// The records that say what is there.
    pub(crate) fn records<E>(&self, mut each: impl FnMut(Record) -> Result<(), E>) -> Result<(), E> {
        let Some(&Place { slot, generation }) = self.place.get() else { return Ok(()) };
        if self.is_gone() {
            return Ok(());
        }
        each(self.first_record(slot, generation))?;
        if self.lent.load(Ordering::Acquire) {
            each(Record::Lent { slot })?;
        }
        for page in 0..self.page_count() {
            let word = self.table.load(page);
            if word & PRESENT != 0 {
                each(Record::Page { slot, page, crc: crc_of(word) })?;
            }
        }
        Ok(())
    }

    /// Whether nobody began to fill it, or all of its pages went. The map then need not keep it.
    pub(crate) fn is_unused(&self) -> bool {
        self.present_pages() == 0 && !self.is_dirty() && {
            let state = lock(&self.state);
            state.pins.is_empty() && state.loans == 0 && !state.creating
        }
    }

    fn is_word_verified(word: u64) -> bool {
        word & (PRESENT | VERIFIED) == PRESENT | VERIFIED
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("id", &self.id)
            .field("length", &self.length)
            .field("present", &self.present)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
