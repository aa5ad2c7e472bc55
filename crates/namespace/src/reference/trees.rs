//! What the model does with directories that are removed with all below: the nodes go at once, a relocation stays.

use std::collections::{BTreeMap, BTreeSet};

use headpond_types::{InodeId, Name, Timestamp};

use super::{
    changes::Changed,
    model::{Kind, Model},
};
use crate::{Due, Left, ObservedKind, Refusal, Relocation, Remaining, Reply, Snapshot};

/// What was below a directory that is removed.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Without itself.
    pub(super) directories: BTreeSet<u64>,
    /// With their keys and versions.
    pub(super) files: BTreeMap<u64, (Vec<u8>, String)>,
}

impl Model {
    pub(super) fn remove_tree(
        &mut self,
        (parent, name): (u64, &Name),
        top: u64,
        (leaves, marker): (&[Left], Option<Due>),
        now: Timestamp,
    ) -> Changed {
        self.changeable(parent, name)?;
        if self.child(parent, name) != Some(top) {
            return Err(Refusal::Gone(InodeId(top)));
        }
        if !self.is_directory(top) {
            return Err(Refusal::NoDirectory(name.clone()));
        }
        if self.keeps(top) {
            return Err(Refusal::Fixed(name.clone()));
        }
        let is_bare = !self.has_object(top);
        let is_within = |model: &Self, id: u64| model.within_mount(id).contains(&top);
        let targets: BTreeSet<u64> = self.links.values().map(|link| link.target).collect();
        for target in &targets {
            for alias in self.aliases(*target) {
                if is_within(self, alias) {
                    self.unlink(alias, now);
                }
            }
        }
        for target in targets {
            if !self.aliases(target).is_empty() && is_within(self, target) {
                let node = &self.nodes[&target];
                let (dir, name) = (node.parent, node.name.clone().expect("has a name"));
                self.promote(dir, &name, target, now);
            }
        }
        let is_unsettled = |id: &u64| self.nodes[id].dirty.is_some() || self.is_unpersisted(*id);
        let unsettled: Vec<_> =
            self.nodes.keys().copied().filter(|id| is_unsettled(id) && is_within(self, *id)).collect();
        for id in unsettled {
            if !self.is_directory(id) {
                self.unlink(id, now);
            } else if id != top || !is_bare {
                let dirty = self.nodes.get_mut(&id).expect("is there").dirty.take().expect("is dirty");
                if let Some(key) = dirty.key {
                    self.orphan_at(dirty.mount, [&key[..], b"/"].concat(), None, (vec![], vec![]));
                }
            }
        }
        if is_bare {
            self.take_out(parent, name, top);
        } else {
            self.detach(parent, name, top);
        }
        self.modify(parent, now);
        self.leave(parent, leaves, marker);
        Ok(Reply::Done)
    }

    fn detach(&mut self, parent: u64, name: &Name, top: u64) {
        let lifted = self.lift(parent, name, top);
        self.effect(parent, name, Some(top));
        // A parent that is no inode.
        self.next += 1;
        let anew = |relocation: &mut Relocation, place: Vec<u8>| {
            relocation.add_place(place);
            (relocation.since, relocation.barrier) = (relocation.id, false);
        };
        if self.relocation_at(top).is_some() {
            self.amend(top, |relocation| anew(relocation, lifted.old_path));
        } else {
            self.relocate(top, [vec![lifted.key], lifted.around, vec![lifted.old_path]].concat(), None);
        }
        for (inode, path) in lifted.below {
            self.amend(inode, |relocation| anew(relocation, path));
        }
        let mut removed = Removed::default();
        for id in self.nodes.keys().copied().filter(|id| *id != top && self.within_mount(*id).contains(&top)) {
            match &self.nodes[&id].kind {
                Kind::Directory { .. } => {
                    removed.directories.insert(id);
                }
                Kind::File(ObservedKind::File { version, .. }) => {
                    removed.files.insert(id, (self.key(id), version.clone()));
                }
                _ => {}
            }
        }
        self.removed.insert(top, removed);
        self.remove(top);
    }

    fn unlink(&mut self, id: u64, now: Timestamp) {
        let node = &self.nodes[&id];
        let (parent, name) = (node.parent, node.name.clone().expect("has a name"));
        let target = self.target(id);
        self.leave_object(id);
        self.take_out(parent, &name, id);
        self.modify(parent, now);
        if target != id {
            self.nodes.get_mut(&target).expect("is there").own.ctime = Some(now);
        }
    }

    /// Whether a snapshot tells of what is being removed, and of nothing else.
    pub(super) fn check_removed(&self, snapshot: &Snapshot) {
        for (top, removed) in &self.removed {
            let (mut open, mut directories, mut files) = (vec![InodeId(*top)], BTreeSet::new(), BTreeMap::new());
            while let Some(dir) = open.pop() {
                for (name, remain) in snapshot.remains(dir, None, usize::MAX).expect("reads") {
                    assert_eq!(snapshot.remain(dir, &name).expect("reads").as_ref(), Some(&remain));
                    assert!(snapshot.is_being_removed(remain.inode).expect("reads"));
                    match remain.what {
                        Remaining::Directory { .. } => {
                            directories.insert(remain.inode.0);
                            open.push(remain.inode);
                        }
                        Remaining::File { key, version } => {
                            files.insert(remain.inode.0, (key, version));
                        }
                        Remaining::Nothing => {}
                    }
                }
            }
            assert_eq!((&directories, &files), (&removed.directories, &removed.files), "{top}");
            assert!(snapshot.removed_at(InodeId(*top)).expect("reads").is_some());
        }
        for id in self.nodes.keys() {
            assert!(!snapshot.is_being_removed(InodeId(*id)).expect("reads"));
            assert_eq!(snapshot.remains(InodeId(*id), None, 1).expect("reads"), []);
        }
    }

    /// Whether the prefix of a directory that is gone is still needed, since one above is being removed.
    pub(super) fn lies_in_removed(&self, id: u64) -> bool {
        self.removed.values().any(|removed| removed.directories.contains(&id))
    }
}
