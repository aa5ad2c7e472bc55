//! What the model does with what under stores do not have yet.

use std::collections::BTreeSet;

use headpond_types::{ContentId, InodeId, MountId, WorkerId};

use super::{
    links::superseding,
    model::{Kind, Model},
};
use crate::{
    Command, Dirty, Due, Left, ObservedKind, PersistBegun, Refusal, Reply, Version, displaced_inode, displaced_key,
};

impl Model {
    pub(super) fn persist(&mut self, command: &Command) -> Reply {
        match command {
            Command::CommitDirty { request, inode, size, mtime, content, holders, due, barrier, .. } => self
                .once_checked(*request, |model| {
                    let Some(node) = model.nodes.get_mut(&inode.0) else { return Err(Refusal::Gone(*inode)) };
                    let (parent, name) = (node.parent, node.name.clone().ok_or(Refusal::Gone(*inode))?);
                    let Kind::File(ObservedKind::File { version, .. }) = &node.kind else {
                        return Err(Refusal::IsDirectory(name));
                    };
                    let (size, mtime, version, content) = (*size, *mtime, version.clone(), *content);
                    node.kind = Kind::File(ObservedKind::File { size, mtime, version, content });
                    node.own = node.own.of_written(mtime);
                    let known = node.dirty.take();
                    let dirty = Dirty { holders: holders.clone(), barrier: *barrier, ..model.fresh(inode.0, *due) };
                    let dirty = superseding(known, dirty);
                    model.nodes.get_mut(&inode.0).expect("is there").dirty = Some(dirty);
                    model.effect(parent, &name, Some(inode.0));
                    model.aliases_lag(inode.0);
                    Ok(Reply::Inode(*inode))
                }),
            Command::BeginPersist { files } => {
                files.iter().for_each(|begun| self.begin(begun));
                Reply::Done
            }
            Command::EndPersist { inode, number, key, version } => {
                self.orphans.retain(|_, orphan| (orphan.inode, orphan.number) != (*inode, *number));
                match (self.is_directory(inode.0), version) {
                    (true, None) => self.end_marker(inode.0, key),
                    (false, Some(version)) => self.end(inode.0, *number, key, version),
                    _ => {}
                }
                Reply::Done
            }
            Command::MakeDue { inodes, number } => {
                inodes.iter().for_each(|(inode, barrier)| self.make_due(inode.0, *barrier, *number));
                Reply::Done
            }
            Command::EndTree { inode, number } => {
                if let Some(dirty) = self.dirty(inode.0).filter(|dirty| dirty.number == *number && dirty.tree) {
                    dirty.tree = false;
                    self.tidy(inode.0);
                }
                Reply::Done
            }
            Command::DropDirty { inode, number } => {
                if self.dirty(inode.0).is_some_and(|dirty| dirty.number == *number) {
                    self.drop_dirty(inode.0);
                }
                Reply::Done
            }
            Command::Overwrite { inode, number, version } => {
                if let Some(orphan) =
                    self.orphans.values_mut().find(|orphan| (orphan.inode, orphan.number) == (*inode, *number))
                {
                    orphan.replaces.clone_from(version);
                    return Reply::Done;
                }
                let is_file = !self.is_directory(inode.0);
                if is_file && self.dirty(inode.0).is_some_and(|dirty| dirty.number == *number) {
                    self.overwrite(inode.0, version.as_ref());
                }
                Reply::Done
            }
            other => panic!("{other:?} is not for the model"),
        }
    }

    /// The next row in order.
    pub(super) fn fresh(&mut self, id: u64, due: Due) -> Dirty {
        self.row(MountId(self.mount_of(id).expect("is there")), Some(id), due)
    }

    fn row(&mut self, mount: MountId, inode: Option<u64>, due: Due) -> Dirty {
        let number = self.next;
        self.next += 1;
        Dirty {
            number,
            since: number,
            then: None,
            mount,
            inode: InodeId(inode.unwrap_or(number)),
            due,
            barrier: false,
            holders: vec![],
            key: None,
            put: vec![],
            replaces: None,
            marker: false,
            below: false,
            tree: false,
        }
    }

