//! Blocking work inside a task.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work`, which blocks, and lets other tasks of this thread go on elsewhere if there is an elsewhere.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
