//! What can be asked of a running journal.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::machine::Position;

/// The state of a journal at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalStatus {
    /// Where the state machine is.
    pub applied: Option<Position>,
    /// Bytes of records in the log files.
    pub log_bytes: u64,
    /// Why the journal takes no commands any more, if it stopped by itself.
    pub stopped: Option<String>,
}

/// What the parts of a journal tell about themselves.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    applied: Mutex<Option<Position>>,
    stopped: OnceLock<String>,
}

impl Progress {
    pub(crate) fn applied(&self) -> Option<Position> {
        *self.lock()
    }

    pub(crate) fn set_applied(&self, at: Option<Position>) {
        *self.lock() = at;
    }

    /// Notes the first reason to stop.
    pub(crate) fn stop(&self, error: &headpond_types::Error) {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let reason = format!("{error}{cause}");
        if self.stopped.set(reason.clone()).is_ok() {
            tracing::error!(reason, "the journal's tables fail and it stops");
        }
    }

    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Position>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
