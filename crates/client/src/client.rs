//! The handle that everything starts from.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, stream::BoxStream};
use headpond_proto::v1;
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::{Attr, ContentId, FileKind, InodeId, Name, NsPath, RenameMode, Result, Ring};
use tokio::{sync::broadcast, time::interval};

use crate::{
    AdminClient, AttrChange, ClientConfig, Event, FileWriter, Freed, ListOptions, ListPage, ListTarget, LoadOptions,
    LoadProgress, Lookup, NewFile, OpenFile, Owner, Pending, Presence, StatFs, cached, caller, listing, load,
    master::{self, Retry},
    metadata::Question,
    opening, session,
    shared::Shared,
    writing,
};

/// How often open files that nobody used for a while are looked for.
const TIDY: Duration = Duration::from_secs(5);

/// How long the end of a client waits for that of its writers: checksums of some GiB.
const ENDINGS: Duration = Duration::from_secs(5);

/// A session with the masters and connections to the workers. Clones are cheap and share both; with the last one they end.
///
/// All calls are cancel-safe; a change whose future is dropped may have been made. Errors of kind `Unavailable` and `DeadlineExceeded` come after the retries that the
/// deadline allows.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Ends the background tasks with the last clone of a client.
struct Handle {
    shared: Arc<Shared>,
    stop: Shutdown,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.begin();
        // Open files hold the shared state that holds them.
        self.shared.open_files.clear();
    }
}

