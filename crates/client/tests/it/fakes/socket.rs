//! The unix socket of a worker.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use headpond_proto::{
    failure,
    frames::{self, FrameReader},
    status,
    v1::{self, local_request::Request, local_response::Response, staging_service_server::StagingService as _},
};
use headpond_types::{Error, ErrorKind};
use prost::Message;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

use super::{FakeWorker, bytes};

/// The workers whose sockets are in these directories.
static WORKERS: Mutex<BTreeMap<PathBuf, FakeWorker>> = Mutex::new(BTreeMap::new());

/// A socket that a test tells what to lend.
pub(crate) struct FakeSocket {
    state: Arc<Mutex<State>>,
    /// Changes with every request that was taken in.
    taken: watch::Sender<usize>,
    notices: watch::Sender<v1::RecallNotice>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Lent files come complete.
    pub(crate) complete: bool,
    pub(crate) refuse_lending: Option<ErrorKind>,
    pub(crate) refuse_ensuring: Option<ErrorKind>,
    /// Nothing is answered to ensuring.
    pub(crate) hang_ensuring: bool,
    pub(crate) refuse_staging: Option<ErrorKind>,
    pub(crate) lends: usize,
    pub(crate) stages: usize,
    /// Bytes that may be staged without asking.
    pub(crate) room: u64,
    pub(crate) ensures: Vec<v1::EnsureRequest>,
    pub(crate) returned: Vec<u64>,
    /// What was to be kept of staged files, and what they had there then.
    pub(crate) keeps: Vec<(v1::KeepStagedRequest, Vec<u8>)>,
    directory: PathBuf,
    lent: Vec<(u64, File, u64)>,
}

impl FakeSocket {
    /// Listens in `directory`, where it also puts the files that it lends.
    pub(crate) fn listen(directory: &Path) -> Self {
        let state = Arc::new(Mutex::new(State { directory: directory.to_owned(), ..State::default() }));
        let (taken, notices) = (watch::Sender::new(0), watch::Sender::new(v1::RecallNotice::default()));
        let path = Self::path(directory);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).expect("a free path");
        let (shared, told, wanted) = (Arc::clone(&state), taken.clone(), notices.clone());
        #[expect(clippy::disallowed_methods, reason = "aborted when the socket is dropped")]
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared), told.clone(), wanted.subscribe()));
            }
        });
        Self { state, taken, notices, serving }
    }

    /// What is staged through the socket in `directory` is persisted by `worker`.
    pub(crate) fn belongs_to(directory: &Path, worker: FakeWorker) {
        WORKERS.lock().expect("no test panicked in it").insert(directory.to_owned(), worker);
    }

    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("worker.sock")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked in it")
    }

    /// Wants lent contents back.
    pub(crate) fn recall(&self, leases: Vec<u64>) {
        self.notices.send_replace(v1::RecallNotice { leases, dropped: false });
    }

    /// Says that lent contents were dropped.
    pub(crate) fn drop_lent(&self, leases: Vec<u64>) {
        self.notices.send_replace(v1::RecallNotice { leases, dropped: true });
    }

    /// Waits until what has been asked fulfils `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut taken = self.taken.subscribe();
        let waiting = taken.wait_for(|_| condition(&self.state()));
        tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.expect("in time").expect("serving");
    }
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    stream: UnixStream,
    state: Arc<Mutex<State>>,
    taken: watch::Sender<usize>,
    mut notices: watch::Receiver<v1::RecallNotice>,
) {
    let mut reader = FrameReader::new();
    loop {
        let request = tokio::select! {
            request = reader.receive::<v1::LocalRequest>(&stream) => request,
            _ = notices.changed() => {
                let recall = Response::Recall(notices.borrow_and_update().clone());
                frames::send(&stream, &v1::LocalResponse { id: 0, response: Some(recall) }, None).await.expect("sent");
                continue;
            }
        };
        let Ok(Some(request)) = request else { return };
        let request_of = request.request.expect("a request");
        let (response, file) = match of_staged(&state, &request_of).await {
            Some(response) => (Some(response), None),
            None => answer(&state, request_of),
        };
        taken.send_modify(|taken| *taken += 1);
        if let Some(response) = response {
            let response = v1::LocalResponse { id: request.id, response: Some(response) };
            if frames::send(&stream, &response, file.as_ref().map(AsFd::as_fd)).await.is_err() {
                return;
            }
        }
    }
}

