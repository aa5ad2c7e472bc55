//! One connection to a worker's unix socket.
//!
//! One task sends what is in the outbox, one receives. The outbox needs no bound of its own: a caller has one question in it
//! at a time, readahead is asked for at most once per quarter of a window, and leases are given back once each.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use headpond_proto::{
    frames::{self, FrameReader},
    from_failure,
    v1::{self, local_request::Request, local_response::Response},
};
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, Result};
use tokio::{
    net::UnixStream,
    sync::{Notify, oneshot},
};

use super::{LocalFile, Place};

/// Called with a content that the worker wants back or has dropped.
pub(crate) type OnRecall = Arc<dyn Fn(ContentId) + Send + Sync>;

/// A connection; closed by the first error on it, and then for good.
pub(crate) struct Connection {
    outbox: Mutex<VecDeque<v1::LocalRequest>>,
    filled: Notify,
    waiting: Mutex<HashMap<u64, Waiting>>,
    lent: Mutex<HashMap<u64, Loan>>,
    next_id: AtomicU64,
    /// Held by a thread that serves others, too, while it waits for a disk: there is another for them.
    disk: Mutex<()>,
    closed: Shutdown,
    /// Another connection to the same socket has been made since this one broke.
    succeeded: AtomicBool,
    on_recall: OnRecall,
}

/// Who waits for an answer.
enum Waiting {
    Lend {
        content: ContentId,
        place: Place,
        answer: oneshot::Sender<Result<Arc<LocalFile>>>,
    },
    Stage {
        answer: oneshot::Sender<Result<(File, u64)>>,
    },
    Persist {
        answer: oneshot::Sender<Result<v1::PersistResponse>>,
    },
    /// For what is answered with nothing else.
    Done {
        answer: oneshot::Sender<Result<()>>,
    },
    /// Without `answer` nobody waits, but what is present is learnt all the same.
    Ensure {
        file: Weak<LocalFile>,
        answer: Option<oneshot::Sender<Result<()>>>,
    },
}

struct Loan {
    content: ContentId,
    file: Weak<LocalFile>,
}

/// Forgets a question when who asked does not wait any longer.
struct Asked<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.connection.waiting).remove(&self.id);
    }
}

impl Connection {
    /// Connects to the socket at `path`, until `closed`.
    pub(crate) async fn open(
        path: &Path,
        tasks: &Tasks,
        closed: Shutdown,
        on_recall: OnRecall,
    ) -> io::Result<Arc<Self>> {
        let socket = Arc::new(UnixStream::connect(path).await?);
        let connection = Arc::new(Self {
            outbox: Mutex::default(),
            filled: Notify::new(),
            waiting: Mutex::default(),
            lent: Mutex::default(),
            next_id: AtomicU64::new(1),
            disk: Mutex::default(),
            closed,
            succeeded: AtomicBool::new(false),
            on_recall,
        });
        tasks.spawn(Arc::clone(&connection).send_all(Arc::clone(&socket)));
        tasks.spawn(Arc::clone(&connection).receive_all(socket));
        Ok(connection)
    }

