//! Stores, disks and pages that fail.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Pond, eventually, noise};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// The files of the page store, largest first.
fn cache_files(pond: &Pond) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![pond.state_dir().join("worker")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() {
                files.push((metadata.len(), entry.path()));
            }
        }
    }
    files.sort();
    Ok(files.into_iter().rev().map(|(_, path)| path).collect())
}

#[test]
fn a_flipped_byte_in_the_cache_is_found_and_refilled() -> Result<()> {
    let body = noise(1, 3 * MIB);
    let lake = Lake::of([("f.bin", body.clone())])?;
    let mut pond = lake.pond().start()?;
    ensure!(std::fs::read(pond.path("f.bin"))? == body[..], "the bytes differ");
    pond.stop()?;
    let cached = cache_files(&pond)?.into_iter().next().context("no cache file")?;
    let file = File::options().read(true).write(true).open(&cached)?;
    let offset = (MIB + 12_345) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    ensure!(byte[0] == body[MIB + 12_345], "{} is not the cache file of f.bin", cached.display());
    file.write_all_at(&[byte[0] ^ 0x40], offset)?;
    pond.launch()?;
    lake.proxy.reset();
    ensure!(std::fs::read(pond.path("f.bin"))? == body[..], "a corrupt page was served");
    ensure!(!lake.object_gets().is_empty(), "the page came from the store again");
    Ok(())
}

#[test]
fn a_cache_directory_that_vanishes_costs_no_read() -> Result<()> {
    let lake = Lake::of((0..8u64).map(|n| (format!("f{n}"), noise(n, 2 * MIB))))?;
    let pond = lake.pond().start()?;
    for n in 0..4u64 {
        ensure!(std::fs::read(pond.path(&format!("f{n}")))? == noise(n, 2 * MIB)[..], "f{n} differs");
    }
    for entry in std::fs::read_dir(pond.state_dir().join("worker"))? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        }
    }
    for n in 0..8u64 {
        ensure!(std::fs::read(pond.path(&format!("f{n}")))? == noise(n, 2 * MIB)[..], "f{n} differs");
    }
    Ok(())
}

#[test]
fn a_store_that_answers_503_for_a_while_is_waited_for() -> Result<()> {
    let body = noise(1, 6 * MIB);
    let lake = Lake::of([("f.bin", body.clone())])?;
    let pond = lake.pond().start()?;
    let file = File::open(pond.path("f.bin"))?;
    lake.proxy.behave(Behaviour { answer: Some(503), ..Behaviour::default() });
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 6 * MIB];
        file.read_exact_at(&mut buffer, 0).map(|()| buffer)
    });
    let before = lake.proxy.requests().len();
    eventually("the store was asked several times", || Ok(lake.proxy.requests().len() > before + 2))?;
    lake.proxy.behave(Behaviour::default());
    let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(read == body[..], "the bytes differ");
    for counted in ["headpond_worker_store_retries_total", "headpond_master_store_requests_total"] {
        ensure!(pond.metric(counted)? > 0.0, "{counted} is not counted");
    }
    let limit = pond.metric("headpond_worker_store_request_limit")?;
    ensure!((1.0..64.0).contains(&limit), "{limit} requests at once to a store that asked to slow down");
    Ok(())
}

#[test]
fn a_store_that_refuses_is_a_clear_error_and_cached_data_are_still_served() -> Result<()> {
    let body = noise(1, 2 * MIB);
    let lake = Lake::of([("cached", body.clone()), ("not-cached", noise(2, 2 * MIB))])?;
    let pond = lake.pond().start()?;
    ensure!(std::fs::read(pond.path("cached"))? == body[..], "the bytes differ");
    lake.proxy.behave(Behaviour { answer: Some(403), ..Behaviour::default() });
    let error = std::fs::read(pond.path("not-cached")).expect_err("the store refuses");
    ensure!(error.kind() != std::io::ErrorKind::NotFound, "{error}");
    ensure!(std::fs::read(pond.path("cached"))? == body[..], "cached bytes are served");
    let output = pond.run(&["fs", "cat", "/not-cached"])?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && message.contains("not-cached"), "{message}");
    Ok(())
}

#[test]
fn a_store_that_hangs_is_an_error_within_the_deadline() -> Result<()> {
    let lake = Lake::of([("f.bin", noise(1, 2 * MIB)), ("g.bin", noise(2, 2 * MIB))])?;
    let pond = lake.pond().start()?;
    ensure!(std::fs::read(pond.path("g.bin"))?.len() == 2 * MIB, "g.bin is short");
    lake.proxy.behave(Behaviour { hang: true, ..Behaviour::default() });
    let started = Instant::now();
    let reader = {
        let path = pond.path("f.bin");
        std::thread::spawn(move || std::fs::read(path).map(|read| read.len()))
    };
    // Meanwhile others go on.
    ensure!(std::fs::read(pond.path("g.bin"))?.len() == 2 * MIB, "g.bin is short");
    ensure!(started.elapsed() < Duration::from_secs(5), "a warm read waited for {:?}", started.elapsed());
    let result = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    ensure!(result.is_err(), "bytes from a store that sent none");
    ensure!(started.elapsed() < Pond::DEADLINE, "the error took {:?}", started.elapsed());
    Ok(())
}

#[test]
fn a_slow_store_is_waited_for() -> Result<()> {
    let body = noise(1, 3 * MIB);
    let lake = Lake::of([("f.bin", body.clone())])?;
    let pond = lake.pond().start()?;
    lake.proxy.behave(Behaviour { first_byte: Duration::from_secs(5), ..Behaviour::default() });
    ensure!(std::fs::read(pond.path("f.bin"))? == body[..], "the bytes differ");
    Ok(())
}
