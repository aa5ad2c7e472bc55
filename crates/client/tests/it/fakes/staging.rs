//! Staged files of a worker.

use std::{collections::HashMap, fs, path::PathBuf};

use bytes::Bytes;
use headpond_proto::{
    status,
    v1::{self, staging_service_server::StagingService},
};
use headpond_types::{ContentId, Error, ErrorKind};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::FakeWorker;

/// What a worker has of files that are being written.
#[derive(Debug)]
pub(crate) struct Staging {
    /// Where the socket of the same worker puts staged files.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) files: HashMap<u64, Vec<u8>>,
    /// Objects in the order in which they were stored.
    pub(crate) stored: Vec<Vec<u8>>,
    /// What is in the way of storing, for the next attempts.
    pub(crate) failures: Vec<ErrorKind>,
    /// How the next writes fail, after half of it was done.
    pub(crate) cut: Vec<ErrorKind>,
    /// Leases whose staged files were ended, and what they were adopted as.
    pub(crate) ended: Vec<(u64, Option<ContentId>)>,
    pub(crate) calls: Vec<&'static str>,
    /// Lease, round and end of what was to be sent ahead.
    pub(crate) uploads: Vec<(u64, u64, u64)>,
    pub(crate) refuses_uploads: bool,
    /// The room that was asked for, and whether that was asked before.
    pub(crate) reserved: Vec<(u64, bool)>,
    /// Room that is given ahead, and what the next questions for some are told.
    pub(crate) ahead: u64,
    pub(crate) full: Vec<ErrorKind>,
    /// The most that a file that is bounded may have; none with 0.
    pub(crate) most: u64,
    /// For each attempt to store whether the file was being closed, and the lease of the right to stage that came along.
    pub(crate) orders: Vec<(bool, Option<u64>)>,
    /// What each attempt to store ended.
    pub(crate) rounds: Vec<u64>,
    /// The lengths of the heads that each attempt to store told.
    pub(crate) heads: Vec<Vec<u64>>,
    /// Storing waits while it is false.
    pub(crate) flowing: tokio::sync::watch::Sender<bool>,
}

impl Default for Staging {
    fn default() -> Self {
        Self {
            directory: None,
            files: HashMap::new(),
            stored: Vec::new(),
            failures: Vec::new(),
            cut: Vec::new(),
            ended: Vec::new(),
            calls: Vec::new(),
            uploads: Vec::new(),
            refuses_uploads: false,
            reserved: Vec::new(),
            ahead: 0,
            full: Vec::new(),
            most: 0,
            orders: Vec::new(),
            rounds: Vec::new(),
            heads: Vec::new(),
            flowing: tokio::sync::watch::Sender::new(true),
        }
    }
}

fn lease(grant: Option<v1::SignedGrant>) -> u64 {
    v1::StagingGrant::decode(grant.expect("a grant").grant).expect("a grant").lease
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("small")
}

impl FakeWorker {
    fn staged(&self, call: &'static str, lease: u64, continues: bool) -> Result<(), Status> {
        let mut state = self.state();
        state.staging.calls.push(call);
        if continues && !state.staging.files.contains_key(&lease) {
            return Err(status::from_error(&Error::new(ErrorKind::Stale, "nothing is staged")));
        }
        state.staging.files.entry(lease).or_default();
        Ok(())
    }
}

#[tonic::async_trait]
impl StagingService for FakeWorker {
    async fn account(&self, _: Request<v1::AccountRequest>) -> Result<Response<v1::AccountResponse>, Status> {
        Err(Status::unimplemented("account"))
    }

    async fn stage(&self, request: Request<v1::StageRequest>) -> Result<Response<v1::StageResponse>, Status> {
        let v1::StageRequest { grant, offset, data, continues, .. } = request.into_inner();
        let lease = lease(grant);
        self.staged("stage", lease, continues)?;
        let mut state = self.state();
        let file = state.staging.files.get_mut(&lease).expect("staged");
        file.resize(file.len().max(at(offset) + data.len()), 0);
        file[at(offset)..at(offset) + data.len()].copy_from_slice(&data);
        match state.staging.cut.pop() {
            Some(kind) => Err(status::from_error(&Error::new(kind, "told to fail"))),
            None => Ok(Response::new(v1::StageResponse {})),
        }
    }

    async fn reserve(&self, request: Request<v1::ReserveRequest>) -> Result<Response<v1::ReserveResponse>, Status> {
        let v1::ReserveRequest { grant, bytes, continues, waited_ms } = request.into_inner();
        let later = v1::StagingGrant::decode(&grant.as_ref().expect("a grant").grant[..]).expect("a grant").later;
        self.staged("reserve", lease(grant), continues)?;
        let mut state = self.state();
        let staging = &mut state.staging;
        if staging.most > 0 && (later == 0 || bytes > staging.most) {
            let bytes = if later == 0 { u64::MAX } else { staging.most };
            return Ok(Response::new(v1::ReserveResponse { bytes }));
        }
        staging.reserved.push((bytes, waited_ms > 0));
        match staging.full.pop() {
            Some(kind) => Err(status::from_error(&Error::new(kind, "told to be full"))),
            None => Ok(Response::new(v1::ReserveResponse { bytes: bytes + staging.ahead })),
        }
    }

