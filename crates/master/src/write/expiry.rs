//! Ends the leases of writers that went away, and discards what they left half made.

use std::{sync::Arc, time::Duration};

use headpond_types::{ErrorKind, InodeId, Result};
use tokio::time::{Instant, sleep};

use super::Writing;
use crate::sync::is_unpersisted;

/// Longest pause between two looks at leases.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// Shortest pause between two looks at leases.
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// Looks after leases for as long as it is polled.
pub(crate) async fn expire(writing: Arc<Writing>) {
    let term = writing.leases.term();
    let tick = (term / 10).clamp(SHORTEST_TICK, LONGEST_TICK);
    // What a master before this one left: its leases are lost, but their holders may ask anew for a term.
    let mut left = writing.left_by_others();
    let begun = Instant::now();
    loop {
        sleep(tick).await;
        writing.end_expired(Instant::now()).await;
        if begun.elapsed() >= term {
            writing.discard_unheld(std::mem::take(&mut left)).await;
        }
    }
}

impl Writing {
    /// Files that no store holds.
    pub(crate) fn left_by_others(&self) -> Vec<InodeId> {
        let left = self.catalog.snapshot().and_then(|snapshot| snapshot.unpersisted());
        left.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot see which files were never stored: they stay until the next start");
            Vec::new()
        })
    }

    /// Ends leases that were not renewed in time, as of `now`.
    pub(crate) async fn end_expired(self: &Arc<Self>, now: Instant) {
        for lease in self.leases.expired(now) {
            tracing::info!(lease, "a write lease was not renewed in time and is lost");
            if let Err(error) = self.end(lease).await {
                tracing::warn!(lease, %error, "cannot discard the file of a lost write lease");
            }
        }
    }

    /// Discards those of `files` that nobody writes and no store holds.
    pub(crate) async fn discard_unheld(self: &Arc<Self>, files: Vec<InodeId>) {
        for inode in files {
            let this = self.clone();
            match self.run(async move { this.discard_if_unheld(inode).await }).await {
                Err(error) if error.kind() != ErrorKind::Stale => {
                    tracing::warn!(%inode, %error, "cannot discard a file that was never stored");
                }
                _ => {}
            }
        }
    }

    async fn discard_if_unheld(&self, inode: InodeId) -> Result<()> {
        let (_guard, attr, name) = self.lock_inode(inode).await?;
        if self.leases.is_held(inode) || !is_unpersisted(&attr) || attr.dirty {
            return Ok(());
        }
        self.discard(inode, (attr.parent, name)).await
    }
}
