//! Renames: one step for whoever looks, whatever lies below, and the bucket follows.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Cluster, Sample, close, eventually, noise, write_and_close};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{errno, must_read, must_soon_be_gone, must_soon_read, names};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Objects that were below `from`, as they are called below `to`.
fn moved(objects: &BTreeMap<String, Bytes>, from: &str, to: &str) -> BTreeMap<String, Bytes> {
    let rename = |key: &String| key.strip_prefix(from).map_or_else(|| key.clone(), |rest| format!("{to}{rest}"));
    objects.iter().map(|(key, body)| (rename(key), body.clone())).collect()
}

/// What one who watches a directory sees while it goes to and fro between two names.
struct Watcher {
    parent: PathBuf,
    either: [&'static str; 2],
    files: BTreeMap<String, Bytes>,
    looks: AtomicU64,
    stop: AtomicBool,
}

impl Watcher {
    /// Looks until told to stop: always exactly one of the names, and below it everything.
    fn watch(&self) -> Result<()> {
        let mut file = self.files.iter().cycle();
        while !self.stop.load(Ordering::SeqCst) {
            let listed = names(&self.parent)?;
            ensure!(listed.len() == 1 && self.either.contains(&&*listed[0]), "the directory is called {listed:?}");
            let directory = self.parent.join(&listed[0]);
            match names(&directory) {
                Ok(below) => ensure!(
                    below.iter().eq(self.files.keys()),
                    "{listed:?} has {} of {} entries",
                    below.len(),
                    self.files.len()
                ),
                // It has the other name by now.
                Err(error) => ensure!(error.kind() == ErrorKind::NotFound, "listing {listed:?}: {error}"),
            }
            for _ in 0..10 {
                let (name, body) = file.next().context("no file")?;
                match std::fs::read(directory.join(name)) {
                    Ok(read) => ensure!(read == body[..], "{name} differs"),
                    Err(error) => ensure!(error.kind() == ErrorKind::NotFound, "reading {listed:?}/{name}: {error}"),
                }
            }
            self.looks.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

#[test]
fn a_renamed_directory_has_exactly_one_name_and_is_never_seen_in_part() -> Result<()> {
    const ROUNDS: u64 = 4;
    let files: BTreeMap<_, _> = (0..300u64).map(|n| (format!("f{n:03}"), noise(n, 500))).collect();
    let lake = Lake::of(files.iter().map(|(name, body)| (format!("in/old/{name}"), body.clone())))?;
    let mut objects = lake.objects()?;
    let mut cluster = lake.cluster().workers(2).start()?;
    let other = cluster.mount(1)?;
    let watcher = Watcher {
        parent: cluster.path(other, "in"),
        either: ["old", "new"],
        files,
        looks: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watcher.watch());
        let renamed = (|| -> Result<()> {
            for round in 0..ROUNDS {
                let before = watcher.looks.load(Ordering::SeqCst);
                eventually("the watcher has looked", || {
                    Ok(watching.is_finished() || watcher.looks.load(Ordering::SeqCst) > before)
                })?;
                let (from, to) = if round % 2 == 0 { ("in/old", "in/new") } else { ("in/new", "in/old") };
                std::fs::rename(cluster.path(0, from), cluster.path(0, to)).context("renaming")?;
                ensure!(names(&cluster.path(0, "in"))? == [&to[3..]], "who renamed it sees otherwise");
                objects = moved(&objects, from, to);
                lake.must_become(&objects).with_context(|| format!("round {round}"))?;
            }
            Ok(())
        })();
        watcher.stop.store(true, Ordering::SeqCst);
        let watched = watching.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        renamed.and(watched)
    })?;
    for (key, body) in &objects {
        for mount in [0, other] {
            must_soon_read(&cluster.path(mount, key), body)?;
        }
    }
    Ok(())
}

#[test]
fn another_mount_hears_of_a_rename_of_what_it_knows() -> Result<()> {
    let lake = Lake::of((0..20).map(|n| (format!("d-{n}/f"), n.to_string())))?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    for n in 0..20 {
        let (old, new) = (format!("d-{n}"), format!("e-{n}"));
        must_read(&cluster.path(other, &format!("{old}/f")), n.to_string().as_bytes())?;
        ensure!(!cluster.path(other, &new).exists(), "{new} exists before");
        std::fs::rename(cluster.path(0, &old), cluster.path(0, &new))?;
        must_soon_read(&cluster.path(other, &format!("{new}/f")), n.to_string().as_bytes())?;
        must_soon_be_gone(&cluster.path(other, &old))?;
    }
    Ok(())
}

#[test]
fn a_tree_moves_with_markers_and_with_what_nobody_has_listed() -> Result<()> {
    let mut sample = Sample::lake(4, 60, 2 * MIB).objects;
    for (key, _) in &mut sample {
        key.insert_str(0, "a/b/");
    }
    let lake = Lake::of(sample)?;
    let cluster = lake.cluster().start()?;
    std::fs::create_dir(cluster.path(0, "a/b/empty"))?;
    std::fs::create_dir_all(cluster.path(0, "c/d"))?;
    write_and_close(&cluster.path(0, "a/b/large"), &noise(7, 20 * MIB))?;
    // The namespace holds the directory to be known, and this is not.
    lake.put("a/b/added-behind", "1")?;
    let objects = lake.objects()?;
    ensure!(objects.contains_key("a/b/empty/") && objects.contains_key("c/d/"), "no markers: {:?}", objects.keys());
    std::fs::rename(cluster.path(0, "a/b"), cluster.path(0, "c/d/e"))?;
    // What would be empty without a marker has got one.
    lake.must_become_but(&moved(&objects, "a/b/", "c/d/e/"), &["a/".to_owned()].into())?;
    ensure!(cluster.path(0, "a").is_dir(), "the directory above went as well");
    ensure!(cluster.path(0, "c/d/e/empty").is_dir() && !cluster.path(0, "a/b").exists(), "the tree did not move");
    for (key, body) in moved(&objects, "a/b/", "c/d/e/").iter().filter(|(key, _)| !key.ends_with('/')) {
        must_read(&cluster.path(0, key), body)?;
    }
    Ok(())
}

#[test]
fn a_file_replaces_another_and_its_object_with_it() -> Result<()> {
    let lake = Lake::of([("old", noise(1, 50_000)), ("kept", noise(2, 10))])?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    must_read(&cluster.path(other, "old"), &noise(1, 50_000))?;
    for round in 3..8 {
        write_and_close(&cluster.path(0, "old.tmp"), &noise(round, 60_000))?;
        std::fs::rename(cluster.path(0, "old.tmp"), cluster.path(0, "old"))?;
        must_read(&cluster.path(0, "old"), &noise(round, 60_000))?;
        must_soon_read(&cluster.path(other, "old"), &noise(round, 60_000))?;
        for mount in [0, other] {
            must_soon_be_gone(&cluster.path(mount, "old.tmp"))?;
            ensure!(names(&cluster.path(mount, ""))? == ["kept", "old"], "{:?}", names(&cluster.path(mount, "")));
        }
        let expected = [("old".to_owned(), noise(round, 60_000)), ("kept".to_owned(), noise(2, 10))];
        lake.must_become(&expected.into())?;
    }
    let (from, to) = (cluster.path(0, "kept"), cluster.path(0, "old"));
    let refused = renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE);
    ensure!(refused == Err(Errno::EXIST), "replaced although it must not be: {refused:?}");
    Ok(())
}

#[test]
fn the_old_place_is_free_again_and_renames_follow_each_other() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    let path = |below: &str| cluster.path(0, below);
    for generation in 0..4u64 {
        std::fs::create_dir(path("current"))?;
        for n in 0..20 {
            write_and_close(&path(&format!("current/f{n:02}")), &noise(generation << 8 | n, 1_000))?;
        }
        if generation > 0 {
            patiently(|| std::fs::rename(path("previous"), path(&format!("generation-{}", generation - 1))))?;
        }
        patiently(|| std::fs::rename(path("current"), path("previous")))?;
    }
    let mut expected = BTreeMap::new();
    for generation in 0..4u64 {
        let name = if generation == 3 { "previous".to_owned() } else { format!("generation-{generation}") };
        expected.insert(format!("{name}/"), Bytes::new());
        expected.extend((0..20).map(|n| (format!("{name}/f{n:02}"), noise(generation << 8 | n, 1_000))));
    }
    lake.must_become(&expected)?;
    for (key, body) in expected.iter().filter(|(key, _)| !key.ends_with('/')) {
        must_read(&cluster.path(0, key), body)?;
    }
    Ok(())
}

