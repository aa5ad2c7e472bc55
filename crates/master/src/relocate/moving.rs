//! Moving objects: copied, journalled, and then deleted where they were.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use fail::fail_point;
use futures::{StreamExt, stream};
use headpond_namespace::{Command, MovedFile, Reply, Version, displaced_key};
use headpond_types::{ContentId, Error, ErrorKind, NsPath, RequestId, Result};
use headpond_ufs::{Key, Precondition};
use tokio::time::{Instant, timeout_at};

use super::{
    Relocator,
    compare::are_same,
    conflicts::Conflict,
    copy::{Copied, Copy, mark},
    deletions::Doomed,
    job::{AT_ONCE, Aside, BATCH, Job, Pass},
    owners::Owners,
    stragglers::Straggler,
    unanswered::LATE,
};
use crate::{catalog::unexpected, mount::Verdict};

/// A copy waits for others to be journalled with for so long.
const GATHER: Duration = Duration::from_secs(1);

/// A copy that is not journalled yet.
#[derive(Debug)]
struct Fresh {
    file: Straggler,
    /// What the store calls the copy.
    version: String,
}

/// What became of a file.
#[derive(Debug)]
enum Step {
    Copied(Fresh),
    /// Its source is another than the namespace knows.
    SourceChanged(Straggler),
    /// It is to be looked at again.
    Later,
    /// Another file's object is where it belongs.
    Taken,
    /// What a dirty file left is, and is to be deleted by the persister.
    Orphaned,
    /// What somebody else put there is.
    Blocked(Vec<u8>),
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

impl Job<'_> {
    /// Moves `page`, and counts what comes of it in `pass`.
    pub(super) async fn move_all(&self, page: Vec<Straggler>, pass: &mut Pass) -> Result<()> {
        let (mut fresh, mut done, mut since) = (Vec::new(), Done::default(), Instant::now());
        // Whatever becomes of the copies, they are found again.
        let mut left = page.iter().map(|file| file.to.clone()).collect::<Vec<_>>();
        left.extend(page.iter().filter(|_| self.aside != Aside::No).map(|file| displaced_key(file.inode)));
        let versions = page.iter().map(|file| file.version.clone()).cycle();
        self.leave(left.iter().cloned().zip(versions).collect(), Vec::new()).await?;
        let mut outcome = Ok(());
        let is_over = AtomicBool::new(false);
        let copy = |file| async { if is_over.load(Relaxed) { Ok(Step::Later) } else { self.copy(file).await } };
        // While these are not asked on, they may hold slots for requests to the store: only the journal is waited for meanwhile.
        let mut copies = stream::iter(page).map(copy).buffer_unordered(AT_ONCE);
        // No more are begun after a failure. What is under way is waited for, but not longer than it would have to be left alone unanswered.
        let mut end = None;
        loop {
            let next = match end {
                None => copies.next().await,
                Some(end) => timeout_at(end, copies.next()).await.unwrap_or_default(),
            };
            match next {
                None => break,
                Some(Ok(Step::Copied(copy))) => fresh.push(copy),
                Some(Ok(Step::SourceChanged(file))) => done.changed.push(file),
                Some(Ok(Step::Later)) => {}
                Some(Ok(Step::Taken)) => pass.taken += 1,
                Some(Ok(Step::Orphaned)) => pass.orphaned += 1,
                Some(Ok(Step::Blocked(key))) => {
                    pass.blocked += 1;
                    pass.blocked_at = key;
                }
                Some(Err(error)) if outcome.is_ok() => {
                    outcome = Err(error);
                    is_over.store(true, Relaxed);
                    end = Some(Instant::now() + LATE);
                }
                Some(Err(_)) => {}
            }
            if fresh.len() >= BATCH || since.elapsed() >= GATHER {
                self.note(std::mem::take(&mut fresh), &mut done).await?;
                since = Instant::now();
            }
        }
        drop(copies);
        self.note(fresh, &mut done).await?;
        pass.moved += (done.noted.len() + done.changed.len()) as u64;
        let sources: Vec<_> = done.noted.iter().map(|file| file.from.clone()).collect();
        self.delete_sources(done.noted).await?;
        for Fresh { file, version } in done.passed_over {
            if self.owners()?.file_at(&file.to)?.is_none() {
                self.delete_version(&self.mount.object_key(&file.to), &version).await?;
            }
        }
        if outcome.is_ok() {
            self.leave(Vec::new(), left.into_iter().chain(sources).collect()).await?;
        }
        for file in done.changed {
            self.take_over(&file).await?;
        }
        outcome
    }

    async fn leave(&self, objects: Vec<(Vec<u8>, String)>, gone: Vec<Vec<u8>>) -> Result<()> {
        let mount = self.relocation.mount;
        self.relocator.catalog.propose(Command::Leave { mount, objects, gone }).await.map(|_| ())
    }

