//! The thread of a journal.

use std::{
    fmt, io,
    sync::{Mutex, PoisonError},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// A thread for Raft and what feeds it, with a runtime of its own. On its way through a journal a command is passed from task to task, written, synced and applied:
/// on one thread none of that wakes another. The thread stands still while it writes, as the log has one writer anyway; who proposes does not.
pub(crate) struct Home {
    handle: Handle,
    /// The thread ends with it.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Home {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // An error, too, means that nobody needs it any more.
            drop::<Result<(), _>>(runtime.block_on(stopped));
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("journal".to_owned()).spawn(run)?;
        Ok(Self { handle, stop: Mutex::new(Some(stop)) })
    }

    /// Does `work` there and waits for it.
    pub(crate) async fn run<F>(&self, work: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Has `task` done there.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output: Send> + Send + 'static,
    {
        drop(self.handle.spawn(task));
    }

    /// Ends the thread; tasks that have not ended are dropped.
    pub(crate) fn end(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
}
