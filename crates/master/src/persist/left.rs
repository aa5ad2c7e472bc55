//! Objects that are nobody's, since their files and directories were removed: they are deleted, if they are what was removed.
//!
//! What was on its way when its file was removed comes to its end first. An upload whose worker ended, or does not say how it went, may still be
//! carried out by the store: a key at which nothing is found then is looked at a second time. What somebody else has put there stays, and an
//! operator decides.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_namespace::{Command, Dirty, Snapshot};
use headpond_proto::v1::PersistGrant;
use headpond_types::{ContentId, Error, ErrorKind, FileKind, InodeId, Name, NsPath, Result, WorkerId};
use headpond_ufs::{Key, Precondition};

use super::{Persister, Resolution, upload::Failure};
use crate::{
    mount::{LiveMount, Verdict, path_key},
    relocate::LATE,
    write::{Place, delete_version},
};

/// Which object is to be deleted.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) version: Option<String>,
    /// Or one of these contents.
    pub(super) put: Vec<ContentId>,
    /// Workers that may be putting them.
    pub(super) holders: Vec<WorkerId>,
}

/// Objects that were to be deleted and were not there, by the ids of their rows. Never held across an await.
#[derive(Debug, Default)]
pub(crate) struct Missed(Mutex<HashSet<InodeId>>);

