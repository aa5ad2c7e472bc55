//! Disks that are full, gone, or no longer what they were.
//!
//! The full disk is had in two ways: by a limit on the size of files, which needs no rights, and as root by a small tmpfs. A
//! read-only disk is a tmpfs for root, and directories without the right to write for others, whom permission bits bind. A
//! directory that fails is made by moving it away or putting a file in its place.

use std::{
    fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path, process::Command, sync::atomic::Ordering,
};

use headpond_store::{DirConfig, PageStore, StoreConfig, StoreError};
use headpond_types::PAGE_SIZE;

use crate::support::{bytes_of, fill_all, id, store, try_fill};

/// Set in the environment of a process whose files are limited in size.
const LIMITED: &str = "HEADPOND_TEST_LIMITED_DIR";

#[test]
fn under_a_limit() {
    let Ok(dir) = std::env::var(LIMITED) else {
        // Only the next test starts it as such.
        return;
    };
    let store = store(Path::new(&dir), 64);
    let small = store.content(id(1), PAGE_SIZE).unwrap();
    fill_all(&small);
    let large = store.content(id(2), 8 * PAGE_SIZE).unwrap();
    for _ in 0..2 {
        assert!(matches!(large.page_writer(0), Err(StoreError::Full { .. })));
    }
    let staging = store.stage().unwrap();
    let page = bytes_of(&large, 0);
    staging.write_at(0, &page).unwrap();
    assert!(matches!(staging.write_at(2 * PAGE_SIZE, &page), Err(StoreError::Full { .. })));
    assert_eq!(staging.read_at(0, page.len()).unwrap(), page);
    assert!(store.usage().dirs[0].problem.is_none(), "a full disk is no broken disk");
    assert!(store.counters().write_errors.load(Ordering::Relaxed) > 0);
    let small = store.content(id(1), PAGE_SIZE).unwrap();
    drop(try_fill(&small, 0));
    assert_eq!(small.read(0..PAGE_SIZE).unwrap(), bytes_of(&small, 0));
}

#[test]
fn a_limit_on_files_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    // 2 MiB; a trap that ignores the signal is inherited.
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" faults::under_a_limit --exact"])
        .arg(std::env::current_exe().unwrap())
        .env(LIMITED, dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A disk that can be made read-only: a tmpfs of 16 MiB that is unmounted when dropped, or where only root may have that, a
/// directory.
enum Disk {
    Tmpfs(tempfile::TempDir),
    Directory(tempfile::TempDir),
}

impl Disk {
    fn new(what: &str) -> Self {
        use rustix::mount::{MountFlags, mount};
        let dir = tempfile::tempdir().unwrap();
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), c"size=16m") {
            Ok(()) => Self::Tmpfs(dir),
            Err(rustix::io::Errno::PERM) => {
                // Past the capture of the harness: what is not run must be seen.
                let said = format!("{what}: run as an ordinary user: without a tmpfs\n");
                std::io::stderr().write_all(said.as_bytes()).unwrap();
                Self::Directory(dir)
            }
            Err(error) => panic!("cannot mount a tmpfs: {error}"),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Tmpfs(dir) | Self::Directory(dir) => dir.path(),
        }
    }

    fn set_writable(&self, writable: bool) {
        use rustix::mount::{MountFlags, mount_remount};
        match self {
            Self::Tmpfs(dir) => {
                let flags = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
                mount_remount(dir.path(), flags, c"").unwrap();
            }
            Self::Directory(dir) => set_writable(dir.path(), writable),
        }
    }
}

