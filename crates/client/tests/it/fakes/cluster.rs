//! A master, some workers, and a client of them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use headpond_client::{Client, ClientConfig, Event};
use headpond_proto::v1::{
    self, admin_service_server::AdminServiceServer, master_service_server::MasterServiceServer,
    staging_service_server::StagingServiceServer, worker_service_server::WorkerServiceServer,
    writing_service_server::WritingServiceServer,
};
use headpond_runtime::{Shutdown, Tasks};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, server::Router};

use super::{FakeMaster, FakeSocket, FakeWorker};

/// A running master, workers and a client.
pub(crate) struct Cluster {
    pub(crate) master: FakeMaster,
    pub(crate) workers: Vec<FakeWorker>,
    pub(crate) client: Client,
    pub(crate) tasks: Tasks,
    /// A runtime each, the master's first: when it ends so do its connections, as those of a killed process.
    serving: Vec<Runtime>,
    address: SocketAddr,
    /// Bound but not listening, so that nobody else gets the port.
    _nobody: TcpSocket,
}

/// Short deadlines: what is tested answers at once or never.
pub(crate) fn config() -> ClientConfig {
    ClientConfig {
        node: "here".to_owned(),
        connect_timeout: Duration::from_millis(500),
        metadata_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(5),
        ..ClientConfig::default()
    }
}

impl Cluster {
    /// With `workers` workers, none on the client's node.
    pub(crate) async fn start(workers: usize) -> Self {
        Self::build(workers, None, config()).await
    }

    /// With one worker on the client's node, whose socket is in `directory`.
    pub(crate) async fn local(directory: &Path) -> Self {
        Self::build(1, Some(directory), config()).await
    }

    pub(crate) async fn build(workers: usize, directory: Option<&Path>, config: ClientConfig) -> Self {
        let master = FakeMaster::new();
        let workers: Vec<_> = (0..workers).map(|_| FakeWorker::new()).collect();
        let mut serving = Vec::new();
        let mut members = Vec::new();
        for (worker, id) in workers.iter().zip(1..) {
            worker.state().staging.directory = directory.map(Path::to_owned);
            if let Some(directory) = directory {
                FakeSocket::belongs_to(directory, worker.clone());
            }
            let router = Server::builder()
                .add_service(WorkerServiceServer::new(worker.clone()))
                .add_service(StagingServiceServer::new(worker.clone()));
            let (address, runtime) = serve(router, ANY).await;
            serving.push(runtime);
            let socket = directory.map_or_else(String::new, |path| FakeSocket::path(path).display().to_string());
            let node = if directory.is_some() { "here" } else { "there" }.to_owned();
            members.push(v1::Member { id, address: address.to_string(), socket, node, zone: String::new(), weight: 1 });
        }
        master.state().ring = v1::Ring { epoch: 1, members };
        let (address, runtime) = serve_master(&master, ANY).await;
        serving.insert(0, runtime);
        let tasks = Tasks::new(Shutdown::new());
        // The first address is of nobody: every test goes through the failover to the second.
        let nobody = TcpSocket::new_v4().expect("a socket");
        nobody.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let nobodys = nobody.local_addr().expect("bound");
        let config = ClientConfig { masters: vec![nobodys.to_string(), address.to_string()], ..config };
        let client = Client::connect(config, tasks.clone()).expect("a client");
        let cluster = Self { master, workers, client, tasks, serving, address, _nobody: nobody };
        if cluster.master.state().watchable {
            cluster.client.ring().await.expect("a session");
        }
        cluster
    }

    /// Kills the master and waits until the client knows.
    pub(crate) async fn kill_master(&mut self) {
        let mut events = self.client.events();
        self.serving.remove(0).shutdown_background();
        while events.recv().await.expect("an event") != Event::Reset {}
    }

    /// Starts the master again on its port.
    pub(crate) async fn restart_master(&mut self) {
        let (_, runtime) = serve_master(&self.master, self.address).await;
        self.serving.insert(0, runtime);
    }

    /// The worker that owns the first block of a file.
    pub(crate) async fn owner(&self, attr: &headpond_types::Attr) -> &FakeWorker {
        let ring = self.client.ring().await.expect("a ring");
        let owner = ring.owner(attr.content.expect("a file"), 0).expect("a worker");
        &self.workers[owner.id.0 as usize - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.drain(..).for_each(Runtime::shutdown_background);
        self.tasks.shutdown().begin();
    }
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn serve_master(master: &FakeMaster, address: SocketAddr) -> (SocketAddr, Runtime) {
    let router = Server::builder()
        .add_service(MasterServiceServer::new(master.clone()))
        .add_service(WritingServiceServer::new(master.clone()))
        .add_service(AdminServiceServer::new(master.clone()));
    serve(router, address).await
}

async fn serve(router: Router, address: SocketAddr) -> (SocketAddr, Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let serving = runtime.handle().spawn(async move {
        // A listener that was killed just now goes away soon.
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let address = listener.local_addr().expect("bound");
        (listener, address)
    });
    let (listener, address) = serving.await.expect("bound");
    runtime.handle().spawn(async move {
        router.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("served");
    });
    (address, runtime)
}