    pub(super) fn dirty(&mut self, id: u64) -> Option<&mut Dirty> {
        self.nodes.get_mut(&id)?.dirty.as_mut()
    }

    pub(super) fn all_dirty(&self) -> Vec<Dirty> {
        let rows = self.nodes.values().filter_map(|node| node.dirty.clone());
        let mut rows: Vec<_> = rows.chain(self.orphans.values().cloned()).collect();
        rows.sort_by_key(|dirty| (dirty.number, dirty.inode));
        rows
    }

    /// What is to be put elsewhere than where the path says, of a node and all below.
    pub(super) fn begun_elsewhere(&self, id: u64) -> Vec<u64> {
        let begun = |node: &u64| self.nodes[node].dirty.as_ref().and_then(|dirty| dirty.key.as_ref());
        let below = self.nodes.keys().copied().filter(|node| self.within_mount(*node).contains(&id));
        below.filter(|node| begun(node).is_some_and(|key| *key != self.path_place(*node))).collect()
    }

    /// What may be at the key of a row is nobody's.
    pub(super) fn orphan(&mut self, dirty: Dirty) {
        if let Some(key) = dirty.key {
            let holders = if dirty.put.is_empty() { vec![] } else { dirty.holders };
            self.orphan_at(dirty.mount, key, dirty.replaces, (dirty.put, holders));
        }
    }

    pub(super) fn orphan_at(
        &mut self,
        mount: MountId,
        key: Vec<u8>,
        replaces: Option<String>,
        (put, holders): (Vec<ContentId>, Vec<WorkerId>),
    ) {
        let mut orphan = self.row(mount, None, Due::Now);
        let older = self.orphans.remove(&(mount, key.clone()));
        let is_alone = older.is_none();
        let older = older.map(|older| (older.put, older.replaces, older.holders));
        let (older_put, older_replaces, older_holders) = older.unwrap_or_default();
        let all: BTreeSet<_> = holders.iter().chain(&older_holders).copied().collect();
        orphan.holders = if is_alone { holders } else { all.into_iter().collect() };
        orphan.put = last_eight([older_put, put].concat());
        orphan.replaces = replaces.or(older_replaces);
        orphan.key = Some(key.clone());
        self.orphans.insert((mount, key), orphan);
    }

    /// Objects that are nobody's since something in `dir` was removed, which was perhaps the last.
    pub(super) fn leave(&mut self, dir: u64, leaves: &[Left], marker: Option<Due>) {
        let mount = MountId(self.mount_of(dir).expect("is there"));
        for Left { key, version } in leaves {
            self.orphan_at(mount, key.clone(), version.clone(), (vec![], vec![]));
        }
        let Some(due) = marker.filter(|_| !self.has_children(dir) && !self.within_mount(dir).is_empty()) else {
            return;
        };
        if self.dirty(dir).is_none() {
            self.nodes.get_mut(&dir).expect("is there").dirty = Some(self.fresh(dir, due));
        }
        let dirty = self.dirty(dir).expect("is there");
        dirty.below |= !dirty.marker;
        dirty.marker = true;
    }

    /// The object of a node that goes, or the marker, is left.
    pub(super) fn leave_object(&mut self, id: u64) {
        let version = match &self.nodes[&id].kind {
            Kind::File(ObservedKind::File { version, .. }) => Some(version.clone()),
            _ => None,
        };
        if self.has_object(id) && !self.is_versionless(id) {
            let mount = MountId(self.mount_of(id).expect("is there"));
            self.orphan_at(mount, self.key(id), version, (vec![], vec![]));
        }
    }

