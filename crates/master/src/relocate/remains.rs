//! What is left at an old key or prefix when every file has a new key: markers of directories, and sources whose deletion was lost.

use fail::fail_point;
use futures::{StreamExt, stream};
use headpond_namespace::Snapshot;
use headpond_types::{Attr, Error, FileKind, InodeId, Name, Result};
use headpond_ufs::{ListRequest, Listed, ObjectMeta, Precondition};

use super::{
    compare::are_same,
    copy::{Copied, Copy},
    job::{AT_ONCE, Job},
};
use crate::{
    mount::{Verdict, path_key},
    sync::is_unpersisted,
    write::{delete_version, make_marker},
};

impl Job<'_> {
    /// Moves markers and deletes lost sources. What else is there was put there from outside and stays: new files at the old path.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn clear_remains(&self, top: &Attr) -> Result<()> {
        if top.kind != FileKind::Directory {
            let key = self.mount.object_key(&self.relocation.from);
            let store = self.mount.store().await?;
            return match self.mount.ask("find", &key, store.head(&key)).await? {
                Some(left) => self.clear_source(top.inode, &left).await.map(|_| ()),
                None => Ok(()),
            };
        }
        // A store with directories shows one as empty only when those in it are gone.
        while self.clear_once(top).await? {}
        Ok(())
    }

    /// Lists what is left once; whether anything could be cleared away.
    async fn clear_once(&self, top: &Attr) -> Result<bool> {
        let store = self.mount.store().await?;
        let prefix = self.mount.object_key(&self.relocation.from);
        let mut request = ListRequest { prefix: prefix.clone(), ..ListRequest::default() };
        let mut markers = Vec::new();
        let mut cleared = false;
        loop {
            let page = self.mount.ask("list", &prefix, store.list(&request)).await?.unwrap_or_default();
            let snapshot = self.relocator.catalog.snapshot()?;
            let mut sources = Vec::new();
            for listed in page.entries {
                let Listed::Object(meta) = listed else { continue };
                let Some(path) = meta.key.as_bytes().strip_prefix(prefix.as_bytes()) else { continue };
                let is_marker = path.is_empty() || path.ends_with(b"/");
                match find(&snapshot, top, path)? {
                    Some(found) if is_marker && found.kind == FileKind::Directory => {
                        markers.push((found.inode, meta));
                    }
                    Some(found) if !is_marker && found.kind == FileKind::File => sources.push((found.inode, meta)),
                    _ => {}
                }
            }
            drop(snapshot);
            let clear = |(inode, meta)| async move { self.clear_source(inode, &meta).await };
            let mut clearings = stream::iter(sources).map(clear).buffer_unordered(AT_ONCE);
            while let Some(done) = clearings.next().await {
                cleared |= done?;
            }
            request.continuation = page.continuation;
            if request.continuation.is_none() {
                break;
            }
        }
        // Those in a directory before it.
        for (dir, marker) in markers.into_iter().rev() {
            cleared |= self.move_marker(dir, &marker).await?;
        }
        Ok(cleared)
    }

    /// Makes the marker of `dir` where its path says, and deletes the old one. Whether it is gone. Some programs put bytes into markers: those are
    /// copied, but not over another's.
    async fn move_marker(&self, dir: InodeId, old: &ObjectMeta) -> Result<bool> {
        let key = &old.key;
        let Some(location) = self.relocator.catalog.snapshot()?.location(dir)? else { return Ok(false) };
        let target = self.mount.directory_key(&path_key(&location.names));
        if target == *key {
            return Ok(false);
        }
        let store = self.mount.store().await?;
        if old.size > 0 {
            let (version, size, condition) = (&old.version[..], old.size, &Precondition::Absent);
            let copy = Copy { source: key, version, size, target: &target, condition };
            let Copied::Done(_) = copy.perform(&self.mount, self.relocator).await? else { return Ok(false) };
            return Ok(delete_version(&self.mount, key, version).await? != Verdict::Unmet);
        }
        make_marker(&self.mount, &target).await?;
        fail_point!("relocate::marker");
        self.mount.ask("delete", key, store.delete(key, &Precondition::None)).await?;
        // A store with directories keeps one that has entries.
        let left = self.mount.ask("find", key, store.head(key)).await?;
        Ok(left.is_none())
    }

    /// Deletes an object at an old key if it is what was copied to where `file` is now. Whether it is.
    async fn clear_source(&self, file: InodeId, left: &ObjectMeta) -> Result<bool> {
        let snapshot = self.relocator.catalog.snapshot()?;
        let Some(attr) =
            snapshot.attr(file)?.filter(|attr| !is_unpersisted(attr) && (attr.dirty || attr.size == left.size))
        else {
            return Ok(false);
        };
        let Some(location) = snapshot.location(file)? else { return Ok(false) };
        drop(snapshot);
        let key = self.mount.object_key(&location.key);
        if key == left.key {
            return Ok(false);
        }
        let store = self.mount.store().await?;
        let there = self.mount.ask("find", &key, store.head(&key)).await?;
        let Some(there) = there.filter(|there| there.version == attr.version) else { return Ok(false) };
        if !are_same(&self.mount, left, &there).await? {
            return Ok(false);
        }
        delete_version(&self.mount, &left.key, &left.version).await?;
        Ok::<_, Error>(true)
    }
}

/// What is at `path` below `top`; a trailing slash does not matter.
fn find(snapshot: &Snapshot, top: &Attr, path: &[u8]) -> Result<Option<Attr>> {
    let mut at = top.clone();
    for part in path.strip_suffix(b"/").unwrap_or(path).split(|byte| *byte == b'/').filter(|_| !path.is_empty()) {
        let Ok(name) = Name::new(part) else { return Ok(None) };
        match snapshot.lookup(at.inode, &name)? {
            Some(attr) if attr.mount == top.mount => at = attr,
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}
