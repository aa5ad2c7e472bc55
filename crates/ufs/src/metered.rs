//! Counts requests and bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use futures::{StreamExt, future::BoxFuture, stream};
use headpond_types::ByteRange;

use crate::{
    BodyStream, Key, Op, UfsError, UfsErrorKind, UnderStore,
    around::{Around, Request},
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered; a body was read to its end.
    Ok,
    /// Failed.
    Failed(UfsErrorKind),
    /// Given up by the caller: a deadline, or a body that was not read to its end.
    Abandoned,
}

impl Outcome {
    /// Every outcome.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Abandoned].into_iter().chain(UfsErrorKind::ALL.map(Self::Failed))
    }

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(kind) => kind.name(),
            Self::Abandoned => "abandoned",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Abandoned => 1,
            Self::Failed(kind) => 2 + kind as usize,
        }
    }
}

/// Counts since the start of the process; each try is a request.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [[AtomicU64; 2 + UfsErrorKind::ALL.len()]; Op::ALL.len()],
    /// Requests under way, bodies being read among them.
    pub in_flight: AtomicU64,
    /// Bytes of bodies that came from the store.
    pub bytes_received: AtomicU64,
    /// Bytes of bodies that went to the store, for each try.
    pub bytes_sent: AtomicU64,
    /// Tries that followed a failed one.
    pub retries: AtomicU64,
    /// Requests that may be under way at present; 0 where nothing bounds them.
    pub request_limit: Arc<AtomicU64>,
}

impl Counters {
    /// How many requests `op` ended in `outcome`.
    #[must_use]
    pub fn requests(&self, op: Op, outcome: Outcome) -> u64 {
        self.requests[op as usize][outcome.index()].load(Relaxed)
    }

    /// How many requests `op` ended.
    #[must_use]
    pub fn total(&self, op: Op) -> u64 {
        self.requests[op as usize].iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// A store whose requests are counted.
#[derive(Clone, Debug)]
pub struct Metered {
    inner: Arc<dyn UnderStore>,
    counters: Arc<Counters>,
}

impl Metered {
    /// Wraps `inner`; several stores may share `counters`.
    #[must_use]
    pub fn new(inner: Arc<dyn UnderStore>, counters: Arc<Counters>) -> Self {
        Self { inner, counters }
    }
}

/// A request under way; dropped without an outcome, it was abandoned.
struct Running {
    counters: Arc<Counters>,
    op: Op,
    ended: bool,
}

impl Running {
    fn begin(counters: &Arc<Counters>, op: Op) -> Self {
        counters.in_flight.fetch_add(1, Relaxed);
        Self { counters: Arc::clone(counters), op, ended: false }
    }

    fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            self.counters.requests[self.op as usize][outcome.index()].fetch_add(1, Relaxed);
            self.counters.in_flight.fetch_sub(1, Relaxed);
        }
    }

    fn end_with<T>(&mut self, result: &Result<T, UfsError>) {
        self.end(result.as_ref().map_or_else(|error| Outcome::Failed(error.kind()), |_| Outcome::Ok));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}

impl Around for Metered {
    fn inner(&self) -> &dyn UnderStore {
        &*self.inner
    }

    async fn around<'a, T: Send + 'a>(
        &'a self,
        request: Request<'a>,
        send: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync + 'a,
    ) -> Result<T, UfsError> {
        let mut running = Running::begin(&self.counters, request.op);
        self.counters.bytes_sent.fetch_add(request.sent, Relaxed);
        let result = send().await;
        running.end_with(&result);
        result
    }

    async fn around_get<'a>(
        &'a self,
        key: &'a Key,
        range: ByteRange,
        version: &'a str,
    ) -> Result<BodyStream, UfsError> {
        let mut running = Running::begin(&self.counters, Op::Get);
        let left = range.end.saturating_sub(range.start);
        let body = match self.inner.get(key, range, version).await {
            Ok(body) => body,
            failed => {
                running.end_with(&failed);
                return failed;
            }
        };
        if left == 0 {
            running.end(Outcome::Ok);
        }
        let counted = stream::unfold((body, left, running), |(mut body, mut left, mut running)| async move {
            let Some(chunk) = body.next().await else {
                if left > 0 {
                    running.end(Outcome::Failed(UfsErrorKind::Protocol));
                }
                return None;
            };
            match &chunk {
                Ok(bytes) => {
                    let got = bytes.len() as u64;
                    running.counters.bytes_received.fetch_add(got, Relaxed);
                    left = left.saturating_sub(got);
                    if left == 0 {
                        running.end(Outcome::Ok);
                    }
                }
                Err(error) => running.end(Outcome::Failed(error.kind())),
            }
            Some((chunk, (body, left, running)))
        });
        Ok(counted.boxed())
    }
}

#[cfg(test)]
mod tests;
