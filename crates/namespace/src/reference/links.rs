//! What the model does with further names of an inode: each a node of its own, an alias, that says which inode it stands for.

use std::collections::{BTreeMap, BTreeSet};

use headpond_types::{ContentId, InodeId, MountId, Name, Timestamp};

use super::{
    changes::Changed,
    model::{Kind, Model},
};
use crate::{Dirty, Due, Effect, ObservedKind, Refusal, Reply};

/// What an alias stands for, and how its object is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) target: u64,
    pub(super) due: Due,
    pub(super) barrier: bool,
}

/// Numbers of what is dirty, by node.
pub(super) type Numbers = BTreeMap<u64, (u64, u64)>;

impl Model {
    pub(super) fn link(
        &mut self,
        target: u64,
        parent: u64,
        name: &Name,
        (due, barrier): (Due, bool),
        now: Timestamp,
    ) -> Changed {
        let gone = Refusal::Gone(InodeId(target));
        let node = self.nodes.get(&target).filter(|_| !self.links.contains_key(&target)).ok_or(gone.clone())?;
        let (kind, own, at, own_name) = (node.kind.clone(), node.own, node.parent, node.name.clone().ok_or(gone)?);
        let mount = self.mount_of(target).expect("is there");
        if self.is_directory(target) {
            return Err(Refusal::IsDirectory(own_name));
        }
        if self.changeable(parent, name)? != mount {
            return Err(Refusal::CrossMount(own_name, name.clone()));
        }
        let shown = &self.mounts[&mount].1;
        let owner = (own.mode.unwrap_or(shown.file_mode), own.uid.unwrap_or(shown.uid), own.gid.unwrap_or(shown.gid));
        let kind = match kind {
            Kind::File(_) => {
                Kind::File(ObservedKind::File { size: 0, mtime: now, version: String::new(), content: ContentId(0) })
            }
            other => other,
        };
        let Reply::Inode(alias) = self.make(parent, name, kind, owner, now)? else { panic!("it is made") };
        self.links.insert(alias.0, Link { target, due, barrier });
        self.nodes.get_mut(&target).expect("is there").own.ctime = Some(now);
        self.effect(at, &own_name, Some(target));
        if !self.is_unstored(target) {
            let is_new = self.is_unpersisted(target);
            self.lag(alias.0, if is_new { Due::Never } else { due });
            if due == Due::Now {
                self.give_due_name(target, alias.0, barrier);
            }
        }
        Ok(Reply::Inode(InodeId(target)))
    }

    /// The inode that clients know.
    pub(super) fn target(&self, id: u64) -> u64 {
        self.links.get(&id).map_or(id, |link| link.target)
    }

    pub(super) fn aliases(&self, target: u64) -> Vec<u64> {
        self.links.iter().filter(|(_, link)| link.target == target).map(|(alias, _)| *alias).collect()
    }

    /// A file got another content, and its aliases are to have that.
    pub(super) fn aliases_lag(&mut self, target: u64) {
        for alias in self.aliases(target) {
            self.lag(alias, self.links[&alias].due);
        }
    }

    fn lag(&mut self, alias: u64, due: Due) {
        let known = self.nodes.get_mut(&alias).expect("is there").dirty.take();
        let dirty = Dirty { barrier: self.links[&alias].barrier, ..self.fresh(alias, due) };
        self.nodes.get_mut(&alias).expect("is there").dirty = Some(superseding(known, dirty));
    }

    /// A file that is not due, and of which the under store has nothing, is put under the name that is due.
    fn give_due_name(&mut self, target: u64, alias: u64, barrier: bool) {
        let (Some(dirty), Some(lag)) = (self.nodes[&target].dirty.clone(), self.nodes[&alias].dirty.clone()) else {
            return;
        };
        if dirty.due == Due::Now || self.has_object(target) || lag.key.is_some() {
            return;
        }
        self.trade_names(target, alias);
        let number = self.next;
        self.next += 1;
        self.links.insert(alias, Link { target, due: dirty.due, barrier: false });
        let behind = Dirty { due: dirty.due, barrier: false, ..lag };
        let first = Dirty { number, since: number, due: Due::Now, barrier, ..dirty };
        self.nodes.get_mut(&target).expect("is there").dirty = Some(first);
        self.nodes.get_mut(&alias).expect("is there").dirty = Some(behind);
    }

