//! How one part of a process reaches others and is reached.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use headpond_runtime::Tasks;
use headpond_types::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use tokio::{net::TcpListener, task::spawn_blocking};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Role, TlsConfig,
    accept::Incoming,
    dial::Dialler,
    files::{Files, Material, Version},
};

/// Plaintext, or TLS with the certificates of a [`TlsConfig`]. Clones are the same.
#[derive(Clone)]
pub struct Transport(pub(crate) Option<Arc<Tls>>);

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
    pub const fn plaintext() -> Self {
        Self(None)
    }

    /// What `config` says. Looks after the files in `tasks` from then on: what cannot be used is logged, and what was used before stays.
    /// Blocks on reading small files; needs a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the setting or the file and what to do.
    pub fn load(config: &TlsConfig, tasks: &Tasks) -> Result<Self> {
        let Some(files) = Files::of(config)? else { return Ok(Self::plaintext()) };
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
        Ok(Self(Some(tls)))
    }

    /// What this process's certificate says that it may do; `None` without TLS.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.0.as_ref().map(|tls| tls.current().role.clone())
    }

    /// A channel to `endpoint`, whose URI is `http://HOST:PORT` with TLS too. Connects at its first use; all that the endpoint says of
    /// deadlines and windows counts. Answers of a server that cannot be trusted, or refuses our certificate, are errors that
    /// `headpond_proto::status::to_error` turns into `PermissionDenied`; one that does not speak TLS is `InvalidArgument`.
    #[must_use]
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        match &self.0 {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint.connect_with_connector_lazy(Dialler(Arc::clone(tls))),
        }
    }

    /// The connections of `listener`, on which `what` serves; with TLS those that have shown a certificate of the authority. Handshakes run
    /// in `tasks` and end with their shutdown. Logs a warning where anybody can reach it in plaintext.
    #[must_use]
    pub fn incoming(&self, what: &'static str, listener: TcpListener, tasks: &Tasks) -> Incoming {
        match &self.0 {
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
