//! Files that are changed, renamed or removed while the store lacks them, or is just getting them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, close, eventually, noise, write_and_close};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{cluster, must_be_persisted, must_read, sync, told::Status};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Lets nothing be put from now on.
fn refuse(lake: &Lake) {
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
}

/// Lets everything through again.
fn heal(lake: &Lake) {
    lake.proxy.behave(Behaviour::default());
}

/// Writes a file so that its persisting is under way, and long.
fn persisting(lake: &Lake, cluster: &Cluster, path: &str, body: &[u8]) -> Result<()> {
    lake.proxy.reset();
    lake.proxy.behave(Behaviour {
        first_byte: Duration::from_secs(2),
        method: "PUT".to_owned(),
        ..Behaviour::default()
    });
    write_and_close(&cluster.path(0, path), body)?;
    eventually("it is on its way", || {
        Ok(lake.proxy.requests().iter().any(|request| request.method == "PUT" && request.target.contains(path)))
    })
}

#[test]
fn a_dirty_file_is_written_again_and_again_and_the_last_version_arrives() -> Result<()> {
    let lake = Lake::of([("old", noise(1, 100_000))])?;
    let mut cluster = cluster(&lake, "async").start()?;
    let other = cluster.mount(9)?;
    refuse(&lake);
    for name in ["old", "new"] {
        let path = cluster.path(0, name);
        for round in 2..5 {
            write_and_close(&path, &noise(round, 50_000))?;
            must_read(&cluster.path(other, name), &noise(round, 50_000))?;
        }
        let file = OpenOptions::new().write(true).open(&path)?;
        file.write_all_at(b"here", 20_000)?;
        file.sync_all()?;
        close(file)?;
        let mut file = OpenOptions::new().append(true).open(&path)?;
        file.write_all(b"more")?;
        close(file)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(40_000)?;
        close(file)?;
        let mut expected = noise(4, 50_000)[..40_000].to_vec();
        expected[20_000..20_004].copy_from_slice(b"here");
        for mount in [0, other] {
            must_read(&cluster.path(mount, name), &expected)?;
        }
    }
    heal(&lake);
    must_be_persisted(&lake, &cluster)
}

#[test]
fn a_dirty_file_is_removed_and_nothing_of_it_arrives() -> Result<()> {
    let lake = Lake::of([("d/old", noise(1, 1_000)), ("d/stays", noise(2, 1_000))])?;
    let cluster = cluster(&lake, "async").start()?;
    refuse(&lake);
    for name in ["d/old", "d/new", "d/renamed"] {
        write_and_close(&cluster.path(0, name), &noise(3, 20_000))?;
    }
    fs::rename(cluster.path(0, "d/renamed"), cluster.path(0, "e"))?;
    for name in ["d/old", "d/new", "e"] {
        fs::remove_file(cluster.path(0, name)).with_context(|| name.to_owned())?;
    }
    heal(&lake);
    sync(&cluster)?;
    lake.must_be(&[("d/stays".to_owned(), noise(2, 1_000))].into(), &["d/".to_owned()].into())
}

#[test]
fn a_directory_of_dirty_files_is_renamed_there_and_back_and_onward() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").start()?;
    let other = cluster.mount(9)?;
    refuse(&lake);
    fs::create_dir(cluster.path(0, "a"))?;
    for n in 0..10_u64 {
        write_and_close(&cluster.path(0, &format!("a/dirty-{n}")), &noise(n, 2_000))?;
    }
    for (from, to) in [("a", "b"), ("b", "a"), ("a", "c")] {
        fs::rename(cluster.path(0, from), cluster.path(0, to)).with_context(|| format!("{from} to {to}"))?;
        must_read(&cluster.path(other, &format!("{to}/dirty-4")), &noise(4, 2_000))?;
    }
    heal(&lake);
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.list()?.iter().all(|(key, ..)| key.starts_with("c/")), "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_directory_with_dirty_and_persisted_files_is_renamed_and_goes_whole() -> Result<()> {
    let lake = Lake::of((0..10).map(|n| (format!("a/persisted-{n}"), noise(n, 1_000))))?;
    let mut cluster = cluster(&lake, "async").start()?;
    let other = cluster.mount(9)?;
    refuse(&lake);
    for n in 0..10_u64 {
        write_and_close(&cluster.path(0, &format!("a/dirty-{n}")), &noise(100 + n, 2_000))?;
    }
    write_and_close(&cluster.path(0, "a/persisted-3"), &noise(200, 3_000))?;
    fs::rename(cluster.path(0, "a"), cluster.path(0, "b"))?;
    for (name, body) in [("dirty-4", noise(104, 2_000)), ("persisted-3", noise(200, 3_000))] {
        must_read(&cluster.path(other, &format!("b/{name}")), &body)?;
    }
    heal(&lake);
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.list()?.iter().all(|(key, ..)| key.starts_with("b/")), "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_dirty_file_replaces_one_that_is_persisted_and_the_other_way_round() -> Result<()> {
    let lake = Lake::of([("p", noise(1, 1_000)), ("q", noise(2, 1_000)), ("r", noise(3, 1_000))])?;
    let cluster = cluster(&lake, "async").start()?;
    let path = |name: &str| cluster.path(0, name);
    ensure!(fs::read_dir(path(""))?.count() == 3, "three files");
    refuse(&lake);
    write_and_close(&path("dirty-1"), &noise(4, 5_000))?;
    fs::rename(path("dirty-1"), path("p")).context("a dirty one over a persisted one")?;
    write_and_close(&path("dirty-2"), &noise(5, 6_000))?;
    renameat_with(CWD, path("dirty-2"), CWD, path("q"), RenameFlags::EXCHANGE).context("exchanging")?;
    must_read(&path("q"), &noise(5, 6_000))?;
    must_read(&path("dirty-2"), &noise(2, 1_000))?;
    write_and_close(&path("dirty-3"), &noise(6, 7_000))?;
    heal(&lake);
    fs::rename(path("r"), path("dirty-3")).context("a persisted one over a dirty one")?;
    must_read(&path("p"), &noise(4, 5_000))?;
    must_read(&path("dirty-3"), &noise(3, 1_000))?;
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("q")? == noise(5, 6_000) && lake.get("dirty-2")? == noise(2, 1_000), "other bytes");
    Ok(())
}

