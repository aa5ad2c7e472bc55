//! Changes behind our back (P1, P6).

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use headpond_tests::{Behaviour, can_guard, eventually, eventually_within, new_folder, noise, run_as};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// That of the ponds here, as their argument says it.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// What a busy machine takes for what is due after that; less than the interval that a mount has when nobody says.
const SEEN: Duration = Duration::from_secs(15);

#[test]
fn an_object_changed_between_open_and_read_is_stale_and_the_next_open_sees_the_new_version() -> Result<()> {
    let (old, new) = (noise(1, 40 * MIB), noise(2, 40 * MIB));
    let lake = Lake::of([("f.bin", old.clone())])?;
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    let path = pond.path("f.bin");
    let file = File::open(&path)?;
    let inode = file.metadata()?.ino();
    lake.put("f.bin", new.clone())?;
    // Not a byte of the old version was fetched beyond what an open may: the end of it cannot be had any more.
    let mut buffer = vec![0; MIB];
    let error = file.read_exact_at(&mut buffer, 30 * MIB as u64).expect_err("the version is gone");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{error}");
    eventually_within(SEEN, "an open sees the new version", || {
        Ok(std::fs::read(&path).is_ok_and(|read| read == new[..]))
    })?;
    let replaced = std::fs::metadata(&path)?.ino();
    ensure!(replaced != inode, "a replaced object keeps inode {inode}");
    Ok(())
}

#[test]
fn an_open_reader_keeps_its_version_whole() -> Result<()> {
    let (old, new) = (noise(1, 3 * MIB), noise(2, 3 * MIB));
    let lake = Lake::of([("f.bin", old.clone())])?;
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    let path = pond.path("f.bin");
    ensure!(std::fs::read(&path)? == old[..], "the bytes differ");
    let reader = File::open(&path)?;
    lake.put("f.bin", new.clone())?;
    eventually("an open sees the new version", || Ok(std::fs::read(&path)? == new[..]))?;
    let mut buffer = vec![0; 3 * MIB];
    reader.read_exact_at(&mut buffer, 0)?;
    ensure!(buffer == old[..], "the open reader sees other bytes");
    Ok(())
}

#[test]
fn a_reader_of_an_object_that_is_deleted_keeps_what_is_cached_and_is_told_of_the_rest() -> Result<()> {
    let body = noise(1, 40 * MIB);
    let lake = Lake::of([("d/gone", body.clone()), ("d/stays", noise(2, MIB))])?;
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    let path = pond.path("d/gone");
    let reader = File::open(&path)?;
    let mut buffer = vec![0; MIB];
    reader.read_exact_at(&mut buffer, 0)?;
    ensure!(buffer == body[..MIB], "the bytes differ");
    lake.delete("d/gone")?;
    let error = reader.read_exact_at(&mut buffer, 30 * MIB as u64).expect_err("nobody has that any more");
    ensure!(error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error()), "the cold part answers {error}");
    eventually_within(SEEN, "the name is gone", || {
        Ok(std::fs::metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound))
    })?;
    let opened = File::open(&path).expect_err("deleted");
    ensure!(opened.kind() == ErrorKind::NotFound, "an open answers {opened}");
    reader.read_exact_at(&mut buffer, 0)?;
    ensure!(buffer == body[..MIB], "what was read before differs");
    ensure!(std::fs::read(pond.path("d/stays"))? == noise(2, MIB)[..], "its neighbour differs");
    Ok(())
}

