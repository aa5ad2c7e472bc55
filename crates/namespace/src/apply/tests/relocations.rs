//! Relocations: files that have moved, the end, and what is masked until then.

use headpond_types::{ContentId, InodeId, Timestamp};

use super::{Bed, ROOT, dir, entry, file};
use crate::{Command, Due, Outcome, Reply, Version};

/// `/a/f` and `/a/sub/g`, in a directory that is being relocated to `/c`; answers the relocation.
fn relocating() -> (Bed, u64) {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a")]);
    let a = bed.id("/a");
    bed.upsert(a, &[file("f", 1), dir("sub")]);
    bed.upsert(bed.id("/a/sub"), &[file("g", 2)]);
    let relocation = bed.rename((ROOT, "a"), (ROOT, "c"));
    (bed, relocation)
}

fn done(effects: Vec<crate::Effect>) -> Outcome {
    Outcome { reply: Reply::Moved(vec![]), effects }
}

#[test]
fn a_moved_file_has_its_new_key_and_version_and_all_else_as_before() {
    let (mut bed, relocation) = relocating();
    let (c, f) = (bed.id("/c"), bed.id("/c/f"));
    let before = bed.attr(f);
    assert_eq!(bed.moved(relocation, f, "v1", "c/f", "copy"), done(vec![entry(c, "f", None)]));
    let attr = bed.attr(f);
    assert_eq!(bed.key(f), "c/f");
    assert_eq!((attr.version.as_str(), attr.own_mtime), ("copy", true));
    assert_eq!(
        (attr.content, attr.size, attr.mtime, attr.mode),
        (before.content, before.size, before.mtime, before.mode)
    );
    assert_eq!(bed.moved(relocation, f, "v1", "c/f", "copy"), done(vec![]), "noted before");
    assert_eq!(bed.key(bed.id("/c/sub/g")), "a/sub/g");
}

#[test]
fn what_changed_or_went_meanwhile_is_passed_over() {
    let (mut bed, relocation) = relocating();
    let (c, f, sub) = (bed.id("/c"), bed.id("/c/f"), bed.id("/c/sub"));
    let new = bed.create(c, "new");
    bed.upsert(ROOT, &[file("x", 3)]);
    let x = bed.id("/x");
    let passed_over = |inode| Outcome { reply: Reply::Moved(vec![inode]), effects: vec![] };
    assert_eq!(bed.moved(relocation, f, "v0", "c/f", "copy"), passed_over(f), "another version");
    assert_eq!(bed.moved(relocation + 9, f, "v1", "c/f", "copy"), passed_over(f), "another relocation");
    assert_eq!(bed.moved(relocation, x, "v3", "y", "copy"), passed_over(x), "not of this relocation");
    assert_eq!(bed.moved(relocation, new, "", "c/new", "copy"), passed_over(new), "has no version");
    assert_eq!(bed.moved(relocation, sub, "", "c/sub/", "copy"), passed_over(sub), "is no file");
    bed.remove(c, "f", f);
    assert_eq!(bed.moved(relocation, f, "v1", "c/f", "copy"), passed_over(f), "is gone");
}

#[test]
fn the_end_takes_prefix_and_mask_along() {
    let (mut bed, relocation) = relocating();
    let (c, f, g) = (bed.id("/c"), bed.id("/c/f"), bed.id("/c/sub/g"));
    bed.moved(relocation, f, "v1", "c/f", "v1");
    bed.moved(relocation, g, "v2", "c/sub/g", "v2");
    assert!(bed.masks(ROOT, "a"));
    bed.end(relocation);
    assert_eq!((bed.key(c), bed.key(f), bed.key(g)), ("c".to_owned(), "c/f".to_owned(), "c/sub/g".to_owned()));
    assert_eq!((bed.relocations(), bed.relocation_of(f), bed.masks(ROOT, "a")), (vec![], None, false));
    bed.end(relocation);

    // What is spelled out on the rows below is where they would be anyway, and moves on like the rest.
    bed.upsert(ROOT, &[dir("a")]);
    let again = bed.rename((ROOT, "c"), (ROOT, "d"));
    assert_eq!((bed.key(c), bed.key(f), bed.key(g)), ("c".to_owned(), "c/f".to_owned(), "c/sub/g".to_owned()));
    bed.moved(again, f, "v1", "d/f", "v1");
    bed.moved(again, g, "v2", "d/sub/g", "v2");
    bed.end(again);
    assert_eq!((bed.key(f), bed.key(g), bed.relocations()), ("d/f".to_owned(), "d/sub/g".to_owned(), vec![]));
}

#[test]
fn a_renamed_file_is_relocated_alone() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    assert_eq!(bed.moved(relocation, f, "v1", "g", "copy"), done(vec![entry(ROOT, "g", None)]));
    assert_eq!((bed.key(f), bed.relocation_of(f)), ("g".to_owned(), Some(relocation)));
    bed.end(relocation);
    assert_eq!((bed.key(f), bed.relocation_of(f), bed.masks(ROOT, "f")), ("g".to_owned(), None, false));
}