#[test]
fn a_file_is_renamed_while_it_is_being_persisted() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").start()?;
    fs::create_dir(cluster.path(0, "d"))?;
    sync(&cluster)?;
    for (from, to, length) in [("small", "small-2", 5_000), ("d/large", "large-2", 20 * MIB)] {
        persisting(&lake, &cluster, from, &noise(1, length))?;
        fs::rename(cluster.path(0, from), cluster.path(0, to)).with_context(|| from.to_owned())?;
        must_read(&cluster.path(0, to), &noise(1, length))?;
        ensure!(!cluster.path(0, from).exists(), "{from} is still there");
        heal(&lake);
        must_be_persisted(&lake, &cluster)?;
        ensure!(lake.get(to)? == noise(1, length), "{to} has other bytes");
    }
    Ok(())
}

#[test]
fn a_directory_is_renamed_while_a_file_in_it_is_being_persisted() -> Result<()> {
    let lake = Lake::of([("d/old", noise(1, 1_000))])?;
    let cluster = cluster(&lake, "async").start()?;
    persisting(&lake, &cluster, "d/new", &noise(2, 5_000))?;
    fs::rename(cluster.path(0, "d"), cluster.path(0, "e"))?;
    fs::create_dir(cluster.path(0, "d"))?;
    write_and_close(&cluster.path(0, "d/new"), &noise(3, 6_000))?;
    must_read(&cluster.path(0, "e/new"), &noise(2, 5_000))?;
    heal(&lake);
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("d/new")? == noise(3, 6_000) && lake.get("e/new")? == noise(2, 5_000), "other bytes");
    Ok(())
}

#[test]
fn a_file_is_written_and_removed_while_it_is_being_persisted() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").start()?;
    persisting(&lake, &cluster, "f", &noise(1, 5_000))?;
    write_and_close(&cluster.path(0, "f"), &noise(2, 6_000))?;
    must_read(&cluster.path(0, "f"), &noise(2, 6_000))?;
    heal(&lake);
    must_be_persisted(&lake, &cluster)?;
    persisting(&lake, &cluster, "g", &noise(1, 5_000))?;
    fs::remove_file(cluster.path(0, "g"))?;
    ensure!(!cluster.path(0, "g").exists(), "it is still there");
    heal(&lake);
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.list()?.len() == 1, "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn what_fsync_acknowledged_arrives_although_the_file_stays_open() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").start()?;
    let other = cluster.mount(9)?;
    let mut file = OpenOptions::new().create_new(true).write(true).open(cluster.path(0, "log"))?;
    for round in 1..=5_usize {
        file.write_all(&noise(1, 60_000)[(round - 1) * 10_000..round * 10_000])?;
        file.sync_all()?;
        let expected = &noise(1, 60_000)[..round * 10_000];
        must_read(&cluster.path(other, "log"), expected)?;
        eventually("the object arrives", || Ok(lake.get("log").is_ok_and(|body| body == expected)))?;
    }
    // Not synced, and thereby not to be seen.
    file.write_all(b"more")?;
    ensure!(lake.get("log")?.len() == 50_000, "what was not synced is in the store");
    close(file)?;
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("log")?.len() == 50_004, "what was written last is missing");
    Ok(())
}

#[test]
fn files_survive_a_store_that_is_slow_and_status_tells_how_far_they_are() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").start()?;
    persisting(&lake, &cluster, "f", &noise(1, 5_000))?;
    eventually("status says that it is being persisted", || {
        let status = Status::of(&cluster, "/f")?;
        ensure!(!status.is_persisted() || lake.get("f").is_ok(), "{status:?}");
        Ok(status.paths_in("persisting") == ["/f"] || status.is_persisted())
    })?;
    heal(&lake);
    sync(&cluster)?;
    ensure!(Status::of(&cluster, "/f")?.is_persisted(), "{:?}", Status::of(&cluster, "/f")?);
    must_be_persisted(&lake, &cluster)
}
