//! How pages and contents leave.
//!
//! A page: it stops being present, the index says so, then the hole is punched; until that is done a new writer waits.
//! A content: it stops being found, the index says so, then the file is unlinked; its bytes count as used until the last loan and
//! the last reader are gone, since open descriptors keep the blocks.

use std::sync::{Arc, atomic::Ordering};

use rustix::fs::OFlags;

use super::{
    Content, State,
    pin::{PinKind, Pinned},
};
use crate::{
    index::Record,
    pages::{PRESENT, VERIFIED},
    policy::Victim,
    shared::lock,
    usage::count,
};

impl Content {
    /// Evicts a unit; the bytes that came free, 0 if it is in use. Does IO.
    pub(crate) fn evict(self: &Arc<Self>, victim: &Victim) -> u64 {
        let single = victim.page.filter(|_| !self.keep_whole);
        let (bytes, pages) = match single {
            Some(page) if self.present_pages() > 1 => (self.evict_page(page), 1),
            _ => match (self.evict_whole(), single) {
                // The last page, while another is being written.
                ((0, _), Some(page)) => (self.evict_page(page), 1),
                (evicted, _) => evicted,
            },
        };
        if bytes > 0 {
            count(&self.dir.shared.counters.evicted_pages, pages.into());
        } else if let Some(place) = self.place.get() {
            lock(&self.dir.policy).put_back(victim, place.slot);
            // Whoever found nothing while it was out of the queues may look again.
            self.dir.released();
        }
        bytes
    }

    fn evict_whole(self: &Arc<Self>) -> (u64, u32) {
        let evicted = (self.present_bytes(), self.present_pages());
        if self.leave(true) { evicted } else { (0, 0) }
    }

    fn evict_page(self: &Arc<Self>, page: u32) -> u64 {
        let mut state = lock(&self.state);
        if self.is_gone() || state.loans > 0 || state.is_pinned(page) || !self.unpublish(page) {
            return 0;
        }
        let removing = Pinned::add(self, &mut state, page..page + 1, PinKind::Remove);
        drop(state);
        self.erase(page, true);
        drop(removing);
        self.charge(page)
    }

    /// Drops a page whose bytes are wrong; all of the content if it is lent, since its holes may not be punched. Does IO.
    pub(super) fn drop_corrupt(self: &Arc<Self>, page: u32) {
        let dir = &self.dir;
        count(&dir.shared.counters.corrupt_pages, 1);
        tracing::debug!(dir = %dir.config().path.display(), content = %self.id, page, "a cached page is corrupt, dropping it");
        if self.is_dirty() {
            // Nobody else has better ones, and whoever restores the disk may find them good.
            return;
        }
        let mut state = lock(&self.state);
        if state.loans > 0 {
            drop(state);
            self.leave(false);
            return;
        }
        // Whoever reads the file sees the wrong bytes until they are written again, but never zeros.
        let in_use = self.keep_whole || state.is_pinned(page);
        if self.is_gone() || !self.unpublish(page) {
            return;
        }
        let removing = Pinned::add(self, &mut state, page..page + 1, PinKind::Remove);
        drop(state);
        self.erase(page, !in_use);
        drop(removing);
    }

    /// Under the state lock: the page is not present any more. False if it was not.
    fn unpublish(&self, page: u32) -> bool {
        let Some(word) = self.table.get(page) else { return false };
        let old = word.fetch_and(!(PRESENT | VERIFIED), Ordering::AcqRel);
        if old & PRESENT == 0 {
            return false;
        }
        self.present.fetch_sub(1, Ordering::AcqRel);
        if old & VERIFIED == 0 {
            self.unverified.fetch_sub(1, Ordering::AcqRel);
        }
        true
    }

    /// Takes an unpublished page off the index, the account and, if `punch`, the disk. If either fails, the content goes instead.
    fn erase(self: &Arc<Self>, page: u32, punch: bool) {
        let Some(place) = self.place.get() else { return };
        let erased = self.dir.removing().is_none_or(|_removing| {
            let recorded = self.dir.append_removal(Record::PageRemoved { slot: place.slot, page });
            let file = || self.dir.open_file(self.id, place.generation, OFlags::RDWR);
            let punched = || if punch { Ok(self.punch(file()?, page)?) } else { Ok(()) };
            let done = recorded.and_then(|()| punched());
            if let Err(error) = &done {
                tracing::debug!(content = %self.id, page, %error, "cannot take a page away, dropping its content");
            }
            done.is_ok()
        });
        self.dir.used.fetch_sub(self.charge(page), Ordering::Relaxed);
        self.dir.pages.fetch_sub(1, Ordering::Relaxed);
        if !erased {
            self.leave(false);
        }
    }

