//! Pages on their way, and the table that has each of them once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use headpond_types::{ContentId, Error, ErrorKind, Result};
use tokio::sync::SetOnce;

use super::headway::{Headway, Priority};
use crate::shared_error::SharedError;

/// Parts of the table that are locked apart, by content.
const SHARDS: usize = 16;

/// Where the bytes of a page may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// From the under store.
    Direct,
    /// From the block's owner, from the under store when that fails.
    ViaOwner,
}

/// How a flight ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The page is in the store.
    Stored,
    /// The store could not take it; these are its bytes.
    InMemory(Bytes),
    /// It could not be had.
    Failed(SharedError),
}

/// A page on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    page: u64,
    /// Of the run that it is part of.
    headway: Arc<Headway>,
    outcome: SetOnce<Outcome>,
}

impl Flight {
    pub(crate) fn new(page: u64, headway: Arc<Headway>) -> Self {
        Self { page, headway, outcome: SetOnce::new() }
    }

    /// The page.
    pub(crate) const fn page(&self) -> u64 {
        self.page
    }

    /// Whether the waiters were told.
    pub(crate) fn has_landed(&self) -> bool {
        self.outcome.initialized()
    }

    /// Tells the waiters; only the first call counts.
    pub(crate) fn land(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
    }
}

/// Where a page can be read now.
#[derive(Debug)]
pub(crate) enum Filled {
    /// In the store.
    Stored,
    /// Here: the bytes of the whole page.
    InMemory(Bytes),
}

/// What somebody who wants a page holds: it is there, or on its way.
#[derive(Clone, Debug)]
pub(crate) enum Ticket {
    /// In the store when it was claimed.
    Present,
    /// On its way.
    Flying(Arc<Flight>),
}

impl Ticket {
    /// Waits for the page as long as its run makes headway within each `deadline`. Cancel-safe: the page keeps coming.
    ///
    /// # Errors
    /// Why it could not be had, the same for everybody who waits; `DeadlineExceeded` for this waiter alone.
    pub(crate) async fn wait(&self, deadline: Duration) -> Result<Filled> {
        let Self::Flying(flight) = self else { return Ok(Filled::Stored) };
        loop {
            let before = flight.headway.received();
            match tokio::time::timeout(deadline, flight.outcome.wait()).await {
                Ok(Outcome::Stored) => return Ok(Filled::Stored),
                Ok(Outcome::InMemory(bytes)) => return Ok(Filled::InMemory(bytes.clone())),
                Ok(Outcome::Failed(error)) => return Err(error.to_error()),
                Err(_) if flight.headway.received() > before => {}
                Err(_) => {
                    let message = format!("page {} did not come within {deadline:?}: try again", flight.page);
                    return Err(Error::new(ErrorKind::DeadlineExceeded, message));
                }
            }
        }
    }
}

/// Flights by content, page and route.
type Shard = HashMap<(ContentId, u64, Route), Arc<Flight>>;

/// All flights of this worker.
#[derive(Debug, Default)]
pub(crate) struct FlightTable {
    shards: [Mutex<Shard>; SHARDS],
}

impl FlightTable {
    /// The flights of `content`, locked.
    pub(crate) fn lock(&self, content: ContentId) -> Flights<'_> {
        let (_, low) = content.halves();
        let shard = usize::try_from(low % SHARDS as u64).expect("below the number of shards");
        Flights { content, shard: self.shards[shard].lock().expect("no panic while held") }
    }

    /// Flights under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("no panic while held").len()).sum()
    }
}

/// The flights of one content, while they are locked.
#[derive(Debug)]
pub(crate) struct Flights<'a> {
    content: ContentId,
    shard: MutexGuard<'a, Shard>,
}

impl Flights<'_> {
    /// A flight of `page` that somebody on `route` may wait for.
    pub(crate) fn join(&self, page: u64, route: Route, priority: Priority) -> Option<Arc<Flight>> {
        let find = |route| self.shard.get(&(self.content, page, route));
        let flight = match route {
            Route::Direct => find(Route::Direct),
            Route::ViaOwner => find(Route::ViaOwner).or_else(|| find(Route::Direct)),
        }?;
        flight.headway.want(priority);
        Some(Arc::clone(flight))
    }

    /// Adds a flight; there must be none of that page and route.
    pub(crate) fn insert(&mut self, route: Route, flight: Arc<Flight>) {
        self.shard.insert((self.content, flight.page, route), flight);
    }

    /// Takes `flight` away if it is still there.
    pub(crate) fn remove(&mut self, route: Route, flight: &Arc<Flight>) {
        let key = (self.content, flight.page, route);
        if self.shard.get(&key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.shard.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_page_waits_as_long_as_its_run_makes_headway() {
        const DEADLINE: Duration = Duration::from_secs(10);
        let headway = Arc::new(Headway::new(Priority::Now));
        let ticket = Ticket::Flying(Arc::new(Flight::new(3, Arc::clone(&headway))));
        let begin = tokio::time::Instant::now();
        let advances = async {
            for _ in 0..3 {
                tokio::time::sleep(DEADLINE - Duration::from_secs(1)).await;
                headway.advance(1);
            }
        };
        let (waited, ()) = tokio::join!(ticket.wait(DEADLINE), advances);
        assert_eq!(waited.expect_err("it never lands").kind(), ErrorKind::DeadlineExceeded);
        let waited = begin.elapsed();
        assert!(waited >= 3 * DEADLINE && waited <= 4 * DEADLINE, "{waited:?}");
    }
}
