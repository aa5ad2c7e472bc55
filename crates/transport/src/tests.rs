//! Both ends over real sockets, with certificates made here.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use headpond_proto::{
    status,
    v1::{
        HeartbeatRequest, HeartbeatResponse, KeepDirtyRequest, KeepDirtyResponse, LeaveRequest, LeaveResponse,
        RegisterRequest, RegisterResponse,
        registry_service_client::RegistryServiceClient,
        registry_service_server::{RegistryService, RegistryServiceServer},
    },
};
use headpond_runtime::{Shutdown, Tasks};
use headpond_tests::{Authority, Issued};
use headpond_types::{ErrorKind, Result};
use rustls::{
    ClientConfig, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    service::{Routes, interceptor::InterceptedService},
    transport::{Endpoint, Server},
};

use crate::{Link, Neighbours, Peer, TlsConfig, Transport, files::Material, transport::Tls};

const NODE: &str = "headpond://node";
const ADA: &str = "headpond://user/ada?uid=7&gid=8";

/// Answers heartbeats and nothing else.
struct Pulse;

#[tonic::async_trait]
impl RegistryService for Pulse {
    async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        Err(Status::unimplemented("no registry"))
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        Ok(Response::new(HeartbeatResponse::default()))
    }

    async fn keep_dirty(&self, _: Request<KeepDirtyRequest>) -> Result<Response<KeepDirtyResponse>, Status> {
        Err(Status::unimplemented("no registry"))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        Err(Status::unimplemented("no registry"))
    }
}

/// An authority and a folder for what it issues.
struct Office {
    authority: Authority,
    folder: TempDir,
    tasks: Tasks,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { authority: Authority::new().expect("made"), folder, tasks: Tasks::new(Shutdown::new()) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn issue(&self, name: &str, uris: &[&str]) -> TlsConfig {
        config(&self.authority.issue(self.path(), name, uris).expect("issued"))
    }

    fn load(&self, config: &TlsConfig) -> Result<Transport> {
        Transport::load(config, &Neighbours::default(), &self.tasks)
    }

    fn transport(&self, name: &str, uri: &str) -> Transport {
        self.load(&self.issue(name, &[uri])).expect("good files")
    }

    /// Serves a pulse to nodes.
    async fn serve(&self, transport: &Transport) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let incoming = transport.incoming("the test", listener, &self.tasks);
        let service = InterceptedService::new(RegistryServiceServer::new(Pulse), Peer::admit_node);
        self.tasks.spawn_until_shutdown(async move {
            let served = Server::builder().add_service(service).serve_with_incoming(incoming).await;
            served.expect("served");
        });
        address
    }
}

fn config(issued: &Issued) -> TlsConfig {
    let Issued { ca, cert, key } = issued.clone();
    TlsConfig { ca: Some(ca), cert: Some(cert), key: Some(key), ..TlsConfig::default() }
}

async fn ask(transport: &Transport, host: &str, address: SocketAddr) -> Result<()> {
    ask_over(link(transport, host, address)).await
}

fn link(transport: &Transport, host: &str, address: SocketAddr) -> Link {
    let endpoint = Endpoint::from_shared(format!("http://{host}:{}", address.port())).expect("an address");
    transport.link(&endpoint.connect_timeout(Duration::from_secs(5)))
}

async fn ask_over(link: Link) -> Result<()> {
    let answer = RegistryServiceClient::new(link).heartbeat(HeartbeatRequest::default()).await;
    answer.map(drop).map_err(|status| status::to_error(&status, "heartbeat"))
}

