//! A master that knows registrations only, and signs grants.

use std::{net::SocketAddr, sync::Arc};

use headpond_proto::{
    grant::GrantSigner,
    status,
    v1::{
        ContentGrant, HeartbeatRequest, HeartbeatResponse, KeepDirtyRequest, KeepDirtyResponse, LeaveRequest,
        LeaveResponse, Member, Mount, PersistGrant, RegisterRequest, RegisterResponse, Ring, SignedGrant, StagingGrant,
        UploadGrant,
        registry_service_server::{RegistryService, RegistryServiceServer},
    },
};
use headpond_runtime::Tasks;
use headpond_types::{ContentId, Error, ErrorKind};
use prost::Message as _;
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::lake::Lake;

/// Cluster of all tests.
const CLUSTER: u64 = 5;

/// What the master knows; tests wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    /// The ring it hands out.
    pub(super) ring: Ring,
    /// Uuids, in order of the ids from 1.
    pub(super) uuids: Vec<String>,
    /// Mounts and their version.
    pub(super) mounts: (Vec<Mount>, u64),
    /// Per worker, the last heartbeat.
    pub(super) heartbeats: Vec<HeartbeatRequest>,
    /// Registrations so far, repeated ones included.
    pub(super) registrations: usize,
    /// Answer the next heartbeat with `fenced`.
    pub(super) fence: bool,
    /// Contents that no worker need keep, and how often that was asked.
    pub(super) unneeded: Vec<ContentId>,
    pub(super) asked: usize,
}

/// The master.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) address: SocketAddr,
    pub(super) registry: Arc<watch::Sender<Registry>>,
    signer: GrantSigner,
}

impl Master {
    /// A master on a free port, with one mount.
    pub(super) async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let registry = Registry { mounts: (vec![Mount { id: 1, ..Mount::default() }], 1), ..Registry::default() };
        let registry = Arc::new(watch::Sender::new(registry));
        let signer = GrantSigner::new(&[1; 32], CLUSTER).expect("32 bytes");
        let service = Service { registry: Arc::clone(&registry), key: signer.public_key() };
        let server = Server::builder().add_service(RegistryServiceServer::new(service));
        tasks.spawn_until_shutdown(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("served");
        });
        Self { address, registry, signer }
    }

    /// What it would answer to a first worker.
    pub(super) fn welcome(&self) -> RegisterResponse {
        RegisterResponse {
            worker: 1,
            grant_key: self.signer.public_key().into(),
            cluster: CLUSTER,
            mounts: self.registry.borrow().mounts.0.clone(),
            mounts_version: 1,
            ..RegisterResponse::default()
        }
    }

    /// The right to read an object as the lake has it now.
    pub(super) fn grant(&self, lake: &Lake, key: &str) -> SignedGrant {
        self.grant_on(1, lake, key)
    }

    /// The same through another mount.
    pub(super) fn grant_on(&self, mount: u32, lake: &Lake, key: &str) -> SignedGrant {
        let (version, length, content) = lake.describe(key);
        let content = Some(content.into());
        let key = key.to_owned().into();
        let grant =
            ContentGrant { content, length, mount, key, version, expires_ns: i64::MAX, ..ContentGrant::default() };
        self.signer.sign(grant)
    }

    /// The right to stage bytes for a lease.
    pub(super) fn staging(&self, lease: u64) -> SignedGrant {
        let grant = StagingGrant { lease, inode: 100 + lease, expires_ns: i64::MAX, cluster: 0, later: 0 };
        self.signer.sign_staging(grant)
    }

    /// The right to send what is staged for a lease ahead, in mount 1.
    pub(super) fn upload(&self, lease: u64, key: &str) -> SignedGrant {
        let key = key.to_owned().into();
        self.signer.sign_upload(UploadGrant { lease, mount: 1, key, expires_ns: i64::MAX, ..UploadGrant::default() })
    }

    /// The right to store what is staged for a lease, in mount 1.
    pub(super) fn persist(&self, lease: u64, key: &str, replaces: Option<&str>, content: ContentId) -> SignedGrant {
        self.signer.sign_persist(PersistGrant {
            lease,
            mount: 1,
            key: key.to_owned().into(),
            replaces: replaces.map(str::to_owned),
            content: Some(content.into()),
            expires_ns: i64::MAX,
            ..PersistGrant::default()
        })
    }

    /// The same where the version that is replaced is known to be `replaced`.
    pub(super) fn persist_over(&self, lease: u64, key: &str, replaces: &str, replaced: ContentId) -> SignedGrant {
        self.signer.sign_persist(PersistGrant {
            lease,
            mount: 1,
            key: key.to_owned().into(),
            replaces: Some(replaces.to_owned()),
            replaced: Some(replaced.into()),
            content: Some(ContentId(lease.into()).into()),
            expires_ns: i64::MAX,
            ..PersistGrant::default()
        })
    }

    /// The right to make what is staged for a lease durable on so many workers.
    pub(super) fn copies(&self, lease: u64, content: ContentId, copies: u32, holders: &[&str]) -> SignedGrant {
        self.signer.sign_persist(PersistGrant {
            lease,
            mount: 1,
            content: Some(content.into()),
            copies,
            holders: holders.iter().map(ToString::to_string).collect(),
            expires_ns: i64::MAX,
            ..PersistGrant::default()
        })
    }

    /// The right to store a content that a worker holds under `key`, in mount 1.
    pub(super) fn later(&self, key: &str, content: ContentId, earlier: &[ContentId]) -> SignedGrant {
        self.signer.sign_persist(PersistGrant {
            mount: 1,
            key: key.to_owned().into(),
            content: Some(content.into()),
            earlier: earlier.iter().copied().map(Into::into).collect(),
            expires_ns: i64::MAX,
            ..PersistGrant::default()
        })
    }

    /// The same where it replaces a version.
    pub(super) fn later_over(&self, key: &str, content: ContentId, replaces: &str) -> SignedGrant {
        self.signer.sign_persist(PersistGrant {
            mount: 1,
            key: key.to_owned().into(),
            replaces: Some(replaces.to_owned()),
            content: Some(content.into()),
            expires_ns: i64::MAX,
            ..PersistGrant::default()
        })
    }

    /// The right to read a content that only workers have.
    pub(super) fn dirty(&self, content: ContentId, length: u64, holders: &[&str]) -> SignedGrant {
        self.signer.sign(ContentGrant {
            content: Some(content.into()),
            length,
            mount: 1,
            holders: holders.iter().map(ToString::to_string).collect(),
            expires_ns: i64::MAX,
            ..ContentGrant::default()
        })
    }

    /// The right to read a content.
    pub(super) fn content(&self, content: ContentId, key: &str, version: &str, length: u64) -> SignedGrant {
        self.signer.sign(ContentGrant {
            content: Some(content.into()),
            length,
            mount: 1,
            key: key.to_owned().into(),
            version: version.to_owned(),
            expires_ns: i64::MAX,
            ..ContentGrant::default()
        })
    }

    /// The right to read a content that `change` makes another.
    pub(super) fn content_as(&self, grant: &SignedGrant, change: impl FnOnce(&mut ContentGrant)) -> SignedGrant {
        let mut grant = ContentGrant::decode(&grant.grant[..]).expect("a grant");
        change(&mut grant);
        self.signer.sign(grant)
    }

    /// Waits until the registry is as wanted.
    pub(super) async fn until(&self, wanted: impl FnMut(&Registry) -> bool) {
        self.registry.subscribe().wait_for(wanted).await.expect("the sender lives");
    }

    /// Waits for another heartbeat of every live worker.
    pub(super) async fn until_heard_of_all(&self) {
        self.registry.send_modify(|registry| registry.heartbeats.clear());
        self.until(|registry| registry.heartbeats.len() == registry.ring.members.len()).await;
    }

    /// Waits until every live worker goes by the present ring.
    pub(super) async fn until_ring_is_known(&self) {
        self.until(|registry| {
            let knows = |member: &Member| {
                registry
                    .heartbeats
                    .iter()
                    .any(|beat| beat.worker == member.id && beat.ring_epoch == registry.ring.epoch)
            };
            registry.ring.members.iter().all(knows)
        })
        .await;
    }
}

