//! What names cost: questions to the master, and requests to the store.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::{Result, ensure};
use headpond_tests::noise;

use crate::lake::Lake;

const FILES: u64 = 300;

fn lake() -> Result<Lake> {
    Lake::of((0..FILES).map(|n| (format!("d/{n:03}"), noise(n, 100))))
}

#[test]
fn what_a_listing_brought_is_not_asked_for_again() -> Result<()> {
    let lake = lake()?;
    let pond = lake.pond().start()?;
    let listed = std::fs::read_dir(pond.path("d"))?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(listed.len() as u64 == FILES, "{} files", listed.len());
    let before = pond.metric("headpond_master_lookups_total")?;
    for entry in &listed {
        ensure!(std::fs::metadata(entry.path())?.len() == 100, "{} has another size", entry.path().display());
    }
    // The directory's own attributes may be asked for again: each entry that came to light changed it.
    let asked = pond.metric("headpond_master_lookups_total")? - before;
    ensure!(asked <= 5.0, "{asked} questions about {FILES} names that had just been listed");
    Ok(())
}

#[test]
fn names_that_nobody_listed_soon_cost_no_request_each() -> Result<()> {
    let lake = lake()?;
    let pond = lake.pond().start()?;
    for n in 0..FILES {
        ensure!(std::fs::metadata(pond.path(&format!("d/{n:03}")))?.len() == 100, "d/{n:03} has another size");
    }
    let heads = lake.proxy.requests().iter().filter(|request| request.method == "HEAD").count();
    ensure!(heads as u64 <= FILES / 2, "{heads} requests for {FILES} names");
    Ok(())
}

#[test]
fn who_changes_what_a_file_is_looks_no_name_up_again() -> Result<()> {
    let lake = lake()?;
    let pond = lake.pond().start()?;
    let listed = std::fs::read_dir(pond.path("d"))?.collect::<std::io::Result<Vec<_>>>()?;
    let mode = |n: u32| std::fs::Permissions::from_mode(0o600 + n % 8);
    std::fs::set_permissions(listed[0].path(), mode(0))?;
    let before = pond.metric("headpond_master_lookups_total")?;
    for (entry, n) in listed.iter().zip(1..) {
        std::fs::set_permissions(entry.path(), mode(n))?;
        let shown = std::fs::metadata(entry.path())?.mode() & 0o777;
        ensure!(shown == 0o600 + n % 8, "{} has the mode {shown:o}", entry.path().display());
    }
    let asked = pond.metric("headpond_master_lookups_total")? - before;
    ensure!(asked <= 5.0, "{asked} questions for {FILES} changes");
    Ok(())
}

#[test]
fn who_renames_to_and_fro_looks_nothing_up() -> Result<()> {
    let lake = lake()?;
    let pond = lake.pond().arg("--durability").arg("scratch").start()?;
    std::fs::create_dir(pond.path("a"))?;
    std::fs::create_dir(pond.path("b"))?;
    for dir in ["", "a", "b"] {
        std::fs::read_dir(pond.path(dir))?.count();
    }
    let names = [pond.path("a/x"), pond.path("b/y")];
    std::fs::create_dir(&names[0])?;
    std::fs::rename(&names[0], &names[1])?;
    let before = pond.metric("headpond_master_lookups_total")?;
    for turn in 1..100 {
        std::fs::rename(&names[turn % 2], &names[(turn + 1) % 2])?;
        ensure!(!names[turn % 2].exists(), "turn {turn}: the old name is there");
    }
    let asked = pond.metric("headpond_master_lookups_total")? - before;
    ensure!(names[0].is_dir() && !names[1].exists(), "it is not where it was renamed to");
    ensure!(asked <= 10.0, "{asked} questions for 99 renames");
    Ok(())
}

#[test]
fn who_fills_a_directory_that_it_made_looks_nothing_up() -> Result<()> {
    let lake = Lake::empty()?;
    let pond = lake.pond().arg("--durability").arg("scratch").start()?;
    std::fs::create_dir(pond.path("job"))?;
    let before = pond.metric("headpond_master_lookups_total")?;
    for task in 0..100 {
        let [attempt, done] = ["attempt", "task"].map(|what| pond.path(&format!("job/{what}-{task}")));
        ensure!(!attempt.exists() && !done.exists(), "task {task} is there");
        std::fs::create_dir(&attempt)?;
        std::fs::write(attempt.join("part"), b"bytes")?;
        std::fs::rename(&attempt, &done)?;
        std::fs::rename(done.join("part"), pond.path(&format!("job/part-{task}")))?;
        std::fs::remove_dir(&done)?;
    }
    let asked = pond.metric("headpond_master_lookups_total")? - before;
    let found = std::fs::read_dir(pond.path("job"))?.count();
    ensure!(found == 100, "{found} files");
    ensure!(asked <= 20.0, "{asked} questions for 100 tasks");
    Ok(())
}
