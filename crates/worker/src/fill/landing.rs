//! What must happen to every flight exactly once: it leaves the table and its waiters are told.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headpond_types::{Error, ErrorKind};

use super::{
    Filler, Job,
    flight::{Flight, Outcome, Route},
};
use crate::shared_error::SharedError;

/// A flight in the table, to be landed. Dropped, it fails: whoever waits hears of it and may ask again.
#[derive(Debug)]
pub(super) struct Landing {
    filler: Arc<Filler>,
    job: Job,
    route: Route,
    flight: Arc<Flight>,
}

impl Landing {
    /// The landing of `flight`, which is in the table under `route`.
    pub(super) const fn new(filler: Arc<Filler>, job: Job, route: Route, flight: Arc<Flight>) -> Self {
        Self { filler, job, route, flight }
    }

    /// The page.
    pub(super) fn page(&self) -> u64 {
        self.flight.page()
    }

    /// The page has come: keeps it, or hands it to the waiters when the store does not take it.
    pub(super) async fn keep(self, parts: Vec<Bytes>) {
        let Job { grant, content, .. } = &self.job;
        if content.is_some() {
            let kept = self.filler.cache.keep(grant, self.page(), parts.clone()).await.is_ok();
            self.filler.note_kept(kept);
            if kept {
                return self.land(Outcome::Stored);
            }
        }
        self.land(Outcome::InMemory(joined(parts)));
    }

    /// The page could not be had.
    pub(super) fn fail(self, error: SharedError) {
        self.land(Outcome::Failed(error));
    }

    fn land(&self, outcome: Outcome) {
        // First out of the table, then told: a waiter that asks again must not find this flight.
        self.filler.flights.lock(self.job.grant.content).remove(self.route, &self.flight);
        self.flight.land(outcome);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.flight.has_landed() {
            return;
        }
        let stopped = Error::new(ErrorKind::Unavailable, "the worker stopped fetching this page: ask again");
        self.land(Outcome::Failed(stopped.into()));
    }
}

fn joined(parts: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([part]) => part,
        Err(parts) => {
            let mut page = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| page.extend_from_slice(part));
            page.freeze()
        }
    }
}
