//! Work that blocks on the disk, off the threads that serve.

use std::panic::resume_unwind;

/// Does `work` on a thread for blocking work, and waits for it; a panic there is one here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
}
