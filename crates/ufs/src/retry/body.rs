//! Bodies that go on after a broken connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use headpond_types::ByteRange;
use tokio::time::timeout;

use super::{Retry, RetryPolicy, Tries, unanswered};
use crate::{BodyStream, Counters, Key, Op, UfsError, UfsErrorKind, UnderStore};

/// A range being read, over as many requests as it takes.
pub(super) struct Resuming {
    inner: Arc<dyn UnderStore>,
    policy: Arc<RetryPolicy>,
    counters: Arc<Counters>,
    key: Key,
    version: String,
    left: ByteRange,
    body: Option<BodyStream>,
}

impl Resuming {
    /// Sends the first request; its failures are those of the GET itself.
    pub(super) async fn begin(retry: &Retry, key: &Key, range: ByteRange, version: &str) -> Result<Self, UfsError> {
        let mut reading = Self {
            inner: Arc::clone(&retry.inner),
            policy: Arc::clone(&retry.policy),
            counters: Arc::clone(&retry.counters),
            key: key.clone(),
            version: version.to_owned(),
            left: range,
            body: None,
        };
        let mut tries = Tries::new(&reading.policy, &reading.counters, Duration::ZERO);
        while let Err(error) = reading.open(&tries).await {
            if !may_go_on(&error) {
                return Err(error);
            }
            tries.pause(error).await?;
        }
        Ok(reading)
    }

    pub(super) fn into_body(self) -> BodyStream {
        stream::unfold(Some(self), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(None) => None,
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn open(&mut self, tries: &Tries) -> Result<(), UfsError> {
        let time = tries.time();
        self.body = match timeout(time, self.inner.get(&self.key, self.left.clone(), &self.version)).await {
            Ok(answer) => Some(answer?),
            Err(_) => return Err(unanswered(&*self.inner, Op::Get, &self.key, time)),
        };
        Ok(())
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, UfsError> {
        if self.body.is_some() && self.left.is_empty() {
            return Ok(None);
        }
        // Begins here and not where the last chunk came: a reader that takes its time uses up none of ours.
        let mut tries = Tries::new(&self.policy, &self.counters, Duration::ZERO);
        loop {
            match self.try_next(&tries).await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => return Ok(Some(chunk)),
                Err(error) if may_go_on(&error) => {
                    self.body = None;
                    tries.pause(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_next(&mut self, tries: &Tries) -> Result<Bytes, UfsError> {
        if self.body.is_none() {
            self.open(tries).await?;
        }
        let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
        let time = tries.time();
        let chunk = match timeout(time, body.next()).await {
            Ok(Some(chunk)) => chunk?,
            Ok(None) => return Err(self.broken("ended early")),
            Err(_) => return Err(unanswered(&*self.inner, Op::Get, &self.key, time)),
        };
        let length = chunk.len() as u64;
        if length > self.left.end - self.left.start {
            return Err(self.broken("gave more bytes than asked for"));
        }
        self.left.start += length;
        Ok(chunk)
    }

    fn broken(&self, why: &str) -> UfsError {
        let identity = self.inner.identity();
        UfsError::new(UfsErrorKind::Protocol, format!("{identity}/{} {why}", self.key))
    }
}

fn may_go_on(error: &UfsError) -> bool {
    error.kind().is_retryable() || error.kind() == UfsErrorKind::DeadlineExceeded
}