    /// The key of what is put at `place` for a node.
    pub(super) fn object_at(&self, id: u64, place: &[u8]) -> Vec<u8> {
        [place, if self.is_directory(id) { &b"/"[..] } else { b"" }].concat()
    }

    /// There is, or for sure, something below a directory.
    pub(super) fn fill(&mut self, dir: u64, is_sure: bool) {
        for id in self.within_mount(dir) {
            let Some(dirty) = self.dirty(id).filter(|dirty| dirty.marker) else { continue };
            if is_sure && dirty.key.is_none() {
                (dirty.marker, dirty.below) = (false, false);
                self.tidy(id);
            } else {
                dirty.below = true;
            }
        }
    }

    /// A directory of which nothing is missing any more is clean.
    fn tidy(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("is there");
        node.dirty = node.dirty.take().filter(|dirty| dirty.marker || dirty.tree);
    }

    /// Where it would be put.
    fn destination(&self, id: u64) -> Vec<u8> {
        match self.nodes[&id].dirty.as_ref().and_then(|dirty| dirty.key.clone()) {
            Some(key) => key,
            None => self.location_key(id),
        }
    }

    fn begin(&mut self, begun: &PersistBegun) {
        let (id, is_directory) = (begun.inode.0, self.is_directory(begun.inode.0));
        let Some(dirty) = self.dirty(id) else { return };
        if dirty.number != begun.number || is_directory == begun.content.is_some() || is_directory && !dirty.marker {
            return;
        }
        let (mount, may_wait) = (dirty.mount, dirty.key.is_none());
        let is_aside = may_wait && self.is_versionless(id) && begun.key == displaced_key(begun.inode);
        if begun.key != self.destination(id) && !is_aside {
            return;
        }
        let orphan = self.orphans.remove(&(mount, self.object_at(id, &begun.key)));
        let orphan = orphan.filter(|_| !is_directory);
        let dirty = self.dirty(id).expect("is there");
        if let Some(orphan) = orphan {
            dirty.put = [orphan.put, std::mem::take(&mut dirty.put)].concat();
            dirty.replaces = dirty.replaces.take().or(orphan.replaces);
        }
        if dirty.put.last() != begun.content.as_ref() {
            dirty.put.extend(begun.content);
        }
        dirty.put = last_eight(std::mem::take(&mut dirty.put));
        (dirty.key, dirty.then) = (Some(begun.key.clone()), None);
        self.fill(self.nodes[&id].parent, false);
    }

    fn end_marker(&mut self, id: u64, key: &[u8]) {
        if self.dirty(id).is_none_or(|dirty| !dirty.marker) || key != self.destination(id) {
            return;
        }
        let dirty = self.dirty(id).expect("is there");
        (dirty.marker, dirty.below, dirty.key) = (false, false, None);
        self.tidy(id);
        self.fill(self.nodes[&id].parent, key == self.path_place(id));
    }

    fn end(&mut self, id: u64, number: u64, key: &[u8], version: &Version) {
        let Some(dirty) = self.dirty(id) else { return };
        let is_latest = dirty.number == number;
        let newer = dirty.put.iter().skip_while(|put| **put != version.content).skip(1).copied().collect::<Vec<_>>();
        dirty.key = dirty.key.take().filter(|_| !newer.is_empty());
        (dirty.put, dirty.replaces) = (newer, None);
        let order = (if dirty.barrier { dirty.number } else { dirty.since }, dirty.barrier);
        dirty.since = dirty.then.take().unwrap_or(dirty.number);
        let node = self.nodes.get_mut(&id).expect("is there");
        let Kind::File(ObservedKind::File { size, mtime, version: known, content }) = &mut node.kind else {
            panic!("{id} is dirty but no file");
        };
        known.clone_from(&version.version);
        if is_latest {
            node.dirty = None;
            if *content != version.content {
                (*size, *mtime, *content) = (version.size, version.mtime, version.content);
            }
        }
        self.settle(id, key, Some(order));
    }

