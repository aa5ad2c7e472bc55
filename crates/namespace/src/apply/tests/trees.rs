//! Directories that are removed with all below.

use headpond_types::InodeId;

use super::{Bed, ROOT, changes::NOW, dir, entry, file, name, refused};
use crate::{Command, Due, Left, Outcome, Refusal, Remaining, Reply, Unstored};

impl Bed {
    fn try_remove_tree(&mut self, parent: InodeId, text: &str, inode: InodeId) -> Outcome {
        let request = self.request();
        let (parent, name, leaves) = (parent, name(text), vec![]);
        self.apply(&Command::RemoveTree { request, parent, name, inode, leaves, marker: None, now: NOW })
    }

    /// Answers the relocation that begins or goes on.
    fn remove_tree(&mut self, parent: InodeId, text: &str, inode: InodeId) -> u64 {
        assert_eq!(self.try_remove_tree(parent, text, inode).reply, Reply::Done);
        assert!(self.is_gone(inode));
        let relocations = self.relocations();
        relocations.iter().find(|relocation| relocation.inode == inode).expect("it goes nowhere").id
    }

    /// Files that are still known below a directory that is being removed, by name.
    fn remaining(&self, top: InodeId) -> Vec<(String, String)> {
        let (snapshot, mut open, mut files) = (self.snapshot(), vec![top], vec![]);
        while let Some(at) = open.pop() {
            for (name, remain) in snapshot.remains(at, None, usize::MAX).expect("reads") {
                match remain.what {
                    Remaining::Directory { .. } => open.push(remain.inode),
                    Remaining::File { key, .. } => {
                        files.push((name.to_string(), String::from_utf8(key).expect("text")));
                    }
                    Remaining::Nothing => {}
                }
            }
        }
        files
    }

    /// Rows below what is gone are cleared away; answers how many inodes there are.
    fn all_swept(&mut self) -> u64 {
        while self.snapshot().has_remains() {
            self.effects(&Command::Sweep);
        }
        self.snapshot().counts().expect("reads").inodes
    }
}

#[test]
fn a_tree_goes_in_one_step_and_what_was_known_is_known_to_who_deletes_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    let d = bed.id("/d");
    bed.upsert(d, &[dir("e"), file("g", 2)]);
    let e = bed.id("/d/e");
    bed.upsert(e, &[file("h", 3)]);
    let h = bed.id("/d/e/h");
    let (request, leaves) = (bed.request(), vec![Left { key: b"d/old".to_vec(), version: Some("v".to_owned()) }]);
    let command = Command::RemoveTree {
        request,
        parent: ROOT,
        name: name("d"),
        inode: d,
        leaves,
        marker: Some(Due::Now),
        now: NOW,
    };
    let outcome = bed.apply(&command);
    assert_eq!((outcome.reply, outcome.effects), (Reply::Done, vec![entry(ROOT, "d", Some(d))]));
    assert_eq!(bed.apply(&command), Outcome { reply: Reply::Done, effects: vec![] }, "a repeated request");
    assert!([d, e, h].into_iter().all(|inode| bed.is_gone(inode)));
    assert_eq!((bed.names(ROOT), bed.masks(ROOT, "d")), (vec!["f".to_owned()], true));
    assert_eq!((bed.attr(ROOT).mtime, bed.all_dirty().len()), (NOW, 1));
    bed.reopen();
    let snapshot = bed.snapshot();
    assert_eq!((snapshot.removed_at(d).expect("reads"), snapshot.removed_at(e).expect("reads")), (Some(NOW), None));
    assert!(snapshot.is_being_removed(h).expect("reads") && !snapshot.is_being_removed(ROOT).expect("reads"));
    assert_eq!(snapshot.remaining_prefix(e).expect("reads"), Some((b"d/e/".to_vec(), 2)));
    let known = |name: &str, key: &str| (name.to_owned(), key.to_owned());
    assert_eq!(bed.remaining(d), [known("g", "d/g"), known("h", "d/e/h")]);
    // What the store shows there is passed over, and a new directory begins elsewhere.
    bed.upsert(ROOT, &[dir("d")]);
    bed.upsert(d, &[file("late", 9)]);
    assert_eq!(bed.find("/d"), None);
    let new = bed.make_directory(ROOT, "d");
    assert_eq!(bed.key(new), format!(".headpond/displaced/{new}"));
    bed.effects(&Command::Reap { tree: d, files: vec![(h, "another".to_owned()), (ROOT, "v3".to_owned())] });
    bed.effects(&Command::Reap { tree: new, files: vec![(h, "v3".to_owned())] });
    assert_eq!(bed.remaining(d).len(), 2);
    bed.effects(&Command::Reap { tree: d, files: vec![(h, "v3".to_owned())] });
    assert_eq!(bed.remaining(d), [known("g", "d/g")]);
    let relocation = bed.relocations().into_iter().find(|relocation| relocation.inode == d).expect("is there");
    bed.end(relocation.id);
    assert_eq!((bed.snapshot().removed_at(d).expect("reads"), bed.remaining(d)), (None, vec![]));
    assert_eq!(bed.all_swept(), 3, "the root, a file and the new directory");
}

