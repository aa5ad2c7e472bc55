//! Which sessions the journal knows.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use headpond_namespace::{ClientSession, Command};
use tokio::{sync::Notify, time::timeout};

use super::{Session, Sessions, session::Inner};
use crate::catalog::Catalog;

/// Shortest pause between two looks for clients that do not come back, and before what the journal did not take is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Sessions that the journal may know and that have ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    ids: Mutex<Vec<u64>>,
    news: Notify,
}

impl Ended {
    /// Session `id` has ended, of which `inner` is what is known.
    pub(super) fn note(&self, id: u64, inner: &Inner) {
        if inner.recorded.is_some() {
            self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            self.news.notify_one();
        }
    }

    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Has the next master know of `session`, before its client is told anything that it may believe. If that cannot be journalled, nothing is believed.
pub(crate) async fn record(catalog: &Catalog, session: &Session) {
    let lease = session.sessions.lease;
    let valid = {
        let mut inner = session.state.lock();
        if inner.recorded.is_some_and(|valid| valid >= lease) && !inner.unrecorded {
            return;
        }
        // Whatever becomes of the command, it may be known from now on.
        inner.unrecorded = true;
        let valid = lease.max(inner.recorded.unwrap_or_default());
        inner.recorded = Some(valid);
        valid
    };
    let valid_ms = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
    let known = ClientSession { client: session.state.name.clone(), valid_ms };
    match catalog.propose(Command::BeginSession { id: session.id(), session: known }).await {
        Ok(_) => session.state.lock().unrecorded = false,
        Err(error) => {
            let client = &session.state.name;
            tracing::warn!(client, %error, "a session could not be journalled: its client caches no metadata");
        }
    }
}

/// Has the journal forget sessions that have ended, for as long as it is polled.
pub(crate) async fn forget(catalog: Arc<Catalog>, sessions: Arc<Sessions>) {
    let mut ids = Vec::new();
    loop {
        if ids.is_empty() {
            // Nothing tells that a client does not come back.
            let _ = timeout(sessions.lease.max(PAUSE), sessions.ended.news.notified()).await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        sessions.tidy();
        ids.extend(sessions.ended.take());
        if ids.is_empty() {
            continue;
        }
        match catalog.propose(Command::EndSessions { ids: ids.clone() }).await {
            Ok(_) => ids.clear(),
            Err(error) => tracing::debug!(%error, "sessions that have ended stay in the journal for now"),
        }
    }
}
