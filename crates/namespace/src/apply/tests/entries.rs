//! What under stores hold: entries that appear, change and go, and listings.

use headpond_types::{ContentId, FileKind, MountId, Timestamp};

use super::{Bed, ROOT, dir, discovered, entry, file, file_at, name};
use crate::{AttrChange, Command};

#[test]
fn what_the_store_holds_appears_with_the_mounts_owner_and_modes() {
    let mut bed = Bed::mounted();
    let effects = bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    assert_eq!(effects, [discovered(ROOT, "d"), discovered(ROOT, "f")]);

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
fn a_new_time_of_a_file_leaves_that_of_its_directory() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.upsert(d, &[file("f", 1)]);
    bed.effects(&Command::MarkListed { dir: d, at: Timestamp(30), skipped: 0 });
    bed.set_attr(d, AttrChange { mtime: Some(Timestamp(20)), ..AttrChange::default() });
    assert_eq!(bed.upsert(d, &[file_at("f", 1, 200)]), [entry(d, "f", None)]);
    assert_eq!((bed.attr(d).mtime, bed.attr(d).own_mtime), (Timestamp(20), true));
    bed.upsert(d, &[file("g", 2)]);
    assert_eq!((bed.attr(d).mtime, bed.attr(d).own_mtime), (Timestamp(50), false));
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