fn assert_refused(asked: Result<()>, kind: ErrorKind, says: &[&str]) {
    let error = asked.expect_err("refused");
    assert_eq!(error.kind(), kind, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn neighbours_are_called_without_a_connection_and_judged_all_the_same() {
    let (office, neighbours) = (Office::new(), Neighbours::new());
    let load = |tls: &TlsConfig| Transport::load(tls, &neighbours, &office.tasks).expect("good files");
    let node = load(&office.issue("node", &[NODE]));
    // Held so that nobody else listens there; no connection is ever taken.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let routes = Routes::new(InterceptedService::new(RegistryServiceServer::new(Pulse), Peer::admit_node));
    let server = Tasks::new(Shutdown::new());
    node.offer(address.to_string(), &routes, &server);

    ask(&node, "127.0.0.1", address).await.expect("a node");
    ask(&load(&TlsConfig::default()), "127.0.0.1", address).await.expect("anyone, without TLS");
    let user = ask(&load(&office.issue("ada", &[ADA])), "127.0.0.1", address).await;
    assert_refused(user, ErrorKind::PermissionDenied, &["headpond://node"]);

    let kept = link(&node, "127.0.0.1", address);
    drop(listener);
    assert!(server.drain(Duration::from_secs(5)).await);
    assert_refused(ask_over(kept).await, ErrorKind::Unavailable, &["has ended"]);
    ask(&node, "127.0.0.1", address).await.expect_err("nobody listens there");
}

#[tokio::test]
async fn nodes_reach_each_other_and_nobody_else_gets_in() {
    let office = Office::new();
    let node = office.transport("node", NODE);
    let address = office.serve(&node).await;
    for host in ["127.0.0.1", "localhost"] {
        ask(&node, host, address).await.expect("a node");
    }
    let user = ask(&office.transport("ada", ADA), "127.0.0.1", address).await;
    assert_refused(user, ErrorKind::PermissionDenied, &["headpond://node"]);

    let plaintext = ask(&Transport::plaintext(), "127.0.0.1", address).await;
    assert_refused(plaintext, ErrorKind::InvalidArgument, &["heartbeat", "nothing but TLS", "[tls]"]);

    // One who trusts us, with a certificate that we do not trust, and one without.
    let elsewhere = Office::new();
    let foreign = showing(&node, elsewhere.issue("node", &[NODE]));
    assert_refused(
        ask(&foreign, "127.0.0.1", address).await,
        ErrorKind::PermissionDenied,
        &["refuses", "did not sign"],
    );
    let nameless = with_client(&node, |client| client.client_auth_cert_resolver = Arc::new(Nothing));
    let refused = ask(&nameless, "127.0.0.1", address).await;
    assert_refused(refused, ErrorKind::PermissionDenied, &["refuses", "CertificateRequired"]);
}

/// Shows no certificate.
#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// `transport` with the client's side changed.
fn with_client(transport: &Transport, change: impl FnOnce(&mut ClientConfig)) -> Transport {
    let tls = transport.tls.as_ref().expect("TLS");
    let material = tls.current();
    let mut client = ClientConfig::clone(&material.client);
    change(&mut client);
    let material = Material { client: Arc::new(client), server: material.server.clone(), role: material.role.clone() };
    let current = RwLock::new(Arc::new(material));
    Transport {
        tls: Some(Arc::new(Tls { files: tls.files.clone(), server_name: None, current })),
        ..Transport::plaintext()
    }
}

/// `transport`, but with a certificate that it would not load.
fn showing(transport: &Transport, config: TlsConfig) -> Transport {
    let certificate = CertificateDer::from_pem_file(config.cert.expect("set")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(config.key.expect("set")).expect("a key");
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(vec![certificate], key, &provider).expect("a pair");
    with_client(transport, |client| {
        client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    })
}

#[tokio::test]
async fn a_server_shows_a_nodes_certificate_of_the_authority_for_its_host() {
    let (office, elsewhere) = (Office::new(), Office::new());
    let node = office.transport("node", NODE);
    let address = elsewhere.serve(&elsewhere.transport("node", NODE)).await;
    assert_refused(
        ask(&node, "127.0.0.1", address).await,
        ErrorKind::PermissionDenied,
        &["127.0.0.1", "not signed by"],
    );

    let address = office.serve(&office.transport("ada", ADA)).await;
    assert_refused(ask(&node, "127.0.0.1", address).await, ErrorKind::PermissionDenied, &["not a server's"]);

    let issued = office.authority.issue_for(office.path(), "far", &[NODE], &["far.example"], false).expect("issued");
    let address = office.serve(&office.load(&config(&issued)).expect("good")).await;
    assert_refused(ask(&node, "127.0.0.1", address).await, ErrorKind::PermissionDenied, &["not for this host"]);
    let named = TlsConfig { server_name: Some("far.example".to_owned()), ..office.issue("named", &[NODE]) };
    ask(&office.load(&named).expect("good"), "127.0.0.1", address).await.expect("the shared name");

    let address = office.serve(&Transport::plaintext()).await;
    assert_refused(ask(&node, "127.0.0.1", address).await, ErrorKind::InvalidArgument, &["does not speak TLS"]);
}

#[tokio::test]
async fn a_certificate_without_a_role_may_nothing() {
    let office = Office::new();
    let node = office.transport("node", NODE);
    let address = office.serve(&node).await;
    for (name, uris) in [("none", &[][..]), ("several", &[NODE, ADA]), ("unknown", &["headpond://root"])] {
        let config = office.issue(name, uris);
        let error = office.load(&config).expect_err("refused at its own start");
        assert!(error.to_string().contains("headpond://"), "{error}");
        let sly = showing(&node, config);
        assert_refused(ask(&sly, "127.0.0.1", address).await, ErrorKind::PermissionDenied, &["the certificate names"]);
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_what_helps() {
    let office = Office::new();
    let other_office = Office::new();
    let elsewhere = other_office.issue("elsewhere", &[NODE]);
    let (good, other) = (office.issue("good", &[NODE]), office.issue("other", &[NODE]));
    let expired = office.authority.issue_for(office.path(), "expired", &[NODE], &[], true).expect("issued");
    let garbage = office.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN PRIVATE KEY-----\nhunter2\n-----BEGIN").expect("written");
    let nowhere = Some(office.path().join("nowhere.pem"));
    for (config, named) in [
        (TlsConfig { key: None, ..good.clone() }, &["tls.key", "go together"][..]),
        (TlsConfig { server_name: Some("x".to_owned()), ..TlsConfig::default() }, &["tls.ca and tls.cert and tls.key"]),
        (TlsConfig { ca: nowhere.clone(), ..good.clone() }, &["tls.ca", "nowhere.pem", "may read"]),
        (TlsConfig { cert: nowhere.clone(), ..good.clone() }, &["tls.cert", "nowhere.pem"]),
        (TlsConfig { key: nowhere, ..good.clone() }, &["tls.key", "nowhere.pem"]),
        (TlsConfig { key: Some(garbage.clone()), ..good.clone() }, &["tls.key", "garbage.pem", "no private key"]),
        (TlsConfig { cert: Some(garbage), ..good.clone() }, &["tls.cert", "garbage.pem", "no certificate"]),
        (TlsConfig { cert: good.key.clone(), ..good.clone() }, &["tls.cert", "good.key.pem", "no certificate"]),
        (TlsConfig { key: other.key, ..good.clone() }, &["other.key.pem", "good.cert.pem", "not the key of"]),
        (TlsConfig { ca: elsewhere.ca, ..good.clone() }, &["good.cert.pem", "not signed by an authority in tls.ca"]),
        (config(&expired), &["expired.cert.pem", "has expired", "renew"]),
        (TlsConfig { server_name: Some("a b".to_owned()), ..good }, &["tls.server_name"]),
    ] {
        let error = office.load(&config).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let line = status::message_with_causes(&error);
        for text in named {
            assert!(line.contains(text), "{line}");
        }
        assert!(!line.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn changed_files_count_for_new_connections_and_broken_ones_do_not() {
    let (office, elsewhere) = (Office::new(), Office::new());
    let served = office.issue("served", &[NODE]);
    let transport = office.load(&served).expect("good");
    let address = office.serve(&transport).await;
    let (inside, outside) = (office.transport("inside", NODE), elsewhere.transport("outside", NODE));
    let tls = transport.tls.as_ref().expect("TLS");
    let first = tls.files.version();
    ask(&inside, "127.0.0.1", address).await.expect("of the authority");
    ask(&outside, "127.0.0.1", address).await.expect_err("of another");

    elsewhere.authority.issue(office.path(), "served", &[NODE]).expect("replaced");
    let second = tls.reload(first.clone()).await;
    assert_ne!(first, second);
    ask(&outside, "127.0.0.1", address).await.expect("of the authority now");
    ask(&inside, "127.0.0.1", address).await.expect_err("no longer");

    std::fs::remove_file(served.key.expect("set")).expect("removed");
    let third = tls.reload(second.clone()).await;
    assert_ne!(second, third);
    ask(&outside, "127.0.0.1", address).await.expect("as before");
}

#[tokio::test]
async fn a_transport_does_not_show_its_key() {
    let office = Office::new();
    let config = office.issue("node", &[NODE]);
    let key = std::fs::read_to_string(config.key.clone().expect("set")).expect("read");
    let shown = format!("{:?} {config:?}", office.load(&config).expect("good"));
    assert!(!key.lines().filter(|line| !line.is_empty()).any(|line| shown.contains(line)), "{shown}");
}
