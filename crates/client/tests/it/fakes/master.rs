//! A master whose namespace is a map.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use headpond_proto::{
    failure,
    grant::GrantSigner,
    status,
    v1::{self, admin_service_server::AdminService, master_service_server::MasterService},
};
use headpond_types::{Attr, Error, ErrorKind, InodeId, NsPath};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status, Streaming};

/// A master that a test tells what to answer.
#[derive(Clone)]
pub(crate) struct FakeMaster {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Option<v1::WatchEvent>>,
    hanging: watch::Sender<bool>,
    /// Changes of attributes are made, and answered only when this is over.
    pub(crate) holding_back: watch::Sender<bool>,
    /// What clients said in their sessions.
    pub(crate) said: watch::Sender<Vec<v1::WatchRequest>>,
}

pub(crate) struct State {
    pub(crate) entries: BTreeMap<(u64, Vec<u8>), Attr>,
    pub(crate) replacements: HashMap<u64, Option<Attr>>,
    pub(crate) valid_ms: u64,
    /// Position in the journal: grows with every change that is told.
    pub(crate) position: u64,
    pub(crate) grant_valid_ms: u64,
    pub(crate) ring: v1::Ring,
    pub(crate) watchable: bool,
    /// Names that the master hears of, and tells its sessions of, when they are asked for.
    pub(crate) undiscovered: BTreeMap<(u64, Vec<u8>), Attr>,
    /// Names that a batch does not answer.
    pub(crate) due: BTreeSet<(u64, Vec<u8>)>,
    pub(crate) batches_fail: bool,
    /// Answers that fail before the next succeed.
    pub(crate) failures: Vec<ErrorKind>,
    /// Calls in order.
    pub(crate) calls: Vec<String>,
    pub(crate) request_ids: Vec<Bytes>,
    pub(crate) xattrs: BTreeMap<(u64, Bytes), Bytes>,
    /// Targets of symbolic links.
    pub(crate) targets: HashMap<u64, Bytes>,
    pub(crate) problems: Vec<v1::Problem>,
    pub(crate) writing: super::writing::Leases,
}

