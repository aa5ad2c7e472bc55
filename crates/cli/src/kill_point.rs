//! Kills this process at a named point of its code, for tests of what is left by processes that end anywhere.
//!
//! `HEADPOND_KILL_AT=point` or `HEADPOND_KILL_AT=point=n` kills it with SIGKILL when the point is passed for the first or the n-th time. Points are those
//! of `fail_point!` in the crates below. `HEADPOND_KILL_PID` names another process that is killed instead: this one goes on without it.

use std::sync::atomic::{AtomicU32, Ordering};

use headpond_types::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, getpid, kill_process};

#[cfg(not(debug_assertions))]
compile_error!("the feature failpoints is for tests: build without --release");

const VARIABLE: &str = "HEADPOND_KILL_AT";

const VICTIM: &str = "HEADPOND_KILL_PID";

/// Does what the variable says, if it is set and not empty.
///
/// # Errors
/// `InvalidArgument` for a variable that says something else.
pub(crate) fn arm() -> Result<()> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(());
    }
    let bad = || Error::new(ErrorKind::InvalidArgument, format!("{VARIABLE} is {text:?}: give point or point=n"));
    let (point, wanted) = match text.rsplit_once('=') {
        Some((point, number)) => (point, number.parse().map_err(|_| bad())?),
        None => (&text[..], 1),
    };
    let victim = match std::env::var(VICTIM).unwrap_or_default() {
        pid if pid.is_empty() => getpid(),
        pid => pid.parse().ok().and_then(Pid::from_raw).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, format!("{VICTIM} is {pid:?}: give the id of a process"))
        })?,
    };
    let passes = AtomicU32::new(0);
    let kill = move || {
        if passes.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
            // Of itself it does not return; if it fails, the test sees that nobody died.
            let _ = kill_process(victim, Signal::KILL);
        }
    };
    fail::cfg_callback(point, kill).map_err(|_| bad())
}
