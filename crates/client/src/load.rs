//! What is cached where: load, free, presence.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use headpond_proto::{
    status,
    v1::{self, worker_service_client::WorkerServiceClient},
};
use headpond_types::{Attr, ByteRange, ContentId, Error, ErrorKind, FileKind, Member, Result, block_of};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tonic::{Response, Status, transport::Channel};

use crate::{
    ListOptions, ListTarget, grant::Grant, listing, metadata::Question, opening, remote::by_block, shared::Shared,
};

/// Failures kept for the report.
const FAILURES: usize = 100;

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(250);

/// Workers tried for a block.
const ATTEMPTS: usize = 3;

/// Contents in one request to a worker: 400 KiB.
const BATCH: usize = 20_000;

/// How to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Load all files below a directory; without it a directory is refused.
    pub recursive: bool,
    /// Load into the worker of this node rather than into the blocks' owners.
    pub local: bool,
    /// Files loaded at once, at least 1.
    pub parallel: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { recursive: false, local: false, parallel: 16 }
    }
}

/// How far a load is.
#[derive(Debug, Default)]
pub struct LoadProgress {
    /// Files found so far; final once `listed`.
    pub files_total: u64,
    /// Bytes of those files.
    pub bytes_total: u64,
    /// Files that are wholly cached now.
    pub files_done: u64,
    /// Bytes cached or found cached.
    pub bytes_done: u64,
    /// Files that failed.
    pub files_failed: u64,
    /// The first of those failures, at most 100.
    pub failures: Vec<LoadFailure>,
    /// The listing is complete, so the totals are final.
    pub listed: bool,
}

/// A file that could not be loaded.
#[derive(Debug)]
pub struct LoadFailure {
    /// Its path relative to the directory that was loaded; empty for that file itself.
    pub path: String,
    /// Why.
    pub error: Error,
}

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

/// A file to be loaded or freed: its path relative to the target, and its attributes.
type Found = (String, Arc<Attr>);

/// The files of a target, as the listing finds them.
async fn files(shared: &Arc<Shared>, target: ListTarget, recursive: bool) -> Result<BoxStream<'static, Result<Found>>> {
    let (found, what) = match &target {
        ListTarget::Path(path) => (shared.ask(Question::Path(path)).await?, path.to_string()),
        ListTarget::Inode(inode) => (shared.ask(Question::Inode(*inode)).await?, format!("inode {inode}")),
    };
    let Some(attr) = found.attr else {
        return Err(Error::new(ErrorKind::NotFound, format!("{what} does not exist")));
    };
    match attr.kind {
        FileKind::Directory if recursive => {
            let options = ListOptions { recursive, ..ListOptions::default() };
            let pages = listing::list(Arc::clone(shared), ListTarget::Inode(attr.inode), options);
            let entries = pages.map_ok(|page| {
                let files = page.entries.into_iter().filter(|entry| entry.attr.kind == FileKind::File);
                stream::iter(files.map(|entry| Ok((String::from_utf8_lossy(&entry.name).into_owned(), entry.attr))))
            });
            Ok(Box::pin(entries.try_flatten()))
        }
        FileKind::Directory => {
            let message = format!("{what} is a directory: ask for all below it (recursive) or for a file");
            Err(Error::new(ErrorKind::IsADirectory, message))
        }
        FileKind::File => Ok(Box::pin(stream::iter([Ok((String::new(), attr))]))),
        FileKind::Symlink => {
            Err(Error::new(ErrorKind::InvalidArgument, format!("{what} is a symbolic link: ask for its target")))
        }
    }
}

pub(crate) async fn load(
    shared: &Arc<Shared>,
    target: ListTarget,
    options: LoadOptions,
    mut report: impl FnMut(&LoadProgress) + Send,
) -> Result<LoadProgress> {
    let mut files = files(shared, target, options.recursive).await?.fuse();
    let bytes = AtomicU64::new(0);
    let mut progress = LoadProgress::default();
    let mut running = stream::FuturesUnordered::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !(progress.listed && running.is_empty()) {
        tokio::select! {
            found = files.next(), if !progress.listed && running.len() < options.parallel.max(1) => match found {
                Some(found) => {
                    let (path, attr) = found?;
                    progress.files_total += 1;
                    progress.bytes_total += attr.size;
                    let loading = load_file(shared, options.local, attr, &bytes);
                    running.push(async move { (path, loading.await) });
                }
                None => progress.listed = true,
            },
            Some((path, result)) = running.next() => match result {
                Ok(()) => progress.files_done += 1,
                Err(error) => {
                    progress.files_failed += 1;
                    if progress.failures.len() < FAILURES {
                        progress.failures.push(LoadFailure { path, error });
                    }
                }
            },
            _ = tick.tick() => {
                progress.bytes_done = bytes.load(Ordering::Relaxed);
                report(&progress);
            }
        }
    }
    drop(running);
    progress.bytes_done = bytes.into_inner();
    report(&progress);
    Ok(progress)
}