impl FakeMaster {
    pub(crate) fn new() -> Self {
        let state = State {
            entries: BTreeMap::new(),
            replacements: HashMap::new(),
            valid_ms: 30_000,
            position: 1,
            grant_valid_ms: 3_600_000,
            ring: v1::Ring::default(),
            watchable: true,
            undiscovered: BTreeMap::new(),
            due: BTreeSet::new(),
            batches_fail: false,
            failures: Vec::new(),
            calls: Vec::new(),
            request_ids: Vec::new(),
            xattrs: BTreeMap::new(),
            targets: HashMap::new(),
            problems: Vec::new(),
            writing: super::writing::Leases::default(),
        };
        let events = broadcast::channel(16).0;
        Self {
            state: Arc::new(Mutex::new(state)),
            events,
            hanging: watch::Sender::new(false),
            holding_back: watch::Sender::new(false),
            said: watch::Sender::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked in it")
    }

    pub(crate) fn put(&self, parent: u64, name: &str, attr: Attr) {
        self.state().entries.insert((parent, name.as_bytes().to_vec()), attr);
    }

    /// How often a method was called.
    pub(crate) fn calls(&self, method: &str) -> usize {
        self.state().calls.iter().filter(|call| call.starts_with(method)).count()
    }

    pub(crate) fn send(&self, event: v1::watch_event::Event) {
        self.events.send(Some(v1::WatchEvent { event: Some(event) })).expect("a session");
    }

    pub(crate) fn invalidate(&self, parent: u64, name: &str, inode: u64) {
        let entries =
            vec![v1::InvalidatedEntry { parent, name: Bytes::copy_from_slice(name.as_bytes()), inode, same: false }];
        let as_of = {
            let mut state = self.state();
            state.position += 1;
            state.position
        };
        self.send(v1::watch_event::Event::Invalidation(v1::Invalidation { entries, as_of, ..Default::default() }));
    }

    /// Ends all sessions with an error.
    pub(crate) fn break_sessions(&self) {
        let _ = self.events.send(None);
    }

    /// Waits until no client has a session.
    pub(crate) async fn without_sessions(&self) {
        while self.events.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn hang(&self, hanging: bool) {
        self.hanging.send_replace(hanging);
    }

    pub(super) async fn enter(&self, call: String) -> Result<(), Status> {
        self.state().calls.push(call);
        let _ = self.hanging.subscribe().wait_for(|hanging| !hanging).await;
        match self.state().failures.pop() {
            Some(kind) => Err(status::from_error(&Error::new(kind, "told to fail"))),
            None => Ok(()),
        }
    }

    pub(super) fn made(&self, attr: Attr) -> Response<v1::MadeResponse> {
        let v1::LookupResponse { attr, valid_ms, as_of } = self.answer(Some(attr)).into_inner();
        Response::new(v1::MadeResponse { attr, valid_ms, as_of, ..v1::MadeResponse::default() })
    }

    pub(super) fn answer(&self, attr: Option<Attr>) -> Response<v1::LookupResponse> {
        let state = self.state();
        let (valid_ms, as_of) = (state.valid_ms, state.position);
        Response::new(v1::LookupResponse { attr: attr.map(Into::into), valid_ms, as_of })
    }

    pub(super) fn inode(&self, inode: u64) -> Result<Attr, Status> {
        let found = if inode == 1 { Some(super::directory(1)) } else { None };
        let found = found.or_else(|| self.state().entries.values().find(|attr| attr.inode == InodeId(inode)).cloned());
        found.ok_or_else(|| status::from_error(&Error::new(ErrorKind::Stale, "the inode is gone")))
    }

    fn discover(&self, parent: u64, name: &[u8]) {
        let discovered = self.state().undiscovered.remove_entry(&(parent, name.to_vec()));
        if let Some((key, attr)) = discovered {
            self.state().entries.insert(key, attr);
            self.invalidate(parent, str::from_utf8(name).expect("tests use text"), 0);
        }
    }

    /// With `refresh` what changed behind our back becomes known.
    fn refresh(&self, refresh: bool) {
        let mut state = self.state();
        if refresh {
            for (old, new) in std::mem::take(&mut state.replacements) {
                let found = state.entries.iter().find(|(_, attr)| attr.inode == InodeId(old));
                let key = found.map(|(key, _)| key.clone()).expect("it is there");
                match new {
                    Some(new) => state.entries.insert(key, new),
                    None => state.entries.remove(&key),
                };
            }
        }
    }
}

#[tonic::async_trait]
impl MasterService for FakeMaster {
    type ListStream = BoxStream<'static, Result<v1::ListResponse, Status>>;
    type WatchStream = BoxStream<'static, Result<v1::WatchEvent, Status>>;

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.enter(format!("resolve refresh={}", request.refresh)).await?;
        self.refresh(request.refresh);
        let path = NsPath::parse(&request.path).expect("a path");
        let mut found = Some(super::directory(1));
        for name in path.names() {
            let parent = found.expect("a directory").inode.0;
            found = self.state().entries.get(&(parent, name.as_bytes().to_vec())).cloned();
        }
        Ok(self.answer(found))
    }

    async fn lookup(&self, request: Request<v1::LookupRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.enter(format!("lookup refresh={}", request.refresh)).await?;
        self.refresh(request.refresh);
        self.discover(request.parent, &request.name);
        let found = self.state().entries.get(&(request.parent, request.name.to_vec())).cloned();
        Ok(self.answer(found))
    }

    async fn batch_lookup(
        &self,
        request: Request<v1::BatchLookupRequest>,
    ) -> Result<Response<v1::BatchLookupResponse>, Status> {
        let lookups = request.into_inner().lookups;
        self.enter(format!("batch {}", lookups.len())).await?;
        if self.state().batches_fail {
            return Err(Status::internal("told to fail"));
        }
        let answer = |lookup: v1::LookupRequest| {
            let key = (lookup.parent, lookup.name.to_vec());
            if self.state().due.contains(&key) {
                return v1::lookup_result::Result::Due(true);
            }
            let found = self.state().entries.get(&key).cloned();
            v1::lookup_result::Result::Found(self.answer(found).into_inner())
        };
        let results = lookups.into_iter().map(|lookup| v1::LookupResult { result: Some(answer(lookup)) }).collect();
        Ok(Response::new(v1::BatchLookupResponse { results }))
    }

    async fn get_attr(&self, request: Request<v1::GetAttrRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.enter(format!("getattr refresh={}", request.refresh)).await?;
        self.refresh(request.refresh);
        Ok(self.answer(Some(self.inode(request.inode)?)))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        self.enter(format!("list recursive={}", request.recursive)).await?;
        let directory = self.inode(if request.inode == 0 { 1 } else { request.inode })?;
        let state = self.state();
        let entries = state.entries.iter().filter(|((parent, _), _)| *parent == directory.inode.0);
        let pages: Vec<_> = entries
            .map(|((_, name), attr)| {
                let entry = v1::Entry { name: Bytes::copy_from_slice(name), attr: Some(attr.clone().into()) };
                Ok(v1::ListResponse {
                    entries: vec![entry],
                    valid_ms: state.valid_ms,
                    skipped: 0,
                    directory: Some(directory.clone().into()),
                    as_of: state.position,
                })
            })
            .collect();
        Ok(Response::new(futures::stream::iter(pages).boxed()))
    }

    async fn open(&self, request: Request<v1::OpenRequest>) -> Result<Response<v1::OpenResponse>, Status> {
        let request = request.into_inner();
        self.enter(format!("open refresh={}", request.refresh)).await?;
        self.refresh(request.refresh);
        let attr = self.inode(request.inode)?;
        let grant = v1::ContentGrant {
            content: attr.content.map(Into::into),
            length: attr.size,
            mount: 1,
            version: attr.version.clone(),
            ..Default::default()
        };
        let signer = GrantSigner::new(&[1; 32], 1).expect("a seed");
        let state = self.state();
        Ok(Response::new(v1::OpenResponse {
            grant: attr.content.is_some().then(|| signer.sign(grant)),
            attr: Some(attr.into()),
            valid_ms: state.valid_ms,
            grant_valid_ms: state.grant_valid_ms,
            as_of: state.position,
        }))
    }

    async fn batch_open(
        &self,
        request: Request<v1::BatchOpenRequest>,
    ) -> Result<Response<v1::BatchOpenResponse>, Status> {
        let mut results = Vec::new();
        for open in request.into_inner().opens {
            let result = match self.open(Request::new(open)).await {
                Ok(opened) => v1::open_result::Result::Opened(opened.into_inner()),
                Err(status) => v1::open_result::Result::Failure(failure(&status::to_error(&status, "open"))),
            };
            results.push(v1::OpenResult { result: Some(result) });
        }
        Ok(Response::new(v1::BatchOpenResponse { results }))
    }

    async fn read_link(&self, request: Request<v1::ReadLinkRequest>) -> Result<Response<v1::ReadLinkResponse>, Status> {
        self.enter("read_link".to_owned()).await?;
        let target = self.state().targets.get(&request.into_inner().inode).cloned();
        let target = target.ok_or_else(|| status::from_error(&Error::new(ErrorKind::InvalidArgument, "no link")))?;
        Ok(Response::new(v1::ReadLinkResponse { target }))
    }

    async fn get_xattrs(
        &self,
        request: Request<v1::GetXattrsRequest>,
    ) -> Result<Response<v1::GetXattrsResponse>, Status> {
        self.enter("get_xattrs".to_owned()).await?;
        let inode = request.into_inner().inode;
        let state = self.state();
        let xattrs = state.xattrs.iter().filter(|((of, _), _)| *of == inode);
        let xattrs = xattrs.map(|((_, name), value)| v1::Xattr { name: name.clone(), value: value.clone() }).collect();
        Ok(Response::new(v1::GetXattrsResponse { xattrs }))
    }

    async fn stat_fs(&self, _: Request<v1::StatFsRequest>) -> Result<Response<v1::StatFsResponse>, Status> {
        self.enter("statfs".to_owned()).await?;
        Ok(Response::new(v1::StatFsResponse { inodes: 1, bytes: 2, cache_capacity: 3, cache_used: 4 }))
    }

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !self.state().watchable {
            return Err(Status::unavailable("told not to be watchable"));
        }
        let heard = self.said.clone();
        let listening = request.into_inner().filter_map(move |words| {
            let leaves = words.as_ref().is_ok_and(|words| words.leave);
            heard.send_modify(|heard| heard.extend(words));
            std::future::ready(leaves.then(|| Err(Status::unavailable("it leaves"))))
        });
        let events = BroadcastStream::new(self.events.subscribe());
        let ring = v1::WatchEvent { event: Some(v1::watch_event::Event::Ring(self.state().ring.clone())) };
        let events = events.map(|event| event.ok().flatten().ok_or_else(|| Status::unavailable("told to break")));
        let events = futures::stream::select(events, listening);
        Ok(Response::new(futures::stream::iter([Ok(ring)]).chain(events).boxed()))
    }
}

