//! Changes at the master.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use headpond_proto::{
    grant::GrantSigner,
    status,
    v1::{self, writing_service_server::WritingService},
};
use headpond_types::{Attr, ContentId, Error, ErrorKind, InodeId, Timestamp};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::FakeMaster;

/// Rights to write.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Inode by lease.
    held: HashMap<u64, u64>,
    lost: BTreeSet<u64>,
    /// Not held any more, and to be had back.
    forgotten: HashMap<u64, u64>,
    /// With a persist under way.
    pub(crate) prepared: BTreeSet<u64>,
    ended: Vec<u64>,
    last: u64,
    term_ms: u64,
    /// Not 0: nothing is stored, but so many workers hold it.
    pub(crate) copies: u32,
    /// What the next tries to have it stored before it is acknowledged are told.
    pub(crate) stays_later: Vec<ErrorKind>,
    /// What was committed.
    pub(crate) commits: Vec<v1::CommitRequest>,
    /// Workers that were said to have bytes staged that are to be persisted.
    pub(crate) stagers: Vec<u32>,
    pub(crate) pending: v1::PendingResponse,
    /// What was asked for.
    pub(crate) asked: Vec<v1::PendingRequest>,
}

fn refused(kind: ErrorKind) -> Status {
    status::from_error(&Error::new(kind, "refused"))
}

impl FakeMaster {
    /// All rights to write are gone.
    pub(crate) fn lose_leases(&self) {
        let mut state = self.state();
        let leases: Vec<_> = state.writing.held.drain().map(|(lease, _)| lease).collect();
        state.writing.lost.extend(leases);
    }

    /// The master is started anew and knows of no right to write.
    pub(crate) fn forget_leases(&self) {
        let mut state = self.state();
        state.writing.forgotten = std::mem::take(&mut state.writing.held);
        state.writing.prepared.clear();
    }

    fn grant_persist(&self, lease: u64) -> v1::SignedGrant {
        let mut state = self.state();
        state.writing.prepared.insert(lease);
        let (content, copies) = (ContentId(u128::from(state.position) << 64), state.writing.copies);
        let grant = v1::PersistGrant {
            lease,
            mount: 1,
            key: Bytes::from_static(if copies == 0 { b"prefix/key" } else { b"" }),
            content: Some(content.into()),
            copies,
            ..Default::default()
        };
        GrantSigner::new(&[1; 32], 1).expect("a seed").sign_persist(grant)
    }

    fn reclaim(&self, lease: u64) -> Result<Response<v1::ReclaimLeaseResponse>, Status> {
        let mut state = self.state();
        let held = state.writing.held.contains_key(&lease);
        if !held {
            let inode = state.writing.forgotten.remove(&lease).ok_or_else(|| refused(ErrorKind::Stale))?;
            state.writing.held.insert(lease, inode);
        }
        Ok(Response::new(v1::ReclaimLeaseResponse { term_ms: state.writing.term_ms.max(1), held }))
    }

    pub(crate) fn set_term(&self, term: std::time::Duration) {
        self.state().writing.term_ms = u64::try_from(term.as_millis()).expect("short");
    }

    /// Leases that were given back.
    pub(crate) fn ended(&self) -> Vec<u64> {
        self.state().writing.ended.clone()
    }

    fn changed(&self, request_id: Bytes) {
        let mut state = self.state();
        assert_eq!(request_id.len(), 16);
        state.request_ids.push(request_id);
        state.position += 1;
    }

    fn lease(&self, attr: Attr) -> Response<v1::WriteResponse> {
        let mut state = self.state();
        state.writing.last += 1;
        let id = state.writing.last;
        state.writing.held.insert(id, attr.inode.0);
        let later = u32::from(state.writing.copies > 0);
        let grant = v1::StagingGrant { lease: id, inode: attr.inode.0, later, ..Default::default() };
        let staging = GrantSigner::new(&[1; 32], 1).expect("a seed").sign_staging(grant);
        let term_ms = match state.writing.term_ms {
            0 => 30_000,
            term => term,
        };
        let lease = v1::WriteLease { id, term_ms, staging: Some(staging), persist: None };
        let (valid_ms, as_of) = (state.valid_ms, state.position);
        Response::new(v1::WriteResponse { attr: Some(attr.into()), lease: Some(lease), valid_ms, as_of, parent: None })
    }

    fn held(&self, lease: u64) -> Result<u64, Status> {
        self.state().writing.held.get(&lease).copied().ok_or_else(|| refused(ErrorKind::Stale))
    }

    fn edit(&self, inode: u64, edit: impl FnOnce(&mut Attr)) -> Result<Attr, Status> {
        let mut state = self.state();
        let attr = state.entries.values_mut().find(|attr| attr.inode.0 == inode);
        let attr = attr.ok_or_else(|| refused(ErrorKind::Stale))?;
        edit(attr);
        Ok(attr.clone())
    }
}

