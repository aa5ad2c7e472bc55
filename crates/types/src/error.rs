//! The few kinds of error that cross a crate's edge; each tells the caller what to do next.

use std::fmt;

/// What a caller can do about an error. Edges map it by one exhaustive table each: errno in `fuse`, gRPC status in
/// `proto`, exit code in `cli`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing does not exist, and we know that it does not.
    NotFound,
    /// The thing exists already.
    AlreadyExists,
    /// A directory was needed.
    NotADirectory,
    /// A file was needed.
    IsADirectory,
    /// The directory still has entries.
    NotEmpty,
    /// The caller may not do this here.
    PermissionDenied,
    /// The mount or this release does not take changes.
    ReadOnly,
    /// The request makes no sense as it stands; the message says what would.
    InvalidArgument,
    /// A name has more than 255 bytes.
    NameTooLong,
    /// The content asked for is no longer the file's: look it up again.
    Stale,
    /// The under store refuses our credentials or policy; retrying alone will not help.
    StoreRefused,
    /// A part is down or overloaded; the same request may succeed later.
    Unavailable,
    /// The deadline passed; whether anything happened is not known.
    DeadlineExceeded,
    /// Somebody else is using the thing; it may be free later.
    Busy,
    /// The two ends lie in different mounts.
    CrossMount,
    /// Disk, quota, memory or queue is full.
    ResourceExhausted,
    /// Bytes did not match their checksum and could not be had elsewhere.
    Corrupt,
    /// The thing has no such attribute.
    NoAttribute,
    /// The store or the kernel cannot do this.
    NotSupported,
    /// The caller's epoch is older than one already seen: register again.
    Fenced,
    /// A defect of Headpond.
    Internal,
}

/// An error as crates hand it to each other: kind, what happened to which thing and what to do, and the cause.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` names the thing and the remedy, in lower case without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same with its cause, which `Display` does not repeat.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
