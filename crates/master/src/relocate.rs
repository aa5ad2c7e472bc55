//! Moving objects to where renames have put their files.
//!
//! A rename is one command; the objects stay where they were, and the namespace keeps a relocation until the last of them has been moved.
//! For each mount one task takes its relocations, some at a time, each of them a job: it lists what the namespace does not know yet, copies
//! every object below that is not where its path says (`copy`), journals the new keys, deletes the sources, and clears away what is left
//! (`remains`), until nothing is left to move. A file belongs to the innermost relocation that it lies in. What is renamed again goes on under a
//! new id; what the job of the old one journals then counts no more. Each step can be done again, so a master that starts anew goes on where
//! the last one ended:
//!
//! * A copy is made only where nothing is, or where an object is whose file is gone. What lies there with the very same bytes, and is no
//!   file's (`owners`), is a copy of ours whose journalling was lost (`compare`); anything else is a conflict, which stops the relocation and
//!   overwrites nothing, unless an operator decides that it may (`resolving`).
//! * Before a copy is made its key is journalled as nobody's, and with the new key of a file the old one; so whatever happens to the file,
//!   copies and sources are found again and deleted, in the version that was copied and only while they are no file's.
//! * What a master asked for that ended meanwhile, or what the store gave no answer to, comes to an end first (`unanswered`).
//! * Two relocations whose keys overlap are never at work together: what one is about to delete is not taken by the other for its own.
//!
//! # Files in each other's place
//!
//! A file whose place another file's object takes waits for that. When all of a mount's relocations wait so, that with the lowest id moves
//! its objects aside, each to the key `.headpond/displaced/<inode>`, which nobody else ever has. This ends: a file is away from its place at an
//! ordinary key, or aside, or in its place; it goes from the first to the second or third and from the second to the third, and never back
//! while nothing is renamed. Nor is it ever stuck: one that is aside waits only for a file that is away at an ordinary key, and such a
//! one can be moved aside, whatever it waits for. So each object is copied at most twice for each rename.
//!
//! A directory waits at its end for files whose objects cover it (`covered`). They are away at ordinary keys, too, as the path of a directory is no
//! file's place, and nothing that is aside or in its place is waited for: so they can be moved aside, whatever they wait for.
//!
//! A relocation whose turn it is not yet (`order`) moves nothing to its place, but is asked for the same, as the last.
//!
//! A directory that was removed with all below has a relocation that goes nowhere (`removal`): it deletes.
//!
//! What stops a relocation is told by `admin status`, and it is tried again, after a second at first and after half a minute at last. Others go on. What is
//! in the way of which file is told by `admin problems`, where an operator may decide about it (`resolving`); all other files are moved.

mod below;
mod compare;
mod conflicts;
mod copy;
mod covered;
mod deletions;
mod directories;
mod job;
mod moving;
mod order;
mod owners;
mod remains;
mod removal;
mod resolving;
mod running;
mod spans;
mod stragglers;
mod unanswered;

pub(crate) use compare::are_same;
pub(crate) use copy::{Copied, Copy};
pub(crate) use resolving::Decided;
pub(crate) use unanswered::{LATE, Unanswered};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_namespace::Relocation;
use headpond_runtime::{Clock, Tasks};
use headpond_types::{Error, ErrorKind, InodeId, MountId, Result, Timestamp};
use headpond_ufs::{Abandoned, UnderStore};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use self::{
    conflicts::Conflicts,
    job::{Aside, Job},
    running::Running,
    spans::Spans,
};
use crate::{
    catalog::Catalog,
    grants::Grants,
    lookup::describe,
    metrics::WriteMetrics,
    mount::path_key,
    mounts::Mounts,
    notices::Notices,
    pause,
    sync::SyncEngine,
    write::{Leases, NameLocks},
};

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
    /// Other requests that may still be carried out.
    pub(crate) unanswered: Unanswered,
    pub(crate) notices: Arc<Notices>,
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
    /// Counts those that ended, or moved the last of their objects.
    ended: watch::Sender<u64>,
    /// Tells that one stopped.
    stopped: Notify,
    /// What is in the way of which file.
    conflicts: Conflicts,
    /// Where somebody is at work.
    pub(crate) spans: Spans,
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
    /// Relocations whose objects are all where they belong, and that end after those above them.
    in_place: BTreeSet<u64>,
    /// Relocations that look for what is left, for the last time.
    ending: BTreeSet<u64>,
    /// Relocations about which something was decided since they were tried last, or since that was begun.
    again: BTreeSet<u64>,
}

