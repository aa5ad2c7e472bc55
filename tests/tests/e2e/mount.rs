//! The mount as programs meet it: read-only, with attributes and errors as POSIX has them.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
};

use anyhow::{Result, ensure};
use headpond_tests::{can_passthrough, http_get, noise, run_as};
use rustix::io::Errno;

use crate::lake::Lake;

#[test]
fn every_change_is_refused_as_read_only() -> Result<()> {
    let lake = Lake::of([("d/f", "1"), ("g", "2")])?;
    let pond = lake.pond().arg("--read-only").start()?;
    let (file, fresh) = (pond.path("d/f"), pond.path("d/new"));
    let attempts: [(&str, std::io::Result<()>); 12] = [
        ("create", File::create_new(&fresh).map(drop)),
        ("open for writing", OpenOptions::new().write(true).open(&file).map(drop)),
        ("append", OpenOptions::new().append(true).open(&file).map(drop)),
        ("truncate", OpenOptions::new().write(true).truncate(true).open(&file).map(drop)),
        ("mkdir", std::fs::create_dir(&fresh)),
        ("rmdir", std::fs::remove_dir(pond.path("d"))),
        ("unlink", std::fs::remove_file(&file)),
        ("rename", std::fs::rename(&file, &fresh)),
        ("link", std::fs::hard_link(&file, &fresh)),
        ("symlink", symlink("f", &fresh)),
        ("chmod", std::fs::set_permissions(&file, Permissions::from_mode(0o600))),
        ("setxattr", rustix::fs::setxattr(&file, "user.a", b"1", rustix::fs::XattrFlags::empty()).map_err(Into::into)),
    ];
    for (what, result) in attempts {
        let error = result.err().and_then(|error| error.raw_os_error());
        ensure!(error == Some(Errno::ROFS.raw_os_error()), "{what} answers {error:?}");
    }
    ensure!(lake.list()?.len() == 2 && lake.offences().is_empty(), "{:?}", lake.offences());
    Ok(())
}

#[test]
fn attributes_and_errors_are_those_of_posix() -> Result<()> {
    let lake = Lake::of([("d/f", "12345")])?;
    let pond = lake.pond().start()?;
    let file = std::fs::metadata(pond.path("d/f"))?;
    ensure!(file.is_file() && file.len() == 5 && file.permissions().mode() & 0o444 == 0o444, "{file:?}");
    let age = file.modified()?.elapsed()?;
    ensure!(age.as_secs() < 600, "modified {age:?} ago");
    ensure!(std::fs::metadata(pond.path("d"))?.is_dir(), "a directory");
    let cases = [("d/f/g", Errno::NOTDIR), ("nothing", Errno::NOENT), (&"x".repeat(256), Errno::NAMETOOLONG)];
    for (name, errno) in cases {
        let error = std::fs::metadata(pond.path(name)).expect_err("no such file");
        ensure!(error.raw_os_error() == Some(errno.raw_os_error()), "{name} answers {error}");
    }
    let error = std::fs::read_dir(pond.path("d/f")).expect_err("a file has no entries");
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    let reader = File::open(pond.path("d/f"))?;
    let mut buffer = [0; 16];
    ensure!(reader.read_at(&mut buffer, 3)? == 2, "a read ends at the end of the file");
    ensure!(reader.read_at(&mut buffer, 5)? == 0, "nothing lies past the end");
    let space = rustix::fs::statvfs(pond.path(""))?;
    ensure!(space.f_namemax == 255 && space.f_blocks > 0 && space.f_bavail > 0, "names of {} bytes", space.f_namemax);
    Ok(())
}

#[test]
fn a_directory_of_many_files_lists_completely() -> Result<()> {
    let lake = Lake::of((0..3_500).map(|n| (format!("d/file-{n:05}"), "x")))?;
    let pond = lake.pond().start()?;
    for round in 0..2 {
        let mut names: Vec<_> = std::fs::read_dir(pond.path("d"))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        names.dedup();
        ensure!(names.len() == 3_500, "round {round}: {} names", names.len());
    }
    Ok(())
}

#[test]
fn warm_opens_pass_through_the_kernel_where_the_user_may() -> Result<()> {
    let lake = Lake::of([("small", noise(1, 5000)), ("large", noise(2, 5 << 20))])?;
    let pond = lake.pond().start()?;
    for name in ["small", "large"] {
        std::fs::read(pond.path(name))?;
    }
    let opens = |kind: &str| -> Result<f64> {
        let (_, metrics) = http_get(pond.http_port(), "/metrics")?;
        let line = metrics.lines().find(|line| line.starts_with("headpond_fuse_opens_total") && line.contains(kind));
        Ok(line.and_then(|line| line.split(' ').nth(1)).map_or(Ok(0.0), str::parse)?)
    };
    let before = opens("passthrough")?;
    for name in ["small", "large"] {
        std::fs::read(pond.path(name))?;
    }
    let passed = opens("passthrough")? - before;
    let expected = if can_passthrough() {
        run_as("warm opens", "root: passed through to the cache file by the kernel");
        2.0
    } else {
        run_as("warm opens", "an ordinary user: answered by the daemon from the cache file");
        0.0
    };
    ensure!((passed - expected).abs() < 0.5, "{passed} opens passed through, {expected} were to");
    Ok(())
}

#[test]
fn a_dataset_mount_reads_and_shows_a_changed_object_under_a_new_inode() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let lake = Lake::of([("d/a", noise(1, 300_000)), ("d/b", noise(2, 3 << 20))])?;
    let pond = lake.pond().arg("-o").arg("dataset").arg("--sync-interval").arg("1s").start()?;
    for _ in 0..2 {
        ensure!(std::fs::read(pond.path("d/a"))? == noise(1, 300_000)[..], "a differs");
        ensure!(std::fs::read(pond.path("d/b"))? == noise(2, 3 << 20)[..], "b differs");
    }
    let held = File::open(pond.path("d/a"))?;
    let inode = held.metadata()?.ino();
    lake.put("d/a", noise(3, 300_000))?;
    headpond_tests::eventually("the new version appears", || {
        Ok(std::fs::read(pond.path("d/a"))? == noise(3, 300_000)[..])
    })?;
    ensure!(std::fs::metadata(pond.path("d/a"))?.ino() != inode, "the inode stayed");
    let mut buffer = vec![0; 300_000];
    // The kernel gives up its pages, as when memory is short: the worker still has them.
    rustix::fs::fadvise(&held, 0, None, rustix::fs::Advice::DontNeed)?;
    held.read_exact_at(&mut buffer, 0)?;
    ensure!(buffer == noise(1, 300_000)[..], "the open reader sees other bytes");
    Ok(())
}
