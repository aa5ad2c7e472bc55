//! Directories removed with all below (`headpond fs rm -r`): one step for everybody, and the bucket follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, eventually, noise, write_and_close};

use super::names;
use crate::{check::must_be_clean, lake::Lake};

/// What nobody has listed goes if it is older than the removal by more than stores' clocks may differ.
const OLD: Duration = Duration::from_secs(3);

/// Objects below `tree/`, in some directories.
fn objects(count: u64) -> BTreeMap<String, Bytes> {
    (0..count).map(|n| (format!("tree/part={}/sub/f{n:05}", n % 7), noise(n, 100))).collect()
}

fn grown_old(since: Instant) -> Result<()> {
    eventually("what is in the bucket is old", || Ok(since.elapsed() > OLD))
}

/// Waits for the bucket, and fails unless it has these objects; markers of directories that are there may be, too.
fn must_hold(lake: &Lake, cluster: &Cluster, expected: &[(&str, &[u8])]) -> Result<()> {
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(key, body)| ((*key).to_owned(), Bytes::copy_from_slice(body))).collect();
    let directories = expected.keys().flat_map(|key| key.match_indices('/').map(|(at, _)| key[..=at].to_owned()));
    lake.must_have(&expected, &directories.collect())
}

#[test]
fn a_tree_goes_in_one_step_for_every_mount_and_the_bucket_follows() -> Result<()> {
    let mut all = objects(3000);
    all.extend((0..40).map(|n| (format!("tree/out/f{n}"), noise(n, 200))));
    let lake = Lake::of(all.clone())?;
    for key in ["tree/part=0/empty/", "tree/part=9/sub/none/"] {
        lake.put(key, Bytes::new())?;
    }
    lake.put("trees", "beside it")?;
    let made = Instant::now();
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    let listed = cluster.path(other, "tree/part=1/sub");
    let (first, same) = (&all["tree/part=0/sub/f00000"], &all["tree/part=0/sub/f00007"]);
    let count = fs::read_dir(&listed)?.count();
    ensure!(count > 400, "{count} of 3000 files are in one of seven directories");
    fs::hard_link(cluster.path(0, "tree/part=0/sub/f00000"), cluster.path(0, "kept"))?;
    fs::rename(cluster.path(0, "tree/out"), cluster.path(0, "moved")).context("out of the tree")?;
    grown_old(made)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !ended.load(Ordering::SeqCst) {
                match fs::read_dir(&listed) {
                    Ok(entries) => {
                        let seen = entries.filter(|entry| entry.is_ok()).count();
                        // Who began to read before it went has read on to its end, or to nothing.
                        ensure!(seen == count || !listed.exists(), "{seen} of {count} files are seen");
                    }
                    Err(_) => ensure!(!cluster.path(other, "tree").exists(), "it is there, and cannot be listed"),
                }
                looks += 1;
            }
            Ok(looks)
        });
        let removed = cluster.run_ok(&["fs", "rm", "-r", "/tree"]);
        let seen = [0, other].map(|mount| cluster.path(mount, "tree").exists());
        ended.store(true, Ordering::SeqCst);
        let looks: u32 = watch.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        ensure!(looks > 0, "nobody looked");
        ensure!(removed?.is_empty(), "it says more than there is to say");
        ensure!(seen == [false, false], "the tree is seen after it was removed: {seen:?}");
        Ok(())
    })?;
    // Its name is free at once.
    fs::create_dir_all(cluster.path(other, "tree/part=0/sub"))?;
    write_and_close(&cluster.path(other, "tree/part=0/sub/f00007"), same).context("the same bytes")?;
    write_and_close(&cluster.path(other, "tree/part=0/sub/new"), b"new")?;
    ensure!(names(&cluster.path(0, "tree/part=0/sub"))? == ["f00007", "new"], "the new tree has other names");
    let moved = all.iter().filter(|(key, _)| key.starts_with("tree/out/"));
    let mut expected: Vec<(String, Bytes)> =
        moved.map(|(key, body)| (key.replace("tree/out", "moved"), body.clone())).collect();
    let others = [
        ("kept", &first[..]),
        ("trees", b"beside it"),
        ("tree/part=0/sub/f00007", same),
        ("tree/part=0/sub/new", b"new"),
    ];
    expected.extend(others.map(|(key, body)| (key.to_owned(), Bytes::copy_from_slice(body))));
    let expected: Vec<_> = expected.iter().map(|(key, body)| (&key[..], &body[..])).collect();
    must_hold(&lake, &cluster, &expected)?;
    for mount in [0, other] {
        ensure!(names(&cluster.path(mount, ""))? == ["kept", "moved", "tree", "trees"], "other names are there");
        ensure!(fs::read(cluster.path(mount, "kept"))? == first[..], "the linked file has other bytes");
    }
    cluster.run_ok(&["admin", "check"]).map(drop)
}

