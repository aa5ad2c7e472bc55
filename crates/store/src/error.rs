//! Why the store could not do what it was asked.

use std::{io, path::PathBuf};

use headpond_types::{ContentId, Error, ErrorKind};

/// Result with [`StoreError`].
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An error of the page store. After any of them the store is usable, and nothing that was present is damaged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The page is not present, or the whole content was evicted or freed: ask [`crate::PageStore::content`] for it again,
    /// and fill the page.
    #[error("page {page} of content {content} is not in the store, fill it")]
    Absent {
        /// The content.
        content: ContentId,
        /// The first page that is missing.
        page: u64,
    },
    /// The page is present already: there is nothing to write.
    #[error("page {page} of content {content} is present already")]
    AlreadyPresent {
        /// The content.
        content: ContentId,
        /// The page.
        page: u64,
    },
    /// The bytes on disk did not match their checksum. The page (the whole content, if it is lent) was dropped; fill it again.
    #[error("page {page} of content {content} was corrupt on disk and is dropped, fill it again")]
    Corrupt {
        /// The content.
        content: ContentId,
        /// The page.
        page: u64,
    },
    /// No room could be made: what is cached is lent or being written, or the disk itself is full.
    #[error("no room in cache directory {}, enlarge it or close readers", dir.display())]
    Full {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory is out of use until [`crate::PageStore::probe_failed`] finds it sound. Go on without the cache.
    #[error("cache directory {} is out of use ({reason}), repair or remount it", dir.display())]
    DirFailed {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The content is known with another length: an id must mean the same bytes always.
    #[error("content {content} has {known} bytes, not {asked}")]
    LengthMismatch {
        /// The content.
        content: ContentId,
        /// The length in the store.
        known: u64,
        /// The length asked for.
        asked: u64,
    },
    /// Fewer or more bytes were written than the page has; nothing was kept.
    #[error("page {page} of content {content} has {expected} bytes, got {got}")]
    PageLength {
        /// The content.
        content: ContentId,
        /// The page.
        page: u64,
        /// Bytes in the page.
        expected: u64,
        /// Bytes written, or that would have been.
        got: u64,
    },
    /// A configuration that cannot be opened.
    #[error("cache directory {}: {problem}", dir.display())]
    Config {
        /// The directory.
        dir: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// Another process has the directory.
    #[error("cache directory {} is in use by another process: give each worker a directory of its own", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer release wrote the directory.
    #[error(
        "cache directory {} was written by a newer release (layout {found}, this one knows {known}): use that release or another directory",
        dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest layout that this release reads.
        known: u32,
    },
    /// A passing failure of the machine (out of descriptors, out of memory): the same call may succeed later.
    #[error("cache directory {}: {doing} failed", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl StoreError {
    /// What a caller can do about it, in the words that cross crates.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::AlreadyPresent { .. } => ErrorKind::AlreadyExists,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Full { .. } => ErrorKind::ResourceExhausted,
            Self::DirFailed { .. } | Self::Io { .. } => ErrorKind::Unavailable,
            Self::InUse { .. } => ErrorKind::Busy,
            Self::Newer { .. } => ErrorKind::NotSupported,
            Self::LengthMismatch { .. } | Self::PageLength { .. } | Self::Config { .. } => ErrorKind::InvalidArgument,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), error.to_string()).with_source(error)
    }
}
