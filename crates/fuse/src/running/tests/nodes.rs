//! Symbolic links and special files.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
    sync::atomic::Ordering,
};

use headpond_types::InodeId;
use rustix::{
    fs::{CWD, FileType, Mode},
    io::Errno,
};

use super::*;

#[test]
fn a_symbolic_link_leads_to_its_target() {
    let source = FakePond::new();
    let dir = source.dir(InodeId::ROOT, "d");
    source.file(dir, "f", b"bytes");
    let pond = Pond::mount(&source);
    symlink("d/f", pond.path("l")).expect("made");
    assert_eq!(fs::read(pond.path("l")).expect("followed"), b"bytes");
    assert_eq!(fs::read_link(pond.path("l")).expect("read"), std::path::Path::new("d/f"));
    let found = fs::symlink_metadata(pond.path("l")).expect("attributes");
    assert_eq!((found.is_symlink(), found.len(), found.mode() & 0o7777), (true, 3, 0o777));
    assert_eq!(errno(symlink("x", pond.path("l"))), Some(libc::EEXIST));
    let listed = fs::read_dir(pond.path("")).expect("listed").map(|entry| entry.expect("one"));
    let links: Vec<_> = listed.filter(|entry| entry.file_type().expect("known").is_symlink()).collect();
    assert_eq!(links.len(), 1);
    symlink("nowhere", pond.path("d/dangling")).expect("made");
    assert_eq!(errno(fs::read(pond.path("d/dangling"))), Some(libc::ENOENT));
    fs::write(pond.path("l"), b"through").expect("written");
    assert_eq!(source.stored(dir, "f"), b"through");
    fs::remove_file(pond.path("l")).expect("removed");
    assert_eq!(fs::read(pond.path("d/f")).expect("still there"), b"through");
}

#[test]
fn a_link_that_the_kernel_knows_is_not_asked_for_again() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    symlink("target", pond.path("l")).expect("made");
    source.set_warm(false);
    for _ in 0..3 {
        assert_eq!(fs::read_link(pond.path("l")).expect("read"), std::path::Path::new("target"));
    }
    assert_eq!(source.asked().links.load(Ordering::SeqCst), 1);
}

#[test]
fn a_hard_link_is_the_same_file() {
    let source = FakePond::new();
    let dir = source.dir(InodeId::ROOT, "d");
    source.file(InodeId::ROOT, "f", b"bytes");
    let pond = Pond::mount(&source);
    fs::hard_link(pond.path("f"), pond.path("d/g")).expect("linked");
    let attributes = |name: &str| fs::metadata(pond.path(name)).map(|found| (found.ino(), found.nlink()));
    let inode = attributes("f").expect("is there").0;
    assert_eq!((attributes("f").expect("is there"), attributes("d/g").expect("is there")), ((inode, 2), (inode, 2)));
    assert_eq!(errno(fs::hard_link(pond.path("f"), pond.path("d/g"))), Some(libc::EEXIST));
    assert_eq!(errno(fs::hard_link(pond.path("d"), pond.path("e"))), Some(libc::EPERM));
    fs::write(pond.path("d/g"), b"through the other").expect("written");
    assert_eq!(fs::read(pond.path("f")).expect("read"), b"through the other");
    fs::remove_file(pond.path("f")).expect("removed");
    assert_eq!(attributes("d/g").expect("is there"), (inode, 1));
    assert_eq!(source.stored(dir, "g"), b"through the other");
}

#[test]
fn special_files_are_made() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let make = |name: &str, kind| rustix::fs::mknodat(CWD, pond.path(name), kind, Mode::RUSR | Mode::WUSR, 0);
    make("fifo", FileType::Fifo).expect("made");
    make("socket", FileType::Socket).expect("made");
    make("file", FileType::RegularFile).expect("made");
    let kind = |name: &str| fs::symlink_metadata(pond.path(name)).expect("attributes").file_type();
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket() && kind("file").is_file());
    assert_eq!(fs::symlink_metadata(pond.path("fifo")).expect("attributes").mode() & 0o7777, 0o600);
    assert_eq!((source.stored(InodeId::ROOT, "file"), source.asked().persists.load(Ordering::SeqCst)), (vec![], 1));
    assert_eq!(make("fifo", FileType::Fifo), Err(Errno::EXIST));
    assert_eq!(make("file", FileType::RegularFile), Err(Errno::EXIST));
    let device =
        rustix::fs::mknodat(CWD, pond.path("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3));
    if is_root() {
        device.expect("root may");
        assert_eq!(fs::symlink_metadata(pond.path("null")).expect("attributes").rdev(), rustix::fs::makedev(1, 3));
    } else {
        assert_eq!(device, Err(Errno::PERM));
    }
    let writer = {
        let path = pond.path("fifo");
        std::thread::spawn(move || fs::write(path, b"through the pipe").expect("written"))
    };
    assert_eq!(fs::read(pond.path("fifo")).expect("read"), b"through the pipe");
    writer.join().expect("ends");
}
