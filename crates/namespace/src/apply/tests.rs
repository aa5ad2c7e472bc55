//! One command at a time: what it answers, what it leaves, what it reports.

use std::path::Path;

use headpond_journal::{Position, StateMachine};
use headpond_types::{ContentId, FileKind, InodeId, MountId, Name, NsPath, RequestId, Timestamp, WorkerId};
use tempfile::TempDir;

use crate::{Command, Effect, Location, Mount, Namespace, Observed, ObservedKind, Outcome, Refusal, Reply, Snapshot};

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

fn entry(parent: InodeId, text: &str, old: Option<InodeId>) -> Effect {
    Effect::Entry { parent, name: name(text), old }
}

#[test]
fn the_cluster_is_named_once() {
    let mut bed = Bed::new();
    assert_eq!(bed.snapshot().cluster().expect("reads"), None);
    assert_eq!(bed.apply(&Command::SetCluster { cluster: 5 }).reply, Reply::Cluster(5));
    assert_eq!(bed.apply(&Command::SetCluster { cluster: 6 }).reply, Reply::Cluster(5));
    bed.reopen();
    assert_eq!(bed.snapshot().cluster().expect("reads"), Some(5));
}

#[test]
fn terms_grow_and_workers_keep_their_ids_across_restarts() {
    let mut bed = Bed::new();
    assert_eq!(bed.apply(&Command::BeginTerm).reply, Reply::Term(1));
    let register = |uuid: &str| Command::RegisterWorker { uuid: uuid.to_owned() };
    assert_eq!(bed.apply(&register("a")).reply, Reply::Worker(WorkerId(1)));
    assert_eq!(bed.apply(&register("b")).reply, Reply::Worker(WorkerId(2)));
    bed.reopen();
    assert_eq!(bed.apply(&Command::BeginTerm).reply, Reply::Term(2));
    assert_eq!(bed.apply(&register("b")).reply, Reply::Worker(WorkerId(2)));
    assert_eq!(bed.apply(&Command::Noop), Outcome { reply: Reply::Done, effects: vec![] });
}

#[test]
fn what_the_store_holds_appears_with_the_mounts_owner_and_modes() {
    let mut bed = Bed::mounted();
    let effects = bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    assert_eq!(effects, [entry(ROOT, "d", None), entry(ROOT, "f", None)]);

    let snapshot = bed.snapshot();
    let f = snapshot.lookup(ROOT, &name("f")).expect("reads").expect("is there");
    assert_eq!((f.kind, f.mode, f.uid, f.gid, f.nlink), (FileKind::File, 0o640, 7, 8, 1));
    assert_eq!((f.size, f.mtime, f.version.as_str()), (10, Timestamp(100), "v1"));
    assert_eq!((f.content, f.mount, f.parent), (Some(ContentId(1)), MountId(1), ROOT));
    assert_eq!(snapshot.attr(f.inode).expect("reads"), Some(f));
    let d = snapshot.lookup(ROOT, &name("d")).expect("reads").expect("is there");
    assert_eq!((d.kind, d.mode, d.nlink, d.content, d.mtime), (FileKind::Directory, 0o750, 2, None, Timestamp(50)));
    let counts = snapshot.counts().expect("reads");
    assert_eq!((counts.inodes, counts.file_bytes), (3, 10));
    assert_eq!(snapshot.lookup(ROOT, &name("x")).expect("reads"), None);
}

#[test]
fn seeing_the_same_again_changes_nothing() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    let before = (bed.id("/d"), bed.id("/f"), bed.snapshot().attr(ROOT).expect("reads"));
    assert_eq!(bed.upsert(ROOT, &[dir("d"), file("f", 1)]), []);
    assert_eq!((bed.id("/d"), bed.id("/f"), bed.snapshot().attr(ROOT).expect("reads")), before);
}