/// Repeats a rename while the objects of an earlier one are being moved.
fn patiently(mut rename: impl FnMut() -> std::io::Result<()>) -> Result<()> {
    eventually("what was renamed before has been moved", || match rename() {
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(false),
        other => Ok(other.map(|()| true)?),
    })
}

#[test]
fn a_file_being_written_goes_where_its_directory_went() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    std::fs::create_dir(cluster.path(0, "a"))?;
    write_and_close(&cluster.path(0, "a/there"), b"before")?;
    let mut new = OpenOptions::new().create_new(true).write(true).open(cluster.path(0, "a/new"))?;
    let mut there = OpenOptions::new().append(true).open(cluster.path(0, "a/there"))?;
    new.write_all(b"one ")?;
    there.write_all(b" and")?;
    std::fs::rename(cluster.path(other, "a"), cluster.path(other, "b"))?;
    new.write_all(b"two")?;
    there.write_all(b" after")?;
    close(new)?;
    close(there)?;
    let expected: [(&str, &str); 3] = [("b/", ""), ("b/new", "one two"), ("b/there", "before and after")];
    let expected = expected.map(|(key, body)| (key.to_owned(), Bytes::from(body))).into();
    lake.must_become(&expected)?;
    for mount in [0, other] {
        must_soon_read(&cluster.path(mount, "b/new"), b"one two")?;
        must_soon_read(&cluster.path(mount, "b/there"), b"before and after")?;
        must_soon_be_gone(&cluster.path(mount, "a"))?;
    }
    Ok(())
}

