//! One relocation, from its beginning or from wherever the last try ended.

use std::{sync::Arc, time::Duration};

use fail::fail_point;
use futures::{StreamExt, stream};
use headpond_namespace::{Command, Due, MovedFile, Relocation, Reply, Version};
use headpond_types::{Attr, ContentId, Error, ErrorKind, FileKind, InodeId, RequestId, Result, Timestamp};
use headpond_ufs::Precondition;
use tokio::time::Instant;

use super::{
    Relocator,
    compare::are_same,
    copy::{Copied, Copy},
    stragglers::{Search, Straggler},
};
use crate::{
    catalog::unexpected,
    mount::{LiveMount, Verdict},
    sync::{Scope, stale},
    write::delete_version,
};

/// Objects that are copied, or deleted, at the same time.
pub(super) const AT_ONCE: usize = 16;

/// Copies are journalled together, at most so many.
const BATCH: usize = 1000;

/// A copy waits for others to be journalled with for so long.
const GATHER: Duration = Duration::from_secs(1);

/// Pause between two looks at persists under way, if none ends.
const PERSISTS: Duration = Duration::from_secs(1);

/// After so many searches that found objects and could move none the job stops for a while.
const IDLE_PASSES: u32 = 3;

/// A relocation at work.
#[derive(Debug)]
pub(super) struct Job<'j> {
    pub(super) relocator: &'j Relocator,
    pub(super) relocation: &'j Relocation,
    pub(super) mount: Arc<LiveMount>,
}

/// A copy that is not journalled yet.
#[derive(Debug)]
struct Fresh {
    file: Straggler,
    /// What the store calls the copy.
    version: String,
}

/// What a search came to.
#[derive(Debug, Default)]
struct Pass {
    found: u64,
    moved: u64,
}

/// What became of a file.
#[derive(Debug)]
enum Step {
    Copied(Fresh),
    /// Its source is another than the namespace knows.
    SourceChanged(Straggler),
    /// It is to be looked at again.
    Later,
}

/// What is left to do when copies are made.
#[derive(Debug, Default)]
struct Done {
    /// Journalled: the sources can go.
    noted: Vec<Straggler>,
    /// Passed over: the copies have to go.
    passed_over: Vec<Fresh>,
    /// Changed outside.
    changed: Vec<Straggler>,
}

