//! Contents whose only place is here.
//!
//! The file says so itself ([`crate::dir::Claims`]); the index repeats it, so that only the files of such contents need be asked at open. It stops saying so
//! before the index does. Files of several such contents may be one file (hard links): then each goes as a whole.

use std::sync::{Arc, atomic::Ordering};

use rustix::fs::{OFlags, Stat};

use super::{Content, pin::Pinned};
use crate::{dir::Claims, index::Record, shared::lock};

impl Content {
    /// Whether its only place may be here: it is neither evicted nor freed.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
        self.dir.note_dirty(self.id, self.length);
    }

    pub(super) fn first_record(&self, slot: u32, generation: u32) -> Record {
        let Self { id, length, .. } = *self;
        if self.is_dirty() {
            Record::DirtyContent { slot, id, length, generation }
        } else {
            Record::Content { slot, id, length, generation }
        }
    }

    /// See [`crate::PageStore::set_clean`].
    pub(crate) fn clean(self: &Arc<Self>) {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return;
        }
        self.dir.note_clean(self.id);
        let pages = self.page_count();
        let Some(place) = self.place.get() else { return };
        let Ok(file) = self.open(OFlags::RDWR) else { return };
        // One that was several contents' may have bytes behind the end of this one.
        let is_plain = |stat: Stat| stat.st_nlink == 1 && u64::try_from(stat.st_size) == Ok(self.length);
        let is_plain = pages > 0 && rustix::fs::fstat(&file).is_ok_and(is_plain);
        // Until its pages are queued it must not go.
        let Some(pin) = Pinned::read(self, 0..pages).ok().filter(|_| is_plain) else {
            self.discard();
            return;
        };
        let said =
            Claims::default().write(&file).and_then(|()| self.dir.append_removal(Record::Clean { slot: place.slot }));
        if let Err(error) = said {
            tracing::debug!(content = %self.id, %error, "a cached file goes on to say that it is needed");
        }
        let mut policy = lock(&self.dir.policy);
        (0..pages).for_each(|page| policy.insert(self, place.slot, page));
        drop(policy);
        drop(pin);
        self.dir.released();
    }
}
