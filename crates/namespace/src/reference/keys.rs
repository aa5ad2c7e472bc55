//! Where the model's under stores have things, and what is on its way there.

use headpond_types::Name;

use super::model::{Kind, Model};
use crate::{Observed, ObservedKind, Relocation};

impl Model {
    /// The node and those above it, up to and without the root of its mount.
    pub(super) fn within_mount(&self, id: u64) -> Vec<u64> {
        let is_root = |id: &u64| *id == 1 || self.mounts.values().any(|(root, _)| root == id);
        self.upwards(id).into_iter().take_while(|id| !is_root(id)).collect()
    }

    /// Where what lies right below a directory is, or would be without any explicit prefix.
    fn prefix(&self, dir: u64, by_path: bool) -> Vec<u8> {
        match self.within_mount(dir).first() {
            None => Vec::new(),
            Some(_) => match &self.nodes[&dir].key {
                Some(key) if !by_path => key.clone(),
                _ => self.below(dir, by_path),
            },
        }
    }

    fn below(&self, id: u64, by_path: bool) -> Vec<u8> {
        let node = &self.nodes[&id];
        let end: &[u8] = if self.is_directory(id) { b"/" } else { b"" };
        [&self.prefix(node.parent, by_path), node.name.as_ref().expect("has a name").as_bytes(), end].concat()
    }

    pub(super) fn implied_key(&self, id: u64) -> Vec<u8> {
        self.below(id, false)
    }

    pub(super) fn path_key(&self, id: u64) -> Vec<u8> {
        self.below(id, true)
    }

    pub(super) fn key(&self, id: u64) -> Vec<u8> {
        let begun = self.nodes[&id].dirty.as_ref().and_then(|dirty| dirty.key.clone());
        if self.is_versionless(id)
            && let Some(key) = begun
        {
            return key;
        }
        self.nodes[&id].key.clone().unwrap_or_else(|| self.implied_key(id))
    }

    /// As a snapshot says it.
    pub(super) fn location_key(&self, id: u64) -> Vec<u8> {
        if self.within_mount(id).is_empty() {
            Vec::new()
        } else if !self.is_directory(id) && !self.has_object(id) {
            self.path_key(id)
        } else {
            let mut key = self.key(id);
            if self.is_directory(id) {
                key.pop();
            }
            key
        }
    }

    /// Where the path says, of a directory without the last `/`.
    pub(super) fn path_place(&self, id: u64) -> Vec<u8> {
        let mut key = self.path_key(id);
        if self.is_directory(id) {
            key.pop();
        }
        key
    }

    pub(super) fn is_versionless(&self, id: u64) -> bool {
        matches!(&self.nodes[&id].kind, Kind::File(ObservedKind::File { version, .. }) if version.is_empty())
    }

    pub(super) fn is_unpersisted(&self, id: u64) -> bool {
        self.is_versionless(id) && self.nodes[&id].dirty.is_none()
    }

    /// Whether it is, or may hold, what the under store has.
    pub(super) fn has_object(&self, id: u64) -> bool {
        let dirty = self.nodes[&id].dirty.as_ref();
        let is_begun = dirty.is_some_and(|dirty| dirty.key.is_some());
        match &self.nodes[&id].kind {
            Kind::File(_) => !self.is_versionless(id) || is_begun,
            Kind::Directory { .. } => is_begun || dirty.is_none_or(|dirty| !dirty.marker || dirty.below),
            Kind::Unstored { .. } => false,
        }
    }

    pub(super) fn is_unstored(&self, id: u64) -> bool {
        matches!(self.nodes[&id].kind, Kind::Unstored { .. })
    }

    /// Whether something that no under store can hold, or has not as it is, lies below.
    pub(super) fn holds_unstored(&self, id: u64) -> bool {
        let is_held = |node: &u64| self.is_unstored(*node) || self.nodes[node].dirty.is_some();
        let mut held = self.nodes.keys().filter(|node| **node != id && is_held(node));
        self.is_directory(id) && held.any(|node| self.within_mount(*node).contains(&id))
    }

    pub(super) fn is_masked(&self, dir: u64, name: &Name) -> bool {
        if self.mount_of(dir).is_none() {
            return false;
        }
        let within = self.within_mount(dir);
        let explicit = within.iter().find_map(|id| self.nodes[id].key.as_ref()).map_or(0, Vec::len);
        let key = [&self.prefix(dir, false), name.as_bytes()].concat();
        let is_foreign = |relocation: &Relocation, place: &[u8]| {
            let is_around = within.contains(&relocation.inode.0);
            !is_around && place.len() > explicit && place.ends_with(b"/") && key.starts_with(place)
        };
        self.lies_on_others(dir, &key, is_foreign)
    }

