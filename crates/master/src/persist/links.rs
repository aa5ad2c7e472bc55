//! Objects of further names of files: each is a copy, within the store, of the file's own.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Due, Version};
use headpond_types::{Attr, Error, ErrorKind, InodeId, Result, Timestamp};
use headpond_ufs::Precondition;

use super::{
    Persister,
    begin::{Plan, Upload, What},
    run::Run,
    upload::Failure,
};
use crate::{
    mount::LiveMount,
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

    /// Has the namespace see what the store has of a file.
    async fn see(&self, mount: &Arc<LiveMount>, inode: InodeId) -> Result<()> {
        let Some((dir, name)) = self.place(inode)? else { return Ok(()) };
        let bounds = self.mounts.bounds(mount).refreshed();
        self.engine.check(mount, dir, &name, bounds, self.clock.now()).await.map(|_| ())
    }
}
