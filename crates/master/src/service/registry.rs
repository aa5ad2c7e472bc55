//! `RegistryService`: registration and heartbeats of workers.

use std::{collections::HashSet, time::Duration};

use headpond_namespace::{Command, Reply};
use headpond_proto::v1::{
    self, HeartbeatRequest, HeartbeatResponse, KeepDirtyRequest, KeepDirtyResponse, LeaveRequest, LeaveResponse,
    RegisterRequest, RegisterResponse, UploadName, registry_service_server::RegistryService,
};
use headpond_types::{ContentId, Epoch, Error, ErrorKind, Member, MountId, Result, Ring, WorkerId};
use headpond_ufs::{Key, UploadMark};
use tonic::{Request, Response, Status};

use super::{
    message::{millis, mount_message},
    refuse,
};
use crate::{catalog::unexpected, core::Core, workers::Report};

/// Longest text that a worker may say of itself, in bytes.
const TEXT_MAX: usize = 4096;

/// Contents that a worker may ask about at a time.
const CONTENTS_MAX: usize = 10_000;

/// The service.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) core: Core,
    /// How often workers are to report.
    pub(crate) heartbeat: Duration,
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        self.admit(request.into_inner()).await.map(Response::new).map_err(refuse)
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mark = |UploadName { mount, key, upload }| (MountId(mount), UploadMark { key: Key::from(key), upload });
        let report = Report {
            capacity: request.capacity,
            used: request.used,
            pages: request.pages,
            contents: request.contents,
            problems: request.problems,
            uploads: request.uploads.into_iter().map(mark).collect(),
        };
        self.core.workers.heartbeat(WorkerId(request.worker), Epoch(request.epoch), report).map_err(refuse)?;
        let (ring, mounts) = (self.core.workers.ring(), self.core.mounts.table());
        let mounts_changed = mounts.version != request.mounts_version;
        Ok(Response::new(HeartbeatResponse {
            ring: (ring.epoch.0 != request.ring_epoch).then(|| Ring::clone(&ring).into()),
            mounts: if mounts_changed { mounts.mounts().into_iter().map(mount_message).collect() } else { Vec::new() },
            mounts_version: mounts.version,
        }))
    }

    async fn keep_dirty(&self, request: Request<KeepDirtyRequest>) -> Result<Response<KeepDirtyResponse>, Status> {
        self.keep(request.into_inner()).map(Response::new).map_err(refuse)
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let request = request.into_inner();
        self.core.workers.leave(WorkerId(request.worker), Epoch(request.epoch)).map_err(refuse)?;
        Ok(Response::new(LeaveResponse {}))
    }
}

impl Registry {
    /// Which contents are still needed: those that files have, and those that are about to be committed. What is about to be is looked at
    /// first: it is a file's before it is not about to be.
    fn keep(&self, request: KeepDirtyRequest) -> Result<KeepDirtyResponse> {
        let KeepDirtyRequest { worker, epoch, contents, pressed } = request;
        self.core.workers.require(WorkerId(worker), Epoch(epoch))?;
        if contents.len() > CONTENTS_MAX {
            let message = format!("{} contents are asked about: at most {CONTENTS_MAX} at a time", contents.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let (leases, backlog) = (&self.core.writing.leases, &self.core.backlog);
        let mut answer = KeepDirtyResponse::default();
        let mut filling = HashSet::new();
        for content in contents.into_iter().map(ContentId::from) {
            let is_coming = leases.needs(content);
            let needed = backlog.needed_by(content);
            let is_due = needed.is_some_and(|(_, is_due)| is_due);
            filling.extend(needed.map(|(mount, _)| mount).filter(|_| is_due));
            answer.keep.push(is_coming || needed.is_some());
            answer.due.push(is_coming || is_due);
            answer.mounts.push(needed.map_or(0, |(mount, _)| mount.0));
        }
        if pressed {
            filling.into_iter().for_each(|mount| backlog.press(mount));
        }
        if !backlog.is_complete() {
            let message = "the master does not know all that is dirty: restart it";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(answer)
    }

    async fn admit(&self, request: RegisterRequest) -> Result<RegisterResponse> {
        let RegisterRequest { uuid, address, socket, node, zone, capacity } = request;
        let texts = [("uuid", &uuid), ("address", &address), ("socket", &socket), ("node", &node), ("zone", &zone)];
        if let Some((what, text)) = texts.into_iter().find(|(_, text)| text.len() > TEXT_MAX) {
            let message = format!("{what} has {} bytes: at most {TEXT_MAX} are taken", text.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if uuid.is_empty() || address.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a worker registers with its uuid and its address"));
        }
        let reply = self.core.catalog.propose(Command::RegisterWorker { uuid }).await?;
        let Reply::Worker(id) = reply else { return Err(unexpected(&reply)) };
        let epoch = self.core.workers.register(Member { id, address, socket, node, zone, weight: 1 }, capacity);
        let mounts = self.core.mounts.table();
        let mount_messages: Vec<v1::Mount> = mounts.mounts().into_iter().map(mount_message).collect();
        Ok(RegisterResponse {
            worker: id.0,
            epoch: epoch.0,
            grant_key: self.core.grants.public_key().into(),
            cluster: self.core.cluster,
            heartbeat_ms: millis(self.heartbeat),
            ring: Some(Ring::clone(&self.core.workers.ring()).into()),
            mounts: mount_messages,
            mounts_version: mounts.version,
        })
    }
}
