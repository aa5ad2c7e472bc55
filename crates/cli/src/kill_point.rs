//! Kills this process at a named point of its code, for tests of what is left by processes that end anywhere.
//!
//! `HEADPOND_KILL_AT=point` or `HEADPOND_KILL_AT=point=n` kills it with SIGKILL when the point is passed for the first or the n-th time. Points are those
//! of `fail_point!` in the crates below. `HEADPOND_KILL_PID` names other processes that are killed instead, by their ids with commas between; this one
//! goes on without them, unless one is called `self`.

use std::sync::atomic::{AtomicU32, Ordering};

use headpond_types::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, getpid, kill_process};

#[cfg(not(debug_assertions))]
compile_error!("the feature failpoints is for tests: build without --release");

const VARIABLE: &str = "HEADPOND_KILL_AT";

const VICTIM: &str = "HEADPOND_KILL_PID";

/// This process, among its victims.
const SELF: &str = "self";

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
    let mut victims = match std::env::var(VICTIM).unwrap_or_default() {
        ids if ids.is_empty() => vec![getpid()],
        ids => ids.split(',').map(victim).collect::<Result<_>>()?,
    };
    // Who is dead kills nobody.
    victims.sort_by_key(|victim| *victim == getpid());
    let passes = AtomicU32::new(0);
    let kill = move || {
        if passes.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
            // Of itself it does not return; if it fails, the test sees that nobody died.
            for victim in &victims {
                let _ = kill_process(*victim, Signal::KILL);
            }
        }
    };
    fail::cfg_callback(point, kill).map_err(|_| bad())
}

fn victim(id: &str) -> Result<Pid> {
    if id == SELF {
        return Ok(getpid());
    }
    let bad =
        || Error::new(ErrorKind::InvalidArgument, format!("{VICTIM} has {id:?}: give ids of processes, or {SELF}"));
    id.parse().ok().and_then(Pid::from_raw).ok_or_else(bad)
}