#[test]
fn a_new_time_of_the_same_content_keeps_the_inode() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let id = bed.id("/f");
    assert_eq!(bed.upsert(ROOT, &[file_at("f", 1, 200)]), [entry(ROOT, "f", None)]);
    let attr = bed.snapshot().attr(id).expect("reads").expect("is there");
    assert_eq!((attr.mtime, attr.ctime), (Timestamp(200), Timestamp(200)));
}

#[test]
fn another_content_is_another_inode() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let old = bed.id("/f");
    assert_eq!(bed.upsert(ROOT, &[file("f", 2)]), [entry(ROOT, "f", Some(old))]);
    assert!(bed.id("/f") > old);
    assert_eq!(bed.snapshot().attr(old).expect("reads"), None);
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 2);
}

#[test]
fn a_directory_replaces_a_file_and_the_reverse() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("x", 1)]);
    let old = bed.id("/x");
    assert_eq!(bed.upsert(ROOT, &[dir("x")]), [entry(ROOT, "x", Some(old))]);
    let directory = bed.id("/x");
    bed.upsert(directory, &[file("below", 2)]);
    let below = bed.id("/x/below");
    assert_eq!(bed.upsert(ROOT, &[file("x", 1)]), [entry(ROOT, "x", Some(directory))]);
    assert_eq!(bed.find("/x/below"), None);
    assert_eq!(bed.snapshot().attr(below).expect("reads"), None);
}

#[test]
fn entries_are_listed_in_order_from_after_a_name() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("b", 1), dir("a"), file("a.txt", 2), file("c", 3)]);
    assert_eq!(bed.names(ROOT), ["a", "a.txt", "b", "c"]);
    let list = |after: &str, limit| {
        let list = bed.snapshot().list(ROOT, Some(&name(after)), limit).expect("lists");
        list.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("a", 2), ["a.txt", "b"]);
    assert_eq!(list("a.", 1), ["a.txt"]);
    assert_eq!(list("c", 9), [""; 0]);
}

#[test]
fn only_what_was_seen_missing_is_forgotten() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d"), file("f", 1), file("g", 2)]);
    let (d, f, g) = (bed.id("/d"), bed.id("/f"), bed.id("/g"));
    bed.upsert(d, &[file("below", 3)]);
    let below = bed.id("/d/below");
    bed.upsert(ROOT, &[file("g", 4)]);
    let forget =
        Command::Forget { dir: ROOT, entries: vec![(name("d"), d), (name("f"), f), (name("g"), g), (name("x"), d)] };
    assert_eq!(bed.effects(&forget), [entry(ROOT, "d", Some(d)), entry(ROOT, "f", Some(f))]);
    assert_eq!(bed.names(ROOT), ["g"]);
    let snapshot = bed.snapshot();
    assert_eq!(snapshot.attr(below).expect("reads"), None);
    assert_eq!(snapshot.path(below).expect("reads"), None);
    assert_eq!(snapshot.location(below).expect("reads"), None);
}

#[test]
fn what_lies_below_a_removed_directory_is_gone_at_once_and_swept_later() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    let many: Vec<_> = (0..100).map(|n| file(&format!("f{n}"), n)).chain([dir("e")]).collect();
    bed.upsert(d, &many);
    let e = bed.id("/d/e");
    bed.upsert(e, &[file("deep", 7)]);
    let deep = bed.id("/d/e/deep");

    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] });
    let snapshot = bed.snapshot();
    assert!(snapshot.has_remains());
    assert!(snapshot.counts().expect("reads").inodes > 1, "the rows below are left to later commands");
    for gone in [d, e, deep] {
        assert_eq!(snapshot.attr(gone).expect("reads"), None);
        assert_eq!(snapshot.listed(gone).expect("reads"), None);
        assert_eq!(snapshot.list(gone, None, 9).expect("reads"), []);
    }
    assert_eq!(snapshot.lookup(e, &name("deep")).expect("reads"), None);
    assert_eq!(bed.upsert(e, &[file("late", 8)]), [], "a directory that is gone takes no entries");

    bed.reopen();
    assert!(bed.snapshot().has_remains());
    assert_eq!(bed.effects(&Command::Sweep), []);
    assert!(!bed.snapshot().has_remains());
    let counts = bed.snapshot().counts().expect("reads");
    assert_eq!((counts.inodes, counts.file_bytes), (1, 0));
}

