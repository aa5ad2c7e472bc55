//! Listing a directory, or all below it, to a client: pages of entries as soon as they are known.
//!
//! A directory that is fresh is read from the namespace. Otherwise its listing at the store is begun or joined, and the
//! namespace is read as far as that run has merged it, without what it has seen to be missing. Each reader goes at
//! its own pace; the run waits for nobody. A directory's entries come in byte order of their names; in a recursive walk an
//! entry of a directory comes before what lies below it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use headpond_namespace::Snapshot;
use headpond_types::{Attr, FileKind, InodeId, Name, Result, Timestamp};
use tokio::sync::watch;

use crate::{
    access::{Caller, LIST, SEARCH},
    health::is_outage,
    lookup::{Lookups, STALE_VALIDITY, describe, not_a_directory},
    mount::LiveMount,
    sync::{Bounds, Flight, Progress, Scope, stale},
};

/// Entries in a page at most.
const PAGE: usize = 1000;

/// A reader that waits is sent an empty page this often, so that it knows that the master is at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// What to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkOptions {
    /// Only names after this one.
    pub(crate) start_after: Option<Name>,
    /// All below, too; names are then paths relative to the directory.
    pub(crate) recursive: bool,
    /// Entries at most.
    pub(crate) limit: Option<u64>,
    /// Ask the store even when what is known is fresh.
    pub(crate) refresh: bool,
    /// Whose rights to the directory, and to those below, are needed; the way to it has been checked.
    pub(crate) caller: Option<Caller>,
}

/// Some entries, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WalkPage {
    /// Names (paths, in a recursive walk) and attributes.
    pub(crate) entries: Vec<(Vec<u8>, Attr)>,
    /// How long they hold.
    pub(crate) valid: Duration,
    /// Position of the oldest snapshot that they come from.
    pub(crate) as_of: u64,
    /// The directory itself; on the first page.
    pub(crate) directory: Option<Attr>,
    /// Keys left out of the directory; on the last page.
    pub(crate) skipped: u64,
}

/// A walk under way.
#[derive(Debug)]
struct Walk {
    lookups: Arc<Lookups>,
    recursive: bool,
    caller: Option<Caller>,
    remaining: u64,
    /// The directory itself, until the first page has told of it.
    untold: Option<InodeId>,
    /// Directories being read, the innermost last.
    levels: Vec<Level>,
    skipped: u64,
}

#[derive(Debug)]
struct Level {
    dir: InodeId,
    /// Path below the top, with a trailing slash unless it is empty.
    path: Vec<u8>,
    after: Option<Name>,
    /// It was known before, and is small: it is given from one snapshot, in which what is renamed meanwhile is once.
    whole: bool,
    /// All of it was given. Looked at once more, it might show a name that was renamed meanwhile under its new name, too.
    ended: bool,
    cover: Cover,
    /// Directories that were given and not yet entered, with their paths.
    children: VecDeque<(Vec<u8>, Attr)>,
}

/// On what ground a directory is read.
#[derive(Clone, Debug)]
enum Cover {
    /// The namespace has all of it, and it holds so long.
    Complete(Duration),
    /// A run brings it.
    Run {
        flight: Arc<Flight<Progress>>,
        mount: Arc<LiveMount>,
        /// The directory was listed before and nothing of the run was given: an outage is answered with what was known.
        known: bool,
    },
}

/// What a directory gives next.
enum Step {
    Entries {
        entries: Vec<(Name, Attr)>,
        valid: Duration,
        as_of: u64,
    },
    /// Nothing before the run changes.
    Wait(Arc<Flight<Progress>>, watch::Receiver<u64>),
    /// The run is over, and has left this out: its objects are elsewhere since a rename.
    Apart,
    End,
}

