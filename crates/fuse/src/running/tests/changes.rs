//! What changes behind the kernel's back.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::atomic::Ordering,
};

use headpond_types::InodeId;

use super::*;

#[test]
fn a_missing_name_is_asked_for_once_and_seen_as_soon_as_it_appears() {
    let source = FakePond::new();
    source.set_warm(false);
    let pond = Pond::mount(&source);
    let path = pond.path("later");
    for _ in 0..3 {
        assert_eq!(errno(fs::metadata(&path)), Some(libc::ENOENT));
    }
    assert_eq!(source.asked().lookups.load(Ordering::SeqCst), 1);
    source.file(InodeId::ROOT, "later", b"now");
    source.tell(InodeId::ROOT, "later", None);
    pond.wait_for_invalidations(2);
    assert_eq!(fs::read(&path).expect("readable"), b"now");
}

#[test]
fn a_missing_name_without_validity_is_asked_for_every_time() {
    let source = FakePond::new();
    source.set_warm(false);
    source.set_validity(Duration::ZERO);
    let pond = Pond::mount(&source);
    for _ in 0..3 {
        assert_eq!(errno(fs::metadata(pond.path("f"))), Some(libc::ENOENT));
    }
    assert_eq!(source.asked().lookups.load(Ordering::SeqCst), 3);
}

#[test]
fn a_replaced_object_is_a_new_inode_and_open_readers_keep_theirs() {
    for (dataset, complete) in [(false, false), (false, true), (true, true)] {
        let source = FakePond::new();
        let inode = source.file(InodeId::ROOT, "f", b"old bytes");
        if complete {
            source.complete(inode);
        }
        let pond = Pond::mount_with(&source, |config| config.dataset = dataset);
        let path = pond.path("f");
        let old = File::open(&path).expect("it opens");
        let mut buffer = [0; 9];
        old.read_exact_at(&mut buffer, 0).expect("readable");

        source.replace(InodeId::ROOT, "f", b"new and longer bytes");
        pond.wait_for_invalidations(3);
        assert_eq!(fs::read(&path).expect("readable"), b"new and longer bytes");
        assert_ne!(fs::metadata(&path).expect("attributes").ino(), inode.0);
        old.read_exact_at(&mut buffer, 0).expect("still readable");
        assert_eq!(&buffer, b"old bytes");
        let found = old.metadata().expect("attributes of an open file");
        assert_eq!((found.ino(), found.len()), (inode.0, 9));
        assert_eq!(old.read_at(&mut buffer, 9).expect("its end"), 0);
    }
}

#[test]
fn an_open_of_a_replaced_inode_finds_the_new_one_before_the_event_comes() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"old");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    assert_eq!(fs::metadata(&path).expect("attributes").len(), 3);
    let quiet = source.replace_silently(InodeId::ROOT, "f", b"newer");
    let file = File::open(&path).expect("the kernel looks the name up again");
    assert_eq!(file.metadata().expect("attributes").ino(), quiet.0);
    assert_eq!(fs::read(&path).expect("readable"), b"newer");
}

#[test]
fn a_removed_file_is_gone_at_once() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"x");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    assert!(fs::metadata(&path).is_ok());
    source.remove(InodeId::ROOT, "f");
    pond.wait_for_invalidations(3);
    assert_eq!(errno(fs::metadata(&path)), Some(libc::ENOENT));
}
