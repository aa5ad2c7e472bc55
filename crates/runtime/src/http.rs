//! The HTTP port of a process: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use headpond_types::{Error, ErrorKind, Result};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Readiness, Tasks};

/// Section `[http]`. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// `host:port` to serve metrics and health on; empty serves none. Nothing secret is answered here. Default:
    /// `127.0.0.1:7110`.
    pub bind: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { bind: "127.0.0.1:7110".to_owned() }
    }
}

/// The metrics of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    // Innermost: nothing else is locked while it is held.
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// No metrics yet. Parts register under a prefix of their own, `headpond_worker` and the like.
    #[must_use]
    pub fn new() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::default())) }
    }

    /// Lets `register` add metrics.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All metrics in OpenMetrics text, which Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(fmt::Error) => unreachable!("writing to a String does not fail"),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Listens at `bind` and serves until shutdown begins. Answers the address, with the port that the system chose for 0.
///
/// # Errors
/// As [`listen`].
pub async fn serve(bind: &str, metrics: Metrics, readiness: Readiness, tasks: &Tasks) -> Result<SocketAddr> {
    let (listener, address) = listen("the HTTP port of metrics and health", bind).await?;
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(text).with_state(metrics));
    let shutdown = tasks.shutdown().clone();
    tasks.spawn(async move {
        let begun = async move { shutdown.begun().await };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(begun).await {
            tracing::error!(%error, %address, "the HTTP port of metrics and health has failed");
        }
    });
    Ok(address)
}

/// Listens at `bind` (`host:port`); `what` says for whom, in errors.
///
/// # Errors
/// `InvalidArgument` when `bind` is no address, `AlreadyExists` when the port is in use, `PermissionDenied` when this user may
/// not use it.
pub async fn listen(what: &str, bind: &str) -> Result<(TcpListener, SocketAddr)> {
    let failed = |error: std::io::Error| bind_error(what, bind, error);
    let listener = TcpListener::bind(bind).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn bind_error(what: &str, bind: &str, error: std::io::Error) -> Error {
    let (kind, message) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            ErrorKind::AlreadyExists,
            format!("{what} cannot listen on {bind}: the port is in use, choose another or stop who uses it"),
        ),
        std::io::ErrorKind::PermissionDenied => (
            ErrorKind::PermissionDenied,
            format!("{what} cannot listen on {bind}: this user may not, choose a port above 1023"),
        ),
        _ => (
            ErrorKind::InvalidArgument,
            format!("{what} cannot listen on {bind:?}: write an address of this machine and a port, as 127.0.0.1:7100"),
        ),
    };
    Error::new(kind, message).with_source(error)
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let reasons = readiness.reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.iter().map(|reason| format!("{reason}\n")).collect())
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        time::Duration,
    };

    use prometheus_client::metrics::counter::Counter;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::Shutdown;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn a_process_says_whether_it_lives_whether_it_is_ready_and_what_it_counts() {
        let (metrics, readiness, tasks) = (Metrics::new(), Readiness::new(), Tasks::new(Shutdown::new()));
        let counter = Counter::<u64>::default();
        metrics.register(|registry| registry.register("headpond_reads", "Reads served", counter.clone()));
        counter.inc_by(3);
        let journal = readiness.condition("journal", "is replaying");
        let address = serve("127.0.0.1:0", metrics, readiness.clone(), &tasks).await.expect("a free port");

        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = fetch(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("journal: is replaying"), "{answer}");
        journal.holds();
        let registered = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&registered);
        readiness.check("worker", move || match seen.load(SeqCst) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, "no master yet")),
        });
        assert!(fetch(address, "/readyz").await.contains("worker: no master yet"));
        registered.store(true, SeqCst);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = fetch(address, "/metrics").await;
        assert!(answer.contains("\nheadpond_reads_total 3\n"), "{answer}");

        assert!(tasks.drain(Duration::from_secs(5)).await);
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_and_a_bad_address_are_told_apart() {
        let (_first, address) = listen("the master", "127.0.0.1:0").await.expect("a free port");
        let error = listen("the worker", &address.to_string()).await.expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().starts_with(&format!("the worker cannot listen on {address}")), "{error}");
        let error = listen("the worker", "nonsense").await.expect_err("no address");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
