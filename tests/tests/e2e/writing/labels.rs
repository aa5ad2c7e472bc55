//! What objects say of the files that they are, to who reads the bucket with other programs.

use std::{
    fs::{File, Permissions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use headpond_tests::{close, eventually, noise};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// What the object of a file has to say of its mode and its modification time, as the mount shows them.
fn shown(path: &Path) -> Result<[Option<String>; 2]> {
    let shown = std::fs::metadata(path)?;
    ensure!(shown.mode() & 0o170_000 == 0o100_000, "{} is no file", path.display());
    Ok([Some(format!("0{:o}", shown.mode())), Some(format!("{}.{:09}", shown.mtime(), shown.mtime_nsec()))])
}

/// What an object says of them.
fn said(lake: &Lake, key: &str) -> Result<[Option<String>; 2]> {
    let mut metadata = lake.metadata(key)?;
    Ok(["mode", "mtime"].map(|name| metadata.remove(name)))
}

fn create(path: &Path, mode: u32) -> Result<File> {
    Ok(File::options().write(true).create_new(true).mode(mode).open(path)?)
}

#[test]
fn an_object_says_what_mode_and_time_its_file_has_when_it_is_stored() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    // A PUT, a multipart upload that begins when the file is closed, nothing at all.
    for (key, length, mode) in [("small", 1_000, 0o640), ("large", 20 * MIB, 0o4755), ("empty", 0, 0)] {
        let path = cluster.path(0, key);
        let mut file = create(&path, 0o600)?;
        file.write_all(&noise(1, length))?;
        file.set_permissions(Permissions::from_mode(mode))?;
        close(file)?;
        ensure!(said(&lake, key)? == shown(&path)?, "{key} says {:?} of {:?}", said(&lake, key)?, shown(&path)?);
        ensure!(std::fs::metadata(&path)?.mode() & 0o7777 == mode, "{key} has another mode");
    }
    // As programs do that copy a file with its time.
    let path = cluster.path(0, "old");
    let mut file = create(&path, 0o600)?;
    file.write_all(b"old bytes")?;
    file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 5))?;
    close(file)?;
    ensure!(said(&lake, "old")? == ["0100600", "1000000000.000000005"].map(|said| Some(said.to_owned())));

    // What is set later is kept here, until the file is stored again.
    let before = said(&lake, "small")?;
    let path = cluster.path(0, "small");
    std::fs::set_permissions(&path, Permissions::from_mode(0o604))?;
    File::open(&path)?.set_modified(UNIX_EPOCH + Duration::from_secs(7))?;
    ensure!(said(&lake, "small")? == before && shown(&path)? != before, "{:?}", said(&lake, "small")?);
    let mut file = File::options().append(true).open(&path)?;
    file.write_all(b"more")?;
    close(file)?;
    ensure!(said(&lake, "small")? == shown(&path)?, "{:?} of {:?}", said(&lake, "small")?, shown(&path)?);
    let mode = std::fs::metadata(&path)?.mode() & 0o7777;
    ensure!(mode == 0o604, "it has mode {mode:o}");

    // Objects that are moved or copied say the same.
    let expected = ["small", "large"].map(|key| said(&lake, key));
    std::fs::create_dir(cluster.path(0, "d"))?;
    for key in ["small", "large"] {
        std::fs::rename(cluster.path(0, key), cluster.path(0, &format!("d/{key}")))?;
    }
    std::fs::hard_link(cluster.path(0, "d/small"), cluster.path(0, "link"))?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    let [small, large] = expected;
    let (small, large) = (small?, large?);
    for (key, expected) in [("d/small", &small), ("d/large", &large), ("link", &small)] {
        eventually(&format!("{key} has been stored"), || Ok(lake.metadata(key).is_ok()))?;
        ensure!(said(&lake, key)? == *expected, "{key} says {:?} and not {expected:?}", said(&lake, key)?);
    }
    Ok(())
}

#[test]
fn an_object_whose_upload_began_before_its_file_was_whole_says_its_mode_at_that_time() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    let path = cluster.path(0, "f");
    let mut file = create(&path, 0o640)?;
    file.write_all(&noise(1, 40 * MIB))?;
    eventually("its upload has begun", || Ok(lake.minio.uploads()? > 0))?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    close(file)?;
    let said = said(&lake, "f")?;
    ensure!(said == [Some("0100640".to_owned()), None], "{said:?}");
    ensure!(lake.get("f")? == noise(1, 40 * MIB), "the object has other bytes");
    Ok(())
}

#[test]
fn what_is_stored_later_says_what_the_file_has_by_then() -> Result<()> {
    let lake = Lake::empty()?;
    // Nothing goes by itself while the test looks.
    let cluster =
        lake.cluster().store(&["--durability", "async"]).env("HEADPOND_MASTER__PERSIST_DELAY", "60s").start()?;
    for (key, length) in [("small", 1_000), ("large", 20 * MIB)] {
        let path = cluster.path(0, key);
        let mut file = create(&path, 0o600)?;
        file.write_all(&noise(1, length))?;
        close(file)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        File::open(&path)?.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
        cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
        let (said, has) = (said(&lake, key)?, shown(&path)?);
        ensure!(said == has, "{key} says {said:?} and has {has:?}");
    }
    Ok(())
}