    /// Drops the content whatever it is doing; loans and readers go on with the unlinked file. Does IO.
    pub(crate) fn discard(self: &Arc<Self>) {
        self.leave(false);
    }

    /// Makes the content gone: `only_idle` refuses when somebody uses it. False if it was refused or gone before.
    pub(super) fn leave(self: &Arc<Self>, only_idle: bool) -> bool {
        let mut state = lock(&self.state);
        if self.is_gone() || only_idle && (!state.is_idle() || self.is_dirty()) {
            return false;
        }
        self.gone.store(true, Ordering::Release);
        let creating = state.creating;
        let lent = state.loans > 0;
        let retire = self.retires(&mut state);
        drop(state);
        self.dir.shared.remove(self);
        if self.dirty.swap(false, Ordering::AcqRel) {
            self.dir.note_clean(self.id);
        }
        if !creating {
            self.remove_file();
        }
        if lent {
            self.dir.shared.dropped_lent();
        }
        if retire {
            self.retire();
        }
        true
    }

    /// Under the state lock: whether the caller is the one who must [`Self::retire`] it now.
    pub(super) fn retires(&self, state: &mut State) -> bool {
        let due = self.is_gone() && state.is_idle() && !state.retired;
        state.retired |= due;
        due
    }

    /// Takes a content that is gone and unused off the account.
    pub(super) fn retire(&self) {
        let Some(place) = self.place.get() else { return };
        self.dir.used.fetch_sub(self.present_bytes(), Ordering::Relaxed);
        self.dir.pages.fetch_sub(self.present_pages().into(), Ordering::Relaxed);
        self.dir.contents.fetch_sub(1, Ordering::Relaxed);
        self.dir.released();
        lock(&self.dir.policy).release(place.slot);
    }
}

#[cfg(test)]
mod tests {
    use headpond_types::{ContentId, PAGE_SIZE};

    use super::*;
    use crate::{DirConfig, PageStore, StoreConfig};

    /// A store with a content of ten pages, of which the first two are present.
    fn begun(dir: &tempfile::TempDir) -> (PageStore, Arc<Content>) {
        let dirs = vec![DirConfig { path: dir.path().to_owned(), capacity_bytes: 64 << 20 }];
        let store = PageStore::open(StoreConfig { dirs }).unwrap();
        let content = store.content(ContentId(1), 10 * PAGE_SIZE).unwrap();
        for page in 0..2 {
            let mut writer = content.page_writer(page).unwrap();
            writer.write(&vec![7; usize::try_from(PAGE_SIZE).unwrap()]).unwrap();
            writer.commit().unwrap();
        }
        (store, content)
    }

    fn evict(content: &Arc<Content>, page: Option<u32>) -> u64 {
        content.evict(&Victim { content: Arc::clone(content), page })
    }

    #[test]
    fn a_victim_that_was_lent_since_it_was_chosen_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, content) = begun(&dir);
        let loan = content.lend().unwrap();
        assert_eq!((evict(&content, Some(0)), evict(&content, None)), (0, 0));
        assert_eq!(loan.present(&(0..u64::MAX)), vec![0..2 * PAGE_SIZE]);
        drop(loan);
        assert_eq!(evict(&content, Some(0)), PAGE_SIZE);
        assert_eq!(evict(&content, Some(1)), PAGE_SIZE);
        assert!(content.is_gone(), "with its last page the file goes");
    }

    #[test]
    fn a_victim_that_is_read_or_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, content) = begun(&dir);
        let reading = Pinned::read(&content, 0..1).unwrap();
        assert_eq!((evict(&content, Some(0)), evict(&content, None)), (0, 0));
        drop(reading);
        let writing = content.page_writer(2).unwrap();
        assert_eq!(evict(&content, None), 0);
        assert_eq!(evict(&content, Some(0)), PAGE_SIZE);
        assert_eq!(evict(&content, Some(1)), PAGE_SIZE, "the last page goes alone, the file stays for the writer");
        assert!(!content.is_gone());
        drop(writing);
    }
}
