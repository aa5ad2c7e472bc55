//! The workers of this node, by their sockets.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_runtime::{Shutdown, Tasks};
use headpond_types::{ContentId, Member, Ring};
use tokio::time::{Instant, timeout};

use super::{Connection, Place, Places, connection::OnRecall};
use crate::ClientConfig;

/// How long a socket that could not be connected is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections to the workers of this node; made when first needed, and again when one broke.
pub(crate) struct LocalWorkers {
    enabled: bool,
    node: String,
    connect_timeout: Duration,
    tasks: Tasks,
    on_recall: OnRecall,
    places: Places,
    /// Not the end of the tasks: what was written is looked after behind that.
    closed: Shutdown,
    sockets: Mutex<HashMap<String, Arc<Socket>>>,
}

#[derive(Default)]
struct Socket {
    current: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting, so that one attempt is made at a time; says before when none is worth it.
    retry_at: tokio::sync::Mutex<Option<Instant>>,
}

impl LocalWorkers {
    pub(crate) fn new(config: &ClientConfig, tasks: Tasks, places: Places, on_recall: OnRecall) -> Self {
        Self {
            enabled: config.prefer_local,
            node: config.node.clone(),
            connect_timeout: config.connect_timeout,
            tasks,
            on_recall,
            places,
            closed: Shutdown::new(),
            sockets: Mutex::default(),
        }
    }

    /// A connection to the worker of this node that is to keep `content`; with several on the node the one that comes first
    /// in the ring's order for its first block. `None` when there is none or it cannot be connected now.
    pub(crate) async fn connection(&self, ring: &Ring, content: ContentId) -> Option<Arc<Connection>> {
        self.connection_to(self.member(ring, content)?).await
    }

    /// The worker of this node that is to keep `content`, if there is one.
    pub(crate) fn member<'a>(&self, ring: &'a Ring, content: ContentId) -> Option<&'a Member> {
        if !self.enabled {
            return None;
        }
        let mut here = ring.members.iter().filter(|member| self.is_here(member));
        match (here.next()?, here.next()) {
            (only, None) => Some(only),
            (_, Some(_)) => ring.owners(content, 0).into_iter().find(|member| self.is_here(member)),
        }
    }

    /// A connection to a worker of this node; `None` when it cannot be connected now.
    pub(crate) async fn connection_to(&self, member: &Member) -> Option<Arc<Connection>> {
        let path = &member.socket;
        let socket = Arc::clone(lock(&self.sockets).entry(path.clone()).or_default());
        if let Some(open) = socket.open() {
            return Some(open);
        }
        self.connect(path, &socket).await
    }

    /// Connects again where a connection broke, so that files of a worker that was lost are given up as soon as it is back.
    pub(crate) async fn reconnect(&self) {
        let sockets: Vec<_> =
            lock(&self.sockets).iter().map(|(path, socket)| (path.clone(), Arc::clone(socket))).collect();
        for (path, socket) in sockets {
            if lock(&socket.current).is_some() && socket.open().is_none() {
                self.connect(&path, &socket).await;
            }
        }
    }

    async fn connect(&self, path: &str, socket: &Socket) -> Option<Arc<Connection>> {
        let mut retry_at = socket.retry_at.lock().await;
        if let Some(open) = socket.open() {
            return Some(open);
        }
        if retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return None;
        }
        let attempt = Connection::open(Path::new(path), &self.tasks, self.closed.child(), Arc::clone(&self.on_recall));
        match timeout(self.connect_timeout, attempt).await {
            Ok(Ok(connection)) => {
                *retry_at = None;
                let broken = lock(&socket.current).replace(Arc::clone(&connection));
                if let Some(broken) = broken {
                    broken.succeed();
                }
                Some(connection)
            }
            failed => {
                *retry_at = Some(Instant::now() + PAUSE);
                let error = failed.map_or_else(|late| late.to_string(), |refused| format!("{refused:?}"));
                tracing::debug!(socket = path, error, "the worker of this node cannot be reached over its socket");
                None
            }
        }
    }

    /// A place for a cache file that is to be borrowed, if one is free.
    pub(crate) fn place(&self) -> Option<Place> {
        self.places.take()
    }

    fn is_here(&self, member: &Member) -> bool {
        member.node == self.node && !member.socket.is_empty()
    }

    /// Closes all connections, also those that are made later.
    pub(crate) fn close(&self) {
        self.closed.begin();
        lock(&self.sockets).clear();
    }
}

impl Socket {
    fn open(&self) -> Option<Arc<Connection>> {
        lock(&self.current).as_ref().filter(|connection| connection.is_open()).cloned()
    }
}

impl fmt::Debug for LocalWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWorkers").field("node", &self.node).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
