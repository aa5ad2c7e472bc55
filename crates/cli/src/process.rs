//! Processes that run until they are told to end.

use std::time::Duration;

use headpond_runtime::{Ending, LogConfig, Signals, descriptors, telemetry};
use headpond_types::{Error, ErrorKind};
use tokio::runtime::{Builder, Runtime};

use crate::{
    exit_code,
    failure::{Failure, Result, remark},
};

/// How long a part may take to finish what is in flight when the process ends.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Most threads that run tasks: what blocks has threads of its own, and each costs memory.
const MAX_THREADS: usize = 16;

/// Runs `part` with logs and signals set up and as many descriptors as may be had, and says how it ended.
///
/// A signal before `part` has taken the signals into its own hands drops it.
pub(crate) fn run(log: &LogConfig, part: impl AsyncFnOnce(&mut Signals) -> Result<Ending>) -> Result<()> {
    telemetry::init(log)?;
    let descriptors = descriptors::raise_limit();
    tracing::debug!(descriptors, "may be open at once");
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::catch()?;
        part(&mut signals).await
    });
    // What is still running has been given its time.
    runtime.shutdown_background();
    match ended? {
        Ending::Clean => {
            remark("ended cleanly");
            Ok(())
        }
        Ending::Forced => {
            remark("the end was forced: something in flight was cut off");
            Err(Failure::Reported(exit_code::FORCED))
        }
    }
}

fn runtime() -> Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_THREADS);
    let built = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    Ok(built.map_err(|error| Error::new(ErrorKind::ResourceExhausted, "cannot start threads").with_source(error))?)
}
