//! Objects of further names of files: each is a copy, within the store, of the file's own.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Due, MovedFile, Version};
use headpond_types::{Attr, Error, ErrorKind, InodeId, Result, Timestamp};
use headpond_ufs::Precondition;

use super::{
    Persister,
    begin::{Plan, Upload, What},
    run::Run,
    upload::Failure,
};
use crate::{
    mount::{LiveMount, path_key},
    relocate::{Copied, Copy, are_same},
};

/// What is to be copied to where a further name says.
#[derive(Debug)]
pub(super) struct Copying {
    /// What it becomes there; nobody holds it.
    pub(super) upload: Upload,
    /// The file.
    target: InodeId,
    /// Where the store has that, relative to the mount's prefix.
    from: Vec<u8>,
    version: String,
    size: u64,
    mtime: Timestamp,
}

impl Run {
    /// What is to be done for an alias of `target`. It waits until the store has the last version of that.
    pub(super) fn plan_copy(&mut self, mount: Arc<LiveMount>, alias: &Attr, target: InodeId) -> Result<Option<Plan>> {
        let Some(locked) = self.lock(alias)? else { return Ok(None) };
        let snapshot = &locked.snapshot;
        let (Some(file), Some(from)) = (snapshot.attr(target)?, snapshot.location(target)?) else { return Ok(None) };
        if let Some(first) = snapshot.dirty(target)? {
            if first.due != Due::Now {
                self.lagging.insert(target);
            }
            return Ok(None);
        }
        let Attr { content, version, size, mtime, .. } = file;
        let Some(content) = content.filter(|_| !version.is_empty()) else { return Ok(None) };
        let copying = |upload| What::Copy(Copying { upload, target, from: from.key, version, size, mtime });
        self.plan_object(mount, locked, (content, Vec::new()), copying)
    }

    /// Makes due what others wait for that are.
    pub(super) async fn make_targets_due(&mut self) {
        let inodes: Vec<_> = std::mem::take(&mut self.lagging).into_iter().map(|inode| (inode, false)).collect();
        if inodes.is_empty() {
            return;
        }
        if let Err(error) = self.persister.catalog.propose(Command::MakeDue { inodes, number: None }).await {
            tracing::warn!(%error, "cannot make due what further names of it wait for");
        }
    }
}

impl Persister {
    /// Copies the object of a file to where a further name of it says.
    ///
    /// # Errors
    /// Those of the store; a conflict if there is another object than the one that was known.
    pub(super) async fn copy(
        &self,
        mount: &Arc<LiveMount>,
        alias: InodeId,
        number: u64,
        key: &[u8],
        copying: &Copying,
    ) -> Result<Version, Failure> {
        let Copying { upload, target, from, version, size, mtime } = copying;
        let (source, place) = (mount.object_key(from), mount.object_key(key));
        let condition = upload.replaces.clone().map_or(Precondition::Absent, Precondition::Matches);
        let content = Some(upload.content);
        let copy = Copy {
            source: &source,
            version,
            size: *size,
            target: &place,
            condition: &condition,
            content,
            through: false,
        };
        let made = |size, version| Version { size, mtime: *mtime, version, content: upload.content };
        match copy.perform(mount, &self.relocator).await? {
            Copied::Done(meta) => {
                fail_point!("persist::copied");
                return Ok(made(meta.size, meta.version));
            }
            Copied::SourceChanged => {
                self.see(mount, *target).await?;
                let message = format!("{source:?} is another object than it was when it was to be copied");
                return Err(Error::new(ErrorKind::Unavailable, message).into());
            }
            Copied::Occupied => {}
        }
        let store = mount.store().await?;
        let (there, ours) = futures::future::try_join(
            mount.ask("find", &place, store.head(&place)),
            mount.ask("find", &source, store.head(&source)),
        )
        .await?;
        if let (Some(there), Some(ours)) = (&there, &ours)
            && ours.version == *version
            && are_same(mount, there, ours).await?
        {
            // It was copied before, and that was not journalled.
            return Ok(made(there.size, there.version.clone()));
        }
        let message = format!("there is another object at {place:?} than the one that was to be replaced");
        self.conflict(alias, number, upload, there, Error::new(ErrorKind::Stale, message)).await
    }

    /// Says of a copy that was made for a name which is the file's own by now, since the file lost its first one meanwhile, that it is the file's object:
    /// that does not have to be moved there any more. If it cannot be that, it stays an orphan.
    ///
    /// # Errors
    /// Those of namespace and journal.
    pub(super) async fn hand_over(
        &self,
        mount: &Arc<LiveMount>,
        alias: InodeId,
        copying: &Copying,
        copy: (Vec<u8>, String),
    ) -> Result<()> {
        if self.catalog.snapshot()?.attr(alias)?.is_some() {
            return Ok(());
        }
        // No relocation is at work there meanwhile: one that is to move something else to the old place would find what is nobody's.
        let span = self.relocator.progress.spans.hold(mount.mount.id, &[copying.from.clone(), copy.0.clone()]).await;
        let handed_over = self.try_hand_over(mount, copying, copy).await;
        drop(span);
        self.relocator.kick(mount.mount.id);
        handed_over
    }

    async fn try_hand_over(
        &self,
        mount: &Arc<LiveMount>,
        copying: &Copying,
        (key, version): (Vec<u8>, String),
    ) -> Result<()> {
        let Copying { target, from, version: source, .. } = copying;
        let Some((dir, name)) = self.place(*target)? else { return Ok(()) };
        // Who removes or writes the file sees its object here or there until he is done.
        let _guard = self.names.lock(dir, &name).await;
        let snapshot = self.catalog.snapshot()?;
        let (Some(file), Some(location)) = (snapshot.attr(*target)?, snapshot.location(*target)?) else {
            return Ok(());
        };
        let Some(relocation) = snapshot.relocation_of(*target)? else { return Ok(()) };
        let is_there = path_key(&location.names) == key && (file.parent, location.names.last()) == (dir, Some(&name));
        let is_copied = location.key == *from && file.version == *source;
        // What is known as nobody's there may be about to be deleted.
        let is_left = snapshot.is_left(mount.mount.id, &key)?;
        if !is_there || !is_copied || is_left || self.leases.is_persisting(*target) {
            return Ok(());
        }
        let orphan = snapshot.orphan_at(mount.mount.id, &key)?.map(|orphan| orphan.inode);
        drop(snapshot);
        let moved = MovedFile { inode: *target, from: source.clone(), key, version };
        self.grants.keys_move();
        self.catalog.propose(Command::Moved { relocation, files: vec![moved] }).await?;
        fail_point!("persist::handed-over");
        self.backlog.note(&orphan.into_iter().collect::<Vec<_>>());
        Ok(())
    }

    /// Has the namespace see what the store has of a file.
    async fn see(&self, mount: &Arc<LiveMount>, inode: InodeId) -> Result<()> {
        let Some((dir, name)) = self.place(inode)? else { return Ok(()) };
        let bounds = self.mounts.bounds(mount).refreshed();
        self.engine.check(mount, dir, &name, bounds, self.clock.now()).await.map(|_| ())
    }
}
