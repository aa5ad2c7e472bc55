//! Renames and removals of what is dirty: where it is put, and what is left behind.

use headpond_types::InodeId;

use super::{Bed, ROOT, dirty::contents, file, name};
use crate::{Command, Due, Reply};

#[test]
fn what_has_no_object_moves_without_a_relocation() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let number = bed.dirty(f).number;
    assert_eq!(bed.try_rename((ROOT, "f"), (d, "g")).reply, Reply::Renamed(None));
    assert_eq!((bed.key(f), bed.relocations(), bed.masks(ROOT, "f")), ("d/g".to_owned(), vec![], false));
    bed.begin(f, number, "f", Some(5));
    assert_eq!(bed.dirty(f).key, None, "the rename came first");
    bed.begun(f, "d/g");
    assert_eq!(bed.end_persist(f, number, "d/g", 5).len(), 1);
    assert_eq!((bed.key(f), bed.relocations()), ("d/g".to_owned(), vec![]));
    assert!(!bed.snapshot().holds_unstored(d).expect("reads"));
}

#[test]
fn what_was_begun_is_put_there_and_moved_then() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let number = bed.begun(f, "f");
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    assert_eq!((bed.key(f), bed.relocation_of(f)), ("f".to_owned(), Some(relocation)));
    assert!(bed.masks(ROOT, "f"));
    assert_eq!(bed.snapshot().begun_elsewhere(f).expect("reads"), [bed.dirty(f)]);
    bed.end(relocation);
    assert_eq!(bed.relocation_of(f), Some(relocation), "it waits for what is being put");
    bed.end_persist(f, number, "f", 5);
    assert_eq!((bed.key(f), bed.relocations().len()), ("f".to_owned(), 1), "the one under way moves it");
    bed.moved(relocation, f, "v5", "g", "v5");
    bed.end(relocation);
    assert_eq!((bed.key(f), bed.relocations(), bed.attr(f).version), ("g".to_owned(), vec![], "v5".to_owned()));
}

#[test]
fn a_directory_moves_with_what_is_being_put_below() {
    let mut bed = Bed::mounted();
    let a = bed.make_directory(ROOT, "a");
    let (f, g) = (bed.made_dirty(a, "f", 5, Due::Now), bed.made_dirty(a, "g", 6, Due::Now));
    let (first, second) = (bed.begun(f, "a/f"), bed.dirty(g).number);
    let relocation = bed.rename((ROOT, "a"), (ROOT, "b"));
    assert!(bed.relocations()[0].barrier);
    assert_eq!((bed.key(f), bed.key(g)), ("a/f".to_owned(), "b/g".to_owned()));
    bed.begun(g, "b/g");
    bed.end_persist(g, second, "b/g", 6);
    assert_eq!(bed.key(g), "b/g");
    bed.end(relocation);
    assert_eq!(bed.relocations().len(), 1);
    bed.end_persist(f, first, "a/f", 5);
    assert_eq!((bed.key(f), bed.relocation_of(f)), ("a/f".to_owned(), Some(relocation)));
    bed.moved(relocation, f, "v5", "b/f", "v5");
    bed.end(relocation);
    assert_eq!((bed.key(f), bed.key(g), bed.relocations()), ("b/f".to_owned(), "b/g".to_owned(), vec![]));
}

#[test]
fn what_is_being_put_is_not_taken_for_moved() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    let number = bed.commit_dirty(f, 5, Due::Now);
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    bed.begun(f, "f");
    assert_eq!(bed.moved(relocation, f, "v1", "g", "v1").reply, Reply::Moved(vec![f]));
    bed.end_persist(f, number, "f", 5);
    assert_eq!(bed.moved(relocation, f, "v5", "g", "v5").reply, Reply::Moved(vec![]));
    let number = bed.commit_dirty(f, 6, Due::Now);
    bed.end(relocation);
    bed.begun(f, "g");
    bed.end_persist(f, number, "g", 6);
    assert_eq!((bed.attr(f).version, bed.relocations()), ("v6".to_owned(), vec![]));
}

#[test]
fn a_dirty_file_moves_its_old_version_meanwhile() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    bed.commit_dirty(f, 5, Due::Now);
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    assert_eq!(bed.moved(relocation, f, "v1", "g", "v1").reply, Reply::Moved(vec![]));
    bed.end(relocation);
    assert_eq!((bed.key(f), bed.attr(f).size, bed.attr(f).dirty), ("g".to_owned(), 5, true));
}

#[test]
fn an_end_elsewhere_begins_to_move_it() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let number = bed.dirty(f).number;
    bed.end_persist(f, number, "x", 5);
    assert_eq!(bed.key(f), "x");
    assert!(bed.relocation_of(f).is_some());
}

