//! Decides who fetches a page.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use headpond_runtime::Tasks;
use headpond_store::Content;
use headpond_transport::Transport;
use headpond_types::{BLOCK_SIZE, ByteRange, PAGE_SIZE, pages_of};

use super::{
    admission::Admission,
    flight::{Flight, FlightTable, Route, Ticket},
    headway::{Headway, Priority},
    landing::Landing,
    run::Run,
};
use crate::{cache::Cache, cluster::Cluster, config::WorkerConfig, grants::Grant, metrics::Metrics, peers::Peers};

/// One reader's wish: what it reads, where that is kept, and where it may be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// What is read, as the master granted it.
    pub(crate) grant: Arc<Grant>,
    /// Where its pages are kept; `None` when the store is broken: then pages are fetched and passed on through memory.
    pub(crate) content: Option<Arc<Content>>,
    /// `Direct` when a peer asks, which takes this worker for the owner.
    pub(crate) route: Route,
}

impl Job {
    /// The same wish without a cache.
    pub(crate) fn uncached(&self) -> Self {
        Self { content: None, ..self.clone() }
    }

    /// Which of `pages` are missing.
    fn missing(&self, pages: Range<u64>) -> Vec<Range<u64>> {
        self.content.as_ref().map_or_else(|| vec![pages.clone()], |content| content.missing(pages.clone()))
    }
}

/// Fetches what is missing, each page once.
#[derive(Debug)]
pub(crate) struct Filler {
    pub(super) cache: Arc<Cache>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) peers: Peers,
    pub(super) flights: FlightTable,
    /// For what comes from under stores.
    direct: Admission,
    /// For what comes from owners.
    via_owner: Admission,
    /// Whether the page that came last could be kept.
    keeping: AtomicBool,
    pub(super) metrics: Metrics,
    pub(super) config: WorkerConfig,
    pub(super) tasks: Tasks,
}

impl Filler {
    /// Nothing under way yet.
    pub(crate) fn new(
        config: WorkerConfig,
        transport: Transport,
        cache: Arc<Cache>,
        cluster: Arc<Cluster>,
        metrics: Metrics,
        tasks: Tasks,
    ) -> Self {
        Self {
            cache,
            cluster,
            peers: Peers::new(transport, config.deadlines),
            flights: FlightTable::default(),
            direct: Admission::new(config.max_in_flight),
            via_owner: Admission::new(config.max_in_flight),
            keeping: AtomicBool::new(true),
            metrics,
            config,
            tasks,
        }
    }

    /// Pages in a segment.
    pub(crate) const fn segment_pages(&self) -> u64 {
        self.config.max_request / PAGE_SIZE
    }

    /// Pages under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Bounds what is under way on `route`.
    pub(super) const fn admission(&self, route: Route) -> &Admission {
        match route {
            Route::Direct => &self.direct,
            Route::ViaOwner => &self.via_owner,
        }
    }

    /// Whether the cache takes pages at present.
    pub(super) fn is_keeping(&self) -> bool {
        self.keeping.load(Ordering::Relaxed)
    }

    /// Notes whether the cache took a page.
    pub(super) fn note_kept(&self, kept: bool) {
        self.keeping.store(kept, Ordering::Relaxed);
    }

    /// A ticket for each of `pages`, which lie in one segment: what is under way is joined, what is missing is fetched from
    /// now on. With `lead`, the first missing page comes in a request of its own, so that its reader has it early. Never
    /// waits.
    pub(crate) fn claim(self: &Arc<Self>, job: &Job, pages: Range<u64>, priority: Priority, lead: bool) -> Vec<Ticket> {
        let content = job.grant.content;
        let owner = match job.route {
            Route::ViaOwner if !job.grant.is_dirty() => {
                self.cluster.owner(content, pages.start * PAGE_SIZE / BLOCK_SIZE)
            }
            Route::ViaOwner | Route::Direct => None,
        };
        // Who asks holders must not be waited for by one of them.
        let route = if job.grant.is_dirty() {
            job.route
        } else if owner.is_some() {
            Route::ViaOwner
        } else {
            Route::Direct
        };

        let mut tickets = Vec::new();
        let mut runs: Vec<(Arc<Headway>, VecDeque<Landing>)> = Vec::new();
        let mut extend = false;
        let mut flights = self.flights.lock(content);
        let missing = job.missing(pages.clone());
        for page in pages {
            if let Some(flight) = flights.join(page, job.route, priority) {
                tickets.push(Ticket::Flying(flight));
                extend = false;
            } else if missing.iter().any(|range| range.contains(&page)) {
                if !extend {
                    runs.push((Arc::new(Headway::new(priority)), VecDeque::new()));
                }
                let (headway, landings) = runs.last_mut().expect("pushed here or with the page before");
                let flight = Arc::new(Flight::new(page, Arc::clone(headway)));
                flights.insert(route, Arc::clone(&flight));
                landings.push_back(Landing::new(Arc::clone(self), job.clone(), route, Arc::clone(&flight)));
                tickets.push(Ticket::Flying(flight));
                extend = !(lead && runs.len() == 1);
            } else {
                tickets.push(Ticket::Present);
                extend = false;
            }
        }
        drop(flights);
        for (headway, landings) in runs {
            let run = Run::new(Arc::clone(self), job.clone(), (route, owner.clone()), landings, headway);
            self.tasks.spawn(run.fly());
        }
        tickets
    }

    /// Has `range` fetched in the background, up to the configured readahead, unless too much is queued already or the cache
    /// could not keep it.
    pub(crate) fn prefetch(self: &Arc<Self>, job: &Job, range: ByteRange) {
        if job.content.is_none() || !self.is_keeping() {
            return;
        }
        let end = range.end.min(range.start.saturating_add(self.config.max_readahead));
        let bound = self.config.max_in_flight.saturating_mul(2) / PAGE_SIZE;
        for segment in segments(pages_of(&job.grant.clamp(range.start..end)), self.segment_pages()) {
            if self.in_flight() as u64 >= bound {
                return;
            }
            self.claim(job, segment, Priority::Later, false);
        }
    }
}

/// `pages` cut where segments of `length` pages begin.
fn segments(pages: Range<u64>, length: u64) -> impl Iterator<Item = Range<u64>> {
    let mut rest = pages;
    std::iter::from_fn(move || {
        let start = rest.start;
        rest.start = ((start / length + 1) * length).min(rest.end);
        (start < rest.end).then_some(start..rest.start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "ranges are the data here")]
    fn segments_are_cut_at_their_own_borders() {
        assert_eq!(segments(3..20, 8).collect::<Vec<_>>(), [3..8, 8..16, 16..20]);
        assert_eq!(segments(8..16, 8).collect::<Vec<_>>(), vec![8..16]);
        assert_eq!(segments(5..5, 8).count(), 0);
    }
}
