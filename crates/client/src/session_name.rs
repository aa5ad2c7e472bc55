//! What calls say of the session that they are made in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use headpond_types::Result;
use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};

/// How much later than it is made a change may be answered until a master has said so: what `master.client_lease` is unless it was set.
const PATIENCE: Duration = Duration::from_secs(30);

/// The session that calls belong to: what they are answered is believed in it. And how long an answer is waited for.
#[derive(Clone, Debug)]
pub(crate) struct SessionName(Arc<Named>);

#[derive(Debug)]
struct Named {
    /// 0: none.
    id: AtomicU64,
    /// How much later than it is made a change may be answered, in milliseconds.
    patience: AtomicU64,
    /// The metadata deadline, in milliseconds: what a master waits for itself must not take longer.
    timeout: u64,
}

impl SessionName {
    pub(crate) fn new(timeout: Duration) -> Self {
        let patience = AtomicU64::new(millis(PATIENCE));
        Self(Arc::new(Named { id: AtomicU64::new(0), patience, timeout: millis(timeout) }))
    }

    /// Calls are made in session `id` from now on. A change may be answered `patience` later than it is made.
    pub(crate) fn begin(&self, id: u64, patience: Duration) {
        self.0.patience.store(millis(patience), Ordering::Relaxed);
        self.0.id.store(id, Ordering::SeqCst);
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.0.patience.load(Ordering::Relaxed))
    }
}

impl Interceptor for SessionName {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.0.id.load(Ordering::SeqCst) {
            0 => {}
            id => drop(request.metadata_mut().insert("headpond-session", MetadataValue::from(id))),
        }
        request.metadata_mut().insert("headpond-timeout", MetadataValue::from(self.0.timeout));
        Ok(request)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_how_long_it_waits_for_its_answer() {
        let mut session = SessionName::new(Duration::from_secs(3));
        let request = session.call(Request::new(())).expect("goes on");
        let said = request.metadata().get("headpond-timeout").expect("said");
        assert_eq!(said.to_str().expect("text"), "3000");
    }
}
