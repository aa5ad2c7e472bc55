//! A mount's conversation with the kernel, from the handshake to the end of the mount.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

use fuser::{BackingId, Config, SessionACL};
use headpond_client::Event;
use headpond_runtime::Tasks;
use rustix::io::Errno;
use tokio::{
    runtime::Handle,
    sync::{broadcast, oneshot},
};

use super::{
    adapter::Adapter,
    complaints::Complaints,
    invalidation::{self, Invalidations},
    names::Names,
    passthrough::{self, Passthrough},
    shared::Shared,
};
use crate::{
    FuseConfig,
    fs::{FileSystem, ROOT_NODE},
    guard::GuardCommand,
    metrics::Metrics,
    source::Source,
};

/// Fewest and most threads that take requests: one would wait behind a slow disk read, more than the input queue's lock bears
/// gain nothing.
const THREADS: std::ops::RangeInclusive<usize> = 2..=16;

/// What the session is told when it starts.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    pub(crate) dataset: bool,
    /// Every change is refused.
    pub(crate) read_only: bool,
    pub(crate) passthrough: bool,
    /// Levels of stacked file systems below this one that passthrough may reach.
    pub(crate) stack_depth: u32,
    threads: usize,
    /// Without, the kernel is not told of names.
    guard: Option<GuardCommand>,
}

impl SessionOptions {
    pub(crate) fn new(config: &FuseConfig, guard: Option<GuardCommand>) -> Self {
        let cores = std::thread::available_parallelism().map_or(*THREADS.start(), usize::from);
        let threads = if config.threads == 0 { cores } else { config.threads };
        Self {
            dataset: config.dataset,
            read_only: config.is_read_only(),
            passthrough: config.passthrough,
            stack_depth: passthrough::stack_depth(config.cache_dir.as_deref().map(Path::new)),
            threads: threads.clamp(*THREADS.start(), *THREADS.end()),
            guard,
        }
    }
}

/// A session after its handshake.
#[derive(Debug)]
pub(crate) struct Session<S: Source> {
    session: fuser::Session<Adapter<S>>,
    fs: Arc<FileSystem<S, BackingId>>,
    passthrough: Arc<Passthrough>,
}

impl<S: Source> Session<S> {
    /// Shakes hands over `device`, which is mounted already, and follows `events`. Blocks until the kernel has spoken. Needs
    /// a runtime in `runtime`. What is received says that the kernel knows who may use the mount, or as much of it as it is going to be told.
    ///
    /// # Errors
    /// The kernel's side is too old or went away.
    pub(crate) fn start(
        device: OwnedFd,
        fs: FileSystem<S, BackingId>,
        events: broadcast::Receiver<Event>,
        mut options: SessionOptions,
        runtime: &Handle,
        tasks: &Tasks,
        metrics: Metrics,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let fs = Arc::new(fs);
        let passthrough = Arc::new(Passthrough::default());
        let mut config = Config::default();
        // The kernel itself keeps others out unless the mount allows them, and names no user to those who allow id mapping.
        config.acl = SessionACL::All;
        config.n_threads = Some(options.threads);
        // Each thread reads from a device of its own. Whoever mounted could open it.
        config.clone_fd = true;
        let guard = options.guard.take();
        let shared = Shared {
            fs: Arc::clone(&fs),
            options,
            passthrough: Arc::clone(&passthrough),
            metrics: metrics.clone(),
            runtime: runtime.clone(),
            tasks: tasks.clone(),
            complaints: Complaints::default(),
        };
        let session = fuser::Session::from_fd(Adapter(Arc::new(shared)), device, config.acl, config)?;
        passthrough.probe(session.as_fd());
        let start = |guard| Names::start(session.as_fd().try_clone_to_owned()?, guard, metrics.clone());
        let (names, guarding) = guard.map(start).transpose()?.unzip();
        let invalidations = Invalidations::start(session.notifier(), names, metrics)?;
        let _entered = runtime.enter();
        let (look, looked) = oneshot::channel();
        let following = Arc::clone(&fs);
        drop(tasks.spawn_until_shutdown(async move {
            if let Some(guarding) = guarding {
                // Known here, the kernel is answered at once.
                drop(following.attr(ROOT_NODE).await);
                guarding.begin().await;
            }
            let _nobody_waits = look.send(());
            invalidation::follow(following, events, invalidations).await;
        }));
        Ok((Self { session, fs, passthrough }, looked))
    }

    /// Whether complete files are passed through.
    pub(crate) fn passthrough(&self) -> &Arc<Passthrough> {
        &self.passthrough
    }

    /// Answers requests until the mount ends.
    ///
    /// # Errors
    /// The conversation broke for another reason than the mount's end.
    pub(crate) fn run(self) -> io::Result<()> {
        let ended = self.session.run();
        self.fs.let_go();
        match ended {
            Err(error) if error.raw_os_error() == Some(Errno::CONNABORTED.raw_os_error()) => Ok(()),
            ended => ended,
        }
    }
}
