//! Tries failed requests again, within a deadline.
//!
//! * Every request ends: each try has a time for its answer, all of them together a deadline.
//! * A body that breaks off is resumed where it broke off, with the same version; the deadline starts anew with each byte that arrives.
//! * What may have been carried out is repeated only when that changes nothing. A conditional mutation is tried again only after
//!   `SlowDown`, which says that it was not carried out; else its failure is answered as it is. A deletion of many is never tried again.

mod body;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::BoxFuture;
use headpond_types::ByteRange;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    BodyStream, Counters, Key, Op, UfsError, UfsErrorKind, UnderStore,
    around::{Around, Request},
};

/// How long and how often to try. Durations are of tokio's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// For a request with all its tries and pauses, or for a body to make progress. Default 20 s. More rides out longer outages of the
    /// store, and keeps callers waiting in them.
    pub deadline: Duration,
    /// For the answer to one try, or the next bytes of a body. Default 10 s; less replaces slow connections sooner,
    /// but fails where a store needs that long.
    pub attempt: Duration,
    /// Added to both for requests that the store works on for long (copies, completing an upload). Default 280 s.
    pub server_work: Duration,
    /// Bytes per second that a connection carries at least: bodies sent get that much more time. Default 1 MiB/s.
    pub least_rate: u64,
    /// Upper bound of the first pause, which is random below it and doubles. Default 50 ms.
    pub first_pause: Duration,
    /// Upper bound of every pause but one that the store asks for. Default 5 s.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(20),
            attempt: Duration::from_secs(10),
            server_work: Duration::from_secs(280),
            least_rate: 1 << 20,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// What a request gets on top of `attempt` and `deadline`.
    fn extra(&self, request: &Request<'_>) -> Duration {
        let work = match request.op {
            Op::Copy | Op::CopyPart | Op::CompleteMultipart => self.server_work,
            _ => Duration::ZERO,
        };
        work + Duration::from_secs(request.sent / self.least_rate.max(1))
    }

    /// The pause after `failed` tries: full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    ///
    /// What the store asks for is kept if that leaves time for a try, else cut: MinIO asks for 60 s while it starts, which takes it 2.
    fn pause(&self, failed: u32, asked: Option<Duration>, left: Duration) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << failed.saturating_sub(1).min(20));
        let random = doubled.min(self.longest_pause).mul_f64(rand::random::<f64>());
        let asked = asked.unwrap_or_default();
        random.max(if asked < left { asked } else { self.longest_pause })
    }
}

/// A store whose failed requests are tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    inner: Arc<dyn UnderStore>,
    policy: Arc<RetryPolicy>,
    counters: Arc<Counters>,
}

impl Retry {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn UnderStore>, policy: RetryPolicy) -> Self {
        Self { inner, policy: Arc::new(policy), counters: Arc::default() }
    }

    /// The same, counting repeated tries in `counters`.
    #[must_use]
    pub fn counted(mut self, counters: &Arc<Counters>) -> Self {
        self.counters = Arc::clone(counters);
        self
    }
}

/// Tries so far and the time that is left for more.
#[derive(Debug)]
struct Tries {
    policy: Arc<RetryPolicy>,
    counters: Arc<Counters>,
    begun: Instant,
    extra: Duration,
    failed: u32,
    /// The last failure that the store told.
    told: Option<UfsError>,
}

impl Tries {
    fn new(policy: &Arc<RetryPolicy>, counters: &Arc<Counters>, extra: Duration) -> Self {
        let (policy, counters) = (Arc::clone(policy), Arc::clone(counters));
        Self { policy, counters, begun: Instant::now(), extra, failed: 0, told: None }
    }

    /// Time for the next try.
    fn time(&self) -> Duration {
        let left = (self.policy.deadline + self.extra).saturating_sub(self.begun.elapsed());
        left.min(self.policy.attempt + self.extra)
    }

    /// Waits before the next try, or answers the error that ends them.
    async fn pause(&mut self, error: UfsError) -> Result<(), UfsError> {
        self.failed += 1;
        let spent = self.begun.elapsed();
        let left = (self.policy.deadline + self.extra).saturating_sub(spent);
        let pause = self.policy.pause(self.failed, error.retry_after(), left);
        if pause >= left {
            // That the last try had little time left says less than what the store answered before.
            let silent = error.kind() == UfsErrorKind::DeadlineExceeded;
            let error = if silent { self.told.take().unwrap_or(error) } else { error };
            let tries = if self.failed == 1 { "1 try".to_owned() } else { format!("{} tries", self.failed) };
            return Err(error.annotated(&format!("; gave up after {tries} in {:.1} s", spent.as_secs_f64())));
        }
        tracing::debug!(%error, ?pause, "trying again");
        if error.kind() != UfsErrorKind::DeadlineExceeded {
            self.told = Some(error);
        }
        sleep(pause).await;
        self.counters.retries.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// The error for a try without an answer.
fn unanswered(store: &dyn UnderStore, op: Op, key: &Key, after: Duration) -> UfsError {
    let identity = store.identity();
    let message = format!("no answer to {op} of {identity}/{key} within {:.1} s", after.as_secs_f64());
    UfsError::new(UfsErrorKind::DeadlineExceeded, message)
}

impl Around for Retry {
    fn inner(&self) -> &dyn UnderStore {
        &*self.inner
    }

    async fn around<'a, T: Send + 'a>(
        &'a self,
        request: Request<'a>,
        send: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync + 'a,
    ) -> Result<T, UfsError> {
        let mut tries = Tries::new(&self.policy, &self.counters, self.policy.extra(&request));
        loop {
            let time = tries.time();
            let error = match timeout(time, send()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    let again = if request.repeatable {
                        error.kind().is_retryable()
                    } else {
                        // What is deleted together was looked at before, which is too long ago after a pause.
                        error.kind() == UfsErrorKind::SlowDown && request.op != Op::DeleteAll
                    };
                    if !again {
                        return Err(error);
                    }
                    error
                }
                Err(_) => {
                    let error = unanswered(self.inner(), request.op, request.key, time);
                    if !request.repeatable {
                        return Err(error.annotated("; it may have been carried out"));
                    }
                    error
                }
            };
            tries.pause(error).await?;
        }
    }

    async fn around_get<'a>(
        &'a self,
        key: &'a Key,
        range: ByteRange,
        version: &'a str,
    ) -> Result<BodyStream, UfsError> {
        body::Resuming::begin(self, key, range, version).await.map(body::Resuming::into_body)
    }
}

#[cfg(test)]
mod tests;
