//! Where the bytes of a file's next version are.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use headpond_proto::{
    status,
    v1::{self, staging_service_client::StagingServiceClient},
};
use headpond_transport::Link;
use headpond_types::{ContentId, Error, ErrorKind, Member, Result};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Response, Status};

use crate::{backoff::Backoff, local::StagedFile, shared::Shared, writing::Lease};

/// Bytes in one message: large enough that messages cost little, small against the flow-control window.
const PIECE: usize = 1 << 20;

/// A staged file. It stays on the worker that it was begun at: nobody else has its bytes.
#[derive(Debug)]
pub(super) struct Staged {
    /// The worker that has it.
    member: Member,
    /// As a signed `StagingGrant`.
    pub(super) grant: v1::SignedGrant,
    way: Way,
    /// How long one call may take.
    patience: Duration,
    /// Bytes for which the worker has room without having been asked.
    offered: u64,
    /// What it was last to be made durable as, and of how many bytes. A leaf lock.
    version: Mutex<Option<(ContentId, u64)>>,
}

/// A writer's staged file, begun when it is first needed: an open that writes nothing costs no worker anything. Another may take its place.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Arc<OnceCell<Arc<Staged>>>>);

impl Slot {
    pub(super) fn get(&self) -> Option<Arc<Staged>> {
        self.cell().get().cloned()
    }

    /// # Errors
    /// Those of `begin`.
    pub(super) async fn get_or_begin<Fut>(&self, begin: impl FnOnce() -> Fut) -> Result<Arc<Staged>>
    where
        Fut: Future<Output = Result<Staged>>,
    {
        self.cell().get_or_try_init(|| async { begin().await.map(Arc::new) }).await.cloned()
    }

    /// Whether `staged` is still the one.
    pub(super) fn has(&self, staged: &Arc<Staged>) -> bool {
        self.cell().get().is_some_and(|current| Arc::ptr_eq(current, staged))
    }

    /// Takes it out; the next to need one begins it.
    pub(super) fn take(&self) -> Option<Arc<Staged>> {
        std::mem::take(&mut *self.lock()).get().cloned()
    }

    fn cell(&self) -> Arc<OnceCell<Arc<Staged>>> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<OnceCell<Arc<Staged>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Way {
    /// Through a descriptor.
    Local(Arc<StagedFile>),
    /// Over gRPC. Whether the worker has been told of the file: from then on it must have it.
    Remote { service: StagingServiceClient<Link>, begun: AtomicBool },
}

impl Staged {
    /// Begins a staged file for `lease`: on the worker of this node if there is one, else on the one that the ring names first.
    ///
    /// # Errors
    /// `Unavailable` when there is no worker.
    pub(super) async fn begin(shared: &Shared, lease: &Lease) -> Result<Self> {
        let ring = shared.ring().await?;
        let place = ContentId(u128::from(lease.id));
        let (grant, patience) = (lease.staging(), shared.config.read_timeout);
        if let Some(member) = shared.local.member(&ring, place)
            && let Some(connection) = shared.local.connection_to(member).await
            && let Some(descriptor) = shared.place()
        {
            match timeout(patience, connection.stage(grant.clone())).await {
                Ok(Ok((file, offered))) => {
                    let way = Way::Local(Arc::new(StagedFile::new(file, connection, grant.clone(), descriptor)));
                    let (member, version) = (member.clone(), Mutex::default());
                    return Ok(Self { member, grant, way, patience, offered, version });
                }
                Ok(Err(error)) => tracing::debug!(%error, "not staged on this node: writing over the network"),
                Err(late) => tracing::debug!(%late, "not staged on this node: writing over the network"),
            }
        }
        let member = shared.workers.order(&ring, place, 0).into_iter().next().ok_or_else(|| {
            let message = "no worker is live to take what is written: start one, `headpond admin workers` lists them";
            Error::new(ErrorKind::Unavailable, message)
        })?;
        let way = Way::Remote { service: shared.workers.staging(&member)?, begun: AtomicBool::new(false) };
        Ok(Self { member, grant, way, patience, offered: 0, version: Mutex::default() })
    }

    /// The worker that has the bytes.
    pub(super) const fn member(&self) -> &Member {
        &self.member
    }

