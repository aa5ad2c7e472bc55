//! The namespace against a plain model of it in memory, with restarts, lost commits and batches of any size in between.

use std::collections::BTreeMap;

use headpond_journal::{Position, StateMachine};
use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp};
use proptest::{prelude::*, sample::Index};

use crate::{
    Command, Effect, Listed, Location, Mount, Namespace, Observed, ObservedKind, Outcome, Refusal, Reply, Snapshot,
};

const ROOT: u64 = 1;

#[derive(Clone, Debug)]
struct Node {
    parent: u64,
    name: Option<Name>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    File(ObservedKind),
    Directory { children: BTreeMap<Name, u64>, listed: Option<(Timestamp, u64)>, made: bool, mtime: Timestamp },
}

/// What the namespace is meant to be: a tree of nodes that are removed at once, by recursion.
#[derive(Debug)]
struct Model {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    mounts: BTreeMap<u32, (u64, Mount)>,
    next_mount: u32,
    answers: BTreeMap<RequestId, Reply>,
    effects: Vec<Effect>,
}

impl Model {
    fn new() -> Self {
        let root = Node { parent: ROOT, name: None, kind: directory(false, Timestamp(0)) };
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self { nodes, next: 3, mounts: BTreeMap::new(), next_mount: 1, answers: BTreeMap::new(), effects: vec![] }
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        let reply = match command {
            Command::AddMount { request, mount, now } => self.once(*request, |model| model.add_mount(mount, *now)),
            Command::RemoveMount { request, path, .. } => self.once(*request, |model| model.remove_mount(path)),
            Command::Upsert { dir, entries, at } => {
                let before = self.effects.len();
                if self.mount_of(dir.0).is_some_and(|mount| mount != 0) && self.is_directory(dir.0) {
                    entries.iter().for_each(|observed| self.upsert(dir.0, observed, *at));
                    let changed = self.effects.len() > before;
                    if let Some(Node { kind: Kind::Directory { mtime, listed: Some(_), .. }, .. }) =
                        self.nodes.get_mut(&dir.0)
                        && changed
                    {
                        *mtime = (*mtime).max(*at);
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
            other => panic!("{other:?} is not modelled"),
        };
        Outcome { reply, effects: std::mem::take(&mut self.effects) }
    }

    fn once(&mut self, request: RequestId, work: impl FnOnce(&mut Self) -> Reply) -> Reply {
        if let Some(reply) = self.answers.get(&request) {
            return reply.clone();
        }
        let reply = work(self);
        self.answers.insert(request, reply.clone());
        reply
    }

    fn upsert(&mut self, dir: u64, observed: &Observed, at: Timestamp) {
        let name = &observed.name;
        let is_directory = matches!(observed.object, ObservedKind::Directory);
        let old = self.child(dir, name);
        if let Some(old) = old {
            if self.keeps(old) {
                return self.set_made(old, !is_directory);
            }
            match (&mut self.nodes.get_mut(&old).expect("is there").kind, &observed.object) {
                (Kind::Directory { .. }, ObservedKind::Directory) => return,
                (Kind::File(known), new) if content(known) == content(new) && !is_directory => {
                    if known != new {
                        *known = new.clone();
                        self.effect(dir, name, None);
                    }
                    return;
                }
                _ => self.remove(old),
            }
        }
        let kind = if is_directory { directory(false, at) } else { Kind::File(observed.object.clone()) };
        self.insert(dir, name, kind);
        self.effect(dir, name, old);
    }

    fn forget(&mut self, dir: u64, name: &Name, inode: u64) {
        match self.child(dir, name) {
            Some(found) if found == inode && self.keeps(found) => self.set_made(found, true),
            Some(found) if found == inode => {
                self.remove(found);
                self.effect(dir, name, Some(found));
            }
            _ => {}
        }
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
        let mut kept: Vec<_> = children.values().copied().filter(|child| self.keeps(*child)).collect();
        kept.sort_unstable();
        for child in children.into_values().filter(|child| !kept.contains(child)) {
            self.remove(child);
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
        self.mounts.remove(&id);
        if root == ROOT {
            let children: Vec<_> = self.children(ROOT).values().copied().collect();
            children.into_iter().for_each(|child| self.remove(child));
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

    fn insert(&mut self, dir: u64, name: &Name, kind: Kind) -> u64 {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { parent: dir, name: Some(name.clone()), kind });
        self.children(dir).insert(name.clone(), id);
        id
    }

    fn remove(&mut self, id: u64) {
        let node = self.nodes.remove(&id).expect("is there");
        if let Kind::Directory { children, .. } = node.kind {
            children.into_values().for_each(|child| self.remove(child));
        }
        if let Some(Node { kind: Kind::Directory { children, .. }, .. }) = self.nodes.get_mut(&node.parent) {
            children.remove(&node.name.expect("has a name"));
        }
    }

    fn unlist(&mut self, id: u64) {
        if let Kind::Directory { listed, .. } = &mut self.nodes.get_mut(&id).expect("is there").kind {
            *listed = None;
        }
    }

    fn set_made(&mut self, id: u64, value: bool) {
        if let Kind::Directory { made, .. } = &mut self.nodes.get_mut(&id).expect("is there").kind {
            *made = value;
        }
    }

    fn children(&mut self, id: u64) -> &mut BTreeMap<Name, u64> {
        match &mut self.nodes.get_mut(&id).expect("is there").kind {
            Kind::Directory { children, .. } => children,
            Kind::File(_) => panic!("{id} is a file"),
        }
    }

    fn child(&self, id: u64, name: &Name) -> Option<u64> {
        match &self.nodes.get(&id)?.kind {
            Kind::Directory { children, .. } => children.get(name).copied(),
            Kind::File(_) => None,
        }
    }

    fn is_directory(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| matches!(node.kind, Kind::Directory { .. }))
    }

    /// The node and all above it.
    fn upwards(&self, id: u64) -> Vec<u64> {
        let mut ids = vec![id];
        let mut at = id;
        while at != ROOT {
            at = self.nodes[&at].parent;
            ids.push(at);
        }
        ids
    }

    fn keeps(&self, id: u64) -> bool {
        self.mounts.values().any(|(root, _)| self.upwards(*root).contains(&id))
    }

    fn mount_of(&self, id: u64) -> Option<u32> {
        self.nodes.get(&id)?;
        let above = self.upwards(id).into_iter();
        let mount = |id| self.mounts.iter().find(|(_, (root, _))| *root == id).map(|(mount, _)| *mount);
        Some(above.filter_map(mount).next().unwrap_or(0))
    }

    fn path(&self, id: u64) -> NsPath {
        let names = self.upwards(id).into_iter().rev().filter_map(|id| self.nodes[&id].name.clone());
        names.fold(NsPath::root(), |path, name| path.join(name))
    }

    fn effect(&mut self, parent: u64, name: &Name, old: Option<u64>) {
        self.effects.push(Effect::Entry { parent: InodeId(parent), name: name.clone(), old: old.map(InodeId) });
    }

    /// Whether a snapshot shows exactly this.
    fn check(&self, snapshot: &Snapshot) {
        for id in 1..self.next {
            let inode = InodeId(id);
            let attr = snapshot.attr(inode).expect("reads");
            let Some(node) = self.nodes.get(&id) else {
                assert_eq!(attr, None, "{id} is gone");
                assert_eq!(snapshot.path(inode).expect("reads"), None);
                assert_eq!(snapshot.location(inode).expect("reads"), None);
                assert_eq!(snapshot.list(inode, None, 9).expect("reads"), []);
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
            });
            assert_eq!(snapshot.location(inode).expect("reads"), location);
            let listed = snapshot.listed(inode).expect("reads");
            let list = snapshot.list(inode, None, usize::MAX).expect("reads");
            match &node.kind {
                Kind::File(ObservedKind::File { size, mtime, version, content }) => {
                    assert_eq!((attr.size, attr.mtime, &attr.version), (*size, *mtime, version));
                    assert_eq!(attr.content, Some(*content));
                    assert_eq!((listed, list), (None, vec![]));
                }
                Kind::File(ObservedKind::Directory) => panic!("a file is no directory"),
                Kind::Directory { children, listed: known, mtime, .. } => {
                    assert_eq!((attr.mtime, attr.content), (*mtime, None));
                    let entries = children.len() as u64;
                    assert_eq!(listed, known.map(|(at, skipped)| Listed { at, entries, skipped }));
                    let names: Vec<_> = list.iter().map(|(name, attr)| (name.clone(), attr.inode.0)).collect();
                    assert_eq!(names, children.clone().into_iter().collect::<Vec<_>>());
                    for (name, attr) in list {
                        assert_eq!(snapshot.lookup(inode, &name).expect("reads").as_ref(), Some(&attr));
                        assert_eq!(snapshot.attr(attr.inode).expect("reads"), Some(attr));
                    }
                }
            }
        }
        let mounts: Vec<_> = self.mounts.values().map(|(_, mount)| mount.clone()).collect();
        assert_eq!(snapshot.mounts().expect("reads"), mounts);
    }
}

fn directory(made: bool, mtime: Timestamp) -> Kind {
    Kind::Directory { children: BTreeMap::new(), listed: None, made, mtime }
}

fn content(object: &ObservedKind) -> Option<ContentId> {
    match object {
        ObservedKind::Directory => None,
        ObservedKind::File { content, .. } => Some(*content),
    }
}

/// A command whose inodes are still to be chosen.
#[derive(Clone, Debug)]
enum Step {
    Upsert { dir: Index, entries: Vec<Observed>, at: i64 },
    Forget { dir: Index, names: Vec<Name>, wrong: bool },
    MarkListed { dir: Index, at: i64, skipped: u64 },
    Mount { path: Vec<Name>, repeat: bool },
    Unmount { which: Index, path: Vec<Name> },
    Sweep,
    Noop,
    Reopen { durable: bool },
}

fn names() -> impl Strategy<Value = Name> + Clone {
    "[abc]".prop_map(|text| Name::new(text).expect("a legal name"))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = (0..3u128, 0..2i64).prop_map(|(content, mtime)| ObservedKind::File {
        size: 5,
        mtime: Timestamp(mtime),
        version: content.to_string(),
        content: ContentId(content),
    });
    let object = prop_oneof![1 => Just(ObservedKind::Directory), 1 => file];
    let entries = proptest::collection::btree_map(names(), object, 0..4);
    let entries = entries.prop_map(|map| map.into_iter().map(|(name, object)| Observed { name, object }).collect());
    let path = proptest::collection::vec(names(), 0..4);
    let step = prop_oneof![
        10 => (any::<Index>(), entries, 0..99i64).prop_map(|(dir, entries, at)| Step::Upsert { dir, entries, at }),
        3 => (any::<Index>(), proptest::collection::vec(names(), 1..3), prop::bool::weighted(0.2))
            .prop_map(|(dir, names, wrong)| Step::Forget { dir, names, wrong }),
        2 => (any::<Index>(), 0..99i64, 0..3u64).prop_map(|(dir, at, skipped)| Step::MarkListed { dir, at, skipped }),
        3 => (path.clone(), prop::bool::weighted(0.1)).prop_map(|(path, repeat)| Step::Mount { path, repeat }),
        2 => (any::<Index>(), path).prop_map(|(which, path)| Step::Unmount { which, path }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Noop),
        1 => any::<bool>().prop_map(|durable| Step::Reopen { durable }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The command that a step means for what `model` holds; `None` for a restart.
fn command(step: &Step, model: &Model, number: u128) -> Option<Command> {
    let pick = |index: &Index| {
        // Mostly directories that are there, but any id that was ever given may come.
        let there: Vec<_> = model.nodes.keys().copied().filter(|id| model.is_directory(*id)).collect();
        let ever = index.index(usize::try_from(model.next).expect("fits") * 4);
        InodeId(if ever < there.len() * 3 { there[ever % there.len()] } else { ever as u64 % model.next })
    };
    let path = |names: &[Name]| names.iter().cloned().fold(NsPath::root(), |path, name| path.join(name));
    let now = Timestamp(7);
    Some(match step {
        Step::Upsert { dir, entries, at } => {
            Command::Upsert { dir: pick(dir), entries: entries.clone(), at: Timestamp(*at) }
        }
        Step::Forget { dir, names, wrong } => {
            let dir = pick(dir);
            let inode = |name: &Name| model.child(dir.0, name).map_or(0, |id| id + u64::from(*wrong));
            Command::Forget { dir, entries: names.iter().map(|name| (name.clone(), InodeId(inode(name)))).collect() }
        }
        Step::MarkListed { dir, at, skipped } => {
            Command::MarkListed { dir: pick(dir), at: Timestamp(*at), skipped: *skipped }
        }
        Step::Mount { path: names, repeat } => {
            let mount = Mount {
                id: MountId(0),
                path: path(names),
                uri: "memory://x".to_owned(),
                options: BTreeMap::new(),
                read_only: true,
                sync_interval_ms: None,
                uid: 1,
                gid: 2,
                file_mode: 0o644,
                dir_mode: 0o755,
            };
            Command::AddMount { request: RequestId(if *repeat { 0 } else { number }), mount, now }
        }
        Step::Unmount { which, path: names } => {
            let mounted: Vec<_> = model.mounts.values().map(|(_, mount)| mount.path.clone()).collect();
            let path = if mounted.is_empty() { path(names) } else { which.get(&mounted).clone() };
            Command::RemoveMount { request: RequestId(number), path, now }
        }
        Step::Sweep => Command::Sweep,
        Step::Noop => Command::Noop,
        Step::Reopen { .. } => return None,
    })
}

fn open(dir: &std::path::Path) -> Namespace {
    Namespace::open(dir, 1 << 22).expect("opens")
}

fn apply_from(namespace: &Namespace, history: &[(Command, Outcome)], index: usize) -> Outcome {
    let at = Position { term: 1, index: index as u64 + 1 };
    namespace.apply(at, &[&history[index].0]).expect("applies").remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_namespace_is_what_the_model_is(steps in steps()) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut namespace = open(dir.path());
        let mut model = Model::new();
        let mut history: Vec<(Command, Outcome)> = Vec::new();
        for (step, number) in steps.iter().zip(1..) {
            let Some(command) = command(step, &model, number) else {
                if matches!(step, Step::Reopen { durable: true }) {
                    namespace.make_durable().expect("is durable");
                }
                drop(namespace);
                namespace = open(dir.path());
                let applied = namespace.applied().expect("reads").map_or(0, |at| at.index);
                let applied = usize::try_from(applied).expect("fits");
                for index in applied..history.len() {
                    prop_assert_eq!(&apply_from(&namespace, &history, index), &history[index].1);
                }
                model.check(&namespace.snapshot().expect("a snapshot"));
                continue;
            };
            let expected = model.apply(&command);
            history.push((command, expected.clone()));
            let outcome = apply_from(&namespace, &history, history.len() - 1);
            prop_assert_eq!(outcome, expected, "{:?}", history.last().expect("is there").0);
            model.check(&namespace.snapshot().expect("a snapshot"));
        }
        let mut index = history.len() as u64;
        while namespace.snapshot().expect("a snapshot").has_remains() {
            index += 1;
            namespace.apply(Position { term: 1, index }, &[&Command::Sweep]).expect("applies");
        }
        let counts = namespace.snapshot().expect("a snapshot").counts().expect("reads");
        let files = model.nodes.values().filter(|node| matches!(node.kind, Kind::File(_))).count() as u64;
        prop_assert_eq!((counts.inodes, counts.file_bytes), (model.nodes.len() as u64, files * 5));
    }

    #[test]
    fn rows_do_not_depend_on_how_commands_are_batched(steps in steps(), cuts in proptest::collection::vec(1..6usize, 60)) {
        let mut model = Model::new();
        let mut commands = Vec::new();
        for (step, number) in steps.iter().zip(1..) {
            if let Some(command) = command(step, &model, number) {
                model.apply(&command);
                commands.push(command);
            }
        }
        let run = |sizes: &mut dyn Iterator<Item = usize>| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let namespace = open(dir.path());
            let (mut rest, mut index) = (&commands[..], 0);
            while !rest.is_empty() {
                let (batch, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                index += 1;
                namespace.apply(Position { term: 1, index }, &batch.iter().collect::<Vec<_>>()).expect("applies");
                rest = after;
            }
            (namespace.rows(), namespace.snapshot().expect("a snapshot").counts().expect("reads"))
        };
        prop_assert_eq!(run(&mut std::iter::repeat(1)), run(&mut cuts.iter().copied()));
    }
}
