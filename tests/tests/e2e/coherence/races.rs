//! Two that try the same at once.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{LEASE, ROUNDS, Two, names};

/// Two mounts try the same at once, `ROUNDS` times: exactly one succeeds, the other is told that the name exists.
fn race(attempt: impl Fn(usize, usize) -> std::io::Result<()> + Sync) -> Result<()> {
    let start = Barrier::new(2);
    let outcomes = thread::scope(|scope| {
        let racers = [0, 1].map(|mount| {
            let (start, attempt) = (&start, &attempt);
            scope.spawn(move || {
                let tries = (0..ROUNDS).map(|round| {
                    start.wait();
                    attempt(mount, round)
                });
                tries.collect::<Vec<_>>()
            })
        });
        racers.map(|racer| racer.join().expect("no panic"))
    });
    let [a, b] = outcomes;
    for (round, outcome) in a.into_iter().zip(b).enumerate() {
        match outcome {
            (Ok(()), Err(error)) | (Err(error), Ok(())) if error.kind() == ErrorKind::AlreadyExists => {}
            other => anyhow::bail!("round {round} ended with {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn one_of_two_makes_a_file_exclusively() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("x"))?;
    race(|mount, round| {
        let path = two.cluster.path(mount, &format!("x/f{round}"));
        OpenOptions::new().write(true).create_new(true).open(path).map(drop)
    })?;
    ensure!(names(&two.a("x"))?.len() == ROUNDS && names(&two.b("x"))?.len() == ROUNDS, "files are missing");
    Ok(())
}

#[test]
fn one_of_two_links_to_a_name() -> Result<()> {
    /// Names that one file gets at most.
    const NAMES: usize = 50;
    let two = Two::start()?;
    fs::create_dir(two.a("l"))?;
    race(|mount, round| {
        let path = |name: &str| two.cluster.path(mount, name);
        let old = path(&format!("from{mount}-{}", round / NAMES));
        if round % NAMES == 0 {
            fs::write(&old, format!("{mount}"))?;
        }
        fs::hard_link(old, path(&format!("l/f{round}")))
    })?;
    for mount in 0..2 {
        ensure!(names(&two.cluster.path(mount, "l"))?.len() == ROUNDS, "names are missing");
        for round in 0..ROUNDS {
            let writer = fs::read_to_string(two.cluster.path(mount, &format!("l/f{round}")))?;
            let other = fs::metadata(two.cluster.path(1 - mount, &format!("from{writer}-{}", round / NAMES)))?;
            let found = fs::metadata(two.cluster.path(mount, &format!("l/f{round}")))?;
            ensure!(found.ino() == other.ino() && found.nlink() > 1, "round {round} is a file of its own");
        }
    }
    Ok(())
}

#[test]
fn one_of_two_renames_without_replacing() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("n"))?;
    for mount in 0..2 {
        fs::create_dir(two.cluster.path(mount, &format!("n/from{mount}")))?;
    }
    race(|mount, round| {
        let old = two.cluster.path(mount, &format!("n/from{mount}/d{round}"));
        fs::create_dir(&old)?;
        let new = two.cluster.path(mount, &format!("n/d{round}"));
        Ok(renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE)?)
    })?;
    ensure!(names(&two.a("n"))?.len() == ROUNDS + 2, "directories are missing");
    Ok(())
}

#[test]
fn two_that_change_one_directory_do_not_wait_for_each_other() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("busy"))?;
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let writers = [0, 1].map(|mount| {
            let two = &two;
            scope.spawn(move || -> Result<Duration> {
                let mut longest = Duration::ZERO;
                for round in 0..ROUNDS / 10 {
                    let path = |name: &str| two.cluster.path(mount, &format!("busy/{name}{mount}-{round}"));
                    let began = Instant::now();
                    fs::create_dir(path("d"))?;
                    fs::rename(path("d"), path("e"))?;
                    names(&two.cluster.path(mount, "busy"))?;
                    fs::remove_dir(path("e"))?;
                    longest = longest.max(began.elapsed());
                }
                Ok(longest)
            })
        });
        for writer in writers {
            let longest = writer.join().expect("no panic")?;
            ensure!(longest < LEASE, "a change took {longest:?}");
        }
        Ok(())
    })?;
    ensure!(names(&two.a("busy"))?.is_empty() && names(&two.b("busy"))?.is_empty(), "something is left");
    println!("{} changes of two mounts took {:?}", ROUNDS / 10 * 6, began.elapsed());
    Ok(())
}
