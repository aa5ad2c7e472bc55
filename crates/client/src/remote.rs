//! Reading over gRPC: from a block's owner, from who comes after it when it fails.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use headpond_proto::{status, v1};
use headpond_types::{BLOCK_SIZE, ByteRange, Error, ErrorKind, Member, Result, block_of};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Streaming;

use crate::{backoff::Backoff, source::Source};

/// Requests of one call under way at once.
const PARALLEL: usize = 16;

/// How often the object of a content may turn out to be elsewhere while one range is read.
pub(crate) const MOVES: u32 = 3;

/// Cuts `range` at the boundaries of blocks, which may have different owners.
pub(crate) fn by_block(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = (block_of(rest.start) + 1).saturating_mul(BLOCK_SIZE).min(rest.end);
        let piece = rest.start..end;
        rest.start = end;
        Some(piece)
    })
}

/// The bytes of `range`, its blocks in parallel.
pub(crate) async fn read(source: &Arc<Source>, range: ByteRange, ahead: Option<ByteRange>) -> Result<Bytes> {
    let last = block_of(range.end.saturating_sub(1));
    let pieces = by_block(range).map(|piece| {
        let ahead = ahead.clone().filter(|_| block_of(piece.start) == last);
        BlockReader::new(Arc::clone(source), vec![piece], ahead).collect()
    });
    let chunks: Vec<Vec<Bytes>> = stream::iter(pieces).buffered(PARALLEL).try_collect().await?;
    Ok(concat(chunks.into_iter().flatten().collect()))
}

/// Asks the owners to have `range` ready, without waiting.
pub(crate) fn hint(source: &Arc<Source>, range: ByteRange) {
    for piece in by_block(range) {
        let mut reader = BlockReader::new(Arc::clone(source), Vec::new(), Some(piece));
        let tasks = &source.shared.tasks;
        tasks.spawn_until_shutdown(async move {
            if let Err(error) = reader.hint().await {
                tracing::debug!(%error, "readahead was not accepted");
            }
        });
    }
}

/// One buffer of many; without a copy when there is one.
pub(crate) fn concat(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        whole.extend_from_slice(&chunk);
    }
    whole.freeze()
}

/// Reads ranges of one block in order. After a failure it goes on where it was, at another worker if there is one.
#[derive(Debug)]
pub(crate) struct BlockReader {
    source: Arc<Source>,
    /// What was not delivered yet.
    ranges: VecDeque<ByteRange>,
    ahead: Option<ByteRange>,
    block: u64,
    stream: Option<(Member, Streaming<v1::ReadResponse>)>,
    candidates: VecDeque<Member>,
    backoff: Backoff,
    /// When nothing must have failed to come for too long.
    deadline: Instant,
    grant_refused: bool,
    /// How often more the object may turn out to be elsewhere.
    moves: u32,
    /// What a worker answered in an earlier attempt.
    answered: Option<Error>,
}

impl BlockReader {
    /// A reader of `ranges`, all in one block and none empty; the worker is told to have `ahead` ready next.
    pub(crate) fn new(source: Arc<Source>, ranges: Vec<ByteRange>, ahead: Option<ByteRange>) -> Self {
        let start = ranges.first().or(ahead.as_ref()).map_or(0, |range| range.start);
        Self {
            deadline: Instant::now() + source.shared.config.read_timeout,
            source,
            ranges: ranges.into(),
            ahead,
            block: block_of(start),
            stream: None,
            candidates: VecDeque::new(),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
            grant_refused: false,
            moves: MOVES,
            answered: None,
        }
    }

    /// All bytes, in chunks that do not cross the ranges' ends.
    pub(crate) async fn collect(mut self) -> Result<Vec<Bytes>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// As of [`crate::OpenFile::read_at`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.ranges.is_empty() {
            match self.receive().await {
                Ok(chunk) => {
                    self.deadline = Instant::now() + self.source.shared.config.read_timeout;
                    return Ok(Some(chunk));
                }
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(None)
    }

