//! The file system without a kernel: questions in node ids, answers in our own types.
//!
//! `*_now` answers from memory and never waits; the async twin asks the source, under a deadline.

mod allocation;
mod attributes;
mod changes;
mod copying;
mod directory;
mod handles;
mod kept;
mod lister;
mod nodes;
mod open_table;
mod orphans;
mod pages;
mod read;
mod recent;
mod seeking;
mod unrest;
mod writing;
mod xattr;

use std::{future::Future, sync::Arc, time::Duration};

use headpond_client::{Event, Lookup};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, Result};

pub(crate) use allocation::Allocation;
pub(crate) use changes::{Change, Time};
pub(crate) use copying::Spot;
pub(crate) use directory::DirEntry;
pub(crate) use handles::READER;
pub(crate) use open_table::{Mode, Opening, Refused};
pub(crate) use read::Admitted;

use crate::source::{Source, SourceFile, SourceWriter};
use recent::RecentAttrs;

/// The node id that the kernel gives a mount's root.
pub(crate) const ROOT_NODE: u64 = 1;

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
    /// How long the kernel may believe that the name leads there.
    pub(crate) ttl: Duration,
    /// How long it may believe the attributes.
    pub(crate) attr_ttl: Duration,
}

/// A file system over `S`; `B` is a registration of a backing file with the kernel.
#[derive(Debug)]
pub(crate) struct FileSystem<S: Source, B> {
    source: S,
    options: FsOptions,
    opens: open_table::OpenTable<S::File, B>,
    handles: handles::Handles<S::Writer>,
    pages: pages::Pages,
    orphans: orphans::Orphans<S::Writer>,
    dirs: directory::DirTable,
    kept: kept::KeptListings,
    unrest: unrest::Unrest,
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
            handles: handles::Handles::default(),
            pages: pages::Pages::default(),
            orphans: orphans::Orphans::default(),
            dirs: directory::DirTable::default(),
            kept: kept::KeptListings::default(),
            unrest: unrest::Unrest::default(),
            recent,
        }
    }

    /// The inode that a node id names.
    fn inode_of(&self, node: u64) -> InodeId {
        if node == ROOT_NODE { self.options.root } else { open_table::inode_of(node) }
    }

    /// The first node id of an inode, and the only one of a directory; `None` for the namespace's root where it lies above what is shown.
    pub(crate) fn node_of(&self, inode: InodeId) -> Option<u64> {
        if inode == self.options.root {
            Some(ROOT_NODE)
        } else if inode.0 == ROOT_NODE {
            None
        } else {
            Some(inode.0)
        }
    }

    /// All node ids of an inode by which the kernel may know it.
    pub(crate) fn nodes_of(&self, inode: InodeId) -> Vec<u64> {
        match self.node_of(inode) {
            Some(node) if node == inode.0 => self.opens.nodes(inode),
            node => node.into_iter().collect(),
        }
    }

    /// The node id by which an inode with these attributes is found.
    fn node_to_show(&self, attr: &Attr) -> Option<u64> {
        let node = self.node_of(attr.inode)?;
        if attr.kind != FileKind::File {
            return Some(node);
        }
        // What is written here is one version for all who have it open here.
        let content = attr.content.filter(|_| self.source.writer(attr.inode).is_none());
        Some(self.opens.node_to_show(attr.inode, content))
    }

    /// Forgets what the event makes doubtful. The kernel's caches are invalidated after this.
    pub(crate) fn apply(&self, event: &Event) {
        match event {
            Event::Entry { parent, .. } => self.disturb(*parent),
            Event::Reset => {
                self.dirs.disturb(None);
                self.kept.forget_all();
            }
        }
    }

    /// The kernel has forgotten everything.
    pub(crate) fn let_go(&self) {
        self.source.let_go();
    }

    /// A name was changed elsewhere; answers how long an earlier answer for it may still be on its way to the kernel.
    pub(crate) fn change(&self, dir: InodeId, name: &Name) -> Duration {
        self.unrest.change(dir, name.as_bytes())
    }

    /// The entries of a directory have changed.
    fn disturb(&self, dir: InodeId) {
        self.dirs.disturb(Some(dir));
        self.kept.forget(dir);
    }

    /// What the kernel is told of the name `name` in `dir`, which it does not hold meanwhile.
    fn named_entry(&self, dir: InodeId, name: &[u8], found: &Lookup) -> Entry {
        let mut entry = self.entry(found);
        if !entry.ttl.is_zero() && !self.unrest.may_answer(dir, name) {
            entry.ttl = Duration::ZERO;
        }
        entry
    }

    /// What the kernel is told of `found`.
    fn entry(&self, found: &Lookup) -> Entry {
        let ttl = found.remaining().min(self.options.max_ttl);
        let Some(attr) = &found.attr else { return Entry { found: None, ttl, attr_ttl: ttl } };
        let (attr, attr_ttl) = self.as_written(attr, ttl);
        Entry { found: self.node_to_show(&attr).map(|node| (node, attr)), ttl, attr_ttl }
    }

    /// Attributes of an inode and their validity. Those of a file that is being written here are as its bytes are now, which the next
    /// write changes.
    fn as_written(&self, attr: &Arc<Attr>, ttl: Duration) -> (Arc<Attr>, Duration) {
        match self.source.writer(attr.inode) {
            Some(writer) => (writer.attr(), Duration::ZERO),
            None => (Arc::clone(attr), ttl),
        }
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