impl Missed {
    fn all(&self) -> MutexGuard<'_, HashSet<InodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Persister {
    /// Deletes an object that is nobody's; gives a pause if it may still come.
    ///
    /// # Errors
    /// A conflict when another version is there than the one that was removed; those of workers and store.
    pub(super) async fn delete_left(
        &self,
        mount: &LiveMount,
        inode: InodeId,
        key: &[u8],
        orphan: &Orphan,
    ) -> Result<Option<Duration>, Failure> {
        let Orphan { version, put, holders } = orphan;
        let (relative, key) = (key, mount.object_key(key));
        let store = mount.store().await?;
        if key.as_bytes().ends_with(b"/") {
            // It may be that of a directory which was renamed there since.
            let _guard = match place_below(&self.catalog.snapshot()?, mount.root, relative)? {
                Some((dir, name)) => Some(self.names.lock(dir, &name).await),
                None => None,
            };
            if self.has_marker(mount, relative)? {
                return Ok(None);
            }
            // A store with directories of its own keeps one that has entries by now.
            mount.ask("delete", &key, store.delete(&key, &Precondition::None)).await?;
            return Ok(None);
        }
        if put.is_empty()
            && let Some(version) = version
            && delete_version(mount, &key, version).await? != Verdict::Unmet
        {
            return Ok(None);
        }
        if !put.is_empty() {
            let grant = PersistGrant { mount: mount.mount.id.0, key: key.0.clone(), ..PersistGrant::default() };
            self.holders.settle(holders, &self.grants.persist(grant)).await?;
        }
        // Another may come to be ours between two looks.
        for _ in 0..3 {
            let Some(meta) = mount.ask("find", &key, store.head(&key)).await? else {
                let is_first = !put.is_empty() && self.missed.all().insert(inode);
                if !is_first {
                    self.missed.all().remove(&inode);
                }
                return Ok(is_first.then_some(LATE));
            };
            let is_ours =
                version.as_ref() == Some(&meta.version) || meta.content.is_some_and(|content| put.contains(&content));
            if !is_ours {
                return if version.is_some() { Err(changed_outside(&key)) } else { Ok(None) };
            }
            if delete_version(mount, &key, &meta.version).await? != Verdict::Unmet {
                return Ok(None);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{key:?} is changed faster than it can be deleted")).into())
    }

    /// Whether there is a directory where the path `place` says that has its marker, or is not in want of one.
    fn has_marker(&self, mount: &LiveMount, place: &[u8]) -> Result<bool> {
        let snapshot = self.catalog.snapshot()?;
        let Some((dir, name)) = place_below(&snapshot, mount.root, place)? else { return Ok(false) };
        let Some(attr) = snapshot.lookup(dir, &name)?.filter(|attr| attr.kind == FileKind::Directory) else {
            return Ok(false);
        };
        Ok(snapshot.dirty(attr.inode)?.is_none_or(|dirty| !dirty.marker))
    }

    /// The names that the store shows something at `key` under: as the path says, and below what was renamed and is not moved yet. Of a
    /// directory that is not known that of the directory.
    pub(super) fn places_of(&self, mount: &LiveMount, key: &[u8]) -> Result<Vec<Place>> {
        let snapshot = self.catalog.snapshot()?;
        let mut places: Vec<_> = place_below(&snapshot, mount.root, key)?.into_iter().collect();
        for relocation in snapshot.relocations()?.into_iter().filter(|relocation| relocation.mount == mount.mount.id) {
            if snapshot.attr(relocation.inode)?.is_none() {
                continue;
            }
            for place in relocation.places().filter(|place| place.ends_with(b"/")) {
                if let Some(below) = key.strip_prefix(place) {
                    places.extend(place_below(&snapshot, relocation.inode, below)?);
                }
            }
        }
        Ok(places)
    }

    /// The path of something dirty; of an object that is to go, where it was.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(super) fn path_of(&self, inode: InodeId) -> Result<Option<NsPath>> {
        let snapshot = self.catalog.snapshot()?;
        if let Some(path) = snapshot.path(inode)? {
            return Ok(Some(path));
        }
        let Some(Dirty { mount, key: Some(key), .. }) = snapshot.dirty(inode)? else { return Ok(None) };
        let path = self.mount(mount)?.mount.path.to_bytes();
        let text = [&path[..], b"/", key.strip_suffix(b"/").unwrap_or(&key)].concat();
        Ok(NsPath::parse(&text).ok())
    }

    /// What is to be deleted at `path`.
    pub(super) fn left_at(&self, snapshot: &Snapshot, path: &NsPath) -> Result<Option<Dirty>> {
        let mounts = self.mounts.table();
        let above = mounts.mounts().into_iter().filter(|mount| path.starts_with(&mount.path));
        let Some(mount) = above.max_by_key(|mount| mount.path.names().len()) else { return Ok(None) };
        snapshot.orphan_at(mount.id, &path_key(&path.names()[mount.path.names().len()..]))
    }

    /// Decides what becomes of an object that is to be deleted and is another than was removed: `Overwrite` deletes it, `Skip` leaves it as a new file.
    ///
    /// # Errors
    /// `Busy` while it is tried, `InvalidArgument` for what is to be diverted; those of store and journal.
    pub(super) async fn resolve_left(&self, path: &NsPath, left: Dirty, resolution: Resolution) -> Result<()> {
        let Dirty { mount, inode, number, key, .. } = left;
        let key = key.unwrap_or_default();
        if self.backlog.is_at_work(mount, inode) {
            return Err(Error::new(ErrorKind::Busy, format!("{path} is being deleted just now: look again")));
        }
        let live = self.mount(mount)?;
        match resolution {
            Resolution::Retry => {}
            Resolution::Overwrite => {
                let key = live.object_key(&key);
                let there = live.ask("find", &key, live.store().await?.head(&key)).await?;
                let version = there.map(|meta| meta.version);
                self.catalog.propose(Command::Overwrite { inode, number, version }).await?;
            }
            Resolution::Skip => {
                let places = self.places_of(&live, &key)?;
                let command = Command::EndPersist { inode, number, key, version: None };
                self.note_end(&live, &places, command).await?;
            }
            Resolution::Divert => {
                let message = format!("{path} was removed, there is nothing to divert: skip it or overwrite it");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        self.decided(mount, inode, path, resolution);
        Ok(())
    }
}

fn changed_outside(key: &Key) -> Failure {
    let message = format!("{key:?} was changed outside before it was removed: decide whether it is to be deleted");
    Failure { error: Error::new(ErrorKind::Stale, message), conflict: true }
}

/// The name under which a listing shows `key` below the directory `top`: that of the file, or of the first directory that is not known.
fn place_below(snapshot: &Snapshot, top: InodeId, key: &[u8]) -> Result<Option<Place>> {
    let (mut dir, mut place) = (top, None);
    for name in key.strip_suffix(b"/").unwrap_or(key).split(|byte| *byte == b'/') {
        let Ok(name) = Name::new(name) else { return Ok(None) };
        let known = snapshot.lookup(dir, &name)?;
        place = Some((dir, name));
        match known {
            Some(attr) => dir = attr.inode,
            None => break,
        }
    }
    Ok(place)
}
