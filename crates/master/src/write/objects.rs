//! What changes ask of stores. Each of these can be done again.

use std::sync::Arc;

use bytes::Bytes;
use headpond_namespace::Snapshot;
use headpond_types::{Attr, ContentId, FileKind, InodeId, MountId, Name, Result};
use headpond_ufs::{Capabilities, Key, ListRequest, Precondition, UnderStore};

use super::{Writing, replaced::OldObject};
use crate::{
    mount::{LiveMount, Verdict, path_key},
    sync::{Scope, stale},
};

/// A marker that was made.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) dir: InodeId,
    /// Where, relative to the mount's prefix.
    pub(super) path: Vec<u8>,
}

/// Deletes the version `version` of the object under `key`. `Unmet`: it has another one, and stays.
///
/// Where the store honours no condition on a deletion, the version is looked at just before: what is stored between the two requests,
/// some milliseconds, is deleted.
///
/// # Errors
/// Those of the store; whether the object is still there is then not known.
pub(crate) async fn delete_version(mount: &LiveMount, key: &Key, version: &str) -> Result<Verdict<()>> {
    let store = mount.store().await?;
    let condition = if store.capabilities().conditional_delete {
        Precondition::Matches(version.to_owned())
    } else {
        match mount.ask("find", key, store.head(key)).await? {
            None => return Ok(Verdict::Missing),
            Some(meta) if meta.version != version => return Ok(Verdict::Unmet),
            Some(_) => Precondition::None,
        }
    };
    match mount.attempt("delete", key, store.delete(key, &condition)).await? {
        // Some stores say the same of an object that is not there.
        Verdict::Unmet => match mount.ask("find", key, store.head(key)).await? {
            None => Ok(Verdict::Missing),
            Some(_) => Ok(Verdict::Unmet),
        },
        answer => Ok(answer),
    }
}

/// What the marker `key` says that it is when we made it: those that others make are as empty, so their versions are the same.
pub(crate) fn marker_mark(key: &Key) -> ContentId {
    ContentId::of_object("marker", key.as_bytes(), "", 0)
}

/// Makes the marker `key`, which ends in `/`, unless there is one (`Unmet`).
///
/// # Errors
/// Those of the store.
pub(crate) async fn make_marker(mount: &LiveMount, key: &Key) -> Result<Verdict<()>> {
    let store = mount.store().await?;
    let condition = absent(store.capabilities());
    let made =
        mount.attempt("write", key, store.put_as(key, Bytes::new(), &condition, Some(marker_mark(key)).into())).await?;
    Ok(match made {
        Verdict::Done(_) => Verdict::Done(()),
        Verdict::Missing => Verdict::Missing,
        Verdict::Unmet => Verdict::Unmet,
    })
}

/// There is to be no object, as far as the store can be told so.
const fn absent(capabilities: &Capabilities) -> Precondition {
    if capabilities.conditional_put { Precondition::Absent } else { Precondition::None }
}

impl Writing {
    /// The files that were to replace objects where they are and will not once `moved` has another name: itself, and those below.
    pub(super) fn replacing_within(&self, snapshot: &Snapshot, moved: &Attr) -> Result<Vec<InodeId>> {
        if moved.kind != FileKind::Directory {
            return Ok(self.replaced.get(moved.inode).map(|_| moved.inode).into_iter().collect());
        }
        let inodes = self.replaced.inodes();
        if inodes.is_empty() {
            return Ok(inodes);
        }
        let Some(top) = snapshot.path(moved.inode)? else { return Ok(Vec::new()) };
        let mut within = Vec::new();
        for inode in inodes {
            if snapshot.path(inode)?.is_some_and(|path| path.starts_with(&top)) {
                within.push(inode);
            }
        }
        Ok(within)
    }

