//! The workers that hold dirty contents, as they are asked to persist them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use headpond_proto::{
    MAX_MESSAGE, status,
    v1::{
        AccountRequest, AccountResponse, PersistDirtyRequest, PersistResponse, SettleDirtyRequest, SignedGrant,
        staging_service_client::StagingServiceClient,
    },
};
use headpond_transport::{Link, Transport};
use headpond_types::{Error, ErrorKind, MountId, Result, WorkerId};
use headpond_ufs::{Key, UploadMark};
use tokio::{sync::Semaphore, time::Instant};
use tonic::transport::Endpoint;

use crate::workers::Workers;

/// Contents that one worker persists at the same time, of all mounts.
const PER_WORKER: usize = 64;

/// A worker that takes longer to connect is passed over.
const CONNECT: Duration = Duration::from_secs(3);

/// Pause between two pings on a connection; one that does not answer for [`CONNECT`] is lost.
const PING: Duration = Duration::from_secs(10);

/// A call that takes longer is made again, and joins what the first began.
const CALL: Duration = Duration::from_secs(60);

/// Deadline of a call that reads no more than tables.
const ACCOUNT: Duration = Duration::from_secs(10);

/// Times that a call is made anew because it took too long.
const CALLS: u32 = 60;

/// What a worker was at comes to nothing when it has been silent for so long: it has been given up by then, or ended.
const SILENT: Duration = Duration::from_mins(3);

/// Connections to workers, made at their first use.
pub(crate) struct Holders {
    transport: Transport,
    workers: Arc<Workers>,
    /// By address. Never held across an await.
    connections: Mutex<HashMap<String, Connection>>,
    /// Whoever did not register since then was silent since then.
    begun: Instant,
}

#[derive(Clone)]
struct Connection {
    link: Link,
    slots: Arc<Semaphore>,
}

impl Holders {
    pub(crate) fn new(transport: Transport, workers: Arc<Workers>) -> Self {
        Self { transport, workers, connections: Mutex::default(), begun: Instant::now() }
    }

    /// The addresses of those of `holders` that are live.
    pub(crate) fn addresses(&self, holders: &[WorkerId]) -> Vec<String> {
        self.workers.addresses(holders).into_iter().map(|(_, address)| address).collect()
    }

    /// Has one of `holders` persist what `sign` gives the right to; the first that is live and can do it, which is answered.
    ///
    /// # Errors
    /// `Stale` when the store holds another version, which no other holder is asked about; else that of the last that was asked. `Unavailable`
    /// when none is live.
    pub(crate) async fn persist(
        &self,
        holders: &[WorkerId],
        sign: impl Fn() -> SignedGrant,
    ) -> Result<(WorkerId, PersistResponse)> {
        let mut failed = None;
        for (id, address) in self.workers.addresses(holders) {
            match self.persist_at(id, &address, &sign).await {
                Ok(done) => return Ok((id, done)),
                Err(error) if error.kind() == ErrorKind::Stale => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let ids: Vec<_> = holders.iter().map(ToString::to_string).collect();
            let message = format!("no worker that holds it is live: start worker {} again", ids.join(" or "));
            Error::new(ErrorKind::Unavailable, message)
        }))
    }

    /// As of [`Workers::take_uploads`].
    pub(crate) fn take_uploads(&self, mount: MountId, key: &Key, instead: Option<WorkerId>) -> Vec<UploadMark> {
        self.workers.take_uploads(mount, key, instead)
    }

    /// Told when a worker has registered.
    pub(crate) async fn registered(&self) {
        self.workers.registered.notified().await;
    }

    /// Waits until no worker stores anything under the key that `grant` names, least of all `suspects`.
    ///
    /// # Errors
    /// `Unavailable` when one of the suspects is not live, and may still be at it; those of the workers.
    pub(crate) async fn settle(&self, suspects: &[WorkerId], grant: &SignedGrant) -> Result<()> {
        let known = self.workers.all();
        let silent = |id: &WorkerId| match known.iter().find(|(worker, _)| worker.member.id == *id) {
            Some((worker, _)) if worker.live => None,
            Some((_, silent)) => Some(*silent),
            None => Some(self.begun.elapsed()),
        };
        if let Some(id) = suspects.iter().find(|id| silent(id).is_some_and(|silent| silent < SILENT)) {
            let message = format!("worker {id} may still be storing something there, and is not live: start it again");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let live = known.iter().filter(|(worker, _)| worker.live);
        let settled = live.map(|(worker, _)| self.settle_at(worker.member.id, &worker.member.address, grant));
        futures::future::try_join_all(settled).await.map(|_| ())
    }

    async fn settle_at(&self, id: WorkerId, address: &str, grant: &SignedGrant) -> Result<()> {
        let Connection { link, .. } = self.connection(address)?;
        let what = format!("see what worker {id} ({address}) is storing");
        let request = SettleDirtyRequest { grant: Some(grant.clone()) };
        match tokio::time::timeout(CALL, StagingServiceClient::new(link).settle_dirty(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(status::to_error(&status, &what)),
            Err(_) => Err(Error::new(ErrorKind::DeadlineExceeded, format!("{what}: it goes on storing"))),
        }
    }

    async fn persist_at(
        &self,
        id: WorkerId,
        address: &str,
        sign: &impl Fn() -> SignedGrant,
    ) -> Result<PersistResponse> {
        let Connection { link, slots } = self.connection(address)?;
        let what = format!("persist at worker {id} ({address})");
        let _slot = slots.acquire().await.map_err(|_| Error::new(ErrorKind::Unavailable, "the master is ending"))?;
        let mut client = StagingServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE);
        let mut grant = sign();
        for call in 1..=CALLS {
            let request = PersistDirtyRequest { grant: Some(grant.clone()) };
            match tokio::time::timeout(CALL, client.persist_dirty(request)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => {
                    let error = status::to_error(&status, &what);
                    if error.kind() != ErrorKind::DeadlineExceeded || call == CALLS {
                        return Err(error);
                    }
                }
                Err(_) => {}
            }
            if call % 5 == 0 {
                grant = sign();
            }
        }
        Err(Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no answer within an hour")))
    }

    /// What worker `id` has of dirty contents and uploads.
    ///
    /// # Errors
    /// Those of the call, naming the worker.
    pub(crate) async fn account(
        &self,
        id: WorkerId,
        address: &str,
        request: AccountRequest,
    ) -> Result<AccountResponse> {
        let what = format!("ask worker {id} ({address}) what it holds");
        let Connection { link, .. } = self.connection(address)?;
        let mut client = StagingServiceClient::new(link);
        match tokio::time::timeout(ACCOUNT, client.account(request)).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, &what)),
            Err(_) => Err(Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no answer"))),
        }
    }

    fn connection(&self, address: &str) -> Result<Connection> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get(address) {
            return Ok(connection.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("{address:?} is not the address of a worker")).with_source(error)
        })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(CONNECT);
        let connection =
            Connection { link: self.transport.link(&endpoint), slots: Arc::new(Semaphore::new(PER_WORKER)) };
        // Workers come and go with new addresses: what is not live any more is not asked again.
        let live = self.workers.ring();
        connections.retain(|known, _| live.members.iter().any(|member| member.address == *known));
        connections.insert(address.to_owned(), connection.clone());
        Ok(connection)
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holders").finish_non_exhaustive()
    }
}