#[test]
fn a_master_that_is_killed_in_the_middle_goes_on_and_deletes_nothing_else() -> Result<()> {
    let lake = Lake::of(objects(1200))?;
    let made = Instant::now();
    let mut cluster = lake.cluster().start()?;
    ensure!(fs::read_dir(cluster.path(0, "tree/part=3/sub"))?.count() > 100, "one directory is listed");
    grown_old(made)?;
    lake.proxy.reset();
    // The store does what is asked for, and nobody hears of it.
    lake.proxy.behave(Behaviour {
        first_byte: Duration::from_secs(600),
        method: "POST".to_owned(),
        only: "?delete".to_owned(),
        every: 2,
        ..Behaviour::default()
    });
    cluster.run_ok(&["fs", "rm", "-r", "/tree"])?;
    eventually("some are deleted", || Ok(lake.list()?.len() < 1100))?;
    cluster.master.kill()?;
    lake.proxy.behave(Behaviour::default());
    // What comes from outside where objects are deleted, and then from here.
    lake.put("tree/part=3/sub/late", "of somebody else")?;
    lake.put("tree/part=4/sub/late", "of somebody else")?;
    cluster.master.launch()?;
    eventually("the mount is in session again", || Ok(fs::read_dir(cluster.path(0, "")).is_ok()))?;
    ensure!(!cluster.path(0, "tree").exists(), "the tree is back");
    // A call that had no answer in time, as may be while a master starts, may have succeeded.
    eventually("its name is taken again", || {
        let made = fs::create_dir(cluster.path(0, "tree"));
        Ok(made.is_ok() || made.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists))
    })?;
    eventually("a file is written", || Ok(write_and_close(&cluster.path(0, "tree/f"), b"new").is_ok()))?;
    let expected: [(&str, &[u8]); 3] = [
        ("tree/f", b"new"),
        ("tree/part=3/sub/late", b"of somebody else"),
        ("tree/part=4/sub/late", b"of somebody else"),
    ];
    must_hold(&lake, &cluster, &expected)?;
    eventually("what came from outside is seen", || {
        cluster.run_ok(&["fs", "ls", "-R", "--refresh", "/tree"])?;
        Ok(cluster.path(0, "tree/part=3/sub/late").exists())
    })?;
    must_be_clean(&cluster, Duration::from_secs(30))
}

#[test]
fn files_that_are_to_be_persisted_go_with_their_tree() -> Result<()> {
    let lake = Lake::of([("tree/old", "old"), ("f", "f")])?;
    let cluster = lake.cluster().store(&["--durability", "async"]).start()?;
    let at = |below: &str| cluster.path(0, below);
    fs::create_dir_all(at("tree/a/b"))?;
    for n in 0..60u64 {
        write_and_close(&at(&format!("tree/a/b/f{n}")), &noise(n, 5000))?;
    }
    write_and_close(&at("tree/old"), b"another version")?;
    fs::hard_link(at("tree/a/b/f7"), at("kept"))?;
    cluster.run_ok(&["fs", "rm", "-r", "/tree"])?;
    write_and_close(&at("_SUCCESS"), b"")?;
    ensure!(names(&at(""))? == ["_SUCCESS", "f", "kept"], "other names are there");
    eventually("the commit file is in the bucket", || Ok(lake.list()?.iter().any(|(key, ..)| key == "_SUCCESS")))?;
    let keys: BTreeSet<_> = lake.list()?.into_iter().map(|(key, ..)| key).filter(|key| !key.ends_with('/')).collect();
    ensure!(!keys.iter().any(|key| key.starts_with("tree/")), "it came before what went before it: {keys:?}");
    must_hold(&lake, &cluster, &[("_SUCCESS", b""), ("f", b"f"), ("kept", &noise(7, 5000))])
}
