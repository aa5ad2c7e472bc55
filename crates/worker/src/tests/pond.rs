//! A master, a lake and workers, in one process.

use std::{path::Path, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use headpond_proto::{
    MAX_MESSAGE, status,
    v1::{Mount, Origin, ReadRequest, SignedGrant, worker_service_client::WorkerServiceClient},
};
use headpond_runtime::{Shutdown, SystemClock, Tasks};
use headpond_store::{DirConfig, PageStore, StoreConfig};
use headpond_transport::Transport;
use headpond_types::{ByteRange, Error, Result};
use headpond_ufs::UnderStore;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::{
    lake::{Lake, ToLake},
    master::Master,
};
use crate::{
    CacheDir, RunningWorker, Worker, WorkerConfig, cache::Cache, cluster::Cluster, fill::Filler, metrics::Metrics,
    mounts::Connect, reader::Reader,
};

/// One MiB, a page.
pub(super) const MIB: u64 = 1 << 20;

/// HTTP/2 windows of a client.
const ROOM: u32 = 128 << 20;

/// The cluster.
#[derive(Debug)]
pub(super) struct Pond {
    pub(super) lake: Arc<Lake>,
    pub(super) master: Master,
    tasks: Tasks,
}

/// A worker and a client of it.
#[derive(Debug)]
pub(super) struct TestWorker {
    pub(super) running: RunningWorker,
    pub(super) client: WorkerServiceClient<Channel>,
    pub(super) tasks: Tasks,
    pub(super) dir: TempDir,
}

impl Pond {
    pub(super) async fn start() -> Self {
        let tasks = Tasks::new(Shutdown::new());
        Self { lake: Lake::new(), master: Master::start(&tasks).await, tasks }
    }

    /// A worker with 1 GiB in a directory of its own, registered.
    pub(super) async fn worker(&self) -> TestWorker {
        self.worker_in(tempfile::tempdir().expect("a directory"), |_| {}).await
    }

    /// A worker in `dir`, configured otherwise, registered.
    pub(super) async fn worker_in(&self, dir: TempDir, change: impl FnOnce(&mut WorkerConfig)) -> TestWorker {
        let mut config = config(dir.path(), &self.master.address.to_string());
        change(&mut config);
        let before = self.master.registry.borrow().registrations;
        self.registered(start(config, &self.lake, dir).await.expect("started"), before).await
    }

    /// A worker in `dir` whose mounts all lead to `store`, registered.
    pub(super) async fn worker_on(&self, store: Arc<dyn UnderStore>, dir: TempDir) -> TestWorker {
        let before = self.master.registry.borrow().registrations;
        let config = config(dir.path(), &self.master.address.to_string());
        let worker = start_with(config, Arc::new(ToStore(store)), dir).await.expect("started");
        self.registered(worker, before).await
    }

    async fn registered(&self, worker: TestWorker, before: usize) -> TestWorker {
        self.master.until(|registry| registry.registrations > before).await;
        self.master.until_ring_is_known().await;
        worker
    }

    pub(super) fn grant(&self, key: &str) -> SignedGrant {
        self.master.grant(&self.lake, key)
    }

    /// Stops the master: no more registrations and heartbeats.
    pub(super) async fn stop_master(&self) {
        assert!(self.tasks.drain(Duration::from_secs(10)).await);
    }
}

/// The configuration that tests start from.
pub(super) fn config(dir: &Path, master: &str) -> WorkerConfig {
    WorkerConfig {
        bind: "127.0.0.1:0".to_owned(),
        socket: Some(dir.join("worker.sock")),
        dirs: vec![CacheDir { path: dir.join("cache"), capacity: 1 << 30 }],
        masters: vec![master.to_owned()],
        ..WorkerConfig::default()
    }
}

/// Starts a worker, registered or not.
pub(super) async fn start(config: WorkerConfig, lake: &Arc<Lake>, dir: TempDir) -> Result<TestWorker> {
    start_with(config, Arc::new(ToLake(Arc::clone(lake))), dir).await
}

async fn start_with(config: WorkerConfig, connect: Arc<dyn Connect>, dir: TempDir) -> Result<TestWorker> {
    let tasks = Tasks::new(Shutdown::new());
    let running = Worker::start_with(config, connect, Metrics::default(), Arc::new(SystemClock), tasks.clone()).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", running.address())).expect("an address");
    // With room for all that is read it sends nothing after its request: what comes to a worker that has closed makes the kernel throw
    // away what was not sent yet.
    let endpoint = endpoint.initial_stream_window_size(ROOM).initial_connection_window_size(ROOM);
    let client = WorkerServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_MESSAGE);
    Ok(TestWorker { running, client, tasks, dir })
}

