//! Adding and removing mounts.

use std::sync::Arc;

use headpond_namespace::{Command, Mount, Reply};
use headpond_runtime::{Clock, Tasks};
use headpond_types::{Error, ErrorKind, InodeId, NsPath, RequestId, Result};

use crate::{
    catalog::{Catalog, unexpected},
    health::is_outage,
    lookup::Lookups,
    mounts::Mounts,
    sync::SyncEngine,
    workers::Workers,
};

/// Parts of option names that announce a secret.
const SECRET_WORDS: [&str; 4] = ["secret", "token", "password", "access_key"];

/// Changes the mount table. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Mounting {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) engine: Arc<SyncEngine>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
}

impl Mounting {
    /// Binds a path to an under store after having listed the store's root once. Where the path lies in another mount, that one's
    /// store is asked, too: the namespace refuses to hide the files that it knows. While that store is down this is left out, and logged.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad URI or option, the store's error when it cannot be listed, `AlreadyExists` and
    /// `NotADirectory` for the path; nothing is mounted then.
    pub(crate) async fn add(&self, request: RequestId, mount: Mount) -> Result<Mount> {
        if let Some(Reply::Mount(mount)) = self.catalog.snapshot()?.reply(request)? {
            return Ok(mount);
        }
        refuse_secrets(&mount)?;
        self.mounts.live(mount.clone(), InodeId::ROOT)?.try_out().await?;
        match self.lookups.resolve(&mount.path, None, false).await {
            Ok(_) => {}
            Err(error) if is_outage(&error) => {
                tracing::warn!(path = %mount.path, %error, "cannot see whether this mount hides a file");
            }
            // The file on the way is known now, and the namespace says what it is in the way of.
            Err(error) if error.kind() == ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
        let command = Command::AddMount { request, mount, now: self.clock.now() };
        match self.change(command).await? {
            Reply::Mount(mount) => {
                tracing::info!(path = %mount.path, uri = mount.uri, "mounted");
                Ok(mount)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The same, unless the URI is mounted at the path already.
    ///
    /// # Errors
    /// As for [`Mounting::add`]; `AlreadyExists` when another URI is mounted at the path.
    pub(crate) async fn ensure(&self, mount: Mount) -> Result<Mount> {
        let mounts = self.mounts.table();
        match mounts.mounts().into_iter().find(|other| other.path == mount.path && other.uri == mount.uri) {
            Some(same) => Ok(same.clone()),
            None => self.add(RequestId(rand::random()), mount).await,
        }
    }

    /// Unbinds a path. The under store is not touched.
    ///
    /// # Errors
    /// `NotFound` when it is no mount point, `NotEmpty` when mounts lie below, `Busy` while something is still to be persisted there.
    pub(crate) async fn remove(&self, request: RequestId, path: NsPath) -> Result<()> {
        // What is mounted there since then is another.
        if self.catalog.snapshot()?.reply(request)? == Some(Reply::Done) {
            return Ok(());
        }
        let mounts = self.mounts.table();
        let mount = mounts.mounts().into_iter().find(|mount| mount.path == path).map(|mount| mount.id);
        let backlog = self.catalog.backlog();
        let due = mount.and_then(|mount| backlog.line(mount)).map_or(0, |line| line.lock().amounts().0.items);
        if due > 0 {
            let message = format!(
                "{path} has {due} changes that its store does not have yet: wait for `headpond fs sync {path}`, or see \
                 `headpond admin problems`"
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let command = Command::RemoveMount { request, path: path.clone(), now: self.clock.now() };
        self.change(command).await?;
        if let Some(mount) = mount {
            backlog.forget_mount(mount);
        }
        tracing::info!(%path, "unmounted");
        Ok(())
    }

    /// Proposes a command and takes over the mount table that it leaves. Runs to its end even if the caller goes away.
    async fn change(&self, command: Command) -> Result<Reply> {
        let this = self.clone();
        let changed = self.tasks.spawn(async move {
            let reply = this.catalog.propose(command).await?;
            // What was checked before tells nothing of what a mount point hid or hides.
            this.engine.freshness().clear();
            this.mounts.reload(&this.catalog.snapshot()?, this.workers.next_epoch().0)?;
            Ok(reply)
        });
        changed.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "changing the mount table broke off").with_source(error))
        })
    }
}

/// Credentials are referred to by name: what stands in an option is journalled and shown.
fn refuse_secrets(mount: &Mount) -> Result<()> {
    let secret = |name: &&String| {
        let name = name.to_lowercase();
        SECRET_WORDS.iter().any(|word| name.contains(word))
    };
    // http://user:password@host
    let with_user = |value: &str| {
        value.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
    };
    let in_value = mount.options.iter().find(|(_, value)| with_user(value)).map(|(name, _)| name);
    match mount.options.keys().find(secret).or(in_value) {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "option {name:?} of mount {} would hold a secret: configure credentials by name in each process and \
                 mount with the option credentials=NAME",
                mount.path
            );
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}