#[test]
fn what_is_made_in_a_directory_that_moves_is_where_its_path_says() {
    let (mut bed, relocation) = relocating();
    let c = bed.id("/c");
    let new = bed.create(c, "new");
    assert_eq!(bed.key(new), "c/new");
    assert_eq!(bed.commit(new, "c/new", 5).reply, Reply::Inode(new));
    assert_eq!((bed.key(new), bed.relocations().len()), ("c/new".to_owned(), 1));
    let f = bed.id("/c/f");
    bed.commit(f, "a/f", 6);
    assert_eq!((bed.key(f), bed.relocations().len()), ("a/f".to_owned(), 1), "what is under way moves it");
    bed.end(relocation);
    assert_eq!(bed.key(new), "c/new");
}

#[test]
fn a_removed_directory_leaves_its_masks_to_the_one_above() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("b")]);
    let (a, b) = (bed.id("/a"), bed.id("/b"));
    let sub = bed.make_directory(a, "sub");
    bed.upsert(sub, &[file("f", 1), file("g", 2)]);
    let first = bed.rename((sub, "f"), (b, "f"));
    let second = bed.rename((sub, "g"), (b, "g"));
    bed.remove(a, "sub", sub);
    assert!(bed.masks(a, "sub") && bed.masks(ROOT, "a"));
    bed.remove(ROOT, "a", a);
    assert!(bed.masks(ROOT, "a"));
    assert_eq!(bed.upsert(ROOT, &[dir("a")]), [], "the objects that are to be moved keep it alive in the store");
    bed.end(first);
    assert!(bed.masks(ROOT, "a"), "of two, one is left");
    bed.end(second);
    assert!(!bed.masks(ROOT, "a"));
    bed.make_directory(ROOT, "a");
}

#[test]
fn what_is_removed_while_it_moves_masks_its_new_name_too() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    bed.remove(ROOT, "g", f);
    assert_eq!(bed.upsert(ROOT, &[file("f", 1), file("g", 1)]), [], "the object, and a copy that was on its way");
    assert_eq!(bed.relocation_of(f), None);
    bed.end(relocation);
    assert!(bed.masks(ROOT, "g"), "it goes on under another id");
    bed.end(bed.relocations()[0].id);
    assert_eq!(bed.upsert(ROOT, &[file("g", 5)]).len(), 1);
}

#[test]
fn relocations_go_with_their_mount() {
    let mut bed = Bed::mounted();
    bed.mount("/m");
    let m = bed.id("/m");
    bed.upsert(ROOT, &[file("x", 1)]);
    bed.upsert(m, &[file("f", 1)]);
    let kept = bed.rename((ROOT, "x"), (ROOT, "y"));
    bed.rename((m, "f"), (m, "g"));
    bed.unmount("/m");
    assert_eq!(bed.relocations().iter().map(|relocation| relocation.id).collect::<Vec<_>>(), [kept]);
    assert!(!bed.masks(m, "f") && bed.masks(ROOT, "x"));
}

#[test]
fn a_directory_that_a_mount_hides_is_relocated_no_more() {
    let (mut bed, relocation) = relocating();
    let f = bed.id("/c/f");
    bed.mount("/c");
    assert_eq!(bed.relocation_of(f), None);
    assert_eq!(bed.relocation_of(bed.id("/c")), None);
    assert_eq!(bed.moved(relocation, f, "v1", "c/f", "v1").reply, Reply::Moved(vec![f]));
    bed.end(relocation);
    assert_eq!((bed.relocations(), bed.names(bed.id("/c"))), (vec![], vec![]));
}

#[test]
fn a_mount_below_a_directory_that_moves_is_no_part_of_it() {
    let (mut bed, _) = relocating();
    bed.mount("/c/m");
    let m = bed.id("/c/m");
    bed.upsert(m, &[file("x", 1)]);
    assert_eq!((bed.relocation_of(m), bed.relocation_of(bed.id("/c/m/x"))), (None, None));
    assert_eq!((bed.key(m), bed.key(bed.id("/c/m/x"))), (String::new(), "x".to_owned()));
    assert_eq!(bed.effects(&Command::MarkListed { dir: m, at: Timestamp(1), skipped: 0 }), []);
    assert_eq!(bed.relocation_of(InodeId(99)), None);
}

#[test]
fn what_is_not_known_yet_of_a_directory_is_found_where_another_was_around_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a")]);
    let a = bed.id("/a");
    bed.upsert(a, &[dir("sub")]);
    let sub = bed.id("/a/sub");
    bed.rename((ROOT, "a"), (ROOT, "b"));
    bed.rename((a, "sub"), (ROOT, "c"));
    assert!(!bed.masks(sub, "f"), "the objects below its prefix are its own");
    bed.upsert(sub, &[file("f", 1)]);
    assert_eq!(bed.key(bed.id("/c/f")), "a/sub/f");
    assert!(bed.masks(ROOT, "a") && bed.masks(a, "sub"));
}

