//! Names, inodes and paths, as fresh as their mount asks for.
//!
//! What is fresh is answered from one snapshot without waiting. Otherwise the under store is asked first; when it cannot be
//! asked, what is known is answered for [`STALE_VALIDITY`] (said in the log, in `admin status` and in a metric), and what is
//! not known is an error, never an absence. What is being written, or moved since a rename, is the namespace's alone to tell. Who asks for a refresh gets the error, too.

use std::{sync::Arc, time::Duration};

use headpond_namespace::Snapshot;
use headpond_runtime::{Clock, Tasks};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, NsPath, Result, Timestamp};

use crate::{
    access::{Caller, SEARCH},
    catalog::Catalog,
    health::is_outage,
    mount::LiveMount,
    mounts::{MountTable, Mounts},
    sync::{Bounds, SyncEngine, is_ahead, stale},
};

/// How long an answer holds that could not be checked.
pub(crate) const STALE_VALIDITY: Duration = Duration::from_secs(1);

/// An answer and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `None`: there is no such entry.
    pub(crate) attr: Option<Attr>,
    /// It need not be asked again before this has passed.
    pub(crate) valid: Duration,
    /// Position of the snapshot that it comes from.
    pub(crate) as_of: u64,
}

/// What is there, and how long that holds.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) attr: Attr,
    /// As in [`Answer`].
    pub(crate) valid: Duration,
    /// As in [`Answer`].
    pub(crate) as_of: u64,
}

/// Answers questions about the namespace.
#[derive(Debug)]
pub(crate) struct Lookups {
    pub(super) catalog: Arc<Catalog>,
    pub(super) mounts: Arc<Mounts>,
    pub(super) engine: Arc<SyncEngine>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
}

/// What a snapshot says about an entry.
#[derive(Debug)]
pub(crate) enum Known {
    /// All that is asked.
    Fresh(Answer),
    /// Its mount wants the store to be asked.
    Due(Due),
}

/// An entry about which the store is to be asked.
#[derive(Debug)]
pub(crate) struct Due {
    mount: Arc<LiveMount>,
    bounds: Bounds,
    known: Option<Attr>,
    /// Position of the snapshot that knows it.
    as_of: u64,
    /// The asker does not want what is known.
    refresh: bool,
}

