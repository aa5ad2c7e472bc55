//! What the model does with relocations: what follows a rename, and where things are meanwhile.

use headpond_types::{InodeId, MountId};

use super::model::{Kind, Model};
use crate::{Due, MovedFile, ObservedKind, Relocation};

impl Model {
    pub(super) fn relocate(&mut self, inode: u64, places: Vec<Vec<u8>>, replaced: Option<(Vec<u8>, String)>) -> u64 {
        let mount = self.mount_of(inode).expect("is there");
        self.relocate_in(mount, inode, places, replaced)
    }

    pub(super) fn relocate_in(
        &mut self,
        mount: u32,
        inode: u64,
        places: Vec<Vec<u8>>,
        replaced: Option<(Vec<u8>, String)>,
    ) -> u64 {
        let id = self.next;
        self.next += 1;
        let mut relocation = Relocation {
            id,
            since: id,
            mount: MountId(mount),
            inode: InodeId(inode),
            from: places[0].clone(),
            also: vec![],
            replaced: Vec::from_iter(replaced),
            barrier: false,
        };
        places.into_iter().for_each(|place| relocation.add_place(place));
        self.relocations.insert(id, relocation);
        id
    }

    pub(super) fn amend(&mut self, inode: u64, change: impl FnOnce(&mut Relocation)) {
        let id = self.relocations.values().find(|relocation| relocation.inode.0 == inode).expect("has one").id;
        let mut relocation = self.relocations.remove(&id).expect("is there");
        relocation.id = self.next;
        self.next += 1;
        change(&mut relocation);
        self.relocations.insert(relocation.id, relocation);
    }

    pub(super) fn moved(&mut self, relocation: u64, moved: &MovedFile) -> bool {
        let id = moved.inode.0;
        if self.relocation_of(id) != Some(relocation)
            || self.is_directory(id)
            || self.is_versionless(id)
            || self.is_unstored(id)
        {
            return false;
        }
        let begun = self.nodes[&id].dirty.clone().filter(|dirty| dirty.key.is_some());
        if begun.as_ref().is_some_and(|dirty| dirty.due == Due::Now) {
            return false;
        }
        let key = self.key(id);
        let node = self.nodes.get_mut(&id).expect("is there");
        let Kind::File(ObservedKind::File { version, .. }) = &mut node.kind else { panic!("it is a file") };
        if *version == moved.version && key == moved.key {
            return true;
        }
        if *version != moved.from {
            return false;
        }
        let left = std::mem::replace(version, moved.version.clone());
        if let Some(begun) = begun {
            let dirty = node.dirty.as_mut().expect("was begun");
            (dirty.key, dirty.put, dirty.replaces) = (None, vec![], None);
            self.orphan(begun);
        }
        let node = self.nodes.get_mut(&id).expect("is there");
        node.own.mtime = true;
        let (parent, name) = (node.parent, node.name.clone().expect("has a name"));
        self.place(id, &moved.key);
        let mount = self.mount_of(id).expect("is there");
        if key != moved.key {
            self.left.insert((mount, key), left);
        }
        self.left.remove(&(mount, moved.key.clone()));
        self.orphans.remove(&(MountId(mount), moved.key.clone()));
        self.effect(parent, &name, None);
        true
    }

    pub(super) fn give_up_relocation(&mut self, id: u64) {
        let Some(relocation) = self.relocations.remove(&id) else { return };
        let inode = relocation.inode.0;
        self.removed.remove(&inode);
        if self.is_directory(inode) {
            self.nodes.get_mut(&inode).expect("is there").key = None;
        } else if self.nodes.get(&inode).is_some_and(|node| node.key.is_some()) {
            let key = self.key(inode);
            self.place(inode, &key);
        }
    }

    pub(super) fn place(&mut self, id: u64, key: &[u8]) {
        let is_said = self.relocation_at(id).is_some();
        let key = Some(key.to_vec()).filter(|key| is_said || *key != self.implied_key(id));
        self.nodes.get_mut(&id).expect("is there").key = key;
    }
}