#[test]
fn additions_and_deletions_appear_within_the_sync_interval() -> Result<()> {
    let lake = Lake::of([("d/a", "1"), ("d/b", "2")])?;
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    let names = |dir: &str| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(pond.path(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    ensure!(names("d")? == ["a", "b"], "{:?}", names("d"));
    ensure!(!pond.path("d/c").exists() && !pond.path("e").exists(), "names before their time");
    lake.put("d/c", "3")?;
    lake.put("e/deep/f", "4")?;
    lake.delete("d/a")?;
    eventually_within(SEEN, "the listing is current", || Ok(names("d")? == ["b", "c"]))?;
    eventually_within(SEEN, "a new directory is there", || Ok(pond.path("e/deep/f").exists()))?;
    let gone = std::fs::read(pond.path("d/a")).expect_err("deleted");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn what_changes_through_headpond_is_seen_at_once() -> Result<()> {
    let lake = Lake::of([("d/f", "1")])?;
    let pond = lake.pond().arg("--sync-interval").arg("1h").start()?;
    let other = new_folder()?;
    std::fs::write(other.path().join("g"), "2")?;
    // The kernel knows by now that there is no such name, and would say so for half a minute.
    ensure!(!pond.path("d/other").exists(), "a name before its time");
    let started = Instant::now();
    pond.run_ok(&["admin", "mount", "add", "/d/other", &format!("file://{}", other.path().display())])?;
    eventually("what was mounted is there", || {
        Ok(std::fs::read(pond.path("d/other/g")).is_ok_and(|read| read == b"2"))
    })?;
    pond.run_ok(&["admin", "mount", "remove", "/d/other"])?;
    eventually("what was unmounted is gone", || Ok(!pond.path("d/other").exists()))?;
    let (bound, how) = if can_guard() {
        (15, "a user who can guard a mount, at once")
    } else {
        (90, "a user who cannot, when their validity ends")
    };
    run_as("changes through Headpond", how);
    ensure!(started.elapsed() < Duration::from_secs(bound), "seen only after {:?}", started.elapsed());
    Ok(())
}

#[test]
fn a_failed_check_is_an_error_and_never_a_vanished_file() -> Result<()> {
    let lake = Lake::of((0..30).map(|n| (format!("d/f{n:02}"), noise(n, 1000))))?;
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    let count = || Ok::<_, anyhow::Error>(std::fs::read_dir(pond.path("d"))?.collect::<Result<Vec<_>, _>>()?.len());
    ensure!(count()? == 30, "{:?}", count());
    for answer in [503, 403, 500] {
        lake.proxy.behave(Behaviour { answer: Some(answer), ..Behaviour::default() });
        let (before, failing) = (lake.proxy.requests().len(), Instant::now());
        eventually("the store was asked again", || {
            match count() {
                Ok(seen) => ensure!(seen == 30, "{answer}: files vanished, {seen} are left"),
                Err(error) => ensure!(
                    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() != ErrorKind::NotFound),
                    "{answer}: an error is taken for absence: {error}"
                ),
            }
            // What was found absent before is so for as long as that is valid; from then on nobody knows.
            let still_valid = failing.elapsed() < 2 * SYNC_INTERVAL;
            let refused = match std::fs::metadata(pond.path("d/unknown")) {
                Ok(found) => bail!("{answer}: found {found:?}"),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    ensure!(still_valid, "{answer}: an error is taken for absence");
                    false
                }
                Err(_) => true,
            };
            Ok(refused && lake.proxy.requests().len() > before + 3)
        })?;
        lake.proxy.behave(Behaviour::default());
        eventually("all is well again", || Ok(count().is_ok_and(|seen| seen == 30)))?;
        eventually("absence is known again", || {
            Ok(std::fs::metadata(pond.path("d/unknown")).is_err_and(|error| error.kind() == ErrorKind::NotFound))
        })?;
    }
    Ok(())
}

#[test]
fn never_means_never_and_zero_means_at_once() -> Result<()> {
    let lake = Lake::of([("d/a", "1")])?;
    let at_once = lake.pond().arg("--sync-interval").arg("0").start()?;
    let never = lake.pond().arg("--sync-interval").arg("never").start()?;
    for pond in [&at_once, &never] {
        ensure!(std::fs::read_dir(pond.path("d"))?.count() == 1, "one file at first");
    }
    lake.put("d/b", "2")?;
    ensure!(std::fs::read(at_once.path("d/b"))? == b"2", "zero checks at every use");
    ensure!(std::fs::read_dir(at_once.path("d"))?.count() == 2, "zero checks at every use");
    lake.proxy.reset();
    ensure!(std::fs::read_dir(never.path("d"))?.count() == 1, "never checks again");
    ensure!(lake.proxy.requests().is_empty(), "never checks again, but {:?}", lake.proxy.requests());
    Ok(())
}
