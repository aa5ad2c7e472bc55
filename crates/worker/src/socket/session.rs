//! One local client: its requests, its leases, and what it is asked to give back.
//!
//! A session is one task. Requests are answered in the order in which they become ready; when the session ends, those that
//! are left are dropped (fills go on), and all its leases and staged files with them.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use headpond_proto::{
    failure, frames,
    v1::{
        EndStagingRequest, EndStagingResponse, EnsureRequest, EnsureResponse, KeepStagedResponse, LendRequest,
        LendResponse, LocalFailure, LocalRequest, LocalResponse, RecallNotice, StageFileRequest, StageFileResponse,
        local_request::Request, local_response::Response,
    },
};
use headpond_runtime::Tasks;
use headpond_types::{ContentId, Error, ErrorKind, Result};
use tokio::{
    net::UnixStream,
    sync::{broadcast, mpsc},
};

use super::lease::Lease;
use crate::{ranges::checked, reader::Reader, staging::Stager};

/// Requests of one client worked on at once; further ones wait in the socket.
const MAX_REQUESTS: usize = 256;

/// How long a client may leave its answers unread before it is cut off.
const STALLED: Duration = Duration::from_mins(1);

/// Ids of sessions; none is used twice by one process.
static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

/// Ids of leases; none is used twice by one process.
static NEXT_LEASE: AtomicU64 = AtomicU64::new(1);

/// Leases named in one notice at most, so that it fits a frame.
const MAX_NOTICE: usize = 10_000;

/// A lease that the client has or is about to get.
#[derive(Debug)]
struct Held {
    lease: Arc<Lease>,
    /// The client knows the lease, and was not told yet that its file was dropped.
    to_tell: bool,
}

/// An answer; with a lease, the descriptor of its cache file goes along.
#[derive(Debug)]
struct Answer {
    message: LocalResponse,
    descriptor: Option<File>,
}

impl Answer {
    /// To the request `id`; 0 for what was not asked.
    const fn new(id: u64, response: Response, descriptor: Option<File>) -> Self {
        Self { message: LocalResponse { id, response: Some(response) }, descriptor }
    }
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    socket: UnixStream,
    reader: Arc<Reader>,
    stager: Arc<Stager>,
    tasks: Tasks,
    leases: Mutex<HashMap<u64, Held>>,
}

impl Session {
    pub(super) fn new(socket: UnixStream, reader: Arc<Reader>, stager: Arc<Stager>, tasks: Tasks) -> Self {
        let id = NEXT_SESSION.fetch_add(1, Ordering::Relaxed);
        Self { id, socket, reader, stager, tasks, leases: Mutex::default() }
    }

    /// Serves the client until it hangs up or shutdown begins; then what it has asked is still answered.
    pub(super) async fn serve(self, recalls: broadcast::Receiver<ContentId>) {
        let (answers, outgoing) = mpsc::channel(MAX_REQUESTS);
        self.reader.metrics.local_clients.inc();
        let ended = tokio::try_join!(self.receive(answers, recalls), self.send(outgoing));
        self.reader.metrics.local_clients.dec();
        if let Err(error) = ended {
            tracing::debug!(%error, "a local client was cut off");
        }
        let leases = std::mem::take(&mut *self.leases());
        self.reader.metrics.leases.dec_by(i64::try_from(leases.len()).unwrap_or(i64::MAX));
        self.reader.cache.take_back(leases).await;
        self.stager.end_session(self.id).await;
    }