    /// Whether a new directory gets a prefix of its own.
    pub(super) fn is_contested(&self, dir: u64, name: &Name) -> bool {
        let key = [&self.prefix(dir, true), name.as_bytes()].concat();
        let within = self.within_mount(dir);
        let is_foreign = |relocation: &Relocation, place: &[u8]| {
            // Under this relocation it would be there itself.
            let is_home = within.iter().position(|id| *id == relocation.inode.0).is_some_and(|at| {
                let way = within[..at].iter().rev().map(|id| self.nodes[id].name.as_ref().expect("has a name"));
                let mut home = place.to_vec();
                way.for_each(|name| home.extend([name.as_bytes(), b"/"].concat()));
                [&home, name.as_bytes()].concat() == key
            });
            !is_home && place.ends_with(b"/") && key.starts_with(place)
        };
        self.lies_on_others(dir, &key, is_foreign) || self.is_masked(dir, name)
    }

    /// Whether `key` in `dir` leads to or is a place of a relocation, or one is around it that `is_foreign`.
    fn lies_on_others(&self, dir: u64, key: &[u8], is_foreign: impl Fn(&Relocation, &[u8]) -> bool) -> bool {
        let mount = self.mount_of(dir);
        let of_mount = self.relocations.values().filter(|relocation| Some(relocation.mount.0) == mount);
        of_mount.into_iter().any(|relocation| {
            relocation.places().any(|place| {
                let leads_to = place == key || place.starts_with(&[key, b"/"].concat());
                leads_to || is_foreign(relocation, place)
            })
        })
    }

    /// Whether what the under store shows there is nobody's and to be deleted.
    pub(super) fn is_nobodys(&self, dir: u64, observed: &Observed) -> bool {
        let mount = self.mount_of(dir).expect("is there");
        let place = [&self.prefix(dir, false)[..], observed.name.as_bytes()].concat();
        let left = self.left.keys().filter(|(of, _)| *of == mount).map(|(_, key)| key);
        let mut nobodys = self.orphans.keys().filter(|(of, _)| of.0 == mount).map(|(_, key)| key).chain(left);
        if observed.object != ObservedKind::Directory {
            return nobodys.any(|key| *key == place);
        }
        let is_known = self.child(dir, &observed.name).is_some_and(|id| self.is_directory(id));
        !is_known && nobodys.any(|key| key.starts_with(&[&place[..], b"/"].concat()))
    }

    /// Whether something that is nobody's, or is to be moved, may be where a directory is, or one above it.
    pub(super) fn is_covered(&self, dir: u64) -> bool {
        let mount = self.mount_of(dir).expect("is there");
        let left = self.left.keys().filter(|(of, _)| *of == mount).map(|(_, key)| &key[..]);
        let orphans = self.orphans.keys().filter(|(of, _)| of.0 == mount).map(|(_, key)| &key[..]);
        let moved = self.relocations.values().filter(|relocation| relocation.mount.0 == mount);
        let mut keys = left.chain(orphans).chain(moved.flat_map(Relocation::places));
        let prefix = self.prefix(dir, false);
        keys.any(|key| !key.ends_with(b"/") && prefix.starts_with(&[key, b"/"].concat()))
    }

    pub(super) fn relocation_at(&self, id: u64) -> Option<u64> {
        self.relocations.values().find(|relocation| relocation.inode.0 == id).map(|relocation| relocation.id)
    }

    pub(super) fn relocation_of(&self, id: u64) -> Option<u64> {
        self.nodes.get(&id)?;
        self.within_mount(id).into_iter().find_map(|id| self.relocation_at(id))
    }

    /// Whether something that is being relocated is `id` or lies below.
    pub(super) fn relocates_within(&self, id: u64) -> bool {
        let inodes = self.relocations.values().map(|relocation| relocation.inode.0);
        inodes.filter(|inode| self.nodes.contains_key(inode)).any(|inode| self.within_mount(inode).contains(&id))
    }

    /// Whether sync has no say about it: there is something that the under store does not show as it is.
    pub(super) fn is_unsettled(&self, id: u64) -> bool {
        if self.nodes[&id].dirty.is_some() {
            return true;
        }
        if !self.is_directory(id) {
            return !self.has_object(id) || self.relocation_at(id).is_some() || self.key(id) != self.implied_key(id);
        }
        let mut files = self.nodes.keys().filter(|file| self.is_unpersisted(**file));
        self.relocates_within(id) || self.holds_unstored(id) || files.any(|file| self.within_mount(*file).contains(&id))
    }
}