/// A relocation looks for what is left, until this is dropped.
#[derive(Debug)]
struct Ending<'p> {
    progress: &'p Progress,
    id: u64,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.progress.state().ending.remove(&self.id);
    }
}

#[derive(Debug)]
struct Stopped {
    why: String,
    since: Timestamp,
    /// Only others' objects are in the way.
    is_blocked: bool,
    failures: u32,
    retry_at: Instant,
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
        let latest = Instant::now() + LOOK;
        loop {
            tokio::select! {
                () = sleep_until(relocator.progress.next_retry(latest)) => break,
                () = relocator.progress.stopped.notified() => {}
            }
        }
    }
}

impl Relocator {
    /// Has the relocations of all mounts that are due taken up, if they are not yet.
    fn look(self: &Arc<Self>) {
        match self.due() {
            Ok(due) => {
                let mut mounts = due.into_iter().map(|relocation| relocation.mount).collect::<BTreeSet<_>>();
                mounts.extend(self.littered().unwrap_or_default());
                for mount in mounts {
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

    /// Tells of every relocation that ends from now on, or moves the last of its objects.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.progress.ended.subscribe()
    }

    /// What is wrong with which relocation that is not over.
    pub(crate) fn problems(&self) -> Vec<String> {
        let pending = self.catalog.snapshot().and_then(|snapshot| snapshot.relocations()).unwrap_or_default();
        let state = self.progress.state();
        let stopped = pending.iter().filter_map(|relocation| state.stopped.get(&relocation.id));
        stopped.map(|stopped| stopped.why.clone()).collect()
    }

    /// Why the relocation `id` does not go on, if it does not.
    pub(crate) fn problem(&self, id: u64) -> Option<String> {
        self.progress.state().stopped.get(&id).map(|stopped| stopped.why.clone())
    }

    /// Whether the relocation that `inode` is, or lies below, looks for what is left for the last time: nothing is put at its old places then that has
    /// not been begun before.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn ends_around(&self, inode: InodeId) -> Result<bool> {
        let around = self.catalog.snapshot()?.relocation_of(inode)?;
        Ok(around.is_some_and(|id| self.progress.state().ending.contains(&id)))
    }

    /// Relocations that have not ended.
    pub(crate) fn pending(&self) -> u64 {
        let pending = self.catalog.snapshot().and_then(|snapshot| snapshot.relocations());
        pending.map_or(0, |pending| pending.len() as u64)
    }

    /// Mounts whose stores hold objects that are nobody's.
    pub(crate) fn littered(&self) -> Result<Vec<MountId>> {
        let snapshot = self.catalog.snapshot()?;
        let mut littered = Vec::new();
        for mount in snapshot.mounts()? {
            if !snapshot.left_objects(mount.id)?.is_empty() {
                littered.push(mount.id);
            }
        }
        Ok(littered)
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
        let is_pending = |id: &u64| pending.iter().any(|relocation| relocation.id == *id);
        state.stopped.retain(|id, _| is_pending(id));
        state.in_place.retain(is_pending);
        state.again.retain(is_pending);
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

    /// Before anything is moved or deleted: what was asked for before comes to its end.
    async fn end_earlier(&self, mount: MountId) -> Result<()> {
        self.settle(mount).await?;
        self.abort_uploads_of(mount).await
    }

    /// Before anything is moved: a copy that was given up must not appear at a key that has another use by then.
    async fn abort_uploads_of(&self, mount: MountId) -> Result<()> {
        let store = self.store(mount).await?;
        self.abandoned.abort_in(mount, &*store).await.map_err(|error| {
            let error = Error::from(error);
            Error::new(error.kind(), "a copy that was given up may still be made").with_source(error)
        })
    }

    /// The relocation `id` as it is now.
    fn current(&self, id: u64) -> Result<Option<Relocation>> {
        Ok(self.catalog.snapshot()?.relocations()?.into_iter().find(|relocation| relocation.id == id))
    }

    /// Tries one; gives its id and how far it came.
    async fn attempt(&self, id: u64, aside: Aside) -> (u64, Option<job::Progress>) {
        // It may have gone on under another id.
        let Ok(Some(relocation)) = self.current(id) else { return (id, Some(job::Progress::Ended)) };
        self.progress.state().again.remove(&id);
        let done = match self.end_earlier(relocation.mount).await {
            Ok(()) => Job::perform(self, &relocation, aside).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => {
                self.progress.state().stopped.remove(&id);
                if done == job::Progress::Ended {
                    self.progress.ended.send_modify(|count| *count += 1);
                }
                (id, Some(done))
            }
            Err(error) => {
                self.metrics.relocation_failures.inc();
                let is_removed = self.catalog.snapshot().and_then(|snapshot| snapshot.removed_at(relocation.inode));
                let path = self.catalog.snapshot().map(|snapshot| describe(&snapshot, relocation.inode));
                let path = path.unwrap_or_else(|_| format!("inode {}", relocation.inode));
                let from = String::from_utf8_lossy(&relocation.from).into_owned();
                tracing::warn!(id, path, from, %error, "moving objects after a rename stopped, trying again later");
                let why = if is_removed.is_ok_and(|at| at.is_some()) {
                    format!("objects of a directory that was removed are still at {from:?} of its mount: {error}")
                } else {
                    format!("objects of {path} are still at {from:?} of its mount since a rename: {error}")
                };
                self.progress.stop(id, why, error.kind() == ErrorKind::AlreadyExists, self.clock.now());
                (id, None)
            }
        }
    }

    /// Whether a directory above what is relocated is relocated, too.
    fn lies_below_other(&self, relocation: &Relocation) -> bool {
        let above = || {
            let snapshot = self.catalog.snapshot()?;
            let Some(attr) = snapshot.attr(relocation.inode)? else { return Ok(None) };
            snapshot.relocation_of(attr.parent)
        };
        above().is_ok_and(|above: Option<u64>| above.is_some())
    }

    /// Keys and prefixes at which the objects of a relocation are and are to be.
    fn span(&self, relocation: &Relocation) -> Vec<Vec<u8>> {
        let mut span: Vec<_> = relocation.places().map(<[u8]>::to_vec).collect();
        let location = self.catalog.snapshot().and_then(|snapshot| snapshot.location(relocation.inode));
        span.extend(location.ok().flatten().map(|location| path_key(&location.names)));
        span
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        let (begun, ended) = (watch::Sender::new(0), watch::Sender::new(0));
        Self {
            begun,
            ended,
            stopped: Notify::new(),
            conflicts: Conflicts::default(),
            spans: Spans::new(),
            state: Mutex::default(),
        }
    }

    /// Notes that the relocation `id` stopped, and when it is tried again.
    fn stop(&self, id: u64, why: String, is_blocked: bool, now: Timestamp) {
        let mut state = self.state();
        let before = state.stopped.get(&id).map(|stopped| (stopped.failures + 1, stopped.since));
        let (failures, since) = before.unwrap_or((0, now));
        let pause = if state.again.contains(&id) { Duration::ZERO } else { pause::after(failures) };
        let retry_at = Instant::now() + pause;
        state.stopped.insert(id, Stopped { why, since, is_blocked, failures, retry_at });
        drop(state);
        self.stopped.notify_one();
    }

    /// Why the relocation `id` does not go on, and since when, unless it is only that others' objects are in the way.
    fn failure(&self, id: u64) -> Option<(String, Timestamp)> {
        let state = self.state();
        let stopped = state.stopped.get(&id).filter(|stopped| !stopped.is_blocked)?;
        Some((stopped.why.clone(), stopped.since))
    }

    /// Notes that all objects of the relocation `id` are where they belong. That stays so: what is renamed goes on under another id.
    fn note_in_place(&self, id: u64) {
        if self.state().in_place.insert(id) {
            self.ended.send_modify(|count| *count += 1);
        }
    }

    /// The relocation `id` begins to look for what is left.
    fn ending(&self, id: u64) -> Ending<'_> {
        self.state().ending.insert(id);
        Ending { progress: self, id }
    }

    /// When the next one that stopped is tried again, `latest` at the latest.
    fn next_retry(&self, latest: Instant) -> Instant {
        let now = Instant::now();
        let state = self.state();
        let retries = state.stopped.values().map(|stopped| stopped.retry_at);
        retries.filter(|retry_at| *retry_at > now).fold(latest, Instant::min)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
