//! How a mount's under store is doing, so that one that is down makes nobody wait who can be answered without it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_types::{Error, ErrorKind};
use tokio::time::Instant;

/// While a store is down it is tried at most this often for those who are answered from what is known.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Outcome of the last requests to one store.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    cause: String,
    probed: Instant,
}

/// Whether `error` means that the store could not be asked, as opposed to an answer of it or a defect of ours.
pub(crate) const fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::StoreRefused)
}

impl Health {
    /// Takes note of a success; gives how long the store was down when it was.
    pub(crate) fn succeeded(&self) -> Option<Duration> {
        self.state().failure.take().map(|failure| failure.since.elapsed())
    }

    /// Takes note of a failure; `true` when it is the first after a success.
    pub(crate) fn failed(&self, cause: String) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let since = state.failure.as_ref().map(|failure| failure.since);
        state.failure = Some(Failure { since: since.unwrap_or(now), cause, probed: now });
        since.is_none()
    }

    /// Whether the last request failed.
    pub(crate) fn is_down(&self) -> bool {
        self.state().failure.is_some()
    }

    /// Whether it is time to try a store that is down again; at most one caller a second is told so.
    pub(crate) fn may_probe(&self) -> bool {
        let mut state = self.state();
        let Some(failure) = &mut state.failure else { return true };
        let due = failure.probed.elapsed() >= PROBE_EVERY;
        if due {
            failure.probed = Instant::now();
        }
        due
    }

    /// What is wrong, with the time since when.
    pub(crate) fn problem(&self) -> Option<String> {
        let state = self.state();
        let failure = state.failure.as_ref()?;
        Some(format!("{} (for {} s)", failure.cause, failure.since.elapsed().as_secs()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_down_is_tried_once_a_second() {
        let health = Health::default();
        assert!(health.failed("connection refused".to_owned()));
        assert!(!health.failed("connection refused".to_owned()));
        assert!(health.is_down() && !health.may_probe());
        tokio::time::advance(PROBE_EVERY).await;
        assert!(health.may_probe() && !health.may_probe());
        assert_eq!(health.problem().as_deref(), Some("connection refused (for 1 s)"));
        assert_eq!(health.succeeded(), Some(PROBE_EVERY));
        assert!(!health.is_down() && health.problem().is_none());
    }
}