struct Service {
    registry: Arc<watch::Sender<Registry>>,
    key: Vec<u8>,
}

#[tonic::async_trait]
impl RegistryService for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let RegisterRequest { uuid, address, socket, node, zone, .. } = request.into_inner();
        let mut answer = None;
        self.registry.send_modify(|registry| {
            let known = registry.uuids.iter().position(|known| *known == uuid);
            let at = known.unwrap_or_else(|| {
                registry.uuids.push(uuid);
                registry.uuids.len() - 1
            });
            let id = u32::try_from(at + 1).expect("few");
            registry.registrations += 1;
            registry.ring.epoch += 1;
            registry.ring.members.retain(|member| member.id != id);
            registry.ring.members.push(Member { id, address, socket, node, zone, weight: 1 });
            answer = Some(RegisterResponse {
                worker: id,
                epoch: registry.registrations as u64,
                grant_key: self.key.clone().into(),
                cluster: CLUSTER,
                heartbeat_ms: 20,
                ring: Some(registry.ring.clone()),
                mounts: registry.mounts.0.clone(),
                mounts_version: registry.mounts.1,
            });
        });
        Ok(Response::new(answer.expect("set")))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let beat = request.into_inner();
        let mut answer = Ok(HeartbeatResponse::default());
        self.registry.send_modify(|registry| {
            if std::mem::take(&mut registry.fence) {
                answer = Err(status::from_error(&Error::new(ErrorKind::Fenced, "register again")));
                return;
            }
            let news = beat.ring_epoch != registry.ring.epoch;
            let (mounts, mounts_version) = registry.mounts.clone();
            let mounts = if mounts_version == beat.mounts_version { Vec::new() } else { mounts };
            answer = Ok(HeartbeatResponse { ring: news.then(|| registry.ring.clone()), mounts, mounts_version });
            registry.heartbeats.retain(|other| other.worker != beat.worker);
            registry.heartbeats.push(beat.clone());
        });
        answer.map(Response::new)
    }

    async fn keep_dirty(&self, request: Request<KeepDirtyRequest>) -> Result<Response<KeepDirtyResponse>, Status> {
        let contents = request.into_inner().contents;
        let mut keep = Vec::new();
        self.registry.send_modify(|registry| {
            keep.extend(contents.into_iter().map(|content| !registry.unneeded.contains(&content.into())));
            registry.asked += 1;
        });
        let (due, mounts) = (keep.clone(), vec![0; keep.len()]);
        Ok(Response::new(KeepDirtyResponse { keep, due, mounts }))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let left = request.into_inner().worker;
        self.registry.send_modify(|registry| {
            registry.ring.epoch += 1;
            registry.ring.members.retain(|member| member.id != left);
        });
        Ok(Response::new(LeaveResponse {}))
    }
}
