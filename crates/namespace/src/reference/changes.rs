//! What the model does with changes that are made through Headpond.

use headpond_types::{ContentId, InodeId, MountId, Name, Timestamp};

use super::model::{Kind, Model, directory};
use crate::{Command, Dirty, ObservedKind, RESERVED, Refusal, Reply, displaced_key};

pub(super) type Changed = Result<Reply, Refusal>;

impl Model {
    pub(super) fn change(&mut self, command: &Command) -> Reply {
        match command {
            Command::Create { request, parent, name, owner, now } => self.once_checked(*request, |model| {
                let file = ObservedKind::File { size: 0, mtime: *now, version: String::new(), content: ContentId(0) };
                model.make(parent.0, name, Kind::File(file), (owner.mode, owner.uid, owner.gid), *now)
            }),
            Command::MakeDirectory { request, parent, name, owner, dirty, now } => {
                self.once_checked(*request, |model| {
                    let is_contested = dirty.is_none()
                        && model.changeable(parent.0, name).is_ok()
                        && model.is_contested(parent.0, name);
                    let mut kind = directory(false, *now);
                    if let Kind::Directory { listed, .. } = &mut kind {
                        *listed = Some((*now, 0));
                    }
                    let reply = model.make(parent.0, name, kind, (owner.mode, owner.uid, owner.gid), *now)?;
                    let Reply::Inode(inode) = reply else { panic!("{reply:?}") };
                    match dirty {
                        Some(due) => {
                            let dirty = Dirty { marker: true, ..model.fresh(inode.0, *due) };
                            model.nodes.get_mut(&inode.0).expect("is there").dirty = Some(dirty);
                        }
                        None => {
                            let key = model.object_at(inode.0, &model.path_place(inode.0));
                            let mount = MountId(model.mount_of(inode.0).expect("is there"));
                            model.orphans.remove(&(mount, key));
                            model.fill(parent.0, true);
                        }
                    }
                    if is_contested {
                        let prefix = [displaced_key(inode), b"/".to_vec()].concat();
                        model.nodes.get_mut(&inode.0).expect("is there").key = Some(prefix.clone());
                        model.relocate(inode.0, vec![prefix], None);
                    }
                    Ok(reply)
                })
            }
            Command::MakeUnstored { request, parent, name, owner, what, now } => self.once_checked(*request, |model| {
                let kind = Kind::Unstored { what: what.clone(), mtime: *now };
                model.make(parent.0, name, kind, (owner.mode, owner.uid, owner.gid), *now)
            }),
            Command::Remove { request, parent, name, inode, later, leaves, marker, now } => {
                self.once_checked(*request, |model| {
                    model.changeable(parent.0, name)?;
                    if model.child(parent.0, name) != Some(inode.0) {
                        return Err(Refusal::Gone(*inode));
                    }
                    if model.keeps(inode.0) {
                        return Err(Refusal::Fixed(name.clone()));
                    }
                    if model.has_children(inode.0) {
                        return Err(Refusal::NotEmpty(name.clone()));
                    }
                    let target = model.target(inode.0);
                    if model.aliases(inode.0).is_empty() {
                        if *later {
                            model.leave_object(inode.0);
                        }
                        model.take_out(parent.0, name, inode.0);
                        model.modify(parent.0, *now);
                    } else {
                        model.promote(parent.0, name, inode.0, *now);
                    }
                    model.leave(parent.0, leaves, *marker);
                    if target != inode.0 {
                        model.nodes.get_mut(&target).expect("is there").own.ctime = Some(*now);
                    }
                    Ok(Reply::Done)
                })
            }
            Command::Discard { inode } => {
                if self.nodes.contains_key(&inode.0) && self.is_unpersisted(inode.0) {
                    let node = &self.nodes[&inode.0];
                    let (parent, name) = (node.parent, node.name.clone().expect("has a name"));
                    self.take_out(parent, &name, inode.0);
                }
                Reply::Done
            }
            Command::Commit { request, inode, key, version, .. } => self.once_checked(*request, |model| {
                let Some(node) = model.nodes.get(&inode.0) else { return Err(Refusal::Gone(*inode)) };
                let name = node.name.clone().ok_or(Refusal::Gone(*inode))?;
                if !matches!(node.kind, Kind::File(_)) {
                    return Err(Refusal::IsDirectory(name));
                }
                model.commit(inode.0, key, version);
                Ok(Reply::Inode(*inode))
            }),
            Command::Link { request, inode, parent, name, due, barrier, now } => {
                self.once_checked(*request, |model| model.link(inode.0, parent.0, name, (*due, *barrier), *now))
            }
            Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now } => {
                let (order, after) = ((*released, *barrier), (*later, &leaves[..], *marker));
                self.once_checked(*request, |model| model.rename(from, to, *no_replace, (order, after), *now))
            }
            Command::Exchange { request, one, other, released, barriers, leaves, now } => {
                let orders = ((released.0, barriers.0), (released.1, barriers.1));
                self.once_checked(*request, |model| model.exchange(one, other, orders, leaves, *now))
            }
            Command::RemoveTree { request, parent, name, inode, leaves, marker, now } => self
                .once_checked(*request, |model| model.remove_tree((parent.0, name), inode.0, (leaves, *marker), *now)),
            Command::Reap { tree, files } => {
                if let Some(removed) = self.removed.get_mut(&tree.0) {
                    for (file, version) in files {
                        removed.files.retain(|id, (_, known)| (*id, &*known) != (file.0, version));
                    }
                }
                Reply::Done
            }
            Command::Moved { relocation, files } => {
                let files = files.iter().filter(|file| !self.moved(*relocation, file));
                Reply::Moved(files.map(|file| file.inode).collect())
            }
            Command::EndRelocation { relocation } => {
                self.end_relocation(*relocation);
                Reply::Done
            }
            Command::Leave { mount, objects, gone } => {
                for key in gone {
                    self.left.remove(&(mount.0, key.clone()));
                }
                if self.mounts.contains_key(&mount.0) {
                    let objects = objects.iter().map(|(key, version)| ((mount.0, key.clone()), version.clone()));
                    self.left.extend(objects);
                }
                Reply::Done
            }
            Command::Replace { relocation, key, version } => {
                if let Some(relocation) = self.relocations.get_mut(relocation) {
                    relocation.replaced.retain(|(known, _)| known != key);
                    relocation.replaced.push((key.clone(), version.clone()));
                }
                Reply::Done
            }
            Command::Yield { inode, from, key, version } => {
                self.give_way(inode.0, from, key, version);
                Reply::Done
            }
            Command::SetAttr { request, inode, change, now } => {
                self.once_checked(*request, |model| model.set_attr(inode.0, change, *now))
            }
            Command::SetTimes { request, inode, change, atime, now } => self.once_checked(*request, |model| {
                let reply = model.set_attr(inode.0, change, *now)?;
                model.nodes.get_mut(&inode.0).expect("is there").own.atime = Some(*atime);
                Ok(reply)
            }),
            other => self.persist(other),
        }
    }

    fn set_attr(&mut self, id: u64, change: &crate::AttrChange, now: Timestamp) -> Changed {
        let node = self.nodes.get_mut(&id).ok_or(Refusal::Gone(InodeId(id)))?;
        node.own.mode = change.mode.or(node.own.mode);
        node.own.uid = change.uid.or(node.own.uid);
        node.own.gid = change.gid.or(node.own.gid);
        node.own.ctime = Some(now);
        if let Some(time) = change.mtime {
            node.own.mtime = true;
            let (Kind::File(ObservedKind::File { mtime, .. })
            | Kind::Directory { mtime, .. }
            | Kind::Unstored { mtime, .. }) = &mut node.kind
            else {
                panic!("a file is no directory")
            };
            *mtime = time;
        }
        if let (parent, Some(name)) = (node.parent, node.name.clone()) {
            self.effect(parent, &name, Some(id));
        }
        Ok(Reply::Done)
    }

    fn commit(&mut self, id: u64, key: &[u8], version: &crate::Version) {
        let crate::Version { size, mtime, version, content } = version.clone();
        let known = self.nodes.get_mut(&id).expect("is there").dirty.take();
        let order = known.as_ref().map(|dirty| (dirty.since, dirty.barrier));
        if let Some(dirty) = known.filter(|dirty| dirty.key.as_deref() != Some(key)) {
            self.orphan(dirty);
        }
        let node = self.nodes.get_mut(&id).expect("is there");
        node.kind = Kind::File(ObservedKind::File { size, mtime, version, content });
        node.own = node.own.of_written(mtime);
        self.settle(id, key, order);
        self.aliases_lag(id);
    }

    fn give_way(&mut self, id: u64, from: &str, key: &[u8], version: &crate::Version) {
        let Some(node) = self.nodes.get(&id) else { return };
        let is_that = matches!(&node.kind, Kind::File(ObservedKind::File { version, .. }) if *version == from);
        let (Some(mount), is_dirty) = (self.mount_of(id), node.dirty.is_some()) else { return };
        if !is_that || from.is_empty() || is_dirty || self.key(id) == key || self.path_key(id) != key {
            return;
        }
        let old = self.key(id);
        self.commit(id, key, version);
        self.left.insert((mount, old), from.to_owned());
    }

    pub(super) fn once_checked(
        &mut self,
        request: headpond_types::RequestId,
        work: impl FnOnce(&mut Self) -> Changed,
    ) -> Reply {
        self.once(request, |model| work(model).unwrap_or_else(Reply::Refused))
    }

    pub(super) fn changeable(&self, dir: u64, name: &Name) -> Result<u32, Refusal> {
        let mount = self.mount_of(dir).ok_or(Refusal::Gone(InodeId(dir)))?;
        match &self.nodes[&dir].kind {
            Kind::File(_) | Kind::Unstored { .. } => {
                Err(Refusal::NoDirectory(self.nodes[&dir].name.clone().expect("has a name")))
            }
            Kind::Directory { .. } if mount == 0 => Err(Refusal::Fixed(name.clone())),
            Kind::Directory { .. } => Ok(mount),
        }
    }

    pub(super) fn make(
        &mut self,
        parent: u64,
        name: &Name,
        kind: Kind,
        (mode, uid, gid): (u32, u32, u32),
        now: Timestamp,
    ) -> Changed {
        self.changeable(parent, name)?;
        if self.child(parent, name).is_some() {
            return Err(Refusal::Exists(name.clone()));
        }
        if self.is_reserved(parent, name) {
            return Err(Refusal::Reserved(name.clone()));
        }
        let id = self.insert(parent, name, kind);
        let own = &mut self.nodes.get_mut(&id).expect("is there").own;
        (own.mode, own.uid, own.gid) = (Some(mode), Some(uid), Some(gid));
        self.gain(parent, now);
        self.effect(parent, name, None);
        Ok(Reply::Inode(InodeId(id)))
    }

    pub(super) fn is_reserved(&self, dir: u64, name: &Name) -> bool {
        name.as_bytes() == RESERVED && self.mounts.values().any(|(root, _)| *root == dir)
    }

    /// Removes a file or an empty directory, and leaves what may be in the under store of a dirty file to be deleted.
    pub(super) fn take_out(&mut self, parent: u64, name: &Name, id: u64) {
        self.leave_behind(parent, name, id);
        if !self.is_directory(id)
            && let Some(mut dirty) = self.nodes[&id].dirty.clone()
        {
            if let Kind::File(ObservedKind::File { version, .. }) = &self.nodes[&id].kind {
                dirty.replaces = dirty.replaces.or(Some(version.clone()).filter(|version| !version.is_empty()));
            }
            self.orphan(dirty);
        }
        self.remove(id);
        self.effect(parent, name, Some(id));
    }

    /// Removes a file, and leaves nothing but what is on its way.
    pub(super) fn drop(&mut self, parent: u64, name: &Name, id: u64) {
        self.leave_behind(parent, name, id);
        self.remove(id);
        self.effect(parent, name, Some(id));
    }

    pub(super) fn leave_behind(&mut self, parent: u64, name: &Name, id: u64) {
        if self.relocation_at(id).is_some() {
            let path = self.path_key(id);
            self.amend(id, |relocation| relocation.add_place(path));
        } else if self.is_directory(id) && self.relocation_of(id).is_some() && self.has_object(id) {
            let places = [vec![self.key(id)], self.places_around(parent, name), vec![self.path_key(id)]].concat();
            self.relocate(id, places, None);
        }
    }

    pub(super) fn has_children(&self, id: u64) -> bool {
        matches!(&self.nodes[&id].kind, Kind::Directory { children, .. } if !children.is_empty())
    }

    /// An entry went.
    pub(super) fn modify(&mut self, dir: u64, now: Timestamp) {
        let node = self.nodes.get_mut(&dir).expect("is there");
        node.own.mtime = false;
        let Kind::Directory { mtime, .. } = &mut node.kind else { panic!("{dir} is a file") };
        *mtime = now;
    }

    /// An entry came.
    pub(super) fn gain(&mut self, dir: u64, now: Timestamp) {
        self.modify(dir, now);
        self.set_made(dir, false);
    }
}