    /// Whether requests can still be made and leases are still held.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.has_begun()
    }

    /// The right to wait for this node's disk on a thread that serves others, too; one at a time.
    pub(super) fn waits_for_disk(&self) -> Option<MutexGuard<'_, ()>> {
        self.disk.try_lock().ok()
    }

    /// Closes the connection; the worker takes all leases of it as given back.
    pub(crate) fn close(&self) {
        self.closed.begin();
    }

    /// A new connection has taken the place of this one.
    pub(super) fn succeed(&self) {
        self.closed.begin();
        self.succeeded.store(true, Ordering::Release);
    }

    /// Whether a new connection has taken the place of this one.
    pub(crate) fn is_succeeded(&self) -> bool {
        self.succeeded.load(Ordering::Acquire)
    }

    /// Borrows the cache file of a content, which takes up `place`; one of at most `fill_up_to` bytes comes complete. Cancel-safe.
    pub(crate) async fn lend(
        &self,
        content: ContentId,
        grant: v1::SignedGrant,
        fill_up_to: u64,
        place: Place,
    ) -> Result<Arc<LocalFile>> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Lend(v1::LendRequest { grant: Some(grant), fill_up_to });
        self.ask(request, Waiting::Lend { content, place, answer }, answered).await
    }

    /// The staged file of a write lease, to be read and written, and for how many bytes there is room; it is the worker's until this connection ends.
    /// Cancel-safe.
    pub(crate) async fn stage(&self, grant: v1::SignedGrant) -> Result<(File, u64)> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Stage(v1::StageFileRequest { grant: Some(grant) });
        self.ask(request, Waiting::Stage { answer }, answered).await
    }

    /// Has what is staged under a lease stored, or made durable. Goes on at the worker when it is dropped.
    pub(super) async fn persist(&self, request: v1::PersistRequest) -> Result<v1::PersistResponse> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Persist(request), Waiting::Persist { answer }, answered).await
    }

    /// Ends a staged file, which ends with the connection in any case. Cancel-safe.
    pub(super) async fn end_staging(&self, request: v1::EndStagingRequest) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::EndStaging(request), Waiting::Done { answer }, answered).await
    }

    /// Has the worker keep what a staged file has in a range. Cancel-safe.
    pub(super) async fn keep_staged(&self, request: v1::KeepStagedRequest) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::KeepStaged(request), Waiting::Done { answer }, answered).await
    }

    /// Waits until a range of a lent content is present; without one only asks whether all of it is. Cancel-safe.
    pub(super) async fn ensure(&self, file: &Arc<LocalFile>, lease: u64, range: Option<ByteRange>) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let ranges = range.into_iter().map(Into::into).collect();
        let request = Request::Ensure(v1::EnsureRequest { lease, ranges, readahead: None });
        self.ask(request, Waiting::Ensure { file: Arc::downgrade(file), answer: Some(answer) }, answered).await
    }

    /// Asks to have a range of a lent content ready; does not wait.
    pub(super) fn hint(&self, file: &Arc<LocalFile>, lease: u64, ahead: ByteRange) {
        let request = v1::EnsureRequest { lease, ranges: Vec::new(), readahead: Some(ahead.into()) };
        self.post(Request::Ensure(request), Some(Waiting::Ensure { file: Arc::downgrade(file), answer: None }));
    }

    /// Gives a lease back.
    pub(super) fn give_back(&self, lease: u64) {
        lock(&self.lent).remove(&lease);
        self.post(Request::GiveBack(v1::ReturnRequest { lease }), None);
    }

    async fn ask<T>(&self, request: Request, waiting: Waiting, answered: oneshot::Receiver<Result<T>>) -> Result<T> {
        let id = self.post(request, Some(waiting));
        let _asked = Asked { connection: self, id };
        tokio::select! {
            answer = answered => answer.unwrap_or_else(|_| Err(broken())),
            () = self.closed.begun() => Err(broken()),
        }
    }

    fn post(&self, request: Request, waiting: Option<Waiting>) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if !self.is_open() {
            return id;
        }
        if let Some(waiting) = waiting {
            lock(&self.waiting).insert(id, waiting);
        }
        lock(&self.outbox).push_back(v1::LocalRequest { id, request: Some(request) });
        self.filled.notify_one();
        id
    }

    async fn send_all(self: Arc<Self>, socket: Arc<UnixStream>) {
        let sending = async {
            loop {
                let next = lock(&self.outbox).pop_front();
                match next {
                    Some(request) => frames::send(&socket, &request, None).await?,
                    None => self.filled.notified().await,
                }
            }
        };
        let ended: Option<io::Result<()>> = tokio::select! {
            ended = sending => Some(ended),
            () = self.closed.begun() => None,
        };
        self.end(ended.and_then(Result::err));
    }

    async fn receive_all(self: Arc<Self>, socket: Arc<UnixStream>) {
        let receiving = async {
            let mut reader = FrameReader::new();
            while let Some(response) = reader.receive::<v1::LocalResponse>(&socket).await? {
                self.take(response, &mut reader)?;
            }
            Ok(())
        };
        let ended: io::Result<()> = tokio::select! {
            ended = receiving => ended,
            () = self.closed.begun() => Ok(()),
        };
        self.end(ended.err());
    }

    fn end(&self, error: Option<io::Error>) {
        if let Some(error) = error {
            tracing::warn!(%error, "the socket of this node's worker broke: reading over the network until it is back");
        }
        self.close();
        lock(&self.waiting).clear();
        lock(&self.outbox).clear();
    }

    fn take(self: &Arc<Self>, response: v1::LocalResponse, reader: &mut FrameReader) -> io::Result<()> {
        let waiting = lock(&self.waiting).remove(&response.id);
        match response.response {
            Some(Response::Lent(lent)) => {
                let descriptor = reader.take_descriptor();
                let Some(descriptor) = descriptor else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a content was lent without a descriptor"));
                };
                let Some(Waiting::Lend { content, place, answer }) = waiting else {
                    self.give_back(lent.lease);
                    return Ok(());
                };
                let file = Arc::new(LocalFile::new(File::from(descriptor), &lent, Arc::clone(self), place));
                lock(&self.lent).insert(lent.lease, Loan { content, file: Arc::downgrade(&file) });
                // Dropped unless somebody takes it, and so given back.
                let _ = answer.send(Ok(file));
            }
            Some(Response::Staged(v1::StageFileResponse { room })) => {
                let Some(descriptor) = reader.take_descriptor() else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a file was staged without a descriptor"));
                };
                if let Some(Waiting::Stage { answer }) = waiting {
                    // Whoever asked may have gone away: the end of the lease ends the file.
                    let _ = answer.send(Ok((File::from(descriptor), room)));
                }
            }
            Some(Response::Persisted(persisted)) => {
                if let Some(Waiting::Persist { answer }) = waiting {
                    let _ = answer.send(Ok(persisted));
                }
            }
            Some(
                Response::StagingEnded(v1::EndStagingResponse {}) | Response::StagedKept(v1::KeepStagedResponse {}),
            ) => {
                if let Some(Waiting::Done { answer }) = waiting {
                    let _ = answer.send(Ok(()));
                }
            }
            Some(Response::Ensured(ensured)) => {
                if let Some(Waiting::Ensure { file, answer }) = waiting {
                    if let Some(file) = file.upgrade() {
                        file.learn(ensured.complete, ensured.present.into_iter().map(Into::into));
                    }
                    if let Some(answer) = answer {
                        let _ = answer.send(Ok(()));
                    }
                }
            }
            Some(Response::Failure(failure)) => {
                let error = from_failure(&failure.kind, failure.message);
                match waiting {
                    Some(Waiting::Lend { answer, .. }) => drop(answer.send(Err(error))),
                    Some(Waiting::Stage { answer }) => drop(answer.send(Err(error))),
                    Some(Waiting::Persist { answer }) => drop(answer.send(Err(error))),
                    Some(Waiting::Done { answer }) => drop(answer.send(Err(error))),
                    Some(Waiting::Ensure { answer: Some(answer), .. }) => drop(answer.send(Err(error))),
                    Some(Waiting::Ensure { answer: None, .. }) | None => {
                        tracing::debug!(%error, "the worker of this node refused what nobody waits for");
                    }
                }
            }
            Some(Response::Recall(recall)) => {
                // Held beyond the lock: the last reference gives its lease back, under the same lock.
                let files: Vec<_> = {
                    let lent = lock(&self.lent);
                    let known = recall.leases.iter().filter_map(|lease| lent.get(lease));
                    known.filter_map(|loan| Some((loan.content, loan.file.upgrade()?))).collect()
                };
                for (content, file) in files {
                    if recall.dropped {
                        file.mark_dropped();
                    }
                    (self.on_recall)(content);
                }
            }
            None => tracing::debug!("a response of a newer worker was passed over"),
        }
        Ok(())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "the socket of this node's worker broke")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
