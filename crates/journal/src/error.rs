//! What can go wrong with a journal, and which kind of error that is to others.

use std::{io, path::PathBuf};

use headpond_types::{Error, ErrorKind};

use crate::machine::Position;

/// A failure of the journal or of its files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("{action} {path} failed")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("state directory {dir} is used by another process: stop it or choose another directory")]
    InUse { dir: PathBuf },
    #[error(
        "state directory {dir} has format {found}, this release knows up to {known}: run the release that wrote it"
    )]
    Newer { dir: PathBuf, found: u64, known: u64 },
    #[error("{path} does not say a format: {dir} is not a journal's state directory", dir = path.parent().unwrap_or(path).display())]
    NoFormat { path: PathBuf },
    #[error("journal file {path} is damaged at byte {offset}: {what}; restore the state directory from a copy")]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
    #[error("journal file {path} is missing: restore the state directory from a copy")]
    Missing { path: PathBuf },
    #[error(
        "the tables are at {tables:?} but the journal holds ({purged:?}, {last:?}]: one of the two is not of this state directory"
    )]
    Apart { tables: Option<Position>, purged: Option<Position>, last: Option<Position> },
    #[error("a command of {bytes} bytes is too large for the journal, which takes {limit}: split it")]
    TooLarge { bytes: usize, limit: usize },
    #[error("a command cannot be written to the journal")]
    Encode(#[from] postcard::Error),
    #[error("the journal stopped: {reason}; restart the master")]
    Stopped { reason: String },
    #[error("this master does not lead, so it takes no commands: ask the one that does")]
    NotLeading,
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => ErrorKind::ResourceExhausted,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Unavailable,
            },
            Self::Stopped { .. } | Self::NotLeading => ErrorKind::Unavailable,
            Self::InUse { .. } => ErrorKind::Busy,
            Self::Newer { .. } => ErrorKind::NotSupported,
            Self::NoFormat { .. } | Self::TooLarge { .. } => ErrorKind::InvalidArgument,
            Self::Damaged { .. } | Self::Missing { .. } | Self::Apart { .. } => ErrorKind::Corrupt,
            Self::Encode(_) => ErrorKind::Internal,
        }
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        let (kind, message) = (error.kind(), error.to_string());
        match error {
            JournalError::Io { source, .. } => Self::new(kind, message).with_source(source),
            JournalError::Encode(source) => Self::new(kind, message).with_source(source),
            _ => Self::new(kind, message),
        }
    }
}