fn refusal(kind: ErrorKind) -> Response {
    let v1::Failure { kind, message } = failure(&Error::new(kind, "told to refuse"));
    Response::Failure(v1::LocalFailure { kind, message })
}

/// The answer to what concerns a staged file.
async fn of_staged(state: &Mutex<State>, request: &Request) -> Option<Response> {
    let directory = state.lock().expect("no test panicked in it").directory.clone();
    let worker = WORKERS.lock().expect("no test panicked in it").get(&directory).cloned();
    let answered = match request {
        Request::Persist(persist) => {
            let persisted = worker?.persist(tonic::Request::new(persist.clone())).await;
            persisted.map(|persisted| Response::Persisted(persisted.into_inner()))
        }
        Request::EndStaging(end) => {
            let ended = worker?.end_staging(tonic::Request::new(end.clone())).await;
            ended.map(|ended| Response::StagingEnded(ended.into_inner()))
        }
        _ => return None,
    };
    Some(answered.unwrap_or_else(|status| {
        let v1::Failure { kind, message } = failure(&status::to_error(&status, "told to fail"));
        Response::Failure(v1::LocalFailure { kind, message })
    }))
}

fn answer(state: &Mutex<State>, request: Request) -> (Option<Response>, Option<File>) {
    let mut state = state.lock().expect("no test panicked in it");
    match request {
        Request::Lend(lend) => {
            state.lends += 1;
            if let Some(kind) = state.refuse_lending {
                return (Some(refusal(kind)), None);
            }
            let grant = lend.grant.expect("a grant").grant;
            let length = v1::ContentGrant::decode(grant).expect("a grant").length;
            let lease = state.lends as u64;
            let path = state.directory.join(lease.to_string());
            let file = File::create(&path).expect("a file");
            file.set_len(length).expect("a length");
            let complete = state.complete || length <= lend.fill_up_to;
            if complete {
                file.write_all_at(&bytes(0..length), 0).expect("written");
            }
            state.lent.push((lease, file, length));
            let lent = v1::LendResponse { lease, complete, length };
            (Some(Response::Lent(lent)), Some(File::open(path).expect("readable")))
        }
        Request::Ensure(ensure) => {
            state.ensures.push(ensure.clone());
            if state.hang_ensuring {
                return (None, None);
            }
            if let Some(kind) = state.refuse_ensuring {
                return (Some(refusal(kind)), None);
            }
            let (_, file, _) = state.lent.iter().find(|(lease, ..)| *lease == ensure.lease).expect("lent");
            for range in &ensure.ranges {
                file.write_all_at(&bytes(range.start..range.end), range.start).expect("written");
            }
            (Some(Response::Ensured(v1::EnsureResponse { complete: state.complete, present: ensure.ranges })), None)
        }
        Request::GiveBack(back) => {
            state.returned.push(back.lease);
            (None, None)
        }
        Request::Stage(stage) => {
            if let Some(kind) = state.refuse_staging {
                return (Some(refusal(kind)), None);
            }
            state.stages += 1;
            let grant = stage.grant.expect("a grant").grant;
            let lease = v1::StagingGrant::decode(grant).expect("a grant").lease;
            let path = state.directory.join(format!("staged-{lease}"));
            let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
            let room = state.room;
            (Some(Response::Staged(v1::StageFileResponse { room })), Some(file.expect("a file")))
        }
        Request::KeepStaged(keep) => {
            let grant = keep.grant.clone().expect("a grant").grant;
            let lease = v1::StagingGrant::decode(grant).expect("a grant").lease;
            let file = std::fs::read(state.directory.join(format!("staged-{lease}"))).expect("a file");
            let range = keep.range.expect("a range");
            let at = |offset: u64| usize::try_from(offset).expect("small");
            state.keeps.push((keep, file[at(range.start)..at(range.end)].to_vec()));
            (Some(Response::StagedKept(v1::KeepStagedResponse {})), None)
        }
        Request::Persist(_) | Request::EndStaging(_) => (Some(refusal(ErrorKind::NotSupported)), None),
    }
}
