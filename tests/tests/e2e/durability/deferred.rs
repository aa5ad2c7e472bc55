//! Names under which nothing is stored, and files that are never to be.

use std::{io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, close, eventually, noise, write_and_close};

use super::{cluster, must_be_persisted, must_read, sync, told::Status};
use crate::lake::Lake;

/// Tasks of a job, each of which writes one file.
const TASKS: u64 = 60;

/// What a job of Hadoop's committer does: tasks write below `_temporary`, each renames its directory when it is done, the job moves
/// what they made into place, and says so.
fn job(output: &Path, attempts: u64) -> Result<()> {
    let temporary = output.join("_temporary/0");
    std::fs::create_dir_all(&temporary)?;
    for task in 0..TASKS {
        for attempt in 0..attempts {
            let attempt_dir = temporary.join(format!("_temporary/attempt_{task}_{attempt}"));
            std::fs::create_dir_all(&attempt_dir)?;
            write_and_close(&attempt_dir.join(format!("part-{task:05}")), &noise(task << 8 | attempt, 5_000))?;
        }
        let last = temporary.join(format!("_temporary/attempt_{task}_{}", attempts - 1));
        std::fs::rename(last, temporary.join(format!("task_{task}")))?;
    }
    for task in 0..TASKS {
        let name = format!("part-{task:05}");
        std::fs::rename(temporary.join(format!("task_{task}/{name}")), output.join(name))?;
    }
    std::fs::remove_dir_all(output.join("_temporary"))?;
    write_and_close(&output.join("_SUCCESS"), b"").context("_SUCCESS")
}

#[test]
fn a_job_puts_each_file_once_and_copies_nothing() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "deferred").start()?;
    lake.proxy.reset();
    for (name, attempts) in [("one", 1), ("three", 3)] {
        job(&cluster.path(0, name), attempts).with_context(|| format!("job {name}"))?;
    }
    sync(&cluster)?;
    let puts = lake.puts();
    let allowed = 2 * (TASKS + 1) * 105 / 100;
    ensure!(puts.len() as u64 <= allowed, "{} PUTs for {} files: {puts:#?}", puts.len(), 2 * (TASKS + 1));
    ensure!(lake.copies().is_empty(), "{:#?}", lake.copies());
    ensure!(!puts.iter().any(|target| target.contains("_temporary")), "{puts:#?}");
    must_be_persisted(&lake, &cluster)
}

#[test]
fn the_job_may_be_over_before_the_store_hears_of_it() -> Result<()> {
    let mut lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "deferred").store(&["--sync-interval", "never"]).start()?;
    let other = cluster.mount(9)?;
    ensure!(std::fs::read_dir(cluster.path(0, ""))?.next().is_none(), "the bucket is not empty");
    lake.minio.kill()?;
    job(&cluster.path(0, "out"), 2)?;
    for task in 0..TASKS {
        must_read(&cluster.path(other, &format!("out/part-{task:05}")), &noise(task << 8 | 1, 5_000))?;
    }
    lake.minio.restart()?;
    must_be_persisted(&lake, &cluster)
}

#[test]
fn what_has_a_temporary_name_stays_away_until_it_is_renamed() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "deferred").start()?;
    for (path, length) in [("d/.spark-staging-1/a/f", 10), ("d/x.inprogress.77", 20_000), ("_temporary/g", 0)] {
        let path = cluster.path(0, path);
        std::fs::create_dir_all(path.parent().context("a parent")?)?;
        write_and_close(&path, &noise(length, 3_000))?;
    }
    write_and_close(&cluster.path(0, "plain"), b"1")?;
    sync(&cluster)?;
    let keys = || -> Result<Vec<String>> {
        Ok(lake.list()?.into_iter().map(|(key, ..)| key).filter(|key| !key.ends_with('/')).collect())
    };
    ensure!(keys()? == ["plain"], "{:?}", lake.list()?);
    let status = Status::of(&cluster, "/d")?;
    ensure!(status.paths_in("deferred").contains(&"/d/x.inprogress.77"), "{status:?}");
    // Deferred is as durable as async is.
    for part in [&mut cluster.workers[0], &mut cluster.master, &mut cluster.mounts[0]] {
        part.kill()?;
        part.launch()?;
    }
    cluster.wait_workers(1)?;
    std::fs::rename(cluster.path(0, "d/x.inprogress.77"), cluster.path(0, "d/x"))?;
    std::fs::rename(cluster.path(0, "d/.spark-staging-1/a"), cluster.path(0, "d/a"))?;
    sync(&cluster)?;
    ensure!(keys()? == ["d/a/f", "d/x", "plain"], "{:?}", lake.list()?);
    ensure!(lake.get("d/x")? == noise(20_000, 3_000) && lake.get("d/a/f")? == noise(10, 3_000), "other bytes");
    cluster.run_ok(&["fs", "persist", "/"])?;
    must_be_persisted(&lake, &cluster)
}

