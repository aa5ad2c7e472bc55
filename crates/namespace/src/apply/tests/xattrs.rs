//! Extended attributes.

use headpond_types::{InodeId, MountId};

use super::{Bed, ROOT, changes::NOW, dir, entry, file, refused};
use crate::{Command, Outcome, Refusal, Reply, XattrChange};

impl Bed {
    fn set_xattr(&mut self, inode: InodeId, name: &str, value: Option<&str>, exists: Option<bool>) -> Outcome {
        let request = self.request();
        let change = XattrChange { name: name.into(), value: value.map(Into::into), exists };
        self.apply(&Command::SetXattr { request, inode, change, now: NOW })
    }

    fn xattrs(&self, inode: InodeId) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let xattrs = self.snapshot().xattrs(inode).expect("reads").into_iter();
        xattrs.map(|(name, value)| (text(name), text(value))).collect()
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn an_attribute_is_set_replaced_and_removed() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), dir("d")]);
    let (f, d) = (bed.id("/f"), bed.id("/d"));
    let done = Outcome { reply: Reply::Done, effects: vec![entry(ROOT, "f", Some(f))] };
    assert_eq!(bed.set_xattr(f, "user.b", Some("1"), None), done);
    assert_eq!(bed.set_xattr(f, "user.a", Some("2"), Some(false)), done);
    assert_eq!(bed.set_xattr(f, "user.b", Some("3"), Some(true)), done);
    bed.set_xattr(d, "user.b", Some("of another"), None);
    assert_eq!(bed.xattrs(f), [pair("user.a", "2"), pair("user.b", "3")]);
    assert!(bed.attr(f).has_xattrs && bed.attr(d).ctime == NOW);
    bed.reopen();
    assert_eq!(bed.xattrs(f), [pair("user.a", "2"), pair("user.b", "3")]);
    for name in ["user.a", "user.b"] {
        assert!(bed.attr(f).has_xattrs);
        assert_eq!(bed.set_xattr(f, name, None, None), done);
    }
    assert_eq!((bed.xattrs(f), bed.attr(f).has_xattrs), (vec![], false));
    assert_eq!(bed.xattrs(d), [pair("user.b", "of another")]);
}

#[test]
fn what_is_not_as_expected_changes_nothing() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    let missing = refused(Refusal::NoXattr("user.a".to_owned()));
    assert_eq!(bed.set_xattr(f, "user.a", Some("1"), Some(true)), missing);
    assert_eq!(bed.set_xattr(f, "user.a", None, None), missing);
    bed.set_xattr(f, "user.a", Some("1"), None);
    let there = refused(Refusal::XattrExists("user.a".to_owned()));
    assert_eq!(bed.set_xattr(f, "user.a", Some("2"), Some(false)), there);
    assert_eq!(bed.set_xattr(InodeId(99), "user.a", Some("2"), None), refused(Refusal::Gone(InodeId(99))));
    assert_eq!(bed.xattrs(f), [pair("user.a", "1")]);
}

#[test]
fn all_of_an_inode_have_64_kib() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    let half = "x".repeat((32 << 10) - 6);
    assert_eq!(bed.set_xattr(f, "user.a", Some(&half), None).reply, Reply::Done);
    assert_eq!(bed.set_xattr(f, "user.b", Some(&half), None).reply, Reply::Done);
    assert_eq!(bed.set_xattr(f, "user.c", Some(""), None), refused(Refusal::XattrsFull));
    assert_eq!(bed.set_xattr(f, "user.b", Some(&half), None).reply, Reply::Done, "in its own place");
}

#[test]
fn they_follow_the_file_and_go_with_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1), dir("d")]);
    let (f, d) = (bed.id("/f"), bed.id("/d"));
    bed.set_xattr(f, "user.a", Some("1"), None);
    bed.set_xattr(d, "user.a", Some("2"), None);
    bed.upsert(ROOT, &[file("f", 2)]);
    let replaced = bed.id("/f");
    assert_ne!(replaced, f);
    assert_eq!(bed.xattrs(replaced), [pair("user.a", "1")], "another version from outside");
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    bed.moved(relocation, replaced, "v2", "g", "v2");
    bed.effects(&Command::Leave { mount: MountId(1), objects: vec![], gone: vec![b"f".to_vec()] });
    bed.end(relocation);
    assert_eq!(bed.xattrs(replaced), [pair("user.a", "1")]);
    bed.remove(ROOT, "g", replaced);
    bed.remove(ROOT, "d", d);
    bed.effects(&Command::Sweep);
    assert_eq!(bed.namespace().rows().len(), 1, "nothing but the root");
}

#[test]
fn those_of_the_root_go_with_its_mount() {
    let mut bed = Bed::mounted();
    bed.set_xattr(ROOT, "user.a", Some("1"), None);
    assert_eq!(bed.xattrs(ROOT), [pair("user.a", "1")]);
    bed.unmount("/");
    assert_eq!((bed.xattrs(ROOT), bed.attr(ROOT).has_xattrs), (vec![], false));
    assert_eq!(bed.namespace().rows().len(), 1, "nothing but the root");
}
