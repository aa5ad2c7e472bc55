//! Logging of failed requests without a flood: an outage fails thousands of requests with one cause.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use headpond_types::{Error, ErrorKind};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::errno;

/// One failure is told, those within this time after it are counted.
const QUIET: Duration = Duration::from_secs(5);

/// The log of failures.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Complaints {
    /// Tells of `error`, which the kernel is about to be told as `errno`.
    pub(super) fn tell(&self, op: &str, error: &Error) {
        let name = errno::name(errno::of(error.kind()));
        if !is_trouble(error.kind()) {
            debug!(op, errno = name, error = %Chain(error), "request refused");
            return;
        }
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            told.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut told.untold);
        told.last = Some(now);
        drop(told);
        warn!(op, errno = name, untold, error = %Chain(error), "request through the mount failed");
    }
}

/// Whether an operator should hear of it; the rest is how file systems talk to programs.
const fn is_trouble(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::StoreRefused
        | ErrorKind::Unavailable
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
        | ErrorKind::NoAttribute
        | ErrorKind::NotSupported => false,
    }
}

/// An error with its causes.
struct Chain<'a>(&'a Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
