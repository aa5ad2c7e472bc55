//! A cache file in a client's hands.

use std::{fs::File, sync::Arc};

use headpond_proto::v1::SignedGrant;
use headpond_runtime::Tasks;
use headpond_store::{Hold, StoreError};
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, PAGE_SIZE, Result, pages_of};

use crate::{
    fill::{Job, Route},
    reader::{Reader, cannot_keep},
};

/// Largest content that is filled or verified before it is lent, whatever the client asks.
const MAX_INLINE: u64 = 8 << 20;

/// Bytes to either side of a range that are looked at to say what is present. More saves a far-reading client questions, and
/// costs a microsecond a gigabyte.
const REACH: u64 = 1 << 30;

/// A hold and what it is of. While it lives, pages that are present in the file stay there.
#[derive(Debug)]
pub(super) struct Lease {
    job: Job,
    hold: Hold,
}

impl Lease {
    /// Lends the granted content: complete if it is not longer than `fill_up_to`, or if it is all there and verified. What is all
    /// there but not verified since the start of the worker is verified meanwhile if it is long. The file is for the client: no lease
    /// costs this process a descriptor.
    ///
    /// # Errors
    /// Those of the grant; `ResourceExhausted` or `Unavailable` when the cache cannot keep the content; for a content that is filled
    /// first, those of the fill.
    pub(super) async fn grant(
        reader: &Arc<Reader>,
        grant: Option<&SignedGrant>,
        fill_up_to: u64,
        tasks: &Tasks,
    ) -> Result<(Self, File)> {
        let mut job = reader.job(grant, Route::ViaOwner)?;
        let length = job.grant.length;
        if length <= fill_up_to.min(MAX_INLINE) {
            job.content = Some(reader.bring_whole(&job).await?);
        }
        let content = job.content.as_ref().ok_or_else(|| cannot_keep(&job))?;
        content.touch();
        if length > MAX_INLINE && content.is_complete() && !content.is_verified() {
            let (cache, content) = (Arc::clone(&reader.cache), Arc::clone(content));
            tasks.spawn_until_shutdown(async move { cache.verify_all(content).await });
        }
        let loan = reader.cache.lend(content).await.map_err(|error| {
            let kind = match error {
                StoreError::Full { .. } => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("cannot lend {}: read it over gRPC", job.grant.key)).with_source(error)
        })?;
        let (hold, file) = loan.split();
        Ok((Self { job, hold }, file))
    }

    /// What is lent.
    pub(super) fn content(&self) -> ContentId {
        self.job.grant.content
    }

    /// Bytes of the content.
    pub(super) fn length(&self) -> u64 {
        self.job.grant.length
    }

    /// Whether the file may be read as a whole.
    pub(super) fn is_complete(&self) -> bool {
        self.hold.complete()
    }

    /// Whether the store has dropped the lent file: only disk space is gained when it comes back.
    pub(super) fn is_dropped(&self) -> bool {
        self.hold.is_dropped()
    }

    /// Makes `ranges` readable through the file; answers what is present around each. `readahead` is fetched behind them, and not
    /// waited for.
    ///
    /// # Errors
    /// Those of fills; `Unavailable` when the store has dropped the lent file, which then serves only what it has.
    pub(super) async fn ensure(
        &self,
        reader: &Arc<Reader>,
        ranges: Vec<ByteRange>,
        readahead: Option<ByteRange>,
    ) -> Result<Vec<ByteRange>> {
        let ranges: Vec<_> = ranges.into_iter().map(|range| self.job.grant.clamp(range)).collect();
        let ensured = reader.ensure(&self.job, ranges.clone());
        if let Some(readahead) = readahead {
            reader.filler.prefetch(&self.job, readahead);
        }
        ensured.await?;
        let mut present = Vec::with_capacity(ranges.len());
        for range in ranges {
            self.hold.content().touch_range(&range);
            present.push(self.present_around(reader, &range).await?);
        }
        Ok(present)
    }

    async fn present_around(&self, reader: &Reader, range: &ByteRange) -> Result<ByteRange> {
        if range.is_empty() {
            return Ok(range.clone());
        }
        // Pages found at the start of the worker are read for the first time here; a corrupt one is fetched again, once.
        if reader.cache.verify(self.hold.content(), pages_of(range)).await.is_err() {
            reader.ensure(&self.job, vec![range.clone()]).await?;
        }
        let low = range.start.saturating_sub(REACH) / PAGE_SIZE * PAGE_SIZE;
        let around = self.job.grant.clamp(low..range.end.saturating_add(REACH));
        let holds = |present: &ByteRange| present.start <= range.start && range.end <= present.end;
        self.hold.present(&around).into_iter().find(holds).ok_or_else(|| {
            let message = format!("the lent file of {} was dropped: ask for the content again", self.job.grant.key);
            Error::new(ErrorKind::Unavailable, message)
        })
    }
}
