//! Comparing a snapshot of the namespace with the model.

use headpond_types::{Attr, InodeId, MountId, Name};

use super::model::{Kind, Model};
use crate::{Listed, Location, ObservedKind, Snapshot, Unstored};

impl Model {
    /// Whether a snapshot shows exactly this.
    pub(super) fn check(&self, snapshot: &Snapshot) {
        for id in 1..self.next {
            let inode = InodeId(id);
            let attr = snapshot.attr(inode).expect("reads");
            let Some(node) = self.nodes.get(&id) else {
                assert_eq!(attr, None, "{id} is gone");
                assert_eq!(snapshot.path(inode).expect("reads"), None);
                assert_eq!(snapshot.location(inode).expect("reads"), None);
                assert_eq!(snapshot.list(inode, None, 9).expect("reads"), []);
                assert_eq!(snapshot.relocation_of(inode).expect("reads"), None);
                continue;
            };
            let attr = attr.unwrap_or_else(|| panic!("{id} is missing: {node:?}"));
            let mount = self.mount_of(id).expect("is there");
            assert_eq!((attr.inode, attr.parent, attr.mount), (inode, InodeId(node.parent), MountId(mount)));
            let path = self.path(id);
            assert_eq!(snapshot.path(inode).expect("reads"), Some(path.clone()));
            let location = self.mounts.get(&mount).map(|(_, found)| Location {
                mount: MountId(mount),
                names: path.names()[found.path.names().len()..].to_vec(),
                key: self.location_key(id),
            });
            assert_eq!(snapshot.location(inode).expect("reads"), location);
            assert_eq!(snapshot.relocation_of(inode).expect("reads"), self.relocation_of(id));
            let is_dirty = node.dirty.is_some() && matches!(node.kind, Kind::File(_));
            assert_eq!((snapshot.dirty(inode).expect("reads"), attr.dirty), (node.dirty.clone(), is_dirty));
            let elsewhere =
                self.begun_elsewhere(id).into_iter().map(|id| self.nodes[&id].dirty.clone().expect("is begun"));
            assert_eq!(snapshot.begun_elsewhere(inode).expect("reads"), elsewhere.collect::<Vec<_>>());
            self.check_own(id, &attr);
            self.check_links(snapshot, &attr);
            let listed = snapshot.listed(inode).expect("reads");
            let list = snapshot.list(inode, None, usize::MAX).expect("reads");
            match &node.kind {
                Kind::File(ObservedKind::File { size, mtime, version, content }) => {
                    assert_eq!((attr.size, attr.mtime, &attr.version), (*size, *mtime, version));
                    assert_eq!(attr.content, Some(*content));
                    assert_eq!((listed, list), (None, vec![]));
                }
                Kind::Unstored { what, mtime } => {
                    assert_eq!((attr.kind, attr.size, attr.mtime), (what.kind(), what.size(), *mtime));
                    assert_eq!((attr.content, listed, list), (None, None, vec![]));
                    let target = if let Unstored::Symlink(target) = what { Some(target.clone()) } else { None };
                    assert_eq!(snapshot.link_target(inode).expect("reads"), target);
                }
                Kind::File(ObservedKind::Directory) => panic!("a file is no directory"),
                Kind::Directory { children, listed: known, mtime, .. } => {
                    assert_eq!((attr.mtime, attr.content), (*mtime, None));
                    assert_eq!(snapshot.holds_unstored(inode).expect("reads"), self.holds_unstored(id));
                    let entries = children.len() as u64;
                    assert_eq!(listed, known.map(|(at, skipped)| Listed { at, entries, skipped }));
                    let names: Vec<_> = list.iter().map(|(name, attr)| (name.clone(), attr.inode.0)).collect();
                    assert_eq!(names, children.clone().into_iter().collect::<Vec<_>>());
                    for text in ["a", "b", "c"] {
                        let name = Name::new(text).expect("a name");
                        assert_eq!(snapshot.masks(inode, &name).expect("reads"), self.is_masked(id, &name));
                    }
                    for (name, attr) in list {
                        assert_eq!(snapshot.lookup(inode, &name).expect("reads").as_ref(), Some(&attr));
                        assert_eq!(snapshot.attr(attr.inode).expect("reads"), Some(attr));
                    }
                }
            }
        }
        self.check_removed(snapshot);
        let mounts: Vec<_> = self.mounts.values().map(|(_, mount)| mount.clone()).collect();
        assert_eq!(snapshot.mounts().expect("reads"), mounts);
        let relocations: Vec<_> = self.relocations.values().cloned().collect();
        assert_eq!(snapshot.relocations().expect("reads"), relocations);
        for mount in mounts.iter().map(|mount| mount.id) {
            let of_mount = self.left.iter().filter(|((at, _), _)| *at == mount.0);
            let left: Vec<_> = of_mount.map(|((_, key), version)| (key.clone(), version.clone())).collect();
            assert_eq!(snapshot.left_objects(mount).expect("reads"), left);
        }
        for (request, reply) in &self.answers {
            assert_eq!(snapshot.reply(*request).expect("reads").as_ref(), Some(reply));
        }
        let dirty = self.all_dirty();
        assert_eq!(snapshot.all_dirty((0, InodeId(0)), usize::MAX).expect("reads"), dirty);
        for (at, row) in dirty.iter().enumerate() {
            let next = snapshot.all_dirty((row.number, row.inode), 1).expect("reads");
            assert_eq!(next.first(), dirty.get(at + 1));
            assert!(row.number < snapshot.number());
        }
        for ((mount, key), orphan) in &self.orphans {
            assert_eq!(snapshot.orphan_at(*mount, key).expect("reads").as_ref(), Some(orphan));
        }
        let unpersisted = self.nodes.keys().filter(|id| self.is_unpersisted(**id)).map(|id| InodeId(*id));
        assert_eq!(snapshot.unpersisted().expect("reads"), unpersisted.collect::<Vec<_>>());
    }

