//! One thing at the store, and noting that it is there. Each of these can be done again.

use std::time::Duration;

use fail::fail_point;
use headpond_namespace::{Command, Version};
use headpond_proto::v1::{PersistGrant, PersistResponse};
use headpond_types::{Error, ErrorKind, FileKind, InodeId, MountId, Result, Timestamp, WorkerId};
use headpond_ufs::{Key, ObjectMeta};

use super::{
    Persister,
    begin::{Task, Upload, What},
};
use crate::{
    mount::LiveMount,
    write::{Place, make_marker},
};

/// Why something is not persisted yet.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The store has another version than the one that was changed.
    pub(super) conflict: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, conflict: false }
    }
}

impl Persister {
    /// Does what is to be done, and journals it; gives a pause if it is to be done again after that.
    ///
    /// # Errors
    /// Those of workers, store and journal.
    pub(super) async fn perform(&self, task: Task) -> Result<Option<Duration>, Failure> {
        let Task { mount, inode, number, key, what } = task;
        let version = match &what {
            What::File(upload) => {
                let version = self.upload(&mount, inode, number, &key, upload).await?;
                self.metrics.persisted_objects.inc();
                self.metrics.persisted_bytes.inc_by(version.size);
                Some(version)
            }
            What::Copy(copying) => {
                let version = self.copy(&mount, inode, number, &key, copying).await?;
                self.metrics.persisted_objects.inc();
                Some(version)
            }
            What::Marker => {
                make_marker(&mount, &mount.directory_key(&key)).await?;
                None
            }
            What::Orphan(orphan) => {
                if let Some(pause) = self.delete_left(&mount, inode, &key, orphan).await? {
                    return Ok(Some(pause));
                }
                None
            }
        };
        fail_point!("persist::stored");
        if matches!(what, What::Orphan(_)) {
            self.end_uploads(&mount, &mount.object_key(&key), None).await;
            let places = self.places_of(&mount, &key)?;
            self.note_gone(&mount, &places, Command::EndPersist { inode, number, key, version }).await?;
        } else {
            let places: Vec<_> = self.place(inode)?.into_iter().collect();
            let made = version.clone().map(|version| (key.clone(), version.version));
            self.note_end(&mount, &places, Command::EndPersist { inode, number, key, version }).await?;
            if let (What::Copy(copying), Some(copy)) = (&what, made) {
                self.hand_over(&mount, inode, copying, copy).await?;
            }
        }
        let upload = match &what {
            What::File(upload) => Some(upload),
            What::Copy(copying) => Some(&copying.upload),
            What::Marker | What::Orphan(_) => None,
        };
        if let Some(&Upload { orphan: Some((orphan, number)), .. }) = upload {
            // What it was is replaced.
            let command = Command::EndPersist { inode: orphan, number, key: Vec::new(), version: None };
            self.note_end(&mount, &[], command).await?;
        }
        fail_point!("persist::ended");
        Ok(None)
    }

    /// Journals that the store does not have something any more. Listings that began before count for nothing below: it may have hidden what is there.
    async fn note_gone(&self, mount: &LiveMount, places: &[Place], command: Command) -> Result<()> {
        let mut below = Vec::new();
        let snapshot = self.catalog.snapshot()?;
        for (dir, name) in places {
            let found = snapshot.lookup(*dir, name)?.filter(|attr| attr.kind == FileKind::Directory);
            below.extend(found.map(|attr| attr.inode));
        }
        drop(snapshot);
        let freshness = self.engine.freshness();
        below.iter().for_each(|dir| freshness.moved(*dir, Timestamp(i64::MAX)));
        let noted = self.note_end(mount, places, command).await;
        below.iter().for_each(|dir| freshness.moved(*dir, self.clock.now()));
        noted
    }

    /// Journals what the store has. Listings that began before do not undo it.
    pub(super) async fn note_end(&self, mount: &LiveMount, places: &[Place], command: Command) -> Result<()> {
        let freshness = self.engine.freshness();
        for (dir, name) in places {
            freshness.entry_changed(*dir, name, self.clock.now());
        }
        self.catalog.propose(command).await?;
        for (dir, name) in places {
            freshness.entry_changed(*dir, name, self.clock.now());
        }
        // It may be where it is not any more.
        if self.relocator.moves(mount.mount.id)?.first.is_some() {
            self.grants.keys_move();
            self.relocator.kick(mount.mount.id);
        }
        Ok(())
    }

