//! A worker to which files are staged, and its store.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use headpond_proto::{
    MAX_MESSAGE, status,
    v1::{
        EndStagingRequest, PersistRequest, PersistResponse, ReadStagedRequest, ResizeStagedRequest, SignedGrant,
        StageRequest, staging_service_client::StagingServiceClient,
    },
};
use headpond_types::{ContentId, Result};
use headpond_ufs::{Fault, Faulty, Key, Memory, ObjectMeta, Precondition, UfsErrorKind, UnderStore};
use tonic::transport::{Channel, Endpoint};

use super::pond::{MIB, Pond, TestWorker};

/// A cluster of one worker over a store in memory that fails as it is told.
pub(super) struct Yard {
    pub(super) pond: Pond,
    pub(super) worker: TestWorker,
    pub(super) client: StagingServiceClient<Channel>,
    pub(super) store: Faulty,
    /// The same without faults.
    pub(super) sound: Arc<dyn UnderStore>,
}

impl Yard {
    /// `name` is that of the test: stores of one name are one.
    pub(super) async fn new(name: &str) -> Self {
        Self::over(Arc::new(Memory::named(&format!("staging-{name}")))).await
    }

    pub(super) async fn over(sound: Arc<dyn UnderStore>) -> Self {
        let pond = Pond::start().await;
        let store = Faulty::new(Arc::clone(&sound), 1);
        let worker = pond.worker_on(Arc::new(store.clone()), tempfile::tempdir().expect("a directory")).await;
        let client = client(&worker);
        Self { pond, worker, client, store, sound }
    }

    pub(super) fn grant(&self, lease: u64) -> SignedGrant {
        self.pond.master.staging(lease)
    }

    pub(super) async fn stage(&self, lease: u64, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        self.stage_as(lease, offset, data, false).await
    }

    pub(super) async fn stage_as(
        &self,
        lease: u64,
        offset: u64,
        data: impl Into<Bytes>,
        continues: bool,
    ) -> Result<()> {
        let request =
            StageRequest { grant: Some(self.grant(lease)), offset, data: data.into(), continues, version: None };
        let answer = self.client.clone().stage(request).await;
        answer.map(drop).map_err(|status| status::to_error(&status, "stage"))
    }

    pub(super) async fn staged(&self, lease: u64, offset: u64, length: u64) -> Result<Bytes> {
        let request = ReadStagedRequest { grant: Some(self.grant(lease)), offset, length };
        let answer = self.client.clone().read_staged(request).await;
        answer.map(|answer| answer.into_inner().data).map_err(|status| status::to_error(&status, "read"))
    }

    pub(super) async fn resize(&self, lease: u64, length: u64) -> Result<()> {
        let request = ResizeStagedRequest { grant: Some(self.grant(lease)), length, continues: false, version: None };
        let answer = self.client.clone().resize_staged(request).await;
        answer.map(drop).map_err(|status| status::to_error(&status, "resize"))
    }

    /// Stores `length` bytes under `key`.
    pub(super) async fn persist(
        &self,
        lease: u64,
        key: &str,
        replaces: Option<&str>,
        length: u64,
    ) -> Result<PersistResponse> {
        self.persist_with(self.pond.master.persist(lease, key, replaces, ContentId(lease.into())), length).await
    }

    pub(super) async fn persist_with(&self, grant: SignedGrant, length: u64) -> Result<PersistResponse> {
        let request = PersistRequest { grant: Some(grant), length, ..PersistRequest::default() };
        let answer = self.client.clone().persist(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    }

    pub(super) async fn end(&self, lease: u64, content: Option<ContentId>) {
        let request = EndStagingRequest { grant: Some(self.grant(lease)), content: content.map(Into::into) };
        self.client.clone().end_staging(request).await.expect("ended");
    }

    pub(super) async fn put(&self, key: &str, body: &'static str) -> ObjectMeta {
        self.sound.put(&Key::from(key.to_owned()), body.into(), &Precondition::None).await.expect("put")
    }

    pub(super) async fn head(&self, key: &str) -> Option<ObjectMeta> {
        self.sound.head(&Key::from(key.to_owned())).await.ok()
    }

    pub(super) async fn object(&self, key: &str) -> Vec<u8> {
        let meta = self.head(key).await.expect("an object");
        let body = self.sound.get(&meta.key, 0..meta.size, &meta.version).await.expect("its bytes");
        body.try_collect::<Vec<_>>().await.expect("its bytes").concat()
    }

    /// From now on the store answers nothing but refusals.
    pub(super) fn close_store(&self) {
        self.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Refused));
    }

    /// Waits until no upload of that id takes parts any more.
    pub(super) async fn until_aborted(&self, key: &str, upload: &str) {
        while self.sound.put_part(&key.to_owned().into(), upload, 9999, Bytes::new()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Stages `mib` MiB in which each page is another.
    pub(super) async fn stage_mib(&self, lease: u64, mib: u64) -> Vec<u8> {
        let body: Vec<u8> = (0..mib).flat_map(|page| page_of(page + lease)).collect();
        for (index, data) in (0..).zip(body.chunks(4 << 20)) {
            self.stage_as(lease, index * (4 << 20), data.to_vec(), index > 0).await.expect("staged");
        }
        body
    }

    pub(super) fn uploads(&self) -> usize {
        let notes = self.worker.dir.path().join("cache/uploads");
        std::fs::read_dir(notes).expect("a directory").count()
    }

    pub(super) fn files(&self) -> i64 {
        self.worker.running.reader.metrics.staged.get()
    }
}

/// A page whose bytes follow from a number.
pub(super) fn page_of(number: u64) -> Vec<u8> {
    let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    word.repeat(usize::try_from(MIB).expect("small") / 8)
}

pub(super) fn client(worker: &TestWorker) -> StagingServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", worker.running.address())).expect("an address");
    StagingServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_MESSAGE)
}
