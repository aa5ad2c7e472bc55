//! Files that are open in more than one version.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use headpond_types::InodeId;

use super::*;

const ROOT: InodeId = InodeId::ROOT;

/// Bytes of the version `n`, no two alike.
fn version(n: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| n.wrapping_mul(31).wrapping_add(at.to_le_bytes()[0] ^ at.to_le_bytes()[1])).collect()
}

fn read(file: &File) -> Vec<u8> {
    let length = file.metadata().expect("attributes").len();
    let mut bytes = vec![0; usize::try_from(length).expect("short") + 1];
    let mut read = 0;
    loop {
        match file.read_at(&mut bytes[read..], read as u64).expect("readable") {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    bytes
}

#[test]
fn who_has_a_file_open_keeps_its_version_when_another_client_writes_it() {
    let source = FakePond::new();
    source.set_validity(Duration::ZERO);
    let inode = source.file(ROOT, "f", &version(0, 3_000_000));
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    // Each shorter or longer than the one before, none of them read before the next is there.
    let length = |n: u8| 3_000_000 - usize::from(n % 2) * 1_000_000 + usize::from(n) * 100_000;
    let mut readers = Vec::new();
    for n in 0..6 {
        if n > 0 {
            source.rewrite(ROOT, "f", &version(n, length(n)));
        }
        pond.wait_until(|_| fs::metadata(&path).expect("attributes").len() == length(n) as u64);
        readers.push(File::open(&path).expect("opened"));
    }
    for (n, reader) in (0..6).zip(&readers) {
        assert!(read(reader) == version(n, length(n)), "version {n} differs");
    }
    let (first, last) = (&readers[0], &readers[5]);
    assert_eq!(first.metadata().expect("attributes").ino(), inode.0);
    assert_eq!(
        last.metadata().expect("attributes").ino(),
        fs::metadata(&path).expect("attributes").ino(),
        "the name leads to the newest"
    );
    drop(readers);
    source.rewrite(ROOT, "f", b"the last");
    pond.wait_until(|_| fs::read(&path).expect("readable") == b"the last");
}

#[test]
fn a_name_that_leads_to_an_older_version_is_looked_up_again_by_an_open() {
    let source = FakePond::new();
    let inode = source.file(ROOT, "f", b"old bytes");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    let reader = File::open(&path).expect("opened");
    // Nobody is told, as when the notice is still on its way.
    source.rewrite_silently(inode, b"new");
    assert_eq!(fs::read(&path).expect("readable"), b"new");
    assert_eq!(read(&reader), b"old bytes");
    assert_eq!(fs::read(&path).expect("readable"), b"new");
}

#[test]
fn a_file_that_is_passed_through_is_written_and_read_beside_its_readers() {
    let (source, pond, reader) = read_from_disk();
    let (path, (passed, _)) = (pond.path("f"), pond.opens());
    let mut both = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
    both.write_all(b"NEW").expect("written");
    both.seek(SeekFrom::Start(0)).expect("seekable");
    let mut text = String::new();
    both.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "NEW bytes");
    assert_eq!(fs::read(&path).expect("readable"), b"NEW bytes", "before it is persisted");
    if passed > 0 {
        assert_eq!(read(&reader), b"old bytes", "who had it open keeps its version");
    }
    both.set_len(3).expect("cut");
    assert_eq!(fs::metadata(&path).expect("attributes").len(), 3);
    drop(both);
    pond.wait_until(|_| source.stored(ROOT, "f") == b"NEW");
    assert_eq!(fs::read(&path).expect("readable"), b"NEW");
    if passed > 0 {
        assert_eq!(read(&reader), b"old bytes", "and after");
    }
    drop(reader);
    let again = || OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    pond.wait_until(|_| again().is_ok());
    assert_eq!(fs::read(&path).expect("readable"), b"");
}
