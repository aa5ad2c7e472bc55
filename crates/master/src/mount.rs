//! One mount at work: its under store, what may be asked of it for how long, and how it is doing.

use std::{future::Future, sync::Arc, time::Duration};

use headpond_namespace::{Due, Mount};
use headpond_types::{Error, ErrorKind, InodeId, Name, Result};
use headpond_ufs::{Key, ListRequest, StoreUri, UfsError, UfsErrorKind, UnderStore};
use tokio::sync::OnceCell;

use crate::{connect::Connect, health::Health, persistence::Policy};

/// Bytes of a key that every store takes.
const ANY_KEY: usize = 255;

/// A mount of the table. The store is connected at its first use: a master starts also when a store is down.
#[derive(Debug)]
pub(crate) struct LiveMount {
    /// As it stands in the namespace.
    pub(crate) mount: Mount,
    /// The directory at its path.
    pub(crate) root: InodeId,
    /// How its store is doing.
    pub(crate) health: Health,
    /// How what is written is persisted.
    pub(crate) policy: Policy,
    uri: StoreUri,
    store: OnceCell<Arc<dyn UnderStore>>,
    connect: Arc<dyn Connect>,
    deadline: Duration,
}

/// How a store answered a request that depends on what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    /// It is carried out.
    Done(T),
    /// There is no such object.
    Missing,
    /// The object is another than the request says, or there is one where none should be. Nothing was changed.
    Unmet,
}

/// The key, relative to a mount's prefix, that the path `names` below the mount point says.
pub(crate) fn path_key(names: &[Name]) -> Vec<u8> {
    names.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
}

impl LiveMount {
    /// # Errors
    /// `InvalidArgument` for a URI or a pattern that this release cannot read.
    pub(crate) fn new(mount: Mount, root: InodeId, connect: Arc<dyn Connect>, deadline: Duration) -> Result<Self> {
        let uri = StoreUri::parse(&mount.uri)?;
        let policy = Policy::new(&mount.persistence)?;
        Ok(Self { mount, root, health: Health::default(), policy, uri, store: OnceCell::new(), connect, deadline })
    }

    /// Refuses a path that the store is to get an object for, of a directory its marker, but has no key for.
    ///
    /// # Errors
    /// `NameTooLong`; those of connecting to the store.
    pub(crate) async fn require_key(&self, names: &[Name], is_directory: bool) -> Result<()> {
        let key = path_key(names);
        let key = if is_directory { self.directory_key(&key) } else { self.object_key(&key) };
        let is_to_come = self.policy.due(names).is_none_or(|due| due == Due::Now);
        let length = key.as_bytes().len();
        if length <= ANY_KEY || !is_to_come {
            return Ok(());
        }
        let most = self.store().await?.capabilities().max_key;
        if length <= most {
            return Ok(());
        }
        let Mount { path, uri, .. } = &self.mount;
        let message =
            format!("mount {path}: its key would have {length} bytes, and {uri} takes {most}: use shorter names");
        Err(Error::new(ErrorKind::NameTooLong, message))
    }

    /// Connects and lists the first key, to see that the store is there and takes our credentials.
    ///
    /// # Errors
    /// What is wrong, naming the mount.
    pub(crate) async fn try_out(&self) -> Result<()> {
        let prefix = self.uri.prefix().clone();
        let request = ListRequest { prefix, delimited: true, max_keys: 1, ..ListRequest::default() };
        self.ask("list", &request.prefix, self.store().await?.list(&request)).await.map(|_| ())
    }

    /// The key prefix of the directory at `key`, which is relative to the mount's prefix: empty, or ending in `/`.
    pub(crate) fn directory_key(&self, key: &[u8]) -> Key {
        let slash: &[u8] = if key.is_empty() { b"" } else { b"/" };
        Key::from([self.uri.prefix().as_bytes(), key, slash].concat())
    }

    /// The whole key of the object at `key`, which is relative to the mount's prefix.
    pub(crate) fn object_key(&self, key: &[u8]) -> Key {
        Key::from([self.uri.prefix().as_bytes(), key].concat())
    }

    /// A whole key relative to the mount's prefix; `None` when it lies elsewhere.
    pub(crate) fn relative<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(self.uri.prefix().as_bytes())
    }

    /// The store, connected if it was not yet.
    ///
    /// # Errors
    /// What the driver says of options and credentials, naming the mount.
    pub(crate) async fn store(&self) -> Result<&Arc<dyn UnderStore>> {
        let connect = || self.connect.connect(&self.mount, &self.uri);
        self.store.get_or_try_init(connect).await.map_err(|error| self.failed("use the store", error))
    }

    /// Does one request to the store under the deadline and keeps book of how it went. `None` when the store says that
    /// there is no such object.
    ///
    /// # Errors
    /// Names the mount, what was asked and how the store failed.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        key: &Key,
        request: impl Future<Output = Result<T, UfsError>>,
    ) -> Result<Option<T>> {
        match self.attempt(what, key, request).await? {
            Verdict::Done(answer) => Ok(Some(answer)),
            Verdict::Missing => Ok(None),
            Verdict::Unmet => {
                let message = format!("mount {}: {key:?} has changed in {}", self.mount.path, self.mount.uri);
                Err(Error::new(ErrorKind::Stale, message))
            }
        }
    }

    /// The same for a request on a condition. That the condition does not hold is an answer, too.
    ///
    /// # Errors
    /// As for [`LiveMount::ask`].
    pub(crate) async fn attempt<T>(
        &self,
        what: &str,
        key: &Key,
        request: impl Future<Output = Result<T, UfsError>>,
    ) -> Result<Verdict<T>> {
        let answer = match tokio::time::timeout(self.deadline, request).await {
            Ok(Ok(answer)) => Verdict::Done(answer),
            Ok(Err(error)) if error.kind() == UfsErrorKind::NotFound => Verdict::Missing,
            Ok(Err(error)) if matches!(error.kind(), UfsErrorKind::Changed | UfsErrorKind::Precondition) => {
                Verdict::Unmet
            }
            Ok(Err(error)) => return Err(self.failed(&format!("{what} {key:?}"), error)),
            Err(_) => {
                let late = format!("no answer within {} s", self.deadline.as_secs_f32());
                let late = UfsError::new(UfsErrorKind::DeadlineExceeded, late);
                return Err(self.failed(&format!("{what} {key:?}"), late));
            }
        };
        if let Some(down) = self.health.succeeded() {
            let (mount, uri, seconds) = (&self.mount.path, &self.mount.uri, down.as_secs());
            tracing::info!(%mount, uri, seconds, "under store answers again");
        }
        Ok(answer)
    }

    /// The error for a request that failed; takes note of it.
    fn failed(&self, what: &str, error: UfsError) -> Error {
        let (mount, uri) = (&self.mount.path, &self.mount.uri);
        // A store that never does something is not down.
        let is_fault = error.kind() != UfsErrorKind::Unsupported;
        if is_fault && self.health.failed(format!("mount {mount} ({uri}): {error}")) {
            tracing::warn!(%mount, uri, %error, "under store fails: what is known is served, the rest is refused");
        }
        let kind = match Error::from(UfsError::new(error.kind(), "")).kind() {
            // As an answer it would mean that a name does not exist, which only `ask` may conclude.
            ErrorKind::NotFound => ErrorKind::Unavailable,
            kind => kind,
        };
        Error::new(kind, format!("mount {mount}: cannot {what} of {uri}")).with_source(error)
    }
}
