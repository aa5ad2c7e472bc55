//! One mount's relocations at work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use headpond_types::MountId;
use tokio::time::sleep;

use super::{
    Relocator,
    job::{Aside, Progress, Wait},
    spans::Span,
};

/// Relocations of one mount that are worked on at the same time.
const JOBS: usize = 8;

/// Pause between two looks at persists that are waited for, if none ends.
const PERSISTS: Duration = Duration::from_secs(1);

/// A mount's task; takes itself off the table.
pub(super) struct Running {
    pub(super) relocator: Arc<Relocator>,
    pub(super) mount: MountId,
}

impl Running {
    /// Takes the mount's relocations, oldest first and some at a time, until none is due or all that are wait. Two whose keys overlap are
    /// never at work together, so neither takes what the other just copied, or is about to delete, for its own.
    pub(super) async fn work(self) {
        let (relocator, mount) = (self.relocator.clone(), self.mount);
        let (mut begun, mut persists) = (relocator.progress.begun.subscribe(), relocator.leases.watch());
        let spans = &relocator.progress.spans;
        let (mut at_work, mut jobs) = (BTreeMap::<u64, Span<'_>>::new(), FuturesUnordered::new());
        // Those that wait since something was moved last, and those of them that were tried with moving aside.
        let (mut waiting, mut tried) = (BTreeMap::<u64, Wait>::new(), BTreeSet::new());
        let (mut queue, mut above) = (Vec::new(), BTreeSet::new());
        loop {
            if begun.has_changed().unwrap_or(false) {
                begun.mark_unchanged();
                queue.clear();
                waiting.retain(|_, wait| *wait == Wait::Above);
            }
            if queue.is_empty() {
                queue = relocator.due_of(mount, &at_work.keys().chain(waiting.keys()).copied().collect());
            }
            queue.retain(|relocation| {
                if jobs.len() >= JOBS || at_work.contains_key(&relocation.id) {
                    return jobs.len() >= JOBS;
                }
                if above.contains(&relocation.id) && relocator.lies_below_other(relocation) {
                    waiting.insert(relocation.id, Wait::Above);
                    return false;
                }
                let Some(span) = spans.try_hold(mount, &relocator.span(relocation)) else { return true };
                at_work.insert(relocation.id, span);
                jobs.push(relocator.attempt(relocation.id, Aside::No));
                false
            });
            if jobs.is_empty() {
                // All that are left wait for each other's objects, or for what is none of theirs.
                let next = waiting.iter().find(|(id, wait)| **wait == Wait::Others && !tried.contains(*id));
                let mut next = next.map(|(id, _)| (*id, Aside::Taken));
                if next.is_none() && waiting.values().any(|wait| *wait == Wait::Others) {
                    // Or for those of what it is not the turn of.
                    let others = waiting.iter().filter(|(_, wait)| **wait == Wait::Others).map(|(id, _)| *id).collect();
                    let held = relocator.held_in_the_way(mount, &others).unwrap_or_default();
                    next = held.into_iter().find(|id| !tried.contains(id)).map(|id| (id, Aside::All));
                }
                if let Some(live) = relocator.mounts.table().get(mount).cloned()
                    && let Err(error) = relocator.clear_left(&live, |_| true).await
                {
                    tracing::warn!(%error, "objects that are nobody's could not be deleted, trying again later");
                }
                if let Some((id, aside)) = next {
                    tried.insert(id);
                    waiting.remove(&id);
                    // It meets every other.
                    at_work.insert(id, spans.hold(mount, &[Vec::new()]).await);
                    jobs.push(relocator.attempt(id, aside));
                } else if waiting.values().any(|wait| *wait == Wait::Persist) {
                    tokio::select! {
                        _ = persists.changed() => {}
                        _ = begun.changed() => begun.mark_changed(),
                        () = sleep(PERSISTS) => {}
                    }
                    waiting.retain(|_, wait| *wait == Wait::Above);
                    tried.clear();
                    continue;
                } else {
                    break;
                }
            }
            tokio::select! {
                Some((id, done)) = jobs.next() => {
                    at_work.remove(&id);
                    let advanced = match done {
                        Some(Progress::Ended) => true,
                        Some(Progress::Waits { advanced, wait }) => {
                            if advanced {
                                waiting.clear();
                            }
                            waiting.insert(id, wait);
                            if wait == Wait::Above {
                                above.insert(id);
                            }
                            advanced
                        }
                        None => false,
                    };
                    if advanced {
                        tried.clear();
                    }
                    if done == Some(Progress::Ended) {
                        waiting.clear();
                    }
                }
                _ = begun.changed() => begun.mark_changed(),
            }
        }
        drop(jobs);
        drop(self);
        // One may have been begun after the last look, while this still counted as running.
        if begun.has_changed().unwrap_or(false) {
            relocator.kick(mount);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.relocator.progress.state().running.remove(&self.mount);
    }
}
