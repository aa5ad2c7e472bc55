//! What can go wrong with the tables, and which kind of error that is to others.

use std::{io, path::PathBuf};

use headpond_types::{Error, ErrorKind};

/// A failure of the tables.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// The engine failed.
    #[error("the namespace's tables cannot be read or written: see the cause, then restart")]
    Engine(#[from] redb::Error),
    /// The directory cannot be made.
    #[error("state directory {dir} cannot be made")]
    Directory { dir: PathBuf, source: io::Error },
    /// Somebody else has the tables open.
    #[error("state directory {dir} is used by another process: stop it or choose another directory")]
    InUse { dir: PathBuf },
    /// A row does not decode.
    #[error("{table} row {key} in the namespace's tables is damaged: restore the state directory or load it anew")]
    Damaged { table: &'static str, key: String },
    /// The tables were written by a later release.
    #[error(
        "the namespace's tables have format {found}, this release knows up to {known}: run the release that wrote them"
    )]
    Newer { found: u8, known: u8 },
}

macro_rules! from_engine {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for TableError {
            fn from(error: redb::$error) -> Self {
                Self::Engine(error.into())
            }
        })*
    };
}

from_engine!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);

impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        let kind = match &error {
            TableError::Engine(redb::Error::Io(cause)) if cause.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            TableError::Engine(redb::Error::Corrupted(_)) | TableError::Damaged { .. } => ErrorKind::Corrupt,
            TableError::Engine(_) => ErrorKind::Internal,
            TableError::Directory { .. } => ErrorKind::Unavailable,
            TableError::InUse { .. } => ErrorKind::Busy,
            TableError::Newer { .. } => ErrorKind::NotSupported,
        };
        let message = error.to_string();
        match error {
            TableError::Engine(cause) => Self::new(kind, message).with_source(cause),
            TableError::Directory { source, .. } => Self::new(kind, message).with_source(source),
            TableError::InUse { .. } | TableError::Damaged { .. } | TableError::Newer { .. } => {
                Self::new(kind, message)
            }
        }
    }
}
