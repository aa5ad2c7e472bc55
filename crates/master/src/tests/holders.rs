//! Workers that hold dirty contents, and what clients do with them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use headpond_namespace::{Command, Due, Durability, Persistence, Reply};
use headpond_proto::{
    grant::GrantVerifier,
    status,
    v1::{
        self, AccountRequest, AccountResponse, EndStagingRequest, EndStagingResponse, PersistDirtyRequest,
        PersistGrant, PersistRequest, PersistResponse, ReadStagedRequest, ReadStagedResponse, ReserveRequest,
        ReserveResponse, ResizeStagedRequest, ResizeStagedResponse, SettleDirtyRequest, SettleDirtyResponse,
        StageRequest, StageResponse, UploadRequest, UploadResponse,
        staging_service_server::{StagingService, StagingServiceServer},
    },
};
use headpond_types::{ContentId, Error, ErrorKind, InodeId, Member, Result, Timestamp, WorkerId};
use headpond_ufs::{Key, ObjectMeta, Precondition, UfsErrorKind, UnderStore};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::{INTERVAL, Rig, writing::request};
use crate::{
    lookup::Answer,
    write::{Opened, PATIENCE, Persisted},
};

/// Who looks at the store after each put.
type Observer = Box<dyn Fn() -> futures::future::BoxFuture<'static, ()> + Send + Sync>;

/// A worker as the persister sees it, over gRPC.
#[derive(Clone)]
pub(super) struct Holder(Arc<State>);

struct State {
    id: OnceLock<WorkerId>,
    address: SocketAddr,
    store: headpond_ufs::Faulty,
    verifier: OnceLock<GrantVerifier>,
    contents: Mutex<HashMap<ContentId, Bytes>>,
    /// Keys that were put, in order.
    puts: Mutex<Vec<String>>,
    chance: Mutex<Chance>,
    /// Nothing is put while it is closed.
    open: watch::Sender<bool>,
    observer: OnceLock<Observer>,
}

struct Chance {
    random: StdRng,
    /// How likely it is that a call fails, before or after it has done something.
    failure: f64,
    longest: Duration,
}

impl Holder {
    async fn start(rig: &Rig, uuid: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let holder = Self(Arc::new(State {
            id: OnceLock::new(),
            address: listener.local_addr().expect("bound"),
            store: rig.store.clone(),
            verifier: OnceLock::new(),
            contents: Mutex::default(),
            puts: Mutex::default(),
            chance: Mutex::new(Chance { random: StdRng::seed_from_u64(0), failure: 0.0, longest: Duration::ZERO }),
            open: watch::Sender::new(true),
            observer: OnceLock::new(),
        }));
        let service = StagingServiceServer::new(holder.clone());
        let served = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        rig.tasks_of_tests.spawn(async move {
            let _ = served.await;
        });
        holder.register(rig, uuid).await;
        holder
    }

    /// Puts it into the ring.
    pub(super) async fn register(&self, rig: &Rig, uuid: &str) {
        let core = &rig.master.core;
        let registered = core.catalog.propose(Command::RegisterWorker { uuid: uuid.to_owned() }).await;
        let Ok(Reply::Worker(id)) = registered else { panic!("{registered:?}") };
        let _ = self.0.id.set(id);
        let _ = self.0.verifier.set(GrantVerifier::new(core.grants.public_key(), core.cluster));
        let member = Member {
            id,
            address: self.0.address.to_string(),
            socket: String::new(),
            node: uuid.to_owned(),
            zone: String::new(),
            weight: 1,
        };
        core.workers.register(member, 1 << 30);
    }

    pub(super) fn id(&self) -> WorkerId {
        *self.0.id.get().expect("registered")
    }

    pub(super) fn hold(&self, content: ContentId, body: &str) {
        self.0.contents.lock().expect("not poisoned").insert(content, Bytes::copy_from_slice(body.as_bytes()));
    }

    pub(super) fn lose(&self, content: ContentId) {
        self.0.contents.lock().expect("not poisoned").remove(&content);
    }

    /// Lets nothing be put until [`Holder::open`].
    pub(super) fn close(&self) {
        self.0.open.send_replace(false);
    }

    pub(super) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// From now on calls fail with the probability `failure`, and take up to `longest`.
    pub(super) fn be_unreliable(&self, seed: u64, failure: f64, longest: Duration) {
        *self.0.chance.lock().expect("not poisoned") = Chance { random: StdRng::seed_from_u64(seed), failure, longest };
    }

    pub(super) fn observe(&self, observer: Observer) {
        assert!(self.0.observer.set(observer).is_ok(), "one observer");
    }