#[test]
fn what_waits_for_nothing_keeps_no_relocation_waiting() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    bed.begun(f, "f");
    bed.commit_dirty(f, 6, Due::Never);
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    bed.end(relocation);
    assert_eq!((bed.relocations(), bed.dirty(f).key, bed.key(f)), (vec![], None, "g".to_owned()));
    assert_eq!(bed.orphan("f").expect("is to be deleted").put, contents(&[5]));
}

#[test]
fn a_dirty_file_takes_the_place_of_an_object() {
    let mut bed = Bed::mounted();
    let old = bed.written(ROOT, "f", "f", 1);
    let new = bed.made_dirty(ROOT, "tmp", 5, Due::Now);
    assert_eq!(bed.try_rename((ROOT, "tmp"), (ROOT, "f")).reply, Reply::Renamed(None));
    assert!(bed.is_gone(old));
    let dirty = bed.dirty(new);
    assert_eq!((dirty.key, dirty.replaces), (Some(b"f".to_vec()), Some("v1".to_owned())));
    assert_eq!((bed.attr(new).version.as_str(), bed.all_dirty().len()), ("", 1));
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    assert_eq!((bed.key(new), bed.relocations()[0].id), ("f".to_owned(), relocation), "the object is still its own");
    let number = bed.begun(new, "f");
    bed.commit_dirty(new, 6, Due::Now);
    assert_eq!(bed.dirty(new).replaces, Some("v1".to_owned()), "it may be there still");
    bed.begun(new, "f");
    bed.end_persist(new, number, "f", 5);
    assert_eq!((bed.relocation_of(new), bed.dirty(new).replaces), (Some(relocation), None));
}

#[test]
fn a_dirty_file_takes_the_place_of_one_that_was_begun() {
    let mut bed = Bed::mounted();
    let old = bed.written(ROOT, "f", "f", 1);
    bed.commit_dirty(old, 2, Due::Now);
    bed.begun(old, "f");
    let new = bed.made_dirty(ROOT, "tmp", 5, Due::WhenRenamed);
    bed.release((ROOT, "tmp"), (ROOT, "f"), false);
    let dirty = bed.dirty(new);
    assert_eq!((dirty.key, dirty.replaces, dirty.put), (Some(b"f".to_vec()), Some("v1".to_owned()), contents(&[2])));
    assert_eq!((dirty.due, bed.orphan("f"), bed.all_dirty().len()), (Due::Now, None, 1));
}

#[test]
fn what_is_not_to_be_persisted_takes_no_place() {
    let mut bed = Bed::mounted();
    bed.written(ROOT, "f", "f", 1);
    let new = bed.made_dirty(ROOT, "tmp", 5, Due::Never);
    bed.try_rename((ROOT, "tmp"), (ROOT, "f"));
    assert_eq!((bed.dirty(new).key, bed.dirty(new).replaces), (None, None));
    let orphan = bed.orphan("f").expect("is to be deleted");
    assert_eq!((orphan.replaces.as_deref(), orphan.due, orphan.is_orphan()), (Some("v1"), Due::Now, true));
}

#[test]
fn an_object_elsewhere_is_not_in_the_place_that_is_taken() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    bed.commit(f, "elsewhere", 1);
    bed.end(bed.relocation_of(f).expect("has begun"));
    let new = bed.made_dirty(ROOT, "tmp", 5, Due::Now);
    bed.try_rename((ROOT, "tmp"), (ROOT, "f"));
    assert_eq!((bed.dirty(new).key, bed.dirty(new).replaces), (None, None));
    assert_eq!(bed.orphan("elsewhere").expect("is to be deleted").replaces, Some("v1".to_owned()));
}

#[test]
fn an_object_that_nobody_has_is_passed_over_until_it_is_deleted() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.made_dirty(d, "f", 5, Due::Now);
    let number = bed.begun(f, "d/f");
    bed.remove(d, "f", f);
    assert!(bed.is_gone(f) && !bed.is_dirty(f));
    assert_eq!(bed.end_persist(f, number, "d/f", 5), [], "it comes too late");
    let orphan = bed.orphan("d/f").expect("is to be deleted");
    assert_eq!((orphan.put.clone(), bed.all_dirty()), (contents(&[5]), vec![orphan.clone()]));
    assert_eq!(bed.upsert(d, &[file("f", 5)]), []);
    bed.reopen();
    bed.create(d, "f");
    bed.remove(d, "f", bed.id("/d/f"));
    let end = |number| Command::EndPersist { inode: orphan.inode, number, key: b"d/f".to_vec(), version: None };
    bed.effects(&end(orphan.number + 1));
    assert!(bed.orphan("d/f").is_some(), "another number");
    bed.effects(&end(orphan.number));
    assert_eq!((bed.all_dirty(), bed.orphan("d/f")), (vec![], None));
    assert_eq!(bed.upsert(d, &[file("f", 6)]).len(), 1);
}