/// Gives or takes the right to write for all that lies at `path`.
fn set_writable(path: &Path, writable: bool) {
    let mode = if writable { 0o700 } else { 0o500 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| set_writable(&entry.unwrap().path(), writable));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Tmpfs(dir) = self {
            rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
}

#[test]
fn a_disk_that_fills_up_before_the_capacity_does_evicts_and_goes_on() {
    let disk = Disk::new("a disk that fills up before the capacity does");
    if let Disk::Directory(_) = disk {
        return a_limit_on_files_is_a_full_disk();
    }
    let store = store(disk.path(), 64);
    let content = store.content(id(1), 100 * PAGE_SIZE).unwrap();
    fill_all(&content);
    let present: Vec<u64> = (0..100).filter(|page| content.is_present(*page)).collect();
    assert!(present.len() >= 7 && present.len() < 16, "{present:?}");
    for page in present {
        assert_eq!(content.read(page * PAGE_SIZE..(page + 1) * PAGE_SIZE).unwrap(), bytes_of(&content, page));
    }
    // With everything lent there is nothing to evict.
    let loan = content.lend().unwrap();
    let other = store.content(id(2), 20 * PAGE_SIZE).unwrap();
    let refused = (0..20).find_map(|page| try_fill(&other, page).err());
    let _other = other.lend().unwrap();
    assert!(refused.is_none_or(|error| matches!(error, StoreError::Full { .. })));
    let third = store.content(id(3), 20 * PAGE_SIZE).unwrap();
    let refused = (0..20).find_map(|page| try_fill(&third, page).err());
    assert!(refused.is_none_or(|error| matches!(error, StoreError::Full { .. })));
    drop(loan);
    assert!(store.usage().dirs[0].problem.is_none());
}

#[test]
fn a_read_only_disk_is_out_of_use_until_it_is_writable_again() {
    let disk = Disk::new("a read-only disk");
    let store = store(disk.path(), 8);
    let content = store.content(id(1), PAGE_SIZE).unwrap();
    fill_all(&content);
    // The kernel refuses to turn a file system read-only while files are open for writing.
    drop((content, store));
    disk.set_writable(false);
    let store = crate::support::store(disk.path(), 8);
    assert!(store.usage().dirs[0].problem.is_some());
    assert!(matches!(store.content(id(1), PAGE_SIZE), Err(StoreError::DirFailed { .. })));
    assert_eq!(store.probe_failed(), 0);
    disk.set_writable(true);
    assert_eq!(store.probe_failed(), 1);
    let content = store.find(id(1)).unwrap();
    assert_eq!(content.read(0..PAGE_SIZE).unwrap(), bytes_of(&content, 0));
}

fn two_dirs(root: &Path) -> PageStore {
    let dir = |name| DirConfig { path: root.join(name), capacity_bytes: 64 << 20 };
    PageStore::open(StoreConfig { dirs: vec![dir("a"), dir("b")] }).unwrap()
}

#[test]
fn a_directory_that_vanishes_leaves_the_others_at_work_and_may_come_back() {
    let root = tempfile::tempdir().unwrap();
    let store = two_dirs(root.path());
    for n in 0..40 {
        fill_all(&store.content(id(n), 1000).unwrap());
    }
    let before = store.usage();
    let held = store.find(id(0)).unwrap();
    fs::rename(root.path().join("a"), root.path().join("elsewhere")).unwrap();
    fs::create_dir(root.path().join("a")).unwrap();
    fs::remove_dir_all(root.path().join("elsewhere/pages")).unwrap();

    // The next new content of that directory meets it; it is not an error of the other.
    let mut failures = 0;
    for n in 100..140 {
        match try_fill(&store.content(id(n), 1000).unwrap(), 0) {
            Ok(()) => {}
            Err(StoreError::DirFailed { dir, .. }) => {
                assert_eq!(dir, root.path().join("a"));
                failures += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(failures, 1, "once it is known nobody is sent there");
    assert_eq!(store.counters().failed_dirs.load(Ordering::Relaxed), 1);
    let usage = store.usage();
    assert!(usage.dirs[0].problem.is_some() && usage.dirs[0].pages == 0, "{usage:?}");
    assert!(usage.dirs[1].problem.is_none());
    let found = (0..40).filter(|n| store.find(id(*n)).is_some()).count() as u64;
    assert_eq!(found, before.dirs[1].contents);
    drop(held.read(0..1));

    assert_eq!(store.probe_failed(), 1);
    assert_eq!(store.probe_failed(), 0);
    assert!(store.usage().dirs[0].problem.is_none());
    for n in 0..40 {
        let content = store.content(id(n), 1000).unwrap();
        if !content.is_complete() {
            fill_all(&content);
        }
        assert_eq!(content.read(0..1000).unwrap(), bytes_of(&content, 0));
    }
}

#[test]
fn without_any_directory_callers_are_told_to_go_on_without() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cache");
    fs::write(&path, "a file, not a directory").unwrap();
    let config = StoreConfig { dirs: vec![DirConfig { path: path.clone(), capacity_bytes: 1 << 20 }] };
    let store = PageStore::open(config).unwrap();
    let error = store.content(id(1), 5).unwrap_err();
    assert!(matches!(error, StoreError::DirFailed { .. }), "{error}");
    assert_eq!(store.usage().capacity_bytes(), 0);
    assert_eq!(store.probe_failed(), 0);
    fs::remove_file(path).unwrap();
    assert_eq!(store.probe_failed(), 1);
    fill_all(&store.content(id(1), 5).unwrap());
}

#[test]
fn a_file_that_is_removed_or_cut_behind_our_back_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let (gone, cut, fine) =
        (store.content(id(1), 10).unwrap(), store.content(id(2), 10).unwrap(), store.content(id(3), 10).unwrap());
    for content in [&gone, &cut, &fine] {
        fill_all(content);
    }
    fs::remove_file(crate::support::file_of(dir.path(), &gone)).unwrap();
    fs::OpenOptions::new().write(true).open(crate::support::file_of(dir.path(), &cut)).unwrap().set_len(4).unwrap();
    assert!(matches!(gone.read(0..10), Err(StoreError::Absent { .. })));
    assert!(store.find(id(1)).is_none());
    assert!(matches!(cut.read(0..10), Err(StoreError::Corrupt { .. })));
    assert_eq!(fine.read(0..10).unwrap(), bytes_of(&fine, 0));
    assert!(store.usage().dirs[0].problem.is_none());
}

#[test]
fn a_full_disk_refuses_staged_bytes_and_keeps_what_was_there() {
    let disk = Disk::new("a full disk");
    if let Disk::Directory(_) = disk {
        return a_limit_on_files_is_a_full_disk();
    }
    let store = store(disk.path(), 64);
    for n in 0..8 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
    let staging = store.stage().unwrap();
    let page = vec![5; usize::try_from(PAGE_SIZE).unwrap()];
    let written = (0..32).take_while(|at| staging.write_at(at * PAGE_SIZE, &page).is_ok()).count();
    assert!((14..16).contains(&written), "clean contents made room: {written}");
    assert!(matches!(staging.write_at(20 * PAGE_SIZE, &page), Err(StoreError::Full { .. })));
    assert!(store.usage().dirs[0].problem.is_none(), "a full disk is no broken disk");
    assert_eq!(staging.read_at(13 * PAGE_SIZE, page.len()).unwrap(), page);
    drop(staging);
    fill_all(&store.content(id(20), 8 * PAGE_SIZE).unwrap());
}
