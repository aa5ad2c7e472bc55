//! Work that blocks on the disk, off the threads that serve.

use headpond_types::{Error, ErrorKind, Result};
use tokio::task::spawn_blocking;

/// Does `work` on a thread for blocking work. It goes on when the caller goes away.
///
/// # Errors
/// Those of `work`; `Internal` when it panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "opening the state broke off").with_source(error)))
}