impl Client {
    /// A client of the masters in `config`. Connects lazily: an unreachable master is an error of the first call. Needs a
    /// tokio runtime; the session runs in `tasks` and ends with its shutdown or with the last clone.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no master, an address cannot be one, or a TLS file cannot be used.
    pub fn connect(config: ClientConfig, tasks: Tasks) -> Result<Self> {
        let shared = Shared::new(config, tasks)?;
        let stop = shared.tasks.shutdown().child();
        let ending = stop.clone();
        let background = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            let mut session = std::pin::pin!(session::run(Arc::clone(&background), ending.clone()).fuse());
            tokio::select! {
                () = ending.begun() => {}
                () = &mut session => {}
                () = tidy(&background) => {}
                () = writing::renew(Arc::clone(&background)) => {}
            }
            // What was written is a cached content only once its staged file was ended, over these connections or not.
            let mut endings = std::pin::pin!(background.writers.endings().drain(ENDINGS));
            tokio::select! {
                _ = &mut endings => {}
                () = &mut session => drop(endings.await),
            }
            session::leave(&background, session).await;
            background.local.close();
        });
        Ok(Self { handle: Arc::new(Handle { shared, stop }) })
    }

    /// What is at `path`, following no symbolic link.
    ///
    /// # Errors
    /// Never `NotFound`: absence is an answer without attributes.
    pub async fn resolve(&self, path: &NsPath) -> Result<Lookup> {
        self.shared().ask(Question::Path(path)).await
    }

    /// What `name` is in `parent`.
    ///
    /// # Errors
    /// `NotADirectory` or `Stale` of the parent. Never `NotFound`: absence is an answer without attributes.
    pub async fn lookup(&self, parent: InodeId, name: &Name) -> Result<Lookup> {
        self.shared().ask(Question::Name(parent, name)).await
    }

    /// Attributes of an inode; always with attributes.
    ///
    /// # Errors
    /// `Stale` when the inode was replaced or removed: look its name up again.
    pub async fn attr(&self, inode: InodeId) -> Result<Lookup> {
        self.shared().ask(Question::Inode(inode)).await
    }

    /// The answer of [`Client::lookup`] if it is in memory and valid. Never waits; any thread.
    #[must_use]
    pub fn cached_lookup(&self, parent: InodeId, name: &[u8]) -> Option<Lookup> {
        self.shared().cache.name(parent, name)
    }

    /// The answer of [`Client::attr`] if it is in memory and valid. Never waits; any thread.
    #[must_use]
    pub fn cached_attr(&self, inode: InodeId) -> Option<Lookup> {
        self.shared().cache.attr(inode)
    }

    /// The entries of a directory, as the under store gives them. Ends after the first error; a listing that could not be
    /// completed never ends without one. Entries enter the metadata cache, but not those of a recursive listing.
    pub fn list(&self, target: impl Into<ListTarget>, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        listing::list(Arc::clone(self.shared()), target.into(), options)
    }

    /// Opens a file as it is now for reading.
    ///
    /// # Errors
    /// `IsADirectory`; `Stale` when the inode was replaced: look its name up again.
    pub async fn open(&self, inode: InodeId) -> Result<Arc<OpenFile>> {
        opening::open(self.shared(), inode).await
    }

    /// Opens the version of a file that `attr` tells of, also when it was replaced since: for who has it open without this client
    /// knowing. Its bytes are to be had while workers hold them.
    ///
    /// # Errors
    /// `Stale` when it was not opened lately; otherwise as of [`Client::open`].
    pub async fn reopen(&self, attr: Arc<Attr>) -> Result<Arc<OpenFile>> {
        opening::reopen(self.shared(), attr).await
    }

    /// The answer of [`Client::open`] if the attributes are valid and the content is open already, unless the worker of this
    /// node lent it incomplete: then the open asks whether that is still so. Never waits; any thread.
    #[must_use]
    pub fn cached_open(&self, inode: InodeId) -> Option<Arc<OpenFile>> {
        opening::cached(self.shared(), inode)
    }

    /// The file that has the name, made if it is missing, with the right to write it. One that is made is in the under store once it was
    /// persisted.
    ///
    /// # Errors
    /// `AlreadyExists` with [`NewFile::exclusive`]; `IsADirectory`; `NotADirectory` or `Stale` of the parent; `PermissionDenied`, `ReadOnly`; `Busy`
    /// when another client writes the file and did not stop in time.
    pub async fn create(&self, parent: InodeId, name: &Name, new: NewFile) -> Result<Arc<FileWriter>> {
        self.shared().create(parent, name, new).await
    }

    /// The right to write a file's next version. One writer per file and client: a second call gets the same as long as the first is in use.
    /// With `truncate` the file has no bytes then.
    ///
    /// # Errors
    /// `Stale` when the inode was replaced: look its name up again; otherwise as of [`Client::create`].
    pub async fn open_writer(&self, inode: InodeId, truncate: bool) -> Result<Arc<FileWriter>> {
        self.shared().open_writer(inode, truncate).await
    }

    /// The writer of a file that this client has. Never waits; any thread.
    #[must_use]
    pub fn writer(&self, inode: InodeId) -> Option<Arc<FileWriter>> {
        self.shared().writers.get(inode)
    }

    /// Makes a directory; it is in the under store when this returns.
    ///
    /// # Errors
    /// `AlreadyExists`; otherwise as of [`Client::create`].
    pub async fn make_directory(&self, parent: InodeId, name: &Name, owner: Owner) -> Result<Lookup> {
        self.shared().make_directory(parent, name, owner).await
    }

    /// Makes a symbolic link to `target`, which need not exist. The namespace alone has it.
    ///
    /// # Errors
    /// `AlreadyExists`; `NameTooLong` for a target above 4095 bytes, `InvalidArgument` for an empty one; otherwise as of [`Client::create`].
    pub async fn symlink(&self, parent: InodeId, name: &Name, target: &[u8], owner: Owner) -> Result<Lookup> {
        let target = Bytes::copy_from_slice(target);
        self.shared().make_node(parent, name, FileKind::Symlink, target, owner).await
    }

    /// Makes a special file. The namespace alone has it.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidArgument` for a kind that has calls of its own; `PermissionDenied` for a device, unless root asks; otherwise as of
    /// [`Client::create`].
    pub async fn make_node(&self, parent: InodeId, name: &Name, kind: FileKind, owner: Owner) -> Result<Lookup> {
        self.shared().make_node(parent, name, kind, Bytes::new(), owner).await
    }

    /// The target of a symbolic link. It never changes, so it is asked for once.
    ///
    /// # Errors
    /// `InvalidArgument` when the inode is none; `Stale` when it was removed.
    pub async fn read_link(&self, inode: InodeId) -> Result<Bytes> {
        self.shared().read_link(inode).await
    }

    /// The answer of [`Client::read_link`] if it is in memory. Never waits; any thread.
    #[must_use]
    pub fn cached_link(&self, inode: InodeId) -> Option<Bytes> {
        self.shared().targets.get(inode)
    }

    /// Gives a file, symbolic link or special file a further name. The under store gets an object under that name in the background.
    ///
    /// # Errors
    /// `AlreadyExists`; `IsADirectory`; `CrossMount` between two mounts; `ResourceExhausted` for more names than one file can have (1,001); `Stale`
    /// when the inode was removed; otherwise as of [`Client::create`].
    pub async fn link(&self, inode: InodeId, parent: InodeId, name: &Name) -> Result<Lookup> {
        self.shared().link(inode, parent, name).await
    }

    /// Removes a file, or with `directory` an empty directory, from the under store and the namespace. A writer of the file that this client has
    /// goes on with its bytes and persists them no more.
    ///
    /// # Errors
    /// `NotFound`; `NotEmpty`; `IsADirectory` or `NotADirectory` when the name is of the other kind; otherwise as of [`Client::create`].
    pub async fn remove(&self, parent: InodeId, name: &Name, directory: bool) -> Result<()> {
        self.shared().remove(parent, name, directory).await
    }

    /// Removes a directory with all that lies below in one step: nobody sees a part of it, and a client that ends meanwhile leaves no half. The under store
    /// has it deleted in the background; files below that somebody has open to write are lost to him, but for those that have a name elsewhere.
    ///
    /// # Errors
    /// `NotFound`; `NotADirectory`; `PermissionDenied` also for a directory below that the caller may not list or change names in; `Busy` for mount points
    /// and what has some below, and while a file below is stored; otherwise as of [`Client::create`].
    pub async fn remove_tree(&self, parent: InodeId, name: &Name) -> Result<()> {
        self.shared().remove_tree(parent, name).await
    }

    /// Renames a file or a directory in one step; `mode` says what becomes of what has the new name.
    ///
    /// # Errors
    /// `NotFound`, also of the new name with [`RenameMode::Exchange`]; `AlreadyExists` with [`RenameMode::NoReplace`]; `NotEmpty`, `IsADirectory`,
    /// `NotADirectory` of what is to be replaced; `InvalidArgument` for a directory that would lie in itself; `CrossMount` between two mounts; `Busy` while an earlier rename of it is carried out in the under
    /// store; otherwise as of [`Client::create`].
    pub async fn rename(&self, from: (InodeId, &Name), to: (InodeId, &Name), mode: RenameMode) -> Result<()> {
        self.shared().rename(from, to, mode).await
    }

    /// Changes attributes. The modification time of a file that this client writes is that of its next version.
    ///
    /// # Errors
    /// `Stale` when the inode was replaced or removed; otherwise as of [`Client::create`].
    pub async fn set_attr(&self, inode: InodeId, change: AttrChange) -> Result<Lookup> {
        self.shared().set_attr(inode, change).await
    }

    /// What at and below `path` is not yet in the under store as the namespace says; with `up_to` only what was acknowledged before an answer had
    /// that number as its [`Pending::now`].
    ///
    /// # Errors
    /// `NotFound`; otherwise those of any call.
    pub async fn pending(&self, path: &NsPath, up_to: Option<u64>) -> Result<Pending> {
        self.shared().pending(path, up_to).await
    }

    /// Has what is deferred or scratch, at and below `path`, persisted in its turn from now on: how many files that are.
    /// [`Client::pending`] tells when they are.
    ///
    /// # Errors
    /// `NotFound`; `PermissionDenied` for who may not write it; otherwise those of any call.
    pub async fn persist_path(&self, path: &NsPath) -> Result<u64> {
        self.shared().persist_path(path).await
    }

    /// Sets the extended attribute `name`, or removes it without a value. With `exists` it must be there already, or must not. The namespace alone
    /// has it.
    ///
    /// # Errors
    /// `AlreadyExists` or `NoAttribute` when it is not as expected; `ResourceExhausted` when all of the inode would have more than 64 KiB;
    /// `NotSupported` for names that do not begin with `user.`; `NameTooLong`; otherwise as of [`Client::set_attr`].
    pub async fn set_xattr(
        &self,
        inode: InodeId,
        name: &[u8],
        value: Option<&[u8]>,
        exists: Option<bool>,
    ) -> Result<Lookup> {
        self.shared().set_xattr(inode, name, value, exists).await
    }

    /// Names and values of the extended attributes that were set, in order of the names. Asks the master only if there are any.
    ///
    /// # Errors
    /// `Stale` when the inode was replaced or removed; `PermissionDenied` for who may not read it.
    pub async fn xattrs(&self, inode: InodeId) -> Result<Vec<(Bytes, Bytes)>> {
        self.shared().xattrs(inode).await
    }

    /// Brings a file, or all files below a directory, into the cache. `progress` is called at least twice a second, never
    /// concurrently. Files that fail do not stop the others: they are in the result.
    ///
    /// # Errors
    /// Of the target or of its listing; what was loaded before stays.
    pub async fn load(
        &self,
        target: impl Into<ListTarget>,
        options: LoadOptions,
        progress: impl FnMut(&LoadProgress) + Send,
    ) -> Result<LoadProgress> {
        load::load(self.shared(), target.into(), options, progress).await
    }

    /// Drops the cached copies of a file, or of all files below a directory, on all workers. Contents that readers have open
    /// leave when they are closed.
    ///
    /// # Errors
    /// Of the target, its listing, or the first worker that failed; the others have been asked all the same.
    pub async fn free(&self, target: impl Into<ListTarget>, recursive: bool) -> Result<Freed> {
        cached::free(self.shared(), target.into(), recursive).await
    }

    /// How much of each content each worker has cached.
    ///
    /// # Errors
    /// When the ring is not known; a worker that does not answer is an error inside.
    pub async fn presence(&self, contents: &[ContentId]) -> Result<Vec<Presence>> {
        cached::presence(self.shared(), contents).await
    }

    /// Size of the namespace and of the cache.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn stat_fs(&self) -> Result<StatFs> {
        let call = |channel| async move { master::namespace(channel).stat_fs(v1::StatFsRequest {}).await };
        let answer = self.shared().masters.call("statfs", Retry::Yes, call).await?;
        let v1::StatFsResponse { inodes, bytes, cache_capacity, cache_used } = answer;
        Ok(StatFs { inodes, bytes, cache_capacity, cache_used })
    }

    /// The live workers, as the session last said.
    ///
    /// # Errors
    /// `Unavailable` when no master could be reached yet.
    pub async fn ring(&self) -> Result<Arc<Ring>> {
        self.shared().ring().await
    }

    /// The user and the group that masters take this client for: those of its certificate, else those of its process. What it makes for itself is
    /// theirs.
    #[must_use]
    pub fn user(&self) -> (u32, u32) {
        caller::user(self.shared().caller.as_ref())
    }

    /// Calls for operators.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient::new(self.clone())
    }

    /// Whoever cached what [`Client::events`] told of has forgotten it all, as a kernel whose mount is gone. When the client ends it tells the master,
    /// and no change of another client waits until what it was told is not valid any more.
    pub fn let_go(&self) {
        self.shared().session.let_go();
    }

    /// Changes from now on. A receiver that lags by more than 1024 gets `RecvError::Lagged` and must treat it as
    /// [`Event::Reset`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared().session.events()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Closes idle open files in time even when nothing is opened.
async fn tidy(shared: &Shared) {
    let mut tick = interval(TIDY);
    loop {
        tick.tick().await;
        shared.local.reconnect().await;
        shared.open_files.sweep();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("masters", &self.shared().masters).finish_non_exhaustive()
    }
}
