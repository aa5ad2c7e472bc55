//! Attributes that are set through Headpond.

use headpond_types::{InodeId, Timestamp};

use super::{Bed, ROOT, changes::NOW, dir, entry, file, file_at, refused};
use crate::{AttrChange, Command, Outcome, Refusal, Reply};

#[test]
fn what_is_set_is_shown_and_the_rest_stays() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), dir("d")]);
    for (at, text) in [("/f", "f"), ("/d", "d")] {
        let inode = bed.id(at);
        let before = bed.attr(inode);
        let outcome = bed.set_attr(inode, AttrChange { mode: Some(0o4711), ..AttrChange::default() });
        assert_eq!(outcome, Outcome { reply: Reply::Done, effects: vec![entry(ROOT, text, Some(inode))] });
        let attr = bed.attr(inode);
        assert_eq!((attr.mode, attr.uid, attr.gid, attr.mtime), (0o4711, 7, 8, before.mtime));
        assert_eq!((attr.ctime, attr.own_mtime), (NOW.max(before.mtime), false));
        bed.set_attr(inode, AttrChange { uid: Some(1), gid: Some(u32::MAX), ..AttrChange::default() });
        let mtime = Some(Timestamp(-5));
        bed.set_attr(inode, AttrChange { mtime, ..AttrChange::default() });
        bed.reopen();
        let attr = bed.attr(inode);
        assert_eq!((attr.mode, attr.uid, attr.gid, attr.mtime), (0o4711, 1, u32::MAX, Timestamp(-5)));
        assert_eq!((attr.ctime, attr.own_mtime), (NOW, true));
    }
    assert_eq!(bed.set_attr(InodeId(99), AttrChange::default()), refused(Refusal::Gone(InodeId(99))));
}

#[test]
fn a_mount_point_has_attributes_of_its_own_until_it_goes() {
    let mut bed = Bed::mounted();
    let open = AttrChange { mode: Some(0o777), ..AttrChange::default() };
    assert_eq!(bed.set_attr(ROOT, open), Outcome { reply: Reply::Done, effects: vec![] });
    bed.mount("/m");
    let m = bed.id("/m");
    assert_eq!(bed.set_attr(m, open).effects, [entry(ROOT, "m", Some(m))]);
    assert_eq!((bed.attr(ROOT).mode, bed.attr(m).mode), (0o777, 0o777));
    bed.unmount("/m");
    bed.unmount("/");
    bed.mount("/");
    bed.mount("/m");
    assert_eq!((bed.attr(ROOT).mode, bed.attr(bed.id("/m")).mode), (0o750, 0o750));
}

#[test]
fn an_entry_that_comes_or_goes_moves_a_time_that_was_set() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let set = AttrChange { mtime: Some(Timestamp(900)), ..AttrChange::default() };
    bed.set_attr(d, set);
    assert_eq!((bed.attr(d).mtime, bed.attr(d).ctime), (Timestamp(900), NOW));
    bed.create(d, "f");
    assert_eq!((bed.attr(d).mtime, bed.attr(d).own_mtime), (NOW, false));
    bed.set_attr(d, AttrChange { mtime: Some(Timestamp(20)), ..AttrChange::default() });
    bed.upsert(d, &[file("g", 1)]);
    assert_eq!((bed.attr(d).mtime, bed.attr(d).own_mtime), (Timestamp(50), false));
}

#[test]
fn what_was_set_outlasts_what_the_store_says_of_the_same_version() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    bed.set_attr(f, AttrChange { mode: Some(0o600), mtime: Some(Timestamp(9)), ..AttrChange::default() });
    let before = bed.attr(f);
    assert_eq!(bed.upsert(ROOT, &[file_at("f", 1, 500)]), []);
    assert_eq!(bed.attr(f), before);
}

#[test]
fn a_time_of_access_stays_as_it_was_set_until_the_object_is_replaced_from_outside() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let (f, d) = (bed.id("/f"), bed.make_directory(ROOT, "d"));
    assert_eq!((bed.attr(f).atime, bed.attr(f).accessed()), (None, bed.attr(f).mtime));
    for inode in [f, d, ROOT] {
        let (request, change) = (bed.request(), AttrChange { mtime: Some(Timestamp(9)), ..AttrChange::default() });
        let atime = Timestamp(i64::MIN);
        let set = Command::SetTimes { request, inode, change, atime, now: NOW };
        assert_eq!(bed.apply(&set).reply, Reply::Done);
        let attr = bed.attr(inode);
        assert_eq!((attr.atime, attr.accessed(), attr.mtime, attr.ctime), (Some(atime), atime, Timestamp(9), NOW));
        bed.set_attr(inode, AttrChange { mode: Some(0o4711), ..change });
        assert_eq!(bed.attr(inode).atime, Some(atime));
    }
    bed.create(d, "g");
    bed.commit(f, "f", 2);
    for inode in [f, d, ROOT] {
        assert_eq!(bed.attr(inode).atime, Some(Timestamp(i64::MIN)), "{inode}");
    }
    bed.upsert(ROOT, &[file_at("f", 3, 500)]);
    assert_eq!(bed.attr(bed.id("/f")).accessed(), Timestamp(500));
    let (request, change) = (bed.request(), AttrChange::default());
    let gone = Command::SetTimes { request, inode: f, change, atime: NOW, now: NOW };
    assert_eq!(bed.apply(&gone), refused(Refusal::Gone(f)));
}

#[test]
fn another_version_from_outside_keeps_whose_it_is() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    let change = AttrChange { mode: Some(0o600), uid: Some(1), gid: Some(2), mtime: Some(Timestamp(9)) };
    bed.set_attr(f, change);
    assert_eq!(bed.upsert(ROOT, &[file_at("f", 2, 500)]), [entry(ROOT, "f", Some(f))]);
    let attr = bed.attr(bed.id("/f"));
    assert_ne!(attr.inode, f);
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o600, 1, 2));
    assert_eq!((attr.mtime, attr.ctime, attr.own_mtime), (Timestamp(500), Timestamp(500), false));
    bed.upsert(ROOT, &[dir("f")]);
    assert_eq!(bed.attr(bed.id("/f")).mode, 0o750, "a directory is not the same thing");
    assert_eq!(bed.effects(&Command::Noop), []);
}
