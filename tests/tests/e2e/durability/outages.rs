//! A store that is away or refuses: what is written is acknowledged, is read here and elsewhere, and arrives later.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, close, eventually, noise, within, write_and_close};

use super::{
    cluster, must_be_persisted, must_read, sync,
    told::{Status, problem_of, problems},
};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Closes a file, which no store may delay.
fn closes(file: File) -> Result<()> {
    let closed = within(Cluster::DEADLINE, "closing a file", move || close(file))?;
    closed.context("closing a file")
}

#[test]
fn a_file_is_acknowledged_while_the_store_is_away_and_arrives_when_it_is_back() -> Result<()> {
    let mut lake = Lake::of([("old", noise(1, 100_000))])?;
    let mut cluster = cluster(&lake, "async").start()?;
    let other = cluster.mount(9)?;
    must_read(&cluster.path(other, "old"), &noise(1, 100_000))?;
    let mut small = File::create_new(cluster.path(0, "small"))?;
    let mut large = File::create_new(cluster.path(0, "large"))?;
    let mut old = OpenOptions::new().append(true).open(cluster.path(0, "old"))?;
    let mut synced = File::create_new(cluster.path(0, "synced"))?;
    lake.minio.kill()?;
    small.write_all(&noise(2, 5_000))?;
    large.write_all(&noise(3, 20 * MIB))?;
    old.write_all(b"more")?;
    synced.write_all(&noise(4, 70_000))?;
    within(Cluster::DEADLINE, "fsync", {
        let synced = synced.try_clone()?;
        move || synced.sync_all()
    })??;
    for file in [small, large, old, synced] {
        closes(file)?;
    }
    let appended = [&noise(1, 100_000)[..], b"more"].concat();
    let expected = [
        ("small", noise(2, 5_000)),
        ("large", noise(3, 20 * MIB)),
        ("old", appended.into()),
        ("synced", noise(4, 70_000)),
    ];
    for (name, body) in &expected {
        for mount in [0, other] {
            must_read(&cluster.path(mount, name), body).with_context(|| format!("mount {mount}"))?;
        }
        ensure!(!Status::of(&cluster, &format!("/{name}"))?.is_persisted(), "{name} is said to be in a dead store");
    }
    ensure!(Status::of(&cluster, "/")?.counts() == (4, 0), "{:?}", Status::of(&cluster, "/"));
    let late = cluster.run(&["fs", "sync", "/", "--timeout", "1s"])?;
    ensure!(!late.status.success(), "fs sync says that a dead store has everything");
    lake.minio.restart()?;
    sync(&cluster)?;
    lake.must_be(&expected.map(|(name, body)| (name.to_owned(), body)).into(), &[].into())?;
    ensure!(Status::of(&cluster, "/")?.is_persisted(), "{:?}", Status::of(&cluster, "/"));
    must_be_persisted(&lake, &cluster)
}

#[test]
fn names_that_are_known_are_made_and_removed_without_the_store() -> Result<()> {
    let mut lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").store(&["--sync-interval", "never"]).start()?;
    let other = cluster.mount(9)?;
    ensure!(std::fs::read_dir(cluster.path(0, ""))?.next().is_none(), "the bucket is not empty");
    lake.minio.kill()?;
    std::fs::create_dir_all(cluster.path(0, "a/b"))?;
    for n in 0..30_u64 {
        write_and_close(&cluster.path(0, &format!("a/b/f{n}")), &noise(n, 3_000))?;
    }
    std::fs::rename(cluster.path(0, "a/b"), cluster.path(0, "a/c"))?;
    std::fs::rename(cluster.path(0, "a/c/f1"), cluster.path(0, "a/c/f2"))?;
    std::fs::remove_file(cluster.path(0, "a/c/f3"))?;
    std::fs::create_dir(cluster.path(0, "gone"))?;
    std::fs::remove_dir(cluster.path(0, "gone"))?;
    must_read(&cluster.path(other, "a/c/f2"), &noise(1, 3_000))?;
    lake.minio.restart()?;
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("a/c/f2")? == noise(1, 3_000) && lake.list()?.len() >= 28, "{:?}", lake.list()?);
    ensure!(lake.list()?.iter().all(|(key, ..)| key.starts_with("a/c/f") || key.ends_with('/')), "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_store_that_refuses_holds_the_line_visibly_and_loses_nothing() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").start()?;
    lake.proxy.behave(Behaviour { answer: Some(403), method: "PUT".to_owned(), ..Behaviour::default() });
    write_and_close(&cluster.path(0, "f"), &noise(1, 30_000))?;
    write_and_close(&cluster.path(0, "_SUCCESS"), b"")?;
    let problem = problem_of(&cluster, "/f")?;
    ensure!(!problem.conflict && !problem.reason.is_empty(), "{problem:?}");
    ensure!(problem.held_up >= 1, "nothing waits for it: {problem:?}");
    eventually("status says that it fails", || Ok(Status::of(&cluster, "/f")?.paths_in("failing") == ["/f"]))?;
    let late = cluster.run(&["fs", "sync", "/", "--timeout", "1s"])?;
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    ensure!(!late.status.success() && said.contains("/f"), "{said}");
    ensure!(lake.list()?.is_empty(), "{:?}", lake.list()?);
    must_read(&cluster.path(0, "f"), &noise(1, 30_000))?;
    lake.proxy.behave(Behaviour::default());
    cluster.run_ok(&["admin", "problems", "retry", "/f"])?;
    must_be_persisted(&lake, &cluster)?;
    ensure!(problems(&cluster)?.is_empty(), "{:?}", problems(&cluster)?);
    Ok(())
}

#[test]
fn an_answer_that_is_lost_costs_no_second_object_and_is_no_conflict() -> Result<()> {
    let lake = Lake::of([("old", noise(1, 1_000))])?;
    let cluster = cluster(&lake, "async").start()?;
    must_read(&cluster.path(0, "old"), &noise(1, 1_000))?;
    // The store does what it is asked to, and says so when nobody waits any more.
    let late = Duration::from_secs(60);
    for (name, length) in [("new", 5_000), ("old", 7_000), ("large", 20 * MIB)] {
        lake.proxy.reset();
        let (method, only) = if length > MIB { ("POST", "uploadId=") } else { ("PUT", "") };
        let (method, only) = (method.to_owned(), only.to_owned());
        lake.proxy.behave(Behaviour { first_byte: late, method, only, ..Behaviour::default() });
        write_and_close(&cluster.path(0, name), &noise(2, length))?;
        eventually("the store has it", || Ok(lake.get(name).is_ok_and(|body| body == noise(2, length))))?;
        lake.proxy.behave(Behaviour::default());
        sync(&cluster)?;
        ensure!(problems(&cluster)?.is_empty(), "{:?}", problems(&cluster)?);
    }
    must_be_persisted(&lake, &cluster)
}