/// What Flink's file sink does: a hidden part is synced at each checkpoint, cut back to the last one by who recovers, on another node perhaps, and renamed when it
/// is to be seen.
#[test]
fn a_part_of_a_stream_is_recovered_from_its_last_sync_and_put_once() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "deferred").start()?;
    let other = cluster.mount(9)?;
    let hidden = "out/.part-0-0.inprogress.3f1c";
    std::fs::create_dir(cluster.path(0, "out"))?;
    lake.proxy.reset();
    let (checkpointed, lost) = (noise(1, 70_000), noise(2, 30_000));
    let mut part = std::fs::File::create(cluster.path(0, hidden))?;
    part.write_all(&checkpointed)?;
    part.sync_all()?;
    part.write_all(&lost)?;
    // Neither the job nor the mount that it wrote through is there any more.
    cluster.mounts[0].kill()?;
    drop(part);
    cluster.mounts[0].launch()?;

    let recovered = cluster.path(other, hidden);
    let mut part = eventually_open(&recovered)?;
    ensure!(part.metadata()?.len() >= checkpointed.len() as u64, "what was synced is gone");
    part.set_len(checkpointed.len() as u64)?;
    part.write_all(b"after")?;
    part.sync_all()?;
    close(part)?;
    std::fs::rename(&recovered, cluster.path(other, "out/part-0-0"))?;
    sync(&cluster)?;
    let expected = [&checkpointed[..], b"after"].concat();
    ensure!(lake.get("out/part-0-0")? == expected, "the object has other bytes");
    let puts: Vec<_> = lake.puts().into_iter().filter(|target| !target.contains("/?")).collect();
    ensure!(puts.len() == 1, "{puts:#?}");
    must_be_persisted(&lake, &cluster)
}

/// Opens a file to append; what a writer left that was killed is free when its lease has run out.
fn eventually_open(path: &Path) -> Result<std::fs::File> {
    let mut opened = None;
    eventually("the dead writer's lease has ended", || {
        opened = std::fs::OpenOptions::new().append(true).open(path).ok();
        Ok(opened.is_some())
    })?;
    opened.context("opened")
}

#[test]
fn scratch_is_put_only_when_that_is_asked_for() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "scratch").store(&["--durability-rule", "kept/*=through"]).start()?;
    std::fs::create_dir(cluster.path(0, "d"))?;
    std::fs::create_dir(cluster.path(0, "kept"))?;
    lake.proxy.reset();
    for n in 0..20_u64 {
        write_and_close(&cluster.path(0, &format!("d/f{n}")), &noise(n, 2_000))?;
    }
    std::fs::rename(cluster.path(0, "d"), cluster.path(0, "e"))?;
    sync(&cluster)?;
    ensure!(lake.puts().is_empty(), "{:#?}", lake.puts());
    ensure!(Status::of(&cluster, "/e")?.paths_in("scratch").len() >= 20, "{:?}", Status::of(&cluster, "/e")?);
    write_and_close(&cluster.path(0, "kept/f"), b"1")?;
    ensure!(lake.get("kept/f")? == "1", "the rule is not followed");
    cluster.run_ok(&["fs", "persist", "/e/f7"])?;
    sync(&cluster)?;
    ensure!(lake.get("e/f7")? == noise(7, 2_000), "other bytes");
    let others = lake.list()?.into_iter().filter(|(key, ..)| key.starts_with("e/f") && key != "e/f7").count();
    ensure!(others == 0, "{:?}", lake.list()?);
    cluster.run_ok(&["fs", "persist", "/"])?;
    must_be_persisted(&lake, &cluster)
}

#[test]
fn a_rule_says_otherwise_for_some_names() -> Result<()> {
    let lake = Lake::empty()?;
    let rules = ["--durability-rule", "*.tmp=scratch", "--durability-rule", "late/*=deferred"];
    let cluster: Cluster = cluster(&lake, "async").store(&rules).start()?;
    std::fs::create_dir_all(cluster.path(0, "late/_temporary"))?;
    for path in ["a", "b.tmp", "late/_temporary/c"] {
        write_and_close(&cluster.path(0, path), path.as_bytes())?;
    }
    sync(&cluster)?;
    let keys: Vec<_> = lake.list()?.into_iter().map(|(key, ..)| key).filter(|key| !key.ends_with('/')).collect();
    ensure!(keys == ["a"], "{keys:?}");
    // A name that is not to be stored was given up.
    std::fs::rename(cluster.path(0, "late/_temporary/c"), cluster.path(0, "late/c"))?;
    sync(&cluster)?;
    ensure!(lake.get("late/c")? == "late/_temporary/c", "other bytes");
    Ok(())
}
