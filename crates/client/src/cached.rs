//! What is cached where: free, presence, sizes.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, future};
use headpond_proto::{
    from_failure, status,
    v1::{self, worker_service_client::WorkerServiceClient},
};
use headpond_transport::Link;
use headpond_types::{Attr, ContentId, Error, ErrorKind, Member, Result};
use tokio::time::timeout;
use tonic::{Response, Status};

use crate::{
    ListTarget,
    files::{Found, files},
    master::{self, Retry},
    shared::Shared,
};

/// Contents in one question about presence: 400 KiB.
const BATCH: usize = 20_000;

/// Files freed by one request, for each of which the master grants and workers check a right.
const FREED_AT_ONCE: usize = 500;

/// What a free dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Contents of which something was cached, counted once per worker.
    pub contents: u64,
    /// Bytes over all workers.
    pub bytes: u64,
}

/// How much of some contents a worker has.
#[derive(Debug)]
pub struct Presence {
    /// The worker.
    pub worker: Member,
    /// Cached bytes per content, in the order asked; an error when the worker could not be asked.
    pub cached_bytes: Result<Vec<u64>>,
}

/// Size of the namespace and of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Known inodes.
    pub inodes: u64,
    /// Bytes of all known files.
    pub bytes: u64,
    /// Bytes that the workers can cache.
    pub cache_capacity: u64,
    /// Bytes that they have cached.
    pub cache_used: u64,
}

pub(crate) async fn free(shared: &Arc<Shared>, target: ListTarget, recursive: bool) -> Result<Freed> {
    let files = files(shared, target, recursive).await?;
    let mut batches = files.try_chunks(FREED_AT_ONCE);
    let mut freed = Freed::default();
    let mut failed = None;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| error.1)?;
        for content in batch.iter().filter_map(|(_, attr)| attr.content) {
            // An open file that nobody reads must not keep its content lent.
            shared.open_files.forget(content);
        }
        let (grants, refused) = grants(shared, &batch).await?;
        failed = failed.or(refused);
        for (_, answer) in on_all_workers(shared, |mut service| {
            let request = v1::FreeRequest { grants: grants.clone() };
            async move { service.free(request).await }
        })
        .await?
        {
            match answer {
                Ok(v1::FreeResponse { contents, bytes }) => {
                    freed.contents += contents;
                    freed.bytes += bytes;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(freed), Err)
}

/// The rights to read `files`, and the first failure to get one. A file that is gone is nobody's to free.
async fn grants(shared: &Shared, files: &[Found]) -> Result<(Vec<v1::SignedGrant>, Option<Error>)> {
    let held = |attr: &Attr| shared.grants.get(&attr.content?).filter(|grant| grant.is_fresh());
    let mut grants = Vec::with_capacity(files.len());
    let mut opens = Vec::new();
    for (_, attr) in files {
        match held(attr) {
            Some(grant) => grants.push(grant.signed()),
            None => opens.push(v1::OpenRequest { inode: attr.inode.0, ..v1::OpenRequest::default() }),
        }
    }
    if opens.is_empty() {
        return Ok((grants, None));
    }
    let call = |channel| {
        let request = v1::BatchOpenRequest { opens: opens.clone() };
        async move { master::namespace(channel).batch_open(request).await }
    };
    let answer = shared.masters.call("open", Retry::Yes, call).await.map_err(Error::from)?;
    let mut failed = None;
    for result in answer.results {
        match result.result {
            Some(v1::open_result::Result::Opened(opened)) => grants.extend(opened.grant),
            Some(v1::open_result::Result::Failure(failure)) => {
                let error = from_failure(&failure.kind, failure.message);
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Stale) {
                    failed = failed.or(Some(error));
                }
            }
            None => {}
        }
    }
    Ok((grants, failed))
}

pub(crate) async fn presence(shared: &Arc<Shared>, contents: &[ContentId]) -> Result<Vec<Presence>> {
    let mut presence: BTreeMap<String, Presence> = BTreeMap::new();
    for batch in contents.chunks(BATCH) {
        let contents: Vec<v1::ContentId> = batch.iter().copied().map(Into::into).collect();
        let answers = on_all_workers(shared, |mut service| {
            let request = v1::PresenceRequest { contents: contents.clone() };
            async move { service.presence(request).await }
        })
        .await?;
        for (worker, answer) in answers {
            let answer = answer.and_then(|answer| {
                if answer.cached_bytes.len() == batch.len() {
                    Ok(answer.cached_bytes)
                } else {
                    Err(Error::new(ErrorKind::Internal, format!("worker {} answered too few", worker.address)))
                }
            });
            let sum = presence
                .entry(worker.address.clone())
                .or_insert_with(|| Presence { worker, cached_bytes: Ok(Vec::new()) });
            match (&mut sum.cached_bytes, answer) {
                (Ok(sum), Ok(more)) => sum.extend(more),
                (sum @ Ok(_), Err(error)) => *sum = Err(error),
                (Err(_), _) => {}
            }
        }
    }
    Ok(presence.into_values().collect())
}

/// Asks every live worker at once.
async fn on_all_workers<T, F, Fut>(shared: &Shared, call: F) -> Result<Vec<(Member, Result<T>)>>
where
    F: Fn(WorkerServiceClient<Link>) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let ring = shared.ring().await?;
    let asked = ring.members.iter().map(|member| {
        let answer = shared.workers.service(member).map(&call);
        async move {
            let what = format!("worker {}", member.address);
            let answer = match answer {
                Ok(answer) => timeout(shared.config.metadata_timeout, answer).await,
                Err(error) => return (member.clone(), Err(error)),
            };
            let answer = match answer {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) => Err(status::to_error(&status, &what)),
                Err(_) => Err(Error::new(ErrorKind::DeadlineExceeded, format!("{what} did not answer in time"))),
            };
            (member.clone(), answer)
        }
    });
    Ok(future::join_all(asked).await)
}