    /// How long one call of it may take.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Bytes for which the worker has room without being asked.
    pub(super) const fn offered(&self) -> u64 {
        self.offered
    }

    /// Whether the worker was told of the file, and must have it.
    pub(super) fn is_begun(&self) -> bool {
        match &self.way {
            Way::Local(_) => true,
            Way::Remote { begun, .. } => begun.load(Ordering::Acquire),
        }
    }

    /// It is known that the bytes are lost.
    pub(super) fn is_lost(&self) -> bool {
        match &self.way {
            Way::Local(file) => file.is_lost(),
            Way::Remote { .. } => false,
        }
    }

    /// Lets the worker know that the bytes are still wanted: it gives up what it hears nothing of for long. How many there are may change at this
    /// moment.
    ///
    /// # Errors
    /// As of [`Staged::read`].
    pub(super) async fn keep_alive(&self) -> Result<()> {
        let Way::Remote { service, begun } = &self.way else { return Ok(()) };
        if !begun.load(Ordering::Acquire) {
            return Ok(());
        }
        self.ask_for(service, 0, 1).await.map(drop)
    }

    /// The file on this node's disk, if it is there.
    pub(super) const fn local(&self) -> Option<&Arc<StagedFile>> {
        match &self.way {
            Way::Local(file) => Some(file),
            Way::Remote { .. } => None,
        }
    }

    /// What is staged is about to be made durable as `content`, of so many bytes: that stays what it is now. The caller lets nobody change anything
    /// meanwhile.
    ///
    /// # Errors
    /// `DeadlineExceeded` when changes that nobody waited for do not end.
    pub(super) async fn begin_version(&self, content: ContentId, length: u64) -> Result<()> {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some((content, length));
        // Over the network the worker is told with each change.
        let Way::Local(file) = &self.way else { return Ok(()) };
        let begun = async {
            file.begin_version(content, length).await;
            Ok(())
        };
        self.in_time(begun).await
    }

    /// Whether it was last to be made durable as `content`.
    pub(super) fn is_version(&self, content: ContentId) -> bool {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|(version, _)| version == content)
    }

    /// The version that the worker has to keep what is changed of.
    fn version(&self) -> Option<v1::Head> {
        let version = *self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.map(|(content, length)| v1::Head { content: Some(content.into()), length, original: None })
    }

    /// Waits for changes that nobody waited for.
    ///
    /// # Errors
    /// `DeadlineExceeded` when they do not end.
    pub(super) async fn settle(&self) -> Result<()> {
        let Way::Local(file) = &self.way else { return Ok(()) };
        let settled = async {
            file.settle().await;
            Ok(())
        };
        self.in_time(settled).await
    }

    /// Reads `length` bytes, all of which were staged.
    ///
    /// # Errors
    /// `Stale` when the worker has lost the bytes; `Unavailable`, `DeadlineExceeded`.
    pub(super) async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let service = match &self.way {
            Way::Local(file) => return self.in_time(file.read(offset, length)).await,
            Way::Remote { service, .. } => service,
        };
        let mut whole = BytesMut::with_capacity(length);
        while whole.len() < length {
            let (at, left) = (offset + whole.len() as u64, (length - whole.len()).min(PIECE));
            let data = self.ask_for(service, at, left as u64).await?;
            if data.is_empty() || data.len() > left {
                let message =
                    format!("worker {} has fewer staged bytes than it took: write the file anew", self.member.address);
                return Err(Error::new(ErrorKind::Stale, message));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// What the worker has of `length` bytes.
    async fn ask_for(&self, service: &StagingServiceClient<Link>, offset: u64, length: u64) -> Result<Bytes> {
        let request = v1::ReadStagedRequest { grant: Some(self.grant.clone()), offset, length };
        let answer = self.call("read of staged bytes", || {
            let (mut service, request) = (service.clone(), request.clone());
            async move { service.read_staged(request).await }
        });
        Ok(answer.await?.data)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As of [`Staged::read`], and `ResourceExhausted`; parts may be written then.
    pub(super) async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let (service, begun) = match &self.way {
            Way::Local(file) => {
                file.keep(&(offset..offset.saturating_add(bytes.len() as u64)), self.patience).await?;
                return self.in_time(file.write(offset, bytes)).await;
            }
            Way::Remote { service, begun } => (service, begun),
        };
        let mut rest = bytes;
        let mut offset = offset;
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(PIECE));
            let length = data.len() as u64;
            let continues = begun.load(Ordering::Acquire);
            let request =
                v1::StageRequest { grant: Some(self.grant.clone()), offset, data, continues, version: self.version() };
            self.call("staging of bytes", || {
                let (mut service, request) = (service.clone(), request.clone());
                async move { service.stage(request).await }
            })
            .await?;
            begun.store(true, Ordering::Release);
            offset += length;
        }
        Ok(())
    }

