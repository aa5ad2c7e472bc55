//! The model: a tree of nodes in memory, changed as plainly as can be.

use std::collections::BTreeMap;

use headpond_types::{InodeId, MountId, Name, NsPath, RequestId, Timestamp};

use super::{links::Link, trees::Removed};
use crate::{Command, Dirty, Effect, Mount, ObservedKind, Outcome, Refusal, Relocation, Reply, Unstored, own::Own};

const ROOT: u64 = 1;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: u64,
    pub(super) name: Option<Name>,
    /// Where the under store has it, if not where the directory's prefix and the name say.
    pub(super) key: Option<Vec<u8>>,
    pub(super) own: Own,
    pub(super) dirty: Option<Dirty>,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    File(ObservedKind),
    Unstored { what: Unstored, mtime: Timestamp },
    Directory { children: BTreeMap<Name, u64>, listed: Option<(Timestamp, u64)>, made: bool, mtime: Timestamp },
}

/// What the namespace is meant to be: a tree of nodes that are removed at once, by recursion.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<u64, Node>,
    /// The next node's id.
    pub(super) next: u64,
    pub(super) mounts: BTreeMap<u32, (u64, Mount)>,
    next_mount: u32,
    pub(super) relocations: BTreeMap<u64, Relocation>,
    /// What may be in the under store that nobody has any more, by mount and key.
    pub(super) orphans: BTreeMap<(MountId, Vec<u8>), Dirty>,
    /// Of relocations, the same.
    pub(super) left: BTreeMap<(u32, Vec<u8>), String>,
    pub(super) links: BTreeMap<u64, Link>,
    /// Directories that are being removed.
    pub(super) removed: BTreeMap<u64, Removed>,
    /// What aliases that went with this command stood for.
    pub(super) unlinked: BTreeMap<u64, u64>,
    pub(super) answers: BTreeMap<RequestId, Reply>,
    pub(super) effects: Vec<Effect>,
}

impl Model {
    pub(super) fn new() -> Self {
        let kind = directory(false, Timestamp(0));
        let root = Node { parent: ROOT, name: None, key: None, own: Own::default(), dirty: None, kind };
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self {
            nodes,
            next: 3,
            mounts: BTreeMap::new(),
            next_mount: 1,
            relocations: BTreeMap::new(),
            orphans: BTreeMap::new(),
            left: BTreeMap::new(),
            links: BTreeMap::new(),
            removed: BTreeMap::new(),
            unlinked: BTreeMap::new(),
            answers: BTreeMap::new(),
            effects: vec![],
        }
    }

    pub(super) fn apply(&mut self, command: &Command) -> Outcome {
        let numbers = self.numbers();
        let reply = match command {
            Command::AddMount { request, mount, now } => self.once(*request, |model| model.add_mount(mount, *now)),
            Command::RemoveMount { request, path, .. } => self.once(*request, |model| model.remove_mount(path)),
            Command::Upsert { dir, entries, at } => {
                let before = self.effects.len();
                if self.mount_of(dir.0).is_some_and(|mount| mount != 0) && self.is_directory(dir.0) {
                    let mut changed = false;
                    for observed in entries {
                        changed |= self.upsert(dir.0, observed, *at);
                    }
                    if self.effects.len() > before {
                        self.fill(dir.0, true);
                    }
                    if let Some(Node { kind: Kind::Directory { mtime, listed: Some(_), .. }, own, .. }) =
                        self.nodes.get_mut(&dir.0)
                        && changed
                        && *mtime < *at
                    {
                        *mtime = *at;
                        own.mtime = false;
                    }
                }
                Reply::Done
            }
            Command::Forget { dir, entries } => {
                if self.mount_of(dir.0).is_some_and(|mount| mount != 0) && self.is_directory(dir.0) {
                    entries.iter().for_each(|(name, inode)| self.forget(dir.0, name, inode.0));
                }
                Reply::Done
            }
            Command::MarkListed { dir, at, skipped } => {
                if self.mount_of(dir.0).is_some_and(|mount| mount != 0)
                    && let Some(Node { kind: Kind::Directory { listed, .. }, .. }) = self.nodes.get_mut(&dir.0)
                {
                    *listed = Some((*at, *skipped));
                }
                Reply::Done
            }
            Command::Noop | Command::Sweep => Reply::Done,
            other => self.change(other),
        };
        let mut effects = std::mem::take(&mut self.effects);
        self.settle_links(&numbers, &mut effects);
        Outcome { reply, effects }
    }

