//! Bringing files into the cache.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future, stream};
use headpond_proto::{status, v1};
use headpond_types::{Attr, ByteRange, Error, ErrorKind, Member, Result, block_of};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::{ListTarget, files::files, grant::Grant, opening, remote::by_block, shared::Shared};

/// Failures kept for the report.
const FAILURES: usize = 100;

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(250);

/// Workers tried for a block.
const ATTEMPTS: usize = 3;

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
