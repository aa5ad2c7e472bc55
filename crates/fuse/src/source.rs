//! What the file system needs of the client, as a trait so that tests can stand in for a cluster.

use std::{fmt, fs::File, future::Future, sync::Arc};

use bytes::Bytes;
use futures::stream::BoxStream;
use headpond_client::{
    AttrChange, Client, Event, FileWriter, ListOptions, ListPage, LocalFile, Lookup, NewFile, OpenFile, Owner, StatFs,
    Stretch,
};
use headpond_types::{Attr, FileKind, InodeId, Name, NsPath, RenameMode, Result};
use tokio::sync::broadcast;

/// The namespace and its files. `cached_*` answer from memory, never wait and may be called from any thread.
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: SourceFile;
    /// A file that is being written.
    type Writer: SourceWriter<File = Self::File>;

    fn cached_lookup(&self, parent: InodeId, name: &[u8]) -> Option<Lookup>;
    fn cached_attr(&self, inode: InodeId) -> Option<Lookup>;
    fn cached_open(&self, inode: InodeId) -> Option<Arc<Self::File>>;
    fn cached_link(&self, inode: InodeId) -> Option<Bytes>;
    /// Who writes the file here. Never waits; any thread.
    fn writer(&self, inode: InodeId) -> Option<Arc<Self::Writer>>;

    fn resolve(&self, path: &NsPath) -> impl Future<Output = Result<Lookup>> + Send;
    fn lookup(&self, parent: InodeId, name: &Name) -> impl Future<Output = Result<Lookup>> + Send;
    fn attr(&self, inode: InodeId) -> impl Future<Output = Result<Lookup>> + Send;
    fn open(&self, inode: InodeId) -> impl Future<Output = Result<Arc<Self::File>>> + Send;
    /// The version that `attr` tells of, also when it was replaced since.
    fn reopen(&self, attr: Arc<Attr>) -> impl Future<Output = Result<Arc<Self::File>>> + Send;
    /// Names and values of those that were set.
    fn xattrs(&self, inode: InodeId) -> impl Future<Output = Result<Vec<(Bytes, Bytes)>>> + Send;
    fn read_link(&self, inode: InodeId) -> impl Future<Output = Result<Bytes>> + Send;
    fn stat_fs(&self) -> impl Future<Output = Result<StatFs>> + Send;

    fn create(
        &self,
        parent: InodeId,
        name: &Name,
        new: NewFile,
    ) -> impl Future<Output = Result<Arc<Self::Writer>>> + Send;
    fn open_writer(&self, inode: InodeId, truncate: bool) -> impl Future<Output = Result<Arc<Self::Writer>>> + Send;
    fn make_directory(&self, parent: InodeId, name: &Name, owner: Owner)
    -> impl Future<Output = Result<Lookup>> + Send;
    fn symlink(
        &self,
        parent: InodeId,
        name: &Name,
        target: &[u8],
        owner: Owner,
    ) -> impl Future<Output = Result<Lookup>> + Send;
    /// Neither a file, a directory nor a symbolic link.
    fn make_node(
        &self,
        parent: InodeId,
        name: &Name,
        kind: FileKind,
        owner: Owner,
    ) -> impl Future<Output = Result<Lookup>> + Send;
    fn link(&self, inode: InodeId, parent: InodeId, name: &Name) -> impl Future<Output = Result<Lookup>> + Send;
    fn remove(&self, parent: InodeId, name: &Name, directory: bool) -> impl Future<Output = Result<()>> + Send;
    fn rename(
        &self,
        from: (InodeId, &Name),
        to: (InodeId, &Name),
        mode: RenameMode,
    ) -> impl Future<Output = Result<()>> + Send;
    fn set_xattr(
        &self,
        inode: InodeId,
        name: &[u8],
        value: Option<&[u8]>,
        exists: Option<bool>,
    ) -> impl Future<Output = Result<Lookup>> + Send;
    fn set_attr(&self, inode: InodeId, change: AttrChange) -> impl Future<Output = Result<Lookup>> + Send;

    /// Entries after `after` in byte order. Ends after the first error, and never without one before the listing is whole.
    fn list(&self, dir: InodeId, after: Option<Name>) -> BoxStream<'static, Result<ListPage>>;
    fn events(&self) -> broadcast::Receiver<Event>;
    /// The kernel believes nothing of what it was told any more.
    fn let_go(&self);
}

