//! Clears away what lies below directories that are gone.
//!
//! Commands take a few such rows along, so a busy master needs none of this; what a removed mount or a large directory leaves in a
//! quiet one would stay for ever.

use std::{sync::Arc, time::Duration};

use headpond_namespace::Command;
use headpond_types::Result;
use tokio::time::{Instant, sleep};

use crate::{catalog::Catalog, metrics::Metrics};

/// Pause between two looks for remains, and after a failure.
const LOOK: Duration = Duration::from_secs(1);

/// Pauses are so many times as long as the step before: steps take at most a tenth of the journal's time.
const REST: u32 = 9;

/// Shortest pause between two steps.
const SHORTEST_REST: Duration = Duration::from_millis(20);

/// Sweeps for as long as it is polled.
pub(crate) async fn sweep(catalog: Arc<Catalog>, metrics: Metrics) {
    loop {
        if let Err(error) = sweep_all(&catalog, &metrics).await {
            tracing::debug!(%error, "cannot clear away what lies below removed directories, trying on");
        }
        sleep(LOOK).await;
    }
}

async fn sweep_all(catalog: &Catalog, metrics: &Metrics) -> Result<()> {
    while catalog.snapshot()?.has_remains() {
        let begun = Instant::now();
        catalog.propose(Command::Sweep).await?;
        metrics.sweeps.inc();
        sleep((begun.elapsed() * REST).max(SHORTEST_REST)).await;
    }
    Ok(())
}
