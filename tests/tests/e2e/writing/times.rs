//! Times of modification: that of the last change, as on a local disk; and times of access: as they were set.

use std::{
    fs::{File, OpenOptions, hard_link, metadata},
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{close, truncate, write_and_close};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::lake::Lake;

const OLD: Duration = Duration::from_secs(1_000_000_000);

fn modified(path: &Path) -> Result<SystemTime> {
    Ok(metadata(path)?.modified()?)
}

/// Gives a file a time of long ago.
fn age(path: &Path) -> Result<()> {
    let at = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    utimensat(CWD, path, &Timestamps { last_access: at, last_modification: at }, AtFlags::empty())?;
    ensure!(modified(path)? == UNIX_EPOCH + OLD, "{} does not have the time that was set", path.display());
    Ok(())
}

/// A change of a file at a path, which is of the time that was set before.
type Change = fn(&Path) -> Result<()>;

/// Each makes a file that is open, or not any more, one that is modified now.
const CHANGES: [(&str, Change); 9] = [
    ("an open empties what is empty", |path| {
        write_and_close(path, b"")?;
        age(path)?;
        Ok(close(OpenOptions::new().write(true).truncate(true).open(path)?)?)
    }),
    ("a file that is there and empty is created", |path| {
        write_and_close(path, b"")?;
        age(path)?;
        Ok(close(File::create(path)?)?)
    }),
    ("an open empties what has bytes", |path| {
        write_and_close(path, b"bytes")?;
        age(path)?;
        Ok(close(OpenOptions::new().write(true).truncate(true).open(path)?)?)
    }),
    ("the time is set to now while the file is written", |path| {
        let mut file = File::create(path)?;
        file.write_all(b"bytes")?;
        age(path)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty())?;
        Ok(close(file)?)
    }),
    ("the time is set to now", |path| {
        write_and_close(path, b"bytes")?;
        age(path)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        Ok(utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty())?)
    }),
    ("a file that is written is cut to its length", |path| {
        let mut file = File::create(path)?;
        file.write_all(b"bytes")?;
        age(path)?;
        file.set_len(5)?;
        Ok(close(file)?)
    }),
    ("a file that was written is cut to its length", |path| {
        write_and_close(path, b"bytes")?;
        let file = OpenOptions::new().write(true).open(path)?;
        age(path)?;
        file.set_len(5)?;
        Ok(close(file)?)
    }),
    ("a file is cut by its path", |path| {
        write_and_close(path, b"bytes")?;
        age(path)?;
        Ok(truncate(path, 3)?)
    }),
    ("a file is cut by another name", |path| {
        let other = path.with_extension("other");
        write_and_close(path, b"bytes")?;
        hard_link(path, &other)?;
        age(path)?;
        Ok(truncate(&other, 3)?)
    }),
];

fn the_time_is_that_of_the_last_change(durability: &str) -> Result<()> {
    let (lake, plain) = (Lake::empty()?, tempfile::tempdir()?);
    let mut cluster = lake.cluster().store(&["--durability", durability]).start()?;
    let other = cluster.mount(9)?;
    for (number, (what, change)) in CHANGES.into_iter().enumerate() {
        let name = format!("f{number}");
        for path in [plain.path().join(&name), cluster.path(0, &name)] {
            change(&path).with_context(|| format!("{what} at {}", path.display()))?;
            ensure!(modified(&path)? != UNIX_EPOCH + OLD, "{what}, and {} is as old as before", path.display());
        }
        ensure!(
            modified(&cluster.path(other, &name))? != UNIX_EPOCH + OLD,
            "{what}, and another mount does not see it"
        );
    }
    Ok(())
}

#[test]
fn the_time_is_that_of_the_last_change_where_files_are_stored_at_once() -> Result<()> {
    the_time_is_that_of_the_last_change("through")
}

#[test]
fn the_time_is_that_of_the_last_change_where_files_are_stored_later() -> Result<()> {
    the_time_is_that_of_the_last_change("async")
}

#[test]
fn a_time_of_access_stays_as_it_was_set() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    let [here, there] = [cluster.path(0, "f"), cluster.path(other, "f")];
    let accessed = |path: &Path| -> Result<SystemTime> { Ok(metadata(path)?.accessed()?) };
    write_and_close(&here, b"bytes")?;
    ensure!(accessed(&here)? == modified(&here)?, "nobody has set it");
    let (at, omit) = (Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 }, Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
    utimensat(CWD, &here, &Timestamps { last_access: at, last_modification: omit }, AtFlags::empty())?;
    ensure!(modified(&here)? != UNIX_EPOCH + OLD, "only the time of access was set");
    for (what, change) in [
        ("nothing is done", (|_| Ok(())) as Change),
        ("it is read", |path| {
            ensure!(std::fs::read(path)? == b"bytes", "{} has other bytes", path.display());
            Ok(())
        }),
        ("it is written", |path| Ok(write_and_close(path, b"other bytes")?)),
    ] {
        change(&here)?;
        for path in [&here, &there] {
            ensure!(accessed(path)? == UNIX_EPOCH + OLD, "{what}, and {} tells another time", path.display());
        }
    }
    let renamed = cluster.path(0, "g");
    std::fs::rename(&here, &renamed)?;
    ensure!(accessed(&renamed)? == UNIX_EPOCH + OLD, "another name has another time");
    Ok(())
}