/// One version of a file, open for reading.
pub(crate) trait SourceFile: fmt::Debug + Send + Sync + 'static {
    /// The right to use the file's local copy; the copy stays whole while it lives.
    type Loan: Loan;

    fn attr(&self) -> &Arc<Attr>;
    /// The local copy, if it is complete and verified.
    fn complete(&self) -> Option<Self::Loan>;
    /// Reads what is known to be on the local disk and in memory, else `None`. Any thread; does not wait.
    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize>;
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = Result<Bytes>> + Send;
}

/// A file that is being written; shared by all who write it.
pub(crate) trait SourceWriter: fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File;

    /// With the length and the modification time of what is written.
    fn attr(&self) -> Arc<Attr>;
    /// Whether there is something to persist.
    fn is_dirty(&self) -> bool;
    /// Reads what need not be waited for: fewer bytes than `buffer` has only at the end. Any thread.
    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize>;
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = Result<Bytes>> + Send;
    /// Writes what need not be waited for; whether it was done. Any thread.
    fn try_write_at(&self, offset: u64, bytes: &[u8]) -> bool;
    fn write_at(&self, offset: u64, bytes: Bytes) -> impl Future<Output = Result<()>> + Send;
    /// Writes bytes that `from` has at the same place.
    fn write_copied(&self, offset: u64, bytes: Bytes, from: &Self::File) -> impl Future<Output = Result<()>> + Send;
    fn set_length(&self, length: u64) -> impl Future<Output = Result<()>> + Send;
    /// Where from `offset` on the next such stretch begins, if there is one.
    fn next_stretch(&self, offset: u64, what: Stretch) -> impl Future<Output = Result<Option<u64>>> + Send;
    /// Makes bytes zeros as far as the file reaches.
    fn zero(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send;
    /// Everything written before is as durable as the mount promises when this answers. With `closing` others are about to read it.
    fn persist(&self, closing: bool) -> impl Future<Output = Result<Arc<Attr>>> + Send;
}

/// A complete local copy of a content.
pub(crate) trait Loan: fmt::Debug + Send + Sync + 'static {
    fn file(&self) -> &File;
}

impl Source for Client {
    type File = OpenFile;
    type Writer = FileWriter;

    fn cached_lookup(&self, parent: InodeId, name: &[u8]) -> Option<Lookup> {
        self.cached_lookup(parent, name)
    }

    fn cached_attr(&self, inode: InodeId) -> Option<Lookup> {
        self.cached_attr(inode)
    }

    fn cached_open(&self, inode: InodeId) -> Option<Arc<OpenFile>> {
        self.cached_open(inode)
    }

    fn cached_link(&self, inode: InodeId) -> Option<Bytes> {
        self.cached_link(inode)
    }

    fn writer(&self, inode: InodeId) -> Option<Arc<FileWriter>> {
        self.writer(inode)
    }

    async fn resolve(&self, path: &NsPath) -> Result<Lookup> {
        self.resolve(path).await
    }

    async fn lookup(&self, parent: InodeId, name: &Name) -> Result<Lookup> {
        self.lookup(parent, name).await
    }

    async fn attr(&self, inode: InodeId) -> Result<Lookup> {
        self.attr(inode).await
    }

    async fn open(&self, inode: InodeId) -> Result<Arc<OpenFile>> {
        self.open(inode).await
    }

    async fn reopen(&self, attr: Arc<Attr>) -> Result<Arc<OpenFile>> {
        self.reopen(attr).await
    }

