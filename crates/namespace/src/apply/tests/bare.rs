//! Directories of which the under store has nothing yet, and trees that are released.

use headpond_types::InodeId;

use super::{
    Bed, ROOT,
    changes::{NOW, OWNER},
    dir, entry, file, name,
};
use crate::{Command, Dirty, Due, Owner, Reply};

impl Bed {
    fn make_bare(&mut self, parent: InodeId, text: &str, due: Due) -> InodeId {
        let (request, owner) = (self.request(), Owner { mode: 0o750, ..OWNER });
        let command = Command::MakeDirectory { request, parent, name: name(text), owner, dirty: Some(due), now: NOW };
        let outcome = self.apply(&command);
        let Reply::Inode(inode) = outcome.reply else { panic!("{outcome:?}") };
        assert_eq!(outcome.effects, [entry(parent, text, None)]);
        inode
    }

    fn end_marker(&mut self, inode: InodeId, key: &str) {
        let number = self.dirty(inode).number;
        assert_eq!(
            self.effects(&Command::EndPersist { inode, number, key: key.as_bytes().to_vec(), version: None }),
            []
        );
    }
}

#[test]
fn a_directory_is_bare_until_it_has_its_marker() {
    let mut bed = Bed::mounted();
    let d = bed.make_bare(ROOT, "d", Due::Now);
    let dirty = bed.dirty(d);
    assert!(dirty.is_bare() && dirty.marker && dirty.number > d.0 && !bed.attr(d).dirty);
    assert_eq!(bed.snapshot().listed(d).expect("reads").map(|listed| listed.entries), Some(0));
    assert_eq!(
        bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] }),
        [],
        "the store has it not yet"
    );
    assert_eq!(bed.try_rename((ROOT, "d"), (ROOT, "e")).reply, Reply::Renamed(None));
    assert_eq!((bed.key(d), bed.relocations()), ("e".to_owned(), vec![]));
    bed.begin(d, dirty.number, "d", None);
    assert!(bed.dirty(d).is_bare(), "the rename came first");
    bed.end_marker(d, "d");
    assert!(bed.is_dirty(d), "that was its old name");
    bed.begin(d, dirty.number, "e", None);
    assert!(!bed.dirty(d).is_bare());
    bed.end_marker(d, "e");
    assert!(!bed.is_dirty(d));
    bed.rename((ROOT, "e"), (ROOT, "f"));
}

#[test]
fn what_is_begun_below_ends_that_all_above_are_bare() {
    let mut bed = Bed::mounted();
    let a = bed.make_bare(ROOT, "a", Due::Now);
    let b = bed.make_bare(a, "b", Due::Now);
    let other = bed.make_bare(a, "other", Due::Now);
    let f = bed.made_dirty(b, "f", 5, Due::Now);
    assert!(bed.dirty(a).is_bare() && bed.dirty(b).is_bare());
    let number = bed.begun(f, "a/b/f");
    assert!(!bed.dirty(a).is_bare() && !bed.dirty(b).is_bare() && bed.dirty(other).is_bare());
    assert_eq!(bed.dirty(a).key, None, "its marker was not begun");
    bed.end_persist(f, number, "a/b/f", 5);
    assert!(!bed.is_dirty(a) && !bed.is_dirty(b), "they need none");
    assert!(bed.snapshot().holds_unstored(a).expect("reads"), "the other is missing still");
    assert!(!bed.snapshot().holds_unstored(b).expect("reads"));
    bed.begin(other, bed.dirty(other).number, "a/other", None);
    bed.end_marker(other, "a/other");
    assert!(!bed.snapshot().holds_unstored(a).expect("reads"));
}

#[test]
fn a_marker_that_is_being_put_comes_to_its_own_end() {
    let mut bed = Bed::mounted();
    let a = bed.make_bare(ROOT, "a", Due::Now);
    bed.begin(a, bed.dirty(a).number, "a", None);
    let f = bed.create(a, "f");
    bed.commit(f, "a/f", 5);
    assert!(bed.is_dirty(a));
    let relocation = bed.rename((ROOT, "a"), (ROOT, "b"));
    bed.end(relocation);
    assert_eq!(bed.relocations().len(), 1, "the marker may come there");
    bed.end_marker(a, "a");
    bed.end(relocation);
    assert_eq!((bed.relocations(), bed.is_dirty(a)), (vec![], false));
}

