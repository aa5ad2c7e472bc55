//! The handle that everything starts from.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use headpond_runtime::Tasks;
use headpond_types::{ContentId, Error, ErrorKind, InodeId, Name, NsPath, Result, Ring};
use tokio::sync::broadcast;

use crate::{
    AdminClient, ClientConfig, Event, Freed, ListOptions, ListPage, ListTarget, LoadOptions, LoadProgress, Lookup,
    OpenFile, Presence, StatFs,
};

/// A session with the masters and connections to the workers. Clones are cheap and share both.
///
/// All calls are cancel-safe. Errors of kind `Unavailable` and `DeadlineExceeded` come after the retries that the
/// deadline allows.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    events: broadcast::Sender<Event>,
}

impl Client {
    /// A client of the masters in `config`. Connects lazily: an unreachable master is an error of the first call. Needs a
    /// tokio runtime; the session runs in `tasks` and ends with its shutdown or with the last clone.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no master or an address cannot be one.
    pub fn connect(_config: ClientConfig, _tasks: Tasks) -> Result<Self> {
        Ok(Self { inner: Arc::new(Inner { events: broadcast::channel(1024).0 }) })
    }

    /// What is at `path`, following no symbolic link.
    ///
    /// # Errors
    /// Never `NotFound`: absence is an answer without attributes.
    pub async fn resolve(&self, _path: &NsPath) -> Result<Lookup> {
        Err(pending())
    }

    /// What `name` is in `parent`.
    ///
    /// # Errors
    /// `NotADirectory` or `Stale` of the parent. Never `NotFound`: absence is an answer without attributes.
    pub async fn lookup(&self, _parent: InodeId, _name: &Name) -> Result<Lookup> {
        Err(pending())
    }

    /// Attributes of an inode; always with attributes.
    ///
    /// # Errors
    /// `Stale` when the inode was replaced or removed: look its name up again.
    pub async fn attr(&self, _inode: InodeId) -> Result<Lookup> {
        Err(pending())
    }

    /// The answer of [`Client::lookup`] if it is in memory and valid. Never waits; any thread.
    #[must_use]
    pub fn cached_lookup(&self, _parent: InodeId, _name: &[u8]) -> Option<Lookup> {
        None
    }

    /// The answer of [`Client::attr`] if it is in memory and valid. Never waits; any thread.
    #[must_use]
    pub fn cached_attr(&self, _inode: InodeId) -> Option<Lookup> {
        None
    }

    /// The entries of a directory, as the under store gives them. Ends after the first error; a listing that could not be
    /// completed never ends without one. Entries enter the metadata cache (not those of a recursive listing's names).
    pub fn list(&self, _target: impl Into<ListTarget>, _options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        Box::pin(stream::empty())
    }

    /// Opens a file as it is now for reading.
    ///
    /// # Errors
    /// `IsADirectory`; `Stale` when the inode was replaced: look its name up again.
    pub async fn open(&self, _inode: InodeId) -> Result<Arc<OpenFile>> {
        Err(pending())
    }

    /// The answer of [`Client::open`] if the attributes are valid and the content is open already. Never waits; any thread.
    #[must_use]
    pub fn cached_open(&self, _inode: InodeId) -> Option<Arc<OpenFile>> {
        None
    }

    /// Brings a file, or all files below a directory, into the cache. `progress` is called at least twice a second while
    /// something happens, never concurrently. Files that fail do not stop the others: they are in the result.
    ///
    /// # Errors
    /// Of the target or of its listing; what was loaded before stays.
    pub async fn load(
        &self,
        _target: impl Into<ListTarget>,
        _options: LoadOptions,
        _progress: impl FnMut(&LoadProgress) + Send,
    ) -> Result<LoadProgress> {
        Err(pending())
    }

    /// Drops the cached copies of a file, or of all files below a directory, on all workers. Contents that readers have open
    /// leave when they are closed.
    ///
    /// # Errors
    /// Of the target, its listing, or the first worker that failed; the others have been asked all the same.
    pub async fn free(&self, _target: impl Into<ListTarget>, _recursive: bool) -> Result<Freed> {
        Err(pending())
    }

    /// How much of each content each worker has cached.
    ///
    /// # Errors
    /// When the ring is not known; a worker that does not answer is an error inside.
    pub async fn presence(&self, _contents: &[ContentId]) -> Result<Vec<Presence>> {
        Err(pending())
    }

    /// Size of the namespace and of the cache.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn stat_fs(&self) -> Result<StatFs> {
        Err(pending())
    }

    /// The live workers, as the session last said.
    ///
    /// # Errors
    /// `Unavailable` when no master could be reached yet.
    pub async fn ring(&self) -> Result<Arc<Ring>> {
        Err(pending())
    }

    /// Calls for operators.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient {}
    }

    /// Changes from now on. A receiver that lags by more than 1024 gets `RecvError::Lagged` and must treat it as
    /// [`Event::Reset`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }
}

fn pending() -> Error {
    Error::new(ErrorKind::NotSupported, "this call is not there yet")
}