impl Lookups {
    pub(crate) const fn new(
        catalog: Arc<Catalog>,
        mounts: Arc<Mounts>,
        engine: Arc<SyncEngine>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Self {
        Self { catalog, mounts, engine, clock, tasks }
    }

    /// One name in a directory. `refresh` has the store asked in any case. Cancel-safe.
    ///
    /// # Errors
    /// `Stale` when the directory is gone, `NotADirectory`, `PermissionDenied` when `caller` may not search it or one above;
    /// those of the store when the entry is not known.
    pub(crate) async fn lookup(
        &self,
        dir: InodeId,
        name: &Name,
        caller: Option<&Caller>,
        refresh: bool,
    ) -> Result<Answer> {
        let now = self.clock.now();
        let known = self.known(&self.catalog.snapshot()?, &self.mounts.table(), now, dir, name, caller, refresh)?;
        match known {
            Known::Fresh(answer) => Ok(answer),
            Known::Due(due) => self.check(due, dir, name, now).await,
        }
    }

    /// The same as far as a snapshot can answer it.
    ///
    /// # Errors
    /// As for [`Lookups::lookup`], but for those of the store.
    #[expect(clippy::too_many_arguments, reason = "a batch shares the first three among its questions")]
    pub(crate) fn known(
        &self,
        snapshot: &Snapshot,
        mounts: &MountTable,
        now: Timestamp,
        dir: InodeId,
        name: &Name,
        caller: Option<&Caller>,
        refresh: bool,
    ) -> Result<Known> {
        let found = snapshot.lookup(dir, name)?;
        let restricted = caller.filter(|caller| !caller.is_root());
        let mount = match &found {
            Some(attr) if restricted.is_none() => attr.mount,
            _ => {
                let parent = snapshot.attr(dir)?.ok_or_else(|| stale(dir))?;
                if parent.kind != FileKind::Directory {
                    return Err(not_a_directory(snapshot, dir));
                }
                if let Some(caller) = restricted {
                    caller.require(&parent, SEARCH, || describe(snapshot, dir))?;
                    caller.require_way(snapshot, dir)?;
                }
                found.as_ref().map_or(parent.mount, |attr| attr.mount)
            }
        };
        let (lease, as_of) = (self.mounts.lease(), snapshot.position());
        let fixed = found.as_ref().is_some_and(|attr| mounts.is_fixed(attr.inode));
        let Some(mount) = mounts.get(mount).filter(|_| !fixed) else {
            return Ok(Known::Fresh(Answer { attr: shown(snapshot, found)?, valid: lease, as_of }));
        };
        if self.is_ours(snapshot, dir, name, found.as_ref())? {
            let valid = STALE_VALIDITY.min(lease);
            return Ok(Known::Fresh(Answer { attr: shown(snapshot, found)?, valid, as_of }));
        }
        let bounds = self.mounts.bounds(mount);
        if !refresh && let Some(valid) = self.remaining(snapshot, bounds, now, dir, name, found.is_some())? {
            return Ok(Known::Fresh(Answer { attr: shown(snapshot, found)?, valid, as_of }));
        }
        let bounds = if refresh { bounds.refreshed() } else { bounds };
        Ok(Known::Due(Due { mount: mount.clone(), bounds, known: shown(snapshot, found)?, as_of, refresh }))
    }

    /// Asks the store about an entry for somebody who arrived at `arrived`.
    ///
    /// # Errors
    /// As for [`Lookups::lookup`].
    pub(crate) async fn check(&self, due: Due, dir: InodeId, name: &Name, arrived: Timestamp) -> Result<Answer> {
        let Due { mount, bounds, known, as_of, refresh } = due;
        let serves = known.is_some() && !refresh;
        if serves && mount.health.is_down() {
            if mount.health.may_probe() {
                let (engine, name) = (self.engine.clone(), name.clone());
                // Its failure is noted where it happens; nobody waits for it.
                self.tasks.spawn_until_shutdown(async move {
                    let _ = engine.check(&mount, dir, &name, bounds, arrived).await;
                });
            }
            return Ok(self.outdated(known, as_of));
        }
        match self.engine.check(&mount, dir, name, bounds, arrived).await {
            Ok(began) => {
                let snapshot = self.catalog.snapshot()?;
                let valid = self.mounts.bounds(&mount).remaining(began, self.clock.now()).unwrap_or_default();
                let attr = shown(&snapshot, snapshot.lookup(dir, name)?)?;
                Ok(Answer { attr, valid, as_of: snapshot.position() })
            }
            Err(error) if serves && is_outage(&error) => Ok(self.outdated(known, as_of)),
            Err(error) => Err(error),
        }
    }

    /// The attributes of an inode, and never their absence. Cancel-safe.
    ///
    /// # Errors
    /// `Stale` when it is gone or its name leads to another inode by now.
    pub(crate) async fn attr(&self, inode: InodeId, refresh: bool) -> Result<Located> {
        let snapshot = self.catalog.snapshot()?;
        let as_of = snapshot.position();
        let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        let mounts = self.mounts.table();
        if mounts.is_fixed(inode) {
            return Ok(Located { attr, valid: self.mounts.lease(), as_of });
        }
        if !refresh
            && let Some(mount) = mounts.get(attr.mount)
            && let Some(checked) = self.engine.freshness().directory(&snapshot, attr.parent)?
            && let Some(valid) = self.mounts.bounds(mount).remaining(checked, self.clock.now())
        {
            return Ok(Located { attr, valid, as_of });
        }
        let path = snapshot.path(inode)?.ok_or_else(|| stale(inode))?;
        drop(snapshot);
        let Some(name) = path.names().last() else {
            return Ok(Located { attr, valid: self.mounts.lease(), as_of });
        };
        let Answer { attr, valid, as_of } = self.lookup(attr.parent, name, None, refresh).await?;
        match attr {
            Some(attr) if attr.inode == inode => Ok(Located { attr, valid, as_of }),
            _ => Err(stale(inode)),
        }
    }

    /// The inode at a path. Cancel-safe.
    ///
    /// # Errors
    /// As for [`Lookups::lookup`]; `NotADirectory` when the path leads through a file.
    pub(crate) async fn resolve(&self, path: &NsPath, caller: Option<&Caller>, refresh: bool) -> Result<Answer> {
        let snapshot = self.catalog.snapshot()?;
        let root = snapshot.attr(InodeId::ROOT)?.ok_or_else(|| stale(InodeId::ROOT))?;
        let mut answer = Answer { attr: Some(root), valid: self.mounts.lease(), as_of: snapshot.position() };
        drop(snapshot);
        for name in path.names() {
            let Some(dir) = &answer.attr else { return Ok(answer) };
            if dir.kind != FileKind::Directory {
                return Err(not_a_directory(&self.catalog.snapshot()?, dir.inode));
            }
            let next = self.lookup(dir.inode, name, caller, refresh).await?;
            answer = Answer { valid: next.valid.min(answer.valid), ..next };
        }
        Ok(answer)
    }

    /// How long it may be believed that a directory has no entries; `None`: it has, or the store is to be asked.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(crate) fn emptiness(&self, dir: InodeId) -> Result<Option<Duration>> {
        let snapshot = self.catalog.snapshot()?;
        let mounts = self.mounts.table();
        let Some(mount) = snapshot.attr(dir)?.and_then(|attr| mounts.get(attr.mount)) else { return Ok(None) };
        if !snapshot.list(dir, None, 1)?.is_empty() || snapshot.relocation_of(dir)?.is_some() {
            return Ok(None);
        }
        let listed = self.engine.freshness().directory(&snapshot, dir)?;
        Ok(listed.and_then(|at| self.mounts.bounds(mount).remaining(at, self.clock.now())))
    }

