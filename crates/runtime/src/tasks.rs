//! Background tasks and orderly shutdown.
//!
//! Shutdown has two steps: [`Shutdown::begin`] tells every part to stop accepting work and finish what is in flight;
//! [`Tasks::drain`] waits for the tasks under a grace and says whether all of them ended.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::{TaskTracker, task_tracker::TrackedFuture},
};

/// The signal to stop, shared by all parts of a process.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that nobody has given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal; again has no effect.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the signal. Cancel-safe.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.0.cancelled()
    }

    /// A signal for a part: given with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

/// The background tasks of one part. Clones share the tasks and the shutdown signal.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
}

impl Tasks {
    /// No tasks yet, under `shutdown`.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { tracker: TaskTracker::new(), shutdown }
    }

    /// The signal that the tasks must heed.
    #[must_use]
    pub const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs a task that [`Tasks::drain`] waits for. Needs a tokio runtime.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Runs a task that is dropped at its next await once shutdown begins: for loops that hold nothing to finish.
    pub fn spawn_until_shutdown<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = shutdown.begun() => {}
                () = task => {}
            }
        })
    }

    /// `work`, which somebody else's task does and [`Tasks::drain`] waits for all the same.
    pub fn track<F: Future>(&self, work: F) -> TrackedFuture<F> {
        self.tracker.track_future(work)
    }

    /// Begins shutdown and waits up to `grace` for the tasks to end. `false` means that some were still running.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.shutdown.begin();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_tasks_and_says_when_one_hangs() {
        let tasks = Tasks::new(Shutdown::new());
        let seen = tasks.shutdown().clone();
        tasks.spawn(async move { seen.begun().await });
        tasks.spawn_until_shutdown(std::future::pending());
        assert!(tasks.drain(Duration::from_secs(1)).await);

        let hung = Tasks::new(Shutdown::new());
        hung.spawn(std::future::pending::<()>());
        assert!(!hung.drain(Duration::from_secs(1)).await);
    }
}
