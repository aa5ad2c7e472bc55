//! Reads: bytes of ranges, from the cache where they are, else as fills bring them.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use headpond_proto::v1::SignedGrant;
use headpond_runtime::Clock;
use headpond_store::{Content, StoreError};
use headpond_types::{ByteRange, Error, ErrorKind, PAGE_SIZE, Result, pages_of};

use crate::{
    cache::Cache,
    cluster::Cluster,
    config::Deadlines,
    fill::{Filled, Filler, Job, Pages, Priority, Route, Step},
    metrics::Metrics,
};

/// Chunks read from the cache while earlier ones are on their way to the client.
const CHUNKS_AHEAD: usize = 4;

/// How often a page that vanished again (evicted, corrupt, its directory gone) is fetched before it is passed on through
/// memory.
const REFILLS: u32 = 2;

/// A piece of what was asked for.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Offset of the first byte in the content.
    pub(crate) offset: u64,
    /// At most a page of bytes.
    pub(crate) data: Bytes,
}

/// Serves contents: what gRPC and the unix socket have in common.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) cache: Arc<Cache>,
    pub(crate) filler: Arc<Filler>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) deadlines: Deadlines,
}

impl Reader {
    /// Checks `grant` and finds or begins its content in the cache.
    ///
    /// # Errors
    /// Those of [`crate::grants::Grants::check`].
    pub(crate) fn job(&self, grant: Option<&SignedGrant>, route: Route) -> Result<Job> {
        let grant = self.cluster.grants.check(grant, self.clock.now())?;
        let content = self.cache.content(&grant);
        Ok(Job { grant, content, route })
    }

    /// The bytes of `ranges`, in order; cut off at the content's end. Fills begin at once; further ones only as the stream is
    /// polled. Of no use after an error.
    pub(crate) fn read(
        self: &Arc<Self>,
        job: Job,
        ranges: Vec<ByteRange>,
    ) -> impl Stream<Item = Result<Chunk>> + Send + 'static + use<> {
        let reader = Arc::clone(self);
        let pages = Pages::new(Arc::clone(&self.filler), job.clone(), ranges);
        futures::stream::iter(pages)
            .map(move |step| {
                let (reader, job) = (Arc::clone(&reader), job.clone());
                async move { reader.chunk(job, step).await }
            })
            .buffered(CHUNKS_AHEAD)
    }

    /// Brings `ranges` into the cache. Fills begin with the call, before the answer is polled. Cancel-safe: what was begun goes on.
    ///
    /// # Errors
    /// Those of fills; `ResourceExhausted` when the cache cannot keep the pages.
    pub(crate) fn ensure(&self, job: &Job, ranges: Vec<ByteRange>) -> impl Future<Output = Result<()>> + Send {
        let pages = Pages::new(Arc::clone(&self.filler), job.clone(), ranges);
        async move {
            for step in pages {
                self.ensure_page(job, &step).await?;
            }
            Ok(())
        }
    }

    /// Waits until the page of `step` is in the cache.
    ///
    /// # Errors
    /// As [`Reader::ensure`].
    pub(crate) async fn ensure_page(&self, job: &Job, step: &Step) -> Result<()> {
        match step.ticket.wait(self.deadlines.read).await.map_err(|error| naming(job, error))? {
            Filled::Stored => Ok(()),
            Filled::InMemory(_) => Err(cannot_keep(job)),
        }
    }

    /// Brings a whole content into the cache and compares it with its checksums.
    ///
    /// # Errors
    /// As [`Reader::ensure`].
    pub(crate) async fn bring_whole(&self, job: &Job) -> Result<Arc<Content>> {
        let whole = 0..job.grant.length;
        for attempt in 0..=REFILLS {
            self.ensure(job, vec![whole.clone()]).await?;
            let Some(content) = self.cache.content(&job.grant) else { break };
            let verified = self.cache.verify(&content, pages_of(&whole)).await;
            if content.is_complete() && verified.is_ok() || attempt == REFILLS {
                return Ok(content);
            }
        }
        Err(cannot_keep(job))
    }

    /// One chunk, whatever the cache does meanwhile.
    async fn chunk(&self, mut job: Job, step: Step) -> Result<Chunk> {
        let Step { page, bytes, mut ticket } = step;
        for attempt in 0.. {
            let filled = ticket.wait(self.deadlines.read).await.map_err(|error| naming(&job, error))?;
            match (filled, &job.content) {
                (Filled::InMemory(whole), _) => {
                    let data = slice(&whole, page, &bytes)?;
                    self.metrics.served(data.len());
                    return Ok(Chunk { offset: bytes.start, data });
                }
                (Filled::Stored, Some(content)) => match self.cache.read(content, bytes.clone()).await {
                    Ok(data) => {
                        self.metrics.served(data.len());
                        return Ok(Chunk { offset: bytes.start, data });
                    }
                    Err(StoreError::Absent { .. } | StoreError::Corrupt { .. }) if attempt < REFILLS => {
                        job.content = self.cache.content(&job.grant);
                    }
                    Err(_) => job = job.uncached(),
                },
                // Somebody else's flight ended in a cache that this reader has given up on.
                (Filled::Stored, None) if attempt > 2 * REFILLS => break,
                (Filled::Stored, None) => {}
            }
            let claimed = self.filler.claim(&job, page..page + 1, Priority::Now, false);
            ticket = claimed.into_iter().next().expect("a ticket for each page");
        }
        let message =
            format!("page {page} of {} vanishes from the cache again and again: try again", job.grant.describe());
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// The part `bytes` of the page whose bytes are `whole`.
fn slice(whole: &Bytes, page: u64, bytes: &ByteRange) -> Result<Bytes> {
    let at = |offset: u64| usize::try_from(offset - page * PAGE_SIZE).ok().filter(|at| *at <= whole.len());
    match (at(bytes.start), at(bytes.end)) {
        (Some(start), Some(end)) => Ok(whole.slice(start..end)),
        _ => Err(Error::new(ErrorKind::Internal, format!("page {page} came shorter than it is"))),
    }
}

/// The cache has no room for what must be read from its files.
pub(crate) fn cannot_keep(job: &Job) -> Error {
    let message = format!("the cache cannot keep {}: read it over gRPC", job.grant.describe());
    Error::new(ErrorKind::ResourceExhausted, message)
}

/// `error`, with mount and key of what was read.
fn naming(job: &Job, error: Error) -> Error {
    let what = format!("cannot read {}", job.grant.describe());
    Error::new(error.kind(), what).with_source(error)
}
