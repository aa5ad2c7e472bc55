//! A worker that has every content.

use std::sync::{Arc, Mutex, MutexGuard};

use futures::{StreamExt, stream::BoxStream};
use headpond_proto::{
    status,
    v1::{self, worker_service_server::WorkerService},
};
use headpond_types::{ByteRange, Error, ErrorKind};
use tonic::{Request, Response, Status};

use super::{Staging, bytes};

/// What a worker does with reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Serves them.
    Serve,
    /// Refuses them.
    Fail(ErrorKind),
    /// Refuses the next one, and then serves.
    FailOnce(ErrorKind),
    /// Sends one chunk and then an error.
    Cut,
    /// Never answers.
    Hang,
    /// Answers bytes of another place.
    Misplace,
}

/// A worker that a test tells what to do.
#[derive(Clone)]
pub(crate) struct FakeWorker {
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    pub(crate) behaviour: Behaviour,
    pub(crate) reads: Vec<v1::ReadRequest>,
    pub(crate) loads: Vec<ByteRange>,
    pub(crate) freed: usize,
    pub(crate) staging: Staging,
}

/// Bytes in one message.
const CHUNK: u64 = 10_000;

impl FakeWorker {
    pub(crate) fn new() -> Self {
        let state = State {
            behaviour: Behaviour::Serve,
            reads: Vec::new(),
            loads: Vec::new(),
            freed: 0,
            staging: Staging::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked in it")
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// Reads that asked for bytes.
    pub(crate) fn reads(&self) -> usize {
        self.state().reads.iter().filter(|read| !read.ranges.is_empty()).count()
    }
}

fn refusal(kind: ErrorKind) -> Status {
    status::from_error(&Error::new(kind, "told to fail"))
}

#[tonic::async_trait]
impl WorkerService for FakeWorker {
    type ReadStream = BoxStream<'static, Result<v1::ReadResponse, Status>>;
    type LoadStream = BoxStream<'static, Result<v1::LoadProgress, Status>>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let behaviour = {
            let mut state = self.state();
            state.reads.push(request.clone());
            let behaviour = state.behaviour;
            if let Behaviour::FailOnce(_) = behaviour {
                state.behaviour = Behaviour::Serve;
            }
            behaviour
        };
        let shift = u64::from(behaviour == Behaviour::Misplace);
        let chunks = request.ranges.into_iter().flat_map(move |range| {
            (range.start..range.end).step_by(10_000).map(move |start| {
                let end = (start + CHUNK).min(range.end);
                Ok(v1::ReadResponse { offset: start + shift, data: bytes(start..end).into() })
            })
        });
        let chunks = futures::stream::iter(chunks);
        Ok(Response::new(match behaviour {
            Behaviour::Serve | Behaviour::Misplace => chunks.boxed(),
            Behaviour::Fail(kind) | Behaviour::FailOnce(kind) => return Err(refusal(kind)),
            Behaviour::Cut => {
                chunks.take(1).chain(futures::stream::iter([Err(refusal(ErrorKind::Unavailable))])).boxed()
            }
            Behaviour::Hang => futures::stream::pending().boxed(),
        }))
    }

    async fn load(&self, request: Request<v1::LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let ranges: Vec<ByteRange> = request.into_inner().ranges.into_iter().map(Into::into).collect();
        let total = ranges.iter().map(|range| range.end - range.start).sum();
        let mut state = self.state();
        if let Behaviour::Fail(kind) = state.behaviour {
            return Err(refusal(kind));
        }
        state.loads.extend(ranges);
        let steps = [total / 2, total].map(|done| Ok(v1::LoadProgress { done, total }));
        Ok(Response::new(futures::stream::iter(steps).boxed()))
    }

    async fn free(&self, request: Request<v1::FreeRequest>) -> Result<Response<v1::FreeResponse>, Status> {
        let contents = request.into_inner().grants.len();
        self.state().freed += contents;
        Ok(Response::new(v1::FreeResponse { contents: contents as u64, bytes: 5 }))
    }

    async fn presence(&self, request: Request<v1::PresenceRequest>) -> Result<Response<v1::PresenceResponse>, Status> {
        let cached_bytes = (1..).take(request.into_inner().contents.len()).collect();
        Ok(Response::new(v1::PresenceResponse { cached_bytes }))
    }

    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        Ok(Response::new(v1::PingResponse {}))
    }
}
