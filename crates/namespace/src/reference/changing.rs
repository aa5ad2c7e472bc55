//! Random changes through Headpond: what clients ask for, and how relocations go on.

use headpond_types::{ContentId, InodeId, MountId, Name, RequestId, Timestamp};
use proptest::{prelude::*, sample::Index};

use super::{
    model::{Kind, Model},
    persisting::dues,
    steps::{names, pick},
};
use crate::{AttrChange, Command, Due, Left, MovedFile, ObservedKind, Owner, Unstored, Version};

/// A change whose inodes are still to be chosen.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { dir: Index, name: Name, owner: Owner, now: i64, repeat: bool },
    MakeDirectory { dir: Index, name: Name, owner: Owner, dirty: Option<Due>, now: i64 },
    MakeUnstored { dir: Index, name: Name, owner: Owner, target: u8, now: i64 },
    Commit { file: Index, place: Place, version: u8, size: u64, now: i64 },
    Discard { file: Index },
    Remove { which: Index, wrong: bool, after: After, now: i64 },
    Rename { which: Index, to: Index, name: Name, no_replace: bool, order: (bool, bool), after: After, now: i64 },
    Exchange { which: [Index; 2], orders: [(bool, bool); 2], after: After, now: i64 },
    RemoveTree { which: Index, wrong: bool, after: After, now: i64 },
    Reap { which: Index, stale: bool, skip: usize },
    Moved { which: Index, stale: bool, renamed: bool, skip: usize },
    EndRelocation { which: Index },
    Leave { mount: u32, key: Name, gone: Name },
    Replace { which: Index, key: Name },
    Yield { which: Index, stale: bool, elsewhere: bool, version: u8 },
    SetAttr { inode: Index, change: AttrChange, atime: Option<i64>, now: i64 },
    Link { file: Index, dir: Index, name: Name, due: Due, barrier: bool, now: i64 },
}

/// What a removal leaves to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    later: bool,
    leaves: bool,
    marker: Option<Due>,
    repeat: bool,
}

/// Where a version was put.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Where the path says.
    Path,
    /// Where the last one is.
    Present,
    /// Where the path said before a rename, or nowhere known.
    Other,
}

pub(super) fn changes() -> impl Strategy<Value = Change> {
    let index = || any::<Index>();
    let now = || 0..99i64;
    let owner = || (prop_oneof![Just(0o644), Just(0o755), Just(0o600)], 0..3u32, 0..4u32);
    let owner = move || owner().prop_map(|(mode, uid, gid)| Owner { mode, uid, gid });
    let place = prop_oneof![4 => Just(Place::Path), 2 => Just(Place::Present), 1 => Just(Place::Other)];
    let change = (owner(), any::<[bool; 4]>(), now()).prop_map(|(owner, set, mtime)| AttrChange {
        mode: set[0].then_some(owner.mode),
        uid: set[1].then_some(owner.uid),
        gid: set[2].then_some(owner.gid),
        mtime: set[3].then_some(Timestamp(mtime)),
    });
    let seldom = || prop::bool::weighted(0.1);
    let after = || {
        (any::<bool>(), seldom(), proptest::option::of(dues()), seldom())
            .prop_map(|(later, leaves, marker, repeat)| After { later, leaves, marker, repeat })
    };
    prop_oneof![
        4 => (index(), names(), owner(), now(), seldom())
            .prop_map(|(dir, name, owner, now, repeat)| Change::Create { dir, name, owner, now, repeat }),
        6 => (index(), names(), owner(), proptest::option::weighted(0.6, dues()), now())
            .prop_map(|(dir, name, owner, dirty, now)| Change::MakeDirectory { dir, name, owner, dirty, now }),
        4 => (index(), names(), owner(), 0..4u8, now()).prop_map(
            |(dir, name, owner, target, now)| Change::MakeUnstored { dir, name, owner, target, now }
        ),
        6 => (index(), place, 0..3u8, 4..6u64, now())
            .prop_map(|(file, place, version, size, now)| Change::Commit { file, place, version, size, now }),
        1 => index().prop_map(|file| Change::Discard { file }),
        5 => (index(), seldom(), after(), now())
            .prop_map(|(which, wrong, after, now)| Change::Remove { which, wrong, after, now }),
        14 => (index(), index(), names(), seldom(), any::<(bool, bool)>(), after(), now()).prop_map(
            |(which, to, name, no_replace, order, after, now)| {
                Change::Rename { which, to, name, no_replace, order, after, now }
            }
        ),
        6 => (any::<[Index; 2]>(), any::<[(bool, bool); 2]>(), after(), now())
            .prop_map(|(which, orders, after, now)| Change::Exchange { which, orders, after, now }),
        3 => (index(), seldom(), after(), now())
            .prop_map(|(which, wrong, after, now)| Change::RemoveTree { which, wrong, after, now }),
        2 => (index(), seldom(), 0..2usize).prop_map(|(which, stale, skip)| Change::Reap { which, stale, skip }),
        6 => (index(), seldom(), any::<bool>(), 0..3usize)
            .prop_map(|(which, stale, renamed, skip)| Change::Moved { which, stale, renamed, skip }),
        3 => index().prop_map(|which| Change::EndRelocation { which }),
        1 => (0..3u32, names(), names()).prop_map(|(mount, key, gone)| Change::Leave { mount, key, gone }),
        1 => (index(), names()).prop_map(|(which, key)| Change::Replace { which, key }),
        3 => (index(), seldom(), seldom(), 0..3u8)
            .prop_map(|(which, stale, elsewhere, version)| Change::Yield { which, stale, elsewhere, version }),
        3 => (index(), change, proptest::option::of(now()), now())
            .prop_map(|(inode, change, atime, now)| Change::SetAttr { inode, change, atime, now }),
        8 => (index(), index(), names(), dues(), any::<bool>(), now())
            .prop_map(|(file, dir, name, due, barrier, now)| Change::Link { file, dir, name, due, barrier, now }),
    ]
}

