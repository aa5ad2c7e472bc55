//! Opening and reading files.

use std::sync::Arc;

use bytes::Bytes;
use headpond_types::{Error, ErrorKind, InodeId, Result};

use super::{FileSystem, Mode, Opening, Refused, Source, SourceFile, SourceWriter, pages::Held};

/// How an open is to be answered.
#[derive(Debug)]
pub(crate) struct Admitted<B> {
    pub(crate) mode: Mode<B>,
    /// The pages that the kernel has of the inode are right.
    pub(crate) keep: bool,
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// The file of a node, if an open of it can be answered from memory. The source decides, not the open table: an inode that
    /// was replaced must not be opened again because somebody still reads it.
    pub(crate) fn open_now(&self, node: u64) -> Option<Arc<S::File>> {
        self.source.cached_open(self.inode_of(node))
    }

    /// The file of a node.
    pub(crate) async fn open(&self, node: u64) -> Result<Arc<S::File>> {
        self.within("opening a file", self.source.open(self.inode_of(node))).await
    }

    /// Whether a file is being written here, so that who reads it gets that.
    pub(crate) fn is_written(&self, node: u64) -> bool {
        self.source.writer(self.inode_of(node)).is_some()
    }

    /// Counts an open that is about to be answered; see [`super::open_table::OpenTable::open`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn admit(
        &self,
        node: u64,
        opening: Opening<S::File>,
        register: impl FnOnce(&<S::File as SourceFile>::Loan) -> Option<B>,
    ) -> Result<Admitted<B>, Refused> {
        let held = match &opening {
            Opening::Read(file) => file.attr().content.map(Held::Content),
            Opening::ReadWritten | Opening::Write { .. } => Some(Held::Written),
        };
        let mode = self.opens.open(node, opening, register)?;
        let keep = matches!(mode, Mode::Cached) && held.is_some_and(|held| self.pages.hold(node, held));
        Ok(Admitted { mode, keep })
    }

    /// Reads into `buffer` what is staged or in the local copy, if all that is wanted is there and in memory: the number of bytes, fewer only
    /// at the end. Never waits for a disk: one that hangs would take all FUSE threads, and everything else with them.
    pub(crate) fn read_now(&self, node: u64, handle: u64, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        if let Some(writer) = self.writer_of(node, handle) {
            return writer.try_read_at(offset, buffer);
        }
        let file = self.readable(node)?;
        let wanted = wanted(&*file, offset, buffer.len());
        let read = file.try_read_at(offset, buffer.get_mut(..wanted)?)?;
        (read == wanted).then_some(read)
    }

    /// Reads up to `len` bytes, fewer only at the end.
    ///
    /// # Errors
    /// Also when the source delivers too little: the kernel would take a short answer for the end of the file.
    pub(crate) async fn read(&self, node: u64, handle: u64, offset: u64, len: usize) -> Result<Bytes> {
        self.read_of(node, handle, offset, len).await.map(|(bytes, _)| bytes)
    }

    /// The same, and the version that has the bytes: none if they are of who writes the file.
    ///
    /// # Errors
    /// As of [`FileSystem::read`].
    pub(super) async fn read_of(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        len: usize,
    ) -> Result<(Bytes, Option<Arc<S::File>>)> {
        self.within("reading", async {
            if let Some(writer) = self.writer_of(node, handle) {
                return Ok((writer.read_at(offset, len).await?, None));
            }
            let file = match self.readable(node) {
                Some(file) => file,
                None => self.open_to_read(node).await?,
            };
            let wanted = wanted(&*file, offset, len);
            let bytes = file.read_at(offset, wanted).await?;
            if bytes.len() != wanted {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("a read of {wanted} bytes at {offset} of {} gave {}", self.inode_of(node), bytes.len()),
                ));
            }
            Ok((bytes, Some(file)))
        })
        .await
    }

    /// Whose bytes a read gets: those of the handle's own writer, else of who writes the inode here, unless the node is of an older version.
    pub(super) fn writer_of(&self, node: u64, handle: u64) -> Option<Arc<S::Writer>> {
        self.handles.get(handle).or_else(|| self.writer_here(node))
    }

    /// Who writes the inode here, for who asks for the node that is found under its names.
    pub(super) fn writer_here(&self, node: u64) -> Option<Arc<S::Writer>> {
        self.source.writer(self.inode_of(node)).filter(|_| self.opens.is_current(node))
    }

    /// A dataset mount reads what it was never asked to open, and its readers keep a file that is replaced meanwhile.
    pub(super) async fn open_to_read(&self, node: u64) -> Result<Arc<S::File>> {
        let inode = self.inode_of(node);
        let opened = match self.source.open(inode).await {
            Err(error) => match self.recent.as_ref().and_then(|recent| recent.get(inode)) {
                Some(attr) => self.source.reopen(attr).await.map_err(|_| error),
                None => Err(error),
            },
            opened => opened,
        };
        opened.inspect(|file| {
            self.opens.adopt(node, file);
            self.remember(inode, file);
        })
    }

    pub(super) fn readable(&self, node: u64) -> Option<Arc<S::File>> {
        let inode = self.inode_of(node);
        let file = match self.opens.file(node) {
            Some(file) => file,
            None => {
                let file = self.source.cached_open(inode)?;
                self.opens.adopt(node, &file);
                file
            }
        };
        self.remember(inode, &file);
        Some(file)
    }

    fn remember(&self, inode: InodeId, file: &S::File) {
        if let Some(recent) = &self.recent {
            recent.keep(inode, file.attr());
        }
    }
}

/// How many bytes a read of `len` at `offset` gets.
fn wanted(file: &impl SourceFile, offset: u64, len: usize) -> usize {
    let left = file.attr().size.saturating_sub(offset);
    usize::try_from(left).map_or(len, |left| left.min(len))
}
