//! Renames: the two names, what rename(2) refuses, and what is to be relocated.

use headpond_types::{InodeId, MountId, Timestamp};

use super::{Bed, ROOT, changes::NOW, dir, entry, file, file_at, name, refused};
use crate::{Command, Listed, Outcome, Refusal, Relocation, Reply};

/// `/a/f` and `/b`, from the store.
fn stocked() -> (Bed, InodeId, InodeId, InodeId) {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("b")]);
    let (a, b) = (bed.id("/a"), bed.id("/b"));
    bed.upsert(a, &[file_at("f", 1, 10)]);
    let f = bed.id("/a/f");
    (bed, a, b, f)
}

#[test]
fn a_renamed_file_keeps_inode_attributes_and_key() {
    let (mut bed, a, b, f) = stocked();
    bed.effects(&Command::MarkListed { dir: b, at: Timestamp(60), skipped: 0 });
    let before = bed.attr(f);
    let outcome = bed.try_rename((a, "f"), (b, "g"));
    let Reply::Renamed(Some(relocation)) = outcome.reply else { panic!("{outcome:?}") };
    assert_eq!(outcome.effects, [entry(a, "f", Some(f)), entry(b, "g", None)]);
    let attr = bed.attr(f);
    assert_eq!((attr.parent, attr.ctime), (b, NOW));
    assert_eq!((attr.mtime, attr.version, attr.content), (before.mtime, before.version, before.content));
    assert_eq!((bed.names(a), bed.names(b)), (vec![], vec!["g".to_owned()]));
    assert_eq!((bed.attr(a).mtime, bed.attr(b).mtime), (NOW, NOW));
    assert_eq!(bed.snapshot().listed(b).expect("reads"), Some(Listed { at: Timestamp(60), entries: 1, skipped: 0 }));

    assert_eq!((bed.key(f), bed.relocation_of(f)), ("a/f".to_owned(), Some(relocation)));
    let expected = Relocation {
        id: relocation,
        since: relocation,
        mount: MountId(1),
        inode: f,
        from: b"a/f".to_vec(),
        also: vec![],
        replaced: vec![],
        barrier: false,
    };
    assert_eq!(bed.relocations(), [expected]);
    assert!(bed.masks(a, "f") && !bed.masks(b, "g"));
}

#[test]
fn a_renamed_directory_takes_along_what_lies_below_untouched() {
    let (mut bed, a, b, f) = stocked();
    bed.effects(&Command::MarkListed { dir: a, at: Timestamp(60), skipped: 0 });
    let relocation = bed.rename((ROOT, "a"), (b, "c"));
    assert_eq!((bed.id("/b/c"), bed.id("/b/c/f"), bed.names(ROOT)), (a, f, vec!["b".to_owned()]));
    assert_eq!((bed.key(a), bed.key(f), bed.key(b)), ("a".to_owned(), "a/f".to_owned(), "b".to_owned()));
    assert_eq!(bed.relocations()[0].from, b"a/");
    assert_eq!(
        (bed.relocation_of(a), bed.relocation_of(f), bed.relocation_of(b)),
        (Some(relocation), Some(relocation), None)
    );
    let listed = bed.snapshot().listed(a).expect("reads").expect("is known");
    assert_eq!((listed.at, listed.entries), (Timestamp(60), 1));
    bed.reopen();
    assert_eq!((bed.key(f), bed.relocations().len()), ("a/f".to_owned(), 1));
}

#[test]
fn what_is_replaced_goes_and_its_version_may_be_overwritten() {
    let (mut bed, a, b, f) = stocked();
    bed.upsert(b, &[file("g", 2), dir("empty")]);
    let (g, empty) = (bed.id("/b/g"), bed.id("/b/empty"));
    let outcome = bed.try_rename((a, "f"), (b, "g"));
    assert_eq!(outcome.effects, [entry(a, "f", Some(f)), entry(b, "g", Some(g))]);
    assert!(bed.is_gone(g));
    assert_eq!(bed.relocations()[0].replaced, [(b"b/g".to_vec(), "v2".to_owned())]);
    let outcome = bed.try_rename((ROOT, "a"), (b, "empty"));
    assert_eq!(outcome.effects, [entry(ROOT, "a", Some(a)), entry(b, "empty", Some(empty))]);
    assert!(bed.is_gone(empty));
    assert_eq!(bed.relocations()[1].replaced, []);
    bed.effects(&Command::Sweep);
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 4);
    let listed = bed.snapshot().list(b, None, 9).expect("lists").len();
    assert_eq!(listed, 2);
}

