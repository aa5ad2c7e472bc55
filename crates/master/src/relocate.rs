//! Moving objects to where renames have put their files.
//!
//! A rename is one command; the objects stay where they were, and the namespace keeps a relocation until the last of them has been moved.
//! For each mount one task takes its relocations, some at a time, each of them a job: it lists what the namespace does not know yet, copies every object below that is not
//! where its path says (`copy`), journals the new keys, deletes the sources, and clears away what is left (`remains`), until nothing is left to
//! move. Each of these can be done again, so a master that starts anew goes on where the last one ended:
//!
//! * A copy is made only where nothing is, or where the object is that the rename replaced. What lies there with the very same bytes is a copy
//!   of ours whose journalling was lost (`compare`); anything else is a conflict, which stops the relocation and overwrites nothing.
//! * A source is deleted only when the copy is journalled, or lies where the namespace says, and only in the version that was copied.
//!
//! What stops a relocation is told by `admin status`, and it is tried again every 30 s.

mod compare;
mod copy;
mod job;
mod order;
mod remains;
mod stragglers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use headpond_namespace::Relocation;
use headpond_runtime::{Clock, Tasks};
use headpond_types::{Error, ErrorKind, MountId, Result};
use headpond_ufs::{Abandoned, UnderStore};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use self::job::Job;
use crate::{
    catalog::Catalog,
    grants::Grants,
    lookup::describe,
    metrics::WriteMetrics,
    mounts::Mounts,
    sync::SyncEngine,
    write::{Leases, NameLocks},
};

/// Relocations of one mount that are worked on at the same time.
const JOBS: usize = 8;

/// A relocation that stopped is tried again after so long.
const RETRY: Duration = Duration::from_secs(30);

/// Pause between two looks for relocations that are due.
const LOOK: Duration = Duration::from_secs(5);

/// The relocations of all mounts.
#[derive(Debug)]
pub(crate) struct Relocator {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) engine: Arc<SyncEngine>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) names: Arc<NameLocks>,
    /// Uploads that copies are made by.
    pub(crate) abandoned: Arc<Abandoned>,
    pub(crate) metrics: WriteMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) progress: Progress,
}

/// How the relocations are doing.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Counts those that were begun while their mount's task ran.
    begun: watch::Sender<u64>,
    /// Counts those that ended.
    ended: watch::Sender<u64>,
    /// Never held across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Mounts whose task runs.
    running: BTreeSet<MountId>,
    /// Relocations that stopped.
    stopped: BTreeMap<u64, Stopped>,
    /// Relocations that wait for what is to be persisted before.
    held: BTreeMap<u64, MountId>,
}

#[derive(Debug)]
struct Stopped {
    why: String,
    retry_at: Instant,
}

/// A mount's task; takes itself off the table.
struct Running {
    relocator: Arc<Relocator>,
    mount: MountId,
}

/// Aborts uploads that copies left behind, those of a master before this one too, for as long as it is polled.
pub(crate) async fn abort_uploads(relocator: Arc<Relocator>) {
    let abandoned = relocator.abandoned.clone();
    let store_of = move |mount| {
        let relocator = relocator.clone();
        async move { relocator.store(mount).await }
    };
    abandoned.run(store_of).await;
}

/// Looks for relocations for as long as it is polled: those that a master before this one left, and those that stopped.
pub(crate) async fn relocate(relocator: Arc<Relocator>) {
    loop {
        relocator.look();
        sleep(LOOK).await;
    }
}

impl Relocator {
    /// Has the relocations of all mounts that are due taken up, if they are not yet.
    fn look(self: &Arc<Self>) {
        match self.due() {
            Ok(due) => {
                for mount in due.into_iter().map(|relocation| relocation.mount).collect::<BTreeSet<_>>() {
                    self.kick(mount);
                }
            }
            Err(error) => tracing::error!(%error, "cannot see which objects are to be moved"),
        }
    }

    /// Has the relocations of `mount` taken up: one was begun.
    pub(crate) fn kick(self: &Arc<Self>, mount: MountId) {
        if self.progress.state().running.insert(mount) {
            let running = Running { relocator: self.clone(), mount };
            self.tasks.spawn_until_shutdown(running.work());
        } else {
            self.progress.begun.send_modify(|count| *count += 1);
        }
    }

