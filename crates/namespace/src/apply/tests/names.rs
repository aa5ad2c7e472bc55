//! Names that are made and removed through Headpond.

use headpond_types::{ContentId, FileKind, InodeId, Timestamp};

use super::{
    Bed, ROOT,
    changes::{NOW, OWNER},
    dir, entry, file, name, refused,
};
use crate::{Command, Listed, Outcome, Owner, Refusal, Reply};

#[test]
fn a_created_file_is_empty_and_has_no_version() {
    let mut bed = Bed::mounted();
    bed.effects(&Command::MarkListed { dir: ROOT, at: Timestamp(60), skipped: 3 });
    let f = bed.create(ROOT, "f");
    let attr = bed.attr(f);
    assert_eq!((attr.kind, attr.mode, attr.uid, attr.gid, attr.nlink), (FileKind::File, 0o640, 7, 8, 1));
    assert_eq!((attr.size, attr.mtime, attr.ctime, attr.own_mtime), (0, NOW, NOW, false));
    assert_eq!((attr.content, attr.version.as_str(), attr.parent), (Some(ContentId(0)), "", ROOT));
    assert_eq!(bed.snapshot().lookup(ROOT, &name("f")).expect("reads"), Some(attr));
    assert_eq!(bed.attr(ROOT).mtime, NOW);
    let listed = Listed { at: Timestamp(60), entries: 1, skipped: 3 };
    assert_eq!(bed.snapshot().listed(ROOT).expect("reads"), Some(listed), "a known listing stays known");
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), [f]);
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 2);
}

#[test]
fn what_is_made_shows_whose_it_is() {
    let mut bed = Bed::mounted();
    let owner = Owner { mode: 0o600, uid: 1000, gid: 8 };
    let request = bed.request();
    let create = Command::Create { request, parent: ROOT, name: name("f"), owner, now: NOW };
    let made = bed.apply(&create);
    let request = bed.request();
    bed.apply(&Command::MakeDirectory { request, parent: ROOT, name: name("d"), owner, dirty: None, now: NOW });
    for made in ["/f", "/d"] {
        let attr = bed.attr(bed.id(made));
        assert_eq!((attr.mode, attr.uid, attr.gid, attr.ctime), (0o600, 1000, 8, NOW));
    }
    assert_eq!(bed.apply(&create), Outcome { reply: made.reply, effects: vec![] }, "a repeated request");
}

#[test]
fn a_made_directory_is_known_to_be_empty() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    assert_eq!(bed.snapshot().listed(d).expect("reads"), Some(Listed { at: NOW, entries: 0, skipped: 0 }));
    let attr = bed.attr(d);
    assert_eq!((attr.kind, attr.mode, attr.mtime, attr.content), (FileKind::Directory, 0o750, NOW, None));
    assert_eq!((bed.attr(ROOT).mtime, bed.snapshot().listed(ROOT).expect("reads")), (NOW, None));
    bed.create(d, "f");
    assert_eq!(bed.snapshot().listed(d).expect("reads"), Some(Listed { at: NOW, entries: 1, skipped: 0 }));
}

#[test]
fn a_name_is_made_once_and_only_where_it_can_be() {
    let mut bed = Bed::new();
    bed.mount("/m");
    let m = bed.id("/m");
    bed.upsert(m, &[file("f", 1), dir("d")]);
    let f = bed.id("/m/f");
    for taken in ["f", "d"] {
        assert_eq!(bed.try_create(m, taken), refused(Refusal::Exists(name(taken))));
        assert_eq!(bed.try_make_directory(m, taken), refused(Refusal::Exists(name(taken))));
    }
    assert_eq!(bed.try_create(f, "x"), refused(Refusal::NoDirectory(name("f"))));
    assert_eq!(bed.try_create(InodeId(99), "x"), refused(Refusal::Gone(InodeId(99))));
    assert_eq!(bed.try_create(ROOT, "x"), refused(Refusal::Fixed(name("x"))));
    assert_eq!(bed.try_make_directory(ROOT, "x"), refused(Refusal::Fixed(name("x"))));
    assert_eq!(bed.remove(ROOT, "m", m), refused(Refusal::Fixed(name("m"))));
}

#[test]
fn a_removed_name_takes_its_inode_along() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), dir("d")]);
    let (f, d) = (bed.id("/f"), bed.id("/d"));
    assert_eq!(bed.remove(ROOT, "f", f), Outcome { reply: Reply::Done, effects: vec![entry(ROOT, "f", Some(f))] });
    assert_eq!(bed.remove(ROOT, "d", d), Outcome { reply: Reply::Done, effects: vec![entry(ROOT, "d", Some(d))] });
    assert!(bed.is_gone(f) && bed.is_gone(d));
    assert_eq!((bed.names(ROOT), bed.attr(ROOT).mtime), (vec![], NOW));
    bed.effects(&Command::Sweep);
    let counts = bed.snapshot().counts().expect("reads");
    assert_eq!((counts.inodes, counts.file_bytes), (1, 0));
}

#[test]
fn only_what_the_name_was_said_to_lead_to_is_removed() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), dir("d")]);
    let (f, d) = (bed.id("/f"), bed.id("/d"));
    bed.upsert(d, &[file("below", 2)]);
    assert_eq!(bed.remove(ROOT, "f", d), refused(Refusal::Gone(d)));
    assert_eq!(bed.remove(ROOT, "x", f), refused(Refusal::Gone(f)));
    assert_eq!(bed.remove(ROOT, "d", d), refused(Refusal::NotEmpty(name("d"))));
    assert_eq!(bed.remove(f, "d", d), refused(Refusal::NoDirectory(name("f"))));
    bed.mount("/d/m");
    assert_eq!(bed.remove(ROOT, "d", bed.id("/d")), refused(Refusal::Fixed(name("d"))));
    assert_eq!(bed.names(ROOT), ["d", "f"]);
}

#[test]
fn a_removed_file_without_version_awaits_nothing() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    bed.remove(ROOT, "f", f);
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
    assert!(bed.namespace().rows().iter().all(|(_, row)| !row.is_empty()), "no row says that it awaits a version");
    assert_eq!(bed.commit(f, "f", 1), refused(Refusal::Gone(f)));
}

#[test]
fn a_directory_made_for_a_mount_point_stays_when_something_was_put_there() {
    let mut bed = Bed::mounted();
    bed.mount("/a/m");
    bed.mount("/b/m");
    bed.mount("/c/m");
    bed.upsert(ROOT, &[file("x", 1)]);
    let (a, b) = (bed.id("/a"), bed.id("/b"));
    let f = bed.create(a, "f");
    bed.rename((ROOT, "x"), (b, "x"));
    for point in ["/a/m", "/b/m", "/c/m"] {
        bed.unmount(point);
    }
    assert_eq!(
        (bed.id("/a/f"), bed.names(ROOT), bed.names(b)),
        (f, vec!["a".to_owned(), "b".to_owned()], vec!["x".to_owned()])
    );
}

#[test]
fn what_owner_the_mount_shows_anyway_is_not_stored() {
    let mut plain = Bed::mounted();
    plain.create(ROOT, "f");
    let mut other = Bed::mounted();
    let owner = Owner { uid: 9, ..OWNER };
    let request = other.request();
    other.apply(&Command::Create { request, parent: ROOT, name: name("f"), owner, now: NOW });
    let bytes = |bed: &Bed| bed.namespace().rows().iter().map(|(_, row)| row.len()).sum::<usize>();
    assert_eq!(bytes(&plain) + 2, bytes(&other));
}
