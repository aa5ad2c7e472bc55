//! The worker's gRPC services.

mod staging;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use headpond_proto::{
    status,
    v1::{
        FreeRequest, FreeResponse, LoadProgress, LoadRequest, Origin, PingRequest, PingResponse, PresenceRequest,
        PresenceResponse, ReadRequest, ReadResponse, worker_service_server::WorkerService,
    },
};
use headpond_types::{ByteRange, Error, Result, page_count, page_range};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

pub(crate) use self::staging::StagingRpc;
use crate::{
    fill::{Job, Pages, Route, Step},
    grants::claimed_content,
    heir,
    ranges::checked,
    reader::{Chunk, Reader},
};

/// Pause between two reports of progress.
const REPORT: Duration = Duration::from_millis(500);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers clients and peers.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Arc<Reader>);

#[tonic::async_trait]
impl WorkerService for Service {
    type ReadStream = Answers<ReadResponse>;
    type LoadStream = Answers<LoadProgress>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let origin = request.origin();
        let ranges = checked(request.ranges).map_err(to_status)?;
        let route = match origin {
            Origin::Client => Route::ViaOwner,
            Origin::Peer => Route::Direct,
            Origin::Heir => {
                let chunks = heir::cached(&self.0, request.grant.as_ref(), ranges).map_err(to_status)?;
                return Ok(Response::new(until_error(messages(chunks))));
            }
        };
        let job = self.0.job(request.grant.as_ref(), route).map_err(to_status)?;
        let chunks = self.0.read(job.clone(), ranges);
        if let Some(readahead) = request.readahead {
            self.0.filler.prefetch(&job, readahead.into());
        }
        Ok(Response::new(until_error(messages(chunks))))
    }

    async fn load(&self, request: Request<LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let request = request.into_inner();
        let ranges = checked(request.ranges).map_err(to_status)?;
        let job = self.0.job(request.grant.as_ref(), Route::ViaOwner).map_err(to_status)?;
        Ok(Response::new(until_error(progress(Arc::clone(&self.0), job, ranges))))
    }

    async fn free(&self, request: Request<FreeRequest>) -> Result<Response<FreeResponse>, Status> {
        let mut freed = FreeResponse::default();
        for signed in request.into_inner().grants {
            // Checking a signature costs far more than seeing that there is nothing to do.
            if claimed_content(&signed).is_some_and(|content| self.0.cache.store().find(content).is_none()) {
                continue;
            }
            let grant = self.0.cluster.grants.check(Some(&signed), self.0.clock.now()).map_err(to_status)?;
            if self.0.cache.store().find(grant.content).is_some_and(|content| !content.is_dirty()) {
                freed.bytes += self.0.cache.free(grant.content).await;
                freed.contents += 1;
            }
        }
        Ok(Response::new(freed))
    }

    async fn presence(&self, request: Request<PresenceRequest>) -> Result<Response<PresenceResponse>, Status> {
        let cached = |content| self.0.cache.store().find(content).map_or(0, |content| cached_bytes(&content));
        let contents = request.into_inner().contents.into_iter();
        Ok(Response::new(PresenceResponse { cached_bytes: contents.map(|content| cached(content.into())).collect() }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }
}

fn messages(chunks: impl Stream<Item = Result<Chunk>> + Send) -> impl Stream<Item = Result<ReadResponse>> + Send {
    chunks.map(|chunk| chunk.map(|Chunk { offset, data }| ReadResponse { offset, data }))
}

/// Bytes of the present pages.
fn cached_bytes(content: &headpond_store::Content) -> u64 {
    let length = content.length();
    let bytes =
        |pages: std::ops::Range<u64>| page_range(pages.end - 1, length).end - page_range(pages.start, length).start;
    length - content.missing(0..page_count(length)).into_iter().map(bytes).sum::<u64>()
}

/// Loads `ranges` (the whole content if there are none), saying how far it is.
fn progress(
    reader: Arc<Reader>,
    job: Job,
    mut ranges: Vec<ByteRange>,
) -> impl Stream<Item = Result<LoadProgress>> + Send {
    if ranges.is_empty() {
        ranges.push(0..job.grant.length);
    }
    let total = ranges.iter().map(|range| job.grant.clamp(range.clone())).map(|range| range.end - range.start).sum();
    let pages = Pages::new(Arc::clone(&reader.filler), job.clone(), ranges);
    let first = LoadProgress { done: 0, total };
    let start = (reader, job, pages, first, false);
    futures::stream::try_unfold(start, |(reader, job, mut pages, mut at, finished)| async move {
        if finished {
            return Ok(None);
        }
        let report = Instant::now() + REPORT;
        for step in pages.by_ref() {
            let Step { bytes, .. } = &step;
            at.done += bytes.end - bytes.start;
            reader.ensure_page(&job, &step).await?;
            if Instant::now() >= report {
                return Ok(Some((at, (reader, job, pages, at, false))));
            }
        }
        Ok(Some((at, (reader, job, pages, at, true))))
    })
}

/// Answers up to and with the first error.
fn until_error<T: Send + 'static>(answers: impl Stream<Item = Result<T>> + Send + 'static) -> Answers<T> {
    let stopped = answers.scan(false, |failed, answer| {
        let go_on = !*failed;
        *failed |= answer.is_err();
        futures::future::ready(go_on.then(|| answer.map_err(to_status)))
    });
    Box::pin(stopped)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn to_status(error: Error) -> Status {
    status::from_error(&error)
}
