//! One relocation, from its beginning or from wherever the last try ended.

use std::{collections::HashSet, sync::Arc};

use fail::fail_point;
use headpond_namespace::{Command, Due, Relocation, Snapshot, overlap};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Result, Timestamp};

use super::{
    Relocator,
    directories::Directories,
    owners::{Owners, Shown},
    resolving::in_the_way,
    stragglers::Search,
};
use crate::{
    mount::{LiveMount, path_key},
    sync::Scope,
};

/// Objects that are copied, or deleted, at the same time.
pub(super) const AT_ONCE: usize = 16;

/// Copies are journalled together, at most so many.
pub(super) const BATCH: usize = 1000;

/// After so many searches that found objects and could move none the job stops for a while.
const IDLE_PASSES: u32 = 3;

/// A relocation at work.
#[derive(Debug)]
pub(super) struct Job<'j> {
    pub(super) relocator: &'j Relocator,
    pub(super) relocation: &'j Relocation,
    pub(super) mount: Arc<LiveMount>,
    /// Where its path says that the objects are to go; it has that as long as it goes under its id. `None`: it is gone.
    pub(super) target: Option<Vec<u8>>,
    pub(super) aside: Aside,
}

/// What becomes of objects whose places are taken by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// They stay.
    No,
    /// They are moved aside.
    Taken,
    /// All are moved aside, to be out of the way of others, and none to its place: it is not their turn.
    All,
}

/// How far a relocation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// To its end.
    Ended,
    /// It has to wait.
    Waits {
        /// Something was moved before.
        advanced: bool,
        /// What for.
        wait: Wait,
    },
}

/// What a relocation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Other files whose objects are where those of this one belong, or where a directory does.
    Others,
    /// A persist under way, or what the persister is to delete.
    Persist,
    /// The relocation of a directory above; all else is done.
    Above,
}

/// What a search came to.
#[derive(Debug, Default)]
pub(super) struct Pass {
    found: u64,
    /// Are where they belong, or are known better, by now.
    pub(super) moved: u64,
    /// Places are taken by others.
    pub(super) taken: u64,
    /// Places are taken by what is to be deleted.
    pub(super) orphaned: u64,
    /// Places are taken by what somebody else put there.
    pub(super) blocked: u64,
    /// One of those.
    pub(super) blocked_at: Vec<u8>,
    /// It goes on under another id.
    is_over: bool,
}

