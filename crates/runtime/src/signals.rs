//! SIGINT and SIGTERM: the first asks for an orderly end, the second forces it.

use headpond_types::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches SIGINT and SIGTERM from its making on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything in flight was finished.
    Clean,
    /// Something was cut off.
    Forced,
}

impl Signals {
    /// Catches the signals. Needs a tokio runtime.
    ///
    /// # Errors
    /// `Internal` when the system refuses.
    pub fn catch() -> Result<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| Error::new(ErrorKind::Internal, "cannot catch signals").with_source(error))
        };
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for the next of the signals and answers its name. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Runs the orderly end `end`, which says whether it was clean, unless another signal cuts it off.
    pub async fn or_force(&mut self, end: impl Future<Output = Ending>) -> Ending {
        tokio::select! {
            ending = end => ending,
            name = self.next() => {
                tracing::warn!(signal = name, "a second signal forces the end");
                Ending::Forced
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_second_signal_forces_what_the_first_began() {
        let mut signals = Signals::catch().expect("caught");
        kill_process(getpid(), Signal::TERM).expect("sent");
        assert_eq!(signals.next().await, "SIGTERM");
        assert_eq!(signals.or_force(async { Ending::Clean }).await, Ending::Clean);
        kill_process(getpid(), Signal::INT).expect("sent");
        assert_eq!(signals.or_force(std::future::pending()).await, Ending::Forced);
    }
}
