//! Starts a worker.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use headpond_proto::{
    MAX_MESSAGE,
    v1::{RegisterRequest, staging_service_server::StagingServiceServer, worker_service_server::WorkerServiceServer},
};
use headpond_runtime::{Clock, Tasks};
use headpond_store::{DirConfig, PageStore, StoreConfig};
use headpond_transport::{Incoming, Peer, Transport};
use headpond_types::{ContentId, Error, ErrorKind, Result};
use headpond_ufs::Abandoned;
use headpond_ufs::CredentialSource;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc},
    task::spawn_blocking,
};
use tonic::{
    service::{Routes, interceptor::InterceptedService},
    transport::Server,
};

use crate::{
    cache::Cache,
    cluster::Cluster,
    config::WorkerConfig,
    connector::Connector,
    fill::Filler,
    grpc::{Service, StagingRpc},
    identity::Identity,
    metrics::Metrics,
    mounts::Connect,
    peers::Peers,
    reader::Reader,
    registration::{Registration, Standing},
    running::RunningWorker,
    socket::Listener,
    staging::{Room, Stager},
};

/// HTTP/2 windows for what clients send: requests, and bytes that are staged from other nodes.
const WINDOW: u32 = 1 << 20;

/// Largest HTTP/2 frame that we take.
const FRAME: u32 = 1 << 20;

/// Pause between two pings to a silent client; one that does not answer for as long again is dropped with its streams.
const PING: Duration = Duration::from_secs(20);

/// Recalls kept for a session that is busy.
const RECALLS: usize = 1 << 10;

/// Pause between two looks at cache directories that are out of use.
const PROBE: Duration = Duration::from_secs(30);

/// Serves cached contents of a cluster on one node.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Opens the cache, listens, and joins the cluster in the background: a master need not be there yet
    /// ([`RunningWorker::ready`] says when it was). Ends when the shutdown of `tasks` begins: it then leaves the ring, accepts nothing more
    /// and finishes what is in flight; `Tasks::drain` waits for that. `credentials` resolves the names that mounts refer to.
    ///
    /// # Errors
    /// `InvalidArgument` or `AlreadyExists` for what the configuration asks and cannot be had, naming it; nothing runs then.
    pub async fn start(
        config: WorkerConfig,
        credentials: Arc<dyn CredentialSource>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<RunningWorker> {
        let metrics = Metrics::default();
        let connect = Arc::new(Connector { credentials, meters: metrics.stores.clone() });
        Self::start_with(config, connect, metrics, clock, tasks).await
    }

    pub(crate) async fn start_with(
        config: WorkerConfig,
        connect: Arc<dyn Connect>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<RunningWorker> {
        config.check()?;
        let transport = Transport::load(&config.tls, &config.neighbours, &tasks)?;
        let listener = listen(&config.bind).await?;
        let (store, identity, abandoned) = open(&config).await?;
        // Clients have other working directories.
        let socket_path = config.socket.as_deref().map(absolute).transpose()?;
        let socket = socket_path.as_deref().map(Listener::bind).transpose()?;
        let address = listener.local_addr().map_err(|error| bind_failed(&config.bind, error))?;
        let advertised = config.advertise.clone().unwrap_or_else(|| reachable(address, &config.node));

        let cluster = Arc::new(Cluster::new(connect));
        if let Some(kept) = identity.cluster() {
            cluster.join(&kept);
        }
        let recalls = store.recalls();
        let cache = Arc::new(Cache::new(Arc::new(store), metrics.clone()));
        let filler = Filler::new(
            config.clone(),
            transport.clone(),
            Arc::clone(&cache),
            Arc::clone(&cluster),
            metrics.clone(),
            tasks.clone(),
        );
        let reader = Arc::new(Reader {
            cache: Arc::clone(&cache),
            filler: Arc::new(filler),
            cluster: Arc::clone(&cluster),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            deadlines: config.deadlines,
        });
        let room =
            Room::new(config.dirty_limit(), config.deadlines.room, Arc::clone(cache.store()), Arc::clone(&cluster));
        let room = Arc::new(room);
        let stager = Arc::new(Stager::new(
            Arc::clone(&cache),
            Arc::clone(&cluster),
            clock,
            metrics.clone(),
            tasks.clone(),
            (Arc::clone(&abandoned), Peers::new(transport.clone(), config.deadlines), Arc::clone(&room)),
        ));
        let standing = Arc::new(Standing::new());

        let routes = routes(Arc::clone(&reader), Arc::clone(&stager));
        transport.offer(&advertised, &routes, &tasks);
        serve(transport.incoming("the worker", listener, &tasks), routes, &tasks);
        if let Some(socket) = socket {
            let (sender, _) = broadcast::channel(RECALLS);
            tasks.spawn_until_shutdown(spread(recalls, sender.clone()));
            tasks.spawn(socket.serve(Arc::clone(&reader), Arc::clone(&stager), sender, tasks.clone()));
        }
        let maintained = Arc::clone(&stager);
        tasks.spawn_until_shutdown(async move { maintained.maintain().await });
        let stores = Arc::clone(&cluster);
        let store_of = move |mount| {
            let cluster = Arc::clone(&stores);
            async move { cluster.mounts.store(mount).await }
        };
        tasks.spawn_until_shutdown(Arc::clone(&abandoned).run(store_of));
        let registration = Registration {
            masters: config.masters.clone(),
            transport,
            deadlines: config.deadlines,
            announcement: RegisterRequest {
                uuid: identity.uuid(),
                address: advertised.clone(),
                socket: socket_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                node: config.node.clone(),
                zone: config.zone.clone(),
                capacity: 0,
            },
            identity,
            cluster,
            cache: Arc::clone(&cache),
            metrics,
            standing: Arc::clone(&standing),
            stored: stager.stored(),
            abandoned,
            room: Arc::clone(&room),
        };
        tasks.spawn(registration.run(tasks.shutdown().clone()));
        tasks.spawn_until_shutdown(maintain(cache, config.scrub_interval, config.scrub_rate));
        Ok(RunningWorker { reader, room, standing, address, advertised, socket: socket_path })
    }
}

async fn listen(bind: &str) -> Result<TcpListener> {
    TcpListener::bind(bind).await.map_err(|error| bind_failed(bind, error))
}

fn bind_failed(bind: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::AddrInUse => ErrorKind::AlreadyExists,
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::InvalidArgument,
    };
    let message = format!("the worker cannot listen on {bind}: choose another address with bind, or free this one");
    Error::new(kind, message).with_source(error)
}