    pub(super) fn once(&mut self, request: RequestId, work: impl FnOnce(&mut Self) -> Reply) -> Reply {
        if let Some(reply) = self.answers.get(&request) {
            return reply.clone();
        }
        let reply = work(self);
        self.answers.insert(request, reply.clone());
        reply
    }

    fn add_mount(&mut self, mount: &Mount, now: Timestamp) -> Reply {
        let path = &mount.path;
        if self.mounts.values().any(|(_, other)| other.path == *path) {
            return Reply::Refused(Refusal::MountExists(path.clone()));
        }
        let mut reached = NsPath::root();
        let mut at = Some(ROOT);
        for name in path.names() {
            reached = reached.join(name.clone());
            at = at.and_then(|dir| self.child(dir, name));
            if at.is_some_and(|node| !self.is_directory(node)) {
                return Reply::Refused(Refusal::NotADirectory(reached));
            }
        }
        let mut root = ROOT;
        for (nth, name) in path.names().iter().enumerate() {
            let dir = root;
            root = match self.child(dir, name) {
                None => {
                    let new = self.insert(dir, name, directory(true, now));
                    self.effect(dir, name, None);
                    new
                }
                Some(found) if nth + 1 < path.names().len() => found,
                Some(found) if self.mount_of(dir) == Some(0) => {
                    self.effect(dir, name, None);
                    found
                }
                Some(found) => self.replace(found, now),
            };
        }
        let id = self.next_mount;
        self.next_mount += 1;
        let mount = Mount { id: MountId(id), ..mount.clone() };
        self.mounts.insert(id, (root, mount.clone()));
        self.effects.push(Effect::Mounts);
        Reply::Mount(mount)
    }

    /// A new node in the place of a directory, with nothing below but what leads to mounts.
    fn replace(&mut self, old: u64, now: Timestamp) -> u64 {
        let node = self.nodes[&old].clone();
        let Kind::Directory { children, made, .. } = node.kind else { panic!("{old} is a file") };
        let name = node.name.expect("the root is not replaced");
        self.cut_links(old);
        let within: Vec<_> =
            self.links.keys().copied().filter(|alias| self.within_mount(*alias).contains(&old)).collect();
        self.links.retain(|alias, _| !within.contains(alias));
        let mut kept: Vec<_> = children.values().copied().filter(|child| self.keeps(*child)).collect();
        kept.sort_unstable();
        for child in children.into_values().filter(|child| !kept.contains(child)) {
            self.erase(child);
        }
        let new = self.insert(node.parent, &name, directory(made, now));
        self.effect(node.parent, &name, Some(old));
        for child in kept {
            let child_name = self.nodes[&child].name.clone().expect("has a name");
            let node = self.nodes.get_mut(&child).expect("is there");
            node.parent = new;
            self.children(new).insert(child_name.clone(), child);
            if self.mounts.values().any(|(root, _)| *root == child) {
                self.effect(new, &child_name, None);
            } else {
                self.replace(child, now);
            }
        }
        self.nodes.remove(&old);
        new
    }

    fn remove_mount(&mut self, path: &NsPath) -> Reply {
        let found = self.mounts.iter().find(|(_, (_, mount))| mount.path == *path);
        let Some((id, root)) = found.map(|(id, (root, _))| (*id, *root)) else {
            return Reply::Refused(Refusal::NoMount(path.clone()));
        };
        let below = self.mounts.values().map(|(_, mount)| &mount.path);
        if let Some(other) = below.filter(|other| *other != path && other.starts_with(path)).min() {
            return Reply::Refused(Refusal::MountsBelow(path.clone(), other.clone()));
        }
        let of_mount = self.relocations.values().filter(|relocation| relocation.mount.0 == id);
        for relocation in of_mount.map(|relocation| relocation.id).collect::<Vec<_>>() {
            self.give_up_relocation(relocation);
        }
        self.orphans.retain(|(mount, _), _| mount.0 != id);
        self.left.retain(|(mount, _), _| *mount != id);
        self.mounts.remove(&id);
        if root == ROOT {
            self.nodes.get_mut(&ROOT).expect("is there").own = Own::default();
            let children: Vec<_> = self.children(ROOT).values().copied().collect();
            children.into_iter().for_each(|child| self.erase(child));
            self.links.retain(|alias, _| self.nodes.contains_key(alias));
            self.unlist(ROOT);
            self.next += 1;
        } else {
            let mut dir = root;
            loop {
                let node = self.nodes[&dir].clone();
                self.remove(dir);
                self.unlist(node.parent);
                self.effect(node.parent, &node.name.expect("has a name"), Some(dir));
                let made = matches!(self.nodes[&node.parent].kind, Kind::Directory { made: true, .. });
                if !made || self.keeps(node.parent) {
                    break;
                }
                dir = node.parent;
            }
        }
        self.effects.push(Effect::Mounts);
        Reply::Done
    }