impl Lookups {
    /// Lists the directory `dir`. Errors end the stream; it never ends early without one.
    ///
    /// # Errors
    /// `Stale` when the directory is gone, `NotADirectory`, `PermissionDenied`; those of the store, unless the directory was listed before, nothing
    /// of it was given yet, and no refresh is asked for.
    pub(crate) async fn walk(
        self: &Arc<Self>,
        dir: InodeId,
        options: WalkOptions,
    ) -> Result<impl Stream<Item = Result<WalkPage>> + Send + use<>> {
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(dir)?.ok_or_else(|| stale(dir))?;
        if attr.kind != FileKind::Directory {
            return Err(not_a_directory(&snapshot, dir));
        }
        if let Some(caller) = &options.caller {
            let right = if options.recursive { LIST | SEARCH } else { LIST };
            caller.require(&attr, right, || describe(&snapshot, dir))?;
        }
        let whole = is_small(&snapshot, dir)?;
        drop(snapshot);
        let cover = self.cover(&attr, options.recursive, options.refresh).await?;
        let top = Level { after: options.start_after, ..Level::new(dir, Vec::new(), whole, cover) };
        let walk = Walk {
            lookups: self.clone(),
            recursive: options.recursive,
            caller: options.caller,
            remaining: options.limit.unwrap_or(u64::MAX),
            untold: Some(dir),
            levels: vec![top],
            skipped: 0,
        };
        Ok(stream::try_unfold(Some(walk), |walk| async move {
            let Some(mut walk) = walk else { return Ok(None) };
            let (page, more) = walk.page().await?;
            Ok(Some((page, more.then_some(walk))))
        }))
    }

    /// Finds or makes the ground on which `dir` can be read.
    async fn cover(&self, dir: &Attr, recursive: bool, refresh: bool) -> Result<Cover> {
        let (arrived, mounts) = (self.clock.now(), self.mounts.table());
        let Some(mount) = mounts.get(dir.mount) else { return Ok(Cover::Complete(self.mounts.lease())) };
        let bounds = self.mounts.bounds(mount);
        let snapshot = self.catalog.snapshot()?;
        let moves = snapshot.relocation_of(dir.inode)?.is_some();
        if moves && snapshot.listed(dir.inode)?.is_some() {
            return Ok(Cover::Complete(STALE_VALIDITY.min(self.mounts.lease())));
        }
        if !refresh
            && !moves
            && let Some(checked) = self.listed_at(&snapshot, dir.inode, recursive)?
            && let Some(valid) = bounds.remaining(checked, arrived)
        {
            return Ok(Cover::Complete(valid));
        }
        let bounds = if refresh { bounds.refreshed() } else { bounds };
        let scope = Scope { dir: dir.inode, recursive };
        let known = !refresh && snapshot.listed(dir.inode)?.is_some();
        drop(snapshot);
        if known && mount.health.is_down() {
            if mount.health.may_probe() {
                let (engine, mount) = (self.engine.clone(), mount.clone());
                // Its failure is noted where it happens; nobody waits for it.
                self.tasks.spawn_until_shutdown(async move {
                    let _ = engine.listing(&mount, scope, bounds, arrived).await;
                });
            }
            return Ok(self.outdated_cover());
        }
        let flight = self.engine.listing(mount, scope, bounds, arrived).await?;
        Ok(Cover::Run { flight, mount: mount.clone(), known })
    }

    /// When all that a walk of `dir` gives was last listed.
    fn listed_at(&self, snapshot: &Snapshot, dir: InodeId, recursive: bool) -> Result<Option<Timestamp>> {
        let freshness = self.engine.freshness();
        if !recursive {
            return freshness.directory(snapshot, dir);
        }
        let mut at = dir;
        loop {
            let tree = freshness.tree(at);
            let Some(parent) = snapshot.attr(at)?.map(|attr| attr.parent) else { return Ok(tree) };
            if tree.is_some() || parent == at {
                return Ok(tree);
            }
            at = parent;
        }
    }

    fn outdated_cover(&self) -> Cover {
        Cover::Complete(self.outdated_validity())
    }