impl<'j> Job<'j> {
    /// Moves all that can be moved, and ends the relocation if that is all, unless all is only moved `aside`.
    ///
    /// # Errors
    /// Those of store and journal; `AlreadyExists` for an object in the way. What was moved stays so.
    pub(super) async fn perform(
        relocator: &'j Relocator,
        relocation: &'j Relocation,
        aside: Aside,
    ) -> Result<Progress> {
        let mount = relocator.mounts.table().get(relocation.mount).cloned();
        let mount = mount.ok_or_else(|| Error::new(ErrorKind::Unavailable, "its mount cannot be served"))?;
        let snapshot = relocator.catalog.snapshot()?;
        if !is_current(&snapshot, relocation.id)? {
            return Ok(Progress::Ended);
        }
        let (top, location) = (snapshot.attr(relocation.inode)?, snapshot.location(relocation.inode)?);
        drop(snapshot);
        let target = location.map(|location| path_key(&location.names));
        let job = Self { relocator, relocation, mount, target, aside };
        let Some(top) = top else {
            if aside == Aside::All {
                return Ok(Progress::Waits { advanced: false, wait: Wait::Others });
            }
            let (removed, is_below) = {
                let snapshot = relocator.catalog.snapshot()?;
                (snapshot.removed_at(relocation.inode)?, snapshot.is_being_removed(relocation.inode)?)
            };
            match removed {
                Some(at) => job.clear_removed(at).await?,
                // Where its objects are is said until the directory above is done.
                None if is_below => {
                    return Ok(Progress::Waits { advanced: false, wait: Wait::Above });
                }
                None => job.clear_gone().await?,
            }
            return job.end(None).await;
        };
        job.clear_left().await?;
        job.list_first(&top).await?;
        let (mut idle, mut advanced) = (0, false);
        loop {
            // What is stored at an old key while this searches may be passed over for not being stored yet.
            let was_persisting = job.is_persisting()?;
            let Pass { found, moved, taken, orphaned, blocked, blocked_at, is_over } = job.pass(&top).await?;
            if is_over {
                return Ok(Progress::Ended);
            }
            advanced |= moved > 0;
            if moved == 0 && blocked > 0 {
                let mut message = in_the_way(&blocked_at);
                if blocked > 1 {
                    message.push_str(&format!("; and {} more", blocked - 1));
                }
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            if moved == 0 && (taken > 0 || aside == Aside::All) {
                return Ok(Progress::Waits { advanced, wait: Wait::Others });
            }
            if (found == 0 || moved == 0) && (orphaned > 0 || was_persisting || job.is_persisting()?) {
                // Its object may come to lie at an old key, or what was there before is being deleted.
                return Ok(Progress::Waits { advanced, wait: Wait::Persist });
            }
            if found == 0 {
                break;
            }
            idle = if moved == 0 { idle + 1 } else { 0 };
            if idle == IDLE_PASSES {
                let message = format!("{found} objects are changed faster than they are moved");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        // A marker that is begun below goes to an old place: from here on it waits for this to be over, and one that was begun before is seen.
        let _ending = relocator.progress.ending(relocation.id);
        if job.is_persisting()? {
            return Ok(Progress::Waits { advanced, wait: Wait::Persist });
        }
        if let Some(wait) = job.is_covered(&top).await? {
            return Ok(Progress::Waits { advanced, wait });
        }
        job.clear_remains(&top).await?;
        job.end(Some(&top)).await
    }

    /// The namespace, unless the relocation goes on under another id: where its objects are to go now, another job may be at work.
    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>> {
        let snapshot = self.relocator.catalog.snapshot()?;
        Ok(is_current(&snapshot, self.relocation.id)?.then_some(snapshot))
    }

    /// Whether `key` lies at, above or below where objects of this are, or are to be.
    pub(super) fn touches(&self, key: &[u8]) -> bool {
        self.relocation.touches(key) || self.target.as_ref().is_some_and(|target| overlap(target, key))
    }

    /// Whose objects are where.
    pub(super) fn owners(&self) -> Result<Owners> {
        Owners::new(self.relocator.catalog.snapshot()?, self.relocation.mount, self.mount.root)
    }

    /// What other relocations move.
    fn other_inodes(&self) -> Result<HashSet<InodeId>> {
        let owners = self.owners()?;
        let inodes = owners.relocations().iter().map(|other| other.inode);
        Ok(inodes.filter(|inode| *inode != self.relocation.inode).collect())
    }

    /// The directories that this moves.
    pub(super) fn directories(&self, top: &Attr) -> Result<Directories> {
        Ok(Directories::below(top, self.other_inodes()?))
    }

    /// Lists what is not known yet of this and of others whose places it is about to use or to clear: what is put there later is not to be taken
    /// for theirs, nor theirs for what is left of this.
    async fn list_first(&self, top: &Attr) -> Result<()> {
        let snapshot = self.relocator.catalog.snapshot()?;
        let mut tops = vec![top.clone()];
        for other in self.owners()?.relocations() {
            if other.inode != top.inode && other.places().any(|place| self.touches(place)) {
                tops.extend(snapshot.attr(other.inode)?);
            }
        }
        drop(snapshot);
        for top in tops.into_iter().filter(|top| top.kind == FileKind::Directory) {
            self.list_unlisted(&top).await?;
        }
        Ok(())
    }

    /// Lists directories below that were never listed to their end, at their old prefix.
    async fn list_unlisted(&self, top: &Attr) -> Result<()> {
        let store = self.mount.store().await?;
        let listed = |dir| self.relocator.catalog.snapshot()?.listed(dir).map(|listed| listed.is_some());
        if !listed(top.inode)? && store.capabilities().ordered_listing {
            self.list(top.inode, true).await?;
        }
        let mut open = vec![top.inode];
        while let Some(dir) = open.pop() {
            if !listed(dir)? {
                self.list(dir, false).await?;
            }
            let mut after = None;
            loop {
                let entries = self.relocator.catalog.snapshot()?.list(dir, after.as_ref(), BATCH)?;
                let Some((last, _)) = entries.last() else { break };
                after = Some(last.clone());
                let below = entries.into_iter().map(|(_, attr)| attr);
                let below = below.filter(|attr| attr.kind == FileKind::Directory && attr.mount == top.mount);
                open.extend(below.map(|attr| attr.inode));
            }
        }
        Ok(())
    }

    async fn list(&self, dir: InodeId, recursive: bool) -> Result<()> {
        let Relocator { engine, mounts, clock, .. } = self.relocator;
        let bounds = mounts.bounds(&self.mount).refreshed();
        engine.listing(&self.mount, Scope { dir, recursive }, bounds, clock.now()).await?.landed().await
    }

    /// Moves all that is found in one search.
    async fn pass(&self, top: &Attr) -> Result<Pass> {
        let mut search = Search::below(top, self.other_inodes()?);
        let mut pass = Pass::default();
        loop {
            let Some(snapshot) = self.snapshot()? else {
                pass.is_over = true;
                return Ok(pass);
            };
            let page = search.next(&snapshot)?;
            drop(snapshot);
            if page.is_empty() {
                return Ok(pass);
            }
            pass.found += page.len() as u64;
            self.move_all(page, &mut pass).await?;
        }
    }

    /// Whether the object of a file below may be stored at an old key at any moment.
    fn is_persisting(&self) -> Result<bool> {
        let snapshot = self.relocator.catalog.snapshot()?;
        for inode in self.relocator.leases.persisting() {
            if snapshot.relocation_of(inode)? == Some(self.relocation.id) {
                return Ok(true);
            }
        }
        let begun = snapshot.begun_elsewhere(self.relocation.inode)?;
        Ok(begun.iter().any(|dirty| dirty.due == Due::Now))
    }

    /// Ends the relocation: the mask goes, and sync looks again.
    async fn end(&self, top: Option<&Attr>) -> Result<Progress> {
        let Relocator { catalog, engine, clock, .. } = self.relocator;
        let Relocation { id, inode, .. } = self.relocation;
        if let Some(top) = top.filter(|top| top.kind == FileKind::Directory)
            && let Some(top) = catalog.snapshot()?.attr(top.inode)?
            && catalog.snapshot()?.relocation_of(top.parent)?.is_some()
        {
            self.relocator.progress.note_in_place(*id);
            return Ok(Progress::Waits { advanced: false, wait: Wait::Above });
        }
        // What listings under way have seen of it counts no more, whether they merge it before or after: neither that it was there, nor that
        // it was not yet where it is now.
        let owners = self.owners()?;
        let mut shown = Shown { names: Vec::new(), directories: vec![*inode] };
        for place in self.relocation.places().chain(self.target.as_deref()) {
            owners.add_shown(place.strip_suffix(b"/").unwrap_or(place), &mut shown)?;
        }
        drop(owners);
        shown.moved(engine.freshness(), Timestamp(i64::MAX));
        // Who removes a directory sees it before or after, and deletes its marker where that is.
        let path = catalog.snapshot()?.path(*inode)?;
        let place = path.as_ref().and_then(|path| path.names().last()).zip(catalog.snapshot()?.attr(*inode)?);
        let guard = match place.filter(|(_, attr)| attr.kind == FileKind::Directory) {
            Some((name, attr)) => Some(self.relocator.names.lock(attr.parent, name).await),
            None => None,
        };
        fail_point!("relocate::end");
        let ended = catalog.propose(Command::EndRelocation { relocation: *id }).await;
        drop(guard);
        fail_point!("relocate::ended");
        shown.moved(engine.freshness(), clock.now());
        ended.map(|_| Progress::Ended)
    }
}

fn is_current(snapshot: &Snapshot, id: u64) -> Result<bool> {
    Ok(snapshot.relocations()?.iter().any(|relocation| relocation.id == id))
}
