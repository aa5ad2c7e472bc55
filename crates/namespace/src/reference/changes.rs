//! What the model does with changes that are made through Headpond.

use std::collections::BTreeMap;

use headpond_types::{ContentId, InodeId, MountId, Name, Timestamp};

use super::model::{Kind, Model, directory};
use crate::{Command, Dirty, Due, Left, MovedFile, ObservedKind, RESERVED, Refusal, Relocation, Reply, displaced_key};

pub(super) type Changed = Result<Reply, Refusal>;

/// Whether what is replaced is left, what is left besides, and when the marker is due.
type After<'a> = (bool, &'a [Left], Option<Due>);

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
                    if *later {
                        model.leave_object(inode.0);
                    }
                    model.take_out(parent.0, name, inode.0);
                    model.modify(parent.0, *now);
                    model.leave(parent.0, leaves, *marker);
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
                let crate::Version { size, mtime, version, content } = version.clone();
                let known = model.nodes.get_mut(&inode.0).expect("is there").dirty.take();
                let order = known.as_ref().map(|dirty| (dirty.since, dirty.barrier));
                if let Some(dirty) = known.filter(|dirty| dirty.key.as_ref() != Some(key)) {
                    model.orphan(dirty);
                }
                let node = model.nodes.get_mut(&inode.0).expect("is there");
                node.kind = Kind::File(ObservedKind::File { size, mtime, version, content });
                node.own = node.own.of_written(mtime);
                model.settle(inode.0, key, order);
                Ok(Reply::Inode(*inode))
            }),
            Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now } => {
                let (order, after) = ((*released, *barrier), (*later, &leaves[..], *marker));
                self.once_checked(*request, |model| model.rename(from, to, *no_replace, (order, after), *now))
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
            Command::SetAttr { request, inode, change, now } => self.once_checked(*request, |model| {
                let node = model.nodes.get_mut(&inode.0).ok_or(Refusal::Gone(*inode))?;
                node.own.mode = change.mode.or(node.own.mode);
                node.own.uid = change.uid.or(node.own.uid);
                node.own.gid = change.gid.or(node.own.gid);
                node.own.ctime = Some(*now);
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
                    model.effect(parent, &name, Some(inode.0));
                }
                Ok(Reply::Done)
            }),
            other => self.persist(other),
        }
    }

    pub(super) fn once_checked(
        &mut self,
        request: headpond_types::RequestId,
        work: impl FnOnce(&mut Self) -> Changed,
    ) -> Reply {
        self.once(request, |model| work(model).unwrap_or_else(Reply::Refused))
    }

    fn changeable(&self, dir: u64, name: &Name) -> Result<u32, Refusal> {
        let mount = self.mount_of(dir).ok_or(Refusal::Gone(InodeId(dir)))?;
        match &self.nodes[&dir].kind {
            Kind::File(_) | Kind::Unstored { .. } => {
                Err(Refusal::NoDirectory(self.nodes[&dir].name.clone().expect("has a name")))
            }
            Kind::Directory { .. } if mount == 0 => Err(Refusal::Fixed(name.clone())),
            Kind::Directory { .. } => Ok(mount),
        }
    }

    fn make(
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

    fn rename(
        &mut self,
        from: &(InodeId, Name),
        to: &(InodeId, Name),
        no_replace: bool,
        (order, (later, leaves, marker)): ((bool, bool), After<'_>),
        now: Timestamp,
    ) -> Changed {
        let ((p, n), (q, m)) = ((from.0.0, &from.1), (to.0.0, &to.1));
        let mounts = (self.changeable(p, n)?, self.changeable(q, m)?);
        let source = self.child(p, n).ok_or_else(|| Refusal::NoEntry(n.clone()))?;
        let target = self.child(q, m);
        if no_replace && target.is_some() {
            return Err(Refusal::Exists(m.clone()));
        }
        if target == Some(source) {
            return Ok(Reply::Renamed(None));
        }
        if self.keeps(source) {
            return Err(Refusal::Fixed(n.clone()));
        }
        if mounts.0 != mounts.1 {
            return Err(Refusal::CrossMount(n.clone(), m.clone()));
        }
        if self.upwards(q).contains(&source) {
            return Err(Refusal::IntoItself(n.clone()));
        }
        if let Some(target) = target {
            if self.keeps(target) {
                return Err(Refusal::Fixed(m.clone()));
            }
            if self.is_directory(target) && !self.is_directory(source) {
                return Err(Refusal::IsDirectory(m.clone()));
            }
            if !self.is_directory(target) && self.is_directory(source) {
                return Err(Refusal::NoDirectory(m.clone()));
            }
            if self.has_children(target) {
                return Err(Refusal::NotEmpty(m.clone()));
            }
        }
        if self.is_reserved(q, m) {
            return Err(Refusal::Reserved(m.clone()));
        }

        let mut is_seen_to = target.is_some_and(|target| self.take_place(source, target, order.0));
        let takes = self.is_directory(source) || self.nodes[&source].dirty.is_some() || self.has_object(source);
        if let Some(target) = target.filter(|_| later && !takes) {
            self.leave_object(target);
            is_seen_to = true;
        }
        let is_unpersisted = !self.has_object(source);
        let (key, old_path) = (self.key(source), self.path_key(source));
        let below = self.relocations.values().map(|relocation| relocation.inode.0).filter(|inode| *inode != source);
        let below = below.filter(|inode| self.nodes.contains_key(inode) && self.within_mount(*inode).contains(&source));
        let around = if self.is_directory(source) { self.places_around(p, n) } else { Vec::new() };
        // In the order of inodes, which is that of the table.
        let below: BTreeMap<u64, Vec<u8>> = below.map(|inode| (inode, self.path_key(inode))).collect();
        self.effect(p, n, Some(source));
        let mut object = None;
        match target {
            Some(target) => {
                if let Kind::File(ObservedKind::File { version, .. }) = &self.nodes[&target].kind
                    && !version.is_empty()
                    && !is_seen_to
                {
                    object = Some((self.key(target), version.clone()));
                }
                self.take_out(q, m, target);
            }
            None => self.effect(q, m, None),
        }
        self.children(p).remove(n);
        self.children(q).insert(m.clone(), source);
        let node = self.nodes.get_mut(&source).expect("is there");
        (node.parent, node.name, node.key, node.own.ctime) = (q, Some(m.clone()), None, Some(now));
        self.modify(p, now);
        self.gain(q, now);
        if self.has_object(source) {
            self.fill(q, false);
            self.place(source, &key);
            if !around.is_empty() || self.relocation_of(q).is_some() {
                self.nodes.get_mut(&source).expect("is there").key = Some(key.clone());
            }
        }
        self.leave(p, leaves, marker);
        self.renumber(source, order);
        let is_apart = self.nodes[&source].key.is_some();
        let barrier = self.is_directory(source) || order.1;
        if self.relocation_at(source).is_some() {
            self.amend(source, |relocation| {
                relocation.add_place(old_path);
                relocation.barrier |= barrier;
            });
        } else if is_apart {
            let places = [vec![key], around, vec![old_path]].concat();
            let id = self.relocate(source, places, None);
            self.relocations.get_mut(&id).expect("is there").barrier = barrier;
        }
        for (inode, path) in below {
            self.amend(inode, |relocation| relocation.add_place(path));
        }
        let new_path = self.path_key(source);
        if let Some(object) = object {
            if self.relocation_at(source).is_some() && object.0 == new_path {
                self.amend(source, |relocation| relocation.replaced.push(object));
            } else if !(is_unpersisted && object.0 == new_path) {
                let target = target.expect("had it");
                if self.relocations.values().any(|relocation| relocation.inode.0 == target) {
                    self.amend(target, |relocation| {
                        relocation.add_place(object.0.clone());
                        relocation.replaced.push(object);
                    });
                } else {
                    let mount = self.mount_of(q).expect("is there");
                    self.relocate_in(mount, target, vec![object.0.clone()], Some(object));
                }
            }
        }
        Ok(Reply::Renamed(self.relocation_at(source)))
    }

    /// Where relocations of what it lies in may have put what is below a directory.
    fn places_around(&self, parent: u64, name: &Name) -> Vec<Vec<u8>> {
        let (mut around, mut tail) = (Vec::new(), [name.as_bytes(), b"/"].concat());
        for above in self.within_mount(parent) {
            let relocation = self.relocation_at(above).map(|id| &self.relocations[&id]);
            around.extend(relocation.into_iter().flat_map(Relocation::places).map(|place| [place, &tail].concat()));
            tail = [self.nodes[&above].name.as_ref().expect("has a name").as_bytes(), b"/", &tail].concat();
        }
        around
    }

    fn is_reserved(&self, dir: u64, name: &Name) -> bool {
        name.as_bytes() == RESERVED && self.mounts.values().any(|(root, _)| *root == dir)
    }

    pub(super) fn relocate(&mut self, inode: u64, places: Vec<Vec<u8>>, replaced: Option<(Vec<u8>, String)>) -> u64 {
        let mount = self.mount_of(inode).expect("is there");
        self.relocate_in(mount, inode, places, replaced)
    }

    fn relocate_in(
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

    fn moved(&mut self, relocation: u64, moved: &MovedFile) -> bool {
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
        self.effect(parent, &name, None);
        true
    }

    pub(super) fn give_up_relocation(&mut self, id: u64) {
        let Some(relocation) = self.relocations.remove(&id) else { return };
        let inode = relocation.inode.0;
        if self.is_directory(inode) {
            self.nodes.get_mut(&inode).expect("is there").key = None;
        } else if self.nodes.get(&inode).is_some_and(|node| node.key.is_some()) {
            let key = self.key(inode);
            self.place(inode, &key);
        }
    }

    /// Removes a file or an empty directory, and leaves what may be in the under store of a dirty file to be deleted.
    fn take_out(&mut self, parent: u64, name: &Name, id: u64) {
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

    fn leave_behind(&mut self, parent: u64, name: &Name, id: u64) {
        if self.relocation_at(id).is_some() {
            let path = self.path_key(id);
            self.amend(id, |relocation| relocation.add_place(path));
        } else if self.is_directory(id) && self.relocation_of(id).is_some() && self.has_object(id) {
            let places = [vec![self.key(id)], self.places_around(parent, name), vec![self.path_key(id)]].concat();
            self.relocate(id, places, None);
        }
    }

    pub(super) fn place(&mut self, id: u64, key: &[u8]) {
        let is_said = self.relocation_at(id).is_some();
        let key = Some(key.to_vec()).filter(|key| is_said || *key != self.implied_key(id));
        self.nodes.get_mut(&id).expect("is there").key = key;
    }

    pub(super) fn has_children(&self, id: u64) -> bool {
        matches!(&self.nodes[&id].kind, Kind::Directory { children, .. } if !children.is_empty())
    }

    /// An entry went.
    fn modify(&mut self, dir: u64, now: Timestamp) {
        let node = self.nodes.get_mut(&dir).expect("is there");
        node.own.mtime = false;
        let Kind::Directory { mtime, .. } = &mut node.kind else { panic!("{dir} is a file") };
        *mtime = now;
    }

    /// An entry came.
    fn gain(&mut self, dir: u64, now: Timestamp) {
        self.modify(dir, now);
        self.set_made(dir, false);
    }
}
