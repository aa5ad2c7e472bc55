//! Which file has the object at a key: before anything is overwritten or deleted there.
//!
//! The namespace finds a key by inode, not the other way round. But a key is always one of few: where the path says, below a place of the
//! relocation that the file belongs to, or where displaced objects are.

use std::collections::BTreeSet;

use headpond_namespace::{Relocation, Snapshot, displaced_inode};
use headpond_types::{Attr, FileKind, InodeId, MountId, Name, Result, Timestamp};

use crate::{
    mount::path_key,
    sync::{Freshness, is_unpersisted},
    write::Place,
};

/// The owners of keys of one mount, as of one snapshot.
#[derive(Debug)]
pub(super) struct Owners {
    snapshot: Snapshot,
    mount: MountId,
    root: InodeId,
    relocations: Vec<Relocation>,
}

/// Where objects may have been seen.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) names: Vec<(InodeId, Name)>,
    /// Anything below them.
    pub(super) directories: Vec<InodeId>,
}

impl Shown {
    /// What listings saw of it that began before `at` counts no more.
    pub(super) fn moved(&self, freshness: &Freshness, at: Timestamp) {
        for (dir, name) in &self.names {
            freshness.entry_changed(*dir, name, at);
        }
        for dir in &self.directories {
            freshness.moved(*dir, at);
        }
    }
}

impl Owners {
    pub(super) fn new(snapshot: Snapshot, mount: MountId, root: InodeId) -> Result<Self> {
        let mut relocations = snapshot.relocations()?;
        relocations.retain(|relocation| relocation.mount == mount);
        Ok(Self { snapshot, mount, root, relocations })
    }

    pub(super) fn relocations(&self) -> &[Relocation] {
        &self.relocations
    }

    /// The file whose object is at `key`, or may be, since it was begun to be put there.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn file_at(&self, key: &[u8]) -> Result<Option<InodeId>> {
        for (base, rest) in self.bases(key) {
            let Some(attr) = self.resolve(base, rest)? else { continue };
            if attr.kind == FileKind::File
                && (!is_unpersisted(&attr) || self.is_begun(attr.inode)?)
                && self.snapshot.location(attr.inode)?.is_some_and(|location| location.key == key)
            {
                return Ok(Some(attr.inode));
            }
        }
        Ok(None)
    }

    fn is_begun(&self, file: InodeId) -> Result<bool> {
        Ok(self.snapshot.dirty(file)?.is_some_and(|dirty| dirty.key.is_some()))
    }

    /// The directory other than `except` whose prefix is `key`, which ends in `/`, or is to be. One of which the store has nothing yet does not count:
    /// what is there is not its own, and nobody would know of it any more if it was left to it and that went on to another place.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn directory_at(&self, key: &[u8], except: InodeId) -> Result<Option<InodeId>> {
        let bare = key.strip_suffix(b"/").unwrap_or(key);
        for (base, rest) in self.bases(bare) {
            let Some(attr) = self.resolve(base, rest)?.filter(|attr| attr.inode != except) else { continue };
            let Some(location) = self.snapshot.location(attr.inode)? else { continue };
            if attr.kind == FileKind::Directory
                && (location.key == bare || path_key(&location.names) == bare)
                && !self.snapshot.dirty(attr.inode)?.is_some_and(|dirty| dirty.is_bare())
            {
                return Ok(Some(attr.inode));
            }
        }
        Ok(None)
    }

    /// The names under which a directory with the prefix `key` is found, or would have to be made.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn names_at(&self, key: &[u8]) -> Result<BTreeSet<Place>> {
        let mut names = BTreeSet::new();
        for (base, rest) in self.bases(key.strip_suffix(b"/").unwrap_or(key)) {
            let Some(attr) = self.snapshot.attr(base)? else { continue };
            let path = self.snapshot.path(base)?;
            let mut last = path.and_then(|path| Some((attr.parent, path.names().last()?.clone())));
            let mut at = base;
            for part in rest.split(|byte| *byte == b'/').filter(|_| !rest.is_empty()) {
                let Ok(name) = Name::new(part) else { break };
                let found = self.snapshot.lookup(at, &name)?;
                last = Some((at, name));
                let Some(found) = found.filter(|attr| attr.mount == self.mount) else { break };
                at = found.inode;
            }
            names.extend(last);
        }
        Ok(names)
    }

    /// The version of an object at `key` that may be overwritten, because its file is gone.
    pub(super) fn replaced_at(&self, key: &[u8]) -> Option<&str> {
        let mut replaced = self.relocations.iter().flat_map(|relocation| &relocation.replaced);
        replaced.find(|(at, _)| at == key).map(|(_, version)| version.as_str())
    }

    /// Whether what is at `key` may be of a directory that is being removed.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn is_removed_at(&self, key: &[u8]) -> Result<bool> {
        for relocation in &self.relocations {
            if relocation.holds(key) && self.snapshot.is_being_removed(relocation.inode)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds to `shown` where the store's `key`, what leads to it and what lies below is shown.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn add_shown(&self, key: &[u8], shown: &mut Shown) -> Result<()> {
        for (base, rest) in self.bases(key) {
            let mut at = Some(base);
            for part in rest.split(|byte| *byte == b'/').filter(|_| !rest.is_empty()) {
                let (Some(dir), Ok(name)) = (at, Name::new(part)) else {
                    at = None;
                    break;
                };
                let found = self.snapshot.lookup(dir, &name)?;
                shown.names.push((dir, name));
                at = found.filter(|attr| attr.kind == FileKind::Directory).map(|attr| attr.inode);
            }
            shown.directories.extend(at);
        }
        Ok(())
    }

    /// Inodes below which `key` may lie, and what of it lies below.
    fn bases<'k>(&self, key: &'k [u8]) -> Vec<(InodeId, &'k [u8])> {
        let mut bases = vec![(self.root, key)];
        bases.extend(displaced_inode(key));
        for relocation in &self.relocations {
            for place in relocation.places() {
                let bare = place.strip_suffix(b"/").unwrap_or(place);
                match key.strip_prefix(bare) {
                    Some([]) => bases.push((relocation.inode, &[])),
                    Some([b'/', rest @ ..]) => bases.push((relocation.inode, rest)),
                    _ => {}
                }
            }
        }
        bases
    }

    fn resolve(&self, base: InodeId, rest: &[u8]) -> Result<Option<Attr>> {
        let Some(mut at) = self.snapshot.attr(base)? else { return Ok(None) };
        for part in rest.split(|byte| *byte == b'/').filter(|_| !rest.is_empty()) {
            let Ok(name) = Name::new(part) else { return Ok(None) };
            match self.snapshot.lookup(at.inode, &name)? {
                Some(attr) if attr.mount == self.mount => at = attr,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}
