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
        let (bytes, pages) = match victim.page {
            Some(page) if self.present_pages() > 1 && !self.keep_whole => (self.evict_page(page), 1),
            _ => {
                let (bytes, pages) = (self.present_bytes(), self.present_pages());
                (if self.leave(true) { bytes } else { 0 }, pages)
            }
        };
        if bytes > 0 {
            count(&self.dir.shared.counters.evicted_pages, pages.into());
        } else if let Some(place) = self.place.get() {
            lock(&self.dir.policy).put_back(victim, place.slot);
        }
        bytes
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
        tracing::warn!(dir = %dir.config().path.display(), content = %self.id, page, "a cached page is corrupt, dropping it");
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
        if self.is_gone() || only_idle && !state.is_idle() {
            return false;
        }
        self.gone.store(true, Ordering::Release);
        let creating = state.creating;
        let retire = self.retires(&mut state);
        drop(state);
        self.dir.shared.remove(self);
        if !creating {
            self.remove_file();
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
