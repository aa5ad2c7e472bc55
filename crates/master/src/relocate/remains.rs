//! What is left at an old key or prefix when every file has a new key: markers of directories, and sources whose deletion was lost.

use fail::fail_point;
use futures::{StreamExt, stream};
use headpond_namespace::{Command, Snapshot, displaced_inode};
use headpond_types::{Attr, Error, FileKind, InodeId, Name, Result};
use headpond_ufs::{Key, ObjectMeta, Precondition};

use super::{
    Relocator,
    below::Below,
    compare::are_same,
    copy::{Copied, Copy, mark},
    covered::Covered,
    job::{AT_ONCE, Job},
    owners::Owners,
};
use crate::{
    mount::{LiveMount, Verdict, path_key},
    sync::is_unpersisted,
    write::{NameGuard, delete_version, make_marker, marker_mark},
};

impl Relocator {
    /// Deletes objects that are nobody's at the keys `is_here`, which no job but the caller's is at.
    ///
    /// # Errors
    /// Those of store and journal.
    pub(super) async fn clear_left(&self, mount: &LiveMount, is_here: impl Fn(&[u8]) -> bool) -> Result<()> {
        let id = mount.mount.id;
        let left_here = || -> Result<Vec<_>> {
            let left = self.catalog.snapshot()?.left_objects(id)?;
            Ok(left.into_iter().filter(|(key, _)| is_here(key)).collect())
        };
        if left_here()?.is_empty() {
            return Ok(());
        }
        self.settle(id).await?;
        let mut left = left_here()?;
        let owners = Owners::new(self.catalog.snapshot()?, id, mount.root)?;
        // What is stored there meanwhile is told from them as long as they are known.
        left.retain(|(key, _)| !self.leases.is_persisting_at(key));
        let mut doomed = Vec::new();
        for (key, version) in &left {
            if owners.file_at(key)?.is_none() {
                doomed.push((mount.object_key(key), version.clone()));
            }
        }
        drop(owners);
        let delete = |(key, version): (Key, String)| async move {
            let asked = self.unanswered.ask(id);
            asked.answered(delete_copy(mount, &key, &version).await)
        };
        let mut deletions = stream::iter(doomed).map(delete).buffer_unordered(AT_ONCE);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        drop(deletions);
        let gone = left.into_iter().map(|(key, _)| key).collect();
        self.catalog.propose(Command::Leave { mount: id, objects: Vec::new(), gone }).await.map(|_| ())
    }
}

