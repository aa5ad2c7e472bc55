//! The parts of a master, put together.

use std::{path::Path, sync::Arc};

use headpond_namespace::{Command, Reply};
use headpond_proto::grant::GrantSigner;
use headpond_runtime::{Clock, Tasks};
use headpond_transport::Transport;
use headpond_types::{Error, ErrorKind, Result};
use headpond_ufs::Abandoned;

use crate::{
    blocking::blocking,
    catalog::{Catalog, unexpected},
    config::MasterConfig,
    connect::Connect,
    grant_key,
    grants::Grants,
    lookup::Lookups,
    metrics::Metrics,
    mounting::Mounting,
    mounts::Mounts,
    notices::Notices,
    persist::{Backlog, Holders, Persister},
    relocate::{Progress, Relocator, Unanswered},
    sessions::Sessions,
    sync::SyncEngine,
    workers::Workers,
    write::{Leases, Locks, NameLocks, Writing},
};

/// Everything that the services share. Clones are the same master.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) cluster: u64,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) engine: Arc<SyncEngine>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) mounting: Mounting,
    pub(crate) relocator: Arc<Relocator>,
    pub(crate) writing: Arc<Writing>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) persister: Arc<Persister>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
}

/// How a master reaches others.
pub(crate) struct Reach {
    /// Stores.
    pub(crate) connect: Arc<dyn Connect>,
    /// Workers.
    pub(crate) transport: Transport,
}

impl Core {
    /// Begins a term on the namespace of `catalog` and puts the parts together.
    ///
    /// # Errors
    /// When the journal takes no commands, or for the grant key.
    pub(crate) async fn begin(
        config: &MasterConfig,
        catalog: Arc<Catalog>,
        sessions: Arc<Sessions>,
        reach: Reach,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<Self> {
        let Reach { connect, transport } = reach;
        let cluster = match catalog.propose(Command::SetCluster { cluster: rand::random() }).await? {
            Reply::Cluster(cluster) => cluster,
            other => return Err(unexpected(&other)),
        };
        let term = match catalog.propose(Command::BeginTerm).await? {
            Reply::Term(term) => term,
            other => return Err(unexpected(&other)),
        };
        sessions.recall(catalog.sessions()?);
        let grants = Arc::new(Grants::new(signer(&config.state_dir, cluster).await?, config.grant_ttl, clock.clone()));
        let workers = Arc::new(Workers::new(term, config.worker_lost_after, sessions.clone()));
        let mounts = Arc::new(Mounts::new(connect, config.store_deadline, config.client_lease));
        mounts.reload(&catalog.snapshot()?, workers.next_epoch().0)?;

        let engine = Arc::new(SyncEngine::new(
            catalog.clone(),
            mounts.clone(),
            metrics.sync.clone(),
            clock.clone(),
            tasks.clone(),
        ));
        let lookups =
            Arc::new(Lookups::new(catalog.clone(), mounts.clone(), engine.clone(), clock.clone(), tasks.clone()));
        let mounting = Mounting {
            catalog: catalog.clone(),
            mounts: mounts.clone(),
            engine: engine.clone(),
            lookups: lookups.clone(),
            workers: workers.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        let abandoned = Arc::new(abandoned(&config.state_dir).await?);
        let (leases, names) = (Arc::new(Leases::new(config.write_lease)), Arc::new(NameLocks::new()));
        let unanswered = Unanswered::at_start(&catalog.snapshot()?)?;
        let notices = Arc::new(Notices::default());
        let relocator = Arc::new(Relocator {
            notices: notices.clone(),
            catalog: catalog.clone(),
            mounts: mounts.clone(),
            engine: engine.clone(),
            grants: grants.clone(),
            leases: leases.clone(),
            names: names.clone(),
            abandoned,
            unanswered,
            metrics: metrics.write.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            progress: Progress::new(),
        });
        let writing = Arc::new(Writing {
            catalog: catalog.clone(),
            mounts: mounts.clone(),
            engine: engine.clone(),
            lookups: lookups.clone(),
            grants: grants.clone(),
            leases: leases.clone(),
            names: names.clone(),
            requests: Arc::new(Locks::new()),
            relocator: relocator.clone(),
            replaced: Default::default(),
            stores: Default::default(),
            workers: workers.clone(),
            metrics: metrics.write.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        });
        let backlog = catalog.backlog().clone();
        backlog.load()?;
        let persister = Arc::new(Persister {
            catalog: catalog.clone(),
            backlog: backlog.clone(),
            mounts: mounts.clone(),
            engine: engine.clone(),
            grants: grants.clone(),
            leases,
            names,
            relocator: relocator.clone(),
            holders: Holders::new(transport, workers.clone()),
            problems: Default::default(),
            notices: notices.clone(),
            metrics: metrics.write.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            missed: Default::default(),
            running: Default::default(),
        });
        Ok(Self {
            cluster,
            catalog,
            sessions,
            workers,
            mounts,
            engine,
            lookups,
            grants,
            mounting,
            relocator,
            writing,
            backlog,
            persister,
            notices,
            metrics,
            clock,
            tasks,
        })
    }
}

async fn abandoned(state_dir: &Path) -> Result<Abandoned> {
    let state_dir = state_dir.to_owned();
    blocking(move || {
        Abandoned::open(&state_dir).map_err(|error| {
            let message = format!("cannot keep notes of uploads in {}: repair the directory", state_dir.display());
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })
    })
    .await
}

async fn signer(state_dir: &Path, cluster: u64) -> Result<GrantSigner> {
    let state_dir = state_dir.to_owned();
    blocking(move || grant_key::open(&state_dir, cluster)).await
}