/// Loads one file into the owners of its blocks, or all of it into the worker of this node.
async fn load_file(shared: &Arc<Shared>, local: bool, attr: Arc<Attr>, bytes: &AtomicU64) -> Result<()> {
    let Some(content) = attr.content.filter(|_| attr.size > 0) else { return Ok(()) };
    let grant = match shared.grants.get(&content).filter(|grant| grant.is_fresh()) {
        Some(grant) => grant,
        None => {
            let (now, grant) = opening::ask(shared, attr.inode).await?;
            if now.content != Some(content) {
                return Err(Error::new(ErrorKind::Stale, "it changed since it was listed: load it again"));
            }
            grant
        }
    };
    let grant = &grant;
    let mut rest: Vec<_> = by_block(0..attr.size).collect();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let ring = shared.ring().await?;
        let mut parts: BTreeMap<String, (Member, Vec<ByteRange>)> = BTreeMap::new();
        for block in rest.drain(..) {
            let mut order = shared.workers.order(&ring, content, block_of(block.start)).into_iter();
            let chosen = order.find(|member| !local || member.node == shared.config.node);
            let Some(member) = chosen else {
                let message = if local { "no worker runs on this node" } else { "no worker is live: start one" };
                return Err(Error::new(ErrorKind::Unavailable, message));
            };
            let (_, ranges) = parts.entry(member.address.clone()).or_insert_with(|| (member, Vec::new()));
            ranges.push(block);
        }
        let loads = parts.into_values().map(|(member, ranges)| async move {
            let loaded = load_ranges(shared, grant, &member, &ranges, bytes).await;
            (member, ranges, loaded)
        });
        for (member, ranges, loaded) in future::join_all(loads).await {
            match loaded {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) => {
                    shared.workers.avoid(&member);
                    rest.extend(ranges);
                    last = Some(error);
                }
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::Stale | ErrorKind::NotFound) {
                        shared.forget_stale(attr.inode, content);
                    }
                    return Err(error);
                }
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no worker could load")))
}

/// Loads ranges into one worker and adds to `bytes` what is cached; takes it off again when that fails.
async fn load_ranges(
    shared: &Shared,
    grant: &Grant,
    member: &Member,
    ranges: &[ByteRange],
    bytes: &AtomicU64,
) -> Result<()> {
    let patience = shared.config.read_timeout;
    let what = format!("load at worker {}", member.address);
    let late =
        || Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no progress in {} ms", patience.as_millis()));
    let request =
        v1::LoadRequest { grant: Some(grant.signed()), ranges: ranges.iter().cloned().map(Into::into).collect() };
    let mut service = shared.workers.service(member)?;
    let mut deadline = Instant::now() + patience;
    let answer = timeout_at(deadline, service.load(request)).await.map_err(|_| late())?;
    let mut stream = answer.map_err(|status| status::to_error(&status, &what))?.into_inner();
    let mut counted = 0;
    let ended = loop {
        match timeout_at(deadline, stream.message()).await {
            Ok(Ok(Some(progress))) => {
                if progress.done > counted {
                    bytes.fetch_add(progress.done - counted, Ordering::Relaxed);
                    counted = progress.done;
                    deadline = Instant::now() + patience;
                }
            }
            Ok(Ok(None)) => break Ok(()),
            Ok(Err(status)) => break Err(status::to_error(&status, &what)),
            Err(_) => break Err(late()),
        }
    };
    if ended.is_err() {
        bytes.fetch_sub(counted, Ordering::Relaxed);
    }
    ended
}

pub(crate) async fn free(shared: &Arc<Shared>, target: ListTarget, recursive: bool) -> Result<Freed> {
    let files = files(shared, target, recursive).await?;
    let contents = files.try_filter_map(|(_, attr)| future::ready(Ok(attr.content)));
    let mut batches = contents.try_chunks(BATCH);
    let mut freed = Freed::default();
    let mut failed = None;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| error.1)?;
        for content in &batch {
            // An open file that nobody reads must not keep its content lent.
            shared.open_files.forget(*content);
        }
        let contents: Vec<v1::ContentId> = batch.into_iter().map(Into::into).collect();
        for (_, answer) in on_all_workers(shared, |mut service| {
            let request = v1::FreeRequest { contents: contents.clone() };
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
    F: Fn(WorkerServiceClient<Channel>) -> Fut,
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
