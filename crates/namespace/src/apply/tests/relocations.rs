//! Relocations: files that have moved, the end, and what is masked until then.

use headpond_types::{InodeId, Timestamp};

use super::{Bed, ROOT, dir, entry, file, name, refused};
use crate::{Command, Outcome, Refusal, Reply};

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
    assert!(bed.masks(a, "sub"));
    bed.remove(ROOT, "a", a);
    assert!(bed.masks(ROOT, "a"));
    assert_eq!(bed.upsert(ROOT, &[dir("a")]), [], "the objects that are to be moved keep it alive in the store");
    assert_eq!(bed.try_make_directory(ROOT, "a"), refused(Refusal::Relocating(name("a"))));
    let masked = vec![(sub, name("f")), (a, name("sub")), (ROOT, name("a"))];
    assert_eq!(bed.relocations()[0].masked, masked);
    bed.end(first);
    assert!(bed.masks(ROOT, "a"), "of two, one is left");
    bed.end(second);
    assert!(!bed.masks(ROOT, "a") && !bed.masks(a, "sub") && !bed.masks(sub, "g"));
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
