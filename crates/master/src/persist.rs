//! Persisting what workers hold: the queue of each mount, in the order that its store may see.
//!
//! * `line`, `backlog`: what is dirty, in memory, and which of it may go now. The rows of the namespace are what counts: after a restart all goes on
//!   from them.
//! * `run`: a mount's task. `begin` journals what is about to be put, `upload` has it put and journals that it is there; `holders` asks workers.
//! * `left`: objects that are nobody's any more, and are deleted.
//! * `links`: the objects of further names of files, which are copied within the store.
//! * `released`: what became due because its name is no temporary one any more, or because somebody asked for it.
//! * `problems`, `resolve`: what does not go on, and what an operator has decided. `pending`: what is left to do.
//!
//! Invariants:
//! 1. Nothing is put before the journal says that it may be there ([`headpond_namespace::Command::BeginPersist`]), and what was begun is put again
//!    under the same key until it is known to be there, or known to be gone.
//! 2. What the store has that the row does not speak of is never replaced: that is a conflict, and waits for an operator.
//! 3. Nothing that was acknowledged is seen in the store before what it has to wait for; see [`line`].

mod backlog;
mod begin;
mod holders;
mod left;
mod line;
mod links;
mod pending;
mod problems;
mod released;
mod resolve;
mod run;
mod upload;

pub(crate) use backlog::Backlog;
pub(crate) use holders::Holders;
pub(crate) use line::Moves;
pub(crate) use pending::{Dirty, DirtyAmounts, State};
pub(crate) use problems::{Problem, Problems};
pub(crate) use resolve::{Resolution, beside};

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_runtime::{Clock, Tasks};
use headpond_types::{InodeId, MountId};
use tokio::time::{Instant, interval};

use self::{
    left::Missed,
    run::{Again, Run},
    upload::Failure,
};
use crate::{
    catalog::Catalog,
    grants::Grants,
    metrics::WriteMetrics,
    mounts::Mounts,
    notices::Notices,
    relocate::Relocator,
    sync::SyncEngine,
    write::{Leases, NameLocks},
};

/// Pause between two looks for what has another name by now.
const LOOK: Duration = Duration::from_secs(30);

/// Persists what is dirty, of all mounts.
#[derive(Debug)]
pub(crate) struct Persister {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) engine: Arc<SyncEngine>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) names: Arc<NameLocks>,
    pub(crate) relocator: Arc<Relocator>,
    pub(crate) holders: Holders,
    pub(crate) problems: Problems,
    pub(crate) notices: Arc<Notices>,
    pub(crate) metrics: WriteMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    /// Objects that were to be deleted and were not there yet.
    pub(crate) missed: Missed,
    /// Mounts whose task runs. Never held across an await.
    pub(crate) running: Mutex<BTreeSet<MountId>>,
}

/// Persists for as long as it is polled, beginning with what a master before this one left.
pub(crate) async fn persist(persister: Arc<Persister>) {
    let mut looks = interval(LOOK);
    loop {
        persister.start_all();
        tokio::select! {
            () = persister.backlog.grown.notified() => {}
            () = persister.holders.registered() => persister.wake_failed(),
            _ = looks.tick() => persister.release_renamed().await,
        }
    }
}

impl Persister {
    /// Has a task for each mount of which something is dirty.
    fn start_all(self: &Arc<Self>) {
        for mount in self.backlog.mounts() {
            let Some(line) = self.backlog.line(mount) else { continue };
            if !line.lock().is_empty() && self.running().insert(mount) {
                let run = Run::new(self.clone(), mount, line);
                self.tasks.spawn_until_shutdown(run.work());
            }
        }
    }

    /// Has all that failed tried again, but for what somebody has to decide: a worker is there that was not, which may hold it.
    fn wake_failed(&self) {
        let failed: Vec<_> =
            self.problems.current(|_| true).into_iter().filter(|(_, problem)| !problem.conflict).collect();
        for line in self.backlog.mounts().into_iter().filter_map(|mount| self.backlog.line(mount)) {
            failed.iter().for_each(|(inode, _)| line.lock().wake(*inode));
            line.woken.notify_one();
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<MountId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a failure; gives when it is tried again.
    fn failed(&self, inode: InodeId, failure: &Failure) -> Again {
        let Failure { error, conflict } = failure;
        let path = self.path_of(inode).ok().flatten();
        let path = path.map_or_else(|| format!("inode {inode}"), |path| path.to_string());
        self.metrics.persist_failures.inc();
        match self.problems.failed(inode, error.to_string(), *conflict, self.clock.now()) {
            Some(pause) => {
                tracing::warn!(path, %error, ?pause, "cannot be persisted, trying again");
                Again::At(Instant::now() + pause)
            }
            None => {
                tracing::warn!(path, %error, "cannot be persisted: the store has another version: see `admin problems`");
                Again::Asked
            }
        }
    }
}