    /// What a run leaves of its bounds when its entries are given.
    fn left(&self, mount: &LiveMount, began: Timestamp) -> Duration {
        let bounds: Bounds = self.mounts.bounds(mount);
        bounds.remaining(began, self.clock.now()).unwrap_or_default()
    }
}

impl Walk {
    /// The next page and whether more follow.
    async fn page(&mut self) -> Result<(WalkPage, bool)> {
        let valid = self.lookups.mounts.lease();
        let mut page = WalkPage { valid, as_of: u64::MAX, ..WalkPage::default() };
        while let Some(level) = self.levels.last_mut() {
            let room = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(PAGE - page.entries.len());
            if room == 0 {
                break;
            }
            if let Some((path, dir)) = level.children.pop_front() {
                let cover = level.cover.clone();
                self.enter(path, &dir, cover).await?;
                continue;
            }
            match level.step(&self.lookups, room)? {
                Step::Entries { entries, valid, as_of } => {
                    page.valid = page.valid.min(valid);
                    page.as_of = page.as_of.min(as_of);
                    self.remaining -= entries.len() as u64;
                    level.give(entries, self.recursive, &mut page.entries);
                }
                Step::End => {
                    let listed = self.lookups.catalog.snapshot()?.listed(level.dir)?;
                    let skipped = listed.map_or(0, |listed| listed.skipped);
                    self.lookups.engine.left_out().note(level.dir, skipped);
                    self.skipped += skipped;
                    self.levels.pop();
                }
                Step::Apart => {
                    let attr = self.lookups.catalog.snapshot()?.attr(level.dir)?;
                    level.cover = match attr {
                        Some(attr) => self.lookups.cover(&attr, false, false).await?,
                        None => Cover::Complete(valid),
                    };
                }
                Step::Wait(..) if !page.entries.is_empty() => break,
                Step::Wait(flight, changes) => {
                    if tokio::time::timeout(SIGN_OF_LIFE, news(&flight, changes)).await.is_err() {
                        break;
                    }
                }
            }
        }
        if let Some(dir) = self.untold.take() {
            let snapshot = self.lookups.catalog.snapshot()?;
            page.directory = Some(snapshot.attr(dir)?.ok_or_else(|| stale(dir))?);
            page.as_of = page.as_of.min(snapshot.position());
        }
        let more = self.remaining > 0 && !self.levels.is_empty();
        if !more {
            page.skipped = self.skipped;
        }
        Ok((page, more))
    }

    /// Goes down into `dir`, on its parent's ground if that bears.
    async fn enter(&mut self, path: Vec<u8>, dir: &Attr, above: Cover) -> Result<()> {
        let lookups = &self.lookups;
        if let Some(caller) = &self.caller {
            let snapshot = lookups.catalog.snapshot()?;
            caller.require(dir, LIST | SEARCH, || describe(&snapshot, dir.inode))?;
        }
        let inherited = match above {
            Cover::Run { ref mount, .. } => (mount.mount.id == dir.mount).then_some(above),
            Cover::Complete(valid) => {
                let table = lookups.mounts.table();
                let bare = table.get(dir.mount).is_none();
                let entered = table.get(dir.mount).is_some_and(|mount| mount.root == dir.inode);
                let known = !entered && lookups.catalog.snapshot()?.listed(dir.inode)?.is_some();
                (bare || known).then_some(Cover::Complete(valid))
            }
        };
        let cover = match inherited {
            Some(cover) => cover,
            None => lookups.cover(dir, true, false).await?,
        };
        let whole = is_small(&lookups.catalog.snapshot()?, dir.inode)?;
        self.levels.push(Level::new(dir.inode, path, whole, cover));
        Ok(())
    }
}

impl Level {
    fn new(dir: InodeId, path: Vec<u8>, whole: bool, cover: Cover) -> Self {
        Self { dir, path, after: None, whole, ended: false, cover, children: VecDeque::new() }
    }

