//! Bytes that several workers have on disk before they are acknowledged.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, ClusterBuilder, close, eventually, noise, write_and_close};

use super::{cluster, must_be_persisted, must_read, sync, told::Status};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// As it is when nobody says how many.
fn two_copies(lake: &Lake) -> ClusterBuilder {
    cluster(lake, "async")
}

/// Waits until the first worker has begun an upload and the master has heard of it.
fn uploads_are_known(lake: &Lake, cluster: &Cluster) -> Result<()> {
    eventually("an upload is on its way", || Ok(lake.minio.uploads()? == 1))?;
    let beats = || cluster.workers[0].metric("headpond_worker_heartbeats_total", "");
    let before = beats()?;
    eventually("the master hears of it", || Ok(beats()? > before + 1.5))
}

#[test]
fn a_worker_that_is_lost_with_its_disk_takes_nothing_along() -> Result<()> {
    let lake = Lake::of([("old", noise(1, 100_000))])?;
    let mut cluster = two_copies(&lake).workers(2).start()?;
    let other = cluster.mount(1)?;
    must_read(&cluster.path(0, "old"), &noise(1, 100_000))?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    for n in 0..20_u64 {
        write_and_close(&cluster.path(0, &format!("f{n}")), &noise(n, 30_000))?;
    }
    write_and_close(&cluster.path(0, "large"), &noise(99, 20 * MIB))?;
    let mut old = OpenOptions::new().append(true).open(cluster.path(0, "old"))?;
    for _ in 0..3 {
        old.write_all(b"more")?;
        old.sync_all()?;
    }
    close(old)?;
    let status = Status::of(&cluster, "/")?;
    for path in ["/f0", "/f19", "/large", "/old"] {
        ensure!(status.holders(path) == 2, "{path}: {status:?}");
    }
    uploads_are_known(&lake, &cluster)?;
    // The worker that had them written to it.
    cluster.workers[0].kill()?;
    fs::remove_dir_all(cluster.cache_dir(0))?;
    let appended = [&noise(1, 100_000)[..], b"moremoremore"].concat();
    for n in 0..20_u64 {
        must_read(&cluster.path(other, &format!("f{n}")), &noise(n, 30_000))?;
    }
    must_read(&cluster.path(other, "large"), &noise(99, 20 * MIB))?;
    must_read(&cluster.path(other, "old"), &appended)?;
    lake.proxy.behave(Behaviour::default());
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("large")? == noise(99, 20 * MIB) && lake.get("old")? == appended, "other bytes");
    Ok(())
}

#[test]
fn what_a_worker_was_sending_when_it_was_lost_is_left_nowhere() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = two_copies(&lake).workers(2).start()?;
    cluster.mount(1)?;
    lake.proxy.behave(Behaviour { hang: true, only: "partNumber".to_owned(), ..Behaviour::default() });
    write_and_close(&cluster.path(0, "large"), &noise(99, 20 * MIB))?;
    uploads_are_known(&lake, &cluster)?;
    cluster.workers[0].kill()?;
    fs::remove_dir_all(cluster.cache_dir(0))?;
    lake.proxy.behave(Behaviour::default());
    sync(&cluster)?;
    ensure!(lake.get("large")? == noise(99, 20 * MIB), "other bytes");
    lake.must_have_no_uploads()
}

#[test]
fn fewer_workers_than_copies_will_do_unless_they_are_demanded() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = two_copies(&lake).start()?;
    write_and_close(&cluster.path(0, "f"), b"1")?;
    must_be_persisted(&lake, &cluster)?;
    let lake = Lake::empty()?;
    let cluster = two_copies(&lake).store(&["--strict-copies"]).start()?;
    let refused = write_and_close(&cluster.path(0, "f"), b"1");
    ensure!(refused.is_err(), "acknowledged with one copy instead of two");
    eventually("nothing was acknowledged, nothing is there", || Ok(!cluster.path(0, "f").exists()))?;
    ensure!(lake.list()?.is_empty(), "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_worker_that_comes_back_has_what_it_held() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").store(&["--copies", "1"]).workers(2).start()?;
    let other = cluster.mount(1)?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    for n in 0..10_u64 {
        write_and_close(&cluster.path(0, &format!("f{n}")), &noise(n, 300_000))?;
    }
    cluster.workers[0].kill()?;
    // The only copy is on a worker that is away: an error, and no absence.
    let read = fs::read(cluster.path(other, "f3"));
    let error = read.err().context("bytes from nowhere")?;
    ensure!(error.raw_os_error() == Some(libc::EIO), "{error}");
    cluster.workers[0].launch()?;
    cluster.wait_workers(2)?;
    for n in 0..10_u64 {
        let path = cluster.path(other, &format!("f{n}"));
        eventually("the worker is asked again", || Ok(fs::read(&path).is_ok_and(|read| read == noise(n, 300_000))))?;
    }
    lake.proxy.behave(Behaviour::default());
    must_be_persisted(&lake, &cluster)
}

#[test]
fn dirty_bytes_are_not_evicted_nor_freed() -> Result<()> {
    let lake = Lake::of((0..25).map(|n| (format!("cold/{n}"), noise(n, 4 * MIB))))?;
    let cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    for n in 0..10_u64 {
        write_and_close(&cluster.path(0, &format!("f{n}")), &noise(1_000 + n, 300_000))?;
    }
    cluster.run_ok(&["fs", "free", "/f0", "/f1"])?;
    for n in 0..25 {
        must_read(&cluster.path(0, &format!("cold/{n}")), &noise(n, 4 * MIB))?;
    }
    for n in 0..10_u64 {
        must_read(&cluster.path(0, &format!("f{n}")), &noise(1_000 + n, 300_000))?;
    }
    lake.proxy.behave(Behaviour::default());
    must_be_persisted(&lake, &cluster)
}
