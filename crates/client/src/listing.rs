//! Listings of directories.

use std::sync::Arc;

use bytes::Bytes;
use headpond_types::{Attr, InodeId, Name, NsPath};
use tokio::time::Instant;

/// A directory or file, by identity or by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListTarget {
    /// The inode.
    Inode(InodeId),
    /// What is at the path when the call reaches the master.
    Path(NsPath),
}

impl From<InodeId> for ListTarget {
    fn from(inode: InodeId) -> Self {
        Self::Inode(inode)
    }
}

impl From<NsPath> for ListTarget {
    fn from(path: NsPath) -> Self {
        Self::Path(path)
    }
}

/// Which entries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only names after this one in byte order. Not with `recursive`.
    pub start_after: Option<Name>,
    /// The whole subtree; entry names are then paths relative to the directory, parents before their children.
    pub recursive: bool,
    /// Most entries wanted; 0 for all.
    pub limit: u64,
    /// Ask the under store even if the listing that the master has is still fresh.
    pub refresh: bool,
}

/// One part of a listing, as it arrives.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// The directory itself; in the first page only.
    pub directory: Option<Arc<Attr>>,
    /// Entries in byte order of their names.
    pub entries: Vec<ListEntry>,
    /// Until when these entries may be believed without asking again.
    pub valid_until: Instant,
    /// Keys of the under store that no path can express and that were left out; in the last page only.
    pub skipped: u64,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Its name, or its path relative to the directory in a recursive listing.
    pub name: Bytes,
    /// Its attributes.
    pub attr: Arc<Attr>,
}