    fn step(&mut self, lookups: &Lookups, room: usize) -> Result<Step> {
        if self.ended {
            return Ok(Step::End);
        }
        let (flight, mount, known) = match &self.cover {
            Cover::Complete(valid) => {
                let valid = *valid;
                let snapshot = lookups.catalog.snapshot()?;
                let entries = snapshot.list(self.dir, self.after.as_ref(), room)?;
                self.move_behind(&entries);
                self.ended = entries.len() < room;
                if entries.is_empty() {
                    return Ok(Step::End);
                }
                let entries = shown(&snapshot, entries)?;
                return Ok(Step::Entries { entries, valid, as_of: snapshot.position() });
            }
            Cover::Run { flight, mount, known } => (flight.clone(), mount.clone(), *known),
        };
        // Watching begins before looking, so that no change falls between.
        let changes = flight.state.watch();
        let landed = match flight.outcome() {
            Some(Err(error)) if known && is_outage(&error) => {
                self.cover = lookups.outdated_cover();
                return self.step(lookups, room);
            }
            outcome => outcome.transpose()?.is_some(),
        };
        let merged = flight.state.merged(self.dir);
        let snapshot = lookups.catalog.snapshot()?;
        // A directory below the top is complete before the run is over; the namespace says so.
        let complete = || -> Result<bool> {
            let listed = if self.path.is_empty() { None } else { snapshot.listed(self.dir)? };
            Ok(listed.is_some_and(|listed| listed.at >= flight.began))
        };
        let Some(merged) = merged.filter(|_| !landed && !self.whole) else {
            if landed && !self.path.is_empty() && snapshot.listed(self.dir)?.is_none() {
                return Ok(Step::Apart);
            }
            if landed || complete()? {
                self.cover = Cover::Complete(lookups.left(&mount, flight.began));
                return self.step(lookups, room);
            }
            return Ok(Step::Wait(flight, changes));
        };
        let mut entries = snapshot.list(self.dir, self.after.as_ref(), room)?;
        entries.truncate(entries.partition_point(|(name, _)| merged.covers(name)));
        if entries.is_empty() {
            return Ok(Step::Wait(flight, changes));
        }
        self.move_behind(&entries);
        flight.state.retain_present(&mut entries, |(_, attr)| attr.inode);
        let valid = lookups.left(&mount, flight.began);
        self.cover = Cover::Run { flight, mount, known: false };
        let entries = shown(&snapshot, entries)?;
        Ok(Step::Entries { entries, valid, as_of: snapshot.position() })
    }

    fn move_behind(&mut self, entries: &[(Name, Attr)]) {
        if let Some((last, _)) = entries.last() {
            self.after = Some(last.clone());
        }
    }

    fn give(&mut self, entries: Vec<(Name, Attr)>, recursive: bool, page: &mut Vec<(Vec<u8>, Attr)>) {
        for (name, attr) in entries {
            let path = [&self.path, name.as_bytes()].concat();
            if recursive && attr.kind == FileKind::Directory {
                self.children.push_back(([&path[..], b"/"].concat(), attr.clone()));
            }
            page.push((path, attr));
        }
    }
}

/// Whether a directory was listed before and fits into a page.
fn is_small(snapshot: &Snapshot, dir: InodeId) -> Result<bool> {
    Ok(snapshot.listed(dir)?.is_some_and(|listed| listed.entries < PAGE as u64))
}

/// Further names of inodes with those inodes' attributes.
fn shown(snapshot: &Snapshot, entries: Vec<(Name, Attr)>) -> Result<Vec<(Name, Attr)>> {
    if !snapshot.has_links()? {
        return Ok(entries);
    }
    let shown = entries.into_iter().map(|(name, attr)| Ok(snapshot.shown(attr)?.map(|attr| (name, attr))));
    shown.filter_map(Result::transpose).collect()
}

/// Waits until the run has come further or is over.
async fn news(flight: &Flight<Progress>, mut changes: watch::Receiver<u64>) {
    tokio::select! {
        _ = changes.changed() => {}
        _ = flight.landed() => {}
    }
}
