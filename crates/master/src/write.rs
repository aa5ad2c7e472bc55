//! What clients change. In a mount that persists *through* the store has a change before it is acknowledged; in others workers have what is written,
//! and [`crate::persist`] goes on from there.
//!
//! * `names` locks a name in a directory while it is changed; `leases` says who may write which file.
//! * `entries` looks names up as fresh as reads do, and checks who may change them.
//! * `files`, `persist`, `copies`: made, opened for writing, stored or held by workers, committed. `turns`: what waits for what was changed before.
//! * `trees`: removing directories with all below: the namespace alone; the store follows by [`crate::relocate`].
//! * `directories`, `removal`: first the store, then the namespace; where the mount persists later, the namespace alone (`later`).
//!   `renames`: the namespace alone; objects follow by [`crate::relocate`]. `attributes`. `pending`: what is still under way.
//! * `links`: further names of files. `nodes`, `xattrs`: what no store holds.
//! * `objects`: what these ask of stores. `expiry`: writers that went away.
//!
//! Every change is a command with the id of its request, so a repetition is answered as the first was, also after a restart. What is done at
//! the store before can be done again. Work once begun runs to its end, whether or not its caller waits.

mod attributes;
mod copies;
mod directories;
mod entries;
mod exchanges;
mod expiry;
mod files;
mod later;
mod leases;
mod links;
mod names;
mod nodes;
mod objects;
mod pending;
mod persist;
mod removal;
mod renames;
mod replaced;
mod trees;
mod turns;
mod xattrs;

pub(crate) use attributes::Change;
pub(crate) use entries::NewEntry;
pub(crate) use expiry::expire;
pub(crate) use files::Opened;
pub(crate) use leases::Leases;
pub(crate) use links::Linking;
pub(crate) use names::{Locks, NameGuard, NameLocks, Place};
pub(crate) use objects::{delete_version, make_marker, marker_mark};
pub(crate) use pending::Pending;
pub(crate) use persist::{Persisted, first_key};
pub(crate) use removal::Removal;
pub(crate) use renames::{Renaming, is_below};

use std::{future::Future, sync::Arc, time::Duration};

use fail::fail_point;
use headpond_namespace::{Command, Effect, Reply};
use headpond_runtime::{Clock, Tasks};
use headpond_types::{Error, ErrorKind, InodeId, RequestId, Result};
use tokio::time::Instant;

use crate::{
    catalog::Catalog,
    grants::Grants,
    lookup::{Answer, Lookups},
    metrics::WriteMetrics,
    mounts::Mounts,
    relocate::Relocator,
    sessions::{Change as Told, Locks as Locked},
    sync::{SyncEngine, stale},
    workers::Workers,
};
use replaced::Replaced;

use entries::STICKY;

/// How long a change waits for another that is in its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Changes the namespace, and its stores, for clients.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) engine: Arc<SyncEngine>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) names: Arc<NameLocks>,
    /// Requests that are being answered.
    pub(crate) requests: Arc<Locks<RequestId>>,
    pub(crate) relocator: Arc<Relocator>,
    pub(crate) replaced: Replaced,
    /// Shared by who begins to store a file's object at its close, and by nobody while a directory is removed with all below.
    pub(crate) stores: tokio::sync::RwLock<()>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) metrics: WriteMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
}

/// How one try at a change ended.
enum Try<T> {
    Done(T),
    /// Something is in the way that ends by itself: a lease or a persist. The text says so to whom it takes too long.
    Wait(String),
}