    /// Sets the length; what is added reads as zeros.
    ///
    /// # Errors
    /// As of [`Staged::write`].
    pub(super) async fn set_length(&self, length: u64) -> Result<()> {
        let (service, begun) = match &self.way {
            Way::Local(file) if file.length() == Some(length) => return Ok(()),
            Way::Local(file) => {
                file.keep(&(length..u64::MAX), self.patience).await?;
                return self.in_time(file.set_length(length)).await;
            }
            Way::Remote { service, begun } => (service, begun),
        };
        let continues = begun.load(Ordering::Acquire);
        let version = self.version();
        let request = v1::ResizeStagedRequest { grant: Some(self.grant.clone()), length, continues, version };
        self.call("resizing of staged bytes", || {
            let (mut service, request) = (service.clone(), request.clone());
            async move { service.resize_staged(request).await }
        })
        .await?;
        begun.store(true, Ordering::Release);
        Ok(())
    }

    /// Has the worker store what is staged, or make it durable.
    ///
    /// # Errors
    /// What the worker answers; `Unavailable` when it was lost, `DeadlineExceeded` after `patience`.
    pub(super) async fn persist(&self, request: v1::PersistRequest, patience: Duration) -> Result<v1::PersistResponse> {
        match &self.way {
            Way::Local(file) => timeout(patience, file.persist(request)).await.unwrap_or_else(|_| {
                let message = format!(
                    "persisting at worker {}: no answer within {} ms",
                    self.member.address,
                    patience.as_millis()
                );
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            }),
            Way::Remote { service, .. } => {
                call_worker(&self.member, "persisting", patience, || {
                    let (mut service, request) = (service.clone(), request.clone());
                    async move { service.persist(request).await }
                })
                .await
            }
        }
    }

    /// The worker need not keep the file any more, but what it was stored as.
    ///
    /// # Errors
    /// As of [`Staged::persist`].
    pub(super) async fn end(&self, content: Option<ContentId>, patience: Duration) -> Result<()> {
        let request = v1::EndStagingRequest { grant: Some(self.grant.clone()), content: content.map(Into::into) };
        match &self.way {
            Way::Local(file) => timeout(patience, file.end(request)).await.unwrap_or(Ok(())),
            Way::Remote { service, .. } => {
                let ended = call_worker(&self.member, "end of staging", patience, || {
                    let (mut service, request) = (service.clone(), request.clone());
                    async move { service.end_staging(request).await }
                });
                ended.await.map(drop)
            }
        }
    }

    /// Calls the worker until it answers, or until the deadline. Every call here can be repeated.
    async fn call<T, F, Fut>(&self, what: &str, call: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        call_worker(&self.member, what, self.patience, call).await
    }

    async fn in_time<T>(&self, done: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.patience, done).await.unwrap_or_else(|_| {
            let message =
                format!("the disk of this node's worker made no progress within {} ms", self.patience.as_millis());
            Err(Error::new(ErrorKind::DeadlineExceeded, message))
        })
    }
}

/// Calls one worker until it answers, or until the deadline.
pub(super) async fn call_worker<T, F, Fut>(member: &Member, what: &str, patience: Duration, call: F) -> Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + patience;
    let what = format!("{what} at worker {}", member.address);
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let Ok(answer) = timeout_at(deadline, call()).await else {
            let message = format!("{what}: no answer within {} ms", patience.as_millis());
            return Err(Error::new(ErrorKind::DeadlineExceeded, message));
        };
        let error = match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status::to_error(&status, &what),
        };
        let pause = backoff.pause();
        if error.kind() != ErrorKind::Unavailable || Instant::now() + pause >= deadline {
            return Err(error);
        }
        sleep(pause).await;
    }
}
