//! Two stores in one namespace: nothing is renamed or linked from one to the other, and programs copy.

use std::{ffi::OsStr, io::ErrorKind, os::unix::fs::MetadataExt as _};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, Command, noise, write_and_close};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{errno, must_read, must_soon_read, names};
use crate::lake::Lake;

/// Runs a program of the system, which must succeed.
fn run(program: &str, arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn between_two_stores_nothing_is_renamed_and_mv_copies() -> Result<()> {
    let large = noise(2, 20 << 20);
    let lake = Lake::of([("f", noise(1, 5_000)), ("d/small", noise(3, 10)), ("d/large", large.clone())])?;
    let far = Lake::of([("g", "of the other store"), ("e/x", "below it")])?;
    let mut cluster = lake.cluster().start()?;
    cluster.add_store("/far", "s3://lake", &far.proxy.endpoint(), Cluster::CREDENTIALS)?;
    let other = cluster.mount(9)?;
    let at = |path: &str| cluster.path(0, path);
    must_soon_read(&at("far/g"), b"of the other store")?;
    // The kernel sees one file system and asks Headpond.
    ensure!(at("far").metadata()?.dev() == at("d").metadata()?.dev(), "they are two file systems to the kernel");
    let before = (lake.objects()?, far.objects()?);
    for (from, to) in [("f", "far/f"), ("far/g", "g"), ("d", "far/d"), ("far/e", "e"), ("f", "far/g"), ("d", "far/e")] {
        let refused = errno("renaming", std::fs::rename(at(from), at(to)))?;
        ensure!(refused == Errno::XDEV.raw_os_error(), "renaming {from} to {to} answers {refused}");
    }
    for flags in [RenameFlags::EXCHANGE, RenameFlags::NOREPLACE] {
        let to = if flags == RenameFlags::EXCHANGE { "far/g" } else { "far/none" };
        let refused = renameat_with(CWD, at("f"), CWD, at(to), flags);
        ensure!(refused == Err(Errno::XDEV), "renaming with {flags:?} answers {refused:?}");
    }
    for (from, to) in [("f", "far/f"), ("far/g", "g")] {
        let refused = errno("linking", std::fs::hard_link(at(from), at(to)))?;
        ensure!(refused == Errno::XDEV.raw_os_error(), "linking {from} to {to} answers {refused}");
    }
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    ensure!((lake.objects()?, far.objects()?) == before, "a bucket has changed");

    // A program that hears of it copies and deletes.
    for (from, to) in [("f", "far/f"), ("d", "far/d"), ("far/g", "g")] {
        run("mv", &[at(from).as_os_str(), at(to).as_os_str()])?;
        let gone = at(from).symlink_metadata().err().map(|error| error.kind());
        ensure!(gone == Some(ErrorKind::NotFound), "{from} is still there");
    }
    write_and_close(&at("far/d/more"), b"more")?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    let object = |(key, body): (&str, bytes::Bytes)| (key.to_owned(), body);
    lake.must_become(&[("g", "of the other store".into())].map(object).into())?;
    let moved = [
        ("d/large", large.clone()),
        ("d/more", "more".into()),
        ("d/small", noise(3, 10)),
        ("e/x", "below it".into()),
        ("f", noise(1, 5_000)),
    ];
    far.must_become_but(&moved.map(object).into(), &["d/".to_owned()].into())?;
    for mount in [0, other] {
        must_read(&cluster.path(mount, "far/d/large"), &large)?;
        must_read(&cluster.path(mount, "far/f"), &noise(1, 5_000))?;
        must_read(&cluster.path(mount, "g"), b"of the other store")?;
        ensure!(names(&cluster.path(mount, ""))? == ["far", "g"], "{:?}", names(&cluster.path(mount, "")));
    }
    Ok(())
}