#[test]
fn a_listing_is_remembered_with_what_it_skipped() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    assert_eq!(bed.snapshot().listed(d).expect("reads"), None);
    bed.upsert(d, &[file("f", 1)]);
    assert_eq!(bed.effects(&Command::MarkListed { dir: d, at: Timestamp(60), skipped: 3 }), []);
    bed.reopen();
    let listed = bed.snapshot().listed(d).expect("reads").expect("was listed");
    assert_eq!((listed.at, listed.entries, listed.skipped), (Timestamp(60), 1, 3));

    bed.upsert(ROOT, &[file("d", 1)]);
    bed.upsert(ROOT, &[dir("d")]);
    assert_eq!(bed.snapshot().listed(bed.id("/d")).expect("reads"), None, "a new directory was never listed");
}

#[test]
fn loading_a_directory_leaves_its_time_and_a_later_change_moves_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    let mut see = |content, at| {
        bed.effects(&Command::Upsert { dir: d, entries: vec![file("f", content)], at: Timestamp(at) });
        let time = bed.snapshot().attr(d).expect("reads").expect("is there").mtime;
        bed.effects(&Command::MarkListed { dir: d, at: Timestamp(at), skipped: 0 });
        time
    };
    assert_eq!(see(1, 60), Timestamp(50));
    assert_eq!(see(1, 70), Timestamp(50));
    assert_eq!(see(2, 80), Timestamp(80));
}

#[test]
fn a_mount_makes_the_directories_above_it_and_takes_them_along() {
    let mut bed = Bed::new();
    let outcome = bed.mount("/a/b/c");
    let (a, b, c) = (bed.id("/a"), bed.id("/a/b"), bed.id("/a/b/c"));
    let mount = Mount { id: MountId(1), ..described("/a/b/c") };
    assert_eq!(outcome.reply, Reply::Mount(mount.clone()));
    assert_eq!(outcome.effects, [entry(ROOT, "a", None), entry(a, "b", None), entry(b, "c", None), Effect::Mounts]);
    let snapshot = bed.snapshot();
    assert_eq!(snapshot.mounts().expect("reads"), [mount]);
    assert_eq!(snapshot.mount_root(MountId(1)).expect("reads"), Some(c));
    assert_eq!(snapshot.location(a).expect("reads"), None);
    let bare = snapshot.attr(a).expect("reads").expect("is there");
    assert_eq!((bare.mount, bare.mode, bare.uid), (MountId(0), 0o755, 0));
    assert_eq!(bed.upsert(a, &[file("x", 1)]), [], "nothing is seen outside mounts");

    bed.mount("/a/d");
    let outcome = bed.unmount("/a/b/c");
    assert_eq!(outcome.reply, Reply::Done);
    assert_eq!(outcome.effects, [entry(b, "c", Some(c)), entry(a, "b", Some(b)), Effect::Mounts]);
    assert_eq!(bed.names(ROOT), ["a"]);
    assert_eq!(bed.names(a), ["d"]);
    bed.unmount("/a/d");
    assert_eq!(bed.names(ROOT), [""; 0]);
    assert_eq!(bed.snapshot().mounts().expect("reads"), []);
}

#[test]
fn mounts_are_refused_where_they_cannot_be() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    bed.mount("/m");
    let refused = |refusal| Outcome { reply: Reply::Refused(refusal), effects: vec![] };
    assert_eq!(bed.mount("/m"), refused(Refusal::MountExists(path("/m"))));
    assert_eq!(bed.mount("/f"), refused(Refusal::NotADirectory(path("/f"))));
    assert_eq!(bed.mount("/f/x/y"), refused(Refusal::NotADirectory(path("/f"))));
    assert_eq!(bed.unmount("/"), refused(Refusal::MountsBelow(path("/"), path("/m"))));
    assert_eq!(bed.unmount("/x"), refused(Refusal::NoMount(path("/x"))));
    assert_eq!(bed.snapshot().mounts().expect("reads").len(), 2);
}