    async fn read_staged(
        &self,
        request: Request<v1::ReadStagedRequest>,
    ) -> Result<Response<v1::ReadStagedResponse>, Status> {
        let v1::ReadStagedRequest { grant, offset, length } = request.into_inner();
        let lease = lease(grant);
        self.staged("read", lease, true)?;
        let state = self.state();
        let file = &state.staging.files[&lease];
        let end = file.len().min(at(offset + length));
        Ok(Response::new(v1::ReadStagedResponse { data: Bytes::copy_from_slice(&file[at(offset).min(end)..end]) }))
    }

    async fn resize_staged(
        &self,
        request: Request<v1::ResizeStagedRequest>,
    ) -> Result<Response<v1::ResizeStagedResponse>, Status> {
        let v1::ResizeStagedRequest { grant, length, continues, .. } = request.into_inner();
        let lease = lease(grant);
        self.staged("resize", lease, continues)?;
        self.state().staging.files.get_mut(&lease).expect("staged").resize(at(length), 0);
        Ok(Response::new(v1::ResizeStagedResponse {}))
    }

    async fn upload(&self, request: Request<v1::UploadRequest>) -> Result<Response<v1::UploadResponse>, Status> {
        let v1::UploadRequest { grant, up_to, round } = request.into_inner();
        let grant = v1::UploadGrant::decode(grant.expect("a grant").grant).expect("a grant");
        let mut state = self.state();
        state.staging.uploads.push((grant.lease, round, up_to));
        if state.staging.refuses_uploads {
            return Err(status::from_error(&Error::new(ErrorKind::NotSupported, "told to refuse")));
        }
        Ok(Response::new(v1::UploadResponse {}))
    }

    async fn persist(&self, request: Request<v1::PersistRequest>) -> Result<Response<v1::PersistResponse>, Status> {
        let v1::PersistRequest { grant, length, round, closing, staging, heads, .. } = request.into_inner();
        let grant = v1::PersistGrant::decode(grant.expect("a grant").grant).expect("a grant");
        let flowing = {
            let mut state = self.state();
            state.staging.calls.push("persist");
            state.staging.rounds.push(round);
            state.staging.heads.push(heads.iter().map(|head| head.length).collect());
            state.staging.orders.push((closing, staging.map(|staging| lease(Some(staging)))));
            if let Some(kind) = state.staging.failures.pop() {
                return Err(status::from_error(&Error::new(kind, "told to fail")));
            }
            let local = state.staging.directory.as_ref().map(|path| path.join(format!("staged-{}", grant.lease)));
            let bytes = match local.and_then(|path| fs::read(path).ok()) {
                Some(bytes) => bytes,
                None => state.staging.files.get(&grant.lease).cloned().expect("staged"),
            };
            assert_eq!(bytes.len() as u64, length, "the worker has another length");
            state.staging.stored.push(bytes);
            state.staging.flowing.subscribe()
        };
        let _ = { flowing }.wait_for(|flowing| *flowing).await;
        if grant.copies > 0 {
            let holders = (1..).take(grant.copies as usize).collect();
            return Ok(Response::new(v1::PersistResponse {
                size: length,
                mtime_ns: 77,
                version: String::new(),
                holders,
                copied: 0,
            }));
        }
        let version = format!("stored-{}", self.state().staging.stored.len());
        let copied = heads.iter().map(|head| head.length).max().unwrap_or_default();
        Ok(Response::new(v1::PersistResponse { size: length, mtime_ns: 77, version, holders: Vec::new(), copied }))
    }

    async fn persist_dirty(
        &self,
        _: Request<v1::PersistDirtyRequest>,
    ) -> Result<Response<v1::PersistResponse>, Status> {
        Err(Status::unimplemented("asked for by no test"))
    }

    async fn settle_dirty(
        &self,
        _: Request<v1::SettleDirtyRequest>,
    ) -> Result<Response<v1::SettleDirtyResponse>, Status> {
        Err(Status::unimplemented("asked for by no test"))
    }

    async fn end_staging(
        &self,
        request: Request<v1::EndStagingRequest>,
    ) -> Result<Response<v1::EndStagingResponse>, Status> {
        let v1::EndStagingRequest { grant, content } = request.into_inner();
        let (lease, mut state) = (lease(grant), self.state());
        state.staging.files.remove(&lease);
        state.staging.ended.push((lease, content.map(Into::into)));
        Ok(Response::new(v1::EndStagingResponse {}))
    }
}
