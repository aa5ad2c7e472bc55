//! Starts a master.

use std::{fs, io, sync::Arc, time::Duration};

use headpond_journal::{Journal, JournalConfig, StateMachine as _};
use headpond_namespace::Namespace;
use headpond_proto::{
    MAX_MESSAGE,
    v1::{
        admin_service_server::AdminServiceServer, master_service_server::MasterServiceServer,
        registry_service_server::RegistryServiceServer, writing_service_server::WritingServiceServer,
    },
};
use headpond_runtime::{Clock, Tasks, http};
use headpond_transport::{Incoming, Peer, Transport, dialled};
use headpond_types::{Error, ErrorKind, Result};
use headpond_ufs::CredentialSource;
use tokio::time::Instant;
use tonic::{
    service::{Routes, interceptor::InterceptedService},
    transport::{Server, server::Router},
};

use crate::{
    blocking::blocking,
    catalog::Catalog,
    config::MasterConfig,
    connect::{Connect, Drivers},
    core::{Core, Reach},
    denials::Denials,
    metrics::Metrics,
    persist::persist,
    relocate::{abort_uploads, relocate},
    running::RunningMaster,
    service::{Admin, Decisions, NamespaceService, Registry, WritingService},
    sessions::{self, Sessions},
    sweeper::sweep,
    write::expire,
};

/// Streams that one client may have open at the same time.
const STREAMS: u32 = 1024;

/// HTTP/2 windows for what clients send, which is little.
const WINDOW: u32 = 1 << 20;

/// Pause between two pings to a silent client; one that does not answer for as long again is dropped with its session.
const PING: Duration = Duration::from_secs(20);

/// Least journal between two checkpoints, in bytes.
const LEAST_JOURNAL: u64 = 64 << 10;

/// Shortest pause between two looks at silent workers.
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// Keeps the namespace of a cluster.
#[derive(Debug)]
pub struct Master;

