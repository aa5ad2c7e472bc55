use std::{cell::Cell, ops::ControlFlow, sync::atomic::Ordering};

use headpond_types::Name;

use super::*;
use crate::testing::FakePond;

type Fs = FileSystem<FakePond, u32>;

fn fs_over(source: &FakePond, root: InodeId, dataset: bool) -> Fs {
    let request_timeout = Duration::from_secs(10);
    FileSystem::new(source.clone(), FsOptions { root, dataset, max_ttl: Duration::from_secs(30), request_timeout })
}

fn change(parent: InodeId) -> Event {
    Event::Entry {
        parent,
        name: Some(Name::new("x").unwrap()),
        old: None,
        own: false,
        same: false,
        awaited: headpond_client::Awaited::default(),
    }
}

/// Reads a directory from `offset` on, `room` entries; answers where the next one starts and the longest validity given.
async fn read_some(fs: &Fs, handle: u64, offset: u64, room: usize) -> (u64, Duration) {
    let dir = fs.dir(handle).unwrap();
    let (mut next, mut left, mut ttl) = (offset, room, Duration::ZERO);
    let add = |entry: DirEntry<'_>| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        (next, left, ttl) = (entry.next, left - 1, ttl.max(entry.ttl));
        ControlFlow::Continue(())
    };
    fs.read_dir(&dir, offset, add).await.unwrap();
    (next, ttl)
}

async fn read_all(fs: &Fs, handle: u64, mut offset: u64) {
    loop {
        match read_some(fs, handle, offset, 10).await {
            (next, _) if next == offset => return,
            (next, _) => offset = next,
        }
    }
}

fn of_twenty() -> FakePond {
    let source = FakePond::new();
    for n in 0..20 {
        source.file(InodeId::ROOT, &format!("f{n:02}"), b"x");
    }
    source
}

#[tokio::test]
async fn the_kernel_keeps_a_listing_until_its_directory_changes() {
    for event in [change(InodeId::ROOT), Event::Reset] {
        let source = of_twenty();
        let fs = fs_over(&source, InodeId::ROOT, false);
        let (handle, kept) = fs.open_dir(1);
        assert!(!kept);
        read_all(&fs, handle, 0).await;
        assert!(fs.open_dir(1).1);
        fs.apply(&change(InodeId(77)));
        assert!(fs.open_dir(1).1, "another directory changed");
        fs.apply(&event);
        assert!(!fs.open_dir(1).1);
    }
}

#[tokio::test]
async fn a_listing_that_a_change_overtakes_is_not_kept_and_given_no_validity() {
    let source = of_twenty();
    let fs = fs_over(&source, InodeId::ROOT, false);
    let (handle, _) = fs.open_dir(1);
    let (next, ttl) = read_some(&fs, handle, 0, 5).await;
    assert_eq!(ttl, Duration::from_secs(30), "validity is cut to the longest allowed");
    fs.apply(&change(InodeId::ROOT));
    assert_eq!(read_some(&fs, handle, next, 5).await.1, Duration::ZERO);
    read_all(&fs, handle, next).await;
    assert!(!fs.open_dir(1).1);
    read_all(&fs, handle, 0).await;
    assert!(fs.open_dir(1).1, "rewound, it is a new listing");
}

#[tokio::test]
async fn an_expired_listing_is_not_kept() {
    let source = of_twenty();
    source.set_validity(Duration::ZERO);
    let fs = fs_over(&source, InodeId::ROOT, false);
    let (handle, _) = fs.open_dir(1);
    read_all(&fs, handle, 0).await;
    assert!(!fs.open_dir(1).1);
}

#[test]
fn an_inode_is_registered_at_its_first_open_only_and_given_back_after_its_last() {
    let source = FakePond::new();
    let inode = source.file(InodeId::ROOT, "f", b"bytes");
    source.complete(inode);
    let fs = fs_over(&source, InodeId::ROOT, false);
    let registered = Cell::new(0);
    let open = || {
        let file = fs.open_now(inode.0).unwrap();
        let opening = Opening::Read(file);
        let admitted = fs.admit(inode.0, opening, |_| {
            registered.set(registered.get() + 1);
            Some(registered.get())
        });
        admitted.unwrap().mode
    };
    let (first, second) = (open(), open());
    assert!(matches!((&first, &second), (Mode::Passthrough(a), Mode::Passthrough(b)) if **a == 1 && **b == 1));
    drop(fs.release(inode.0, READER));
    assert!(matches!(open(), Mode::Passthrough(id) if *id == 1), "one open is left");
    drop(fs.release(inode.0, READER));
    drop(fs.release(inode.0, READER));
    assert!(matches!(open(), Mode::Passthrough(id) if *id == 2));
    let Mode::Passthrough(weak) = first else { panic!("it passes through") };
    drop(second);
    assert_eq!(Arc::strong_count(&weak), 1, "the table holds no registration that is over");
}

