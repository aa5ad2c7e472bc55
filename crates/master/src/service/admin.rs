//! `AdminService`: administration.

use headpond_namespace::Command;
use headpond_proto::v1::{
    AddMountRequest, AddMountResponse, CheckRequest, ListMountsRequest, ListMountsResponse, ListProblemsRequest,
    ListProblemsResponse, ListWorkersRequest, ListWorkersResponse, ProbeRequest, ProbeResponse, RemoveMountRequest,
    RemoveMountResponse, ResolveProblemRequest, ResolveProblemResponse, StatusRequest, StatusResponse, WorkerStatus,
    admin_service_server::AdminService,
};
use headpond_transport::Peer;
use headpond_types::{Error, ErrorKind, Result};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    check::{Findings, check},
    message::{millis, mount, mount_message, path, request_id},
    problems::Decisions,
    refuse,
};
use crate::core::Core;

/// The service.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) core: Core,
    /// When the master began to serve.
    pub(crate) started: Instant,
    pub(crate) decided: Decisions,
}

#[tonic::async_trait]
impl AdminService for Admin {
    type CheckStream = Findings;

    async fn list_mounts(&self, _: Request<ListMountsRequest>) -> Result<Response<ListMountsResponse>, Status> {
        let table = self.core.engine.mounts().table();
        Ok(Response::new(ListMountsResponse { mounts: table.mounts().into_iter().map(mount_message).collect() }))
    }

    async fn add_mount(&self, request: Request<AddMountRequest>) -> Result<Response<AddMountResponse>, Status> {
        Peer::of(&request).and_then(|peer| peer.require_operator("add mounts")).map_err(refuse)?;
        let added = self.mount(request.into_inner()).await.map_err(refuse)?;
        Ok(Response::new(added))
    }

    async fn remove_mount(
        &self,
        request: Request<RemoveMountRequest>,
    ) -> Result<Response<RemoveMountResponse>, Status> {
        Peer::of(&request).and_then(|peer| peer.require_operator("remove mounts")).map_err(refuse)?;
        let request = request.into_inner();
        let path = path(&request.path).map_err(refuse)?;
        let request_id = request_id(&request.request_id).map_err(refuse)?;
        let removed = self.core.mounting.remove(request_id, path);
        self.core.sessions.settle(request_id, None, removed).await.map_err(refuse)?;
        Ok(Response::new(RemoveMountResponse {}))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        let workers = self.core.workers.all().into_iter().map(|(worker, silent)| WorkerStatus {
            member: Some(worker.member.into()),
            capacity: worker.report.capacity,
            used: worker.report.used,
            pages: worker.report.pages,
            contents: worker.report.contents,
            live: worker.live,
            silent_ms: millis(silent),
            problems: worker.report.problems,
        });
        Ok(Response::new(ListWorkersResponse { workers: workers.collect() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let snapshot = self.core.catalog.snapshot().map_err(refuse)?;
        let counts = snapshot.counts().map_err(refuse)?;
        let skipped_keys = self.core.engine.left_out().total(&snapshot).map_err(refuse)?;
        let (mounts, journal) = (self.core.engine.mounts().table(), self.core.catalog.journal_status());
        let mut problems = mounts.problems();
        problems.extend(self.core.relocator.problems());
        problems.extend(journal.stopped.map(|cause| format!("the journal takes no commands: {cause}")));
        Ok(Response::new(StatusResponse {
            cluster: self.core.cluster,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: millis(self.started.elapsed()),
            inodes: counts.inodes,
            mounts: mounts.mounts().len() as u64,
            workers: self.core.workers.ring().members.len() as u64,
            clients: self.core.sessions.count(),
            applied_index: self.core.catalog.applied_index(),
            journal_bytes: journal.log_bytes,
            skipped_keys,
            problems,
        }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<Findings>, Status> {
        Peer::of(&request).and_then(|peer| peer.require_operator("check what stores hold")).map_err(refuse)?;
        let path = path(&request.into_inner().path).map_err(refuse)?;
        Ok(Response::new(check(&self.core, path)))
    }

    async fn list_problems(&self, _: Request<ListProblemsRequest>) -> Result<Response<ListProblemsResponse>, Status> {
        self.problems().map(|problems| Response::new(ListProblemsResponse { problems })).map_err(refuse)
    }

    async fn resolve_problem(
        &self,
        request: Request<ResolveProblemRequest>,
    ) -> Result<Response<ResolveProblemResponse>, Status> {
        Peer::of(&request).and_then(|peer| peer.require_operator("resolve problems")).map_err(refuse)?;
        self.resolve(request.into_inner()).await.map(Response::new).map_err(refuse)
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let peer = Peer::of(&request).map_err(refuse)?;
        if request.into_inner().durable {
            peer.require_operator("write to the journal").map_err(refuse)?;
            self.core.catalog.propose(Command::Noop).await.map_err(refuse)?;
        }
        Ok(Response::new(ProbeResponse { applied_index: self.core.catalog.applied_index() }))
    }
}

impl Admin {
    async fn mount(&self, request: AddMountRequest) -> Result<AddMountResponse> {
        let wanted = request.mount.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "no mount is given"))?;
        let request = request_id(&request.request_id)?;
        let added = self.core.mounting.add(request, mount(wanted)?);
        let added = self.core.sessions.settle(request, None, added).await?;
        Ok(AddMountResponse { mount: Some(mount_message(&added)) })
    }
}