/// Connects every mount to one store.
#[derive(Debug)]
struct ToStore(Arc<dyn UnderStore>);

impl Connect for ToStore {
    fn connect<'a>(&'a self, _: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
        let store = Arc::clone(&self.0);
        Box::pin(async { Ok(store) })
    }
}

impl TestWorker {
    /// Reads over gRPC as a client does.
    pub(super) async fn read(&self, grant: &SignedGrant, range: ByteRange) -> Result<Vec<u8>> {
        self.read_as(Origin::Client, grant, range).await
    }

    pub(super) async fn read_as(&self, origin: Origin, grant: &SignedGrant, range: ByteRange) -> Result<Vec<u8>> {
        let origin = origin.into();
        let request = ReadRequest { grant: Some(grant.clone()), ranges: vec![range.into()], origin, readahead: None };
        read_all(self.client.clone(), request).await
    }

    /// Contents lent out.
    pub(super) fn leases(&self) -> i64 {
        self.running.reader.metrics.leases.get()
    }

    /// Failures of the page store so far.
    pub(super) fn faults(&self) -> u64 {
        self.running.reader.metrics.faults()
    }

    /// Ends it cleanly; its directory stays.
    pub(super) async fn stop(self) -> TempDir {
        drop(self.client);
        assert!(self.tasks.drain(Duration::from_secs(10)).await, "it did not end");
        self.dir
    }
}

/// The reading part of a worker without its services, and the right to read `key`: for tests that stop the time, which
/// sockets do not bear.
pub(super) async fn lone_reader(lake: &Arc<Lake>, key: &str, dir: &Path) -> (Arc<Reader>, SignedGrant) {
    let tasks = Tasks::new(Shutdown::new());
    let master = Master::start(&tasks).await;
    let cluster = Arc::new(Cluster::new(Arc::new(ToLake(Arc::clone(lake)))));
    cluster.join(&master.welcome());
    let store = StoreConfig { dirs: vec![DirConfig { path: dir.to_owned(), capacity_bytes: 1 << 30 }] };
    let (config, metrics) = (WorkerConfig::default(), Metrics::default());
    let cache = Arc::new(Cache::new(Arc::new(PageStore::open(store).expect("a store")), metrics.clone()));
    let deadlines = config.deadlines;
    let filler = Arc::new(Filler::new(
        config,
        Transport::plaintext(),
        Arc::clone(&cache),
        Arc::clone(&cluster),
        metrics.clone(),
        tasks,
    ));
    let reader = Reader { cache, filler, cluster, clock: Arc::new(SystemClock), metrics, deadlines };
    (Arc::new(reader), master.grant(lake, key))
}

/// The bytes `range` of `body`.
pub(super) fn part<'a>(body: &'a [u8], range: &ByteRange) -> &'a [u8] {
    let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).expect("64 bits"));
    &body[start..end]
}

pub(super) async fn read_all(mut client: WorkerServiceClient<Channel>, request: ReadRequest) -> Result<Vec<u8>> {
    let told = |status: tonic::Status| -> Error { status::to_error(&status, "read") };
    let mut stream = client.read(request).await.map_err(told)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = stream.message().await.map_err(told)? {
        bytes.extend_from_slice(&part.data);
    }
    Ok(bytes)
}