    async fn xattrs(&self, inode: InodeId) -> Result<Vec<(Bytes, Bytes)>> {
        self.xattrs(inode).await
    }

    async fn set_xattr(
        &self,
        inode: InodeId,
        name: &[u8],
        value: Option<&[u8]>,
        exists: Option<bool>,
    ) -> Result<Lookup> {
        self.set_xattr(inode, name, value, exists).await
    }

    async fn read_link(&self, inode: InodeId) -> Result<Bytes> {
        self.read_link(inode).await
    }

    async fn stat_fs(&self) -> Result<StatFs> {
        self.stat_fs().await
    }

    async fn create(&self, parent: InodeId, name: &Name, new: NewFile) -> Result<Arc<FileWriter>> {
        self.create(parent, name, new).await
    }

    async fn open_writer(&self, inode: InodeId, truncate: bool) -> Result<Arc<FileWriter>> {
        self.open_writer(inode, truncate).await
    }

    async fn make_directory(&self, parent: InodeId, name: &Name, owner: Owner) -> Result<Lookup> {
        self.make_directory(parent, name, owner).await
    }

    async fn symlink(&self, parent: InodeId, name: &Name, target: &[u8], owner: Owner) -> Result<Lookup> {
        self.symlink(parent, name, target, owner).await
    }

    async fn make_node(&self, parent: InodeId, name: &Name, kind: FileKind, owner: Owner) -> Result<Lookup> {
        self.make_node(parent, name, kind, owner).await
    }

    async fn link(&self, inode: InodeId, parent: InodeId, name: &Name) -> Result<Lookup> {
        self.link(inode, parent, name).await
    }

    async fn remove(&self, parent: InodeId, name: &Name, directory: bool) -> Result<()> {
        self.remove(parent, name, directory).await
    }

    async fn rename(&self, from: (InodeId, &Name), to: (InodeId, &Name), mode: RenameMode) -> Result<()> {
        self.rename(from, to, mode).await
    }

    async fn set_attr(&self, inode: InodeId, change: AttrChange) -> Result<Lookup> {
        self.set_attr(inode, change).await
    }

    fn list(&self, dir: InodeId, after: Option<Name>) -> BoxStream<'static, Result<ListPage>> {
        self.list(dir, ListOptions { start_after: after, ..ListOptions::default() })
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events()
    }

    fn let_go(&self) {
        self.let_go();
    }
}

impl SourceFile for OpenFile {
    type Loan = Arc<LocalFile>;

    fn attr(&self) -> &Arc<Attr> {
        self.attr()
    }

    fn complete(&self) -> Option<Arc<LocalFile>> {
        self.local().filter(|local| local.is_complete())
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        self.try_read_at(offset, buffer)
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.read_at(offset, len).await
    }
}

impl SourceWriter for FileWriter {
    type File = OpenFile;

    fn attr(&self) -> Arc<Attr> {
        self.attr()
    }

    fn is_dirty(&self) -> bool {
        self.is_dirty()
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        self.try_read_at(offset, buffer)
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.read_at(offset, len).await
    }

    fn try_write_at(&self, offset: u64, bytes: &[u8]) -> bool {
        self.try_write_at(offset, bytes)
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write_at(offset, bytes).await
    }

    async fn write_copied(&self, offset: u64, bytes: Bytes, from: &OpenFile) -> Result<()> {
        self.write_copied(offset, bytes, from).await
    }

    async fn set_length(&self, length: u64) -> Result<()> {
        self.set_length(length).await
    }

    async fn next_stretch(&self, offset: u64, what: Stretch) -> Result<Option<u64>> {
        self.next_stretch(offset, what).await
    }

    async fn zero(&self, offset: u64, length: u64) -> Result<()> {
        self.zero(offset, length).await
    }

    async fn persist(&self, closing: bool) -> Result<Arc<Attr>> {
        self.persist(closing).await
    }
}

impl Loan for Arc<LocalFile> {
    fn file(&self) -> &File {
        LocalFile::file(self)
    }
}
