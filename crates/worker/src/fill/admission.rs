//! Bounds the bytes under way, and lets what a reader waits for go before what is fetched for later.
//!
//! What comes from the under store and what comes from peers is counted apart: a peer's answer may wait for an under store, an
//! under store waits for nobody. With one count for both, two workers full of requests to each other would wait for ever.

use std::sync::Arc;

use headpond_types::PAGE_SIZE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::headway::Headway;

/// The right to have pages under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    _all: OwnedSemaphorePermit,
    _later: Option<OwnedSemaphorePermit>,
}

/// Counts pages under way. Fair within a priority: first come, first served.
#[derive(Debug)]
pub(crate) struct Admission {
    all: Arc<Semaphore>,
    later: Arc<Semaphore>,
}

impl Admission {
    /// At most `bytes` under way, three quarters of them for later.
    pub(crate) fn new(bytes: u64) -> Self {
        let pages = usize::try_from(bytes / PAGE_SIZE).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(pages)), later: Arc::new(Semaphore::new(pages / 4 * 3)) }
    }

    /// Waits for room for `pages`. Cancel-safe.
    pub(crate) async fn admit(&self, pages: u32, headway: &Headway) -> Admitted {
        let later = tokio::select! {
            biased;
            () = headway.until_urgent() => None,
            permit = acquire(&self.later, pages) => Some(permit),
        };
        Admitted { _all: acquire(&self.all, pages).await, _later: later }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, pages: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_many_owned(pages).await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::fill::headway::Priority;

    #[tokio::test]
    async fn readahead_leaves_room_and_becomes_urgent_when_a_reader_comes() {
        let admission = Admission::new(8 * PAGE_SIZE);
        let later = Headway::new(Priority::Later);
        let ahead = admission.admit(6, &later).await;
        assert!(admission.admit(1, &later).now_or_never().is_none(), "three quarters are taken");
        let now = admission.admit(1, &Headway::new(Priority::Now)).now_or_never();
        assert!(now.is_some(), "a quarter is left for readers");
        later.want(Priority::Now);
        assert!(admission.admit(1, &later).now_or_never().is_some(), "somebody waits by now");
        drop((ahead, now));
        let later = Headway::new(Priority::Later);
        assert!(admission.admit(6, &later).now_or_never().is_some(), "all was given back");
    }
}