impl<'j> Job<'j> {
    /// Moves all that is to be moved, and ends the relocation.
    ///
    /// # Errors
    /// Those of store and journal; `AlreadyExists` for an object in the way. What was moved stays so.
    pub(super) async fn perform(relocator: &'j Relocator, relocation: &'j Relocation) -> Result<()> {
        let mount = relocator.mounts.table().get(relocation.mount).cloned();
        let mount = mount.ok_or_else(|| Error::new(ErrorKind::Unavailable, "its mount cannot be served"))?;
        let job = Self { relocator, relocation, mount };
        let Some(top) = relocator.catalog.snapshot()?.attr(relocation.inode)? else { return job.end(None).await };
        if top.kind == FileKind::Directory {
            job.list_unlisted(&top).await?;
        }
        let mut idle = 0;
        loop {
            let mut ended = relocator.leases.watch();
            let Pass { found, moved } = job.pass(&top).await?;
            if job.is_persisting()? {
                // Its object may come to lie at an old key; both waits end in another pass.
                let _ = tokio::time::timeout(PERSISTS, ended.changed()).await;
                continue;
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
        job.clear_remains(&top).await?;
        job.end(Some(&top)).await
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
        let mut search = Search::below(top);
        let mut pass = Pass::default();
        loop {
            let page = search.next(&self.relocator.catalog.snapshot()?)?;
            if page.is_empty() {
                return Ok(pass);
            }
            pass.found += page.len() as u64;
            pass.moved += self.move_all(page).await?;
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

    /// Moves `page`; gives how many of it are where they belong, or are known better, by now.
    async fn move_all(&self, page: Vec<Straggler>) -> Result<u64> {
        let (mut fresh, mut done, mut since) = (Vec::new(), Done::default(), Instant::now());
        let mut outcome = Ok(());
        // While these are not asked on, they may hold slots for requests to the store: only the journal is waited for meanwhile.
        let mut copies = stream::iter(page).map(|file| self.copy(file)).buffer_unordered(AT_ONCE);
        while let Some(step) = copies.next().await {
            match step {
                Ok(Step::Copied(copy)) => fresh.push(copy),
                Ok(Step::SourceChanged(file)) => done.changed.push(file),
                Ok(Step::Later) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            if fresh.len() >= BATCH || since.elapsed() >= GATHER {
                self.note(std::mem::take(&mut fresh), &mut done).await?;
                since = Instant::now();
            }
        }
        drop(copies);
        self.note(fresh, &mut done).await?;
        let moved = done.noted.len() + done.changed.len();
        self.delete_sources(done.noted).await?;
        for Fresh { file, version } in done.passed_over {
            delete_version(&self.mount, &self.mount.object_key(&file.to), &version).await?;
        }
        for file in done.changed {
            self.take_over(&file).await?;
        }
        outcome.map(|()| moved as u64)
    }

    async fn copy(&self, file: Straggler) -> Result<Step> {
        if self.relocator.is_being_put(self.relocation.mount, file.inode) {
            return Ok(Step::Later);
        }
        let (source, target) = (self.mount.object_key(&file.from), self.mount.object_key(&file.to));
        let mut file = file;
        if file.dirty {
            // What it is now is not what the store has.
            let store = self.mount.store().await?;
            match self.mount.ask("find", &source, store.head(&source)).await? {
                Some(meta) if meta.version == file.version => file.size = meta.size,
                _ => return Ok(Step::SourceChanged(file)),
            }
        }
        let replaces = self.relocation.replaces.clone().filter(|_| file.inode == self.relocation.inode);
        let mut condition = replaces.map_or(Precondition::Absent, Precondition::Matches);
        loop {
            let (version, size) = (&file.version[..], file.size);
            let copy = Copy { source: &source, version, size, target: &target, condition: &condition };
            match copy.perform(&self.mount, self.relocator).await? {
                Copied::Done(meta) if meta.size == size => {
                    fail_point!("relocate::copied");
                    return Ok(Step::Copied(Fresh { file, version: meta.version }));
                }
                Copied::Done(meta) => {
                    let message = format!("the copy of {source:?} to {target:?} has {} of {size} bytes", meta.size);
                    return Err(Error::new(ErrorKind::Corrupt, message));
                }
                Copied::SourceChanged => return Ok(Step::SourceChanged(file)),
                Copied::Occupied => {}
            }
            let store = self.mount.store().await?;
            let (there, ours) = futures::future::try_join(
                self.mount.ask("find", &target, store.head(&target)),
                self.mount.ask("find", &source, store.head(&source)),
            )
            .await?;
            match (there, ours) {
                (None, _) if condition != Precondition::Absent => condition = Precondition::Absent,
                (Some(there), Some(ours)) if are_same(&self.mount, &there, &ours).await? => {
                    return Ok(Step::Copied(Fresh { file, version: there.version }));
                }
                _ => {
                    let message = format!(
                        "there is an object at {target:?} that was not put there by this rename: move or delete it, \
                         or what was renamed"
                    );
                    return Err(Error::new(ErrorKind::AlreadyExists, message));
                }
            }
        }
    }

    /// Takes over what was done outside to a source: sync does not look at it meanwhile.
    async fn take_over(&self, file: &Straggler) -> Result<()> {
        let Relocator { catalog, names, clock, .. } = self.relocator;
        let (parent, name) = file.place.clone();
        let _guard = names.lock(parent, &name).await;
        let known = catalog.snapshot()?.lookup(parent, &name)?;
        let same = known.is_some_and(|attr| attr.inode == file.inode && attr.version == file.version);
        if !same || self.relocator.is_being_put(self.relocation.mount, file.inode) {
            return Ok(());
        }
        if file.dirty {
            let message = format!("{:?} was changed outside, and what is to replace it is not there yet", file.from);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let store = self.mount.store().await?;
        let key = self.mount.object_key(&file.from);
        let (request, now, inode) = (RequestId(rand::random()), clock.now(), file.inode);
        let command = match self.mount.ask("find", &key, store.head(&key)).await? {
            None => {
                Command::Remove { request, parent, name, inode, later: false, leaves: Vec::new(), marker: None, now }
            }
            Some(meta) if meta.version == file.version => {
                let message = format!("{key:?} could not be read in the version that it has");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            Some(meta) => {
                let content = ContentId::of_object(store.identity(), key.as_bytes(), &meta.version, meta.size);
                let version = Version { size: meta.size, mtime: meta.mtime, version: meta.version, content };
                Command::Commit { request, inode, key: file.from.clone(), version, now }
            }
        };
        tracing::info!(?key, "an object was changed outside while it is moved since a rename");
        catalog.propose(command).await.map(|_| ())
    }

    /// Journals copies, but for those of files that are others by now.
    async fn note(&self, copies: Vec<Fresh>, done: &mut Done) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let Relocator { catalog, names, grants, metrics, .. } = self.relocator;
        let guards = names.lock_all(copies.iter().map(|copy| copy.file.place.clone()).collect()).await;
        let (now, later): (Vec<_>, Vec<_>) =
            copies.into_iter().partition(|copy| !self.relocator.is_being_put(self.relocation.mount, copy.file.inode));
        let files = now.iter().map(|Fresh { file, version }| MovedFile {
            inode: file.inode,
            from: file.version.clone(),
            key: file.to.clone(),
            version: version.clone(),
        });
        let command = Command::Moved { relocation: self.relocation.id, files: files.collect() };
        grants.keys_move();
        fail_point!("relocate::journal");
        let others = match catalog.propose(command).await? {
            Reply::Moved(others) => others,
            other => return Err(unexpected(&other)),
        };
        fail_point!("relocate::noted");
        drop(guards);
        let (others, noted): (Vec<_>, Vec<_>) = now.into_iter().partition(|copy| others.contains(&copy.file.inode));
        metrics.relocated_objects.inc_by(noted.len() as u64);
        metrics.relocated_bytes.inc_by(noted.iter().map(|copy| copy.file.size).sum());
        done.noted.extend(noted.into_iter().map(|copy| copy.file));
        done.passed_over.extend(later.into_iter().chain(others));
        Ok(())
    }

    async fn delete_sources(&self, moved: Vec<Straggler>) -> Result<()> {
        let delete = |file: Straggler| async move {
            let key = self.mount.object_key(&file.from);
            if delete_version(&self.mount, &key, &file.version).await? == Verdict::Unmet {
                tracing::warn!(
                    ?key,
                    "an object was changed outside while it was moved: it stays as a file at its old path"
                );
            }
            fail_point!("relocate::deleted");
            Ok::<_, Error>(())
        };
        let mut deletions = stream::iter(moved).map(delete).buffer_unordered(AT_ONCE);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        Ok(())
    }

    /// Ends the relocation: the mask goes, and sync looks again.
    async fn end(&self, top: Option<&Attr>) -> Result<()> {
        let Relocator { catalog, engine, clock, .. } = self.relocator;
        let Relocation { id, inode, masked, .. } = self.relocation;
        let freshness = engine.freshness();
        // What listings under way have seen of it counts no more, whether they merge it before or after.
        freshness.moved(*inode, Timestamp(i64::MAX));
        fail_point!("relocate::end");
        catalog.propose(Command::EndRelocation { relocation: *id }).await?;
        fail_point!("relocate::ended");
        let now = clock.now();
        freshness.moved(*inode, now);
        for (dir, name) in masked {
            freshness.entry_changed(*dir, name, now);
        }
        if let Some(top) = top {
            let path = catalog.snapshot()?.path(*inode)?.ok_or_else(|| stale(*inode));
            if let Some(name) = path.ok().as_ref().and_then(|path| path.names().last()) {
                freshness.entry_changed(top.parent, name, now);
            }
        }
        Ok(())
    }
}