impl Writing {
    /// Does `work` in a task of its own.
    ///
    /// # Errors
    /// Those of `work`.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let done = self.tasks.spawn(work).await;
        done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "a change broke off").with_source(error)))
    }

    /// Does `work`, which answers `request`, in a task of its own. A repetition that comes meanwhile waits for the first, and finds its answer then.
    ///
    /// # Errors
    /// Those of `work`.
    fn run_once<'w, T: Send + 'static>(
        &'w self,
        request: RequestId,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + 'w {
        let (requests, work) = (self.requests.clone(), Box::pin(work));
        self.run(async move {
            let _turn = requests.lock_key(request).await;
            work.await
        })
    }

    /// Tries until a try is not in somebody's way any more, for as long as a caller can be expected to wait.
    ///
    /// # Errors
    /// Those of `attempt`; `Busy` when time is up, naming what is in the way.
    async fn persevere<T, F: Future<Output = Result<Try<T>>>>(&self, attempt: impl Fn() -> F) -> Result<T> {
        self.persevere_for(PATIENCE, attempt).await
    }

    /// [`Writing::persevere`] for a caller who waits for `patience` only.
    ///
    /// # Errors
    /// The same.
    async fn persevere_for<T, F: Future<Output = Result<Try<T>>>>(
        &self,
        patience: Duration,
        attempt: impl Fn() -> F,
    ) -> Result<T> {
        let until = Instant::now() + patience.min(PATIENCE);
        loop {
            // Before looking, so that no end falls between.
            let (mut writers, mut relocations) = (self.leases.watch(), self.relocator.watch());
            let mut persists = self.catalog.backlog().watch();
            let what = match attempt().await? {
                Try::Done(done) => return Ok(done),
                Try::Wait(what) => what,
            };
            let ended = async {
                tokio::select! {
                    _ = writers.changed() => {}
                    _ = relocations.changed() => {}
                    _ = persists.changed() => {}
                }
            };
            if tokio::time::timeout_at(until, ended).await.is_err() {
                return Err(Error::new(ErrorKind::Busy, what));
            }
        }
    }

    /// What `request` was answered before, if it was.
    fn answered(&self, request: RequestId) -> Result<Option<Reply>> {
        self.catalog.snapshot()?.reply(request)
    }

    /// A change that `request` asked for was made before, of `places` and `inodes`: whoever waited for others to hear of it may have gone, with the master
    /// that knew of them.
    fn tell_again(&self, request: RequestId, places: &[Place], inodes: &[InodeId], locks: Locked) -> Result<()> {
        let snapshot = self.catalog.snapshot()?;
        let mut effects = Vec::new();
        for (parent, name) in places {
            let old = snapshot.lookup(*parent, name)?.map(|attr| attr.inode);
            effects.push(Effect::Entry { parent: *parent, name: name.clone(), old });
        }
        for inode in inodes {
            if let Some(attr) = snapshot.attr(*inode)?
                && let Some(path) = snapshot.path(*inode)?
                && let Some(name) = path.names().last()
            {
                effects.push(Effect::Entry { parent: attr.parent, name: name.clone(), old: Some(*inode) });
            }
        }
        self.catalog.tell_again(&effects, Told { request, locks, in_place: places.is_empty() })
    }

    /// Journals a change of `places`. Listings that began before do not undo it.
    ///
    /// # Errors
    /// As for [`Catalog::propose`].
    async fn change(&self, places: &[Place], command: Command) -> Result<Reply> {
        let freshness = self.engine.freshness();
        let begun = self.clock.now();
        for (dir, name) in places {
            freshness.entry_changed(*dir, name, begun);
        }
        fail_point!("write::journal");
        let reply = self.catalog.propose(command).await?;
        fail_point!("write::journalled");
        let done = self.clock.now();
        for (dir, name) in places {
            freshness.entry_changed(*dir, name, done);
            freshness.entry_checked(*dir, name, done);
        }
        self.metrics.mutations.inc();
        Ok(reply)
    }

    /// The attributes of `inode` as they are after a change.
    ///
    /// # Errors
    /// `Stale` when it is gone again.
    pub(crate) fn answer(&self, inode: InodeId) -> Result<Answer> {
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        let now = self.clock.now();
        let mounts = self.mounts.table();
        let valid = mounts.get(attr.mount).and_then(|mount| self.mounts.bounds(mount).remaining(now, now));
        Ok(Answer { attr: Some(attr), valid: valid.unwrap_or_default(), as_of: snapshot.position() })
    }

    /// Position of the journal that shows what was done.
    fn position(&self) -> Result<u64> {
        Ok(self.catalog.snapshot()?.position())
    }
}
