//! What sync leaves alone: what was done through Headpond and is not yet so in the under store.

use headpond_types::{ContentId, InodeId, MountId, Timestamp};

use super::{Bed, ROOT, dir, discovered, entry, file, file_at, name};
use crate::{Command, Observed, ObservedKind};

impl Bed {
    fn forget(&mut self, dir: InodeId, text: &str) -> Vec<crate::Effect> {
        let inode = self.snapshot().lookup(dir, &name(text)).expect("reads").expect("is there").inode;
        self.effects(&Command::Forget { dir, entries: vec![(name(text), inode)] })
    }
}

#[test]
fn a_file_without_version_is_neither_changed_nor_forgotten() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    let before = bed.attr(f);
    assert_eq!(bed.upsert(ROOT, &[file("f", 9)]), []);
    assert_eq!(bed.upsert(ROOT, &[dir("f")]), []);
    assert_eq!(bed.forget(ROOT, "f"), []);
    assert_eq!(bed.attr(f), before);
    bed.commit(f, "f", 1);
    assert_eq!(bed.forget(ROOT, "f"), [entry(ROOT, "f", Some(f))]);
}

#[test]
fn the_version_that_we_wrote_is_ours() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 10);
    let seen = |version: &str, size, content| {
        let mtime = Timestamp(90);
        let object = ObservedKind::File { size, mtime, version: version.to_owned(), content: ContentId(content) };
        Observed { name: name("f"), object }
    };
    assert_eq!(bed.upsert(ROOT, &[seen("v10", 10, 777)]), [], "the store has a clock of its own");
    let attr = bed.attr(f);
    assert_eq!((attr.content, attr.mtime), (Some(ContentId(10)), Timestamp(80)));
    assert_eq!(bed.upsert(ROOT, &[seen("v10", 11, 777)]), [entry(ROOT, "f", Some(f))], "another size");
    let second = bed.id("/f");
    assert_eq!(bed.upsert(ROOT, &[seen("v11", 11, 778)]), [entry(ROOT, "f", Some(second))], "another version");
}

#[test]
fn a_renamed_file_is_left_alone_until_it_is_where_it_belongs() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), file("g", 2)]);
    let f = bed.id("/f");
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    let before = bed.attr(f);
    assert_eq!(bed.upsert(ROOT, &[file("f", 1), file("g", 2)]), [], "the store before the move");
    assert_eq!(bed.upsert(ROOT, &[dir("g")]), []);
    assert_eq!(bed.forget(ROOT, "g"), []);
    assert_eq!((bed.attr(f), bed.names(ROOT)), (before, vec!["g".to_owned()]));
    bed.moved(relocation, f, "v1", "g", "v1");
    assert_eq!(bed.upsert(ROOT, &[file_at("g", 1, 999)]), [], "the copy is younger, the file is not");
    assert_eq!(bed.upsert(ROOT, &[file("g", 2)]), [], "as a listing saw it that began before the move");
    assert_eq!(bed.upsert(ROOT, &[file("f", 1)]), [], "masked to the end");
    bed.end(relocation);
    assert_eq!(bed.upsert(ROOT, &[file("f", 5)]), [], "what the move left there is nobody's");
    bed.effects(&Command::Leave { mount: MountId(1), objects: vec![], gone: vec![b"f".to_vec()] });
    assert_eq!(bed.upsert(ROOT, &[file("g", 3)]), [entry(ROOT, "g", Some(f))], "changed from outside after the move");
    assert_eq!(bed.upsert(ROOT, &[file("f", 5)]), [discovered(ROOT, "f")]);
}

#[test]
fn what_took_a_masked_name_is_left_alone() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("b")]);
    let (a, b) = (bed.id("/a"), bed.id("/b"));
    bed.upsert(b, &[file("f", 1)]);
    let first = bed.rename((b, "f"), (ROOT, "f"));
    let second = bed.rename((ROOT, "a"), (ROOT, "b"));
    bed.end(second);
    assert!(bed.masks(ROOT, "b"), "f is still there in the store");
    assert_eq!(bed.forget(ROOT, "b"), []);
    assert_eq!(bed.upsert(ROOT, &[file("b", 9)]), []);
    bed.end(first);
    assert_eq!(bed.forget(ROOT, "b"), [entry(ROOT, "b", Some(a))]);
}

#[test]
fn a_directory_that_moves_is_filled_until_it_was_listed_and_then_left_alone() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a")]);
    let a = bed.id("/a");
    bed.upsert(a, &[file("f", 1), dir("sub")]);
    let sub = bed.id("/a/sub");
    let relocation = bed.rename((ROOT, "a"), (ROOT, "c"));
    assert_eq!(bed.upsert(a, &[file("f", 2), file("g", 3)]), [discovered(a, "g")]);
    assert_eq!(bed.forget(a, "g"), []);
    assert_eq!(bed.upsert(a, &[file("sub", 9)]), []);
    bed.effects(&Command::MarkListed { dir: a, at: Timestamp(60), skipped: 0 });
    assert_eq!(bed.upsert(a, &[file("f", 2), file("h", 4), dir("d")]), []);
    assert_eq!(bed.upsert(sub, &[file("deep", 5)]), [discovered(sub, "deep")], "it was never listed");
    assert_eq!(bed.names(a), ["f", "g", "sub"]);
    assert_eq!(bed.attr(bed.id("/c/f")).content, Some(ContentId(1)));
    bed.end(relocation);
    let f = bed.id("/c/f");
    assert_eq!(bed.upsert(a, &[file("f", 2)]), [entry(a, "f", Some(f))]);
}

#[test]
fn a_directory_that_the_store_does_not_show_stays_for_what_is_to_come_there() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("b"), dir("c"), file("f", 1)]);
    let (a, b) = (bed.id("/a"), bed.id("/b"));
    let sub = bed.make_directory(b, "sub");
    bed.create(sub, "new");
    let relocation = bed.rename((ROOT, "f"), (a, "f"));
    for text in ["a", "b"] {
        assert_eq!(bed.forget(ROOT, text), []);
        assert_eq!(bed.upsert(ROOT, &[file(text, 9)]), []);
    }
    let c = bed.id("/c");
    assert_eq!(bed.forget(ROOT, "c"), [entry(ROOT, "c", Some(c))]);
    bed.moved(relocation, bed.id("/a/f"), "v1", "a/f", "v1");
    bed.end(relocation);
    assert_eq!(bed.forget(ROOT, "a"), [entry(ROOT, "a", Some(a))]);
    let moved = bed.rename((ROOT, "b"), (ROOT, "d"));
    assert_eq!(bed.forget(ROOT, "d"), [], "it is on its way itself");
    bed.end(moved);
}

#[test]
fn what_is_forgotten_with_its_directory_awaits_nothing() {
    let mut bed = Bed::mounted();
    bed.mount("/m");
    let m = bed.id("/m");
    let f = bed.create(m, "f");
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), [f]);
    bed.unmount("/m");
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
    bed.effects(&Command::Sweep);
    bed.reopen();
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
    assert!(bed.namespace().rows().iter().all(|(_, row)| !row.is_empty()), "no row says that it awaits a version");
}