    pub(super) fn puts(&self) -> Vec<String> {
        self.0.puts.lock().expect("not poisoned").clone()
    }

    fn draw(&self) -> (Duration, bool, bool) {
        let mut chance = self.0.chance.lock().expect("not poisoned");
        let pause = chance.longest.mul_f64(chance.random.random_range(0.0..1.0));
        let failure = chance.failure;
        (pause, chance.random.random_bool(failure / 2.0), chance.random.random_bool(failure / 2.0))
    }

    async fn put(&self, grant: &PersistGrant) -> Result<ObjectMeta> {
        let content = ContentId::from(grant.content.expect("set"));
        let held = self.0.contents.lock().expect("not poisoned").get(&content).cloned();
        let body = held.ok_or_else(|| Error::new(ErrorKind::NotFound, "the worker does not hold it"))?;
        let key = Key(grant.key.clone());
        let mut condition = grant.replaces.clone().map_or(Precondition::Absent, Precondition::Matches);
        loop {
            match self.0.store.put_as(&key, body.clone(), &condition, Some(content).into()).await {
                Ok(meta) => return Ok(meta),
                Err(error) if matches!(error.kind(), UfsErrorKind::Precondition | UfsErrorKind::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            let there = self.0.store.head(&key).await.ok();
            let ours = |found: &ContentId| grant.earlier.iter().any(|other| ContentId::from(*other) == *found);
            match there.and_then(|meta| meta.content.map(|found| (found, meta))) {
                Some((found, meta)) if found == content => return Ok(meta),
                Some((found, meta)) if ours(&found) => condition = Precondition::Matches(meta.version),
                _ => return Err(Error::new(ErrorKind::Stale, "another version is there")),
            }
        }
    }

    async fn persist_dirty(&self, request: PersistDirtyRequest) -> Result<PersistResponse> {
        let verifier = self.0.verifier.get().expect("registered");
        let grant = verifier.verify_persist(&request.grant.unwrap_or_default(), Timestamp(0))?;
        assert_eq!(grant.lease, 0);
        let mut open = self.0.open.subscribe();
        open.wait_for(|open| *open).await.expect("the worker lives");
        let (pause, before, after) = self.draw();
        tokio::time::sleep(pause).await;
        if before {
            return Err(Error::new(ErrorKind::Unavailable, "a failure that is meant"));
        }
        let meta = self.put(&grant).await?;
        self.0.puts.lock().expect("not poisoned").push(String::from_utf8_lossy(&grant.key).into_owned());
        if let Some(observer) = self.0.observer.get() {
            observer().await;
        }
        if after {
            return Err(Error::new(ErrorKind::Unavailable, "an answer that is lost"));
        }
        let (size, mtime_ns, version) = (meta.size, meta.mtime.0, meta.version);
        Ok(PersistResponse { size, mtime_ns, version, ..PersistResponse::default() })
    }
}

macro_rules! not_here {
    ($($name:ident($asked:ty) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl StagingService for Holder {
            $(async fn $name(&self, _: Request<$asked>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented("nothing is staged here"))
            })*

            async fn settle_dirty(
                &self,
                _: Request<SettleDirtyRequest>,
            ) -> Result<Response<SettleDirtyResponse>, Status> {
                Ok(Response::new(SettleDirtyResponse {}))
            }

            async fn account(&self, request: Request<AccountRequest>) -> Result<Response<AccountResponse>, Status> {
                let asked = request.into_inner();
                let contents = self.0.contents.lock().expect("not poisoned");
                let held = asked.contents.into_iter().map(|content| contents.contains_key(&ContentId::from(content)));
                let (held, given_up) = (held.collect(), v1::UploadState::GivenUp.into());
                // What is called so in tests.
                let uploads = asked.uploads.iter().map(|mark| if mark.key == "left" { given_up } else { 0 });
                Ok(Response::new(AccountResponse { held, uploads: uploads.collect() }))
            }

            async fn persist_dirty(
                &self,
                request: Request<PersistDirtyRequest>,
            ) -> Result<Response<PersistResponse>, Status> {
                let done = Holder::persist_dirty(self, request.into_inner()).await;
                done.map(Response::new).map_err(|error| status::from_error(&error))
            }
        }
    };
}

not_here! {
    stage(StageRequest) -> StageResponse;
    read_staged(ReadStagedRequest) -> ReadStagedResponse;
    reserve(ReserveRequest) -> ReserveResponse;
    resize_staged(ResizeStagedRequest) -> ResizeStagedResponse;
    upload(UploadRequest) -> UploadResponse;
    persist(PersistRequest) -> PersistResponse;
    end_staging(EndStagingRequest) -> EndStagingResponse;
}

/// What tests of persisting say of their mount.
pub(super) fn persistence(durability: Durability) -> Persistence {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    Persistence {
        durability,
        rules: Vec::new(),
        commit_patterns: texts(&["_SUCCESS", "_log/*"]),
        temporary_patterns: texts(&["_temporary"]),
        copies: 1,
        strict_copies: false,
    }
}

/// A rig with one worker that holds what is written.
pub(super) struct Bed {
    pub(super) rig: Rig,
    pub(super) holder: Holder,
}

impl std::ops::Deref for Bed {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl Bed {
    pub(super) async fn new(durability: Durability, keys: &[&str]) -> Self {
        Self::with(persistence(durability), keys).await
    }

    pub(super) async fn with(persistence: Persistence, keys: &[&str]) -> Self {
        Self::over(persistence, keys, |store| store).await
    }

    /// With a store as `around` makes it of one in memory.
    pub(super) async fn over(
        persistence: Persistence,
        keys: &[&str],
        around: impl FnOnce(Arc<dyn UnderStore>) -> Arc<dyn UnderStore>,
    ) -> Self {
        let rig = Rig::with_mount(Some(INTERVAL), keys, around, |mount| {
            mount.read_only = false;
            mount.persistence = persistence;
        })
        .await;
        let holder = Holder::start(&rig, "w1").await;
        Self { rig, holder }
    }

    /// A master after this one, with the worker that there is.
    pub(super) async fn restart(self) -> Self {
        let Self { rig, holder } = self;
        let rig = rig.restart(Some(INTERVAL)).await;
        holder.register(&rig, "w1").await;
        Self { rig, holder }
    }

    /// The grant for the staged bytes of a lease.
    pub(super) async fn copies_grant(&self, lease: u64) -> Result<PersistGrant> {
        let core = &self.master.core;
        let signed = self.writing().prepare(lease, Some(self.holder.id()), PATIENCE).await?;
        let verifier = GrantVerifier::new(core.grants.public_key(), core.cluster);
        Ok(verifier.verify_persist(&signed, core.clock.now()).expect("signed by this master"))
    }

    pub(super) async fn commit_held(&self, grant: &PersistGrant, body: &str) -> Result<Answer> {
        let content = ContentId::from(grant.content.expect("set"));
        assert!(grant.key.is_empty() && grant.copies >= 1);
        self.holder.hold(content, body);
        let persisted = Persisted {
            content,
            key: Vec::new(),
            size: body.len() as u64,
            mtime: Timestamp(5),
            version: String::new(),
            holders: vec![self.holder.id()],
        };
        self.writing().commit(grant.lease, persisted, request()).await
    }

    /// Closes a file that was opened for writing.
    pub(super) async fn close(&self, opened: Opened, body: &str) -> Result<(InodeId, ContentId)> {
        let lease = opened.lease.expect("a file");
        let grant = self.copies_grant(lease).await?;
        let answer = self.commit_held(&grant, body).await?;
        self.writing().end(lease).await?;
        Ok((answer.attr.expect("is there").inode, grant.content.expect("set").into()))
    }

    /// Writes a file from open to close.
    pub(super) async fn hold(&self, path: &str, body: &str) -> (InodeId, ContentId) {
        let opened = self.create(path).await.expect("opened");
        self.close(opened, body).await.expect("committed")
    }

    /// Whether nothing is due.
    pub(super) fn is_persisted(&self) -> bool {
        self.master.core.backlog.amounts().0.items == 0
    }

    /// Waits until nothing is due any more, and no object is to be moved.
    pub(super) async fn persisted(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        let core = &self.master.core;
        let mut moved = core.backlog.watch();
        while !self.is_persisted() || core.relocator.pending() > 0 {
            if Instant::now() >= until {
                let problems = core.persister.list_problems();
                let rows = core.catalog.snapshot().and_then(|snapshot| snapshot.all_dirty((0, InodeId(0)), 20));
                let relocations = core.catalog.snapshot().and_then(|snapshot| snapshot.relocations());
                panic!("not persisted: {problems:?} {rows:#?} {relocations:#?} {:?}", core.relocator.problems());
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), moved.changed()).await;
        }
    }

    /// The number and the time of what is dirty of an inode.
    pub(super) fn due(&self, inode: InodeId) -> Option<Due> {
        let dirty = self.master.core.catalog.snapshot().and_then(|snapshot| snapshot.dirty(inode));
        dirty.expect("reads").map(|dirty| dirty.due)
    }
}