    /// Whether what the namespace says of `name` is not for the store to correct: a file that it was never given, and what is being
    /// moved since a rename.
    fn is_ours(&self, snapshot: &Snapshot, dir: InodeId, name: &Name, found: Option<&Attr>) -> Result<bool> {
        if let Some(attr) = found
            && (is_ahead(attr) || snapshot.dirty(attr.inode)?.is_some())
        {
            return Ok(true);
        }
        if snapshot.masks(dir, name)? {
            return Ok(true);
        }
        let above = snapshot.relocation_of(dir)?;
        if above.is_some() {
            return Ok(snapshot.listed(dir)?.is_some());
        }
        let own = found.map(|attr| snapshot.relocation_of(attr.inode)).transpose()?;
        Ok(own.flatten().is_some())
    }

    /// How much longer the namespace may answer for `name`; `None`: not any more.
    fn remaining(
        &self,
        snapshot: &Snapshot,
        bounds: Bounds,
        now: Timestamp,
        dir: InodeId,
        name: &Name,
        found: bool,
    ) -> Result<Option<Duration>> {
        let freshness = self.engine.freshness();
        let directory = freshness.directory(snapshot, dir)?.and_then(|checked| bounds.remaining(checked, now));
        if directory == Some(bounds.lease) {
            return Ok(directory);
        }
        // An absence that is not noted would not be taken back when the name is discovered.
        let entry = freshness.entry(dir, name).filter(|_| found || self.catalog.denials().is_noted(dir, name));
        let entry = entry.and_then(|checked| bounds.remaining(checked, now));
        // What is in the namespace was seen in the store at some time: enough for a mount that is never checked.
        let ever = (found && bounds.sync_interval.is_none()).then_some(bounds.lease);
        Ok([directory, entry, ever].into_iter().flatten().max())
    }

    fn outdated(&self, attr: Option<Attr>, as_of: u64) -> Answer {
        Answer { attr, valid: self.outdated_validity(), as_of }
    }

    /// How long an answer holds that could not be checked; it counts as one.
    pub(super) fn outdated_validity(&self) -> Duration {
        self.engine.metrics().stale_answers.inc();
        STALE_VALIDITY.min(self.mounts.lease())
    }
}

/// What is answered of what a name leads to: of a further name of an inode, that inode.
fn shown(snapshot: &Snapshot, found: Option<Attr>) -> Result<Option<Attr>> {
    found.map_or(Ok(None), |attr| snapshot.shown(attr))
}

/// How to name an inode to a user.
pub(crate) fn describe(snapshot: &Snapshot, inode: InodeId) -> String {
    match snapshot.path(inode) {
        Ok(Some(path)) => path.to_string(),
        _ => format!("inode {inode}"),
    }
}

pub(crate) fn not_a_directory(snapshot: &Snapshot, inode: InodeId) -> Error {
    Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", describe(snapshot, inode)))
}
