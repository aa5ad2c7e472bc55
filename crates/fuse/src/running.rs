//! A FUSE mount, from its start to its end.

use std::{io, path::Path, sync::Arc, time::Duration};

use headpond_client::Client;
use headpond_runtime::Tasks;
use headpond_types::{Error, ErrorKind, FileKind, InodeId, Result};
use prometheus_client::registry::Registry;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};
use tracing::{info, warn};

use crate::{
    FuseConfig,
    fs::{FileSystem, FsOptions},
    kernel::{Passthrough, Session, SessionOptions},
    metrics::Metrics,
    mount::{self, Attachment, Mountpoint},
    source::Source,
};

/// How long a mount that is in use may hold up the end of its process before it is detached.
const GRACE: Duration = Duration::from_secs(3);

/// How long a start waits until the kernel knows who may use the mount. It goes on without: no master may be there.
const LOOK: Duration = Duration::from_secs(1);

/// Between two tries to unmount what is in use.
const RETRY: Duration = Duration::from_millis(50);

/// Starts mounts.
#[derive(Clone, Copy, Debug)]
pub struct FuseMount;

/// A mount that runs. It ends with [`RunningMount::unmount`], with the shutdown of its tasks, when somebody unmounts it, or
/// when this is dropped (then at once, in use or not).
#[derive(Debug)]
pub struct RunningMount {
    attachment: Attachment,
    passthrough: Arc<Passthrough>,
    metrics: Metrics,
    ended: watch::Receiver<bool>,
}

/// How complete files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// By the kernel, from the worker's cache file.
    Passthrough,
    /// Through the daemon and the kernel's page cache.
    Daemon {
        /// Why not by the kernel.
        reason: String,
    },
}

/// How a mount came out of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// Nobody used it.
    Clean,
    /// It was in use: it is gone for others, and for its users when this process ends.
    Busy,
}

impl FuseMount {
    /// Mounts as `config` says and answers the kernel from `client` until the mount ends. Returns once the kernel can use it.
    /// A dead mount of ours at the mount point is cleared away first. Needs a tokio runtime of several threads.
    ///
    /// Dropping the future before it is done may leave the mount to its start, which unmounts it again.
    ///
    /// # Errors
    /// Of the mount point: `NotFound`, `NotADirectory`, `NotEmpty`, `AlreadyExists`, `PermissionDenied`. `NotSupported` when
    /// this machine or user cannot mount (the message says what is missing): all else can go on. Of the shown directory: `NotFound`,
    /// `NotADirectory`, and those of [`Client::resolve`] when it is not the namespace's root.
    pub async fn start(config: FuseConfig, client: Client, tasks: Tasks) -> Result<RunningMount> {
        start(config, client, tasks).await
    }
}

pub(crate) async fn start<S: Source>(config: FuseConfig, source: S, tasks: Tasks) -> Result<RunningMount> {
    let root = root_of(&config, &source).await?;
    let runtime = Handle::current();
    let started = tokio::task::spawn_blocking(move || attach_and_run(&config, source, root, &runtime, tasks)).await;
    let (running, looked) =
        started.map_err(|error| Error::new(ErrorKind::Internal, "starting the mount failed").with_source(error))??;
    drop(tokio::time::timeout(LOOK, looked).await);
    Ok(running)
}

/// The inode to show. The namespace's root is known without asking, so that a mount starts while no master is there.
async fn root_of<S: Source>(config: &FuseConfig, source: &S) -> Result<InodeId> {
    if config.root.is_root() {
        return Ok(InodeId::ROOT);
    }
    let found = source.resolve(&config.root).await?.attr;
    let attr = found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{} does not exist", config.root)))?;
    if attr.kind != FileKind::Directory {
        return Err(Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", config.root)));
    }
    Ok(attr.inode)
}

fn attach_and_run<S: Source>(
    config: &FuseConfig,
    source: S,
    root: InodeId,
    runtime: &Handle,
    tasks: Tasks,
) -> Result<(RunningMount, oneshot::Receiver<()>)> {
    let mountpoint = Mountpoint::prepare(&config.mountpoint, config.nonempty)?;
    let allow_other = config.allow_other.unwrap_or_else(mount::may_allow_other);
    let fs_options =
        FsOptions { root, dataset: config.dataset, max_ttl: config.max_ttl, request_timeout: config.request_timeout };
    let metrics = Metrics::new();
    // Before the kernel can cache anything.
    let events = source.events();
    let fs = FileSystem::new(source, fs_options);

    let mount_options = mount::Options { allow_other, read_only: config.is_read_only() };
    let (device, attachment) = mount::attach(mountpoint, &config.label, mount_options)?;
    let guard = Guard(Some(attachment.clone()));
    let options = SessionOptions::new(config, config.guard.clone().map(|program| attachment.guard(program)));
    let started = Session::start(device, fs, events, options, runtime, &tasks, metrics.clone());
    let (session, looked) = started.map_err(|error| {
        let message = "the kernel's side of FUSE does not speak as it should";
        Error::new(ErrorKind::NotSupported, message).with_source(error)
    })?;
    let passthrough = Arc::clone(session.passthrough());
    let (ending, ended) = watch::channel(false);
    let served = attachment.clone();
    std::thread::Builder::new()
        .name("headpond-fuse".to_owned())
        .spawn(move || {
            if let Err(error) = session.run() {
                warn!(%error, "the FUSE mount broke");
            }
            served.set_ended();
            ending.send_replace(true);
        })
        .map_err(|error| broken("no thread for the mount", error))?;
    if config.read_ahead > 0 {
        attachment.set_read_ahead(config.read_ahead);
    }
    let running = RunningMount { attachment, passthrough, metrics, ended };
    guard.defuse();
    running.end_with(runtime, &tasks);
    info!(mountpoint = %running.mountpoint().display(), data = ?running.data_path(), "mounted");
    Ok((running, looked))
}

/// Detaches on the way out of a start that failed.
struct Guard(Option<Attachment>);

impl Guard {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(attachment) = &self.0
            && let Err(error) = attachment.detach()
        {
            warn!(%error, mountpoint = %attachment.path().display(), "cannot detach: try `umount -l`");
        }
    }
}

