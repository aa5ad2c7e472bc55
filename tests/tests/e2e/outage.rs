//! No master (P9): what is known is served, what is not known is an error soon, and all is well when it is back.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, eventually, noise};

use crate::lake::Lake;

/// More than the mount's sync interval and the validity of any answer under it.
const EXPIRED: Duration = Duration::from_secs(3);

/// A request that waits for nobody.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn a_file_read_once_stays_readable_without_a_master() -> Result<()> {
    let body = noise(1, 300_000);
    let lake = Lake::of([("d/known", body.clone())])?;
    let mut cluster = lake.cluster().start()?;
    let known = cluster.path(0, "d/known");
    ensure!(std::fs::read(&known)? == body[..], "the bytes differ");
    cluster.master.kill()?;
    let killed = Instant::now();
    eventually("everything has expired", || {
        let started = Instant::now();
        let read = std::fs::read(&known).with_context(|| format!("{:?} after the kill", killed.elapsed()))?;
        ensure!(read == body[..], "the bytes differ");
        ensure!(started.elapsed() < AT_ONCE, "a known file took {:?}", started.elapsed());
        Ok(killed.elapsed() > EXPIRED)
    })
}

#[test]
fn unknown_names_fail_soon_without_a_master_and_are_found_when_it_is_back() -> Result<()> {
    let lake = Lake::of((0..20).map(|n| (format!("d/{n}"), n.to_string())))?;
    let mut cluster = lake.cluster().start()?;
    ensure!(std::fs::read(cluster.path(0, "d/0"))? == b"0", "the bytes differ");
    cluster.master.kill()?;
    let started = Instant::now();
    for n in 1..20 {
        let error = std::fs::read(cluster.path(0, &format!("d/{n}"))).expect_err("nobody knows it");
        ensure!(error.kind() != ErrorKind::NotFound, "{error}");
        let error = std::fs::metadata(cluster.path(0, &format!("d/absent-{n}"))).expect_err("nobody knows it");
        ensure!(error.kind() != ErrorKind::NotFound, "{error}");
    }
    // One deadline for all of them together.
    ensure!(started.elapsed() < Cluster::DEADLINE, "40 unknown names took {:?}", started.elapsed());
    cluster.master.launch()?;
    let ready = Instant::now();
    eventually("the first is found", || Ok(std::fs::read(cluster.path(0, "d/1")).is_ok_and(|read| read == b"1")))?;
    ensure!(ready.elapsed() < Cluster::DEADLINE, "the mount took {:?} to notice", ready.elapsed());
    for n in 1..20 {
        ensure!(std::fs::read(cluster.path(0, &format!("d/{n}")))? == n.to_string().as_bytes(), "d/{n} differs");
        let error = std::fs::metadata(cluster.path(0, &format!("d/absent-{n}"))).expect_err("it does not exist");
        ensure!(error.kind() == ErrorKind::NotFound, "{error}");
    }
    Ok(())
}