#[test]
fn children_are_counted_within_one_directory() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("a", 1), file("b", 2)]);
    bed.effects(&Command::MarkListed { dir: ROOT, at: Timestamp(60), skipped: 0 });
    let entries = |bed: &Bed| bed.snapshot().listed(ROOT).expect("reads").expect("is known").entries;
    bed.rename((ROOT, "a"), (ROOT, "c"));
    assert_eq!(entries(&bed), 2);
    bed.create(ROOT, "d");
    bed.try_rename((ROOT, "d"), (ROOT, "b"));
    assert_eq!((entries(&bed), bed.names(ROOT)), (2, vec!["b".to_owned(), "c".to_owned()]));
}

#[test]
fn a_file_without_version_has_nothing_to_relocate() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    let outcome = bed.try_rename((ROOT, "f"), (ROOT, "g"));
    assert_eq!(outcome.reply, Reply::Renamed(None));
    assert_eq!(outcome.effects, [entry(ROOT, "f", Some(f)), entry(ROOT, "g", None)]);
    assert_eq!((bed.relocations(), bed.key(f)), (vec![], "g".to_owned()));
    assert!(!bed.masks(ROOT, "f"));
    bed.commit(f, "g", 1);
    assert_eq!((bed.relocations(), bed.snapshot().unpersisted().expect("reads")), (vec![], vec![]));
}

#[test]
fn a_rename_to_where_the_object_is_needs_no_relocation() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "new");
    bed.commit(f, "old", 1);
    bed.end(bed.relocation_of(f).expect("has begun"));
    assert_eq!((bed.key(f), bed.relocation_of(f)), ("old".to_owned(), None), "it was given up");
    assert_eq!(bed.try_rename((ROOT, "new"), (ROOT, "old")).reply, Reply::Renamed(None));
    assert_eq!((bed.key(f), bed.relocations(), bed.masks(ROOT, "new")), ("old".to_owned(), vec![], false));
}

#[test]
fn a_name_renamed_to_itself_stays() {
    let (mut bed, a, _, _) = stocked();
    let before = bed.attr(a);
    for text in ["f", "f"] {
        let outcome = bed.try_rename((a, text), (a, text));
        assert_eq!(outcome, Outcome { reply: Reply::Renamed(None), effects: vec![] });
    }
    assert_eq!(bed.attr(a), before);
}

#[test]
fn kinds_are_refused_as_rename_2_says() {
    let (mut bed, a, b, f) = stocked();
    bed.upsert(ROOT, &[file("g", 2)]);
    let no_replace = Command::Rename {
        request: bed.request(),
        from: (ROOT, name("a")),
        to: (ROOT, name("b")),
        no_replace: true,
        released: false,
        barrier: false,
        later: false,
        leaves: vec![],
        marker: None,
        now: NOW,
    };
    assert_eq!(bed.apply(&no_replace), refused(Refusal::Exists(name("b"))));
    assert_eq!(bed.try_rename((ROOT, "x"), (b, "x")), refused(Refusal::NoEntry(name("x"))));
    assert_eq!(bed.try_rename((f, "x"), (b, "x")), refused(Refusal::NoDirectory(name("f"))));
    assert_eq!(bed.try_rename((a, "f"), (f, "x")), refused(Refusal::NoDirectory(name("f"))));
    assert_eq!(bed.try_rename((InodeId(99), "x"), (b, "x")), refused(Refusal::Gone(InodeId(99))));
    assert_eq!(bed.try_rename((a, "f"), (ROOT, "b")), refused(Refusal::IsDirectory(name("b"))));
    assert_eq!(bed.try_rename((ROOT, "b"), (ROOT, "g")), refused(Refusal::NoDirectory(name("g"))));
    assert_eq!(bed.try_rename((ROOT, "b"), (ROOT, "a")), refused(Refusal::NotEmpty(name("a"))));
    assert_eq!(bed.try_rename((ROOT, "a"), (a, "x")), refused(Refusal::IntoItself(name("a"))));
    bed.upsert(a, &[dir("sub")]);
    assert_eq!(bed.try_rename((ROOT, "a"), (bed.id("/a/sub"), "x")), refused(Refusal::IntoItself(name("a"))));
    assert_eq!(bed.try_rename((a, "sub"), (ROOT, "a")), refused(Refusal::NotEmpty(name("a"))));
    assert_eq!((bed.names(ROOT), bed.relocations()), (vec!["a".to_owned(), "b".to_owned(), "g".to_owned()], vec![]));
}

