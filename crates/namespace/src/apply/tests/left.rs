//! What removals leave in the under store.

use headpond_types::InodeId;

use super::{Bed, ROOT, changes::NOW, dir, file, name};
use crate::{Command, Due, Left, Reply};

impl Bed {
    /// Removes a name of which the store keeps what it has for now.
    fn leave(&mut self, parent: InodeId, text: &str, marker: Option<Due>) {
        let (request, inode, name) = (self.request(), self.child(parent, text), name(text));
        let (later, leaves) = (true, vec![]);
        let reply =
            self.apply(&Command::Remove { request, parent, name, inode, later, leaves, marker, now: NOW }).reply;
        assert_eq!(reply, Reply::Done);
    }

    fn child(&self, parent: InodeId, text: &str) -> InodeId {
        self.snapshot().lookup(parent, &name(text)).expect("reads").expect("is there").inode
    }

    /// The object that was left at `key` is deleted.
    fn deleted(&mut self, key: &str) {
        let orphan = self.orphan(key).unwrap_or_else(|| panic!("nothing is left at {key}"));
        let (inode, number, key) = (orphan.inode, orphan.number, key.as_bytes().to_vec());
        assert_eq!(self.effects(&Command::EndPersist { inode, number, key, version: None }), []);
    }
}

#[test]
fn what_was_removed_is_not_seen_while_the_store_has_it() {
    let mut bed = Bed::mounted();
    let listed = [file("f", 1), dir("d")];
    bed.upsert(ROOT, &listed);
    let d = bed.id("/d");
    bed.upsert(d, &[file("x", 2)]);
    bed.leave(ROOT, "f", Some(Due::Now));
    bed.leave(d, "x", Some(Due::Now));
    bed.leave(ROOT, "d", Some(Due::Now));
    assert_eq!(bed.orphan("f").expect("is left").replaces.as_deref(), Some("v1"));
    bed.reopen();
    let snapshot = bed.snapshot();
    let mount = snapshot.mounts().expect("reads")[0].id;
    assert!(snapshot.has_orphans_below(mount, b"d/").expect("reads"));
    drop(snapshot);
    for key in ["f", "d/x", "d/"] {
        bed.upsert(ROOT, &listed);
        let seen = if key == "f" { vec![] } else { vec!["f".to_owned()] };
        assert_eq!(bed.names(ROOT), seen, "before {key} is deleted");
        bed.deleted(key);
    }
    assert_eq!(bed.all_dirty(), [], "the root needs no marker");
    bed.upsert(ROOT, &listed);
    assert_eq!(bed.names(ROOT), ["d", "f"]);
}

#[test]
fn what_lies_below_an_object_that_is_to_go_is_not_forgotten() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("d", 1)]);
    bed.leave(ROOT, "d", None);
    let d = bed.make_directory(ROOT, "d");
    let e = bed.make_directory(d, "e");
    bed.upsert(e, &[file("f", 2)]);
    let forgotten = [(d, "e"), (e, "f")]
        .map(|(dir, text)| Command::Forget { dir, entries: vec![(name(text), bed.child(dir, text))] });
    for forget in &forgotten {
        assert_eq!(bed.effects(forget), [], "the store shows nothing there");
    }
    bed.deleted("d");
    for forget in forgotten.iter().rev() {
        assert_eq!(bed.effects(forget).len(), 1);
    }
}

#[test]
fn a_directory_that_loses_its_last_entry_gets_a_marker() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.upsert(d, &[file("x", 2), file("y", 3)]);
    bed.leave(d, "x", Some(Due::WhenRenamed));
    assert!(!bed.is_dirty(d), "another is left");
    bed.leave(d, "y", Some(Due::WhenRenamed));
    let dirty = bed.dirty(d);
    assert!(dirty.marker && !dirty.is_bare() && dirty.due == Due::WhenRenamed, "{dirty:?}");
    // Objects are where it was, also when it is renamed.
    bed.rename((ROOT, "d"), (ROOT, "e"));
}

#[test]
fn a_rename_out_of_a_directory_leaves_it_a_marker() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.upsert(d, &[file("x", 2)]);
    let (request, from, to) = (bed.request(), (d, name("x")), (ROOT, name("x")));
    let (leaves, marker) = (vec![Left { key: b"x".to_vec(), version: Some("v9".to_owned()) }], Some(Due::Now));
    let (no_replace, released, barrier, later) = (false, false, false, false);
    let rename = Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now: NOW };
    let reply = bed.apply(&rename).reply;
    assert!(matches!(reply, Reply::Renamed(Some(_))), "{reply:?}");
    assert!(bed.dirty(d).marker);
    assert_eq!(bed.orphan("x").expect("is left").replaces.as_deref(), Some("v9"));
}

#[test]
fn a_directory_made_anew_keeps_the_marker_that_was_to_go() {
    for dirty in [None, Some(Due::Now)] {
        let mut bed = Bed::mounted();
        bed.upsert(ROOT, &[dir("d")]);
        bed.leave(ROOT, "d", None);
        let (request, name) = (bed.request(), name("d"));
        let owner = crate::Owner { mode: 0o755, uid: 1, gid: 1 };
        let made = bed.apply(&Command::MakeDirectory { request, parent: ROOT, name, owner, dirty, now: NOW }).reply;
        let Reply::Inode(d) = made else { panic!("{made:?}") };
        if dirty.is_some() {
            assert!(bed.orphan("d/").is_some());
            bed.begin(d, bed.dirty(d).number, "d", None);
        }
        assert_eq!(bed.orphan("d/"), None);
    }
}

#[test]
fn what_is_left_of_a_file_on_its_way_names_who_puts_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    let f = bed.id("/f");
    bed.commit_dirty(f, 7, Due::Now);
    let (holders, put) = (bed.dirty(f).holders, vec![headpond_types::ContentId(7)]);
    bed.begun(f, "f");
    bed.leave(ROOT, "f", None);
    let orphan = bed.orphan("f").expect("is left");
    assert_eq!((orphan.replaces.as_deref(), orphan.put, orphan.holders), (Some("v1"), put, holders));
    assert_eq!(bed.all_dirty().len(), 1);
}

#[test]
fn what_got_its_version_just_before_is_left_in_that() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let number = bed.begun(f, "f");
    bed.end_persist(f, number, "f", 5);
    bed.leave(ROOT, "f", None);
    let orphan = bed.orphan("f").expect("is left");
    assert_eq!((orphan.replaces.as_deref(), orphan.put), (Some("v5"), vec![]));
    // Nothing of a file that was never put.
    bed.made_dirty(ROOT, "g", 6, Due::Now);
    bed.leave(ROOT, "g", None);
    assert_eq!(bed.orphan("g"), None);
}

#[test]
fn what_has_no_object_leaves_that_of_what_it_replaces() {
    for later in [false, true] {
        let mut bed = Bed::mounted();
        bed.upsert(ROOT, &[file("f", 1)]);
        bed.create(ROOT, "new");
        let (request, from, to) = (bed.request(), (ROOT, name("new")), (ROOT, name("f")));
        let (no_replace, released, barrier, leaves, marker) = (false, false, false, vec![], None);
        let rename =
            Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now: NOW };
        assert_eq!(bed.apply(&rename).reply, Reply::Renamed(None));
        assert_eq!(bed.orphan("f").is_some(), later);
    }
}
