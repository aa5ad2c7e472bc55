//! Writing files.
//!
//! Writing and persisting have no deadline here: they may take as long as the bytes need, and the source has one for each step.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use headpond_client::{AttrChange, NewFile};
use headpond_types::{Error, ErrorKind, InodeId, Result, Timestamp};

use super::{Admitted, FileSystem, Opening, Refused, Source, SourceWriter, attributes::name_of, pages::Held};

/// How long the kernel may take to tell that a file was closed: longer than a moment behind readahead that waits for a store, or on a machine with
/// much to do. Who wants to write what is read for longer waits for nothing.
const CLOSING: Duration = Duration::from_secs(1);

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// Makes the file `name` in `parent`, or opens the one that has the name.
    pub(crate) async fn create(&self, parent: u64, name: &[u8], new: NewFile) -> Result<Arc<S::Writer>> {
        let (parent, name, truncate) = (self.inode_of(parent), name_of(name)?, new.truncate);
        let writer = self.within("creating a file", self.source.create(parent, &name, new)).await?;
        self.disturb(parent);
        if truncate {
            self.modify_empty(writer.attr().inode).await?;
        }
        Ok(writer)
    }

    /// Opens a node to write it, with `truncate` as a file without bytes.
    pub(crate) async fn open_to_write(&self, node: u64, truncate: bool) -> Result<Arc<S::Writer>> {
        let writer = self.open_writer(node, truncate).await?;
        if truncate {
            self.modify_empty(self.inode_of(node)).await?;
        }
        Ok(writer)
    }

    /// A file was opened as one without bytes: it is modified then, also if it had none.
    async fn modify_empty(&self, inode: InodeId) -> Result<()> {
        match self.modified_now(inode) {
            Some(mtime) => self.set_modified(inode, mtime).await,
            None => Ok(()),
        }
    }

    /// Says when a file was modified though its bytes may be as they were.
    pub(super) async fn set_modified(&self, inode: InodeId, mtime: Timestamp) -> Result<()> {
        let change = AttrChange { mtime: Some(mtime), ..AttrChange::default() };
        match self.within("changing attributes", self.source.set_attr(inode, change)).await {
            // Who may write it and does not own it may not set its time, which stays then: he may do to it what he does all the same.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            set => set.map(drop),
        }
    }

    /// The right to write a node.
    async fn open_writer(&self, node: u64, truncate: bool) -> Result<Arc<S::Writer>> {
        let opening = self.source.open_writer(self.inode_of(node), truncate);
        self.within("opening a file for writing", opening).await
    }

    /// Before a node is opened to write and to read: it cannot be while the kernel passes it through. Waits for readers that have closed the file, as
    /// the kernel tells of it after their close has returned; beside others it is found under its names as another node from then on, if it `turns`.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn may_write_and_read(&self, node: u64, turns: bool) -> Result<(), Refused> {
        if tokio::time::timeout(CLOSING, self.opens.until_not_passed_through(node)).await.is_ok() {
            return Ok(());
        }
        if turns { self.opens.turn_from_passed_through(node) } else { Err(Refused::PassedThrough) }
    }

    /// The node by which a file is found that somebody is about to write.
    pub(crate) fn current_node(&self, inode: InodeId) -> u64 {
        self.opens.node_to_show(inode, None)
    }

    /// Counts an open that is about to be answered, and gives it a handle. With `emptied` the kernel has no pages of the file, or lets go of
    /// them by itself.
    ///
    /// # Errors
    /// As of [`super::open_table::OpenTable::open`].
    pub(crate) fn admit_writer(
        &self,
        node: u64,
        writer: Arc<S::Writer>,
        reads: bool,
        emptied: bool,
    ) -> Result<(u64, Admitted<B>), Refused> {
        if emptied {
            self.pages.hold(node, Held::Written);
        } else if !writer.is_dirty() {
            self.pages.take_over(node, writer.attr().content);
        }
        let admitted = self.admit(node, Opening::Write { reads }, |_| None)?;
        Ok((self.handles.add(writer), admitted))
    }

    /// Writes what need not be waited for; whether it was done.
    pub(crate) fn write_now(&self, handle: u64, offset: u64, bytes: &[u8]) -> bool {
        self.handles.get(handle).is_some_and(|writer| writer.try_write_at(offset, bytes))
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write(&self, handle: u64, offset: u64, bytes: Bytes) -> Result<()> {
        self.writer(handle)?.write_at(offset, bytes).await
    }

    /// Whether a flush of the handle has something to do.
    pub(crate) fn is_dirty(&self, handle: u64) -> bool {
        self.handles.get(handle).is_some_and(|writer| writer.is_dirty())
    }

    /// Waits until everything that was written is as durable as the mount promises, and if the handle is `closing`, ready to be read.
    pub(crate) async fn persist(&self, handle: u64, closing: bool) -> Result<()> {
        self.writer(handle)?.persist(closing).await.map(drop)
    }

    /// Takes back an open. Answers the writer if something that no flush had seen is left to [`FileSystem::finish`]: what is written through
    /// a mapping comes after the last close.
    pub(crate) fn release(&self, node: u64, handle: u64) -> Option<Arc<S::Writer>> {
        if self.opens.release(node) {
            self.orphans.let_go(self.inode_of(node));
        }
        let writer = self.handles.remove(handle)?;
        if writer.is_dirty() {
            return Some(writer);
        }
        self.settle(node, writer);
        None
    }

    /// Persists what a released writer left.
    pub(crate) async fn finish(&self, node: u64, writer: Arc<S::Writer>) -> Result<()> {
        let persisted = writer.persist(true).await;
        self.settle(node, writer);
        persisted.map(drop)
    }

    /// Sets the length of a file: that of an open one, which its close persists, or at once.
    pub(super) async fn set_length(&self, node: u64, handle: Option<u64>, length: u64) -> Result<()> {
        if let Some(writer) = handle.and_then(|handle| self.handles.get(handle)) {
            return writer.set_length(length).await;
        }
        let writer = self.open_writer(node, length == 0).await?;
        let before = writer.attr().content;
        writer.set_length(length).await?;
        // Who takes back the last handle from now on sees that there is something to persist. Somebody else may have the writer for a moment, and would
        // let go of it as it is.
        if self.handles.have(&writer) {
            return Ok(());
        }
        // The kernel cuts its pages by itself.
        self.pages.take_over(node, before);
        let persisted = writer.persist(true).await;
        self.opens.outdate(node);
        self.settle(node, writer);
        persisted.map(drop)
    }

    /// Lets go of a writer. If it was the last, the kernel's pages are of what was persisted.
    fn settle(&self, node: u64, writer: Arc<S::Writer>) {
        let content = if writer.is_dirty() { None } else { writer.attr().content };
        drop(writer);
        if self.source.writer(self.inode_of(node)).is_none() && self.pages.is_written(node) {
            self.pages.settle(node, content);
        }
    }

    pub(super) fn writer(&self, handle: u64) -> Result<Arc<S::Writer>> {
        let writer = self.handles.get(handle);
        writer.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("handle {handle} is not open for writing")))
    }
}
