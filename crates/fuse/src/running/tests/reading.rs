//! Opening and reading.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{atomic::Ordering, mpsc},
};

use headpond_types::InodeId;

use super::*;
use crate::metrics::Op;

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from(index * 31 % 251).expect("below 251")).collect()
}

#[test]
fn files_read_what_they_hold_at_every_offset_and_end_where_they_end() {
    let source = FakePond::new();
    let data = sample(3 * 1024 * 1024 + 17);
    let below = source.dir(InodeId::ROOT, "a");
    source.file(below, "large", &data);
    source.file(below, "empty", b"");
    for warm in [true, false] {
        source.set_warm(warm);
        let pond = Pond::mount(&source);
        assert_eq!(fs::read(pond.path("a/large")).expect("readable"), data);
        assert_eq!(fs::read(pond.path("a/empty")).expect("readable"), b"");
        let file = File::open(pond.path("a/large")).expect("it opens");
        let mut buffer = [0; 100];
        assert_eq!(file.read_at(&mut buffer, 1_048_570).expect("readable"), 100);
        assert_eq!(buffer[..], data[1_048_570..1_048_670]);
        assert_eq!(file.read_at(&mut buffer, data.len() as u64 - 3).expect("readable"), 3);
        assert_eq!(file.read_at(&mut buffer, data.len() as u64 + 1).expect("readable"), 0);
        let found = file.metadata().expect("attributes");
        assert_eq!((found.len(), found.mtime_nsec(), found.mode() & 0o7777), (data.len() as u64, 123_456_789, 0o644));
    }
}

#[test]
fn a_file_is_data_without_holes() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"0123456789");
    let pond = Pond::mount(&source);
    let mut file = File::open(pond.path("f")).expect("it opens");
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(3)), Ok(3));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(3)), Ok(10));
    file.seek(SeekFrom::End(-1)).expect("seekable");
    let mut last = String::new();
    file.read_to_string(&mut last).expect("readable");
    assert_eq!(last, "9");
}

#[test]
fn an_inode_keeps_its_mode_from_first_open_to_last_close_and_then_switches_at_once() {
    let source = FakePond::new();
    let data = sample(64 * 1024);
    let inode = source.file(InodeId::ROOT, "f", &data);
    let pond = Pond::mount(&source);
    let path = pond.path("f");

    let first = File::open(&path).expect("it opens");
    assert_eq!(pond.opens(), (0, 1));
    source.complete(inode);
    let second = File::open(&path).expect("a second open beside a cached one");
    assert_eq!(pond.opens(), (0, 2));
    for file in [&first, &second] {
        let mut buffer = vec![0; data.len()];
        file.read_exact_at(&mut buffer, 0).expect("readable");
        assert_eq!(buffer, data);
    }
    drop(first);
    drop(second);

    // The kernel sends RELEASE after close has returned.
    pond.wait_until(|metrics| metrics.requests(Op::Release) == 2);

    let through = pond.bytes_read();
    let third = File::open(&path).expect("it opens");
    let fourth = File::open(&path).expect("another open in the same mode");
    for file in [&third, &fourth] {
        let mut buffer = vec![0; data.len()];
        file.read_exact_at(&mut buffer, 0).expect("readable");
        assert_eq!(buffer, data);
    }
    assert_eq!(pond.bytes_read(), through, "neither passthrough nor the page cache comes to the daemon");
    if is_root() {
        assert_eq!(pond.opens(), (2, 2));
        assert_eq!(pond.running().data_path(), DataPath::Passthrough);
    } else {
        assert_eq!(pond.opens(), (0, 4));
        assert!(matches!(pond.running().data_path(), DataPath::Daemon { reason } if reason.contains("root")));
    }
    assert_eq!(pond.running().metrics.requests(Op::Other), 0, "closing asks nothing");
}

#[test]
fn without_passthrough_complete_files_are_read_once_and_then_by_the_kernel() {
    let source = FakePond::new();
    let data = sample(256 * 1024);
    let inode = source.file(InodeId::ROOT, "f", &data);
    source.complete(inode);
    let pond = Pond::mount_with(&source, |config| config.passthrough = false);
    assert_eq!(fs::read(pond.path("f")).expect("readable"), data);
    assert_eq!(pond.bytes_read(), data.len() as u64);
    assert_eq!(fs::read(pond.path("f")).expect("readable"), data);
    assert_eq!(pond.bytes_read(), data.len() as u64, "pages are kept across opens");
    assert_eq!(pond.opens(), (0, 2));
    assert_eq!(source.reads(inode), 0, "what is on the disk is read on the spot");
}