    /// The under store has a file at `key`, that had this place in the order.
    pub(super) fn settle(&mut self, id: u64, key: &[u8], order: Option<(u64, bool)>) {
        let mount = MountId(self.mount_of(id).expect("is there"));
        self.orphans.remove(&(mount, key.to_vec()));
        self.left.remove(&(mount.0, key.to_vec()));
        self.place(id, key);
        let (parent, name) = (self.nodes[&id].parent, self.nodes[&id].name.clone().expect("has a name"));
        self.effect(parent, &name, Some(id));
        self.fill(parent, key == self.path_key(id));
        if key == self.path_key(id) {
            return;
        }
        if let Some(at) = self.relocation_at(id) {
            let known = &self.relocations[&at];
            if let Some((since, barrier)) = order
                && displaced_inode(key).is_some()
                && (since < known.since || barrier && !known.barrier)
            {
                self.amend(id, |relocation| {
                    relocation.since = since.min(relocation.since);
                    relocation.barrier = barrier || relocation.barrier;
                });
            }
        } else if self.relocation_of(id).is_none() || key != self.implied_key(id) {
            let at = self.relocate(id, vec![key.to_vec()], None);
            if let Some((since, barrier)) = order {
                let relocation = self.relocations.get_mut(&at).expect("is there");
                (relocation.since, relocation.barrier) = (since, barrier);
            }
        }
    }

    pub(super) fn make_due(&mut self, id: u64, barrier: bool, number: Option<u64>) {
        let next = self.next;
        let Some(dirty) = self.dirty(id).filter(|dirty| dirty.due != Due::Now) else { return };
        (dirty.due, dirty.barrier, dirty.number) = (Due::Now, barrier, number.unwrap_or(next));
        dirty.since = dirty.number;
        self.next += u64::from(number.is_none());
    }

    fn drop_dirty(&mut self, id: u64) {
        if self.is_directory(id) {
            let dirty = self.dirty(id).expect("is there");
            (dirty.marker, dirty.below, dirty.key) = (false, false, None);
            return self.tidy(id);
        }
        let (parent, name) = (self.nodes[&id].parent, self.nodes[&id].name.clone().expect("has a name"));
        self.drop(parent, &name, id);
        self.unlist(parent);
    }

    fn overwrite(&mut self, id: u64, version: Option<&String>) {
        let (path, parent) = (self.path_key(id), self.nodes[&id].parent);
        if self.is_versionless(id) {
            let dirty = self.dirty(id).expect("is there");
            dirty.replaces = version.cloned();
            if version.is_some() && dirty.key.is_none() {
                dirty.key = Some(path);
            }
            return self.fill(parent, false);
        }
        let node = self.nodes.get_mut(&id).expect("is there");
        let name = node.name.clone().expect("has a name");
        let Kind::File(ObservedKind::File { version: known, .. }) = &mut node.kind else { panic!("{id} is no file") };
        *known = version.cloned().unwrap_or_default();
        self.effect(parent, &name, Some(id));
    }

    pub(super) fn end_relocation(&mut self, id: u64) {
        let Some(inode) = self.relocations.get(&id).map(|relocation| relocation.inode.0) else { return };
        if self.lies_in_removed(inode)
            || self.is_directory(inode) && self.relocation_of(self.nodes[&inode].parent).is_some()
        {
            return;
        }
        let begun = self.begun_elsewhere(inode);
        if begun.iter().any(|id| self.nodes[id].dirty.as_ref().is_some_and(|dirty| dirty.due == Due::Now)) {
            return;
        }
        for id in begun {
            let dirty = self.dirty(id).expect("is there");
            let left = dirty.clone();
            (dirty.key, dirty.put, dirty.replaces) = (None, vec![], None);
            self.orphan(left);
        }
        self.give_up_relocation(id);
    }
}

fn last_eight(put: Vec<ContentId>) -> Vec<ContentId> {
    put[put.len().saturating_sub(8)..].to_vec()
}
