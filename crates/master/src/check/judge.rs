//! What is to be thought of one key: what the namespace says of its path, beside what the store has under it.

use std::{collections::HashSet, sync::Arc};

use headpond_namespace::{Dirty, Relocation, Snapshot, displaced_inode};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, Result};
use headpond_ufs::ObjectMeta;

use super::{Finding, Kind};
use crate::{core::Core, mount::LiveMount, sync::is_unpersisted};

/// How a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Store and namespace are one.
    Same,
    /// Somebody writes it, or changes its name, right now.
    Writing,
    /// It is to be persisted, or deleted.
    Pending,
    /// Its object follows a rename.
    Moving,
    /// Nobody listed its directory yet.
    Unlisted,
    /// No path shows it.
    Hidden,
    /// They differ, and nothing explains it.
    Fault(Finding),
}

/// The namespace at one moment, and what explains that a store differs from it.
pub(super) struct Sight<'c> {
    core: &'c Core,
    mount: &'c Arc<LiveMount>,
    snapshot: Snapshot,
    /// Keys and prefixes that objects are moved away from.
    moved_from: HashSet<Vec<u8>>,
}

/// What a path leads to.
enum Found {
    It(Attr),
    /// The directory that lacks `name`, which the path needs.
    Missing(InodeId, Name),
    /// Something on the way that is no directory of this mount, or the key is no path.
    NoWay,
}