/// The address to tell others: the bound one, or the node's name where that is a wildcard.
fn reachable(address: SocketAddr, node: &str) -> String {
    if address.ip().is_unspecified() { format!("{node}:{}", address.port()) } else { address.to_string() }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("cannot find the socket path {}: write it as an absolute path", path.display());
        Error::new(ErrorKind::InvalidArgument, message).with_source(error)
    })
}

/// Opens the page store, and finds out who this worker is and which uploads it left.
async fn open(config: &WorkerConfig) -> Result<(PageStore, Identity, Arc<Abandoned>)> {
    let dirs = config.dirs.iter().map(|dir| DirConfig { path: dir.path.clone(), capacity_bytes: dir.capacity });
    let store = StoreConfig { dirs: dirs.collect() };
    let open = move || {
        let first = store.dirs.first().map(|dir| dir.path.clone()).unwrap_or_default();
        let store = PageStore::open(store).map_err(|error| {
            let message = error.to_string();
            Error::new(error.kind(), message).with_source(error)
        })?;
        let identity = Identity::open(&first)?;
        let abandoned = Abandoned::open(&first).map_err(|error| {
            let message = format!("cannot keep notes of uploads in {}: repair the directory", first.display());
            Error::new(ErrorKind::InvalidArgument, message).with_source(error)
        })?;
        Ok((store, identity, Arc::new(abandoned)))
    };
    spawn_blocking(open)
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "opening the cache").with_source(error))?
}

fn routes(reader: Arc<Reader>, stager: Arc<Stager>) -> Routes {
    let service = WorkerServiceServer::new(Service(reader)).max_decoding_message_size(MAX_MESSAGE);
    let staging = StagingServiceServer::new(StagingRpc(stager)).max_decoding_message_size(MAX_MESSAGE);
    Routes::new(InterceptedService::new(service, Peer::admit))
        .add_service(InterceptedService::new(staging, Peer::admit))
}

fn serve(incoming: Incoming, routes: Routes, tasks: &Tasks) {
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .add_routes(routes);
    let shutdown = tasks.shutdown().clone();
    tasks.spawn(async move {
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, async { shutdown.begun().await }).await {
            tracing::error!(%error, "the worker's gRPC service has failed");
        }
    });
}

/// Hands what the store wants back to all sessions.
async fn spread(mut recalls: mpsc::Receiver<ContentId>, sessions: broadcast::Sender<ContentId>) {
    while let Some(content) = recalls.recv().await {
        // Nobody listens while no client is connected; then nothing is lent either.
        let _ = sessions.send(content);
    }
}

/// Scrubs, and looks after failed directories.
async fn maintain(cache: Arc<Cache>, interval: Duration, rate: u64) {
    let scrubbing = async {
        loop {
            if interval.is_zero() {
                return;
            }
            tokio::time::sleep(interval).await;
            cache.scrub(rate).await;
        }
    };
    let probing = async {
        loop {
            tokio::time::sleep(PROBE).await;
            cache.probe_failed().await;
        }
    };
    tokio::join!(scrubbing, probing);
}