#[test]
fn a_slow_read_holds_up_nobody_else() {
    let source = FakePond::new();
    source.set_warm(false);
    let slow: Vec<_> = (0..40).map(|n| source.file(InodeId::ROOT, &format!("slow{n}"), &sample(4096))).collect();
    source.file(InodeId::ROOT, "quick", b"here");
    for inode in &slow {
        source.set_flowing(*inode, false);
    }
    let pond = Pond::mount(&source);
    let (done, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        for n in 0..slow.len() {
            let (path, done) = (pond.path(&format!("slow{n}")), done.clone());
            scope.spawn(move || done.send(fs::read(path).expect("readable").len()).expect("the test waits"));
        }
        pond.block_on(async {
            while slow.iter().any(|inode| source.reads(*inode) == 0) {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(fs::read(pond.path("quick")).expect("readable"), b"here");
        assert_eq!(fs::read_dir(pond.path("")).expect("listable").count(), slow.len() + 1);
        assert!(finished.try_recv().is_err(), "the slow ones are still waiting");
        for inode in &slow {
            source.set_flowing(*inode, true);
        }
    });
    assert_eq!(finished.try_iter().collect::<Vec<_>>(), vec![4096; slow.len()]);
}

#[test]
fn a_read_that_gets_no_answer_ends_at_the_deadline() {
    let source = FakePond::new();
    let inode = source.file(InodeId::ROOT, "f", b"never");
    source.set_flowing(inode, false);
    let pond = Pond::mount_with(&source, |config| config.request_timeout = Duration::from_millis(50));
    let file = File::open(pond.path("f")).expect("it opens");
    assert_eq!(errno(file.read_at(&mut [0; 5], 0)), Some(libc::EIO));
}

#[test]
fn a_dataset_mount_opens_without_asking_and_reads_the_same() {
    let source = FakePond::new();
    let data = sample(100 * 1024);
    let inode = source.file(InodeId::ROOT, "f", &data);
    source.file(InodeId::ROOT, "g", b"other");
    source.complete(inode);
    let pond = Pond::mount_with(&source, |config| config.dataset = true);
    for _ in 0..3 {
        assert_eq!(fs::read(pond.path("f")).expect("readable"), data);
        assert_eq!(fs::read(pond.path("g")).expect("readable"), b"other");
    }
    assert_eq!(pond.opens(), (0, 0));
    assert_eq!(pond.bytes_read(), data.len() as u64 + 5, "pages are kept");
    assert!(matches!(pond.running().data_path(), DataPath::Daemon { .. }));
    source.set_warm(false);
    let asked = source.asked().opens.load(Ordering::SeqCst);
    assert_eq!(fs::read(pond.path("f")).expect("readable"), data);
    assert_eq!(source.asked().opens.load(Ordering::SeqCst), asked, "a warm open and read asks nobody");
}

#[test]
fn a_mount_can_show_a_part_of_the_namespace() {
    let source = FakePond::new();
    let part = source.dir(InodeId::ROOT, "part");
    source.file(part, "f", b"inside");
    source.file(InodeId::ROOT, "g", b"outside");
    let pond = Pond::mount_with(&source, |config| config.root = "/part".parse().expect("a path"));
    assert_eq!(fs::read(pond.path("f")).expect("readable"), b"inside");
    assert_eq!(errno(fs::metadata(pond.path("g"))), Some(libc::ENOENT));
    assert_eq!(fs::metadata(pond.path("")).expect("attributes").ino(), 1);

    let dir = tempfile::tempdir().expect("a temporary directory");
    for (root, kind) in [("/missing", ErrorKind::NotFound), ("/g", ErrorKind::NotADirectory)] {
        let config = FuseConfig { root: root.parse().expect("a path"), ..FuseConfig::new(dir.path()) };
        let refused = pond.block_on(start(config, source.clone(), pond.tasks.clone())).expect_err("must be refused");
        assert_eq!(refused.kind(), kind);
    }
}