#[tonic::async_trait]
impl WritingService for FakeMaster {
    async fn create(&self, request: Request<v1::CreateRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("create".to_owned()).await?;
        let key = (request.parent, request.name.to_vec());
        let found = self.state().entries.get(&key).cloned();
        let attr = match found {
            Some(_) if request.exclusive => return Err(refused(ErrorKind::AlreadyExists)),
            Some(attr) => attr,
            None => {
                let inode = 1000 + self.state().position;
                let (mode, uid, gid, version) = (request.mode, request.uid, request.gid, String::new());
                let attr = Attr { mode, uid, gid, version, content: Some(ContentId(0)), ..super::file(inode, 0) };
                self.state().entries.insert(key, attr.clone());
                attr
            }
        };
        Ok(self.lease(attr))
    }

    async fn open_for_writing(
        &self,
        request: Request<v1::OpenForWritingRequest>,
    ) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("open_for_writing".to_owned()).await?;
        let attr = self.inode(request.inode)?;
        Ok(self.lease(attr))
    }

    async fn renew_leases(
        &self,
        request: Request<v1::RenewLeasesRequest>,
    ) -> Result<Response<v1::RenewLeasesResponse>, Status> {
        self.enter("renew".to_owned()).await?;
        let state = self.state();
        let leases = request.into_inner().leases.into_iter();
        let lost = leases.filter(|lease| !state.writing.held.contains_key(lease)).collect();
        Ok(Response::new(v1::RenewLeasesResponse { lost, term_ms: state.writing.term_ms.max(1) }))
    }

    async fn reclaim_lease(
        &self,
        request: Request<v1::ReclaimLeaseRequest>,
    ) -> Result<Response<v1::ReclaimLeaseResponse>, Status> {
        let staging = request.into_inner().staging.expect("a grant");
        let grant = v1::StagingGrant::decode(staging.grant).expect("a grant");
        self.reclaim(grant.lease)
    }

    async fn write_through(
        &self,
        request: Request<v1::WriteThroughRequest>,
    ) -> Result<Response<v1::WriteThroughResponse>, Status> {
        let lease = request.into_inner().lease;
        self.enter("write_through".to_owned()).await?;
        let inode = self.held(lease)?;
        let mut state = self.state();
        if let Some(kind) = state.writing.stays_later.pop() {
            return Err(refused(kind));
        }
        state.writing.copies = 0;
        let grant = v1::StagingGrant { lease, inode, ..Default::default() };
        let grant = GrantSigner::new(&[1; 32], 1).expect("a seed").sign_staging(grant);
        Ok(Response::new(v1::WriteThroughResponse { grant: Some(grant) }))
    }

    async fn prepare_upload(
        &self,
        request: Request<v1::PrepareUploadRequest>,
    ) -> Result<Response<v1::PrepareUploadResponse>, Status> {
        let lease = request.into_inner().lease;
        self.enter("prepare_upload".to_owned()).await?;
        self.held(lease)?;
        let grant = v1::UploadGrant { lease, mount: 1, key: Bytes::from_static(b"prefix/key"), ..Default::default() };
        let grant = GrantSigner::new(&[1; 32], 1).expect("a seed").sign_upload(grant);
        Ok(Response::new(v1::PrepareUploadResponse { grant: Some(grant) }))
    }

    async fn prepare_persist(
        &self,
        request: Request<v1::PreparePersistRequest>,
    ) -> Result<Response<v1::PreparePersistResponse>, Status> {
        let v1::PreparePersistRequest { lease, worker } = request.into_inner();
        self.enter("prepare".to_owned()).await?;
        self.held(lease)?;
        self.state().writing.stagers.push(worker);
        let grant = self.grant_persist(lease);
        Ok(Response::new(v1::PreparePersistResponse { grant: Some(grant) }))
    }

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let request = request.into_inner();
        let copies = self.state().writing.copies;
        assert_eq!(request.key, if copies == 0 { "prefix/key" } else { "" });
        self.changed(request.request_id.clone());
        self.enter("commit".to_owned()).await?;
        let inode = self.held(request.lease)?;
        if !self.state().writing.prepared.remove(&request.lease) {
            return Err(refused(ErrorKind::Stale));
        }
        self.state().writing.commits.push(request.clone());
        let attr = self.edit(inode, |attr| {
            attr.content = request.content.map(Into::into);
            attr.size = request.size;
            attr.mtime = Timestamp(request.mtime_ns);
            attr.dirty = copies > 0;
            if copies == 0 {
                attr.version = request.version;
            }
        })?;
        self.state().position += 1;
        let v1::LookupResponse { attr, valid_ms, as_of } = self.answer(Some(attr)).into_inner();
        let persist = (request.goes_on && copies == 1).then(|| self.grant_persist(request.lease));
        Ok(Response::new(v1::CommitResponse { attr, valid_ms, as_of, persist }))
    }

    async fn end_writing(
        &self,
        request: Request<v1::EndWritingRequest>,
    ) -> Result<Response<v1::EndWritingResponse>, Status> {
        let leases = request.into_inner().leases;
        self.enter("end_writing".to_owned()).await?;
        let mut state = self.state();
        for lease in leases {
            state.writing.held.remove(&lease);
            state.writing.ended.push(lease);
        }
        Ok(Response::new(v1::EndWritingResponse {}))
    }

    async fn make_directory(
        &self,
        request: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::MadeResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("mkdir".to_owned()).await?;
        let attr = super::directory(1000 + self.state().position);
        self.state().entries.insert((request.parent, request.name.to_vec()), attr.clone());
        Ok(self.made(attr))
    }

    async fn make_node(&self, request: Request<v1::MakeNodeRequest>) -> Result<Response<v1::MadeResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id.clone());
        self.enter("make_node".to_owned()).await?;
        let kind = headpond_proto::file_kind(request.kind(), request.device)?;
        let attr = Attr { kind, ..super::directory(1000 + self.state().position) };
        let mut state = self.state();
        state.entries.insert((request.parent, request.name.to_vec()), attr.clone());
        state.targets.insert(attr.inode.0, request.target);
        drop(state);
        Ok(self.made(attr))
    }

    async fn set_xattr(&self, request: Request<v1::SetXattrRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("set_xattr".to_owned()).await?;
        let key = (request.inode, request.name);
        match request.value {
            Some(value) => self.state().xattrs.insert(key, value),
            None => self.state().xattrs.remove(&key),
        };
        let has_xattrs = self.state().xattrs.keys().any(|(inode, _)| *inode == request.inode);
        let attr = self.edit(request.inode, |attr| attr.has_xattrs = has_xattrs)?;
        Ok(self.answer(Some(attr)))
    }

    async fn link(&self, request: Request<v1::LinkRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("link".to_owned()).await?;
        let attr = self.edit(request.inode, |attr| attr.nlink += 1)?;
        self.state().entries.insert((request.parent, request.name.to_vec()), attr.clone());
        Ok(self.answer(Some(attr)))
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        let call = if request.recursive && request.directory { "tree" } else { "remove" };
        self.enter(call.to_owned()).await?;
        let mut state = self.state();
        let removed = state.entries.remove(&(request.parent, request.name.to_vec()));
        let removed = removed.ok_or_else(|| refused(ErrorKind::NotFound))?;
        let InodeId(inode) = removed.inode;
        let links = state.entries.values().filter(|attr| attr.inode.0 == inode).count();
        if links == 0 {
            state.writing.held.retain(|_, held| *held != inode);
        }
        let links = u32::try_from(links).expect("few");
        Ok(Response::new(v1::RemoveResponse { as_of: state.position, links, ..v1::RemoveResponse::default() }))
    }

    async fn rename(&self, request: Request<v1::RenameRequest>) -> Result<Response<v1::RenameResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("rename".to_owned()).await?;
        let mut state = self.state();
        let moved = state.entries.remove(&(request.from_parent, request.from_name.to_vec()));
        let moved = moved.ok_or_else(|| refused(ErrorKind::NotFound))?;
        state.entries.insert((request.to_parent, request.to_name.to_vec()), moved);
        Ok(Response::new(v1::RenameResponse { as_of: state.position, ..v1::RenameResponse::default() }))
    }

    async fn set_attr(&self, request: Request<v1::SetAttrRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.changed(request.request_id);
        self.enter("setattr".to_owned()).await?;
        let attr = self.edit(request.inode, |attr| {
            attr.mode = request.mode.unwrap_or(attr.mode);
            attr.uid = request.uid.unwrap_or(attr.uid);
            attr.gid = request.gid.unwrap_or(attr.gid);
            attr.mtime = request.mtime_ns.map_or(attr.mtime, Timestamp);
            attr.atime = request.atime_ns.map(Timestamp).or(attr.atime);
        })?;
        self.state().position += 1;
        let answer = self.answer(Some(attr));
        let _ = self.holding_back.subscribe().wait_for(|holding_back| !holding_back).await;
        Ok(answer)
    }

    async fn persist_path(
        &self,
        request: Request<v1::PersistPathRequest>,
    ) -> Result<Response<v1::PersistPathResponse>, Status> {
        self.enter(format!("persist_path {}", String::from_utf8_lossy(&request.into_inner().path))).await?;
        Ok(Response::new(v1::PersistPathResponse { files: 3 }))
    }

    async fn pending(&self, request: Request<v1::PendingRequest>) -> Result<Response<v1::PendingResponse>, Status> {
        self.enter("pending".to_owned()).await?;
        let mut state = self.state();
        state.writing.asked.push(request.into_inner());
        Ok(Response::new(state.writing.pending.clone()))
    }
}