impl RunningMount {
    /// Where it is mounted, without symbolic links.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        self.attachment.path()
    }

    /// How complete files are read. May turn from passthrough to daemon when the kernel refuses the first real file.
    #[must_use]
    pub fn data_path(&self) -> DataPath {
        match self.passthrough.refused() {
            None => DataPath::Passthrough,
            Some(reason) => DataPath::Daemon { reason: reason.to_owned() },
        }
    }

    /// Adds the mount's counters, `headpond_fuse_*`, to `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Waits until the mount has ended, by whomever. Cancel-safe.
    pub async fn ended(&self) {
        wait(self.ended.clone()).await;
    }

    /// Unmounts; waits up to `grace` while somebody uses the mount, then takes it out of the tree all the same.
    /// Dropping the future detaches at once.
    ///
    /// # Errors
    /// The kernel refused even that; the message says what to try.
    pub async fn unmount(self, grace: Duration) -> Result<Detached> {
        unmount(self.attachment.clone(), self.ended.clone(), grace).await
    }

    /// Unmounts when `tasks` are to end.
    fn end_with(&self, runtime: &Handle, tasks: &Tasks) {
        let (attachment, ended, shutdown) = (self.attachment.clone(), self.ended.clone(), tasks.shutdown().clone());
        let _entered = runtime.enter();
        drop(tasks.spawn(async move {
            tokio::select! {
                () = wait(ended.clone()) => return,
                () = shutdown.begun() => {}
            }
            if let Err(error) = unmount(attachment, ended, GRACE).await {
                warn!(%error, "the mount stays");
            }
        }));
    }
}

impl Drop for RunningMount {
    fn drop(&mut self) {
        if let Err(error) = self.attachment.detach() {
            warn!(%error, mountpoint = %self.mountpoint().display(), "cannot detach: try `umount -l`");
        }
    }
}

async fn wait(mut ended: watch::Receiver<bool>) {
    // An error means that the thread is gone, which is an end as well.
    drop(ended.wait_for(|ended| *ended).await);
}

async fn unmount(attachment: Attachment, ended: watch::Receiver<bool>, grace: Duration) -> Result<Detached> {
    let deadline = tokio::time::Instant::now() + grace;
    let attachment = Arc::new(attachment);
    loop {
        let tried = Arc::clone(&attachment);
        let done = tokio::task::spawn_blocking(move || tried.unmount()).await;
        match done {
            Ok(Ok(())) => {
                // The kernel has no more to say: whoever ends next is to know. That it is slow is no reason to stay.
                drop(tokio::time::timeout(GRACE, wait(ended)).await);
                return Ok(Detached::Clean);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ResourceBusy && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(RETRY).await;
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    let path = attachment.path().display().to_string();
    warn!(mountpoint = path, "the mount is in use: it is detached and ends with its last user");
    let detached = tokio::task::spawn_blocking(move || attachment.detach()).await;
    match detached {
        Ok(Ok(())) => Ok(Detached::Busy),
        Ok(Err(error)) => Err(broken(&format!("cannot detach {path}: try `umount -l {path}`"), error)),
        Err(error) => Err(Error::new(ErrorKind::Internal, format!("cannot detach {path}")).with_source(error)),
    }
}

fn broken(message: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Internal, message).with_source(error)
}

#[cfg(test)]
mod tests;
