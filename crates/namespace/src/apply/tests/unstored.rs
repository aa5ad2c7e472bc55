//! Symbolic links and special files, which the namespace alone has.

use headpond_types::{FileKind, InodeId, Timestamp};

use super::{
    Bed, ROOT,
    changes::{NOW, OWNER},
    dir, entry, file, name, refused,
};
use crate::{AttrChange, Command, Outcome, Owner, Refusal, Reply, Unstored};

impl Bed {
    fn try_make(&mut self, parent: InodeId, text: &str, what: Unstored) -> Outcome {
        let request = self.request();
        let owner = Owner { mode: 0o777, ..OWNER };
        self.apply(&Command::MakeUnstored { request, parent, name: name(text), owner, what, now: NOW })
    }

    pub(super) fn link(&mut self, parent: InodeId, text: &str, target: &str) -> InodeId {
        let outcome = self.try_make(parent, text, Unstored::Symlink(target.into()));
        let Reply::Inode(inode) = outcome.reply else { panic!("{outcome:?}") };
        assert_eq!(outcome.effects, [entry(parent, text, None)]);
        inode
    }

    fn target(&self, inode: InodeId) -> Option<String> {
        let target = self.snapshot().link_target(inode).expect("reads");
        target.map(|target| String::from_utf8(target).expect("text"))
    }

    fn holds(&self, dir: InodeId) -> bool {
        self.snapshot().holds_unstored(dir).expect("reads")
    }

    fn forget_all(&mut self, dir: InodeId) {
        let entries = self.snapshot().list(dir, None, usize::MAX).expect("lists");
        let entries = entries.into_iter().map(|(name, attr)| (name, attr.inode)).collect();
        self.apply(&Command::Forget { dir, entries });
    }
}

#[test]
fn a_link_has_a_target_and_attributes() {
    let mut bed = Bed::mounted();
    let l = bed.link(ROOT, "l", "../x/y");
    let attr = bed.attr(l);
    assert_eq!((attr.kind, attr.size, attr.mode, attr.uid, attr.nlink), (FileKind::Symlink, 6, 0o777, 7, 1));
    assert_eq!((attr.mtime, attr.ctime, attr.content, attr.version.as_str()), (NOW, NOW, None, ""));
    assert_eq!(bed.target(l).as_deref(), Some("../x/y"));
    assert_eq!(bed.key(l), "l");
    assert_eq!(bed.snapshot().lookup(ROOT, &name("l")).expect("reads"), Some(attr));
    bed.set_attr(l, AttrChange { mtime: Some(Timestamp(3)), uid: Some(9), ..AttrChange::default() });
    let attr = bed.attr(l);
    assert_eq!((attr.mtime, attr.uid, attr.mode), (Timestamp(3), 9, 0o777));
    bed.reopen();
    assert_eq!((bed.attr(l), bed.target(l).as_deref()), (attr, Some("../x/y")));
    assert_eq!(bed.snapshot().counts().expect("reads").file_bytes, 0);
    assert_eq!(bed.target(ROOT), None);
}

#[test]
fn special_files_say_what_they_are() {
    let mut bed = Bed::mounted();
    for (text, what, kind) in [
        ("fifo", Unstored::Fifo, FileKind::Fifo),
        ("socket", Unstored::Socket, FileKind::Socket),
        ("char", Unstored::CharDevice(0x0103), FileKind::CharDevice(0x0103)),
        ("block", Unstored::BlockDevice(7), FileKind::BlockDevice(7)),
    ] {
        let Reply::Inode(inode) = bed.try_make(ROOT, text, what).reply else { panic!("{text} was not made") };
        assert_eq!((bed.attr(inode).kind, bed.attr(inode).size), (kind, 0));
        assert_eq!(bed.target(inode), None);
    }
}

#[test]
fn a_name_is_made_once() {
    let mut bed = Bed::mounted();
    let l = bed.link(ROOT, "l", "x");
    bed.upsert(ROOT, &[file("f", 1)]);
    for taken in ["l", "f"] {
        assert_eq!(bed.try_make(ROOT, taken, Unstored::Fifo), refused(Refusal::Exists(name(taken))));
    }
    assert_eq!(bed.try_create(ROOT, "l"), refused(Refusal::Exists(name("l"))));
    assert_eq!(bed.try_create(l, "x"), refused(Refusal::NoDirectory(name("l"))));
    let removed = bed.remove(ROOT, "l", l);
    assert_eq!(removed, Outcome { reply: Reply::Done, effects: vec![entry(ROOT, "l", Some(l))] });
    assert!(bed.is_gone(l));
    bed.create(ROOT, "l");
}

