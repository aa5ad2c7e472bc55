//! Whether any master answers, so that an outage costs its callers one deadline in all, not one each.
//!
//! An outage begins when a call finds that no master can be reached. For the length of one deadline from then on calls are tried
//! as ever: a master that restarts costs them time and no error. After that they fail at once, but for one in
//! [`PROBE_SPACING`], which finds out; its patience is [`PROBE_PATIENCE`]. The first answer ends the outage.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use headpond_types::{Error, ErrorKind};
use tokio::{sync::Notify, time::Instant};

/// How long a call that finds out may wait in a long outage: enough for a round trip across continents.
const PROBE_PATIENCE: Duration = Duration::from_millis(250);

/// Pause after a call that found out in vain. A refused connection costs 0.1 ms.
const PROBE_SPACING: Duration = Duration::from_millis(100);

/// What is known of the way to the masters.
#[derive(Debug)]
pub(crate) struct Reach {
    /// How long a call may take, and an outage before calls fail at once.
    patience: Duration,
    outage: Mutex<Option<Outage>>,
    /// Whether there is an outage, for those who answer without the lock.
    down: AtomicBool,
    in_session: AtomicBool,
    recovered: Notify,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    next_probe: Instant,
    /// How the last call failed.
    last: String,
}

/// How a call may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) deadline: Instant,
    /// It finds out: every master is asked once.
    pub(crate) is_probe: bool,
}

impl Outage {
    fn error(&self, what: &str) -> Error {
        let (seconds, last) = (self.since.elapsed().as_secs(), &self.last);
        let message = format!("{what}: no master could be reached for {seconds} s, the last time {last}");
        Error::new(ErrorKind::Unavailable, message)
    }
}

impl Reach {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            outage: Mutex::new(None),
            down: AtomicBool::new(false),
            in_session: AtomicBool::new(false),
            recovered: Notify::new(),
        }
    }

    /// How the call `what` may be tried now.
    ///
    /// # Errors
    /// `Unavailable` in a long outage, unless it is the one to find out.
    pub(crate) fn admit(&self, what: &str) -> Result<Admitted, Error> {
        let now = Instant::now();
        let as_ever = Admitted { deadline: now + self.patience, is_probe: false };
        if !self.down.load(Ordering::Acquire) {
            return Ok(as_ever);
        }
        let mut outage = self.lock();
        let Some(outage) = &mut *outage else { return Ok(as_ever) };
        let end = outage.since + self.patience;
        if now < end {
            return Ok(Admitted { deadline: end, is_probe: false });
        }
        if now >= outage.next_probe {
            // Also when it is given up half-way.
            outage.next_probe = now + PROBE_PATIENCE;
            return Ok(Admitted { deadline: now + PROBE_PATIENCE.min(self.patience), is_probe: true });
        }
        Err(outage.error(what))
    }

    /// Why the call `what` fails if there is an outage, which left it less time than an answer may take.
    pub(crate) fn outage(&self, what: &str) -> Option<Error> {
        self.lock().as_ref().map(|outage| outage.error(what))
    }

    /// A master answered, if only with an error.
    pub(crate) fn answered(&self) {
        if self.down.load(Ordering::Acquire) {
            *self.lock() = None;
            self.down.store(false, Ordering::Release);
            self.recovered.notify_one();
        }
    }

    /// No master could be reached by a call that began at `began`.
    pub(crate) fn failed(&self, began: Instant, error: &Error) {
        let mut outage = self.lock();
        let since = outage.as_ref().map_or(began, |outage| outage.since.min(began));
        let next_probe = Instant::now() + PROBE_SPACING;
        *outage = Some(Outage { since, next_probe, last: error.to_string() });
        self.down.store(true, Ordering::Release);
    }

    /// A call that began at `began` got no answer in its time. While there is a session that says nothing of the others.
    pub(crate) fn timed_out(&self, began: Instant, error: &Error) {
        if !self.in_session.load(Ordering::Acquire) {
            self.failed(began, error);
        }
    }

    /// A session has begun or ended.
    pub(crate) fn set_in_session(&self, in_session: bool) {
        self.in_session.store(in_session, Ordering::Release);
    }

    /// There is no session, and the last attempt to reach any master failed.
    pub(crate) fn is_lost(&self) -> bool {
        self.down.load(Ordering::Acquire) && !self.in_session.load(Ordering::Acquire)
    }

    /// Waits for the end of an outage. Cancel-safe; one waiter.
    pub(crate) async fn recovered(&self) {
        self.recovered.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn refused() -> Error {
        Error::new(ErrorKind::Unavailable, "a:1 refused")
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_takes_one_deadline_in_all_and_then_no_time() {
        let reach = Reach::new(PATIENCE);
        let began = Instant::now();
        assert_eq!(
            reach.admit("stat").expect("nothing is known"),
            Admitted { deadline: began + PATIENCE, is_probe: false }
        );
        reach.failed(began, &refused());
        tokio::time::advance(PATIENCE / 2).await;
        let admitted = reach.admit("stat").expect("it may be restarting");
        assert_eq!(admitted, Admitted { deadline: began + PATIENCE, is_probe: false });
        reach.failed(Instant::now(), &refused());
        tokio::time::advance(PATIENCE / 2).await;
        assert!(reach.admit("stat").expect("one finds out").is_probe);
        let error = reach.admit("stat").expect_err("others do not wait for it");
        assert_eq!(error.message(), "stat: no master could be reached for 10 s, the last time a:1 refused");
        reach.failed(Instant::now(), &refused());
        assert!(reach.admit("stat").is_err());
        tokio::time::advance(PROBE_SPACING).await;
        assert!(reach.admit("stat").expect("the next finds out").is_probe);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_given_up_does_not_keep_others_from_finding_out() {
        let reach = Reach::new(PATIENCE);
        reach.failed(Instant::now(), &refused());
        tokio::time::advance(PATIENCE).await;
        assert!(reach.admit("stat").expect("one finds out").is_probe);
        tokio::time::advance(PROBE_PATIENCE).await;
        assert!(reach.admit("stat").expect("another does").is_probe);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_ends_an_outage() {
        let reach = Reach::new(PATIENCE);
        reach.failed(Instant::now(), &refused());
        assert!(reach.is_lost());
        tokio::time::advance(PATIENCE).await;
        reach.answered();
        assert!(!reach.is_lost());
        assert!(!reach.admit("stat").expect("as ever").is_probe);
        tokio::time::timeout(Duration::ZERO, reach.recovered()).await.expect("told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_no_outage_while_there_is_a_session() {
        let reach = Reach::new(PATIENCE);
        let began = Instant::now();
        reach.set_in_session(true);
        tokio::time::advance(PATIENCE).await;
        reach.timed_out(began, &refused());
        assert!(!reach.is_lost() && !reach.admit("stat").expect("as ever").is_probe);
        reach.set_in_session(false);
        reach.timed_out(began, &refused());
        assert!(reach.is_lost() && reach.admit("stat").is_err(), "it has taken its deadline");
    }
}
