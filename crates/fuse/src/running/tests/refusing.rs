//! Changes through a mount that takes none, and questions without an answer.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    os::unix::ffi::OsStrExt as _,
};

use headpond_types::InodeId;
use rustix::{
    fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags},
    io::Errno,
};

use super::*;

fn changes(pond: &Pond) -> Vec<(&'static str, Result<(), Errno>)> {
    let (file, dir, new) = (pond.path("f"), pond.path("d"), pond.path("new"));
    let time = Timespec { tv_sec: 1, tv_nsec: 0 };
    let io = |result: std::io::Result<()>| result.map_err(|error| Errno::from_io_error(&error).expect("an errno"));
    vec![
        ("create", io(File::create(&new).map(drop))),
        ("open to write", io(OpenOptions::new().write(true).open(&file).map(drop))),
        ("open to append", io(OpenOptions::new().append(true).open(&file).map(drop))),
        ("open to truncate", io(OpenOptions::new().write(true).truncate(true).open(&file).map(drop))),
        ("truncate", rustix::fs::open(&file, rustix::fs::OFlags::WRONLY, Mode::empty()).map(drop)),
        ("mkdir", io(fs::create_dir(&new))),
        ("mknod", rustix::fs::mknodat(CWD, &new, FileType::Fifo, Mode::RUSR, 0)),
        ("symlink", io(std::os::unix::fs::symlink("f", &new))),
        ("link", io(fs::hard_link(&file, &new))),
        ("unlink", io(fs::remove_file(&file))),
        ("rmdir", io(fs::remove_dir(&dir))),
        ("rename", io(fs::rename(&file, &new))),
        ("chmod", rustix::fs::chmod(&file, Mode::RUSR)),
        ("chown", rustix::fs::chown(&file, Some(rustix::process::getuid()), None)),
        ("utimens", {
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &file, &times, rustix::fs::AtFlags::empty())
        }),
        ("setxattr", rustix::fs::setxattr(&file, "user.x", b"1", XattrFlags::empty())),
        ("removexattr", rustix::fs::removexattr(&file, "user.headpond.etag")),
    ]
}

#[test]
fn every_change_is_refused_with_erofs_by_the_kernel_and_by_the_daemon() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"x");
    source.dir(InodeId::ROOT, "d");
    for dataset in [false, true] {
        let pond = Pond::mount_with(&source, |config| (config.read_only, config.dataset) = (!dataset, dataset));
        for (change, outcome) in changes(&pond) {
            assert_eq!(outcome, Err(Errno::ROFS), "{change}");
        }
        // Only root may remount: then the kernel asks the daemon.
        if is_root() && !dataset {
            let none = CString::default();
            rustix::mount::mount_remount(pond.path(""), rustix::mount::MountFlags::empty(), none.as_c_str())
                .expect("root may remount");
            for (change, outcome) in changes(&pond) {
                assert_eq!(outcome, Err(Errno::ROFS), "{change} after a remount");
            }
        }
        assert_eq!(fs::read(pond.path("f")).expect("readable"), b"x");
    }
}

#[test]
fn what_there_is_not_yet_is_refused_as_the_manual_says() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"x");
    source.file(InodeId::ROOT, "g", b"y");
    let pond = Pond::mount(&source);
    let (file, other) = (pond.path("f"), pond.path("g"));
    assert_eq!(rustix::fs::setxattr(&file, "user.headpond.etag", b"1", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    assert_eq!(rustix::fs::removexattr(&file, "user.headpond.etag"), Err(Errno::OPNOTSUPP));
    let whiteout = rustix::fs::renameat_with(CWD, &file, CWD, &other, rustix::fs::RenameFlags::WHITEOUT);
    assert_eq!(whiteout, Err(Errno::INVAL));
    let open = OpenOptions::new().write(true).open(&file).expect("it opens");
    let collapse = rustix::fs::FallocateFlags::COLLAPSE_RANGE;
    assert_eq!(rustix::fs::fallocate(&open, collapse, 0, 1), Err(Errno::OPNOTSUPP));
}

#[test]
fn a_directory_cannot_be_read_as_a_file() {
    let source = FakePond::new();
    source.dir(InodeId::ROOT, "d");
    let pond = Pond::mount(&source);
    assert_eq!(errno(fs::read(pond.path("d"))), Some(libc::EISDIR));
    assert_eq!(errno(fs::read_link(pond.path("d"))), Some(libc::EINVAL));
    assert_eq!(errno(fs::metadata(pond.path("d/x/y"))), Some(libc::ENOENT));
}

#[test]
fn extended_attributes_tell_version_and_content() {
    let source = FakePond::new();
    let inode = source.file(InodeId::ROOT, "f", b"x");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    let get = |name: &str| {
        let mut buffer = [0; 64];
        rustix::fs::getxattr(&path, name, &mut buffer).map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned())
    };
    assert_eq!(get("user.headpond.etag"), Ok(format!("etag-{inode}")));
    assert_eq!(get("user.headpond.content"), Ok(format!("{:032x}", inode.0)));
    assert_eq!(get("user.other"), Err(Errno::NODATA));
    assert_eq!(get("security.capability"), Err(Errno::NODATA));
    let mut names = [0; 128];
    let len = rustix::fs::listxattr(&path, &mut names).expect("names");
    assert_eq!(&names[..len], b"user.headpond.etag\0user.headpond.content\0");
    assert_eq!(rustix::fs::listxattr(&path, &mut [0; 5]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::listxattr(pond.path(""), &mut names), Ok(0));
}

#[test]
fn there_is_always_room_and_names_have_255_bytes() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let found = rustix::fs::statvfs(pond.path("").as_os_str().as_bytes()).expect("statfs");
    assert_eq!(found.f_namemax, 255);
    assert!(found.f_bavail > found.f_blocks / 2 && found.f_files > 0);
    assert!(!found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
}
