//! A file open for reading.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use headpond_types::{Attr, ByteRange, ContentId, Error, ErrorKind, PAGE_SIZE, Result, block_of};
use tokio::time::{Instant, timeout};

use crate::{
    LocalFile,
    ranges::Plan,
    readahead::Readahead,
    remote::{self, BlockReader},
    source::Source,
};

/// Contents up to this long come complete with the open, so that the kernel may read them.
const FILL_UP_TO: u64 = PAGE_SIZE;

/// How long a file that could not be had locally is read remotely before the worker of this node is asked again.
const REMOTE: Duration = Duration::from_secs(1);

/// Pieces of a stream read from the local cache file.
const PIECE: u64 = 1 << 20;

/// Requests of [`OpenFile::read_ranges`] under way at once.
const PARALLEL: usize = 16;

/// One version of a file, open for reading: every byte read through it is of that version, or the read fails with kind
/// `Stale`. Shared by all who have the same content open; dropping the last handle closes it. Needs a living
/// [`crate::Client`].
pub struct OpenFile {
    source: Arc<Source>,
    /// Neither this lock nor the next is held across an await or inside another.
    local: Mutex<Local>,
    readahead: Mutex<Readahead>,
}

struct Local {
    file: Option<Arc<LocalFile>>,
    retry_at: Instant,
}

impl OpenFile {
    pub(crate) async fn new(source: Arc<Source>) -> Result<Arc<Self>> {
        let readahead = Readahead::new(source.length(), source.shared.config.readahead_max);
        let local = Local { file: None, retry_at: Instant::now() };
        let file = Self { source, local: Mutex::new(local), readahead: Mutex::new(readahead) };
        if file.length() > 0 {
            file.borrow_local().await?;
        }
        Ok(Arc::new(file))
    }

    /// Attributes at the time of the open.
    #[must_use]
    pub fn attr(&self) -> &Arc<Attr> {
        &self.source.attr
    }

    /// The bytes that are read.
    #[must_use]
    pub fn content(&self) -> ContentId {
        self.source.content
    }