impl Master {
    /// Opens the state, listens and serves. `credentials` resolves the names that mounts refer to. Ends when the shutdown of
    /// `tasks` begins: it accepts nothing more, finishes what is in flight and closes the journal; `Tasks::drain` waits for that.
    ///
    /// Under stores are asked at their first use: a master starts also when they are down.
    ///
    /// # Errors
    /// For an address that cannot be had, TLS files that cannot be used, or a state directory that is in use, damaged or of a later
    /// release, naming it and the remedy; nothing runs then.
    pub async fn start(
        config: MasterConfig,
        credentials: Arc<dyn CredentialSource>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<RunningMaster> {
        let metrics = Metrics::default();
        let connect = Arc::new(Drivers::new(credentials, config.store_deadline, metrics.stores.clone()));
        Self::start_with(config, connect, metrics, clock, tasks).await
    }

    pub(crate) async fn start_with(
        config: MasterConfig,
        connect: Arc<dyn Connect>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<RunningMaster> {
        let transport = Transport::load(&config.tls, &config.neighbours, &tasks)?;
        let (listener, address) = http::listen("the master", &config.bind).await?;
        let sessions = Arc::new(Sessions::new(config.client_lease));
        let catalog = Arc::new(open(&config, sessions.clone(), metrics.clone()).await?);
        let reach = Reach { connect, transport: transport.clone() };
        let core = match Core::begin(&config, catalog.clone(), sessions, reach, metrics, clock, tasks.clone()).await {
            Ok(core) => core,
            Err(error) => {
                // The first error is the one to tell.
                let _ = catalog.shutdown().await;
                return Err(error);
            }
        };
        let incoming = transport.incoming("the master", listener, &tasks);
        let routes = routes(&config, &core);
        transport.offer(dialled(address).to_string(), &routes, &tasks);
        let server = tasks.spawn(serve(incoming, router(&config, routes), core.clone()));
        let workers = core.workers.clone();
        tasks.spawn_until_shutdown(async move {
            let mut ticks = tokio::time::interval(config.heartbeat.max(SHORTEST_TICK));
            loop {
                ticks.tick().await;
                workers.expire();
            }
        });
        tasks.spawn_until_shutdown(sessions::forget(core.catalog.clone(), core.sessions.clone()));
        tasks.spawn_until_shutdown(sweep(core.catalog.clone(), core.metrics.clone()));
        tasks.spawn_until_shutdown(expire(core.writing.clone()));
        tasks.spawn_until_shutdown(abort_uploads(core.relocator.clone()));
        tasks.spawn_until_shutdown(relocate(core.relocator.clone()));
        tasks.spawn_until_shutdown(persist(core.persister.clone()));
        tracing::info!(%address, cluster = format!("{:016x}", core.cluster), "master serves");
        Ok(RunningMaster { address, sync_interval: config.sync_interval, core, server })
    }
}

/// Opens namespace and journal.
async fn open(config: &MasterConfig, sessions: Arc<Sessions>, metrics: Metrics) -> Result<Catalog> {
    let cache = usize::try_from(config.cache_bytes).unwrap_or(usize::MAX);
    let state_dir = config.state_dir.clone();
    let namespace = blocking(move || {
        fs::create_dir_all(&state_dir).map_err(|error| {
            let (kind, advice) = match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                    (ErrorKind::NotADirectory, "there is a file in its place: name another")
                }
                io::ErrorKind::ReadOnlyFilesystem => (ErrorKind::ReadOnly, "name one on a writable file system"),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    (ErrorKind::ResourceExhausted, "free some space")
                }
                io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "name one that this user may make"),
                _ => (ErrorKind::InvalidArgument, "name another"),
            };
            let message = format!("cannot make the state directory {}, {advice}", state_dir.display());
            Error::new(kind, message).with_source(error)
        })?;
        Namespace::open(&state_dir.join("namespace"), cache)
    });
    let namespace = Arc::new(namespace.await?);
    // What the last master answered may still be held.
    let restarted = namespace.applied()?.is_some();
    let checkpoint_bytes = config.checkpoint_bytes.max(LEAST_JOURNAL);
    let journal = JournalConfig::new(config.state_dir.join("journal"));
    // Journal goes by whole files.
    let segment_bytes = journal.segment_bytes.min(checkpoint_bytes / 4);
    let extend_bytes = journal.extend_bytes.min(segment_bytes);
    let journal = JournalConfig { checkpoint_bytes, segment_bytes, extend_bytes, ..journal };
    let journal = Journal::open(journal, namespace.clone()).await?;
    let denials = Denials::new(config.client_lease);
    if restarted {
        denials.be_unsure();
    }
    Ok(Catalog::new(namespace, journal, sessions, denials, metrics, config.persist_delay))
}

fn routes(config: &MasterConfig, core: &Core) -> Routes {
    let namespace = MasterServiceServer::new(NamespaceService(core.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let writing = WritingServiceServer::new(WritingService(core.clone())).max_decoding_message_size(MAX_MESSAGE);
    let registry = RegistryServiceServer::new(Registry { core: core.clone(), heartbeat: config.heartbeat })
        .max_decoding_message_size(MAX_MESSAGE);
    let admin =
        AdminServiceServer::new(Admin { core: core.clone(), started: Instant::now(), decided: Decisions::default() })
            .max_decoding_message_size(MAX_MESSAGE);
    Routes::new(InterceptedService::new(namespace, Peer::admit))
        .add_service(InterceptedService::new(writing, Peer::admit))
        .add_service(InterceptedService::new(registry, Peer::admit_node))
        .add_service(InterceptedService::new(admin, Peer::admit))
}

fn router(config: &MasterConfig, routes: Routes) -> Router {
    Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .timeout(config.call_deadline)
        .add_routes(routes)
}

/// Serves until shutdown, then closes the journal.
async fn serve(incoming: Incoming, router: Router, core: Core) -> Result<()> {
    let served = router.serve_with_incoming_shutdown(incoming, core.tasks.shutdown().begun()).await;
    let closed = core.catalog.shutdown().await;
    served.map_err(|error| Error::new(ErrorKind::Internal, "the server failed").with_source(error))?;
    closed
}
