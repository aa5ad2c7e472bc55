//! The file system without a kernel: questions in node ids, answers in our own types.
//!
//! `*_now` answers from memory and never waits; the async twin asks the source, under a deadline.

mod attributes;
mod directory;
mod kept;
mod lister;
mod open_table;
mod read;
mod recent;
mod xattr;

use std::{future::Future, sync::Arc, time::Duration};

use headpond_client::{Event, Lookup};
use headpond_types::{Attr, Error, ErrorKind, InodeId, Result};

pub(crate) use directory::DirEntry;
pub(crate) use open_table::Mode;
pub(crate) use xattr::Xattr;

use crate::source::{Source, SourceFile};
use recent::RecentAttrs;

/// The node id that the kernel gives a mount's root.
const ROOT_NODE: u64 = 1;

/// What the file system is told when it starts.
#[derive(Clone, Debug)]
pub(crate) struct FsOptions {
    /// The directory shown as the mount's root.
    pub(crate) root: InodeId,
    /// The kernel opens files without asking.
    pub(crate) dataset: bool,
    /// The longest validity handed to the kernel.
    pub(crate) max_ttl: Duration,
    /// Deadline of each question to the source.
    pub(crate) request_timeout: Duration,
}

/// What the kernel learns of a name or an inode.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Node and attributes; `None`: there is no such name.
    pub(crate) found: Option<(u64, Arc<Attr>)>,
    /// How long the kernel may believe it.
    pub(crate) ttl: Duration,
}

/// A file system over `S`; `B` is a registration of a backing file with the kernel.
#[derive(Debug)]
pub(crate) struct FileSystem<S: Source, B> {
    source: S,
    options: FsOptions,
    opens: open_table::OpenTable<S::File, B>,
    dirs: directory::DirTable,
    kept: kept::KeptListings,
    /// Of what is read on a dataset mount, which knows no open files.
    recent: Option<RecentAttrs>,
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    pub(crate) fn new(source: S, options: FsOptions) -> Self {
        let recent = options.dataset.then(RecentAttrs::default);
        Self {
            source,
            options,
            opens: open_table::OpenTable::default(),
            dirs: directory::DirTable::default(),
            kept: kept::KeptListings::default(),
            recent,
        }
    }

    /// The inode that a node id names.
    fn inode_of(&self, node: u64) -> InodeId {
        if node == ROOT_NODE { self.options.root } else { InodeId(node) }
    }

    /// The node id of an inode; `None` for the namespace's root where it lies above what is shown.
    pub(crate) fn node_of(&self, inode: InodeId) -> Option<u64> {
        if inode == self.options.root {
            Some(ROOT_NODE)
        } else if inode.0 == ROOT_NODE {
            None
        } else {
            Some(inode.0)
        }
    }

    /// Forgets what the event makes doubtful. The kernel's caches are invalidated after this.
    pub(crate) fn apply(&self, event: &Event) {
        match event {
            Event::Entry { parent, .. } => {
                self.dirs.disturb(Some(*parent));
                self.kept.forget(*parent);
            }
            Event::Reset => {
                self.dirs.disturb(None);
                self.kept.forget_all();
            }
        }
    }

    /// What the kernel is told of `found`.
    fn entry(&self, found: &Lookup) -> Entry {
        let ttl = found.remaining().min(self.options.max_ttl);
        let found = found.attr.as_ref().and_then(|attr| Some((self.node_of(attr.inode)?, Arc::clone(attr))));
        Entry { found, ttl }
    }

    /// `question` under the deadline; `what` names it in the error.
    async fn within<T>(&self, what: &str, question: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.options.request_timeout, question).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("{what} took longer than {} s", self.options.request_timeout.as_secs()),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
