//! What each writer does: known beforehand from a seed, so that the process that watches knows what the one that was killed was at.

use std::collections::{BTreeMap, BTreeSet};

use headpond_namespace::{Command, Mount, Observed, ObservedKind, Snapshot};
use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp};

/// One step of a writer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    AddMount(String),
    RemoveMount(String),
    Register(String),
    /// Names in the directory (of the writer's own mount, or in one of that), each a directory or not.
    Upsert(Option<String>, Vec<(String, bool)>),
    Forget(Vec<String>),
}

/// A writer, and all that its steps so far have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    seed: u64,
    /// Steps done.
    pub(crate) done: u64,
    /// Entries of its own mount: the step that wrote it for a file, nothing for a directory.
    pub(crate) entries: BTreeMap<String, Option<u64>>,
    /// Files in those directories.
    pub(crate) below: BTreeMap<(String, String), u64>,
    /// Mount points.
    pub(crate) mounts: BTreeSet<String>,
}

impl Writer {
    /// The writer called `number`, who has done nothing.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let seed = mix(seed ^ mix(number)) & !0xffff | number;
        Self { seed, done: 0, entries: BTreeMap::new(), below: BTreeMap::new(), mounts: BTreeSet::new() }
    }

    /// The same, `done` steps later.
    pub(crate) fn after(mut self, done: u64) -> Self {
        while self.done < done {
            self.advance();
        }
        self
    }

    /// Its own mount.
    pub(crate) fn home(&self) -> String {
        format!("/w{}", self.seed & 0xffff)
    }

    /// What it does next.
    pub(crate) fn next(&self) -> Step {
        let random = mix(self.seed ^ self.done.wrapping_mul(0x9e37));
        let names = |count: u64| -> BTreeSet<u64> { (0..count).map(|n| mix(random ^ n) % 60).collect() };
        let directories: Vec<_> =
            self.entries.iter().filter(|(_, file)| file.is_none()).map(|(name, _)| name).collect();
        match random % 16 {
            _ if self.done == 0 => Step::AddMount(self.home()),
            0 | 1 => Step::AddMount(format!("{}-{}", self.home(), self.done)),
            2 => match self.mounts.iter().find(|mount| **mount != self.home()) {
                Some(mount) => Step::RemoveMount(mount.clone()),
                None => Step::Register(format!("{}-{}", self.home(), self.done)),
            },
            3..6 if !self.entries.is_empty() => {
                let names = names(8).into_iter().map(name).filter(|name| self.entries.contains_key(name));
                Step::Forget(names.collect())
            }
            6..11 if !directories.is_empty() => {
                let dir = directories[usize::try_from(random >> 32).expect("64 bits") % directories.len()].clone();
                Step::Upsert(Some(dir), names(40).into_iter().map(|n| (name(n), false)).collect())
            }
            _ => Step::Upsert(
                None,
                names(12).into_iter().map(|n| (name(n), mix(random ^ n).is_multiple_of(3))).collect(),
            ),
        }
    }

    /// Takes the next step as done.
    pub(crate) fn advance(&mut self) {
        match self.next() {
            Step::AddMount(path) => drop(self.mounts.insert(path)),
            Step::RemoveMount(path) => drop(self.mounts.remove(&path)),
            Step::Register(_) => {}
            Step::Upsert(Some(dir), names) => {
                for (name, _) in names {
                    self.below.insert((dir.clone(), name), self.done);
                }
            }
            Step::Upsert(None, names) => {
                for (name, directory) in names {
                    let file = (!directory).then_some(self.done);
                    let before = self.entries.insert(name.clone(), file);
                    if before == Some(None) && file.is_some() {
                        self.below.retain(|(dir, _), _| *dir != name);
                    }
                }
            }
            Step::Forget(names) => {
                for name in names {
                    self.entries.remove(&name);
                    self.below.retain(|(dir, _), _| *dir != name);
                }
            }
        }
        self.done += 1;
    }

    /// The command of the next step, as the namespace now is.
    pub(crate) fn command(&self, snapshot: &Snapshot) -> Command {
        let request = RequestId(u128::from(self.seed) << 64 | u128::from(self.done));
        let now = Timestamp(i64::try_from(self.done).expect("few steps"));
        match self.next() {
            Step::AddMount(at) => Command::AddMount { request, mount: mount(&at), now },
            Step::RemoveMount(at) => Command::RemoveMount { request, path: path(&at), now },
            Step::Register(uuid) => Command::RegisterWorker { uuid },
            Step::Upsert(dir, names) => {
                let home = root(snapshot, &self.home()).expect("mounted");
                let dir = dir.map_or(home, |dir| inode(snapshot, home, &dir).expect("a directory"));
                let observed = |(name, directory): (String, bool)| {
                    let object = if directory { ObservedKind::Directory } else { self.file() };
                    Observed { name: Name::new(name).expect("a name"), object }
                };
                Command::Upsert { dir, entries: names.into_iter().map(observed).collect(), at: now }
            }
            Step::Forget(names) => {
                let home = root(snapshot, &self.home()).expect("mounted");
                let known = |name: String| Some((Name::new(&name).expect("a name"), inode(snapshot, home, &name)?));
                Command::Forget { dir: home, entries: names.into_iter().filter_map(known).collect() }
            }
        }
    }

    fn file(&self) -> ObservedKind {
        ObservedKind::File {
            size: self.done,
            mtime: Timestamp(7),
            version: self.done.to_string(),
            content: ContentId(u128::from(self.done)),
        }
    }

    /// What a namespace holds of this writer.
    pub(crate) fn found(snapshot: &Snapshot, like: &Self) -> Self {
        let home = like.home();
        let own = |path: &String| *path == home || path.starts_with(&format!("{home}-"));
        let paths = snapshot.mounts().expect("read").into_iter().map(|mount| mount.path.to_string());
        let mut found = Self { mounts: paths.filter(own).collect(), ..Self::new(0, 0) };
        (found.seed, found.done) = (like.seed, like.done);
        let Some(root) = root(snapshot, &home) else { return found };
        for (name, attr) in snapshot.list(root, None, usize::MAX).expect("read") {
            let name = String::from_utf8(name.as_bytes().to_vec()).expect("text");
            found.entries.insert(name.clone(), attr.content.map(|_| attr.size));
            for (below, attr) in snapshot.list(attr.inode, None, usize::MAX).expect("read") {
                let below = String::from_utf8(below.as_bytes().to_vec()).expect("text");
                assert_eq!(attr.version, attr.size.to_string());
                found.below.insert((name.clone(), below), attr.size);
            }
        }
        found
    }
}

/// The root of the mount at `at`.
pub(crate) fn root(snapshot: &Snapshot, at: &str) -> Option<InodeId> {
    let mounts = snapshot.mounts().expect("read");
    let mount = mounts.into_iter().find(|mount| mount.path == path(at))?;
    snapshot.mount_root(mount.id).expect("read")
}

fn inode(snapshot: &Snapshot, dir: InodeId, name: &str) -> Option<InodeId> {
    let attr = snapshot.lookup(dir, &Name::new(name).expect("a name")).expect("read");
    attr.map(|attr| attr.inode)
}

fn name(number: u64) -> String {
    format!("n{number}")
}

fn path(text: &str) -> NsPath {
    text.parse().expect("a path")
}

fn mount(at: &str) -> Mount {
    Mount {
        id: MountId(0),
        path: path(at),
        uri: "memory://store".to_owned(),
        options: BTreeMap::new(),
        read_only: true,
        sync_interval_ms: None,
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        persistence: Default::default(),
    }
}

/// The finaliser of SplitMix64.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
