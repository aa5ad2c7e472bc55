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
        mount: MountId(1),
        inode: f,
        from: b"a/f".to_vec(),
        masked: vec![(a, name("f"))],
        replaces: None,
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
    assert_eq!(bed.relocations()[0].replaces, Some("v2".to_owned()));
    let outcome = bed.try_rename((ROOT, "a"), (b, "empty"));
    assert_eq!(outcome.effects, [entry(ROOT, "a", Some(a)), entry(b, "empty", Some(empty))]);
    assert!(bed.is_gone(empty));
    assert_eq!(bed.relocations()[1].replaces, None);
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
fn what_an_earlier_relocation_is_at_is_not_renamed() {
    let (mut bed, a, b, f) = stocked();
    bed.upsert(a, &[dir("sub")]);
    bed.upsert(ROOT, &[file("x", 3), dir("e")]);
    let (sub, e) = (bed.id("/a/sub"), bed.id("/e"));
    let relocation = bed.rename((ROOT, "a"), (b, "c"));
    let relocating = |text| refused(Refusal::Relocating(name(text)));
    assert_eq!(bed.try_rename((ROOT, "x"), (ROOT, "a")), relocating("a"), "a masked name");
    assert_eq!(bed.try_rename((a, "f"), (ROOT, "f")), relocating("f"), "out of it");
    assert_eq!(bed.try_rename((ROOT, "x"), (sub, "x")), relocating("x"), "into it");
    assert_eq!(bed.try_rename((b, "c"), (ROOT, "y")), relocating("c"), "itself");
    assert_eq!(bed.try_rename((ROOT, "b"), (ROOT, "y")), relocating("b"), "what it lies in");
    assert_eq!(bed.try_create(ROOT, "a"), relocating("a"));
    assert_eq!(bed.try_make_directory(ROOT, "a"), relocating("a"));
    bed.end(relocation);
    bed.rename((a, "f"), (ROOT, "f"));
    assert_eq!(bed.try_rename((ROOT, "x"), (ROOT, "f")), relocating("f"), "onto it");
    bed.rename((ROOT, "e"), (ROOT, "y"));
    bed.create(ROOT, "a");
    assert_eq!((bed.id("/f"), bed.id("/y")), (f, e));
}

#[test]
fn a_request_that_met_a_relocation_may_be_made_again() {
    let (mut bed, _, b, _) = stocked();
    let relocation = bed.rename((ROOT, "a"), (b, "c"));
    let request = bed.request();
    let back = Command::Rename {
        request,
        from: (b, name("c")),
        to: (ROOT, name("d")),
        no_replace: false,
        released: false,
        barrier: false,
        later: false,
        leaves: vec![],
        marker: None,
        now: NOW,
    };
    assert_eq!(bed.apply(&back), refused(Refusal::Relocating(name("c"))));
    bed.end(relocation);
    let renamed = bed.apply(&back).reply;
    assert!(matches!(renamed, Reply::Renamed(Some(_))), "{renamed:?}");
    assert_eq!(bed.apply(&back), Outcome { reply: renamed, effects: vec![] });
}