#[test]
fn all_that_comes_into_a_directory_makes_its_marker_needless() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("x", 1)]);
    let bare = ["a", "b", "c", "d"].map(|text| bed.make_bare(ROOT, text, Due::Now));
    let f = bed.create(bare[0], "f");
    bed.commit(f, "a/f", 5);
    bed.upsert(bare[1], &[dir("seen")]);
    bed.make_directory(bare[2], "made");
    bed.rename((ROOT, "x"), (bare[3], "x"));
    assert_eq!(bare.map(|dir| bed.is_dirty(dir)), [false, false, false, true]);
    assert!(bed.dirty(bare[3]).marker && !bed.dirty(bare[3]).is_bare(), "it is on its way");
}

#[test]
fn a_removed_bare_directory_leaves_nothing() {
    let mut bed = Bed::mounted();
    let a = bed.make_bare(ROOT, "a", Due::Now);
    let b = bed.make_bare(a, "b", Due::Now);
    bed.remove(a, "b", b);
    bed.remove(ROOT, "a", a);
    assert_eq!((bed.all_dirty(), bed.names(ROOT)), (vec![], vec![]));
    assert!(bed.namespace().rows().iter().all(|(key, _)| key.as_slice() != a.0.to_be_bytes()));
}

#[test]
fn a_bare_directory_leaves_the_marker_of_what_it_replaces() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let new = bed.make_bare(ROOT, "new", Due::Now);
    assert_eq!(bed.try_rename((ROOT, "new"), (ROOT, "d")).reply, Reply::Renamed(None));
    let left = bed.orphan("d/").expect("is left");
    assert!(left.number > bed.dirty(new).number && bed.dirty(new).is_bare());
    bed.begin(new, bed.dirty(new).number, "d", None);
    assert_eq!(bed.orphan("d/"), None, "it has one there by now");
}

#[test]
fn a_marker_that_is_dropped_is_not_missed() {
    let mut bed = Bed::mounted();
    let a = bed.make_bare(ROOT, "a", Due::Now);
    let number = bed.dirty(a).number;
    assert_eq!(bed.effects(&Command::DropDirty { inode: a, number }), []);
    assert!(!bed.is_dirty(a) && !bed.is_gone(a));
}

#[test]
fn a_released_directory_is_a_tree_to_its_end() {
    let mut bed = Bed::mounted();
    let tmp = bed.make_bare(ROOT, "_temporary", Due::WhenRenamed);
    let out = bed.make_bare(tmp, "out", Due::WhenRenamed);
    let f = bed.made_dirty(out, "f", 5, Due::WhenRenamed);
    bed.reorder((tmp, "out"), (tmp, "task"), false, false);
    assert_eq!((bed.dirty(out).due, bed.dirty(out).tree), (Due::WhenRenamed, false));
    bed.release((tmp, "task"), (ROOT, "out"), false);
    let tree = bed.dirty(out);
    assert_eq!((tree.due, tree.barrier, tree.tree, tree.marker), (Due::Now, true, true, true));
    assert_eq!((bed.relocations(), bed.key(f)), (vec![], "out/f".to_owned()), "one put and no copy");
    bed.effects(&Command::MakeDue { inodes: vec![(f, false)], number: Some(tree.number) });
    assert_eq!((bed.dirty(f).number, bed.dirty(f).due), (tree.number, Due::Now));
    bed.effects(&Command::EndTree { inode: out, number: tree.number - 1 });
    assert!(bed.dirty(out).tree);
    bed.effects(&Command::EndTree { inode: out, number: tree.number });
    assert_eq!(bed.dirty(out), Dirty { tree: false, ..tree });
    assert_eq!(bed.dirty(tmp).due, Due::WhenRenamed);
}

#[test]
fn a_directory_without_a_row_is_a_tree_when_it_holds_what_waits() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("b")]);
    let (a, b) = (bed.id("/a"), bed.id("/b"));
    let f = bed.made_dirty(a, "f", 5, Due::WhenRenamed);
    bed.release((ROOT, "a"), (ROOT, "c"), false);
    let tree = bed.dirty(a);
    assert!(tree.tree && !tree.marker && tree.barrier);
    assert_eq!(bed.relocations().len(), 1, "the store has it");
    bed.end_marker(a, "a");
    assert_eq!(bed.dirty(a), tree, "no marker is missing");
    bed.effects(&Command::EndTree { inode: a, number: tree.number });
    assert!(!bed.is_dirty(a) && bed.is_dirty(f));
    bed.release((ROOT, "b"), (ROOT, "d"), false);
    assert!(!bed.is_dirty(b), "nothing is below");
}
