//! Who reads the bucket itself and sees a commit sees everything that was acknowledged before it.
//!
//! `HEADPOND_TEST_SEED` repeats a run, `HEADPOND_TEST_COMMITS` makes it longer.

mod history;
mod observer;
mod scribe;

use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, eventually, write_and_close};

use self::{
    history::{At, Kind, body},
    observer::Observer,
    scribe::{Desk, Scribe},
};
use super::{cluster, sync};
use crate::lake::Lake;

/// Who write at once.
const SCRIBES: u64 = 6;

fn number(variable: &str, default: u64) -> Result<u64> {
    std::env::var(variable).ok().map_or(Ok(default), |text| text.parse().with_context(|| variable.to_owned()))
}

/// What happens to the store meanwhile, at each look at it.
type Weather = fn(&Lake, usize);

/// Has scribes make so many commits while the bucket is looked at.
fn observe(durability: &str, seed: u64, commits: u64, staged: bool, weather: Weather) -> Result<()> {
    let seed = number("HEADPOND_TEST_SEED", seed)?;
    let commits = usize::try_from(number("HEADPOND_TEST_COMMITS", commits)?)?;
    println!("HEADPOND_TEST_SEED={seed}");
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, durability).start()?;
    let desk = Desk::default();
    let mut scribes = Vec::new();
    for number in 0..SCRIBES {
        scribes.push(Scribe::new(seed, number, &cluster.path(0, ""), &desk, staged)?);
    }
    let mut observer = Observer::new(&lake, &desk.history);
    let mut looks = 0;
    let run = std::thread::scope(|scope| {
        let threads: Vec<_> = scribes.iter_mut().map(|scribe| scope.spawn(|| scribe.work(commits))).collect();
        let observed = (|| {
            while threads.iter().any(|thread| !thread.is_finished()) {
                weather(&lake, looks);
                observer.observe()?;
                looks += 1;
            }
            anyhow::Ok(())
        })();
        desk.stop.store(true, Ordering::SeqCst);
        let wrote: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("scribes return errors")).collect();
        observed.and(wrote.into_iter().collect::<Result<Vec<()>>>().map(drop))
    });
    lake.proxy.behave(Behaviour::default());
    run.with_context(|| format!("HEADPOND_TEST_SEED={seed}"))?;
    // What is left arrives in the same order.
    let syncing = std::thread::scope(|scope| {
        let syncing = scope.spawn(|| sync(&cluster));
        while !syncing.is_finished() {
            observer.observe()?;
        }
        syncing.join().expect("fs sync returns errors")
    });
    syncing.with_context(|| format!("HEADPOND_TEST_SEED={seed}"))?;
    observer.must_see_all().with_context(|| format!("HEADPOND_TEST_SEED={seed}"))?;
    println!(
        "{} changes, {commits} commits, held against the bucket {} times, of which {} for renamed directories",
        desk.history.acknowledged(),
        observer.checks,
        observer.moves
    );
    let checks = observer.checks;
    ensure!(observer.moves > 0, "no renamed directory was seen in its turn");
    ensure!(checks >= commits.div_ceil(50).max(3), "the bucket was seen only {checks} times with new commits");
    lake.must_have_no_uploads()
}

#[test]
fn a_commit_is_never_seen_without_what_came_before_it() -> Result<()> {
    observe("async", 20_266, 1_000, false, |_, _| {})
}

#[test]
fn a_commit_is_never_seen_without_what_came_before_it_while_the_store_refuses_at_times() -> Result<()> {
    observe("async", 20_267, 300, false, |lake, commits| {
        // A third of the time nothing is put; else every 20th request fails.
        let refuse = if commits % 150 < 50 { 1 } else { 20 };
        let method = "PUT".to_owned();
        lake.proxy.behave(Behaviour { answer: Some(503), method, every: refuse, ..Behaviour::default() });
    })
}

#[test]
fn a_commit_is_never_seen_without_what_was_renamed_before_it_where_close_waits_for_the_store() -> Result<()> {
    observe("through", 20_269, 200, false, |_, _| {})
}

#[test]
fn a_commit_is_never_seen_without_what_was_deferred_before_it() -> Result<()> {
    observe("deferred", 20_268, 500, true, |_, _| {})
}

#[test]
fn a_commit_waits_for_a_file_that_is_written_again_after_it() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").start()?;
    let only = "/lake/data".to_owned();
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), only, ..Behaviour::default() });
    write_and_close(&cluster.path(0, "data"), b"1")?;
    write_and_close(&cluster.path(0, "_SUCCESS"), b"")?;
    write_and_close(&cluster.path(0, "data"), b"2")?;
    // What nothing holds up is put, again and again, so whatever may go has had its time.
    for n in 0..20 {
        let name = format!("other-{n}");
        write_and_close(&cluster.path(0, &name), b"")?;
        eventually("another file arrives", || Ok(lake.get(&name).is_ok()))?;
    }
    ensure!(lake.get("_SUCCESS").is_err(), "the commit is there without what came before it");
    lake.proxy.behave(Behaviour::default());
    sync(&cluster)?;
    ensure!(lake.get("_SUCCESS").is_ok() && lake.get("data")? == "2", "not everything is there");
    Ok(())
}

#[test]
fn the_observer_finds_a_commit_without_what_came_before_it() -> Result<()> {
    let lake = Lake::empty()?;
    // No file is a commit here, so none waits for others.
    let cluster = cluster(&lake, "async").store(&["--commit-pattern", "none"]).start()?;
    let desk = Desk::default();
    let mut observer = Observer::new(&lake, &desk.history);
    let put = Behaviour { method: "PUT".to_owned(), only: "/lake/plain".to_owned(), ..Behaviour::default() };
    lake.proxy.behave(Behaviour { answer: Some(503), ..put });
    for (path, commits) in [("plain", false), ("_SUCCESS", true)] {
        let file = desk.history.file();
        let change = [(file, Some(At { path: path.to_owned(), version: 0 }))];
        desk.history.begin(&change, if commits { Kind::Commit } else { Kind::Plain });
        write_and_close(&cluster.path(0, path), &body(file, 0, 100))?;
        desk.history.acknowledge(&change);
    }
    eventually("the commit is there", || Ok(lake.get("_SUCCESS").is_ok()))?;
    let found = observer.observe();
    ensure!(found.is_err(), "nothing was found amiss");
    lake.proxy.behave(Behaviour::default());
    sync(&cluster)?;
    observer.observe()?;
    observer.must_see_all()
}
