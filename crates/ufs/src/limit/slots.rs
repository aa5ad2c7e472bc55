//! How many requests may be under way: as many as are configured, fewer while the store says that this is too many.
//!
//! Additive increase, multiplicative decrease (D. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion
//! Avoidance in Computer Networks", 1989): `SlowDown` halves the number, at most once in [`HALVED_ONCE_IN`] since the refusals of requests
//! sent together say one thing; as many successes as there are slots add one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{UfsError, UfsErrorKind};

/// Refusals within so long of a decrease cause no other.
const HALVED_ONCE_IN: Duration = Duration::from_millis(500);

/// The number never falls below this part of what is configured, so that a store which refuses everything for a while is
/// still asked.
const LEAST_PART: usize = 16;

/// Places for requests.
#[derive(Debug)]
pub(super) struct Slots {
    semaphore: Arc<Semaphore>,
    /// As configured; `None` when nothing bounds it.
    most: Option<usize>,
    /// Held for a few instructions.
    state: Mutex<State>,
    /// Where the number is told.
    gauge: Option<Arc<AtomicU64>>,
}

#[derive(Debug)]
struct State {
    now: usize,
    /// Permits that are out and are not to come back.
    excess: usize,
    successes: usize,
    halved: Option<Instant>,
}

/// A place for one request; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// At most `most` requests at once.
    pub(super) fn new(most: usize, gauge: Option<Arc<AtomicU64>>) -> Self {
        let permits = most.clamp(1, Semaphore::MAX_PERMITS);
        let most = (permits < Semaphore::MAX_PERMITS).then_some(permits);
        let state = State { now: permits, excess: 0, successes: 0, halved: None };
        let slots = Self { semaphore: Arc::new(Semaphore::new(permits)), most, state: Mutex::new(state), gauge };
        slots.tell(permits);
        slots
    }

    /// Waits for a place; first come, first served.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.expect("the semaphore is never closed");
        Slot { slots: Arc::clone(self), permit: Some(permit) }
    }

    /// Learns from how a request ended.
    pub(super) fn note<T>(&self, result: &Result<T, UfsError>) {
        let Some(most) = self.most else { return };
        match result {
            Ok(_) => self.succeeded(most),
            Err(error) if error.kind() == UfsErrorKind::SlowDown => self.refused(most),
            Err(_) => {}
        }
    }

    fn succeeded(&self, most: usize) {
        let mut state = self.state();
        if state.now == most {
            return;
        }
        state.successes += 1;
        if state.successes < state.now {
            return;
        }
        state.successes = 0;
        state.now += 1;
        if state.excess > 0 {
            state.excess -= 1;
        } else {
            self.semaphore.add_permits(1);
        }
        self.tell(state.now);
    }

    fn refused(&self, most: usize) {
        let mut state = self.state();
        if state.halved.is_some_and(|halved| halved.elapsed() < HALVED_ONCE_IN) {
            return;
        }
        let fewer = (state.now / 2).max(most.div_ceil(LEAST_PART));
        let taken = state.now.saturating_sub(fewer);
        state.now -= taken;
        state.excess += taken - self.semaphore.forget_permits(taken);
        state.successes = 0;
        state.halved = Some(Instant::now());
        self.tell(state.now);
    }

    fn tell(&self, now: usize) {
        if let Some(gauge) = self.gauge.as_ref().filter(|_| self.most.is_some()) {
            gauge.store(now as u64, Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut state = self.slots.state();
        if state.excess > 0 {
            state.excess -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Result<(), UfsError> {
        Err(UfsError::new(UfsErrorKind::SlowDown, "slow down"))
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_halve_and_successes_restore() {
        let gauge = Arc::new(AtomicU64::new(0));
        let slots = Arc::new(Slots::new(32, Some(Arc::clone(&gauge))));
        let mut held = Vec::new();
        for _ in 0..30 {
            held.push(slots.take().await);
        }
        slots.note(&refusal());
        slots.note(&refusal());
        assert_eq!(gauge.load(Relaxed), 16, "what is refused together counts once");
        assert_eq!(slots.semaphore.available_permits(), 0);
        held.truncate(16);
        assert_eq!(slots.semaphore.available_permits(), 0, "14 were too many");
        held.truncate(15);
        assert_eq!(slots.semaphore.available_permits(), 1);
        for _ in 0..8 {
            tokio::time::advance(HALVED_ONCE_IN).await;
            slots.note(&refusal());
        }
        assert_eq!(gauge.load(Relaxed), 2);
        held.clear();
        assert_eq!(slots.semaphore.available_permits(), 2);
        for _ in 0..2 {
            slots.note(&Ok(()));
        }
        assert_eq!((gauge.load(Relaxed), slots.semaphore.available_permits()), (3, 3));
        for _ in 0..1000 {
            slots.note(&Ok(()));
        }
        assert_eq!((gauge.load(Relaxed), slots.semaphore.available_permits()), (32, 32));
    }
}
