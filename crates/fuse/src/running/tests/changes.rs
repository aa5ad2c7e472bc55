//! What changes behind the kernel's back.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    sync::{LazyLock, atomic::Ordering},
};

use headpond_types::InodeId;

use super::*;

/// How long the kernel may believe what it is told: long enough for a few system calls.
const VALIDITY: Duration = Duration::from_secs(1);

#[test]
fn a_missing_name_is_asked_for_once_and_seen_when_its_validity_ends() {
    let source = FakePond::new();
    source.set_warm(false);
    source.set_validity(VALIDITY);
    let pond = Pond::mount(&source);
    let path = pond.path("later");
    for _ in 0..3 {
        assert_eq!(errno(fs::metadata(&path)), Some(libc::ENOENT));
    }
    assert_eq!(source.asked().lookups.load(Ordering::SeqCst), 1);
    source.file(InodeId::ROOT, "later", b"now");
    source.tell(InodeId::ROOT, "later", None);
    pond.wait_until(|_| path.exists());
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
        source.set_validity(VALIDITY);
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
        pond.wait_until(|_| fs::metadata(&path).expect("attributes").ino() != inode.0);
        assert_eq!(fs::read(&path).expect("readable"), b"new and longer bytes");
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
fn a_removed_file_is_gone_when_its_validity_ends() {
    let source = FakePond::new();
    source.set_validity(VALIDITY);
    source.file(InodeId::ROOT, "f", b"x");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    assert!(fs::metadata(&path).is_ok());
    source.remove(InodeId::ROOT, "f");
    pond.wait_until(|_| errno(fs::metadata(&path)) == Some(libc::ENOENT));
}

#[test]
fn a_changed_name_is_seen_at_once_while_a_guard_watches() {
    let source = FakePond::new();
    source.set_warm(false);
    source.file(InodeId::ROOT, "f", b"old");
    let pond = Pond::mount_with(&source, |config| config.guard = Some(watching_program()));
    assert_eq!(errno(fs::metadata(pond.path("later"))), Some(libc::ENOENT));
    let old = fs::metadata(pond.path("f")).expect("there").ino();
    source.file(InodeId::ROOT, "later", b"now");
    source.tell(InodeId::ROOT, "later", None);
    source.replace(InodeId::ROOT, "f", b"new");
    pond.wait_until(|_| fs::metadata(pond.path("later")).is_ok());
    pond.wait_until(|_| fs::metadata(pond.path("f")).expect("there").ino() != old);
}

#[test]
fn without_a_guard_the_kernel_is_told_of_no_name() {
    for program in [None, Some("/nonexistent".into()), Some("/bin/false".into())] {
        let source = FakePond::new();
        source.file(InodeId::ROOT, "f", b"");
        let pond = Pond::mount_with(&source, |config| config.guard = program);
        source.tell(InodeId::ROOT, "f", None);
        pond.wait_for_invalidations(1);
        assert_eq!(pond.running().metrics.names_doubted.get(), 0);
    }
}

/// Until the kernel was told who may do what in the mount's root, it believes that nobody may do anything; and what it is told while it hears that
/// something changed there it does not believe.
#[test]
fn a_change_does_not_keep_the_kernel_from_learning_who_may_use_the_mount() {
    let source = FakePond::new();
    source.set_warm(false);
    source.set_answering(false);
    source.file(InodeId::ROOT, "f", b"bytes");
    let pond = Pond::mount_with(&source, |config| config.guard = Some(watching_program()));
    let path = pond.path("f");
    let user = std::thread::spawn(move || {
        if is_root() {
            without_power();
        }
        fs::read(path)
    });
    pond.wait_until(|_| source.asked().attrs.load(Ordering::SeqCst) >= 1);
    source.tell(InodeId::ROOT, "g", None);
    let told = async {
        while pond.running().metrics.invalidations.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    // That the kernel is told while it waits is what must not be, so nobody can wait for it.
    drop(pond.block_on(async { tokio::time::timeout(Duration::from_millis(300), told).await }));
    source.set_answering(true);
    assert_eq!(user.join().expect("no panic").expect("readable"), b"bytes");
    pond.wait_for_invalidations(1);
}

/// Has the kernel ask in this thread, as of any user, whether it may.
fn without_power() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("its own");
    sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, sets).expect("fewer than before");
}

/// A program that looks at the mount and says that it watches, until it is dismissed.
fn watching_program() -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    static PROGRAM: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("watch");
        fs::write(&path, "#!/bin/sh\nstat \"$2\" >/dev/null\nprintf .\nread -r word\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        (dir, path)
    });
    PROGRAM.1.clone()
}

#[test]
fn a_change_elsewhere_leaves_open_directories_and_mounts_below_where_they_are() {
    use std::os::fd::AsRawFd as _;
    let source = FakePond::new();
    let inner = source.dir(InodeId::ROOT, "d");
    source.dir(inner, "below");
    let pond = Pond::mount_with(&source, |config| config.guard = Some(watching_program()));
    let open = File::open(pond.path("d")).expect("it opens");
    let other = tempfile::tempdir().expect("a temporary directory");
    fs::write(other.path().join("mark"), b"").expect("written");
    // Only root may; for others this is about the open directory.
    let bound = rustix::mount::mount_bind(other.path(), pond.path("d/below")).is_ok();
    source.file(InodeId::ROOT, "new", b"");
    source.tell(InodeId::ROOT, "new", None);
    source.tell(InodeId::ROOT, "d", None);
    source.tell(inner, "below", None);
    pond.wait_until(|metrics| metrics.names_doubted.get() >= 3);
    assert!(fs::metadata(pond.path("d")).expect("there").is_dir());
    let name = fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).expect("a name");
    assert_eq!(name, pond.path("d"));
    let marked = pond.path("d/below/mark").exists();
    if bound {
        rustix::mount::unmount(pond.path("d/below"), rustix::mount::UnmountFlags::DETACH).expect("still mounted");
    }
    assert_eq!(marked, bound, "what was mounted below is gone");
    assert_eq!(bound, is_root());
}
