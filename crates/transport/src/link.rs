//! Ways to servers: over the network, or within this process.

use std::{
    collections::HashMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _, TryFutureExt as _,
    future::{BoxFuture, Either, MapErr, ready as ready_with},
};
use headpond_runtime::Tasks;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service, StdError,
        http::{Request, Response},
    },
    service::Routes,
    transport::{Channel, channel::ResponseFuture},
};

use crate::Peer;

/// Servers of one process that its other parts call without a connection: a request is handed to the service in the task that makes it, which spares both
/// sides HTTP/2, system calls and changes of threads. Messages, checks and deadlines are those of the network. The default has no servers and takes none; clones are the same.
#[derive(Clone, Default)]
pub struct Neighbours(Option<Table>);

/// By the `host:port` that they are dialled at. Nothing else is locked while it is held.
type Table = Arc<RwLock<HashMap<String, Neighbour>>>;

/// A server of this process.
#[derive(Clone)]
pub(crate) struct Neighbour {
    /// `None` once its shutdown has begun. Nothing else is locked while it is held.
    routes: Arc<RwLock<Option<Routes>>>,
    tasks: Tasks,
}

/// The way to a server, for clients of `headpond-proto`. Clones share it.
#[derive(Clone, Debug)]
pub struct Link(To);

#[derive(Clone, Debug)]
enum To {
    Network(Channel),
    Neighbour { server: Neighbour, peer: Peer },
}

/// Mark of a request that was made in the process of the server.
#[derive(Clone, Copy, Debug)]
struct SameProcess;

/// Whether whoever makes `request` is a part of this process, which ends with it.
#[must_use]
pub fn is_of_this_process<T>(request: &tonic::Request<T>) -> bool {
    request.extensions().get::<SameProcess>().is_some()
}

impl Neighbours {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Table::default()))
    }

    /// Has `routes` called by whoever dials `address` from now on, until the shutdown of `tasks`, which wait for calls in flight.
    pub(crate) fn add(&self, address: String, routes: Routes, tasks: &Tasks) {
        let Some(table) = self.0.clone() else { return };
        let server = Neighbour { routes: Arc::new(RwLock::new(Some(routes.prepare()))), tasks: tasks.clone() };
        let slot = Arc::clone(&server.routes);
        table.write().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), server);
        let shutdown = tasks.shutdown().clone();
        tasks.spawn(async move {
            shutdown.begun().await;
            *slot.write().unwrap_or_else(PoisonError::into_inner) = None;
            table.write().unwrap_or_else(PoisonError::into_inner).remove(&address);
        });
    }

    pub(crate) fn get(&self, address: &str) -> Option<Neighbour> {
        self.0.as_ref()?.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

impl Link {
    pub(crate) const fn network(channel: Channel) -> Self {
        Self(To::Network(channel))
    }

    /// To `server`, which takes us for `peer`.
    pub(crate) const fn neighbour(server: Neighbour, peer: Peer) -> Self {
        Self(To::Neighbour { server, peer })
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = Either<MapErr<ResponseFuture, fn(tonic::transport::Error) -> StdError>, Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match &mut self.0 {
            To::Network(channel) => Poll::Ready(ready!(channel.poll_ready(cx)).map_err(Into::into)),
            To::Neighbour { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &mut self.0 {
            To::Network(channel) => Either::Left(channel.call(request).map_err(Into::into)),
            To::Neighbour { server, peer } => Either::Right(server.call(request, peer.clone())),
        }
    }
}

type Answer = BoxFuture<'static, Result<Response<Body>, StdError>>;

impl Neighbour {
    fn call(&self, mut request: Request<Body>, peer: Peer) -> Answer {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut routes) = routes else {
            return ready_with(Err(Status::unavailable("the server has ended").into())).boxed();
        };
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(SameProcess);
        self.tasks.track(routes.call(request).map_err(|never| match never {})).boxed()
    }
}

/// Where this machine reaches what listens at `address`: nobody is called by a wildcard, and no certificate names one.
#[must_use]
pub fn dialled(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

impl PartialEq for Neighbours {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Neighbours {}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.as_ref().map(|table| table.read().unwrap_or_else(PoisonError::into_inner));
        f.debug_set().entries(table.iter().flat_map(|table| table.keys())).finish()
    }
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbour").finish_non_exhaustive()
    }
}
