//! Keys that paths cannot express, markers, and buckets with nothing in them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use headpond_tests::{Pond, eventually, write_and_close};

use crate::lake::Lake;

fn tree(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let below = entry.path().strip_prefix(root)?.to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                paths.push(below + "/");
                open.push(entry.path());
            } else {
                paths.push(below);
            }
        }
    }
    paths.sort();
    Ok(paths)
}

#[test]
fn odd_keys_are_listed_where_a_path_can_name_them() -> Result<()> {
    // As long as a key can be.
    let long_key = ["s".repeat(204).as_str(); 5].join("/");
    ensure!(long_key.len() == 1024, "{} bytes", long_key.len());
    let lake = Lake::of([
        ("plain", "1"),
        ("with space", "2"),
        ("per%cent+plus", "3"),
        ("ünïcödé/日本", "4"),
        ("back\\slash", "5"),
        ("new\nline", "6"),
        ("tab\tand;semi&amp=", "7"),
        ("marker/", ""),
        ("marked/", ""),
        ("marked/file", "8"),
        ("both-file", "9"),
        ("both-file-x", "10"),
        (long_key.as_str(), "11"),
    ])?;
    let pond = lake.pond().start()?;
    for (name, body) in [
        ("plain", "1"),
        ("with space", "2"),
        ("per%cent+plus", "3"),
        ("ünïcödé/日本", "4"),
        ("back\\slash", "5"),
        ("new\nline", "6"),
        ("tab\tand;semi&amp=", "7"),
        ("marked/file", "8"),
        (long_key.as_str(), "11"),
    ] {
        ensure!(std::fs::read(pond.path(name))? == body.as_bytes(), "{name:?} differs");
    }
    let seen = tree(&pond.path(""))?;
    for name in ["marker/", "marked/", "marked/file", "new\nline", "ünïcödé/日本"] {
        ensure!(seen.iter().any(|path| path == name), "{name:?} is not listed: {seen:?}");
    }
    ensure!(std::fs::read_dir(pond.path("marker"))?.count() == 0, "a marker is an empty directory");
    Ok(())
}

#[test]
fn an_empty_bucket_and_an_empty_prefix_are_empty_directories() -> Result<()> {
    let lake = Lake::empty()?;
    let root = lake.pond().start()?;
    ensure!(std::fs::read_dir(root.path(""))?.count() == 0, "an empty bucket has no entries");
    ensure!(!root.path("a").exists(), "nor names");
    let below = headpond_tests::Pond::over("s3://lake/no/such/prefix", Some(&lake.proxy.endpoint())).start()?;
    ensure!(std::fs::read_dir(below.path(""))?.count() == 0, "an empty prefix has no entries");
    ensure!(lake.list()?.is_empty(), "reading wrote {:?}", lake.list());
    ensure!(lake.offences().is_empty(), "reading sent {:?}", lake.offences());
    Ok(())
}

#[test]
fn a_prefix_shows_what_lies_below_it_and_nothing_else() -> Result<()> {
    let lake = Lake::of([("a/b/in", "1"), ("a/bystander", "2"), ("a/b-out", "3"), ("top", "4")])?;
    let pond = headpond_tests::Pond::over("s3://lake/a/b", Some(&lake.proxy.endpoint())).start()?;
    let seen = tree(&pond.path(""))?;
    ensure!(seen == ["in"], "{seen:?}");
    Ok(())
}

#[test]
fn a_directory_that_the_store_lists_and_that_holds_nothing_goes_when_it_is_looked_into() -> Result<()> {
    let lake = Lake::of([("d/real", "1"), ("d/full/file", "2")])?;
    for key in ["d/ghost", "d/full"] {
        lake.minio.leave_folder("lake", key)?;
    }
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    // Whoever lists only the directory above has to believe the store.
    ensure!(std::fs::read_dir(pond.path("d"))?.count() == 3, "MinIO lists no such folder any more");
    // It may go while it is looked into.
    let left = ["d/", "d/full/", "d/full/file", "d/real"];
    eventually("it is gone", || Ok(tree(&pond.path("")).is_ok_and(|tree| tree == left)))?;
    must_stay(&pond, &["full", "real"])?;
    write_and_close(&pond.path("d/ghost"), b"a file")?;
    ensure!(lake.get("d/ghost")? == b"a file"[..], "the object differs");
    std::fs::remove_file(pond.path("d/ghost"))?;
    lake.put("d/ghost/file", "3")?;
    eventually("what holds something is there", || {
        Ok(std::fs::read(pond.path("d/ghost/file")).is_ok_and(|read| read == b"3"))
    })
}

#[test]
fn a_directory_that_holds_nothing_is_not_shown_where_somebody_has_changed_something() -> Result<()> {
    let lake = Lake::of([("d/real", "1")])?;
    let pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    write_and_close(&pond.path("d/gone"), b"a file")?;
    std::fs::remove_file(pond.path("d/gone"))?;
    std::fs::create_dir(pond.path("d/old"))?;
    write_and_close(&pond.path("d/old/file"), b"another")?;
    std::fs::rename(pond.path("d/old"), pond.path("d/new"))?;
    pond.run_ok(&["fs", "sync", "/"])?;
    for key in ["d/gone", "d/old/file"] {
        lake.minio.leave_folder("lake", key)?;
    }
    must_stay(&pond, &["new", "real"])?;
    for (name, body) in [("gone", "a file again"), ("old", "a file now")] {
        write_and_close(&pond.path("d").join(name), body.as_bytes())?;
        ensure!(lake.get(&format!("d/{name}"))? == body, "the object differs");
    }
    Ok(())
}

/// Fails unless the directory `d` shows these names each time that it is listed anew.
fn must_stay(pond: &Pond, names: &[&str]) -> Result<()> {
    let began = Instant::now();
    eventually("it was listed anew some times", || {
        let entries = std::fs::read_dir(pond.path("d"))?;
        let mut shown = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        shown.sort();
        ensure!(shown == names, "{shown:?} are shown");
        Ok(began.elapsed() > Duration::from_secs(3))
    })
}
