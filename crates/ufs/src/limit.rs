//! Bounds what is asked of a store at once, more tightly while the store asks for that.
//!
//! A GET holds its place until its body is read to the end or dropped, for so long does it use a connection. Whoever
//! waits for a request while it holds unread bodies of the same store can wait for itself: the retry wrapper's deadline ends that.

mod slots;

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream};
use headpond_types::ByteRange;
use tokio::time::{Instant, sleep_until};

use self::slots::Slots;
use crate::{
    BodyStream, Counters, Key, UfsError, UnderStore,
    around::{Around, Request},
};

/// Parallel requests to a store unless configured: four readers at full readahead, few enough for a small server.
pub const DEFAULT_REQUESTS: usize = 64;

/// How far unused bandwidth can be saved up.
const BURST: Duration = Duration::from_millis(100);

/// A store with bounded parallel requests and bandwidth.
#[derive(Clone, Debug)]
pub struct Limit {
    inner: Arc<dyn UnderStore>,
    requests: usize,
    slots: Arc<Slots>,
    rate: Option<Arc<Rate>>,
}

/// Bytes per second, as the time at which the next byte may pass.
#[derive(Debug)]
struct Rate {
    bytes_per_second: NonZeroU64,
    next: Mutex<Instant>,
}

impl Limit {
    /// Wraps `inner`: at most `requests` (at least 1) at once, fewer while the store answers `SlowDown`, and `bytes_per_second` in bodies of
    /// both directions.
    #[must_use]
    pub fn new(inner: Arc<dyn UnderStore>, requests: usize, bytes_per_second: Option<NonZeroU64>) -> Self {
        let rate = bytes_per_second
            .map(|bytes_per_second| Arc::new(Rate { bytes_per_second, next: Mutex::new(Instant::now()) }));
        Self { inner, requests, slots: Arc::new(Slots::new(requests, None)), rate }
    }

    /// The same, telling `counters` how many requests may be under way. Before the first request.
    #[must_use]
    pub fn counted(mut self, counters: &Counters) -> Self {
        self.slots = Arc::new(Slots::new(self.requests, Some(Arc::clone(&counters.request_limit))));
        self
    }
}

impl Rate {
    /// Waits until `bytes` may pass. Cancelled, they count as passed.
    async fn pass(&self, bytes: u64) {
        sleep_until(self.reserve(bytes)).await;
    }

    /// The time from which `bytes` may pass; what comes after waits for them.
    fn reserve(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now.checked_sub(BURST).unwrap_or(now));
        *next = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX >> 8));
        start
    }
}

impl Around for Limit {
    fn inner(&self) -> &dyn UnderStore {
        &*self.inner
    }

    async fn around<'a, T: Send + 'a>(
        &'a self,
        request: Request<'a>,
        send: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync + 'a,
    ) -> Result<T, UfsError> {
        let _slot = self.slots.take().await;
        if let Some(rate) = self.rate.as_ref().filter(|_| request.sent > 0) {
            rate.pass(request.sent).await;
        }
        let result = send().await;
        self.slots.note(&result);
        result
    }

    async fn around_get<'a>(
        &'a self,
        key: &'a Key,
        range: ByteRange,
        version: &'a str,
    ) -> Result<BodyStream, UfsError> {
        let slot = self.slots.take().await;
        let left = range.end.saturating_sub(range.start);
        let answer = self.inner.get(key, range, version).await;
        self.slots.note(&answer);
        let body = answer?;
        let rate = self.rate.clone();
        let limited = stream::unfold((body, left, Some(slot)), move |(mut body, left, slot)| {
            let rate = rate.clone();
            async move {
                let chunk = body.next().await?;
                let got = chunk.as_ref().map_or(left, |chunk| chunk.len() as u64);
                if let Some(rate) = rate.filter(|_| chunk.is_ok()) {
                    rate.pass(got).await;
                }
                let left = left.saturating_sub(got);
                // The last byte frees the connection, whether or not the reader asks for more.
                Some((chunk, (body, left, slot.filter(|_| left > 0))))
            }
        });
        Ok(limited.boxed())
    }
}

#[cfg(test)]
mod tests;