#[test]
fn what_is_no_directory_or_holds_a_mount_is_refused() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    let (d, f) = (bed.id("/d"), bed.id("/f"));
    assert_eq!(bed.try_remove_tree(ROOT, "f", f), refused(Refusal::NoDirectory(name("f"))));
    assert_eq!(bed.try_remove_tree(ROOT, "d", f), refused(Refusal::Gone(f)));
    bed.mount("/d/e/n");
    let d_again = bed.id("/d");
    assert_eq!(bed.try_remove_tree(ROOT, "d", d_again), refused(Refusal::Fixed(name("d"))));
    assert!(d == d_again && bed.find("/d/e/n").is_some());
}

#[test]
fn what_is_not_stored_as_it_is_goes_at_once() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let stored = bed.written(d, "stored", "d/stored", 5);
    bed.commit_dirty(stored, 6, Due::Now);
    let begun = bed.made_dirty(d, "begun", 7, Due::Now);
    let number = bed.dirty(begun).number;
    bed.begin(begun, number, "d/begun", Some(7));
    let fresh = bed.made_dirty(d, "fresh", 8, Due::WhenRenamed);
    let new = bed.create(d, "new");
    let request = bed.request();
    let owner = super::changes::OWNER;
    let link = Unstored::Symlink(b"x".to_vec());
    bed.apply(&Command::MakeUnstored { request, parent: d, name: name("s"), owner, what: link, now: NOW });
    bed.written(d, "clean", "d/clean", 9);
    let relocation = bed.remove_tree(ROOT, "d", d);
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
    assert!([stored, begun, fresh, new].into_iter().all(|inode| !bed.is_dirty(inode)));
    let mut left: Vec<_> = bed.all_dirty().into_iter().map(|orphan| (orphan.is_orphan(), orphan.key)).collect();
    left.sort();
    assert_eq!(left, [(true, Some(b"d/begun".to_vec())), (true, Some(b"d/stored".to_vec()))]);
    assert!(bed.all_dirty().iter().all(|orphan| orphan.number < relocation), "deleted in their turn");
    assert_eq!(bed.remaining(d), [("clean".to_owned(), "d/clean".to_owned())]);
    bed.end(relocation);
    assert_eq!(bed.all_swept(), 1);
    assert!(!bed.snapshot().holds_unstored(ROOT).expect("reads"));
}

#[test]
fn a_file_lives_on_under_a_name_elsewhere() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let (first, out) = (bed.written(d, "first", "d/first", 5), bed.written(ROOT, "out", "out", 6));
    let settled = bed.linked(first, ROOT, "settled");
    bed.copied(settled, "settled", 5);
    let fresh = bed.written(d, "fresh", "d/fresh", 7);
    bed.linked(fresh, d, "inside");
    bed.linked(fresh, ROOT, "outside");
    bed.linked(out, d, "alias");
    let relocation = bed.remove_tree(ROOT, "d", d);
    assert_eq!((bed.seen("/settled"), bed.seen("/outside")), (Some((first, 1)), Some((fresh, 1))));
    assert_eq!((bed.seen("/out"), bed.attr(out).ctime), (Some((out, 1)), NOW));
    assert_eq!((bed.key(first), bed.key(fresh)), ("settled".to_owned(), "d/fresh".to_owned()));
    let moves = bed.relocation_of(fresh).expect("it goes to its other name");
    assert!(moves < relocation && bed.remaining(d).is_empty());
    bed.end(relocation);
    bed.all_swept();
    assert_eq!(bed.key(fresh), "d/fresh");
}

#[test]
fn what_was_relocated_below_keeps_its_prefix_until_all_is_done() {
    let mut bed = Bed::mounted();
    let (d, e) = (bed.make_directory(ROOT, "d"), bed.make_directory(ROOT, "e"));
    bed.written(e, "f", "e/f", 5);
    let first = bed.rename((ROOT, "e"), (d, "in"));
    let relocation = bed.remove_tree(ROOT, "d", d);
    assert_eq!(bed.remaining(d), [("f".to_owned(), "e/f".to_owned())]);
    let below = bed.relocations().into_iter().find(|relocation| relocation.inode == e).expect("goes on");
    assert!(below.id > first && below.since == below.id && below.places().any(|place| place == b"d/in/"));
    assert!(bed.masks(ROOT, "e"));
    bed.end(below.id);
    assert_eq!(bed.remaining(d), [("f".to_owned(), "e/f".to_owned())], "it is not at an end");
    bed.end(relocation);
    bed.end(below.id);
    assert_eq!((bed.relocations(), bed.all_swept()), (vec![], 1));
}

#[test]
fn a_mount_that_goes_takes_what_is_being_removed_along() {
    let mut bed = Bed::new();
    bed.mount("/m");
    let m = bed.id("/m");
    let d = bed.make_directory(m, "d");
    bed.written(d, "f", "d/f", 5);
    bed.remove_tree(m, "d", d);
    bed.unmount("/m");
    assert_eq!((bed.relocations(), bed.remaining(d), bed.all_swept()), (vec![], vec![], 1));
}