#[test]
fn a_repeated_request_gets_the_first_answer_also_after_a_restart() {
    let mut bed = Bed::new();
    let first = bed.apply(&add(1, "/m"));
    let remove = Command::RemoveMount { request: RequestId(2), path: path("/m"), now: Timestamp(6) };
    assert_eq!(bed.apply(&remove).reply, Reply::Done);
    let refused = bed.apply(&Command::RemoveMount { request: RequestId(3), path: path("/m"), now: Timestamp(6) });
    bed.reopen();
    assert_eq!(bed.apply(&add(1, "/m")), Outcome { reply: first.reply, effects: vec![] });
    assert_eq!(bed.apply(&remove), Outcome { reply: Reply::Done, effects: vec![] });
    bed.mount("/m");
    assert_eq!(
        bed.apply(&Command::RemoveMount { request: RequestId(3), path: path("/m"), now: Timestamp(6) }),
        refused
    );
    assert_eq!(bed.names(ROOT), ["m"]);
}

#[test]
fn the_oldest_requests_are_forgotten() {
    let mut bed = Bed::new();
    bed.apply(&add(1, "/m"));
    let remove = Command::RemoveMount { request: RequestId(2), path: path("/m"), now: Timestamp(6) };
    bed.apply(&remove);
    let noise = |n| Command::RemoveMount { request: RequestId(n), path: path("/none"), now: Timestamp(6) };
    let noise: Vec<_> = (10..10 + 4096).map(noise).collect();
    bed.index += 1;
    let at = Position { term: 1, index: bed.index };
    bed.namespace().apply(at, &noise.iter().collect::<Vec<_>>()).expect("applies");
    assert_eq!(bed.apply(&remove).reply, Reply::Refused(Refusal::NoMount(path("/m"))));
}

#[test]
fn a_mount_point_hides_what_the_store_around_it_has_there() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.upsert(d, &[file("hidden", 1), dir("m")]);
    bed.effects(&Command::MarkListed { dir: d, at: Timestamp(60), skipped: 0 });
    let old = bed.id("/d/m");
    bed.upsert(old, &[file("below", 2)]);

    let outcome = bed.mount("/d/m");
    let root = bed.id("/d/m");
    assert_eq!(outcome.effects, [entry(d, "m", Some(old)), Effect::Mounts]);
    assert_eq!(bed.names(root), [""; 0]);
    assert_eq!(bed.snapshot().location(root).expect("reads"), Some(Location { mount: MountId(2), names: vec![] }));
    assert_eq!(
        bed.snapshot().location(d).expect("reads"),
        Some(Location { mount: MountId(1), names: vec![name("d")] })
    );

    assert_eq!(bed.upsert(d, &[file("m", 9)]), [], "a file of that name in the store around is hidden");
    assert_eq!(bed.upsert(ROOT, &[file("d", 9)]), [], "so is one in the way of the mount point");
    assert_eq!(bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] }), []);
    assert_eq!(bed.effects(&Command::Forget { dir: d, entries: vec![(name("m"), root)] }), []);
    assert_eq!(bed.id("/d/m"), root);

    bed.upsert(root, &[file("f", 3)]);
    let f = bed.id("/d/m/f");
    assert_eq!(bed.snapshot().path(f).expect("reads"), Some(path("/d/m/f")));
    assert_eq!(
        bed.snapshot().location(f).expect("reads"),
        Some(Location { mount: MountId(2), names: vec![name("f")] })
    );

    bed.upsert(ROOT, &[dir("d")]);
    let outcome = bed.unmount("/d/m");
    assert_eq!(outcome.effects, [entry(d, "m", Some(root)), Effect::Mounts]);
    assert_eq!(bed.snapshot().attr(f).expect("reads"), None);
    assert_eq!(bed.names(d), ["hidden"]);
    assert_eq!(bed.snapshot().listed(d).expect("reads"), None, "what the mount hid is to be listed");
}

