//! Names that are exchanged (`RENAME_EXCHANGE`): one step, and the bucket follows.

use std::{collections::BTreeMap, fs, fs::File, io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{close, noise, write_and_close};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{must_read, must_soon_read, names};
use crate::lake::Lake;

fn exchange(one: &Path, other: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
}

/// What `key` is called when `one` and `other` have changed names.
fn exchanged(key: &str, one: &str, other: &str) -> String {
    let below = |top: &str, new: &str| {
        let rest = key.strip_prefix(top).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        Some(format!("{new}{rest}"))
    };
    below(one, other).or_else(|| below(other, one)).unwrap_or_else(|| key.to_owned())
}

#[test]
fn whatever_has_two_names_changes_them_and_the_bucket_follows() -> Result<()> {
    let mut objects: BTreeMap<String, Bytes> = BTreeMap::new();
    for n in 0..40 {
        objects.insert(format!("a/deep/f{n}"), noise(n, 900));
        objects.insert(format!("b/g{n}"), noise(100 + n, 700));
    }
    objects.extend([("file".to_owned(), noise(1, 50_000)), ("other".to_owned(), noise(2, 10))]);
    let lake = Lake::of(objects.clone())?;
    let mut cluster = lake.cluster().start()?;
    let mount = cluster.mount(9)?;
    // Of which most are asked for while the objects of those before are on their way.
    let pairs = [
        ("a", "b"),
        ("file", "other"),
        ("a", "b"),
        ("a/deep", "other"),
        ("file", "b"),
        ("b", "other/f3"),
        ("a", "file"),
    ];
    for (one, other) in pairs {
        drop(fs::metadata(cluster.path(mount, one)));
        exchange(&cluster.path(0, one), &cluster.path(0, other)).with_context(|| format!("{one} and {other}"))?;
        objects = objects.into_iter().map(|(key, body)| (exchanged(&key, one, other), body)).collect();
        for seen in [0, mount] {
            for name in [one, other] {
                let path = cluster.path(seen, name);
                let found = fs::metadata(&path).with_context(|| format!("{name} after {one} and {other}"))?;
                ensure!(found.is_file() == objects.contains_key(name), "{name} is another after {one} and {other}");
            }
        }
    }
    // A directory that was without objects for a moment has a marker since.
    let above = objects.keys().flat_map(|key| key.match_indices('/').map(|(at, _)| key[..=at].to_owned()));
    lake.must_become_but(&objects, &above.collect())?;
    for (key, body) in &objects {
        must_soon_read(&cluster.path(mount, key), body)?;
    }
    let report = cluster.run_ok(&["admin", "check"])?;
    println!("{report:?}");
    Ok(())
}

#[test]
fn a_file_that_is_written_is_stored_under_the_name_that_it_gets() -> Result<()> {
    use std::io::Write as _;
    let lake = Lake::of([("old", noise(1, 5_000))])?;
    let cluster = lake.cluster().start()?;
    let mut file = fs::File::create_new(cluster.path(0, "new"))?;
    file.write_all(&noise(2, 3_000))?;
    exchange(&cluster.path(0, "new"), &cluster.path(0, "old"))?;
    file.write_all(&noise(3, 3_000))?;
    headpond_tests::close(file)?;
    let body = [noise(2, 3_000), noise(3, 3_000)].concat();
    must_read(&cluster.path(0, "old"), &body)?;
    must_read(&cluster.path(0, "new"), &noise(1, 5_000))?;
    lake.must_become(&[("old".to_owned(), body.into()), ("new".to_owned(), noise(1, 5_000))].into())
}

#[test]
fn links_are_exchanged_with_files_and_what_cannot_be_is_refused() -> Result<()> {
    let lake = Lake::of([("d/f", noise(1, 100))])?;
    let cluster = lake.cluster().start()?;
    let path = |below: &str| cluster.path(0, below);
    std::os::unix::fs::symlink("nowhere", path("l"))?;
    exchange(&path("l"), &path("d/f"))?;
    ensure!(fs::read_link(path("d/f"))? == Path::new("nowhere"), "not the link");
    must_read(&path("l"), &noise(1, 100))?;
    lake.must_become_but(&[("l".to_owned(), noise(1, 100))].into(), &["d/".to_owned()].into())?;
    ensure!(exchange(&path("l"), &path("none")) == Err(Errno::NOENT), "with nothing");
    ensure!(exchange(&path("none"), &path("l")) == Err(Errno::NOENT), "with nothing");
    ensure!(exchange(&path("d"), &path("d/f")) == Err(Errno::INVAL), "with what lies below");
    ensure!(exchange(&path("d/f"), &path("d")) == Err(Errno::INVAL), "with what lies above");
    write_and_close(&path("one"), &noise(5, 100))?;
    fs::hard_link(path("one"), path("two"))?;
    exchange(&path("one"), &path("two"))?;
    must_read(&path("one"), &noise(5, 100))?;
    cluster.run_ok(&["fs", "mv", "--exchange", "/one", "/l"])?;
    must_read(&path("one"), &noise(1, 100))?;
    must_read(&path("l"), &noise(5, 100))
}

#[test]
fn a_file_and_a_directory_change_names_in_a_local_directory() -> Result<()> {
    for durability in ["through", "async"] {
        let (lake, files) = (Lake::empty()?, tempfile::tempdir()?);
        let below = |key: &str| files.path().join(key);
        fs::create_dir_all(below("d/e"))?;
        for (key, body) in [("f", "a file"), ("d/x", "in a directory"), ("d/e/y", "and below that")] {
            fs::write(below(key), body)?;
        }
        let cluster = lake.cluster().start()?;
        cluster.add_directory("/files", files.path(), &["--durability", durability])?;
        let path = |key: &str| cluster.path(0, &format!("files/{key}"));
        must_soon_read(&path("d/e/y"), b"and below that")?;
        exchange(&path("f"), &path("d")).context(durability)?;
        let is_there = |root: &dyn Fn(&str) -> std::path::PathBuf| -> Result<()> {
            for (key, body) in [("d", "a file"), ("f/x", "in a directory"), ("f/e/y", "and below that")] {
                super::must_read(&root(key), body.as_bytes()).with_context(|| format!("{durability}: {key}"))?;
            }
            Ok(())
        };
        is_there(&path)?;
        cluster.run_ok(&["fs", "sync", "/files", "--timeout", "60s"])?;
        is_there(&below)?;
        is_there(&path)?;
    }
    Ok(())
}

#[test]
fn what_was_replaced_stays_away_when_its_directory_has_another_name() -> Result<()> {
    for (durability, close_first) in [("through", false), ("through", true), ("async", false), ("async", true)] {
        let lake = Lake::of([("a/b/g", "old"), ("b/c/d/e", "e")])?;
        let cluster = lake.cluster().store(&["--durability", durability]).start()?;
        let path = |below: &str| cluster.path(0, below);
        names(&path("a/b"))?;
        names(&path("b/c/d"))?;
        let mut file = File::create(path("b/c/p"))?;
        file.write_all(b"new")?;
        std::fs::rename(path("b/c/p"), path("a/b/g"))?;
        let mut file = Some(file);
        if close_first {
            file.take().map(close).transpose()?;
        }
        exchange(&path("b/c/d"), &path("a/b"))?;
        let objects = [("a/b/e".to_owned(), "e".into()), ("b/c/d/g".to_owned(), "new".into())];
        let either = ["a/b/", "a/", "b/", "b/c/", "b/c/d/"].map(ToOwned::to_owned);
        let what = || format!("{durability}, closed before: {close_first}");
        for is_closed in [false, true] {
            if is_closed {
                file.take().map(close).transpose()?;
                lake.must_become_but(&objects.clone().into(), &either.clone().into()).with_context(what)?;
            }
            // As the store has it by now.
            cluster.run_ok(&["fs", "ls", "-R", "--refresh", "/"])?;
            for (directory, expected) in [("a/b", "e"), ("b/c/d", "g")] {
                let found = names(&path(directory))?;
                ensure!(found == [expected], "{}: {directory} has {found:?}", what());
            }
        }
    }
    Ok(())
}