#[tonic::async_trait]
impl AdminService for FakeMaster {
    type CheckStream = BoxStream<'static, Result<v1::CheckResponse, Status>>;

    async fn check(&self, _: Request<v1::CheckRequest>) -> Result<Response<Self::CheckStream>, Status> {
        Err(Status::unimplemented("check"))
    }

    async fn list_mounts(&self, _: Request<v1::ListMountsRequest>) -> Result<Response<v1::ListMountsResponse>, Status> {
        Err(Status::unimplemented("list_mounts"))
    }

    async fn add_mount(&self, request: Request<v1::AddMountRequest>) -> Result<Response<v1::AddMountResponse>, Status> {
        let request = request.into_inner();
        self.state().request_ids.push(request.request_id);
        self.enter("add_mount".to_owned()).await?;
        Ok(Response::new(v1::AddMountResponse { mount: request.mount }))
    }

    async fn remove_mount(
        &self,
        _: Request<v1::RemoveMountRequest>,
    ) -> Result<Response<v1::RemoveMountResponse>, Status> {
        Err(Status::unimplemented("remove_mount"))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        Err(Status::unimplemented("list_workers"))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Err(Status::unimplemented("status"))
    }

    async fn list_problems(
        &self,
        _: Request<v1::ListProblemsRequest>,
    ) -> Result<Response<v1::ListProblemsResponse>, Status> {
        self.enter("list_problems".to_owned()).await?;
        Ok(Response::new(v1::ListProblemsResponse { problems: self.state().problems.clone() }))
    }

    async fn resolve_problem(
        &self,
        request: Request<v1::ResolveProblemRequest>,
    ) -> Result<Response<v1::ResolveProblemResponse>, Status> {
        let request = request.into_inner();
        let resolution = request.resolution();
        self.state().request_ids.push(request.request_id);
        self.enter(format!("resolve {resolution:?}")).await?;
        let diverted = if resolution == v1::Resolution::Divert { "/f-beside" } else { "" };
        Ok(Response::new(v1::ResolveProblemResponse { diverted: diverted.into() }))
    }

    async fn probe(&self, _: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        Err(Status::unimplemented("probe"))
    }
}
