//! Stretches of files: data, holes, and copies.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    sync::atomic::Ordering,
    thread,
};

use headpond_types::InodeId;
use rustix::{
    fs::{SeekFrom, copy_file_range, seek},
    io::Errno,
};

use super::*;
use crate::metrics::Op;

const ROOT: InodeId = InodeId::ROOT;

/// More than one piece, and no multiple of anything.
const LENGTH: usize = (9 << 20) + 4321;

fn some_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

/// Copies until there is nothing more to copy.
fn copy_all(from: &File, to: &File, mut at: u64, mut to_at: u64) -> usize {
    let mut whole = 0;
    loop {
        match copy_file_range(from, Some(&mut at), to, Some(&mut to_at), usize::MAX >> 2).expect("copied") {
            0 => return whole,
            copied => whole += copied,
        }
    }
}

#[test]
fn data_and_holes_are_found() {
    let source = FakePond::new();
    source.file(ROOT, "old", b"\0\0\0data");
    let pond = Pond::mount(&source);
    let file = File::create_new(pond.path("f")).expect("made");
    file.write_all_at(b"data", 5).expect("written");
    file.set_len(20).expect("cut");
    for (offset, data, hole) in [(0, Ok(5), Ok(0)), (6, Ok(6), Ok(9)), (10, Err(Errno::NXIO), Ok(10))] {
        assert_eq!(seek(&file, SeekFrom::Data(offset)), data, "{offset}");
        assert_eq!(seek(&file, SeekFrom::Hole(offset)), hole, "{offset}");
    }
    for offset in [20, 21] {
        assert_eq!(seek(&file, SeekFrom::Data(offset)), Err(Errno::NXIO));
        assert_eq!(seek(&file, SeekFrom::Hole(offset)), Err(Errno::NXIO));
    }
    // What is not being written is all data.
    let old = File::open(pond.path("old")).expect("opened");
    assert_eq!((seek(&old, SeekFrom::Data(1)), seek(&old, SeekFrom::Hole(1))), (Ok(1), Ok(7)));
    assert_eq!(seek(&old, SeekFrom::Data(7)), Err(Errno::NXIO));
}

#[test]
fn bytes_are_copied_without_the_program_seeing_them() {
    let source = FakePond::new();
    let expected = some_bytes(LENGTH);
    source.file(ROOT, "f", &expected);
    let pond = Pond::mount(&source);
    let from = File::open(pond.path("f")).expect("opened");
    let to = OpenOptions::new().read(true).write(true).create_new(true).open(pond.path("g")).expect("made");
    assert_eq!(copy_all(&from, &to, 0, 0), LENGTH);
    assert_eq!(copy_all(&from, &to, 1000, LENGTH as u64), LENGTH - 1000);
    // What lands at another place than it had is no beginning of a copy.
    let copied = || source.asked().copied.load(Ordering::SeqCst);
    assert_eq!(copied(), LENGTH);
    let metrics = &pond.running().metrics;
    assert_eq!(metrics.bytes_written.get(), (2 * LENGTH - 1000) as u64);
    assert_eq!((metrics.requests(Op::Read), metrics.requests(Op::Write)), (0, 0), "the kernel saw none of them");
    drop(to);
    let whole = [&expected[..], &expected[1000..]].concat();
    assert!(source.stored(ROOT, "g") == whole);
    assert!(fs::read(pond.path("g")).expect("readable") == whole);

    // Within one file.
    let file = OpenOptions::new().read(true).write(true).open(pond.path("g")).expect("opened");
    let (mut at, mut to_at) = (10, 5_000_000);
    assert_eq!(copy_file_range(&file, Some(&mut at), &file, Some(&mut to_at), 1000), Ok(1000));
    let mut copied = vec![0; 1000];
    file.read_exact_at(&mut copied, 5_000_000).expect("readable");
    assert_eq!(copied, whole[10..1010]);
}

#[test]
fn who_reads_an_older_version_copies_that() {
    let source = FakePond::new();
    let inode = source.file(ROOT, "f", b"old");
    source.complete(inode);
    let pond = Pond::mount(&source);
    let reader = File::open(pond.path("f")).expect("opened");
    let (passed, _) = pond.opens();
    fs::OpenOptions::new().write(true).open(pond.path("f")).expect("opened").write_all_at(b"new", 0).expect("written");
    let to = File::create_new(pond.path("g")).expect("made");
    copy_all(&reader, &to, 0, 0);
    drop(to);
    let expected: &[u8] = if passed > 0 { b"old" } else { b"new" };
    assert_eq!(source.stored(ROOT, "g"), expected);
}

#[test]
fn a_file_that_was_read_just_now_is_opened_to_read_and_write() {
    let source = FakePond::new();
    let inode = source.file(ROOT, "f", b"bytes");
    source.complete(inode);
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    let reader = File::open(&path).expect("opened");
    // As late as the kernel tells of a close on a machine with much to do.
    let closing = thread::spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "it is the lateness that is tested")]
        thread::sleep(Duration::from_millis(600));
        drop(reader);
    });
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    closing.join().expect("closed");
    drop(opened.expect("it waits"));
}