    /// What other workers were sending to a key is wanted by nobody when `instead` has stored what is to be there, or nothing is to be; and those that are
    /// lost may be so with their notes of it.
    async fn end_uploads(&self, mount: &LiveMount, key: &Key, instead: Option<WorkerId>) {
        for mark in self.holders.take_uploads(mount.mount.id, key, instead) {
            tracing::info!(%key, upload = mark.upload, "aborting what another worker was sending to this key");
            // Dropped, it is given up, and aborted in the background, also by the next master.
            drop(self.relocator.abandoned.note(mount.mount.id, key, &mark.upload).await);
        }
    }

    /// Has a worker put a content.
    async fn upload(
        &self,
        mount: &LiveMount,
        inode: InodeId,
        number: u64,
        key: &[u8],
        upload: &Upload,
    ) -> Result<Version, Failure> {
        let Upload { content, holders, replaces, earlier, .. } = upload;
        let object_key = mount.object_key(key);
        let earlier: Vec<_> = earlier.iter().copied().filter(|other| other != content).collect();
        // As they are by now: nothing else is told to the store when they change.
        let attr = self.catalog.snapshot()?.attr(inode)?;
        let sign = || {
            self.grants.persist(PersistGrant {
                mount: mount.mount.id.0,
                key: object_key.0.clone(),
                replaces: replaces.clone(),
                content: Some((*content).into()),
                earlier: earlier.iter().copied().map(Into::into).collect(),
                mode: attr.as_ref().map(|attr| attr.mode),
                mtime_ns: attr.as_ref().map(|attr| attr.mtime.0),
                ..PersistGrant::default()
            })
        };
        match self.holders.persist(holders, sign).await {
            Ok((worker, PersistResponse { size, mtime_ns, version, .. })) if !version.is_empty() => {
                self.end_uploads(mount, &object_key, Some(worker)).await;
                Ok(Version { size, mtime: Timestamp(mtime_ns), version, content: *content })
            }
            Ok(_) => {
                let message = format!("a worker stored {object_key:?} and says no version of it");
                Err(Error::new(ErrorKind::Internal, message).into())
            }
            Err(error) if error.kind() == ErrorKind::Stale => {
                let store = mount.store().await?;
                let there = mount.ask("find", &object_key, store.head(&object_key)).await?;
                self.conflict(inode, number, upload, there, error).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The store did not have what was to be replaced. What was deleted there is put again, what we put ourselves is known; all else is a conflict.
    pub(super) async fn conflict(
        &self,
        inode: InodeId,
        number: u64,
        upload: &Upload,
        there: Option<ObjectMeta>,
        error: Error,
    ) -> Result<Version, Failure> {
        let Upload { content, replaces, earlier, .. } = upload;
        let replaceable = match there {
            Some(ObjectMeta { size, mtime, version, content: Some(found), .. }) if found == *content => {
                return Ok(Version { size, mtime, version, content: found });
            }
            None if replaces.is_some() => {
                self.tell_deleted(inode, replaces.as_deref())?;
                None
            }
            None => return Err(error.into()),
            Some(meta) if Some(&meta.version) == replaces.as_ref() => return Err(error.into()),
            Some(meta) if meta.content.is_some_and(|found| earlier.contains(&found)) => Some(meta.version),
            Some(_) => return Err(Failure { error, conflict: true }),
        };
        self.catalog.propose(Command::Overwrite { inode, number, version: replaceable }).await?;
        Err(error.into())
    }

    /// The object of a file, in the version `known`, was deleted while newer bytes of the file waited.
    fn tell_deleted(&self, inode: InodeId, known: Option<&str>) -> Result<()> {
        let attr = self.catalog.snapshot()?.attr(inode)?;
        // Others are those of files that are gone: who deleted them may be we.
        if let Some(path) = self.path_of(inode)?
            && attr.is_some_and(|attr| Some(&attr.version[..]) == known)
        {
            let what =
                "its object was deleted outside while newer bytes of it were to be stored: it is put again with them";
            self.notices.note(path, what, self.clock.now());
        }
        Ok(())
    }

    /// The name of an inode; `None` when it is gone.
    pub(super) fn place(&self, inode: InodeId) -> Result<Option<Place>> {
        let snapshot = self.catalog.snapshot()?;
        let (Some(attr), Some(path)) = (snapshot.attr(inode)?, snapshot.path(inode)?) else { return Ok(None) };
        Ok(path.names().last().map(|name| (attr.parent, name.clone())))
    }

    /// What a mount is to be persisted in.
    pub(super) fn mount(&self, mount: MountId) -> Result<std::sync::Arc<LiveMount>> {
        let live = self.mounts.table().get(mount).cloned();
        live.ok_or_else(|| Error::new(ErrorKind::Unavailable, "its mount cannot be served"))
    }
}