#[test]
fn a_directory_that_only_a_mount_kept_goes_with_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.mount("/d/m");
    let root = bed.id("/d/m");
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] });
    assert_eq!(bed.unmount("/d/m").effects, [entry(d, "m", Some(root)), entry(ROOT, "d", Some(d)), Effect::Mounts]);
    assert_eq!(bed.find("/d"), None);
}

#[test]
fn a_mount_around_others_keeps_them_and_drops_the_rest() {
    let mut bed = Bed::mounted();
    bed.mount("/a/b/c");
    let (a, b, c) = (bed.id("/a"), bed.id("/a/b"), bed.id("/a/b/c"));
    bed.upsert(b, &[file("old", 1)]);
    bed.upsert(c, &[file("f", 2)]);
    let f = bed.id("/a/b/c/f");

    let outcome = bed.mount("/a");
    let (new_a, new_b) = (bed.id("/a"), bed.id("/a/b"));
    assert_eq!(
        outcome.effects,
        [entry(ROOT, "a", Some(a)), entry(new_a, "b", Some(b)), entry(new_b, "c", None), Effect::Mounts]
    );
    assert_eq!((bed.id("/a/b/c"), bed.id("/a/b/c/f")), (c, f));
    assert_eq!(bed.names(new_b), ["c"]);
    let snapshot = bed.snapshot();
    assert_eq!(snapshot.path(f).expect("reads"), Some(path("/a/b/c/f")));
    assert_eq!(snapshot.location(new_b).expect("reads"), Some(Location { mount: MountId(3), names: vec![name("b")] }));
    assert_eq!(snapshot.attr(b).expect("reads"), None);
    bed.effects(&Command::Sweep);
    let counts = bed.snapshot().counts().expect("reads");
    assert_eq!((counts.inodes, counts.file_bytes), (5, 10), "the root, a, b, c and f");
}

#[test]
fn a_mount_at_the_root_takes_in_what_is_there_and_goes_in_one_step() {
    let mut bed = Bed::new();
    bed.mount("/a/m");
    let a = bed.id("/a");
    assert_eq!(bed.mount("/").effects, [Effect::Mounts]);
    assert_eq!(bed.id("/a"), a);
    bed.unmount("/a/m");
    bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    bed.effects(&Command::MarkListed { dir: ROOT, at: Timestamp(60), skipped: 0 });
    let (d, f) = (bed.id("/d"), bed.id("/f"));
    bed.upsert(d, &[file("g", 1)]);
    let g = bed.id("/d/g");

    assert_eq!(bed.unmount("/").effects, [Effect::Mounts]);
    let snapshot = bed.snapshot();
    assert_eq!(bed.names(ROOT), [""; 0]);
    assert_eq!(snapshot.listed(ROOT).expect("reads"), None);
    for gone in [d, f, g] {
        assert_eq!(snapshot.attr(gone).expect("reads"), None);
    }
    bed.mount("/");
    bed.upsert(ROOT, &[file("f", 1)]);
    assert_eq!(bed.names(ROOT), ["f"]);
    let attr = bed.snapshot().lookup(ROOT, &name("f")).expect("reads").expect("is there");
    assert_eq!(attr.parent, ROOT);
    bed.effects(&Command::Sweep);
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 2);
    assert_eq!(bed.names(ROOT), ["f"]);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let before = bed.snapshot();
    let f = bed.id("/f");
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("f"), f)] });
    assert!(before.attr(f).expect("reads").is_some());
    assert_eq!(bed.snapshot().attr(f).expect("reads"), None);
}
