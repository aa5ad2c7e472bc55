//! Membership: registers with a master, stays in the ring by heartbeats, and leaves.
//!
//! A worker serves without any master what it can: everything here happens in the background and is tried again for ever.

mod needed;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use headpond_proto::{
    MAX_MESSAGE, status,
    v1::{
        HeartbeatRequest, HeartbeatResponse, LeaveRequest, RegisterRequest, RegisterResponse, UploadName,
        registry_service_client::RegistryServiceClient,
    },
};
use headpond_runtime::Shutdown;
use headpond_transport::{Link, Transport};
use headpond_types::{Error, ErrorKind, MountId, Result};
use headpond_ufs::{Abandoned, UploadMark};
use tokio::{sync::Notify, time::Instant};
use tonic::transport::Endpoint;

use self::needed::Needed;
use crate::{cache::Cache, cluster::Cluster, config::Deadlines, identity::Identity, metrics::Metrics, staging::Room};

/// Pauses between attempts to reach a master: the first, and the longest. Half of each is random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Heartbeats asked for out of turn keep this distance.
const HURRIED: Duration = Duration::from_millis(100);

/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether a master knows this worker, and if not, why.
#[derive(Debug)]
pub(crate) struct Standing(Mutex<std::result::Result<(), String>>);

impl Standing {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Err("not registered with a master yet".to_owned())))
    }

    /// # Errors
    /// `Unavailable`, saying why it is not registered.
    pub(crate) fn check(&self) -> Result<()> {
        let standing = self.0.lock().expect("no panic while held").clone();
        standing.map_err(|reason| Error::new(ErrorKind::Unavailable, reason))
    }

    /// Answers whether that is news.
    fn set(&self, standing: std::result::Result<(), String>) -> bool {
        let mut current = self.0.lock().expect("no panic while held");
        let news = *current != standing;
        *current = standing;
        news
    }
}

/// The task that keeps this worker in its cluster.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) masters: Vec<String>,
    pub(crate) transport: Transport,
    pub(crate) deadlines: Deadlines,
    /// What is told at registration; the capacity is filled in.
    pub(crate) announcement: RegisterRequest,
    pub(crate) identity: Identity,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Metrics,
    pub(crate) standing: Arc<Standing>,
    /// Told when a content was stored that perhaps need not be kept any more.
    pub(crate) stored: Arc<Notify>,
    /// The uploads of this worker, of which the master is told.
    pub(crate) abandoned: Arc<Abandoned>,
    /// Told what of the dirty contents is to be persisted.
    pub(crate) room: Arc<Room>,
}

/// Most uploads that a heartbeat names.
const UPLOADS: usize = 1000;

/// A registration that a master has confirmed.
struct Membership {
    client: RegistryServiceClient<Link>,
    joined: RegisterResponse,
}

