//! The store is gone for a minute, by the clock and with the deadlines that come with the program, while some write what is to be there at once and
//! others what is persisted later.

use std::{
    fs::File,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Pond, close, eventually_within, noise, within, write_and_close};
use rustix::io::Errno;

use super::{
    kills::{must_agree, must_settle, progress},
    must_read,
    writer::{Told, Writer},
};
use crate::lake::Lake;

const SEED: u64 = 20_270;

/// How long the store is gone.
const GONE: Duration = Duration::from_secs(60);

/// How long a store is tried that takes no requests: `worker.deadlines.under_store`.
const TRIED: Duration = Duration::from_secs(20);

/// What nothing may take that the store is not asked for, or that it answers.
const SOON: Duration = Duration::from_secs(20);

/// Calls that were acknowledged, and calls that failed.
fn counts(told: &Told) -> [u64; 2] {
    [&told.done, &told.failed].map(|count| count.load(Ordering::SeqCst))
}

/// Kills the store while the writers work, and starts it again a minute later.
fn kill_store(lake: &mut Lake, pond: &Pond, [now, later]: [&Told; 2], going: &dyn Fn() -> bool) -> Result<()> {
    for told in [now, later] {
        progress(told, 50, going)?;
    }
    let open = |path: &str| File::create_new(pond.path(path)).with_context(|| path.to_owned());
    let (mut at_once, mut whenever) = (open("now/waits")?, open("later/goes-on")?);
    at_once.write_all(&noise(1, 50_000))?;
    whenever.write_all(&noise(2, 50_000))?;
    lake.minio.kill()?;
    let (gone, before) = (Instant::now(), [counts(now), counts(later)]);
    let syncing = {
        let at_once = at_once.try_clone()?;
        std::thread::spawn(move || (at_once.sync_all(), gone.elapsed()))
    };
    within(SOON, "closing what is persisted later", move || close(whenever))??;
    for round in 0..10 {
        let path = pond.path("later/goes-on");
        within(SOON, "writing it again", move || write_and_close(&path, &noise(round, 70_000)))??;
        must_read(&pond.path("later/goes-on"), &noise(round, 70_000))?;
    }
    eventually_within(2 * GONE, "a minute has passed", || {
        ensure!(going(), "a writer gave up");
        Ok(gone.elapsed() >= GONE)
    })?;
    // The store was tried for a while, which slows who writes, and then it is said that it has nothing.
    let (refused, tried) = syncing.join().map_err(|_| anyhow::anyhow!("fsync panicked"))?;
    let refused = refused.err().context("a file is said to be in a store that is gone")?;
    ensure!(refused.raw_os_error() == Some(Errno::IO.raw_os_error()), "fsync answers {refused}");
    ensure!(tried > TRIED / 2 && tried < GONE, "fsync answers after {tried:?}");
    let after = [counts(now), counts(later)];
    lake.minio.restart()?;
    println!("acknowledged and failed, at once and later: {before:?} before the store was gone, {after:?} after that");
    let acknowledged = after[1][0] - before[1][0];
    ensure!(acknowledged >= 50, "only {acknowledged} calls on files that are persisted later were acknowledged");
    // The bytes were kept for another try.
    within(SOON, "fsync", {
        let at_once = at_once.try_clone()?;
        move || at_once.sync_all()
    })?
    .context("fsync of a file that could not be stored before")?;
    within(SOON, "closing a file", move || close(at_once))??;
    ensure!(lake.get("now/waits")? == noise(1, 50_000), "it is said to be stored and is not");
    for told in [now, later] {
        progress(told, 50, going)?;
    }
    Ok(())
}

#[test]
fn a_store_that_is_gone_for_a_minute_loses_nothing_that_was_acknowledged() -> Result<()> {
    let mut lake = Lake::empty()?;
    let pond = lake.pond().arg("--durability-rule").arg("later/*=async").start()?;
    let homes = ["now/a", "now/b", "later/a", "later/b"];
    let mut writers = Vec::new();
    for (seed, home) in (SEED..).zip(homes) {
        std::fs::create_dir_all(pond.path(home))?;
        writers.push(Writer::new(seed, &pond.path(""), home));
    }
    let (told, stop) = ([Told::default(), Told::default()], AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (told, stop) = (&told, &stop);
        let threads: Vec<_> = writers
            .iter_mut()
            .enumerate()
            .map(|(number, writer)| scope.spawn(move || writer.work(&told[number / 2], stop)))
            .collect();
        let going = || threads.iter().all(|thread| !thread.is_finished());
        let killed = kill_store(&mut lake, &pond, [&told[0], &told[1]], &going);
        stop.store(true, Ordering::SeqCst);
        let wrote: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("writers return errors")).collect();
        wrote.into_iter().collect::<Result<Vec<()>>>()?;
        killed
    })?;
    must_settle(&writers)?;
    pond.run_ok(&["fs", "sync", "/", "--timeout", "120s"])?;
    must_agree(&lake, &pond.path(""))?;
    let problems = pond.run_ok(&["admin", "problems", "-o", "json"])?;
    ensure!(problems.is_empty(), "{problems}");
    pond.run_ok(&["admin", "check", "/"])?;
    lake.must_have_no_uploads()
}