impl Job<'_> {
    /// Moves markers and deletes lost sources. What else is there was put there from outside and stays: new files at the old path.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn clear_remains(&self, top: &Attr) -> Result<()> {
        self.clear_replaced().await?;
        self.clear_left().await?;
        for place in self.relocation.places() {
            let key = self.mount.object_key(place);
            if self.target.as_deref() == Some(place.strip_suffix(b"/").unwrap_or(place)) {
                continue;
            }
            if top.kind == FileKind::Directory {
                let mut covered = self.covered_at(place).await?;
                // A store with directories shows one as empty only when those in it are gone.
                while self.clear_once(top, &key, &mut covered).await? {}
                self.move_covered(top, &key, &covered).await?;
                continue;
            }
            let store = self.mount.store().await?;
            if let Some(left) = self.mount.ask("find", &key, store.head(&key)).await? {
                self.clear_source(top.inode, &left).await?;
            }
        }
        // One that was made while its place was not free has none yet.
        if displaced_inode(&self.relocation.from).is_some_and(|(inode, _)| inode == top.inode)
            && top.kind == FileKind::Directory
        {
            self.make_marker_of(top.inode).await?;
        }
        self.keep_empty(top).await
    }

    /// Makes markers for the directories that the store shows nothing in: theirs may be with others, or not made at all.
    async fn keep_empty(&self, top: &Attr) -> Result<()> {
        let mut directories = self.directories(top)?;
        while let Some(snapshot) = self.snapshot()?
            && let Some(dir) = directories.next(&snapshot)?
        {
            drop(snapshot);
            if dir.is_bare {
                self.make_marker_of(dir.inode).await?;
            }
        }
        Ok(())
    }

    /// Deletes what is nobody's where objects of this are, or are to be.
    ///
    /// # Errors
    /// Those of store and journal.
    pub(super) async fn clear_left(&self) -> Result<()> {
        self.relocator.clear_left(&self.mount, |key| self.touches(key)).await
    }

    /// Deletes the objects of files that are gone.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn clear_replaced(&self) -> Result<()> {
        for (key, version) in &self.relocation.replaced {
            if self.owners()?.file_at(key)?.is_none() {
                self.delete_version(&self.mount.object_key(key), version).await?;
            }
        }
        Ok(())
    }

    /// Deletes what may be left of something that is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn clear_gone(&self) -> Result<()> {
        self.clear_replaced().await?;
        self.clear_left().await?;
        for place in self.relocation.places().filter(|place| place.ends_with(b"/")) {
            let prefix = self.mount.object_key(place);
            let mut below = Below::new(&prefix);
            while let Some(objects) = below.next(self).await? {
                // Its own goes whatever is in it.
                let (own, below): (Vec<_>, Vec<_>) = objects.into_iter().partition(|meta| meta.key == prefix);
                let is_stray = |meta: &ObjectMeta| meta.key.as_bytes().ends_with(b"/") && meta.size == 0;
                self.clear_stray(below.into_iter().filter(is_stray).collect()).await?;
                for ObjectMeta { key, .. } in own {
                    self.delete_marker(&key, |_| true).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes markers that we made, of directories that were renamed or removed since. What was there before was known as a directory, and is
    /// none of these; so others are new, and somebody else's. Directories of a file system say nothing of who made them.
    async fn clear_stray(&self, markers: Vec<ObjectMeta>) -> Result<()> {
        let says_nothing = self.mount.store().await?.capabilities().native_directories;
        // Those in a directory before it.
        for marker in markers.into_iter().rev() {
            let is_ours = |there: &ObjectMeta| says_nothing || there.content == Some(marker_mark(&there.key));
            self.delete_marker(&marker.key, is_ours).await?;
        }
        Ok(())
    }

    /// Deletes the marker `key` if no directory has it, and it `is_ours`.
    async fn delete_marker(&self, key: &Key, is_ours: impl Fn(&ObjectMeta) -> bool) -> Result<()> {
        let store = self.mount.store().await?;
        let Some(_guards) = self.lock_marker(key, InodeId(0)).await? else { return Ok(()) };
        let there = self.mount.ask("find", key, store.head(key)).await?;
        if there.is_some_and(|there| is_ours(&there)) {
            self.mount.ask("delete", key, store.delete(key, &Precondition::None)).await?;
        }
        Ok(())
    }

    /// Sees to it that nobody begins to put the marker `key` for a directory, until what is answered is dropped. `None`: a directory other than
    /// `except` has it, or may have it.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) async fn lock_marker(&self, key: &Key, except: InodeId) -> Result<Option<Vec<NameGuard>>> {
        let place = self.mount.relative(key.as_bytes()).unwrap_or_default();
        loop {
            let names = self.owners()?.names_at(place)?;
            let guards = self.relocator.names.lock_all(names.iter().cloned().collect()).await;
            let owners = self.owners()?;
            if owners.directory_at(place, except)?.is_some() {
                return Ok(None);
            }
            if owners.names_at(place)? == names {
                return Ok(Some(guards));
            }
        }
    }

    /// Moves the markers of directories that no listing of `prefix` shows.
    async fn move_covered(&self, top: &Attr, prefix: &Key, covered: &Covered) -> Result<()> {
        if covered.is_empty() {
            return Ok(());
        }
        let store = self.mount.store().await?;
        let mut directories = self.directories(top)?;
        while let Some(snapshot) = self.snapshot()?
            && let Some(dir) = directories.next(&snapshot)?
        {
            drop(snapshot);
            if covered.holds(&dir.way) {
                let key = Key::from([prefix.as_bytes(), &dir.way].concat());
                if let Some(marker) = self.mount.ask("find", &key, store.head(&key)).await? {
                    self.move_marker(dir.inode, &marker).await?;
                }
            }
        }
        Ok(())
    }

    /// Lists what is left once; whether anything could be cleared away. Adds to `covered` what it does not show.
    async fn clear_once(&self, top: &Attr, prefix: &Key, covered: &mut Covered) -> Result<bool> {
        let mut below = Below::new(prefix);
        let (mut markers, mut stray) = (Vec::new(), Vec::new());
        let mut cleared = false;
        while let Some(objects) = below.next(self).await? {
            let snapshot = self.relocator.catalog.snapshot()?;
            let mut sources = Vec::new();
            for meta in objects {
                let Some(path) = meta.key.as_bytes().strip_prefix(prefix.as_bytes()) else { continue };
                let is_marker = path.is_empty() || path.ends_with(b"/");
                match find(&snapshot, top, path)? {
                    Some(found) if is_marker && found.kind == FileKind::Directory => {
                        markers.push((found.inode, meta));
                    }
                    _ if is_marker && meta.size == 0 => stray.push(meta),
                    Some(found) if !is_marker && found.kind == FileKind::File => sources.push((found.inode, meta)),
                    Some(found) if !is_marker && found.kind == FileKind::Directory => covered.add(path),
                    _ => {}
                }
            }
            drop(snapshot);
            let clear = |(inode, meta)| async move { self.clear_source(inode, &meta).await };
            let mut clearings = stream::iter(sources).map(clear).buffer_unordered(AT_ONCE);
            while let Some(done) = clearings.next().await {
                cleared |= done?;
            }
        }
        self.clear_stray(stray).await?;
        // Those in a directory before it.
        for (dir, marker) in markers.into_iter().rev() {
            cleared |= self.move_marker(dir, &marker).await?;
        }
        Ok(cleared)
    }

    /// Makes the marker of a directory where its path says, unless it is gone, or this goes on under another id; gives its key. Nobody removes the
    /// directory meanwhile.
    async fn make_marker_of(&self, dir: InodeId) -> Result<Option<Key>> {
        let find = || -> Result<_> {
            let Some(snapshot) = self.snapshot()? else { return Ok(None) };
            let (attr, location) = (snapshot.attr(dir)?, snapshot.location(dir)?);
            Ok(attr.zip(location).map(|(attr, location)| (attr.parent, location.names)))
        };
        let Some((parent, names)) = find()? else { return Ok(None) };
        let Some(name) = names.last() else { return Ok(None) };
        let _guard = self.relocator.names.lock(parent, name).await;
        if find()?.is_none_or(|(now, now_names)| (now, &now_names) != (parent, &names)) {
            return Ok(None);
        }
        let key = self.mount.directory_key(&path_key(&names));
        // One that is to be persisted comes in its turn.
        if self.relocator.catalog.snapshot()?.dirty(dir)?.is_none_or(|dirty| !dirty.marker) {
            make_marker(&self.mount, &key).await?;
        }
        Ok(Some(key))
    }

    /// Makes the marker of `dir` where its path says, and deletes the old one. Whether it is gone. Some programs put bytes into markers: those are
    /// copied, but not over another's.
    async fn move_marker(&self, dir: InodeId, old: &ObjectMeta) -> Result<bool> {
        let key = &old.key;
        let Some(snapshot) = self.snapshot()? else { return Ok(false) };
        let Some(location) = snapshot.location(dir)? else { return Ok(false) };
        drop(snapshot);
        let target = self.mount.directory_key(&path_key(&location.names));
        if target == *key {
            return Ok(false);
        }
        let store = self.mount.store().await?;
        let place = self.mount.relative(key.as_bytes()).unwrap_or_default();
        if self.owners()?.directory_at(place, dir)?.is_some() {
            // It is as much another's by now.
            self.make_marker_of(dir).await?;
            return Ok(false);
        }
        if old.size > 0 {
            let (version, size, condition) = (&old.version[..], old.size, &Precondition::Absent);
            let content = old.content;
            let copy = Copy { source: key, version, size, target: &target, condition, content, through: false };
            let Copied::Done(_) = copy.perform(&self.mount, self.relocator).await? else { return Ok(false) };
            return Ok(self.delete_version(key, version).await? != Verdict::Unmet);
        }
        if self.make_marker_of(dir).await? != Some(target) {
            return Ok(false);
        }
        fail_point!("relocate::marker");
        let Some(_guards) = self.lock_marker(key, dir).await? else { return Ok(false) };
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
        let relative = self.mount.relative(left.key.as_bytes()).unwrap_or_default();
        if self.owners()?.file_at(relative)?.is_some() {
            return Ok(false);
        }
        let store = self.mount.store().await?;
        let there = self.mount.ask("find", &key, store.head(&key)).await?;
        let Some(there) = there.filter(|there| there.version == attr.version) else { return Ok(false) };
        if !are_same(&self.mount, left, &there).await? {
            return Ok(false);
        }
        self.delete_version(&left.key, &left.version).await?;
        Ok::<_, Error>(true)
    }
}

/// Deletes the object under `key` if it is `version`, or a copy of that which was made there.
async fn delete_copy(mount: &LiveMount, key: &Key, version: &str) -> Result<()> {
    let store = mount.store().await?;
    let there = mount.ask("find", key, store.head(key)).await?;
    let is_left = |meta: &ObjectMeta| meta.version == version || meta.content == Some(mark(key, version));
    if let Some(meta) = there.filter(is_left) {
        delete_version(mount, key, &meta.version).await?;
    }
    Ok(())
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
