//! How one part of a process reaches others and is reached.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use headpond_runtime::Tasks;
use headpond_types::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use tokio::{net::TcpListener, task::spawn_blocking};
use tonic::{service::Routes, transport::Endpoint};

use crate::{
    Link, Neighbours, Peer, Role, TlsConfig,
    accept::Incoming,
    dial::Dialler,
    files::{Files, Material, Version},
};

/// Plaintext, or TLS with the certificates of a [`TlsConfig`]; and the servers of this process. Clones are the same.
#[derive(Clone)]
pub struct Transport {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) neighbours: Neighbours,
}

/// TLS with what the files last held.
pub(crate) struct Tls {
    pub(crate) files: Files,
    pub(crate) server_name: Option<ServerName<'static>>,
    /// Nothing else is locked while it is held.
    pub(crate) current: RwLock<Arc<Material>>,
}

impl Transport {
    /// Without TLS.
    #[must_use]
    pub fn plaintext() -> Self {
        Self { tls: None, neighbours: Neighbours::default() }
    }

    /// What `config` says, and straight to `neighbours`. Looks after the files in `tasks` from then on: what cannot be used is logged, and what was used before stays.
    /// Blocks on reading small files; needs a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the setting or the file and what to do.
    pub fn load(config: &TlsConfig, neighbours: &Neighbours, tasks: &Tasks) -> Result<Self> {
        let neighbours = neighbours.clone();
        let Some(files) = Files::of(config)? else { return Ok(Self { tls: None, neighbours }) };
        let server_name = config.server_name.clone().map(|name| {
            ServerName::try_from(name.clone()).map_err(|error| {
                let message = format!("tls.server_name {name:?} is neither a host name nor an address");
                Error::new(ErrorKind::InvalidArgument, message).with_source(error)
            })
        });
        let version = files.version();
        let current = RwLock::new(Arc::new(files.load()?));
        let tls = Arc::new(Tls { files, server_name: server_name.transpose()?, current });
        if !config.reload_interval.is_zero() {
            let (watched, interval) = (Arc::clone(&tls), config.reload_interval);
            tasks.spawn_until_shutdown(async move {
                let mut version = version;
                loop {
                    tokio::time::sleep(interval).await;
                    version = watched.reload(version).await;
                }
            });
        }
        Ok(Self { tls: Some(tls), neighbours })
    }

    /// What this process's certificate says that it may do; `None` without TLS.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.tls.as_ref().map(|tls| tls.current().role.clone())
    }

    /// The way to `endpoint`, whose URI is `http://HOST:PORT` with TLS too: to the neighbour that is dialled there, else over the network. Connects at its
    /// first use; all that the endpoint says of deadlines and windows counts. Answers of a server that cannot be trusted, or refuses our certificate, are errors that
    /// `headpond_proto::status::to_error` turns into `PermissionDenied`; one that does not speak TLS is `InvalidArgument`.
    #[must_use]
    pub fn link(&self, endpoint: &Endpoint) -> Link {
        let neighbour = endpoint.uri().authority().and_then(|authority| self.neighbours.get(authority.as_str()));
        match (neighbour, &self.tls) {
            (Some(server), None) => Link::neighbour(server, Peer::Anyone),
            (Some(server), Some(tls)) => Link::neighbour(server, Peer::Known(tls.current().role.clone())),
            (None, None) => Link::network(endpoint.connect_lazy()),
            (None, Some(tls)) => Link::network(endpoint.connect_with_connector_lazy(Dialler(Arc::clone(tls)))),
        }
    }

    /// Has `routes` called by neighbours that dial `address`, a `host:port`, until the shutdown of `tasks` begins. Needs a tokio runtime.
    pub fn offer(&self, address: impl Into<String>, routes: &Routes, tasks: &Tasks) {
        self.neighbours.add(address.into(), routes.clone(), tasks);
    }

    /// The connections of `listener`, on which `what` serves; with TLS those that have shown a certificate of the authority. Handshakes run
    /// in `tasks` and end with their shutdown. Logs a warning where anybody can reach it in plaintext.
    #[must_use]
    pub fn incoming(&self, what: &'static str, listener: TcpListener, tasks: &Tasks) -> Incoming {
        match &self.tls {
            None => Incoming::plaintext(what, listener),
            Some(tls) => Incoming::tls(what, listener, Arc::clone(tls), tasks),
        }
    }
}

impl Tls {
    pub(crate) fn current(&self) -> Arc<Material> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads the files if they are no longer those of `known`; answers which were looked at.
    pub(crate) async fn reload(self: &Arc<Self>, known: Version) -> Version {
        let tls = Arc::clone(self);
        let looked = spawn_blocking(move || {
            let version = tls.files.version();
            (version != known).then(|| (version, tls.files.load())).ok_or(known)
        });
        match looked.await {
            Ok(Ok((version, Ok(material)))) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
                tracing::info!("the TLS files have changed: new connections use them");
                version
            }
            Ok(Ok((version, Err(error)))) => {
                tracing::error!(%error, "the TLS files have changed and cannot be used: those before them still are");
                version
            }
            Ok(Err(known)) => known,
            // The runtime is ending.
            Err(_) => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transport").field(&self.role()).finish()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}