    /// Tells of every relocation that ends from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.progress.ended.subscribe()
    }

    /// What is wrong with which relocation.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.progress.state().stopped.values().map(|stopped| stopped.why.clone()).collect()
    }

    /// Why the relocation `id` does not go on, if it does not.
    pub(crate) fn problem(&self, id: u64) -> Option<String> {
        self.progress.state().stopped.get(&id).map(|stopped| stopped.why.clone())
    }

    /// Relocations that have not ended.
    pub(crate) fn pending(&self) -> u64 {
        let pending = self.catalog.snapshot().and_then(|snapshot| snapshot.relocations());
        pending.map_or(0, |pending| pending.len() as u64)
    }

    /// Has those that stopped tried again at once.
    #[cfg(test)]
    pub(crate) fn retry_now(self: &Arc<Self>) {
        for stopped in self.progress.state().stopped.values_mut() {
            stopped.retry_at = Instant::now();
        }
        self.look();
    }

    /// Relocations that may be tried now, in order.
    fn due(&self) -> Result<Vec<Relocation>> {
        let mut pending = self.catalog.snapshot()?.relocations()?;
        pending.sort_unstable_by_key(|relocation| relocation.id);
        let now = Instant::now();
        let mut state = self.progress.state();
        state.stopped.retain(|id, _| pending.iter().any(|relocation| relocation.id == *id));
        pending.retain(|relocation| state.stopped.get(&relocation.id).is_none_or(|stopped| stopped.retry_at <= now));
        Ok(pending)
    }

    /// Those of one mount but for `taken`.
    fn due_of(&self, mount: MountId, taken: &BTreeSet<u64>) -> Vec<Relocation> {
        let mut due = self.due().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot see which objects are to be moved");
            Vec::new()
        });
        due.retain(|relocation| relocation.mount == mount);
        let held = self.held_of(&due).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot see what objects wait for before they are moved");
            due.iter().map(|relocation| relocation.id).collect()
        });
        due.retain(|relocation| !taken.contains(&relocation.id) && !held.contains(&relocation.id));
        let mut state = self.progress.state();
        state.held.retain(|_, of| *of != mount);
        state.held.extend(held.into_iter().map(|id| (id, mount)));
        drop(state);
        due
    }

    async fn store(&self, mount: MountId) -> Result<Arc<dyn UnderStore>> {
        let mount = self.mounts.table().get(mount).cloned();
        let mount = mount.ok_or_else(|| Error::new(ErrorKind::Unavailable, "its mount cannot be served"))?;
        mount.store().await.cloned()
    }

    /// Before anything is moved: a copy that was given up must not appear at a key that has another use by then.
    async fn abort_uploads_of(&self, mount: MountId) -> Result<()> {
        let store = self.store(mount).await?;
        self.abandoned.abort_in(mount, &*store).await.map_err(|error| {
            let error = Error::from(error);
            Error::new(error.kind(), "a copy that was given up may still be made").with_source(error)
        })
    }

    /// Tries one; gives its id.
    async fn attempt(&self, relocation: Relocation) -> u64 {
        let id = relocation.id;
        let ended = match self.abort_uploads_of(relocation.mount).await {
            Ok(()) => Job::perform(self, &relocation).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => {
                self.progress.state().stopped.remove(&id);
                self.progress.ended.send_modify(|count| *count += 1);
            }
            Err(error) => {
                self.metrics.relocation_failures.inc();
                let path = self.catalog.snapshot().map(|snapshot| describe(&snapshot, relocation.inode));
                let path = path.unwrap_or_else(|_| format!("inode {}", relocation.inode));
                let from = String::from_utf8_lossy(&relocation.from).into_owned();
                tracing::warn!(id, path, from, %error, "moving objects after a rename stopped, trying again later");
                let why = format!("objects of {path} are still at {from:?} of its mount since a rename: {error}");
                let stopped = Stopped { why, retry_at: Instant::now() + RETRY };
                self.progress.state().stopped.insert(id, stopped);
            }
        }
        id
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { begun: watch::Sender::new(0), ended: watch::Sender::new(0), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Takes the mount's relocations, oldest first and some at a time, until none is due. The namespace begins none whose objects another
    /// moves.
    async fn work(self) {
        let (relocator, mount) = (self.relocator.clone(), self.mount);
        let mut begun = relocator.progress.begun.subscribe();
        let (mut queue, mut taken, mut jobs) = (VecDeque::new(), BTreeSet::new(), FuturesUnordered::new());
        loop {
            begun.mark_unchanged();
            if queue.is_empty() {
                queue.extend(relocator.due_of(mount, &taken));
            }
            while jobs.len() < JOBS
                && let Some(relocation) = queue.pop_front()
            {
                taken.insert(relocation.id);
                jobs.push(relocator.attempt(relocation));
            }
            if jobs.is_empty() {
                break;
            }
            tokio::select! {
                Some(id) = jobs.next() => {
                    taken.remove(&id);
                }
                _ = begun.changed() => {}
            }
        }
        drop(jobs);
        drop(self);
        // One may have been begun after the last look, while this still counted as running.
        if !relocator.due_of(mount, &BTreeSet::new()).is_empty() {
            relocator.kick(mount);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.relocator.progress.state().running.remove(&self.mount);
    }
}