#[test]
fn mounts_stay_and_are_not_crossed() {
    let mut bed = Bed::new();
    bed.mount("/m");
    bed.mount("/n");
    let (m, n) = (bed.id("/m"), bed.id("/n"));
    bed.upsert(m, &[file("f", 1), dir("d"), dir("empty")]);
    bed.upsert(n, &[file("g", 1)]);
    bed.mount("/m/d/inner");
    let d = bed.id("/m/d");
    assert_eq!(bed.try_rename((m, "f"), (n, "f")), refused(Refusal::CrossMount(name("f"), name("f"))));
    assert_eq!(bed.try_rename((m, "f"), (n, "g")), refused(Refusal::CrossMount(name("f"), name("g"))));
    assert_eq!(bed.try_rename((m, "f"), (ROOT, "f")), refused(Refusal::Fixed(name("f"))));
    assert_eq!(bed.try_rename((ROOT, "m"), (n, "m")), refused(Refusal::Fixed(name("m"))));
    assert_eq!(bed.try_rename((m, "d"), (m, "e")), refused(Refusal::Fixed(name("d"))));
    assert_eq!(bed.try_rename((d, "inner"), (m, "e")), refused(Refusal::Fixed(name("inner"))));
    assert_eq!(bed.try_rename((m, "empty"), (m, "d")), refused(Refusal::Fixed(name("d"))));
    let inner = bed.id("/m/d/inner");
    assert_eq!(bed.try_rename((m, "f"), (inner, "f")), refused(Refusal::CrossMount(name("f"), name("f"))));
    bed.rename((m, "f"), (d, "f"));
    assert_eq!(bed.key(bed.id("/m/d/f")), "f");
}

#[test]
fn renames_in_above_onto_and_of_what_moves_are_one_entry_each() {
    let (mut bed, a, b, f) = stocked();
    bed.upsert(a, &[dir("sub")]);
    bed.upsert(ROOT, &[file("x", 3), dir("e")]);
    let sub = bed.id("/a/sub");
    let first = bed.rename((ROOT, "a"), (b, "c"));
    let out = bed.rename((a, "f"), (ROOT, "f"));
    assert_eq!((bed.key(f), bed.relocation_of(f), bed.relocation_of(a)), ("a/f".into(), Some(out), Some(first)));
    let into = bed.rename((ROOT, "x"), (sub, "x"));
    assert_eq!((bed.key(bed.id("/b/c/sub/x")), bed.relocation_of(bed.id("/b/c/sub/x"))), ("x".into(), Some(into)));
    let onward = bed.rename((b, "c"), (ROOT, "y"));
    assert_eq!(bed.relocation_of(a), Some(onward));
    assert!(onward > first && bed.relocation_of(bed.id("/y/sub/x")).is_some_and(|id| id > into));
    let [_, moved, below] = &bed.relocations()[..] else { panic!("{:?}", bed.relocations()) };
    assert_eq!((&moved.from[..], &moved.also[..]), (&b"a/"[..], &[b"b/c/".to_vec()][..]));
    assert_eq!((&below.from[..], &below.also[..]), (&b"x"[..], &[b"b/c/sub/x".to_vec()][..]));
    let above = bed.rename((ROOT, "y"), (b, "z"));
    bed.rename((ROOT, "b"), (ROOT, "w"));
    assert_eq!((bed.key(bed.id("/w/z")), bed.relocation_of(a).is_some_and(|id| id > above)), ("a".into(), true));
    let onto = bed.rename((ROOT, "e"), (ROOT, "a"));
    assert_eq!((bed.key(bed.id("/a")), bed.relocation_of(bed.id("/a"))), ("e".into(), Some(onto)));
}