impl Registration {
    /// Registers and sends heartbeats until shutdown begins, then leaves.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        while let Some(mut membership) = until(&shutdown, self.join()).await {
            let needed = Needed::new(&self, &membership);
            let staying = async {
                tokio::select! {
                    error = self.stay(&mut membership) => error,
                    never = needed.ask() => match never {},
                }
            };
            if let Some(error) = until(&shutdown, staying).await {
                let reason = status::message_with_causes(&error);
                tracing::warn!(reason, "lost the master, serving on with what is known");
                self.standing.set(Err(reason));
            } else {
                self.leave(membership).await;
                return;
            }
        }
    }

    /// Asks the masters in turn until one takes this worker in.
    async fn join(&self) -> Membership {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut reasons = Vec::new();
            for master in &self.masters {
                match self.register(master).await {
                    Ok(membership) => {
                        self.standing.set(Ok(()));
                        self.keep(&membership.joined).await;
                        return membership;
                    }
                    Err(error) => reasons.push(status::message_with_causes(&error)),
                }
            }
            let reason = reasons.join("; ");
            if self.standing.set(Err(reason.clone())) {
                tracing::warn!(reason, "cannot register, trying on");
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn register(&self, master: &str) -> Result<Membership> {
        let what = format!("register at master {master}");
        let endpoint = Endpoint::from_shared(format!("http://{master}")).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, format!("{master:?} is not the address of a master"))
                .with_source(error)
        })?;
        let endpoint = endpoint.connect_timeout(self.deadlines.connect).tcp_nodelay(true);
        let link = self.transport.link(&endpoint);
        let mut client = RegistryServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE);
        let capacity = self.cache.store().usage().capacity_bytes();
        let announcement = RegisterRequest { capacity, ..self.announcement.clone() };
        let answer = self.within(&what, client.register(announcement)).await?;
        let joined = answer.map_err(|status| status::to_error(&status, &what))?.into_inner();
        self.cluster.join(&joined);
        tracing::info!(master, worker = joined.worker, "registered");
        Ok(Membership { client, joined })
    }

    /// Sends heartbeats; returns the error that ended the membership.
    async fn stay(&self, membership: &mut Membership) -> Error {
        let interval = Duration::from_millis(membership.joined.heartbeat_ms.max(1));
        loop {
            let last = Instant::now();
            tokio::select! {
                () = tokio::time::sleep_until(last + interval) => {}
                () = self.cluster.refresh.notified() => tokio::time::sleep_until(last + HURRIED.min(interval)).await,
            }
            let beat = self.heartbeat(membership).await;
            self.metrics.heartbeat(beat.is_ok());
            if let Err(error) = beat {
                return error;
            }
        }
    }

    async fn heartbeat(&self, Membership { client, joined }: &mut Membership) -> Result<()> {
        let usage = self.cache.store().usage();
        let problem = |dir: &headpond_store::DirUsage| {
            dir.problem.as_ref().map(|problem| format!("cache directory {}: {problem}", dir.path.display()))
        };
        let upload = |(mount, UploadMark { key, upload }): (MountId, UploadMark)| UploadName {
            mount: mount.0,
            key: key.0,
            upload,
        };
        let request = HeartbeatRequest {
            worker: joined.worker,
            epoch: joined.epoch,
            capacity: usage.capacity_bytes(),
            used: usage.used_bytes(),
            pages: usage.pages(),
            contents: usage.contents(),
            ring_epoch: self.cluster.ring().epoch.0,
            mounts_version: self.cluster.mounts.version(),
            problems: usage.dirs.iter().filter_map(problem).collect(),
            uploads: self.abandoned.names(UPLOADS).into_iter().map(upload).collect(),
        };
        let known = request.mounts_version;
        let answer = self.within("heartbeat", client.heartbeat(request)).await?;
        let HeartbeatResponse { ring, mounts, mounts_version } =
            answer.map_err(|status| status::to_error(&status, "heartbeat"))?.into_inner();
        let news = ring.is_some() || mounts_version != known;
        if let Some(ring) = ring {
            joined.ring = Some(ring.clone());
            self.cluster.set_ring(ring);
        }
        if mounts_version != known {
            self.cluster.mounts.set(&mounts, mounts_version);
            (joined.mounts, joined.mounts_version) = (mounts, mounts_version);
        }
        if news {
            self.keep(joined).await;
        }
        Ok(())
    }

    /// Keeps what was learnt for a start without a master.
    async fn keep(&self, joined: &RegisterResponse) {
        let (identity, joined) = (self.identity.clone(), joined.clone());
        let kept = tokio::task::spawn_blocking(move || identity.keep_cluster(&joined)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "cannot keep the description of the cluster, a restart will need a master");
        }
    }

    async fn leave(&self, Membership { mut client, joined }: Membership) {
        self.standing.set(Err("shutting down".to_owned()));
        let request = LeaveRequest { worker: joined.worker, epoch: joined.epoch };
        let left = tokio::time::timeout(FAREWELL, client.leave(request)).await;
        tracing::info!(worker = joined.worker, told = matches!(left, Ok(Ok(_))), "left the ring");
    }

    async fn within<T>(&self, what: &str, call: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout(self.deadlines.master, call).await.map_err(|_| {
            Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no answer within {:?}", self.deadlines.master))
        })
    }
}

/// The result of `work`, or `None` when shutdown began before it.
async fn until<T>(shutdown: &Shutdown, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = shutdown.begun() => None,
        done = work => Some(done),
    }
}