    async fn copy(&self, mut file: Straggler) -> Result<Step> {
        if self.relocator.is_being_put(self.relocation.mount, file.inode) {
            return Ok(Step::Later);
        }
        let owners = self.owners()?;
        if self.relocator.waits_for_orphan(&self.relocator.catalog.snapshot()?, self.relocation, &file.to)? {
            return Ok(Step::Orphaned);
        }
        let is_taken = owners.file_at(&file.to)?.is_some_and(|owner| owner != file.inode)
            || self.relocator.leases.is_persisting_at(&file.to)
            || owners.is_removed_at(&file.to)?
            || !self.has_room(&owners, &file).await?;
        if is_taken || self.aside == Aside::All {
            let aside = displaced_key(file.inode);
            if self.aside == Aside::No || file.from == aside {
                return Ok(Step::Taken);
            }
            file.to = aside;
        }
        let (source, target) = (self.mount.object_key(&file.from), self.mount.object_key(&file.to));
        if file.dirty {
            // What it is now is not what the store has.
            let store = self.mount.store().await?;
            match self.mount.ask("find", &source, store.head(&source)).await? {
                Some(meta) if meta.version == file.version => file.size = meta.size,
                _ => return Ok(Step::SourceChanged(file)),
            }
        }
        let mut condition = match owners.replaced_at(&file.to) {
            Some(version) => Precondition::Matches(version.to_owned()),
            None => Precondition::Absent,
        };
        loop {
            let (version, size) = (&file.version[..], file.size);
            let mark = mark(&target, version);
            let copy = Copy {
                source: &source,
                version,
                size,
                target: &target,
                condition: &condition,
                content: Some(mark),
                through: true,
            };
            match copy.perform(&self.mount, self.relocator).await? {
                Copied::Done(meta) if meta.size == size => {
                    self.relocator.progress.conflicts.forget(file.inode);
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
                (Some(there), Some(ours))
                    if there.content == Some(mark) || are_same(&self.mount, &there, &ours).await? =>
                {
                    return Ok(Step::Copied(Fresh { file, version: there.version }));
                }
                // It went between the two looks.
                (None, _) => return Ok(Step::Later),
                (Some(_), None) => return Ok(Step::SourceChanged(file)),
                (Some(there), Some(_)) => {
                    let (key, since) = (file.to, self.relocator.clock.now());
                    let conflict = Conflict { key: key.clone(), version: there.version, since };
                    self.relocator.progress.conflicts.note(file.inode, conflict);
                    return Ok(Step::Blocked(key));
                }
            }
        }
    }

    /// Whether a store that has directories of its own can have an object where a file belongs: not below another file, nor where a directory still is.
    /// An empty one goes: it is nobody's any more, or is made anew where it belongs.
    async fn has_room(&self, owners: &Owners, file: &Straggler) -> Result<bool> {
        let store = self.mount.store().await?;
        if !store.capabilities().native_directories {
            return Ok(true);
        }
        for (slash, _) in file.to.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = &file.to[..slash];
            if owners.file_at(above)?.is_some() || self.relocator.leases.is_persisting_at(above) {
                return Ok(false);
            }
        }
        let directory = self.mount.directory_key(&file.to);
        self.mount.ask("delete", &directory, store.delete(&directory, &Precondition::None)).await?;
        Ok(self.mount.ask("find", &directory, store.head(&directory)).await?.is_none())
    }

    /// Takes over what was done outside to a source: sync does not look at it meanwhile.
    async fn take_over(&self, file: &Straggler) -> Result<()> {
        let Relocator { catalog, names, clock, .. } = self.relocator;
        let (parent, name) = file.place.clone();
        let _guard = names.lock(parent, &name).await;
        let known = catalog.snapshot()?.lookup(parent, &name)?;
        let mut same = known.is_some_and(|attr| attr.inode == file.inode && attr.version == file.version);
        let location = catalog.snapshot()?.location(file.inode)?;
        same &= location.is_some_and(|location| location.key == file.from);
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

    /// Somebody else may have changed or deleted the source `key` after it was copied.
    fn tell(&self, key: &Key, verdict: Verdict<()>) {
        let what = match verdict {
            Verdict::Done(()) => return,
            Verdict::Missing => {
                "its object was deleted outside while it was moved since a rename, or the store deleted it and did not say so: what it was \
                 goes on under its new name"
            }
            Verdict::Unmet => {
                "its object was changed outside while it was moved since a rename: what is here now stays as a file of its own, and \
                 what it was goes on under its new name"
            }
        };
        let place = self.mount.relative(key.as_bytes()).unwrap_or_default();
        let path = NsPath::parse([&self.mount.mount.path.to_bytes()[..], b"/", place].concat());
        if let Ok(path) = path {
            self.relocator.notices.note(path, what, self.relocator.clock.now());
        }
    }

    async fn delete_sources(&self, moved: Vec<Straggler>) -> Result<()> {
        let owners = self.owners()?;
        let mut doomed = Vec::with_capacity(moved.len());
        for file in moved {
            if owners.file_at(&file.from)?.is_none() {
                doomed.push(Doomed { key: self.mount.object_key(&file.from), version: file.version });
            }
        }
        drop(owners);
        let (verdicts, outcome) = self.delete_versions(&doomed).await;
        for (Doomed { key, .. }, verdict) in doomed.iter().zip(verdicts) {
            let Some(verdict) = verdict else { continue };
            self.tell(key, verdict);
            fail_point!("relocate::deleted");
        }
        outcome
    }
}
