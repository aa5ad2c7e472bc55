//! Under stores that fail for longer than anybody waits: clear errors in time, cached data served, nothing lost from sight.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, eventually, noise, within};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// How long an outage lasts at least: longer than anybody in the cluster waits.
const LONG: Duration = Duration::from_secs(4);

/// A store that is overloaded may be so for this long.
const A_MINUTE: Duration = Duration::from_mins(1);

/// A file that is cached, one that is only known, and a directory that was listed.
fn lake() -> Result<(Lake, [Bytes; 2])> {
    let bodies = [noise(1, 3 * MIB), noise(2, 3 * MIB)];
    let lake = Lake::of([("d/cached", bodies[0].clone()), ("d/cold", bodies[1].clone())])?;
    Ok((lake, bodies))
}

/// Lets the store fail and checks what a reader sees, until it is well again.
fn outlives(
    cluster: &Cluster,
    bodies: &[Bytes; 2],
    outage: Duration,
    fail: impl FnOnce() -> Result<()>,
    heal: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let names =
        || -> Result<usize> { Ok(std::fs::read_dir(cluster.path(0, "d"))?.collect::<Result<Vec<_>, _>>()?.len()) };
    ensure!(names()? == 2, "two names at first");
    ensure!(std::fs::read(cluster.path(0, "d/cached"))? == bodies[0][..], "cached differs");
    fail()?;
    let started = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || started.elapsed() < outage {
        rounds += 1;
        let cached = cluster.path(0, "d/cached");
        let read = within(Cluster::DEADLINE, "reading what is cached", move || std::fs::read(cached))??;
        ensure!(read == bodies[0][..], "cached differs");
        ensure!(names()? == 2, "names vanished");
        let cold = cluster.path(0, "d/cold");
        let asked = Instant::now();
        let read = within(2 * Cluster::DEADLINE, "reading what is not cached", move || std::fs::read(cold))?;
        let error = read.err().context("bytes from a store that gives none")?;
        ensure!(matches!(error.raw_os_error(), Some(libc::EIO | libc::EACCES)), "after {:?}: {error}", asked.elapsed());
        // Absence was not known before, so it cannot be now.
        let unknown = cluster.path(0, &format!("d/unknown-{rounds}"));
        let asked = within(Cluster::DEADLINE, "looking up", move || std::fs::metadata(unknown))?;
        ensure!(
            asked.as_ref().is_err_and(|error| error.kind() != ErrorKind::NotFound)
                || started.elapsed() < Duration::from_secs(2),
            "a failure is taken for absence: {asked:?}"
        );
    }
    // The error names mount and key, on the command line and in the log of the mount.
    let output = cluster.run(&["fs", "cat", "/d/cold"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let names_both = |text: &str| text.contains("d/cold") && (text.contains("mount 1") || text.contains("s3://lake"));
    ensure!(
        !output.status.success() && said.lines().count() == 1 && names_both(&said),
        "the command line says: {said}"
    );
    let log = cluster.mounts[0].output();
    ensure!(log.lines().any(|line| line.contains("WARN") && names_both(line)), "the mount logs: {log}");
    let status = cluster.run_ok(&["admin", "status", "-o", "json"])?;
    ensure!(status.contains("s3://lake"), "the status names no mount that fails: {status}");

    heal()?;
    let cold = cluster.path(0, "d/cold");
    eventually("the store is used again", || Ok(std::fs::read(&cold).is_ok_and(|read| read == bodies[1][..])))?;
    eventually("absence is known again", || {
        Ok(std::fs::metadata(cluster.path(0, "d/unknown-1")).is_err_and(|error| error.kind() == ErrorKind::NotFound))
    })?;
    ensure!(names()? == 2, "names vanished");
    eventually("nothing is wrong any more", || {
        Ok(!cluster.run_ok(&["admin", "status", "-o", "json"])?.contains("s3://lake"))
    })
}

fn outlives_behaviour(behaviour: Behaviour, outage: Duration) -> Result<()> {
    let (lake, bodies) = lake()?;
    let cluster = lake.cluster().start()?;
    let behave = |behaviour: Behaviour| {
        lake.proxy.behave(behaviour);
        Ok(())
    };
    outlives(&cluster, &bodies, outage, || behave(behaviour), || behave(Behaviour::default()))?;
    ensure!(lake.offences().is_empty(), "reading sent {:?}", lake.offences());
    Ok(())
}

#[test]
fn a_store_that_answers_503_for_a_minute() -> Result<()> {
    outlives_behaviour(Behaviour { answer: Some(503), ..Behaviour::default() }, A_MINUTE)
}

#[test]
fn a_store_that_refuses_with_403() -> Result<()> {
    outlives_behaviour(Behaviour { answer: Some(403), ..Behaviour::default() }, LONG)
}

#[test]
fn a_store_that_takes_requests_and_never_answers() -> Result<()> {
    outlives_behaviour(Behaviour { hang: true, ..Behaviour::default() }, LONG)
}

#[test]
fn a_store_that_refuses_connections() -> Result<()> {
    let (mut lake, bodies) = lake()?;
    let cluster = Cluster::over("s3://lake", &lake.minio.endpoint()).start()?;
    let minio = std::cell::RefCell::new(&mut lake.minio);
    outlives(&cluster, &bodies, LONG, || minio.borrow_mut().kill(), || minio.borrow_mut().restart())
}