    /// Deletes the object that a file which no store holds is to replace, if there is one.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn delete_replaced(&self, mount: &LiveMount, inode: InodeId) -> Result<()> {
        let Some(OldObject { key, version }) = self.replaced.get(inode) else { return Ok(()) };
        // Another version is from outside and stays.
        delete_version(mount, &mount.object_key(&key), &version).await?;
        self.replaced.forget(inode);
        Ok(())
    }

    /// Whether the store shows nothing below the prefix `key` but its marker.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn is_bare(&self, mount: &LiveMount, key: &Key) -> Result<bool> {
        let store = mount.store().await?;
        let request = ListRequest { prefix: key.clone(), max_keys: 2, ..ListRequest::default() };
        let page = mount.ask("list", key, store.list(&request)).await?;
        Ok(page.is_none_or(|page| page.entries.iter().all(|listed| listed.key() == key)))
    }

    /// Whether a directory is empty, in the namespace and in the store, which is asked. What the store shows otherwise is taken over.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn is_empty(&self, mount: &Arc<LiveMount>, dir: InodeId) -> Result<bool> {
        let known = |snapshot: &Snapshot| snapshot.list(dir, None, 1).map(|entries| !entries.is_empty());
        let snapshot = self.catalog.snapshot()?;
        if self.is_unstored_directory(&snapshot, dir)? {
            return Ok(!known(&snapshot)?);
        }
        let location = snapshot.location(dir)?.ok_or_else(|| stale(dir))?;
        if snapshot.relocation_of(dir)?.is_some() || holds_places(&snapshot, mount.mount.id, &location.key)? {
            // What the store shows there may be others' that are moved away.
            if snapshot.listed(dir)?.is_some() {
                return Ok(!known(&snapshot)?);
            }
            drop(snapshot);
            let bounds = self.mounts.bounds(mount).refreshed();
            let scope = Scope { dir, recursive: false };
            self.engine.listing(mount, scope, bounds, self.clock.now()).await?.landed().await?;
            return Ok(!known(&self.catalog.snapshot()?)?);
        }
        drop(snapshot);
        let bare = self.is_bare(mount, &mount.directory_key(&location.key)).await?;
        if bare && !known(&self.catalog.snapshot()?)? {
            return Ok(true);
        }
        let bounds = self.mounts.bounds(mount).refreshed();
        let scope = Scope { dir, recursive: false };
        self.engine.listing(mount, scope, bounds, self.clock.now()).await?.landed().await?;
        Ok(bare && !known(&self.catalog.snapshot()?)?)
    }

    /// Makes the marker of a directory that would vanish from its store with the last entry in it, which is `leaving`. When that has left, the
    /// answer goes to [`Writing::follow`].
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn keep(&self, mount: &LiveMount, dir: &Attr, leaving: &Name) -> Result<Option<Marker>> {
        let snapshot = self.catalog.snapshot()?;
        let others = snapshot.list(dir.inode, None, 2)?.into_iter().any(|(name, _)| name != *leaving);
        let location = snapshot.location(dir.inode)?.ok_or_else(|| stale(dir.inode))?;
        // Its marker is to be persisted in any case.
        let has_own = snapshot.dirty(dir.inode)?.is_some_and(|dirty| dirty.marker);
        drop(snapshot);
        let store: &Arc<dyn UnderStore> = mount.store().await?;
        if others || location.names.is_empty() || has_own || store.capabilities().native_directories {
            return Ok(None);
        }
        let marker = Marker { dir: dir.inode, path: path_key(&location.names) };
        make_marker(mount, &mount.directory_key(&marker.path)).await?;
        Ok(Some(marker))
    }

    /// Makes a marker again where the path says now, if a directory above was renamed since: its relocation may have seen the directory before
    /// it was in need. The change that needs it is done, so nobody is told of a failure: the directory may vanish from the store.
    pub(super) async fn follow(&self, mount: &LiveMount, marker: Option<Marker>) {
        let Some(marker) = marker else { return };
        let dir = marker.dir;
        if let Err(error) = self.try_follow(mount, marker).await {
            tracing::warn!(%dir, %error, "the marker of a directory could not be stored");
        }
    }

    async fn try_follow(&self, mount: &LiveMount, mut marker: Marker) -> Result<()> {
        while let Some(location) = self.catalog.snapshot()?.location(marker.dir)? {
            let path = path_key(&location.names);
            if path == marker.path {
                break;
            }
            make_marker(mount, &mount.directory_key(&path)).await?;
            marker.path = path;
        }
        Ok(())
    }
}

/// Whether objects that are to be moved may lie below `prefix`.
fn holds_places(snapshot: &Snapshot, mount: MountId, prefix: &[u8]) -> Result<bool> {
    let relocations = snapshot.relocations()?;
    Ok(relocations.iter().any(|relocation| relocation.mount == mount && relocation.touches(prefix)))
}