impl After {
    fn leaves(self) -> Vec<Left> {
        let left = Left { key: b"a/b".to_vec(), version: Some("7".to_owned()) };
        self.leaves.then_some(left).into_iter().collect()
    }
}

impl Change {
    /// The command for what `model` holds; nothing when there is nothing to do it to.
    pub(super) fn command(&self, model: &Model, number: u128) -> Option<Command> {
        let request = |repeat: bool| RequestId(if repeat { 1 << 64 } else { number });
        let dir = |index: &Index| pick(index, model, |id| model.is_directory(id));
        let file = |index: &Index| pick(index, model, |id| !model.is_directory(id) && !model.links.contains_key(&id));
        let relocation = |index: &Index| {
            let known: Vec<_> = model.relocations.keys().copied().collect();
            let at = index.index(known.len() * 8 + 8);
            // One that is not known, now and then.
            if at == 0 { Some(model.next) } else { known.get(at % known.len().max(1)).copied() }
        };
        let named = |index: &Index| {
            let node = model.nodes.get(&pick(index, model, |id| id != 1).0)?;
            Some((InodeId(node.parent), node.name.clone()?))
        };
        Some(match self {
            Self::Create { dir: parent, name, owner, now, repeat } => Command::Create {
                request: request(*repeat),
                parent: dir(parent),
                name: name.clone(),
                owner: *owner,
                now: Timestamp(*now),
            },
            Self::MakeDirectory { dir: parent, name, owner, dirty, now } => Command::MakeDirectory {
                request: request(false),
                parent: dir(parent),
                name: name.clone(),
                owner: *owner,
                dirty: *dirty,
                now: Timestamp(*now),
            },
            Self::MakeUnstored { dir: parent, name, owner, target, now } => Command::MakeUnstored {
                request: request(false),
                parent: dir(parent),
                name: name.clone(),
                owner: *owner,
                what: match target {
                    0 => Unstored::Fifo,
                    length => Unstored::Symlink(vec![b'x'; (*length).into()]),
                },
                now: Timestamp(*now),
            },
            Self::Commit { file: index, place, version, size, now } => {
                let inode = file(index);
                let is_placed = model.mount_of(inode.0).is_some_and(|mount| mount != 0);
                let key = match place {
                    Place::Path if is_placed && inode.0 != 1 => model.path_key(inode.0),
                    Place::Present if is_placed && inode.0 != 1 => model.key(inode.0),
                    Place::Path | Place::Present | Place::Other => b"a/b".to_vec(),
                };
                let version = Version {
                    size: *size,
                    mtime: Timestamp(*now),
                    version: version.to_string(),
                    content: ContentId(number + 100),
                };
                Command::Commit { request: request(false), inode, key, version, now: Timestamp(*now) }
            }
            Self::Discard { file: index } => Command::Discard { inode: file(index) },
            Self::Remove { which, wrong, after, now } => {
                let (parent, name) = named(which)?;
                let inode = model.child(parent.0, &name)? + u64::from(*wrong);
                Command::Remove {
                    request: request(after.repeat),
                    parent,
                    name,
                    inode: InodeId(inode),
                    later: after.later,
                    leaves: after.leaves(),
                    marker: after.marker,
                    now: Timestamp(*now),
                }
            }
            Self::Rename { which, to, name, no_replace, order, after, now } => Command::Rename {
                request: request(after.repeat),
                from: named(which)?,
                to: (dir(to), name.clone()),
                no_replace: *no_replace,
                released: order.0,
                barrier: order.1,
                later: after.later,
                leaves: after.leaves(),
                marker: after.marker,
                now: Timestamp(*now),
            },
            Self::Exchange { which: [one, other], orders: [first, second], after, now } => Command::Exchange {
                request: request(after.repeat),
                one: named(one)?,
                other: named(other)?,
                released: (first.0, second.0),
                barriers: (first.1, second.1),
                leaves: after.leaves(),
                now: Timestamp(*now),
            },
            Self::RemoveTree { which, wrong, after, now } => {
                let top = pick(which, model, |id| id != 1 && model.is_directory(id));
                let node = model.nodes.get(&top.0)?;
                Command::RemoveTree {
                    request: request(after.repeat),
                    parent: InodeId(node.parent),
                    name: node.name.clone()?,
                    inode: InodeId(top.0 + u64::from(*wrong)),
                    leaves: after.leaves(),
                    marker: after.marker,
                    now: Timestamp(*now),
                }
            }
            Self::Reap { which, stale, skip } => {
                let known: Vec<_> = model.removed.keys().collect();
                let tree = **known.get(which.index(known.len().max(1)))?;
                let version = |known: &String| if *stale { "stale".to_owned() } else { known.clone() };
                let files = model.removed[&tree].files.iter().skip(*skip);
                let files = files.map(|(file, (_, known))| (InodeId(*file), version(known)));
                Command::Reap { tree: InodeId(tree), files: files.collect() }
            }
            Self::Moved { which, stale, renamed, skip } => {
                let id = relocation(which)?;
                let files = model.nodes.keys().filter(|file| model.relocation_of(**file) == Some(id)).skip(*skip);
                let moved = |file: &u64| match &model.nodes[file].kind {
                    Kind::File(ObservedKind::File { version, .. }) => MovedFile {
                        inode: InodeId(*file),
                        from: if *stale { "stale".to_owned() } else { version.clone() },
                        key: model.path_key(*file),
                        version: if *renamed { "2".to_owned() } else { version.clone() },
                    },
                    // Not what a master does; it changes nothing.
                    _ => MovedFile {
                        inode: InodeId(*file),
                        from: String::new(),
                        key: b"x".to_vec(),
                        version: "x".to_owned(),
                    },
                };
                Command::Moved { relocation: id, files: files.map(moved).collect() }
            }
            Self::EndRelocation { which } => Command::EndRelocation { relocation: relocation(which)? },
            Self::Leave { mount, key, gone } => Command::Leave {
                mount: MountId(*mount),
                objects: vec![(key.as_bytes().to_vec(), "left".to_owned())],
                gone: vec![gone.as_bytes().to_vec()],
            },
            Self::Replace { which, key } => Command::Replace {
                relocation: relocation(which)?,
                key: key.as_bytes().to_vec(),
                version: (number % 5).to_string(),
            },
            Self::Yield { which, stale, elsewhere, version } => {
                let moves =
                    |id: u64| model.mount_of(id).is_some_and(|mount| mount != 0) && model.key(id) != model.path_key(id);
                let inode = pick(which, model, |id| !model.is_directory(id) && moves(id));
                let node = model.nodes.get(&inode.0).filter(|_| inode.0 != 1)?;
                let Kind::File(ObservedKind::File { version: known, .. }) = &node.kind else { return None };
                let key = if *elsewhere { b"a/b".to_vec() } else { model.path_key(inode.0) };
                let version = Version {
                    size: 3,
                    mtime: Timestamp(5),
                    version: version.to_string(),
                    content: ContentId(number + 100),
                };
                Command::Yield { inode, from: if *stale { "stale".to_owned() } else { known.clone() }, key, version }
            }
            Self::SetAttr { inode, change, atime, now } => {
                let inode = pick(inode, model, |id| !model.links.contains_key(&id));
                let (request, change, now) = (request(false), *change, Timestamp(*now));
                match atime.map(Timestamp) {
                    Some(atime) => Command::SetTimes { request, inode, change, atime, now },
                    None => Command::SetAttr { request, inode, change, now },
                }
            }
            Self::Link { file: index, dir: parent, name, due, barrier, now } => Command::Link {
                request: request(false),
                inode: file(index),
                parent: dir(parent),
                name: name.clone(),
                due: *due,
                barrier: *barrier,
                now: Timestamp(*now),
            },
        })
    }
}