#[test]
fn an_inode_that_the_kernel_did_not_take_stays_cached_while_it_is_open() {
    let source = FakePond::new();
    let inode = source.file(InodeId::ROOT, "f", b"bytes");
    source.complete(inode);
    let fs = fs_over(&source, InodeId::ROOT, false);
    let open = |backing: Option<u32>| {
        let opening = Opening::Read(fs.open_now(inode.0).unwrap());
        fs.admit(inode.0, opening, |_| backing).unwrap().mode
    };
    assert!(matches!(open(None), Mode::Cached));
    assert!(matches!(open(Some(1)), Mode::Cached));
    drop(fs.release(inode.0, READER));
    drop(fs.release(inode.0, READER));
    assert!(matches!(open(Some(1)), Mode::Passthrough(_)));
}

#[test]
fn the_shown_directory_is_node_one_and_the_root_above_it_is_none() {
    let source = FakePond::new();
    let part = source.dir(InodeId::ROOT, "part");
    let fs = fs_over(&source, part, false);
    assert_eq!(fs.node_of(part), Some(1));
    assert_eq!(fs.inode_of(1), part);
    assert_eq!(fs.node_of(InodeId::ROOT), None);
    assert_eq!(fs.node_of(InodeId(9)), Some(9));
}

/// The kernel's FORGET needs no answer of ours: node ids are made of inode ids, nothing is remembered until one comes.
#[tokio::test]
async fn what_was_seen_and_closed_leaves_nothing_behind() {
    const LISTINGS: u64 = 16 << 10;
    let source = FakePond::new();
    let dirs: Vec<_> = (0..LISTINGS + 1000).map(|n| source.dir(InodeId::ROOT, &format!("d{n}"))).collect();
    let files: Vec<_> = (0..100).map(|n| source.file(InodeId::ROOT, &format!("f{n}"), b"bytes")).collect();
    let fs = fs_over(&source, InodeId::ROOT, false);
    for (dir, file) in dirs.iter().zip(files.iter().cycle()) {
        fs.lookup(dir.0, b"missing").await.unwrap();
        let (handle, _) = fs.open_dir(dir.0);
        read_all(&fs, handle, 0).await;
        fs.release_dir(handle);
        fs.admit(file.0, Opening::Read(fs.open(file.0).await.unwrap()), |_| Some(1)).unwrap();
        assert_eq!(fs.read(file.0, READER, 0, 5).await.unwrap().len(), 5);
        drop(fs.release(file.0, READER));
    }
    assert_eq!((fs.opens.len(), fs.dirs.len()), (0, 0));
    assert!(fs.kept.len() <= LISTINGS, "{} listings", fs.kept.len());
}

#[tokio::test]
async fn a_file_that_is_cut_by_its_path_is_persisted_unless_somebody_has_it_open() {
    let source = FakePond::new();
    let inode = source.file(InodeId::ROOT, "f", b"bytes");
    let fs = fs_over(&source, InodeId::ROOT, false);
    let cut = async |length| {
        fs.set_attr(inode.0, None, Change { length: Some(length), ..Change::default() }, true).await.unwrap();
        source.asked().persists.load(Ordering::SeqCst)
    };
    // Its last handle was just taken back, and something else has the writer still.
    let lingering = source.open_writer(inode, false).await.unwrap();
    assert_eq!(cut(3).await, 1);
    let (handle, _) = fs.admit_writer(inode.0, lingering, false, false).unwrap();
    assert_eq!(cut(2).await, 1, "its close does so");
    let left = fs.release(inode.0, handle).expect("there is something to persist");
    fs.finish(inode.0, left).await.unwrap();
    assert_eq!(source.asked().persists.load(Ordering::SeqCst), 2);
}
