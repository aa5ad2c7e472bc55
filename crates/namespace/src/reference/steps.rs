//! Random histories: steps whose inodes are chosen when it is known what is there.

use std::collections::BTreeMap;

use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp};
use proptest::{prelude::*, sample::Index};

use super::{
    changing::{Change, changes},
    model::Model,
    persisting::{Persisting, persisting},
};
use crate::{Command, Mount, Observed, ObservedKind};

/// A command whose inodes are still to be chosen.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Upsert { dir: Index, entries: Vec<Observed>, at: i64 },
    Forget { dir: Index, names: Vec<Name>, wrong: bool },
    MarkListed { dir: Index, at: i64, skipped: u64 },
    Mount { path: Vec<Name>, repeat: bool },
    Unmount { which: Index, path: Vec<Name> },
    Change(Change),
    Persisting(Persisting),
    Sweep,
    Noop,
    Reopen { durable: bool },
}

pub(super) fn names() -> impl Strategy<Value = Name> + Clone {
    "[abc]".prop_map(|text| Name::new(text).expect("a legal name"))
}

/// Histories with many mounts that come and go, and such with little else than one at the root that is written to.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mounted = proptest::collection::vec(step(5, 5), 1..60);
    let written = proptest::collection::vec(step(1, 60), 1..120).prop_map(|mut steps| {
        steps.insert(0, Step::Mount { path: Vec::new(), repeat: false });
        steps
    });
    prop_oneof![mounted, written]
}

/// One step, a mount `mounts` times and a change through Headpond `changed` times as often as a restart.
fn step(mounts: u32, changed: u32) -> impl Strategy<Value = Step> {
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
    prop_oneof![
        20 => (any::<Index>(), entries, 0..99i64).prop_map(|(dir, entries, at)| Step::Upsert { dir, entries, at }),
        6 => (any::<Index>(), proptest::collection::vec(names(), 1..3), prop::bool::weighted(0.2))
            .prop_map(|(dir, names, wrong)| Step::Forget { dir, names, wrong }),
        4 => (any::<Index>(), 0..99i64, 0..3u64).prop_map(|(dir, at, skipped)| Step::MarkListed { dir, at, skipped }),
        mounts => (path.clone(), prop::bool::weighted(0.1)).prop_map(|(path, repeat)| Step::Mount { path, repeat }),
        mounts => (any::<Index>(), path).prop_map(|(which, path)| Step::Unmount { which, path }),
        changed => changes().prop_map(Step::Change),
        changed => persisting().prop_map(Step::Persisting),
        2 => Just(Step::Sweep),
        2 => Just(Step::Noop),
        2 => any::<bool>().prop_map(|durable| Step::Reopen { durable }),
    ]
}

/// The command that a step means for what `model` holds; `None` for a restart, and for what has nothing to be done to.
pub(super) fn command(step: &Step, model: &Model, number: u128) -> Option<Command> {
    let pick = |index: &Index| pick(index, model, |id| model.is_directory(id));
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
                persistence: Default::default(),
            };
            Command::AddMount { request: RequestId(if *repeat { 0 } else { number }), mount, now }
        }
        Step::Unmount { which, path: names } => {
            let mounted: Vec<_> = model.mounts.values().map(|(_, mount)| mount.path.clone()).collect();
            let path = if mounted.is_empty() { path(names) } else { which.get(&mounted).clone() };
            Command::RemoveMount { request: RequestId(number), path, now }
        }
        Step::Change(change) => change.command(model, number)?,
        Step::Persisting(step) => step.command(model, number)?,
        Step::Sweep => Command::Sweep,
        Step::Noop => Command::Noop,
        Step::Reopen { .. } => return None,
    })
}

/// Mostly an inode that is there and of the kind that is wanted, but any id that was ever given may come.
pub(super) fn pick(index: &Index, model: &Model, is_wanted: impl Fn(u64) -> bool) -> InodeId {
    let there: Vec<_> = model.nodes.keys().copied().filter(|id| is_wanted(*id)).collect();
    let ever = index.index(usize::try_from(model.next).expect("fits") * 8);
    let is_any = there.is_empty() || ever.is_multiple_of(8);
    InodeId(if is_any { ever as u64 % model.next } else { there[ever / 8 % there.len()] })
}