    /// Bytes of the whole content.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.source.length()
    }

    /// The cache file, when the worker of this node has lent it.
    #[must_use]
    pub fn local(&self) -> Option<Arc<LocalFile>> {
        let mut local = self.lock_local();
        let gone = local.file.take_if(|file| !file.is_lent());
        let file = local.file.clone();
        drop(local);
        drop(gone);
        file
    }

    /// Gives the cache file back if the worker of this node has dropped it or was lost.
    pub(crate) fn let_go_if_not_lent(&self) {
        drop(self.local());
    }

    /// Up to `len` bytes from `offset`; fewer only at the end of the content, none past it. Feeds the readahead. Cancel-safe.
    ///
    /// # Errors
    /// `Stale` when the under store has another version by now (the next open sees it); `Unavailable` or `DeadlineExceeded` when
    /// no worker delivers; what the under store answered otherwise.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let range = self.clamp(offset..offset.saturating_add(len as u64));
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let ahead = self.observe(&range);
        if let Some(bytes) = self.read_local(&range, &ahead).await? {
            return Ok(bytes);
        }
        // What the owner of the last block is to have ready goes along with the question; the rest is asked for apart.
        let is_near = |piece: &ByteRange| block_of(piece.start) == block_of(range.end - 1);
        let mut pieces = ahead.into_iter().flat_map(remote::by_block).peekable();
        let near = pieces.next_if(is_near);
        pieces.for_each(|piece| remote::hint(&self.source, piece));
        remote::read(&self.source, range, near).await
    }

    /// Reads into `buffer` from `offset` if the bytes are known to be in the local cache file, and in memory: asks nobody and
    /// waits for no disk, where the file system can tell (tmpfs and overlayfs cannot). Answers the number of bytes, fewer than `buffer`
    /// has only at the end of the content. `None`: use [`OpenFile::read_at`], also after a failure of the disk. May be
    /// called from any thread.
    pub fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let range = self.clamp(offset..offset.saturating_add(buffer.len() as u64));
        if range.is_empty() {
            return Some(0);
        }
        let file = self.local().filter(|file| file.has(&range))?;
        let length = usize::try_from(range.end - range.start).ok()?;
        match file.try_read(range.start, &mut buffer[..length]) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                self.distrust(&error);
                return None;
            }
        }
        if !file.is_complete() {
            self.observe(&range).into_iter().for_each(|piece| file.hint(piece));
        }
        file.is_lent().then_some(length)
    }

    /// The bytes of each range, in the order asked, cut at the end of the content. Near ranges are fetched together.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`OpenFile::read_at`]; no partial result.
    pub async fn read_ranges(&self, ranges: &[ByteRange]) -> Result<Vec<Bytes>> {
        let plan = Plan::new(ranges.iter().map(|range| self.clamp(range.clone())).collect());
        let fetches = plan.fetches().to_vec().into_iter().map(|fetch| async move {
            match self.read_local(&fetch, &[]).await? {
                Some(bytes) => Ok(bytes),
                None => remote::read(&self.source, fetch, None).await,
            }
        });
        let fetched: Vec<Bytes> = stream::iter(fetches).buffered(PARALLEL).try_collect().await?;
        Ok(plan.cut(&fetched))
    }

    /// The bytes of `range` in order, for consumption from front to end, with bounded buffering ahead. Ends after the first
    /// error, which is as of [`OpenFile::read_at`].
    pub fn read_stream(self: &Arc<Self>, range: ByteRange) -> BoxStream<'static, Result<Bytes>> {
        let range = self.clamp(range);
        let file = Arc::clone(self);
        let chunks = if self.local().is_some() { file.stream_local(range) } else { file.stream_remote(range) };
        let mut failed = false;
        // What follows an error would not be what follows in the file.
        Box::pin(chunks.take_while(move |chunk| {
            let goes_on = !failed;
            failed |= chunk.is_err();
            std::future::ready(goes_on)
        }))
    }

    /// Whether a cache file is lent that was not complete when it was last asked about.
    pub(crate) fn is_partial(&self) -> bool {
        self.local().is_some_and(|file| !file.is_complete())
    }

    /// Asks the worker of this node whether a lent cache file has become complete.
    pub(crate) async fn check_local(&self) {
        let Some(file) = self.local().filter(|file| !file.is_complete()) else { return };
        let checked = timeout(self.source.shared.config.metadata_timeout, file.check()).await;
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.distrust(error),
            Err(late) => self.distrust(late),
        }
    }

    pub(crate) const fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Two pieces at a time: one is consumed while the next is read.
    fn stream_local(self: Arc<Self>, range: ByteRange) -> BoxStream<'static, Result<Bytes>> {
        let ByteRange { start, end } = range;
        let pieces = (start..end).step_by(1 << 20).map(move |from| (from, (end - from).min(PIECE)));
        let reads = pieces.map(move |(from, length)| {
            let file = Arc::clone(&self);
            async move { file.read_at(from, usize::try_from(length).unwrap_or(usize::MAX)).await }
        });
        Box::pin(stream::iter(reads).buffered(2))
    }

    /// One stream per block; the next is opened while the last is consumed, so that the flow-control window of each is the
    /// buffer. The worker is told to have ready what comes behind the block.
    fn stream_remote(self: Arc<Self>, range: ByteRange) -> BoxStream<'static, Result<Bytes>> {
        let max = self.source.shared.config.readahead_max;
        let end = range.end;
        let blocks = remote::by_block(range).map(move |block| {
            let behind = block.end..block.end.saturating_add(max).min(end);
            let source = Arc::clone(&self.source);
            async move {
                let behind = (!behind.is_empty()).then_some(behind);
                let mut reader = BlockReader::new(source, vec![block], behind);
                let first = reader.next().await?;
                let rest = stream::try_unfold(reader, |mut reader| async move {
                    Ok(reader.next().await?.map(|chunk| (chunk, reader)))
                });
                Ok::<_, Error>(stream::iter(first.map(Ok)).chain(rest))
            }
        });
        Box::pin(stream::iter(blocks).buffered(2).try_flatten())
    }

    /// The bytes from the local cache file; `None` when they must come over the network.
    async fn read_local(&self, range: &ByteRange, ahead: &[ByteRange]) -> Result<Option<Bytes>> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let mut moves = remote::MOVES;
        loop {
            match self.read_lent(range, ahead).await {
                Err(error) if error.kind() == ErrorKind::Stale && moves > 0 => {
                    moves -= 1;
                    self.source.renew().await.map_err(|_| error)?;
                    // Lent anew, it is filled by the right of the new grant.
                    *self.lock_local() = Local { file: None, retry_at: Instant::now() };
                }
                read => return read,
            }
        }
    }

    async fn read_lent(&self, range: &ByteRange, ahead: &[ByteRange]) -> Result<Option<Bytes>> {
        let file = match self.local() {
            Some(file) => file,
            None => {
                self.borrow_local().await?;
                let Some(file) = self.local() else { return Ok(None) };
                file
            }
        };
        let read = async {
            let ensure = async { if file.has(range) { Ok(()) } else { file.ensure(range).await } };
            // Polled behind the question, so sent behind it, but without waiting for its answer: a worker starts with what is
            // said in one request only when its ranges have come.
            let hint = async {
                if !file.is_complete() {
                    ahead.iter().for_each(|piece| file.hint(piece.clone()));
                }
            };
            futures::join!(ensure, hint).0?;
            file.read(range.clone()).await
        };
        // The other half is left for reading over the network.
        let patience = self.source.shared.config.read_timeout / 2;
        let read = timeout(patience, read).await.unwrap_or_else(|_| {
            let message = format!("the worker of this node made no progress within {} ms", patience.as_millis());
            Err(Error::new(ErrorKind::DeadlineExceeded, message))
        });
        match read {
            Ok(bytes) if file.is_lent() => Ok(Some(bytes)),
            Ok(_) => Ok(None),
            Err(error) => {
                self.source.note(&error);
                if decides(&error) {
                    return Err(error);
                }
                self.distrust(&error);
                Ok(None)
            }
        }
    }

    /// Asks the worker of this node for the cache file, unless it was asked a moment ago.
    ///
    /// # Errors
    /// Only those that reading over the network would meet too.
    async fn borrow_local(&self) -> Result<()> {
        {
            let mut local = self.lock_local();
            let now = Instant::now();
            if local.file.is_some() || now < local.retry_at {
                return Ok(());
            }
            local.retry_at = now + REMOTE;
        }
        let shared = &self.source.shared;
        let Some(ring) = shared.session.known_ring() else { return Ok(()) };
        let Some(connection) = shared.local.connection(&ring, self.content()).await else { return Ok(()) };
        let mut renewed = false;
        loop {
            let grant = if renewed { self.source.renew().await? } else { self.source.grant().await? };
            let Some(place) = shared.place() else {
                tracing::debug!(content = %self.content(), "too many cache files are open: reading over the network");
                return Ok(());
            };
            let lend = connection.lend(self.content(), grant, FILL_UP_TO, place);
            let lent = timeout(shared.config.metadata_timeout, lend).await.unwrap_or_else(|_| {
                let message = "the worker of this node did not lend the cache file in time";
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            });
            match lent {
                Ok(file) => {
                    self.lock_local().file = Some(file);
                    return Ok(());
                }
                // The master's key has changed, or the object is elsewhere by now.
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Stale) && !renewed => {
                    self.source.drop_grant();
                    renewed = true;
                }
                Err(error) => {
                    self.source.note(&error);
                    if decides(&error) {
                        return Err(error);
                    }
                    tracing::debug!(%error, content = %self.content(), "not lent: reading over the network");
                    return Ok(());
                }
            }
        }
    }

    /// The local cache file failed: read over the network, and ask for it again later.
    fn distrust(&self, error: impl fmt::Display) {
        tracing::debug!(%error, content = %self.content(), "the cache file failed: reading over the network");
        let mut local = self.lock_local();
        local.file = None;
        local.retry_at = Instant::now() + REMOTE;
    }

    fn clamp(&self, range: ByteRange) -> ByteRange {
        let end = range.end.min(self.length());
        range.start.min(end)..end
    }

    fn observe(&self, range: &ByteRange) -> Vec<ByteRange> {
        self.readahead.lock().unwrap_or_else(PoisonError::into_inner).observe(range)
    }

    fn lock_local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error of the worker of this node is about the content itself, so that no other worker would do better.
const fn decides(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Stale | ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::StoreRefused
    )
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile").field("source", &self.source).finish_non_exhaustive()
    }
}
