//! SIGKILL (P9).

use std::{fs::File, os::unix::fs::FileExt as _};

use anyhow::{Result, ensure};
use headpond_tests::{Sample, noise};

use crate::lake::Lake;

#[test]
fn after_sigkill_the_cache_is_warm_and_correct() -> Result<()> {
    let sample = Sample::lake(7, 200, 6 << 20);
    let lake = Lake::with(&sample)?;
    let mut pond = lake.pond().start()?;
    for (key, body) in &sample.objects {
        ensure!(std::fs::read(pond.path(key))? == body[..], "{key} differs");
    }
    for round in 0..3 {
        pond.kill()?;
        // The dead mount that the kill leaves is recognised and cleared by the next start.
        pond.launch()?;
        lake.proxy.reset();
        for (key, body) in &sample.objects {
            ensure!(std::fs::read(pond.path(key))? == body[..], "round {round}: {key} differs");
        }
        let gets = lake.object_gets();
        ensure!(gets.is_empty(), "round {round}: the cache was not warm: {gets:?}");
    }
    pond.stop()
}

#[test]
fn sigkill_in_the_middle_of_filling_never_shows_an_unwritten_page() -> Result<()> {
    let body = noise(9, 96 << 20);
    let lake = Lake::of([("big.bin", body.clone())])?;
    let mut pond = lake.pond().start()?;
    for round in 0..4u64 {
        let path = pond.path("big.bin");
        let reader = std::thread::spawn(move || std::fs::read(path).map(|read| read.len()));
        let seen = lake.proxy.sent();
        headpond_tests::eventually("the fill is under way", || {
            Ok(lake.proxy.sent() > seen + (8 << 20) * (round + 1) / 4 || reader.is_finished())
        })?;
        pond.kill()?;
        let _cut = reader.join();
        pond.launch()?;
    }
    let file = File::open(pond.path("big.bin"))?;
    let mut buffer = vec![0; 1 << 20];
    for (page, expected) in (0..).zip(body.chunks(1 << 20)) {
        file.read_exact_at(&mut buffer, page << 20)?;
        ensure!(buffer == expected, "page {page} differs");
    }
    Ok(())
}

#[test]
fn a_dead_mount_is_recognised_and_cleared() -> Result<()> {
    let lake = Lake::of([("f", "1")])?;
    let mut pond = lake.pond().start()?;
    pond.kill()?;
    ensure!(pond.mounted().is_mounted()?, "a killed daemon leaves its mount");
    ensure!(std::fs::read(pond.path("f")).is_err(), "a dead mount answers errors");
    pond.launch()?;
    ensure!(std::fs::read(pond.path("f"))? == b"1", "the mount works again");
    pond.stop()
}
