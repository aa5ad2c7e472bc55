//! One command at a time: what it answers, what it leaves, what it reports.

mod attributes;
mod bare;
mod changes;
mod dirty;
mod entries;
mod exchanges;
mod files;
mod left;
mod links;
mod links_below;
mod mounts;
mod moving_dirty;
mod names;
mod relocations;
mod renames;
mod requests;
mod trees;
mod unsettled;
mod unstored;
mod xattrs;

use std::path::Path;

use headpond_journal::{Position, StateMachine};
use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp};
use tempfile::TempDir;

use crate::{
    Command, Effect, Mount, Namespace, Observed, ObservedKind, Outcome, Persistence, Refusal, Reply, Snapshot,
};

const ROOT: InodeId = InodeId::ROOT;

/// A namespace to which commands are applied one by one.
struct Bed {
    dir: TempDir,
    namespace: Option<Namespace>,
    index: u64,
    requests: u128,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let namespace = Some(open(dir.path()));
        Self { dir, namespace, index: 0, requests: 1 << 32 }
    }

    /// With a mount at the root.
    fn mounted() -> Self {
        let mut bed = Self::new();
        bed.mount("/");
        bed
    }

    fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().expect("it is open")
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.index += 1;
        let at = Position { term: 1, index: self.index };
        self.namespace().apply(at, &[command]).expect("applies").remove(0)
    }

    fn effects(&mut self, command: &Command) -> Vec<Effect> {
        let outcome = self.apply(command);
        assert_eq!(outcome.reply, Reply::Done);
        outcome.effects
    }

    fn reopen(&mut self) {
        self.namespace().make_durable().expect("is durable");
        self.namespace = None;
        self.namespace = Some(open(self.dir.path()));
    }

    /// Changes what lies on disk.
    fn change_tables(&mut self, change: impl FnOnce(&redb::WriteTransaction)) {
        self.namespace().make_durable().expect("is durable");
        self.namespace = None;
        let database = redb::Database::create(self.dir.path().join("namespace.redb")).expect("opens");
        let txn = database.begin_write().expect("begins");
        change(&txn);
        txn.commit().expect("commits");
        drop(database);
        self.namespace = Some(open(self.dir.path()));
    }

    fn snapshot(&self) -> Snapshot {
        self.namespace().snapshot().expect("a snapshot")
    }

    fn mount(&mut self, at: &str) -> Outcome {
        self.requests += 1;
        self.apply(&add(self.requests, at))
    }

    fn unmount(&mut self, at: &str) -> Outcome {
        self.requests += 1;
        self.apply(&Command::RemoveMount { request: RequestId(self.requests), path: path(at), now: Timestamp(9) })
    }

    fn upsert(&mut self, dir: InodeId, entries: &[Observed]) -> Vec<Effect> {
        self.effects(&Command::Upsert { dir, entries: entries.to_vec(), at: Timestamp(50) })
    }

    fn find(&self, at: &str) -> Option<InodeId> {
        let snapshot = self.snapshot();
        path(at)
            .names()
            .iter()
            .try_fold(ROOT, |dir, name| snapshot.lookup(dir, name).expect("reads").map(|attr| attr.inode))
    }

    fn id(&self, at: &str) -> InodeId {
        self.find(at).unwrap_or_else(|| panic!("{at} is missing"))
    }

    fn names(&self, dir: InodeId) -> Vec<String> {
        let list = self.snapshot().list(dir, None, usize::MAX).expect("lists");
        list.into_iter().map(|(name, _)| name.to_string()).collect()
    }
}

fn open(dir: &Path) -> Namespace {
    Namespace::open(dir, 1 << 22).expect("opens")
}

fn path(text: &str) -> NsPath {
    text.parse().expect("a path")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn described(at: &str) -> Mount {
    Mount {
        id: MountId(0),
        path: path(at),
        uri: "memory://x".to_owned(),
        options: [("region".to_owned(), "here".to_owned())].into(),
        read_only: true,
        sync_interval_ms: Some(1000),
        uid: 7,
        gid: 8,
        file_mode: 0o640,
        dir_mode: 0o750,
        persistence: Persistence::default(),
    }
}

fn add(request: u128, at: &str) -> Command {
    Command::AddMount { request: RequestId(request), mount: described(at), now: Timestamp(5) }
}

fn dir(text: &str) -> Observed {
    Observed { name: name(text), object: ObservedKind::Directory }
}

fn file(text: &str, content: u128) -> Observed {
    file_at(text, content, 100)
}

fn file_at(text: &str, content: u128, mtime: i64) -> Observed {
    let object = ObservedKind::File {
        size: 10,
        mtime: Timestamp(mtime),
        version: format!("v{content}"),
        content: ContentId(content),
    };
    Observed { name: name(text), object }
}

fn discovered(parent: InodeId, text: &str) -> Effect {
    Effect::Discovered { parent, name: name(text) }
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome { reply: Reply::Refused(refusal), effects: vec![] }
}

fn entry(parent: InodeId, text: &str, old: Option<InodeId>) -> Effect {
    Effect::Entry { parent, name: name(text), old }
}
