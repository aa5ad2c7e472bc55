//! What the model does with changes that are made through Headpond.

use headpond_types::{ContentId, InodeId, MountId, Name, Timestamp};

use super::model::{Kind, Model, directory};
use crate::{Command, Dirty, Due, Left, MovedFile, ObservedKind, Refusal, Relocation, Reply};

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
                if let Some(dirty) = known.filter(|dirty| dirty.key.as_ref() != Some(key)) {
                    model.orphan(dirty);
                }
                let node = model.nodes.get_mut(&inode.0).expect("is there");
                node.kind = Kind::File(ObservedKind::File { size, mtime, version, content });
                node.own = crate::own::Own { ctime: None, mtime: true, ..node.own };
                model.settle(inode.0, key);
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
        let reply = self.once(request, |model| work(model).unwrap_or_else(Reply::Refused));
        if matches!(reply, Reply::Refused(Refusal::Relocating(_))) {
            self.answers.remove(&request);
        }
        reply
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
        if self.is_masked(parent, name) && !matches!(kind, Kind::Unstored { .. }) {
            return Err(Refusal::Relocating(name.clone()));
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
        let is_moved_onto = target.is_some_and(|target| self.relocation_at(target).is_some());
        let is_free = self.is_unstored(source) && target.is_none_or(|target| self.is_unstored(target));
        if !is_free && (self.is_masked(q, m) || self.relocation_of(q).is_some() || is_moved_onto) {
            return Err(Refusal::Relocating(m.clone()));
        }
        if !is_free && (self.relocation_of(p).is_some() || self.relocates_within(source)) {
            return Err(Refusal::Relocating(n.clone()));
        }

        if let Some(target) = target {
            self.take_place(source, target, order.0);
            let takes = self.is_directory(source) || self.nodes[&source].dirty.is_some() || self.has_object(source);
            if later && !takes {
                self.leave_object(target);
            }
        }
        let key = self.key(source);
        self.effect(p, n, Some(source));
        let mut replaces = None;
        match target {
            Some(target) => {
                if let Kind::File(ObservedKind::File { version, .. }) = &self.nodes[&target].kind {
                    replaces = Some(version.clone()).filter(|version| !version.is_empty());
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
        let has_object = self.has_object(source);
        if has_object {
            self.fill(q, false);
            self.place(source, &key);
        }
        self.leave(p, leaves, marker);
        self.renumber(source, order);
        if !has_object || key == self.implied_key(source) {
            return Ok(Reply::Renamed(None));
        }
        let barrier = self.is_directory(source) || order.1;
        Ok(Reply::Renamed(Some(self.relocate(source, key, vec![from.clone()], replaces, barrier))))
    }

    pub(super) fn relocate(
        &mut self,
        inode: u64,
        from: Vec<u8>,
        masked: Vec<(InodeId, Name)>,
        replaces: Option<String>,
        barrier: bool,
    ) -> u64 {
        let id = self.next;
        self.next += 1;
        let mount = MountId(self.mount_of(inode).expect("is there"));
        self.relocations.insert(id, Relocation { id, mount, inode: InodeId(inode), from, masked, replaces, barrier });
        id
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
        if self.nodes[&id].dirty.as_ref().is_some_and(|dirty| dirty.key.is_some()) {
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
        version.clone_from(&moved.version);
        node.own.mtime = true;
        let (parent, name) = (node.parent, node.name.clone().expect("has a name"));
        self.place(id, &moved.key);
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
        if !self.is_directory(id)
            && let Some(mut dirty) = self.nodes[&id].dirty.clone()
        {
            if let Kind::File(ObservedKind::File { version, .. }) = &self.nodes[&id].kind {
                dirty.replaces = dirty.replaces.or(Some(version.clone()).filter(|version| !version.is_empty()));
            }
            self.orphan(dirty);
        }
        self.drop(parent, name, id);
    }

    /// Removes a file or an empty directory, and masks its name if that may still show what is on its way.
    pub(super) fn drop(&mut self, parent: u64, name: &Name, id: u64) {
        let place = (InodeId(parent), name.clone());
        for relocation in self.relocations.values_mut() {
            let is_of_it = relocation.inode.0 == id || relocation.masked.iter().any(|(dir, _)| dir.0 == id);
            if is_of_it && !relocation.masked.contains(&place) {
                relocation.masked.push(place.clone());
            }
        }
        self.remove(id);
        self.effect(parent, name, Some(id));
    }

    pub(super) fn place(&mut self, id: u64, key: &[u8]) {
        let key = Some(key.to_vec()).filter(|key| *key != self.implied_key(id));
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