#[test]
fn an_object_that_nobody_has_is_replaced_by_what_comes_there() {
    let mut bed = Bed::mounted();
    for content in [5, 6] {
        let f = bed.made_dirty(ROOT, "f", content, Due::Now);
        bed.begun(f, "f");
        bed.remove(ROOT, "f", f);
    }
    let orphan = bed.orphan("f").expect("is to be deleted");
    assert_eq!((orphan.put, bed.all_dirty().len()), (contents(&[5, 6]), 1), "one of a key");
    let f = bed.made_dirty(ROOT, "f", 7, Due::Now);
    let number = bed.begun(f, "f");
    assert_eq!((bed.dirty(f).put, bed.all_dirty().len()), (contents(&[5, 6, 7]), 1));
    bed.remove(ROOT, "f", f);
    let g = bed.create(ROOT, "f");
    bed.commit(g, "f", 8);
    assert_eq!((bed.orphan("f"), number > 0), (None, true), "what is there is the new file's");
}

#[test]
fn what_is_nobodys_twice_is_all_remembered() {
    let mut bed = Bed::mounted();
    bed.written(ROOT, "f", "f", 1);
    let first = bed.made_dirty(ROOT, "tmp", 5, Due::Now);
    bed.try_rename((ROOT, "tmp"), (ROOT, "f"));
    bed.remove(ROOT, "f", first);
    let second = bed.made_dirty(ROOT, "f", 6, Due::Now);
    let number = bed.dirty(second).number;
    for version in [Some("v2".to_owned()), None] {
        bed.effects(&Command::Overwrite { inode: second, number, version });
    }
    bed.remove(ROOT, "f", second);
    assert_eq!((bed.orphan("f").expect("is there").replaces, bed.all_dirty().len()), (Some("v1".to_owned()), 1));
}

#[test]
fn a_removed_file_without_an_object_leaves_nothing() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    bed.remove(ROOT, "f", f);
    let f = bed.written(ROOT, "f", "f", 1);
    bed.commit_dirty(f, 2, Due::Now);
    bed.remove(ROOT, "f", f);
    assert_eq!(bed.all_dirty(), [], "its version is deleted before its name");
}

#[test]
fn a_released_file_is_due_in_a_new_place() {
    let mut bed = Bed::mounted();
    let (f, g) = (bed.made_dirty(ROOT, "f", 5, Due::WhenRenamed), bed.made_dirty(ROOT, "g", 6, Due::Now));
    let s = bed.made_dirty(ROOT, "s", 6, Due::Never);
    assert_eq!(bed.try_rename((ROOT, "f"), (ROOT, "t")).reply, Reply::Renamed(None));
    assert_eq!(bed.dirty(f).due, Due::WhenRenamed, "its new name is a temporary one, too");
    bed.release((ROOT, "t"), (ROOT, "f"), false);
    assert_eq!((bed.dirty(f).due, bed.dirty(f).barrier), (Due::Now, false));
    assert!(bed.dirty(f).number > bed.dirty(s).number);
    let number = bed.dirty(g).number;
    bed.try_rename((ROOT, "g"), (ROOT, "h"));
    assert_eq!((bed.dirty(g).number, bed.dirty(g).barrier), (number, false));
    bed.reorder((ROOT, "h"), (ROOT, "i"), false, true);
    assert!(bed.dirty(g).number > bed.dirty(f).number && bed.dirty(g).barrier);
    let number = bed.dirty(s).number;
    bed.release((ROOT, "s"), (ROOT, "u"), true);
    assert_eq!((bed.dirty(s).due, bed.dirty(s).number), (Due::Never, number), "unless that is asked for");
}

#[test]
fn a_relocation_is_a_barrier_when_its_new_name_is() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), file("g", 2)]);
    bed.reorder((ROOT, "f"), (ROOT, "_SUCCESS"), false, true);
    bed.rename((ROOT, "g"), (ROOT, "h"));
    let barriers: Vec<_> = bed.relocations().iter().map(|relocation| relocation.barrier).collect();
    assert_eq!(barriers, [true, false]);
}

impl Bed {
    pub(super) fn reorder(
        &mut self,
        from: (InodeId, &str),
        to: (InodeId, &str),
        released: bool,
        barrier: bool,
    ) -> Reply {
        let (from, to) = ((from.0, name(from.1)), (to.0, name(to.1)));
        let (request, now) = (self.request(), super::changes::NOW);
        let (no_replace, later, leaves, marker) = (false, false, vec![], None);
        self.apply(&Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now })
            .reply
    }

    /// Renames out of a temporary name.
    pub(super) fn release(&mut self, from: (InodeId, &str), to: (InodeId, &str), barrier: bool) {
        let reply = self.reorder(from, to, true, barrier);
        assert!(matches!(reply, Reply::Renamed(_)), "{reply:?}");
    }
}