    /// The nodes of two files are each where the other was.
    fn trade_names(&mut self, one: u64, other: u64) {
        let place = |node: &super::model::Node| (node.parent, node.name.clone(), node.key.clone());
        let places = (place(&self.nodes[&one]), place(&self.nodes[&other]));
        for (id, (parent, name, key)) in [(one, places.1), (other, places.0)] {
            self.children(parent).insert(name.clone().expect("has a name"), id);
            let node = self.nodes.get_mut(&id).expect("is there");
            (node.parent, node.name, node.key) = (parent, name, key);
        }
    }

    fn file(&self, id: u64) -> Option<(&String, ContentId)> {
        match &self.nodes.get(&id)?.kind {
            Kind::File(ObservedKind::File { version, content, .. }) => Some((version, *content)),
            _ => None,
        }
    }

    /// An alias whose object is as good as the inode's own.
    fn twin_of(&self, target: u64) -> Option<u64> {
        let is_settled = |id: u64| {
            let is_stored = self.file(id).is_some_and(|(version, _)| !version.is_empty());
            is_stored && self.nodes[&id].dirty.is_none() && self.relocation_of(id).is_none()
        };
        let content = self.file(target).filter(|_| is_settled(target))?.1;
        let is_twin = |alias: &u64| is_settled(*alias) && self.file(*alias).is_some_and(|(_, copy)| copy == content);
        self.aliases(target).into_iter().find(is_twin)
    }

    /// An inode takes the place and the object of its twin, which takes its.
    fn trade_places(&mut self, target: u64, twin: u64) {
        self.trade_names(target, twin);
        let (version, copy) = (self.version(target), self.version(twin));
        self.set_version(target, copy);
        self.set_version(twin, version);
        let node = self.nodes.get_mut(&target).expect("is there");
        node.own.mtime = true;
        let (parent, name) = (node.parent, node.name.clone().expect("has a name"));
        self.effect(parent, &name, Some(target));
    }

    fn version(&self, id: u64) -> String {
        self.file(id).map(|(version, _)| version.clone()).expect("is a file")
    }

    fn set_version(&mut self, id: u64, to: String) {
        match &mut self.nodes.get_mut(&id).expect("is there").kind {
            Kind::File(ObservedKind::File { version, .. }) => *version = to,
            _ => panic!("{id} is no file"),
        }
    }

    /// The first name of an inode that has others goes.
    pub(super) fn promote(&mut self, parent: u64, name: &Name, target: u64, now: Timestamp) {
        if let Some(twin) = self.twin_of(target) {
            let (mount, key) = (MountId(self.mount_of(target).expect("is there")), self.key(target));
            let version = self.version(target);
            self.trade_places(target, twin);
            self.orphan_at(mount, key, Some(version), (vec![], vec![]));
            self.take_out(parent, name, twin);
            self.modify(parent, now);
            self.nodes.get_mut(&target).expect("is there").own.ctime = Some(now);
            return;
        }
        let aliases = self.aliases(target);
        let is_bare = |alias: &&u64| self.nodes[*alias].dirty.as_ref().is_none_or(|dirty| dirty.key.is_none());
        let alias = *aliases.iter().find(is_bare).unwrap_or(&aliases[0]);
        let link = self.links[&alias];
        let to = (self.nodes[&alias].parent, self.nodes[&alias].name.clone().expect("has a name"));
        let order = (link.due == Due::Now, link.barrier);
        self.do_rename((parent, name), target, (to.0, &to.1), Some(alias), (order, (false, &[], None)), now);
        if link.due == Due::Now {
            self.make_due(target, link.barrier, None);
        }
    }

    /// What a rename says of when it is due holds for the objects of an alias, too.
    pub(super) fn reorder_link(&mut self, moved: u64, (released, barrier): (bool, bool)) {
        let Some(link) = self.links.get_mut(&moved) else { return };
        if released && link.due == Due::WhenRenamed {
            link.due = Due::Now;
        }
        link.barrier |= barrier;
        let link = *link;
        if link.due == Due::Now && !self.is_unstored(moved) {
            self.give_due_name(link.target, moved, link.barrier);
        }
    }

    /// The under store lost the object of a file: which node goes with it.
    pub(super) fn outlive(&mut self, id: u64) -> u64 {
        let Some(twin) = self.twin_of(id) else { return id };
        self.trade_places(id, twin);
        twin
    }

    /// A file is gone, and with it an alias, or what its aliases stood for.
    pub(super) fn forget_links(&mut self, id: u64) {
        if let Some(link) = self.links.remove(&id) {
            self.unlinked.insert(id, link.target);
        }
        self.free_all(id);
    }

