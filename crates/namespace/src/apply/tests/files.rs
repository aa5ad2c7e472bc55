//! Versions that files get by being written through Headpond.

use headpond_types::{ContentId, InodeId, Timestamp};

use super::{Bed, ROOT, changes::NOW, dir, entry, file, name, refused};
use crate::{AttrChange, Command, Outcome, Refusal, Relocation, Reply};

#[test]
fn a_commit_gives_the_version_and_keeps_the_inode() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    assert_eq!(bed.key(f), "f", "where it is to go");
    assert_eq!(bed.commit(f, "f", 5), Outcome { reply: Reply::Inode(f), effects: vec![entry(ROOT, "f", Some(f))] });
    let attr = bed.attr(f);
    assert_eq!((attr.size, attr.mtime, attr.ctime), (5, Timestamp(80), Timestamp(80)));
    assert_eq!((attr.version.as_str(), attr.content), ("v5", Some(ContentId(5))));
    assert_eq!((bed.key(f), bed.relocations()), ("f".to_owned(), vec![]));
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
    bed.commit(f, "f", 7);
    assert_eq!((bed.id("/f"), bed.attr(f).version), (f, "v7".to_owned()));
    assert_eq!(bed.snapshot().counts().expect("reads").file_bytes, 7);
}

#[test]
fn a_change_of_attributes_after_the_last_write_is_the_last_one() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    let change = AttrChange { mode: Some(0o600), ..AttrChange::default() };
    bed.set_attr(f, change);
    let changed = bed.attr(f).ctime;
    bed.commit(f, "f", 2);
    assert_eq!((bed.attr(f).mtime, bed.attr(f).ctime), (Timestamp(80), changed.max(Timestamp(80))));
    assert_ne!(changed, Timestamp(80));
}

#[test]
fn a_commit_keeps_whose_it_is_and_drops_a_time_that_was_set() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    let change = AttrChange { mode: Some(0o600), uid: Some(5), mtime: Some(Timestamp(9)), ..AttrChange::default() };
    bed.set_attr(f, change);
    bed.commit(f, "f", 2);
    let attr = bed.attr(f);
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o600, 5, 8));
    assert_eq!((attr.mtime, attr.own_mtime, attr.ctime), (Timestamp(80), true, Timestamp(80)));
}

#[test]
fn what_is_gone_or_no_file_gets_no_version() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    let f = bed.create(d, "f");
    bed.mount("/d");
    assert_eq!(bed.commit(f, "d/f", 1), refused(Refusal::Gone(f)), "it lies below what is gone");
    assert_eq!(bed.commit(InodeId(99), "f", 1), refused(Refusal::Gone(InodeId(99))));
    let e = bed.make_directory(ROOT, "e");
    assert_eq!(bed.commit(e, "e", 1), refused(Refusal::IsDirectory(name("e"))));
    bed.effects(&Command::Sweep);
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
}

#[test]
fn a_version_that_is_not_where_the_path_says_is_relocated() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "old");
    assert_eq!(bed.try_rename((ROOT, "old"), (ROOT, "new")).reply, Reply::Renamed(None));
    bed.commit(f, "old", 1);
    let relocation = bed.relocation_of(f).expect("is to be moved");
    assert_eq!(bed.key(f), "old");
    let expected = Relocation {
        id: relocation,
        since: relocation,
        mount: bed.attr(f).mount,
        inode: f,
        from: b"old".to_vec(),
        also: vec![],
        replaced: vec![],
        barrier: false,
    };
    assert_eq!(bed.relocations(), [expected]);
    bed.commit(f, "old", 2);
    assert_eq!(bed.relocations().len(), 1, "it is under way already");
    bed.commit(f, "new", 3);
    assert_eq!(bed.key(f), "new");
    bed.end(relocation);
    assert_eq!((bed.key(f), bed.relocations()), ("new".to_owned(), vec![]));
}

#[test]
fn a_file_that_never_got_a_version_is_discarded() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    assert_eq!(bed.effects(&Command::Discard { inode: f }), [entry(ROOT, "f", Some(f))]);
    assert!(bed.is_gone(f));
    assert_eq!(bed.effects(&Command::Discard { inode: f }), [], "a second time");
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);

    let kept = bed.written(ROOT, "kept", "kept", 1);
    bed.upsert(ROOT, &[file("seen", 1), dir("d")]);
    for inode in [kept, bed.id("/seen"), bed.id("/d"), ROOT, InodeId(99)] {
        assert_eq!(bed.effects(&Command::Discard { inode }), []);
    }
    assert_eq!(bed.names(ROOT), ["d", "kept", "seen"]);
    assert_eq!(bed.attr(ROOT).mtime, NOW);
}