impl<'c> Sight<'c> {
    /// The namespace now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn now(core: &'c Core, mount: &'c Arc<LiveMount>) -> Result<Self> {
        let snapshot = core.catalog.snapshot()?;
        let moves = snapshot.relocations()?.into_iter().filter(|moved| moved.mount == mount.mount.id);
        let places = |moved: Relocation| moved.places().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let moved_from = moves.flat_map(places).collect();
        Ok(Self { core, mount, snapshot, moved_from })
    }

    /// Judges `key`, relative to the mount's prefix and with `/` at the end for a directory, beside what the store has under it: for a directory
    /// any object that begins with it.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn judge(&self, key: &[u8], object: Option<&ObjectMeta>) -> Result<Verdict> {
        match (self.find(key)?, object) {
            (Found::It(attr), object) => match attr.kind {
                FileKind::File if key.ends_with(b"/") => Ok(Verdict::Hidden),
                FileKind::File => self.judge_file(key, &attr, object),
                FileKind::Directory if key.ends_with(b"/") => self.judge_directory(key, &attr, object.is_some()),
                _ => Ok(object.map_or(Verdict::Same, |_| Verdict::Hidden)),
            },
            (Found::NoWay, Some(_)) => Ok(Verdict::Hidden),
            (Found::Missing(dir, name), Some(object)) => self.judge_unknown(key, dir, &name, object),
            (Found::NoWay | Found::Missing(..), None) => Ok(Verdict::Same),
        }
    }

    /// The directory at `key`.
    ///
    /// # Errors
    /// `Stale` when there is none any more.
    pub(super) fn directory(&self, key: &[u8]) -> Result<InodeId> {
        match self.find(key)? {
            Found::It(attr) if attr.kind == FileKind::Directory => Ok(attr.inode),
            _ => {
                let path = String::from_utf8_lossy(&super::path_of(self.mount, key)).into_owned();
                Err(Error::new(ErrorKind::Stale, format!("{path} was renamed or removed: check again")))
            }
        }
    }

    fn find(&self, key: &[u8]) -> Result<Found> {
        let mut dir = self.mount.root;
        let mut parts = key.strip_suffix(b"/").unwrap_or(key).split(|byte| *byte == b'/').peekable();
        if key.is_empty() {
            return Ok(self.snapshot.attr(dir)?.map_or(Found::NoWay, Found::It));
        }
        while let Some(part) = parts.next() {
            let Ok(name) = Name::new(part) else { return Ok(Found::NoWay) };
            let Some(attr) = self.snapshot.lookup(dir, &name)? else { return Ok(Found::Missing(dir, name)) };
            if attr.mount != self.mount.mount.id {
                return Ok(Found::NoWay);
            }
            match (parts.peek(), attr.kind) {
                (None, _) => return Ok(Found::It(attr)),
                (Some(_), FileKind::Directory) => dir = attr.inode,
                (Some(_), _) => return Ok(Found::NoWay),
            }
        }
        Ok(Found::NoWay)
    }

    fn judge_file(&self, key: &[u8], attr: &Attr, object: Option<&ObjectMeta>) -> Result<Verdict> {
        if self.core.writing.leases.is_held(attr.inode) {
            return Ok(Verdict::Writing);
        }
        let dirty = self.snapshot.dirty(attr.inode)?;
        if attr.version.is_empty() && dirty.is_some() || self.is_to_be_deleted(key)? {
            return Ok(Verdict::Pending);
        }
        if is_unpersisted(attr) {
            return Ok(Verdict::Writing);
        }
        let is_there = self.snapshot.location(attr.inode)?.is_some_and(|location| location.key == key);
        if !is_there || self.snapshot.relocation_of(attr.inode)?.is_some() {
            return Ok(if dirty.is_some() { Verdict::Pending } else { Verdict::Moving });
        }
        if let Some(dirty) = dirty {
            return self.judge_older(key, attr, &dirty, object);
        }
        let known = format!("{} ({} bytes)", attr.version, attr.size);
        let (kind, detail) = match object {
            Some(object) if object.version == attr.version && object.size == attr.size => return Ok(Verdict::Same),
            Some(object) => {
                let now = format!("{} ({} bytes)", object.version, object.size);
                (Kind::OtherObject, format!("its object is {now}, and was {known} when it was seen last"))
            }
            None => (Kind::MissingObject, format!("its object, {known}, is not there any more")),
        };
        self.fault(key, kind, detail)
    }

    /// Of a file that is to be persisted again: what the store had of it before, unless a newer content is there already.
    fn judge_older(&self, key: &[u8], attr: &Attr, dirty: &Dirty, object: Option<&ObjectMeta>) -> Result<Verdict> {
        let known = &attr.version;
        // The bytes of a further name are those of another inode.
        let size = self.snapshot.shown(attr.clone())?.map_or(attr.size, |shown| shown.size);
        let (kind, detail) = match object {
            Some(object) if object.version == *known || may_be_put_for(dirty, key, size, object) => {
                return Ok(Verdict::Pending);
            }
            Some(object) => {
                let detail = "and was another before what is to be persisted now was written";
                (
                    Kind::OtherObject,
                    format!("its object is {} ({} bytes), {detail}: {known}", object.version, object.size),
                )
            }
            None => {
                (Kind::MissingObject, format!("its object, {known}, is not there any more, and a newer one not yet"))
            }
        };
        self.fault(key, kind, detail)
    }

    fn judge_directory(&self, key: &[u8], attr: &Attr, has_objects: bool) -> Result<Verdict> {
        if has_objects || self.core.mounts.table().is_fixed(attr.inode) {
            return Ok(Verdict::Same);
        }
        if self.snapshot.dirty(attr.inode)?.is_some() || self.is_to_be_deleted(key)? {
            return Ok(Verdict::Pending);
        }
        if self.snapshot.relocation_of(attr.inode)?.is_some() {
            return Ok(Verdict::Moving);
        }
        // What it holds is told by itself; and what nobody listed need not be empty.
        if !self.snapshot.list(attr.inode, None, 1)?.is_empty() || self.snapshot.holds_unstored(attr.inode)? {
            return Ok(Verdict::Same);
        }
        self.fault(key, Kind::MissingMarker, "it is empty, and nothing in the store says that it exists".to_owned())
    }

    fn judge_unknown(&self, key: &[u8], dir: InodeId, name: &Name, object: &ObjectMeta) -> Result<Verdict> {
        let aside = displaced_inode(key).map(|(inode, _)| self.snapshot.attr(inode)).transpose()?.flatten();
        if aside.is_some() || self.is_moved_from(key) || self.snapshot.masks(dir, name)? {
            return Ok(Verdict::Moving);
        }
        if self.is_to_be_deleted(key)? {
            return Ok(Verdict::Pending);
        }
        if self.core.writing.names.try_lock(dir, name).is_none() {
            return Ok(Verdict::Writing);
        }
        if self.snapshot.listed(dir)?.is_none() {
            return Ok(Verdict::Unlisted);
        }
        let kind = if key.ends_with(b"/") { Kind::LeftMarker } else { Kind::UnknownObject };
        let by = match object.content {
            Some(content) => format!("which Headpond put there as content {content}"),
            None => "which was put there since its directory was listed, or not deleted".to_owned(),
        };
        let detail = format!("no file has the object {} ({} bytes), {by}", object.version, object.size);
        self.fault(key, kind, detail)
    }

    /// Whether the key is one that objects are moved away from, or lies below.
    fn is_moved_from(&self, key: &[u8]) -> bool {
        let prefixes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &key[..=at]);
        !self.moved_from.is_empty() && prefixes.chain([key]).any(|part| self.moved_from.contains(part))
    }

    /// Whether what is there is nobody's any more and known to be.
    fn is_to_be_deleted(&self, key: &[u8]) -> Result<bool> {
        let place = key.strip_suffix(b"/").unwrap_or(key);
        let mount = self.mount.mount.id;
        Ok(self.snapshot.orphan_at(mount, place)?.is_some() || self.snapshot.is_left(mount, key)?)
    }

    fn fault(&self, key: &[u8], kind: Kind, detail: String) -> Result<Verdict> {
        Ok(Verdict::Fault(Finding { kind, path: super::path_of(self.mount, key), detail }))
    }
}

/// Whether an object at `key` is, or may be, one that was put for what is dirty and is not journalled yet. Listings do not say which content an object
/// is, nor does one whose parts were sent ahead.
fn may_be_put_for(dirty: &Dirty, key: &[u8], size: u64, object: &ObjectMeta) -> bool {
    let is_begun = dirty.key.as_deref() == Some(key);
    let is_alike = || object.size == size || dirty.put.len() > 1;
    is_begun && object.content.map_or_else(is_alike, |content| dirty.put.contains(&content))
}