    /// What it is a name of, and which names it has.
    fn check_links(&self, snapshot: &Snapshot, attr: &Attr) {
        let id = attr.inode.0;
        let aliases = self.aliases(id);
        let names = if self.is_directory(id) { 2 } else { 1 + aliases.len() };
        assert_eq!(attr.nlink as usize, names, "{id}");
        let aliases: Vec<_> = aliases.into_iter().map(InodeId).collect();
        assert_eq!(snapshot.aliases(attr.inode).expect("reads"), aliases);
        let Some(link) = self.links.get(&id) else {
            return assert_eq!(snapshot.target(attr.inode).expect("reads"), None);
        };
        let target = &self.nodes[&link.target];
        assert_eq!(snapshot.target(attr.inode).expect("reads"), Some(InodeId(link.target)));
        let shown = snapshot.shown(attr.clone()).expect("reads").expect("is there");
        assert_eq!((shown.inode, shown.mount), (InodeId(link.target), attr.mount));
        assert!(!self.links.contains_key(&link.target), "no alias has aliases");
        assert_eq!(self.is_unstored(id), self.is_unstored(link.target));
        let alias = &self.nodes[&id];
        assert!(self.is_unstored(id) || !self.is_versionless(id) || alias.dirty.is_some(), "{id} is to have an object");
        if let (Some(first), Some(lag)) = (&target.dirty, &alias.dirty) {
            assert!(first.number <= lag.number && first.since <= lag.since, "{id} comes after {}", link.target);
        }
    }

    /// Whose it is and when it changed: its own, or what the mount shows.
    fn check_own(&self, id: u64, attr: &Attr) {
        let own = self.nodes[&id].own;
        let shown = self.mounts.get(&attr.mount.0).map(|(_, mount)| mount);
        let mode = match shown {
            Some(mount) if self.is_directory(id) => mount.dir_mode,
            Some(mount) => mount.file_mode,
            None => 0o755,
        };
        let uid = own.uid.unwrap_or(shown.map_or(0, |mount| mount.uid));
        let gid = own.gid.unwrap_or(shown.map_or(0, |mount| mount.gid));
        assert_eq!((attr.mode, attr.uid, attr.gid), (own.mode.unwrap_or(mode), uid, gid));
        let ctime = own.ctime.unwrap_or(attr.mtime);
        let ctime = if own.mtime { ctime } else { ctime.max(attr.mtime) };
        assert_eq!((attr.ctime, attr.atime, attr.own_mtime), (ctime, own.atime, own.mtime));
    }
}