#[test]
fn a_tree_is_deleted() -> Result<()> {
    let mut sample = Sample::lake(5, 150, 10_000).objects;
    for (key, _) in &mut sample {
        key.insert_str(0, "tree/");
    }
    sample.push(("tree-not".to_owned(), Bytes::from("stays")));
    let lake = Lake::of(sample)?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    make_more(&cluster)?;
    let full = errno("rmdir", std::fs::remove_dir(cluster.path(0, "tree")))?;
    ensure!(full == Errno::NOTEMPTY.raw_os_error(), "removing a full directory answers {full}");
    ensure!(names(&cluster.path(other, "tree"))?.len() > 3, "the other mount sees no tree");
    std::fs::remove_dir_all(cluster.path(0, "tree"))?;
    for mount in [0, other] {
        must_soon_be_gone(&cluster.path(mount, "tree"))?;
        ensure!(names(&cluster.path(mount, ""))? == ["tree-not"], "{:?}", names(&cluster.path(mount, "")));
    }
    lake.must_become(&[("tree-not".to_owned(), Bytes::from("stays"))].into())
}

fn make_more(cluster: &Cluster) -> Result<()> {
    for n in 0..5 {
        std::fs::create_dir_all(cluster.path(0, &format!("tree/made/{n}/empty")))?;
        write_and_close(&cluster.path(0, &format!("tree/made/{n}/file")), b"1")?;
    }
    Ok(())
}

#[test]
fn a_directory_that_only_objects_made_stays_when_they_are_gone() -> Result<()> {
    let lake = Lake::of([("d/e/f", "1"), ("g", "2")])?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    std::fs::remove_file(cluster.path(0, "d/e/f"))?;
    // Longer than a directory is believed without looking at the bucket.
    let began = std::time::Instant::now();
    eventually("everything has expired", || {
        for mount in [0, other] {
            ensure!(cluster.path(mount, "d/e").is_dir(), "d/e went with its file after {:?}", began.elapsed());
        }
        Ok(began.elapsed().as_secs() >= 3)
    })?;
    write_and_close(&cluster.path(0, "d/e/new"), b"3")?;
    must_soon_read(&cluster.path(other, "d/e/new"), b"3")
}
