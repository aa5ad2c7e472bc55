//! The master killed while objects follow a rename, at moments that the store's proxy holds still.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, eventually, noise, write_and_close};

use super::{CONVERGED, keeps_answers};
use crate::{check::must_be_clean, lake::Lake};

#[test]
fn a_relocation_goes_on_after_a_kill_at_any_of_its_steps() -> Result<()> {
    // Each second is copied in parts.
    let size = |n: u64| if n.is_multiple_of(2) { 1_000 } else { 1_100_000 };
    let files: BTreeMap<_, _> = (0..40u64).map(|n| (format!("f{n:02}"), noise(n, size(n)))).collect();
    // What the store does with these is done, but nobody hears of it: copies, and deletions of sources. Then: nothing is done.
    let steps = [
        keeps_answers("PUT", "/lake/new/f2"),
        keeps_answers("POST", "/lake/new/f2"),
        keeps_answers("POST", "?delete"),
        Behaviour { answer: Some(503), only: "/lake/new/f1".to_owned(), ..Behaviour::default() },
        Behaviour { hang: true, only: "?delete".to_owned(), method: "POST".to_owned(), ..Behaviour::default() },
        Behaviour { answer: Some(501), only: "?delete".to_owned(), method: "POST".to_owned(), ..Behaviour::default() },
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let lake = Lake::of(files.iter().map(|(name, body)| (format!("old/{name}"), body.clone())))?;
        let mut cluster = lake.cluster().start()?;
        ensure!(std::fs::read_dir(cluster.path(0, "old"))?.count() == files.len(), "not all are listed");
        lake.proxy.reset();
        let concerned = |lake: &Lake| {
            let is_held = |request: &&headpond_tests::Request| {
                request.target.contains(&step.only) && (step.method.is_empty() || request.method == step.method)
            };
            lake.proxy.requests().iter().filter(is_held).count()
        };
        lake.proxy.behave(step.clone());
        std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new")).context("renaming")?;
        // A step that this way of moving does not have is over when everything has moved.
        eventually("the relocation has come that far", || {
            Ok(concerned(&lake) > 0 || lake.list()?.iter().all(|object| object.0.starts_with("new/")))
        })?;
        println!("step {number}: held {} requests", concerned(&lake));
        cluster.master.kill()?;
        lake.proxy.behave(Behaviour::default());
        cluster.master.launch()?;
        let expected: BTreeMap<String, Bytes> =
            files.iter().map(|(name, body)| (format!("new/{name}"), body.clone())).collect();
        eventually("the mount is in session again", || Ok(cluster.path(0, "new/f00").exists()))?;
        ensure!(!cluster.path(0, "old").exists(), "step {number}: the old name is back");
        for (key, body) in &expected {
            // A busy machine may take longer than a read may wait; other bytes are never answered.
            eventually(&format!("step {number}: {key} can be read"), || match std::fs::read(cluster.path(0, key)) {
                Ok(read) => {
                    ensure!(read == body[..], "step {number}: {key} differs");
                    Ok(true)
                }
                Err(error) => {
                    ensure!(error.kind() != ErrorKind::NotFound, "step {number}: {key} is gone");
                    Ok(false)
                }
            })?;
        }
        lake.must_hold(&expected, &BTreeSet::new())?;
        lake.must_have_no_parts()?;
        ensure!(!cluster.path(0, "old").exists(), "step {number}: the old name is back at the end");
        // Its place can be taken, once the relocation has ended; a call that had no answer in time may have succeeded.
        eventually(&format!("step {number}: another is made"), || {
            let made = std::fs::create_dir(cluster.path(0, "old"));
            Ok(made.is_ok() || made.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists))
        })?;
        must_be_clean(&cluster, CONVERGED).with_context(|| format!("step {number}"))?;
    }
    Ok(())
}

#[test]
fn what_a_killed_master_put_may_come_late_and_brings_nothing_back() -> Result<()> {
    let files: BTreeMap<_, _> = (0..6u64).map(|n| (format!("f{n}"), noise(n, 1_000))).collect();
    let lake = Lake::of(files.iter().map(|(name, body)| (format!("old/{name}"), body.clone())))?;
    let mut cluster = lake.cluster().start()?;
    ensure!(std::fs::read_dir(cluster.path(0, "old"))?.count() == files.len(), "not all are listed");
    lake.proxy.reset();
    // Longer than it takes until another master has seen that nothing is there.
    let (only, method) = ("/lake/new/f".to_owned(), "PUT".to_owned());
    lake.proxy.behave(Behaviour { late: Duration::from_secs(4), only, method, ..Behaviour::default() });
    std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new")).context("renaming")?;
    let puts = |lake: &Lake| lake.puts().iter().filter(|target| target.contains("/lake/new/f")).count();
    eventually("all are being put", || Ok(puts(&lake) == files.len()))?;
    cluster.master.kill()?;
    lake.proxy.behave(Behaviour::default());
    cluster.master.launch()?;
    // What it knows it answers without a master.
    eventually("the mount is in session again", || {
        let absent = std::fs::metadata(cluster.path(0, "never-asked-for"));
        Ok(absent.is_err_and(|error| error.kind() == ErrorKind::NotFound))
    })?;
    // A call that had no answer in time, as on a busy machine, may have succeeded.
    let gone = |what: &str, change: &dyn Fn() -> std::io::Result<()>| {
        eventually(what, || {
            let changed = change();
            Ok(changed.is_ok() || changed.is_err_and(|error| error.kind() == ErrorKind::NotFound))
        })
    };
    let at = |path: &str| cluster.path(0, path);
    let write = |path: &str, body: &str| {
        eventually(&format!("{path} is written"), || Ok(write_and_close(&at(path), body.as_bytes()).is_ok()))
    };
    gone("new/f1 is removed", &|| std::fs::remove_file(at("new/f1")))?;
    gone("new/f2 is renamed on", &|| std::fs::rename(at("new/f2"), at("f2")))?;
    write("new/f3", "newer")?;
    gone("new/f4 is removed", &|| std::fs::remove_file(at("new/f4")))?;
    write("new/f4", "anew")?;
    gone("new/f4 is removed again", &|| std::fs::remove_file(at("new/f4")))?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    eventually("the store has done what was asked of it", || Ok(lake.proxy.late() == files.len() as u64))?;
    let expected = BTreeMap::from([
        ("f2".to_owned(), files["f2"].clone()),
        ("new/f0".to_owned(), files["f0"].clone()),
        ("new/f3".to_owned(), Bytes::from("newer")),
        ("new/f5".to_owned(), files["f5"].clone()),
    ]);
    lake.must_hold(&expected, &BTreeSet::from(["new/".to_owned()]))?;
    cluster.run_ok(&["fs", "ls", "-R", "--refresh", "/"])?;
    let mut names: Vec<_> = std::fs::read_dir(cluster.path(0, "new"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort_unstable();
    ensure!(names == ["f0", "f3", "f5"], "removed files are back: {names:?}");
    must_be_clean(&cluster, CONVERGED)
}
