//! Random steps of persisting: what masters propose, and what comes too late.

use headpond_types::{ContentId, RequestId, Timestamp, WorkerId};
use proptest::{prelude::*, sample::Index};

use super::{
    model::{Kind, Model},
    steps::pick,
};
use crate::{Command, Dirty, Due, ObservedKind, PersistBegun, Version, displaced_key};

/// A step whose inodes are still to be chosen.
#[derive(Clone, Debug)]
pub(super) enum Persisting {
    Commit { file: Index, size: u64, due: Due, barrier: bool, now: i64 },
    Begin { which: [Index; 2], stale: bool, elsewhere: bool, aside: bool },
    End { which: Index, late: bool, elsewhere: bool, version: u8, other: bool },
    MakeDue { which: [Index; 2], barrier: bool, tree: bool },
    EndTree { which: Index, stale: bool },
    Drop { which: Index, stale: bool },
    Overwrite { which: Index, stale: bool, version: Option<u8> },
}

pub(super) fn dues() -> impl Strategy<Value = Due> {
    prop_oneof![3 => Just(Due::Now), 2 => Just(Due::WhenRenamed), 1 => Just(Due::Never)]
}

pub(super) fn persisting() -> impl Strategy<Value = Persisting> {
    let index = || any::<Index>();
    let two = || any::<[Index; 2]>();
    let seldom = || prop::bool::weighted(0.15);
    prop_oneof![
        10 => (index(), 4..7u64, dues(), any::<bool>(), 0..99i64)
            .prop_map(|(file, size, due, barrier, now)| Persisting::Commit { file, size, due, barrier, now }),
        10 => (two(), seldom(), seldom(), seldom())
            .prop_map(|(which, stale, elsewhere, aside)| Persisting::Begin { which, stale, elsewhere, aside }),
        8 => (index(), seldom(), seldom(), 0..3u8, seldom()).prop_map(
            |(which, late, elsewhere, version, other)| Persisting::End { which, late, elsewhere, version, other }
        ),
        3 => (two(), any::<bool>(), any::<bool>())
            .prop_map(|(which, barrier, tree)| Persisting::MakeDue { which, barrier, tree }),
        2 => (index(), seldom()).prop_map(|(which, stale)| Persisting::EndTree { which, stale }),
        1 => (index(), seldom()).prop_map(|(which, stale)| Persisting::Drop { which, stale }),
        2 => (index(), seldom(), proptest::option::of(0..3u8))
            .prop_map(|(which, stale, version)| Persisting::Overwrite { which, stale, version }),
    ]
}

impl Persisting {
    /// The command for what `model` holds; nothing when there is nothing to do it to.
    pub(super) fn command(&self, model: &Model, number: u128) -> Option<Command> {
        let rows = model.all_dirty();
        let row = |index: &Index| (!rows.is_empty()).then(|| index.get(&rows).clone());
        let numbered = |dirty: &Dirty, stale: bool| dirty.number - u64::from(stale);
        Some(match self {
            Self::Commit { file, size, due, barrier, now } => Command::CommitDirty {
                request: RequestId(number),
                inode: pick(file, model, |id| !model.is_directory(id) && !model.links.contains_key(&id)),
                size: *size,
                mtime: Timestamp(*now),
                content: ContentId(number + 100),
                holders: vec![WorkerId(1)],
                due: *due,
                barrier: *barrier,
                now: Timestamp(*now),
            },
            Self::Begin { which, stale, elsewhere, aside } => {
                let rows = which.iter().filter_map(row);
                let files = rows.map(|dirty| {
                    let (id, is_there) = (dirty.inode.0, model.nodes.contains_key(&dirty.inode.0));
                    let (key, content) =
                        if is_there { (place(model, &dirty), content_of(model, id)) } else { Default::default() };
                    let key = match (elsewhere, aside) {
                        (true, _) => b"a/b".to_vec(),
                        (false, true) => displaced_key(dirty.inode),
                        (false, false) => key,
                    };
                    PersistBegun { inode: dirty.inode, number: numbered(&dirty, *stale), key, content }
                });
                Command::BeginPersist { files: files.collect() }
            }
            Self::End { which, late, elsewhere, version, other } => {
                let dirty = row(which)?;
                let id = dirty.inode.0;
                let key = if *elsewhere { b"c".to_vec() } else { place(model, &dirty) };
                let content = match dirty.put.first() {
                    Some(first) if *late => Some(*first),
                    _ if *other => Some(ContentId(number + 100)),
                    _ => content_of(model, id),
                };
                let version = content.map(|content| Version {
                    size: 9,
                    mtime: Timestamp(8),
                    version: version.to_string(),
                    content,
                });
                Command::EndPersist { inode: dirty.inode, number: numbered(&dirty, *late), key, version }
            }
            Self::MakeDue { which, barrier, tree } => {
                let inodes = which.iter().filter_map(row).map(|dirty| (dirty.inode, *barrier)).collect();
                let number = rows.iter().find(|dirty| dirty.tree).map(|dirty| dirty.number);
                Command::MakeDue { inodes, number: number.filter(|_| *tree) }
            }
            Self::EndTree { which, stale } => {
                let dirty = row(which)?;
                let trees: Vec<_> = rows.iter().filter(|dirty| dirty.tree).cloned().collect();
                let dirty = if trees.is_empty() { dirty } else { which.get(&trees).clone() };
                Command::EndTree { inode: dirty.inode, number: numbered(&dirty, *stale) }
            }
            Self::Drop { which, stale } => {
                let dirty = row(which)?;
                Command::DropDirty { inode: dirty.inode, number: numbered(&dirty, *stale) }
            }
            Self::Overwrite { which, stale, version } => {
                let dirty = row(which)?;
                let version = version.map(|version| version.to_string());
                Command::Overwrite { inode: dirty.inode, number: numbered(&dirty, *stale), version }
            }
        })
    }
}

/// Where a master would have it put.
fn place(model: &Model, dirty: &Dirty) -> Vec<u8> {
    let id = dirty.inode.0;
    match &dirty.key {
        Some(key) => key.clone(),
        None => model.location_key(id),
    }
}

/// Of a further name, the content that it is to have.
fn content_of(model: &Model, id: u64) -> Option<ContentId> {
    match &model.nodes.get(&model.target(id))?.kind {
        Kind::File(ObservedKind::File { content, .. }) => Some(*content),
        _ => None,
    }
}