    pub(super) fn insert(&mut self, dir: u64, name: &Name, kind: Kind) -> u64 {
        let id = self.next;
        self.next += 1;
        let own = Own::default();
        self.nodes.insert(id, Node { parent: dir, name: Some(name.clone()), key: None, own, dirty: None, kind });
        self.children(dir).insert(name.clone(), id);
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        if self.is_directory(id) {
            self.cut_links(id);
            self.erase(id);
            self.links.retain(|alias, _| self.nodes.contains_key(alias));
        } else {
            self.erase(id);
            self.forget_links(id);
        }
    }

    fn erase(&mut self, id: u64) {
        let node = self.nodes.remove(&id).expect("is there");
        if let Kind::Directory { children, .. } = node.kind {
            children.into_values().for_each(|child| self.erase(child));
        }
        if let Some(Node { kind: Kind::Directory { children, .. }, .. }) = self.nodes.get_mut(&node.parent) {
            children.remove(&node.name.expect("has a name"));
        }
    }

    pub(super) fn unlist(&mut self, id: u64) {
        if let Kind::Directory { listed, .. } = &mut self.nodes.get_mut(&id).expect("is there").kind {
            *listed = None;
        }
    }

    pub(super) fn set_made(&mut self, id: u64, value: bool) {
        if let Kind::Directory { made, .. } = &mut self.nodes.get_mut(&id).expect("is there").kind {
            *made = value;
        }
    }

    pub(super) fn children(&mut self, id: u64) -> &mut BTreeMap<Name, u64> {
        match &mut self.nodes.get_mut(&id).expect("is there").kind {
            Kind::Directory { children, .. } => children,
            Kind::File(_) | Kind::Unstored { .. } => panic!("{id} is no directory"),
        }
    }

    pub(super) fn child(&self, id: u64, name: &Name) -> Option<u64> {
        match &self.nodes.get(&id)?.kind {
            Kind::Directory { children, .. } => children.get(name).copied(),
            Kind::File(_) | Kind::Unstored { .. } => None,
        }
    }

    pub(super) fn is_directory(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| matches!(node.kind, Kind::Directory { .. }))
    }

    /// The node and all above it.
    pub(super) fn upwards(&self, id: u64) -> Vec<u64> {
        let mut ids = vec![id];
        let mut at = id;
        while at != ROOT {
            at = self.nodes[&at].parent;
            ids.push(at);
        }
        ids
    }

    pub(super) fn keeps(&self, id: u64) -> bool {
        self.mounts.values().any(|(root, _)| self.upwards(*root).contains(&id))
    }

    pub(super) fn mount_of(&self, id: u64) -> Option<u32> {
        self.nodes.get(&id)?;
        let above = self.upwards(id).into_iter();
        let mount = |id| self.mounts.iter().find(|(_, (root, _))| *root == id).map(|(mount, _)| *mount);
        Some(above.filter_map(mount).next().unwrap_or(0))
    }

    pub(super) fn path(&self, id: u64) -> NsPath {
        let names = self.upwards(id).into_iter().rev().filter_map(|id| self.nodes[&id].name.clone());
        names.fold(NsPath::root(), |path, name| path.join(name))
    }

    pub(super) fn effect(&mut self, parent: u64, name: &Name, old: Option<u64>) {
        self.effects.push(Effect::Entry { parent: InodeId(parent), name: name.clone(), old: old.map(InodeId) });
    }
}

pub(super) fn directory(made: bool, mtime: Timestamp) -> Kind {
    Kind::Directory { children: BTreeMap::new(), listed: None, made, mtime }
}