    /// A directory goes with all below: what has names elsewhere stays there.
    pub(super) fn cut_links(&mut self, dir: u64) {
        let is_within = |model: &Self, id: u64| model.within_mount(id).contains(&dir);
        let targets: BTreeSet<u64> = self.links.values().map(|link| link.target).collect();
        for target in targets {
            let goes = is_within(self, target);
            let (inside, outside): (Vec<_>, Vec<_>) =
                self.aliases(target).into_iter().partition(|alias| is_within(self, *alias));
            if goes && outside.is_empty() {
                continue;
            }
            self.links.retain(|alias, _| !inside.contains(alias));
            match self.twin_of(target) {
                _ if !goes => {}
                Some(twin) => {
                    self.trade_places(target, twin);
                    self.links.remove(&twin);
                }
                None => self.free_all(target),
            }
        }
    }

    fn free_all(&mut self, target: u64) {
        for alias in self.aliases(target) {
            self.links.remove(&alias);
            self.set_free(alias, target);
        }
    }

    /// What was an alias is a file of its own, if there is an object of it.
    fn set_free(&mut self, alias: u64, target: u64) {
        let (parent, name) = (self.nodes[&alias].parent, self.nodes[&alias].name.clone().expect("has a name"));
        if self.is_unstored(alias) {
            return;
        }
        if self.is_versionless(alias) {
            self.take_out(parent, &name, alias);
            self.unlist(parent);
        } else if let Some(dirty) = self.nodes.get_mut(&alias).expect("is there").dirty.take() {
            self.orphan(dirty);
        }
        self.effect(parent, &name, Some(target));
    }

    /// The numbers of what is dirty and has, or is, an alias.
    pub(super) fn numbers(&self) -> Numbers {
        let numbered = |(id, node): (&u64, &super::model::Node)| {
            let dirty = node.dirty.as_ref()?;
            Some((*id, (dirty.number, dirty.since)))
        };
        self.nodes.iter().filter_map(numbered).collect()
    }

    /// Ends a command: aliases come after what they stand for, and clients are told of what they know, under all its names.
    pub(super) fn settle_links(&mut self, before: &Numbers, effects: &mut Vec<Effect>) {
        let now = self.numbers();
        let mut changed: Vec<_> = now.iter().filter(|(id, numbers)| before.get(id) != Some(numbers)).collect();
        changed.sort_by_key(|(_, (number, _))| *number);
        for (id, _) in changed {
            self.put_behind(self.target(*id));
        }
        let unlinked = std::mem::take(&mut self.unlinked);
        let mut told = vec![];
        for effect in effects.iter_mut() {
            let Effect::Entry { old: Some(old), .. } = effect else { continue };
            *old = InodeId(unlinked.get(&old.0).copied().unwrap_or_else(|| self.target(old.0)));
            if !told.contains(&old.0) {
                told.push(old.0);
            }
        }
        for id in told {
            let aliases = self.aliases(id);
            for name in aliases.iter().chain([&id]).filter(|_| !aliases.is_empty()) {
                let Some(node) = self.nodes.get(name) else { continue };
                let (parent, name) = (InodeId(node.parent), node.name.clone().expect("has a name"));
                let is_told = effects.iter().any(
                    |effect| matches!(effect, Effect::Entry { parent: dir, name: of, .. } if (*dir, of) == (parent, &name)),
                );
                if !is_told {
                    effects.push(Effect::Entry { parent, name, old: Some(InodeId(id)) });
                }
            }
        }
    }

    fn put_behind(&mut self, target: u64) {
        let Some(first) = self.nodes[&target].dirty.clone() else { return };
        for alias in self.aliases(target) {
            let next = self.next;
            let Some(lag) = self.dirty(alias) else { continue };
            let is_before = lag.number < first.number;
            lag.since = lag.since.max(first.since);
            if is_before {
                lag.number = next;
                self.next += 1;
            }
        }
    }
}

/// The row of a file that was `known` as dirty and is dirty anew.
pub(super) fn superseding(known: Option<Dirty>, mut dirty: Dirty) -> Dirty {
    let Some(known) = known else { return dirty };
    dirty.then = known.then.or(known.key.as_ref().map(|_| dirty.number));
    (dirty.key, dirty.put, dirty.replaces) = (known.key, known.put, known.replaces);
    let are_due = (known.due, dirty.due) == (Due::Now, Due::Now);
    dirty.since = if are_due { known.since } else { dirty.number };
    dirty
}
