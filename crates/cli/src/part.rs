//! The parts that a process runs: each with tasks of its own, so that they end one after the other.

use std::{net::SocketAddr, sync::Arc};

use headpond_client::Client;
use headpond_fuse::{Detached, FuseConfig, FuseMount, RunningMount};
use headpond_master::{Master, MasterConfig, RunningMaster};
use headpond_runtime::{
    Condition, Ending, HttpConfig, Metrics, Readiness, Shutdown, Signals, SystemClock, Tasks, http,
};
use headpond_types::{Error, ErrorKind, Result};
use headpond_worker::{RunningWorker, Worker, WorkerConfig};

use crate::{credentials::ConfiguredCredentials, process::GRACE};

/// What all parts of a process share: metrics, health, and the HTTP port that shows them.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Where they are served, if they are.
    pub(crate) address: Option<SocketAddr>,
    starting: Condition,
    tasks: Tasks,
}

/// A part's tasks. Dropped without [`Part::end`], they are told to end and not waited for.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    tasks: Tasks,
}

impl Observed {
    /// Serves metrics and health, unless `config` says not to. Not ready before [`Observed::started`].
    pub(crate) async fn serve(config: &HttpConfig) -> Result<Self> {
        let (metrics, readiness, tasks) = (Metrics::new(), Readiness::new(), Tasks::new(Shutdown::new()));
        let starting = readiness.condition("process", "is starting");
        let address = match config.bind.as_str() {
            "" => None,
            bind => Some(http::serve(bind, metrics.clone(), readiness.clone(), &tasks).await?),
        };
        Ok(Self { metrics, readiness, address, starting, tasks })
    }

    /// The only part has started: serves until a signal comes, then ends it.
    pub(crate) async fn serve_until_signal(self, part: Part, signals: &mut Signals) -> Ending {
        self.started();
        let signal = signals.next().await;
        tracing::info!(signal, "ending");
        let end = async { worse(part.end().await, self.end().await) };
        signals.or_force(end).await
    }

    /// Everything has started: ready as soon as the parts are.
    pub(crate) fn started(&self) {
        self.starting.holds();
    }

    /// Starts a master.
    pub(crate) async fn master(
        &self,
        part: &Part,
        config: MasterConfig,
        credentials: ConfiguredCredentials,
    ) -> Result<Arc<RunningMaster>> {
        let clock = Arc::new(SystemClock);
        let master = Arc::new(Master::start(config, Arc::new(credentials), clock, part.tasks.clone()).await?);
        self.metrics.register(|registry| master.register_metrics(registry));
        let asked = Arc::clone(&master);
        self.readiness.check("master", move || asked.ready());
        Ok(master)
    }

    /// Starts a worker.
    pub(crate) async fn worker(
        &self,
        part: &Part,
        config: WorkerConfig,
        credentials: ConfiguredCredentials,
    ) -> Result<RunningWorker> {
        let clock = Arc::new(SystemClock);
        let worker = Worker::start(config, Arc::new(credentials), clock, part.tasks.clone()).await?;
        self.metrics.register(|registry| worker.register_metrics(registry));
        let asked = worker.clone();
        self.readiness.check("worker", move || asked.ready());
        Ok(worker)
    }

    /// Mounts.
    pub(crate) async fn mount(&self, part: &Part, mut config: FuseConfig, client: Client) -> Result<RunningMount> {
        // This very program, also when another version took its place on disk.
        config.guard = Some("/proc/self/exe".into());
        let mount = FuseMount::start(config, client, part.tasks.clone()).await?;
        self.metrics.register(|registry| mount.register_metrics(registry));
        Ok(mount)
    }

    /// Stops serving.
    pub(crate) async fn end(self) -> Ending {
        Part { name: "http", tasks: self.tasks.clone() }.end().await
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.tasks.shutdown().begin();
    }
}

impl Part {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, tasks: Tasks::new(Shutdown::new()) }
    }

    pub(crate) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Tells the part to end and waits for it.
    pub(crate) async fn end(self) -> Ending {
        if self.tasks.drain(GRACE).await {
            return Ending::Clean;
        }
        tracing::warn!(part = self.name, grace = ?GRACE, "did not end in time");
        Ending::Forced
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.tasks.shutdown().begin();
    }
}

/// Unmounts; waits for its users.
pub(crate) async fn unmount(mount: RunningMount) -> Ending {
    match mount.unmount(GRACE).await {
        Ok(Detached::Clean) => Ending::Clean,
        Ok(Detached::Busy) => Ending::Forced,
        Err(error) => {
            tracing::error!(%error, "cannot unmount");
            Ending::Forced
        }
    }
}

/// The worse of two endings.
pub(crate) const fn worse(one: Ending, other: Ending) -> Ending {
    match (one, other) {
        (Ending::Clean, Ending::Clean) => Ending::Clean,
        (Ending::Forced, _) | (_, Ending::Forced) => Ending::Forced,
    }
}

/// The error of a start that a signal cut off.
pub(crate) fn interrupted(signal: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{signal} came before everything had started; nothing is left behind"))
}
