//! Staged files over gRPC.

use std::{sync::Arc, time::Duration};

use headpond_proto::v1::{
    AccountRequest, AccountResponse, EndStagingRequest, EndStagingResponse, PersistDirtyRequest, PersistRequest,
    PersistResponse, ReadStagedRequest, ReadStagedResponse, ReserveRequest, ReserveResponse, ResizeStagedRequest,
    ResizeStagedResponse, SettleDirtyRequest, SettleDirtyResponse, StageRequest, StageResponse, UploadRequest,
    UploadResponse, staging_service_server::StagingService,
};
use tonic::{Request, Response, Status};

use super::to_status;
use crate::staging::Stager;

/// Answers clients that write.
#[derive(Debug)]
pub(crate) struct StagingRpc(pub(crate) Arc<Stager>);

#[tonic::async_trait]
impl StagingService for StagingRpc {
    async fn stage(&self, request: Request<StageRequest>) -> Result<Response<StageResponse>, Status> {
        let StageRequest { grant, offset, data, continues, version } = request.into_inner();
        self.0.stage(grant.as_ref(), (offset, data), continues, version).await.map_err(to_status)?;
        Ok(Response::new(StageResponse {}))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>, Status> {
        let ReserveRequest { grant, bytes, continues, waited_ms } = request.into_inner();
        let waited = Duration::from_millis(waited_ms);
        let bytes = self.0.reserve(grant.as_ref(), bytes, continues, waited).await.map_err(to_status)?;
        Ok(Response::new(ReserveResponse { bytes }))
    }

    async fn read_staged(&self, request: Request<ReadStagedRequest>) -> Result<Response<ReadStagedResponse>, Status> {
        let ReadStagedRequest { grant, offset, length } = request.into_inner();
        let data = self.0.read(grant.as_ref(), offset, length).await.map_err(to_status)?;
        Ok(Response::new(ReadStagedResponse { data }))
    }

    async fn resize_staged(
        &self,
        request: Request<ResizeStagedRequest>,
    ) -> Result<Response<ResizeStagedResponse>, Status> {
        let ResizeStagedRequest { grant, length, continues, version } = request.into_inner();
        self.0.resize(grant.as_ref(), length, continues, version).await.map_err(to_status)?;
        Ok(Response::new(ResizeStagedResponse {}))
    }

    async fn upload(&self, request: Request<UploadRequest>) -> Result<Response<UploadResponse>, Status> {
        let UploadRequest { grant, up_to, round } = request.into_inner();
        self.0.upload(grant.as_ref(), up_to, round).map_err(to_status)?;
        Ok(Response::new(UploadResponse {}))
    }

    async fn persist(&self, request: Request<PersistRequest>) -> Result<Response<PersistResponse>, Status> {
        self.0.persist(request.into_inner()).await.map(Response::new).map_err(to_status)
    }

    async fn persist_dirty(&self, request: Request<PersistDirtyRequest>) -> Result<Response<PersistResponse>, Status> {
        let PersistDirtyRequest { grant } = request.into_inner();
        self.0.persist_dirty(grant.as_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn settle_dirty(
        &self,
        request: Request<SettleDirtyRequest>,
    ) -> Result<Response<SettleDirtyResponse>, Status> {
        let SettleDirtyRequest { grant } = request.into_inner();
        self.0.settle_dirty(grant.as_ref()).await.map_err(to_status)?;
        Ok(Response::new(SettleDirtyResponse {}))
    }

    async fn account(&self, request: Request<AccountRequest>) -> Result<Response<AccountResponse>, Status> {
        self.0.account(request.into_inner()).map(Response::new).map_err(to_status)
    }

    async fn end_staging(&self, request: Request<EndStagingRequest>) -> Result<Response<EndStagingResponse>, Status> {
        let EndStagingRequest { grant, content } = request.into_inner();
        self.0.end(grant.as_ref(), content.map(Into::into)).await.map_err(to_status)?;
        Ok(Response::new(EndStagingResponse {}))
    }
}