    /// Sends the request for what is wanted ahead and nothing else.
    async fn hint(&mut self) -> Result<()> {
        self.connect().await?;
        if let Some((member, stream)) = &mut self.stream {
            let end = timeout_at(self.deadline, stream.message()).await;
            let end = end.map_err(|_| late(member, self.source.shared.config.read_timeout))?;
            end.map_err(|status| status::to_error(&status, &format!("read at worker {}", member.address)))?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Bytes> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let Some((member, stream)) = &mut self.stream else {
            return Err(Error::new(ErrorKind::Unavailable, "no worker is connected"));
        };
        let patience = self.source.shared.config.read_timeout;
        // Half of the time is left for another worker.
        let limit = if self.candidates.is_empty() { self.deadline } else { Instant::now() + patience / 2 };
        let message = timeout_at(limit, stream.message()).await.map_err(|_| late(member, patience))?;
        let what = || format!("read at worker {}", member.address);
        let response = message.map_err(|status| status::to_error(&status, &what()))?;
        let Some(response) = response else {
            return Err(Error::new(ErrorKind::Unavailable, format!("{}: the answer ended early", what())));
        };
        let Some(range) = self.ranges.front_mut() else {
            return Err(Error::new(ErrorKind::Internal, format!("{}: more came than was asked for", what())));
        };
        let length = response.data.len() as u64;
        if response.offset != range.start || length == 0 || length > range.end - range.start {
            let got = format!("{} bytes from {}", length, response.offset);
            let message = format!("{}: {got} came where {range:?} was asked for", what());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        range.start += length;
        if range.is_empty() {
            self.ranges.pop_front();
        }
        Ok(response.data)
    }

    async fn connect(&mut self) -> Result<()> {
        let shared = &self.source.shared;
        if self.candidates.is_empty() {
            let ring = shared.ring().await?;
            self.candidates = shared.workers.order(&ring, self.source.content, self.block).into();
        }
        let Some(member) = self.candidates.pop_front() else {
            let message = "no worker is live: start one, `headpond admin workers` lists them";
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        let request = v1::ReadRequest {
            grant: Some(self.source.grant().await?),
            ranges: self.ranges.iter().cloned().map(Into::into).collect(),
            origin: v1::Origin::Client.into(),
            readahead: self.ahead.clone().map(Into::into),
        };
        let mut service = shared.workers.service(&member)?;
        let what = format!("read at worker {}", member.address);
        let answer = timeout_at(self.deadline, service.read(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status::to_error(&status, &what)),
            Err(_) => Err(late(&member, shared.config.read_timeout)),
        };
        match answer {
            Ok(stream) => {
                self.stream = Some((member, stream));
                Ok(())
            }
            Err(error) => {
                if is_workers_own(error.kind()) {
                    shared.workers.avoid(&member);
                }
                Err(error)
            }
        }
    }

    /// Gets ready for another attempt, or says why there is none.
    async fn recover(&mut self, error: Error) -> Result<()> {
        let failed = self.stream.take();
        self.source.note(&error);
        if error.kind() == ErrorKind::PermissionDenied && !self.grant_refused {
            // The master's key or the clocks have changed: a new grant may do.
            self.grant_refused = true;
            self.source.drop_grant();
            self.source.renew().await?;
            return Ok(());
        }
        if error.kind() == ErrorKind::Stale && self.moves > 0 {
            // The object may have followed a rename, or been persisted since: a grant of now tells where it is.
            self.moves -= 1;
            return if self.source.renew().await.is_ok() { Ok(()) } else { Err(error) };
        }
        if !is_workers_own(error.kind()) {
            return Err(error);
        }
        if let Some((member, _)) = failed {
            self.source.shared.workers.avoid(&member);
        }
        if self.candidates.is_empty() {
            // A defect does not go away by waiting.
            let lasts = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Fenced | ErrorKind::Internal);
            let pause = self.backoff.pause();
            if lasts || Instant::now() + pause >= self.deadline {
                // An answer tells of mount and key; that the last attempt was cut short tells nothing.
                let answered = self.answered.take().filter(|_| error.kind() == ErrorKind::DeadlineExceeded);
                return Err(answered.unwrap_or(error));
            }
            sleep(pause).await;
        }
        if error.kind() != ErrorKind::DeadlineExceeded || self.answered.is_none() {
            self.answered = Some(error);
        }
        Ok(())
    }
}

/// Whether another worker, or the same one later, may do better.
const fn is_workers_own(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable
        | ErrorKind::DeadlineExceeded
        | ErrorKind::ResourceExhausted
        | ErrorKind::Corrupt
        | ErrorKind::Fenced
        | ErrorKind::Internal => true,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::NotEmpty
        | ErrorKind::Busy
        | ErrorKind::CrossMount
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnly
        | ErrorKind::InvalidArgument
        | ErrorKind::NameTooLong
        | ErrorKind::Stale
        | ErrorKind::StoreRefused
        | ErrorKind::NoAttribute
        | ErrorKind::NotSupported => false,
    }
}

fn late(member: &Member, patience: Duration) -> Error {
    let message = format!("worker {} made no progress within {} ms", member.address, patience.as_millis());
    Error::new(ErrorKind::DeadlineExceeded, message)
}
