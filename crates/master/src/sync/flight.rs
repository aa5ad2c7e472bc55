//! Single-flight: one asking of the under store at a time for one thing, shared by all who want to know.
//!
//! A flight runs in a task of its own, so it goes on when whoever began it goes away. It may be joined by those whom its
//! beginning still satisfies; others wait for its end and begin the next, together.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_runtime::{Clock, Tasks};
use headpond_types::{Error, ErrorKind, Result, Timestamp};
use tokio::sync::watch;

/// How a flight ended. Many wait for it, and an [`Error`] has one owner.
type Landing = Result<(), Arc<Error>>;

/// One asking, under way or over. `S` is what it shares while it runs.
#[derive(Debug)]
pub(crate) struct Flight<S> {
    /// When it began.
    pub(crate) began: Timestamp,
    /// What it shares.
    pub(crate) state: S,
    landing: watch::Receiver<Option<Landing>>,
}

/// The flights under way, by what they ask about.
pub(crate) struct Flights<K, S> {
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// Never held across an await.
    running: Arc<Mutex<HashMap<K, Arc<Flight<S>>>>>,
}

impl<S> Flight<S> {
    /// Waits for the end. Cancel-safe.
    ///
    /// # Errors
    /// What the asking met; `Unavailable` when shutdown ended it.
    pub(crate) async fn landed(&self) -> Result<()> {
        let mut landing = self.landing.clone();
        match landing.wait_for(Option::is_some).await {
            Ok(landed) => landed.as_ref().map_or_else(|| Err(shutting_down()), told),
            Err(_) => Err(shutting_down()),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Result<()>> {
        if let Some(landing) = &*self.landing.borrow() {
            return Some(told(landing));
        }
        self.landing.has_changed().is_err().then(|| Err(shutting_down()))
    }
}

impl<K, S> Flights<K, S>
where
    K: Clone + Eq + Hash + Send + 'static,
    S: Send + Sync + 'static,
{
    pub(crate) fn new(clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        Self { clock, tasks, running: Arc::default() }
    }

    /// Whether one is under way about a key that `is_it` says.
    pub(crate) fn any(&self, is_it: impl Fn(&K) -> bool) -> bool {
        lock(&self.running).keys().any(is_it)
    }

    /// The flight about `key` that began at a time which `accept`s, or else a new one that shares `state` and does what
    /// `ask` says; it begins now, or began at `began` if a part of it was asked before. Waits only for a flight that is not
    /// accepted. Cancel-safe.
    ///
    /// # Errors
    /// `Unavailable` when the master is shutting down.
    pub(crate) async fn join<F, A, S0>(
        &self,
        key: K,
        accept: impl Fn(Timestamp) -> bool,
        began: Option<Timestamp>,
        state: S0,
        ask: A,
    ) -> Result<Arc<Flight<S>>>
    where
        S0: FnOnce() -> S,
        A: FnOnce(Arc<Flight<S>>) -> F,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (announce, flight) = loop {
            let other = {
                let mut running = lock(&self.running);
                match running.get(&key) {
                    Some(flight) if accept(flight.began) => return Ok(flight.clone()),
                    Some(flight) => flight.clone(),
                    None => {
                        let (announce, landing) = watch::channel(None);
                        let began = began.unwrap_or_else(|| self.clock.now());
                        let flight = Arc::new(Flight { began, state: state(), landing });
                        running.insert(key.clone(), flight.clone());
                        break (announce, flight);
                    }
                }
            };
            // How it ends is no matter here, unless it was ended by shutdown.
            if other.landed().await.is_err() && self.tasks.shutdown().has_begun() {
                return Err(shutting_down());
            }
        };
        let ask = ask(flight.clone());
        let entry = Entry { running: self.running.clone(), key };
        self.tasks.spawn_until_shutdown(async move {
            let landing = ask.await.map_err(Arc::new);
            drop(entry);
            announce.send_replace(Some(landing));
        });
        Ok(flight)
    }
}

impl<K, S> fmt::Debug for Flights<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// Takes a flight off the table when its task ends, also by a panic or at shutdown.
struct Entry<K: Eq + Hash, S> {
    running: Arc<Mutex<HashMap<K, Arc<Flight<S>>>>>,
    key: K,
}

impl<K: Eq + Hash, S> Drop for Entry<K, S> {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.key);
    }
}

/// The causes of an error that several callers got, without its own message, which each of them has.
#[derive(Debug)]
struct SharedCause(Arc<Error>);

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::error::Error::source(&*self.0) {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => f.write_str("shared by several callers"),
        }
    }
}

impl std::error::Error for SharedCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0).and_then(std::error::Error::source)
    }
}

fn told(landing: &Landing) -> Result<()> {
    landing
        .as_ref()
        .copied()
        .map_err(|error| Error::new(error.kind(), error.message()).with_source(SharedCause(error.clone())))
}

pub(super) fn shutting_down() -> Error {
    Error::new(ErrorKind::Unavailable, "the master is shutting down: try again in a moment")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use headpond_runtime::{ManualClock, Shutdown};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn those_who_come_together_share_one_asking() {
        let clock = Arc::new(ManualClock::default());
        let flights = Flights::<u32, ()>::new(clock.clone(), Tasks::new(Shutdown::new()));
        let (asked, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (asked, gate) = (asked.clone(), gate.clone());
            move |_| async move {
                asked.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Err(Error::new(ErrorKind::Unavailable, "down").with_source(std::io::Error::other("cause")))
            }
        };
        let first = flights.join(1, |_| true, None, || (), ask()).await.expect("begins");
        let second = flights.join(1, |_| true, None, || (), ask()).await.expect("joins");
        gate.notify_one();
        for flight in [first, second] {
            let error = flight.landed().await.expect_err("down");
            assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "down"));
            assert_eq!(std::error::Error::source(&error).map(ToString::to_string), Some("cause".to_owned()));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);

        gate.notify_one();
        let third = flights.join(1, |_| false, None, || (), ask()).await.expect("begins anew");
        third.landed().await.expect_err("down");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn shutdown_ends_those_who_wait() {
        let tasks = Tasks::new(Shutdown::new());
        let flights = Flights::<u32, ()>::new(Arc::new(ManualClock::default()), tasks.clone());
        let flight = flights.join(1, |_| true, None, || (), |_| std::future::pending()).await.expect("begins");
        tasks.shutdown().begin();
        assert_eq!(flight.landed().await.expect_err("ended").kind(), ErrorKind::Unavailable);
    }
}