#[test]
fn what_the_store_shows_changes_neither_a_link_nor_the_directories_above() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.upsert(d, &[dir("e")]);
    let e = bed.id("/d/e");
    bed.upsert(e, &[file("f", 1)]);
    let l = bed.link(e, "l", "f");
    assert!(bed.holds(d) && bed.holds(e) && !bed.holds(ROOT));
    let before = bed.attr(l);
    for seen in [file("l", 5), dir("l")] {
        assert_eq!(bed.upsert(e, &[seen]), []);
    }
    bed.forget_all(e);
    assert_eq!(bed.names(e), ["l"]);
    bed.forget_all(d);
    bed.forget_all(ROOT);
    assert_eq!(bed.upsert(ROOT, &[file("d", 9)]), [], "an object in the place of the directory");
    assert_eq!((bed.attr(l), bed.id("/d/e/l")), (before, l));
    bed.remove(e, "l", l);
    assert!(!bed.holds(d) && !bed.holds(e));
    bed.forget_all(ROOT);
    assert!(bed.is_gone(d));
}

#[test]
fn a_rename_of_a_link_moves_no_object() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d"), dir("e"), file("f", 1)]);
    let (d, e) = (bed.id("/d"), bed.id("/e"));
    let l = bed.link(d, "l", "x");
    assert_eq!(bed.try_rename((d, "l"), (e, "m")).reply, Reply::Renamed(None));
    assert_eq!((bed.holds(d), bed.holds(e), bed.id("/e/m")), (false, true, l));
    let other = bed.link(ROOT, "other", "y");
    assert_eq!(bed.try_rename((e, "m"), (ROOT, "other")).reply, Reply::Renamed(None));
    assert_eq!((bed.holds(e), bed.is_gone(other), bed.id("/other")), (false, true, l));
    assert_eq!(bed.try_rename((ROOT, "other"), (ROOT, "f")).reply, Reply::Renamed(None), "over a file");
    assert_eq!((bed.target(l).as_deref(), bed.names(ROOT)), (Some("x"), vec!["d".into(), "e".into(), "f".into()]));
    assert_eq!((bed.relocations(), bed.masks(ROOT, "f")), (vec![], false));
}

#[test]
fn a_renamed_directory_takes_its_links_along() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d"), dir("to")]);
    let (d, to) = (bed.id("/d"), bed.id("/to"));
    bed.link(d, "l", "x");
    let relocation = bed.rename((ROOT, "d"), (to, "e"));
    assert!(bed.holds(d) && bed.holds(to));
    assert_eq!(bed.key(bed.id("/to/e/l")), "to/e/l", "it has no object that is elsewhere");
    bed.end(relocation);
    bed.forget_all(ROOT);
    assert_eq!(bed.names(ROOT), ["to"]);
}

#[test]
fn a_link_takes_the_place_of_what_was_renamed_at_once() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("current")]);
    bed.rename((ROOT, "current"), (ROOT, "old"));
    let l = bed.link(ROOT, "current", "new");
    assert_eq!(bed.upsert(ROOT, &[dir("current")]), []);
    let next = bed.link(ROOT, "next", "newer");
    assert_eq!(bed.try_rename((ROOT, "next"), (ROOT, "current")).reply, Reply::Renamed(None));
    assert_eq!((bed.is_gone(l), bed.id("/current")), (true, next));
}

#[test]
fn a_mount_that_goes_takes_its_links_along() {
    let mut bed = Bed::new();
    bed.mount("/m");
    let m = bed.id("/m");
    let d = bed.make_directory(m, "d");
    let l = bed.link(d, "l", "x");
    bed.mount("/m/d/inner");
    assert!(bed.is_gone(l) || bed.holds(bed.id("/m/d")));
    bed.unmount("/m/d/inner");
    bed.unmount("/m");
    bed.effects(&Command::Sweep);
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 1);
    assert_eq!(bed.namespace().rows().len(), 1, "nothing but the root");
}