#[test]
fn what_comes_into_a_directory_that_moves_is_not_left_to_its_relocation() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("x")]);
    let (a, x) = (bed.id("/a"), bed.id("/x"));
    bed.upsert(x, &[file("f", 1), dir("d")]);
    let (f, d) = (bed.id("/x/f"), bed.id("/x/d"));
    let away = bed.rename((ROOT, "a"), (ROOT, "b"));
    let onto = bed.rename((ROOT, "x"), (ROOT, "a"));
    bed.moved(onto, f, "v1", "a/f", "v1");
    bed.end(onto);
    // Where they are is what the old prefix of the other implies.
    for (inode, key) in [(f, "f"), (d, "d")] {
        bed.rename((x, key), (a, key));
        assert_eq!(bed.key(inode), format!("a/{key}"));
        assert_ne!(bed.relocation_of(inode), Some(away));
    }
    bed.end(away);
    assert_eq!((bed.key(f), bed.key(d), bed.key(a)), ("a/f".into(), "a/d".into(), "b".into()));
    // Nor does one that comes out of it leave what was moved already behind.
    let again = bed.rename((ROOT, "b"), (ROOT, "c"));
    bed.rename((a, "d"), (x, "d"));
    assert!(bed.relocation_of(d).is_some_and(|of_d| of_d != again));
}

#[test]
fn a_directory_removed_where_one_above_moves_leaves_its_markers_to_be_deleted() {
    let (mut bed, _) = relocating();
    bed.rename((ROOT, "c"), (ROOT, "b"));
    let relocation = bed.rename((ROOT, "b"), (ROOT, "c"));
    let (c, sub, g) = (bed.id("/c"), bed.id("/c/sub"), bed.id("/c/sub/g"));
    bed.remove(sub, "g", g);
    bed.remove(c, "sub", sub);
    let left = bed.relocations().into_iter().find(|left| left.inode == sub).expect("is to be cleared away");
    assert_eq!((left.from, left.also), (b"a/sub/".to_vec(), vec![b"c/sub/".to_vec(), b"b/sub/".to_vec()]));
    bed.end(relocation);
    let again = bed.make_directory(c, "sub");
    assert_eq!(bed.key(again), format!(".headpond/displaced/{again}"));
    bed.end(left.id);
    bed.end(bed.relocation_of(again).expect("is to be moved"));
    assert_eq!((bed.key(again), bed.relocations()), ("c/sub".into(), vec![]));
}

#[test]
fn what_is_in_the_way_may_be_replaced_in_the_version_that_was_decided_last() {
    let (mut bed, relocation) = relocating();
    for version in ["theirs", "newer"] {
        let (key, version) = (b"c/f".to_vec(), version.to_owned());
        assert_eq!(bed.effects(&Command::Replace { relocation, key, version }), []);
    }
    bed.reopen();
    let known = bed.relocations();
    assert_eq!((known.len(), known[0].id), (1, relocation), "it goes on under its id");
    assert_eq!(known[0].replaced, [(b"c/f".to_vec(), "newer".to_owned())]);
    bed.end(relocation);
    bed.effects(&Command::Replace { relocation, key: b"c/f".to_vec(), version: "late".to_owned() });
    assert_eq!(bed.relocations(), []);
}

#[test]
fn a_file_gives_way_to_what_is_where_its_path_says() {
    let (mut bed, relocation) = relocating();
    let (c, f) = (bed.id("/c"), bed.id("/c/f"));
    let give_way = |bed: &mut Bed, from: &str, key: &str| {
        let version = Version { size: 6, mtime: Timestamp(70), version: "theirs".to_owned(), content: ContentId(77) };
        bed.effects(&Command::Yield { inode: f, from: from.to_owned(), key: key.as_bytes().to_vec(), version })
    };
    assert_eq!(give_way(&mut bed, "v0", "c/f"), [], "another version");
    assert_eq!(give_way(&mut bed, "v1", "c/g"), [], "another place");
    assert_eq!(bed.key(f), "a/f");
    assert_eq!(give_way(&mut bed, "v1", "c/f"), [entry(c, "f", Some(f))]);
    assert_eq!(give_way(&mut bed, "v1", "c/f"), [], "done before");
    let attr = bed.attr(f);
    assert_eq!((bed.key(f), &attr.version[..], attr.size, attr.mtime), ("c/f".to_owned(), "theirs", 6, Timestamp(70)));
    let left = bed.snapshot().left_objects(attr.mount).expect("reads");
    assert_eq!(left, [(b"a/f".to_vec(), "v1".to_owned())], "its own object is nobody's");
    bed.commit_dirty(f, 9, Due::Now);
    bed.end(relocation);
}