#[test]
fn a_rename_back_leaves_what_was_copied_meanwhile_to_be_moved_back() {
    let (mut bed, a, _, f) = stocked();
    bed.upsert(a, &[file("g", 2)]);
    let g = bed.id("/a/g");
    let there = bed.rename((ROOT, "a"), (ROOT, "c"));
    bed.moved(there, f, "v1", "c/f", "copy");
    let back = bed.rename((ROOT, "c"), (ROOT, "a"));
    assert_eq!((bed.key(f), bed.key(g)), ("c/f".into(), "a/g".into()));
    assert!(bed.masks(ROOT, "c") && bed.masks(ROOT, "a"));
    assert_eq!(bed.moved(there, g, "v2", "c/g", "late").reply, Reply::Moved(vec![g]), "another is under way");
    bed.end(there);
    bed.moved(back, f, "copy", "a/f", "again");
    bed.end(back);
    assert_eq!(
        (bed.key(f), bed.key(g), bed.relocations(), bed.masks(ROOT, "c")),
        ("a/f".into(), "a/g".into(), vec![], false)
    );
}

#[test]
fn a_directory_ends_to_move_after_the_one_above() {
    let (mut bed, a, b, _) = stocked();
    bed.upsert(a, &[dir("sub")]);
    bed.upsert(bed.id("/a/sub"), &[file("g", 2)]);
    let outer = bed.rename((ROOT, "a"), (b, "c"));
    let inner = bed.rename((a, "sub"), (a, "new"));
    let (new, g) = (bed.id("/b/c/new"), bed.id("/b/c/new/g"));
    bed.moved(inner, g, "v2", "b/c/new/g", "v2");
    bed.end(inner);
    assert_eq!((bed.relocation_of(new), bed.key(new)), (Some(inner), "a/sub".into()), "its prefix is still needed");
    bed.end(outer);
    assert!(bed.masks(ROOT, "a"), "the inner one still is there");
    bed.end(inner);
    assert_eq!((bed.key(new), bed.key(g), bed.relocations()), ("b/c/new".into(), "b/c/new/g".into(), vec![]));
    assert!(!bed.masks(ROOT, "a"));
}

#[test]
fn a_directory_made_where_another_moves_away_has_a_prefix_of_its_own() {
    let (mut bed, a, b, _) = stocked();
    let moving = bed.rename((ROOT, "a"), (b, "c"));
    let new = bed.make_directory(ROOT, "a");
    let sub = bed.make_directory(new, "sub");
    assert_eq!(bed.key(new), format!(".headpond/displaced/{new}"));
    assert_eq!(bed.key(sub), format!(".headpond/displaced/{sub}"));
    let file = bed.create(new, "f");
    let key = format!(".headpond/displaced/{file}");
    bed.commit(file, &key, 5);
    let alone = bed.relocation_of(file).expect("is to be moved");
    assert_eq!(bed.key(file), key);
    assert_ne!(Some(alone), bed.relocation_of(new), "that of the directory may have come to its end");
    assert_eq!(bed.upsert(new, &[dir("x")]), [], "it is known to be empty");
    bed.end(moving);
    let mine = bed.relocation_of(new).expect("is to be moved");
    bed.end(mine);
    bed.moved(alone, file, "v5", "a/f", "v5");
    bed.end(alone);
    bed.end(bed.relocation_of(sub).expect("is to be moved"));
    assert_eq!((bed.key(new), bed.key(sub), bed.key(file)), ("a".into(), "a/sub".into(), "a/f".into()));
    assert_eq!((bed.relocations(), bed.id("/b/c")), (vec![], a));
}