    async fn receive(
        &self,
        answers: mpsc::Sender<Answer>,
        mut recalls: broadcast::Receiver<ContentId>,
    ) -> io::Result<()> {
        let mut frames = frames::FrameReader::new();
        let mut drops = self.reader.cache.store().drops();
        let mut working: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = working.next() => {}
                () = self.tasks.shutdown().begun() => break,
                frame = frames.receive::<LocalRequest>(&self.socket), if working.len() < MAX_REQUESTS => {
                    let Some(request) = frame? else { return Ok(()) };
                    working.push(Box::pin(self.answer(request, answers.clone())));
                }
                recalled = recalls.recv() => {
                    // Recalls that were missed come again when the store is short of room again.
                    if let Ok(content) = recalled {
                        working.push(Box::pin(self.recall(content, answers.clone())));
                    }
                }
                Ok(()) = drops.changed() => working.push(Box::pin(self.tell_dropped(answers.clone()))),
            }
        }
        while working.next().await.is_some() {}
        Ok(())
    }

    /// Sends answers until nobody can send any more.
    async fn send(&self, mut answers: mpsc::Receiver<Answer>) -> io::Result<()> {
        while let Some(Answer { message, descriptor }) = answers.recv().await {
            let descriptor = descriptor.as_ref().map(|file| file.as_fd());
            let sent = tokio::time::timeout(STALLED, frames::send(&self.socket, &message, descriptor)).await;
            sent.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not read its answers"))??;
        }
        Ok(())
    }

    async fn answer(&self, request: LocalRequest, answers: mpsc::Sender<Answer>) {
        let answered = match request.request {
            Some(Request::Lend(lend)) => return self.answer_lend(request.id, lend, answers).await,
            Some(Request::Ensure(ensure)) => self.ensure(ensure).await,
            Some(Request::GiveBack(lease)) => return self.give_back(lease.lease).await,
            Some(Request::Stage(stage)) => return self.answer_stage(request.id, stage, answers).await,
            Some(Request::Persist(persist)) => self.stager.persist(persist).await.map(Response::Persisted),
            Some(Request::EndStaging(EndStagingRequest { grant, content })) => {
                let ended = self.stager.end(grant.as_ref(), content.map(Into::into)).await;
                ended.map(|()| Response::StagingEnded(EndStagingResponse {}))
            }
            Some(Request::KeepStaged(keep)) => {
                self.stager.keep(keep).await.map(|()| Response::StagedKept(KeepStagedResponse {}))
            }
            None => Err(Error::new(ErrorKind::NotSupported, "this worker does not know that request")),
        };
        let response = answered.unwrap_or_else(|error| Response::Failure(told(&error)));
        // It fails only when the session is ending.
        let _ = answers.send(Answer::new(request.id, response, None)).await;
    }

    async fn answer_lend(&self, request: u64, lend: LendRequest, answers: mpsc::Sender<Answer>) {
        let (lease, file) = match Lease::grant(&self.reader, lend.grant.as_ref(), lend.fill_up_to, &self.tasks).await {
            Ok(granted) => granted,
            Err(error) => {
                let _ = answers.send(Answer::new(request, Response::Failure(told(&error)), None)).await;
                return;
            }
        };
        let id = NEXT_LEASE.fetch_add(1, Ordering::Relaxed);
        let lent = LendResponse { lease: id, complete: lease.is_complete(), length: lease.length() };
        self.leases().insert(id, Held { lease: Arc::new(lease), to_tell: false });
        self.reader.metrics.leases.inc();
        let _ = answers.send(Answer::new(request, Response::Lent(lent), Some(file))).await;
        // A notice about a lease must not overtake the answer that grants it; what was missed until here is said now.
        let dropped = self.leases().get_mut(&id).is_some_and(|held| {
            held.to_tell = true;
            held.lease.is_dropped()
        });
        if dropped {
            self.tell_dropped(answers).await;
        }
    }

    async fn answer_stage(&self, request: u64, stage: StageFileRequest, answers: mpsc::Sender<Answer>) {
        let answer = match self.stager.lend(stage.grant.as_ref(), self.id).await {
            Ok((file, room)) => Answer::new(request, Response::Staged(StageFileResponse { room }), Some(file)),
            Err(error) => Answer::new(request, Response::Failure(told(&error)), None),
        };
        let _ = answers.send(answer).await;
    }

    async fn ensure(&self, request: EnsureRequest) -> Result<Response> {
        let ranges = checked(request.ranges)?;
        let lease = self.leases().get(&request.lease).map(|held| Arc::clone(&held.lease)).ok_or_else(|| {
            let message = format!("lease {} was given back or never granted: ask for the content again", request.lease);
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
        let present = lease.ensure(&self.reader, ranges, request.readahead.map(Into::into)).await?;
        let present = present.into_iter().map(Into::into).collect();
        Ok(Response::Ensured(EnsureResponse { complete: lease.is_complete(), present }))
    }

    async fn give_back(&self, lease: u64) {
        let lease = self.leases().remove(&lease);
        if let Some(lease) = lease {
            self.reader.metrics.leases.dec();
            self.reader.cache.take_back(lease).await;
        }
    }

    async fn recall(&self, content: ContentId, answers: mpsc::Sender<Answer>) {
        let wanted = |(id, held): (&u64, &Held)| (held.lease.content() == content).then_some(*id);
        let leases: Vec<_> = self.leases().iter().filter_map(wanted).collect();
        if !leases.is_empty() {
            let notice = Response::Recall(RecallNotice { leases, dropped: false });
            let _ = answers.send(Answer::new(0, notice, None)).await;
        }
    }

    /// Names the leases whose files the store has dropped, each once.
    async fn tell_dropped(&self, answers: mpsc::Sender<Answer>) {
        let told = |(id, held): (&u64, &mut Held)| {
            let news = held.to_tell && held.lease.is_dropped();
            held.to_tell &= !news;
            news.then_some(*id)
        };
        let leases: Vec<_> = self.leases().iter_mut().filter_map(told).collect();
        for leases in leases.chunks(MAX_NOTICE) {
            let notice = Response::Recall(RecallNotice { leases: leases.to_vec(), dropped: true });
            let _ = answers.send(Answer::new(0, notice, None)).await;
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.leases.lock().expect("no panic while held")
    }
}

fn told(error: &Error) -> LocalFailure {
    let headpond_proto::v1::Failure { kind, message } = failure(error);
    LocalFailure { kind, message }
}
