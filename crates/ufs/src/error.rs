//! Errors of under stores.

use std::{fmt, time::Duration};

use headpond_types::{Error, ErrorKind};

/// What went wrong at a store, as far as the caller must act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UfsErrorKind {
    /// The store said that the key does not exist.
    NotFound,
    /// The store said that the bucket (or root directory) does not exist.
    NoSuchStore,
    /// The object has another version than the one asked for.
    Changed,
    /// A precondition of a mutation does not hold.
    Precondition,
    /// Credentials or policy refuse the request (401, 403).
    Refused,
    /// Too many requests (503 SlowDown, 429); wait, then retry.
    SlowDown,
    /// The request failed on the way or inside the store (timeouts, resets, 500); may be retried.
    Transient,
    /// The deadline that the caller set has passed.
    DeadlineExceeded,
    /// The store cannot do this.
    Unsupported,
    /// The request makes no sense to the store (bad key, bad range).
    Invalid,
    /// The key is longer than the store takes: there can be nothing under it.
    TooLong,
    /// The answer breaks the store's own protocol (missing ETag, short body).
    Protocol,
}

impl UfsErrorKind {
    /// Every kind, in the order of their discriminants.
    pub const ALL: [Self; 12] = [
        Self::NotFound,
        Self::NoSuchStore,
        Self::Changed,
        Self::Precondition,
        Self::Refused,
        Self::SlowDown,
        Self::Transient,
        Self::DeadlineExceeded,
        Self::Unsupported,
        Self::Invalid,
        Self::TooLong,
        Self::Protocol,
    ];

    /// The name in metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NoSuchStore => "no_such_store",
            Self::Changed => "changed",
            Self::Precondition => "precondition",
            Self::Refused => "refused",
            Self::SlowDown => "slow_down",
            Self::Transient => "transient",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::TooLong => "too_long",
            Self::Protocol => "protocol",
        }
    }

    /// Whether the same request may succeed when repeated.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::SlowDown | Self::Transient | Self::Protocol)
    }
}

/// An error of a store: what was tried on which store and key, and why it failed.
#[derive(Debug, thiserror::Error)]
pub struct UfsError {
    kind: UfsErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl UfsError {
    /// An error of `kind`; `message` names store and key.
    pub fn new(kind: UfsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// The same with its cause, which `Display` does not repeat.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with the pause that the store asked for.
    #[must_use]
    pub const fn with_retry_after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }

    /// The same with more behind its message.
    #[must_use]
    pub(crate) fn annotated(mut self, note: &str) -> Self {
        self.message.push_str(note);
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> UfsErrorKind {
        self.kind
    }

    /// The pause that the store asked for before the next try.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for UfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<UfsError> for Error {
    fn from(error: UfsError) -> Self {
        let kind = match error.kind {
            UfsErrorKind::NotFound => ErrorKind::NotFound,
            UfsErrorKind::NoSuchStore | UfsErrorKind::Refused => ErrorKind::StoreRefused,
            UfsErrorKind::Changed => ErrorKind::Stale,
            UfsErrorKind::Precondition => ErrorKind::AlreadyExists,
            UfsErrorKind::SlowDown | UfsErrorKind::Transient | UfsErrorKind::Protocol => ErrorKind::Unavailable,
            UfsErrorKind::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            UfsErrorKind::Unsupported => ErrorKind::NotSupported,
            UfsErrorKind::Invalid => ErrorKind::InvalidArgument,
            UfsErrorKind::TooLong => ErrorKind::NameTooLong,
        };
        let converted = Self::new(kind, error.message);
        match error.source {
            Some(source) => converted.with_source(source),
            None => converted,
        }
    }
}
