//! Making room: bytes are reserved before they are written, and units are evicted until the reservation fits.

use std::sync::{Arc, atomic::Ordering};

use super::Dir;
use crate::{
    error::{Result, StoreError},
    policy::Search,
    shared::lock,
    usage::count,
};

/// Bytes set aside in a directory; given back when dropped unless they were used.
#[derive(Debug)]
pub(crate) struct Reservation {
    dir: Arc<Dir>,
    bytes: u64,
}

impl Reservation {
    /// The bytes are occupied now.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }

    /// Counts `bytes` from now on, room or not: they are on the disk already.
    pub(crate) fn set(&mut self, bytes: u64) {
        self.dir.used.fetch_add(bytes, Ordering::Relaxed);
        self.dir.used.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
    }

    /// Counts `bytes` from now on, evicting what is needed. Does IO. After an error it counts what it did before.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<()> {
        let _more = self.dir.reserve(bytes.saturating_sub(self.bytes))?;
        self.set(bytes);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.dir.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How an eviction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    Enough,
    /// Not enough, and something that may go was being read or written: another try may succeed at once.
    Busy,
    /// Not enough: what there is, is lent.
    Nothing,
}

impl Dir {
    /// A reservation of no bytes.
    pub(crate) fn nothing_reserved(self: &Arc<Self>) -> Reservation {
        Reservation { dir: Arc::clone(self), bytes: 0 }
    }

    /// Sets `bytes` aside, evicting what is needed. Does IO.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation> {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Reservation { dir: Arc::clone(self), bytes };
        let capacity = self.config.capacity_bytes;
        let over = || self.used.load(Ordering::Relaxed) > capacity;
        if !over() {
            return Ok(reservation);
        }
        // With everything lent a search looks at every entry several times: not once more before something changed.
        let releases = self.releases.load(Ordering::Acquire);
        if bytes <= capacity && self.starved_at.load(Ordering::Acquire) != releases {
            match self.evict_while(|_| over()) {
                Eviction::Enough => return Ok(reservation),
                Eviction::Busy => {}
                Eviction::Nothing => self.starved_at.store(releases, Ordering::Release),
            }
        }
        self.check()?;
        Err(StoreError::Full { dir: self.config.path.clone() })
    }

    /// Something was let go that eviction may have stumbled over.
    pub(crate) fn released(&self) {
        self.releases.fetch_add(1, Ordering::Release);
    }

    /// Evicts at least `bytes`; whether it could. Does IO.
    pub(crate) fn evict_bytes(self: &Arc<Self>, bytes: u64) -> bool {
        self.evict_while(|evicted| evicted < bytes) == Eviction::Enough
    }

    /// Evicts while `wanted`, given the bytes evicted so far.
    pub(crate) fn evict_while(self: &Arc<Self>, wanted: impl Fn(u64) -> bool) -> Eviction {
        let mut evicted = 0;
        if !wanted(evicted) {
            return Eviction::Enough;
        }
        let mut without = Eviction::Nothing;
        let mut patience = lock(&self.policy).patience();
        let recall = |content: &Arc<crate::Content>| {
            if content.mark_recalled() {
                self.shared.recall(content.id());
            }
        };
        while wanted(evicted) {
            let found = lock(&self.policy).search(recall);
            match found {
                Search::Found(victim) => {
                    let bytes = victim.content.evict(&victim);
                    if bytes == 0 {
                        without = Eviction::Busy;
                        let Some(left) = patience.checked_sub(1) else { return without };
                        patience = left;
                    } else {
                        count(&self.shared.counters.evicted_bytes, bytes);
                        evicted += bytes;
                        patience = patience.max(lock(&self.policy).patience());
                    }
                }
                Search::More(looked_at) => {
                    let Some(left) = patience.checked_sub(looked_at) else { return without };
                    patience = left;
                }
                Search::Empty => return without,
            }
        }
        Eviction::Enough
    }
}