#[test]
fn what_is_replaced_while_it_moves_leaves_its_object_to_be_deleted() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), file("g", 2), file("h", 3)]);
    let (f, g) = (bed.id("/f"), bed.id("/g"));
    bed.rename((ROOT, "f"), (ROOT, "t"));
    let onto = bed.rename((ROOT, "g"), (ROOT, "t"));
    assert!(bed.is_gone(f));
    let left: Vec<_> = bed.relocations().into_iter().map(|left| (left.inode, left.replaced)).collect();
    assert!(left.contains(&(f, vec![(b"f".to_vec(), "v1".to_owned())])), "{left:?}");
    assert_eq!(bed.relocation_of(g), Some(onto));
    bed.rename((ROOT, "t"), (ROOT, "h"));
    let of_g = bed.relocations().into_iter().find(|left| left.inode == g).expect("moves");
    assert_eq!(of_g.replaced, [(b"h".to_vec(), "v3".to_owned())]);
    assert!(["f", "g", "t"].iter().all(|name| bed.masks(ROOT, name)));
}

#[test]
fn the_name_of_what_headpond_keeps_is_not_given() {
    let (mut bed, a, _, _) = stocked();
    let reserved = || refused(Refusal::Reserved(name(".headpond")));
    assert_eq!(bed.try_create(ROOT, ".headpond"), reserved());
    assert_eq!(bed.try_make_directory(ROOT, ".headpond"), reserved());
    assert_eq!(bed.try_rename((ROOT, "a"), (ROOT, ".headpond")), reserved());
    assert_eq!(bed.upsert(ROOT, &[dir(".headpond")]), []);
    bed.create(a, ".headpond");
}

#[test]
fn what_is_renamed_on_keeps_its_place_in_the_order_and_stays_a_barrier() {
    let (mut bed, _, b, f) = stocked();
    let first = bed.rename((bed.id("/a"), "f"), (b, "g"));
    let Some(known) = bed.relocations().pop() else { panic!("it is to be moved") };
    assert_eq!((known.since, known.barrier), (first, false));
    let request = bed.request();
    let (from, to) = ((b, name("g")), (b, name("_SUCCESS")));
    let rename = Command::Rename {
        request,
        from,
        to,
        no_replace: false,
        released: false,
        barrier: true,
        later: false,
        leaves: vec![],
        marker: None,
        now: NOW,
    };
    let Reply::Renamed(Some(second)) = bed.apply(&rename).reply else { panic!("it is to be moved still") };
    let known = bed.relocations().pop().expect("it is to be moved");
    assert_eq!((known.id, known.since, known.barrier), (second, first, true));
    let third = bed.rename((b, "_SUCCESS"), (b, "plain"));
    let known = bed.relocations().pop().expect("it is to be moved");
    assert_eq!((known.inode, known.id, known.since, known.barrier), (f, third, first, true));
}

#[test]
fn what_comes_out_of_a_directory_that_is_moved_has_its_place_in_the_order() {
    let (mut bed, _, b, f) = stocked();
    let first = bed.rename((ROOT, "a"), (b, "a"));
    bed.rename((bed.id("/b/a"), "f"), (ROOT, "f"));
    let of_f = bed.relocations().into_iter().find(|known| known.inode == f).expect("it is to be moved");
    assert_eq!((of_f.since, of_f.barrier), (first, true));
}

#[test]
fn a_directory_is_made_aside_below_a_place_that_is_not_its_own() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a")]);
    let a = bed.id("/a");
    bed.upsert(a, &[dir("a")]);
    bed.rename((ROOT, "a"), (ROOT, "t"));
    let new = bed.make_directory(ROOT, "a");
    bed.rename((ROOT, "t"), (new, "x"));
    let made = bed.make_directory(a, "new");
    assert_eq!(bed.key(made), format!(".headpond/displaced/{made}"), "a/x/new lies below what moves away from a/");
}
