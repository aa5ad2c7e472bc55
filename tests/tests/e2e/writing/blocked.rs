//! Another's objects where a rename is to move ours: an operator decides about each, whoever is killed meanwhile.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, eventually, eventually_within};
use serde_json::Value;

use super::{must_read, must_soon_read};
use crate::lake::Lake;

const THEIRS: &[u8] = b"another's";

/// Paths that `admin problems` lists as conflicts; fails if it lists anything else.
fn conflicts(cluster: &Cluster) -> Result<Vec<String>> {
    let text = cluster.run_ok(&["admin", "problems", "-o", "json"])?;
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line)?;
        ensure!(line["conflict"] == true, "{line}");
        let since = line["since"].as_str().context("no time")?;
        ensure!(since.starts_with("20"), "it is told to be since {since}");
        Ok(line["path"].as_str().context("no path")?.to_owned())
    });
    lines.collect()
}

fn must_be_told(cluster: &Cluster, paths: &[&str]) -> Result<()> {
    let patience = Duration::from_secs(60);
    eventually_within(patience, "all conflicts are told", || Ok(conflicts(cluster)? == paths))
}

#[test]
fn an_operator_decides_about_each_object_in_the_way_of_a_rename() -> Result<()> {
    let ours = |n: usize| Bytes::from(format!("ours {n}"));
    let lake = Lake::of((0..8).map(|n| (format!("old/f{n}"), ours(n))).collect::<Vec<_>>())?;
    let mut cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "old/f0"), &ours(0))?;
    // Nothing comes through to the new prefix before another's objects are there.
    lake.proxy.behave(Behaviour { answer: Some(503), only: "/lake/new/".to_owned(), ..Behaviour::default() });
    std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new"))?;
    for n in 1..=4 {
        lake.put(&format!("new/f{n}"), THEIRS)?;
    }
    lake.proxy.behave(Behaviour::default());
    let told = ["/new/f1", "/new/f2", "/new/f3", "/new/f4"];
    must_be_told(&cluster, &told)?;
    eventually("the others move", || Ok([0, 5, 6, 7].iter().all(|n| lake.get(&format!("new/f{n}")).is_ok())))?;
    let must_stand = |cluster: &Cluster| {
        for n in 1..=4 {
            ensure!(lake.get(&format!("new/f{n}"))? == THEIRS, "another's object was overwritten");
            must_read(&cluster.path(0, &format!("new/f{n}")), &ours(n))?;
        }
        anyhow::Ok(())
    };
    must_stand(&cluster)?;
    cluster.master.kill()?;
    cluster.master.launch()?;
    must_be_told(&cluster, &told)?;
    must_stand(&cluster)?;

    let decide = |how: &str, path: &str| cluster.run_ok(&["admin", "problems", how, path, "-o", "json"]);
    decide("retry", "/new/f4")?;
    must_be_told(&cluster, &told)?;
    must_stand(&cluster)?;
    // What goes by itself is in nobody's way.
    lake.delete("new/f4")?;
    decide("overwrite", "/new/f1")?;
    decide("skip", "/new/f2")?;
    let said: Value = serde_json::from_str(&decide("divert", "/new/f3")?)?;
    let diverted = said["diverted"]["path"].as_str().context("no other name")?;
    let diverted = diverted.strip_prefix('/').context("no path")?.to_owned();
    ensure!(diverted.starts_with("new/f3.headpond-conflict-"), "{diverted}");
    cluster.master.kill()?;
    cluster.master.launch()?;

    let mut expected: BTreeMap<_, _> = (0..8).map(|n| (format!("new/f{n}"), ours(n))).collect();
    for n in 2..=3 {
        expected.insert(format!("new/f{n}"), THEIRS.into());
    }
    expected.insert(diverted, ours(3));
    lake.must_become(&expected)?;
    for (key, body) in &expected {
        must_soon_read(&cluster.path(0, key), body)?;
    }
    must_be_told(&cluster, &[])?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    cluster.run_ok(&["admin", "check"])?;
    Ok(())
}

#[test]
fn a_marker_that_somebody_else_puts_where_objects_move_away_from_stays() -> Result<()> {
    let lake = Lake::of((0..4).map(|n| (format!("old/d{n}/f"), Bytes::from(n.to_string()))).collect::<Vec<_>>())?;
    let cluster = lake.cluster().start()?;
    std::fs::create_dir(cluster.path(0, "old/made"))?;
    // What was never listed is listed behind the rename, and what is there by then moves along.
    cluster.run_ok(&["fs", "ls", "-R", "/old"])?;
    lake.proxy.behave(Behaviour { answer: Some(503), only: "/lake/new/".to_owned(), ..Behaviour::default() });
    std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new"))?;
    lake.put("old/theirs/", "")?;
    lake.put("old/d1/theirs/", "")?;
    // Ours, as our mark says.
    std::fs::create_dir(cluster.path(0, "old"))?;
    std::fs::create_dir(cluster.path(0, "old/again"))?;
    std::fs::remove_dir(cluster.path(0, "old/again"))?;
    lake.proxy.behave(Behaviour::default());
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    let keys: Vec<_> = lake.list()?.into_iter().map(|object| object.0).collect();
    let stays = ["old/theirs/", "old/d1/theirs/"];
    ensure!(stays.iter().all(|key| keys.iter().any(|found| found == key)), "deleted: {keys:?}");
    let is_left = |key: &&String| key.starts_with("old/") && !stays.contains(&key.as_str()) && *key != "old/";
    ensure!(!keys.iter().any(|key| is_left(&key)), "left behind: {keys:?}");
    eventually("they are shown", || Ok(stays.iter().all(|key| cluster.path(0, key).is_dir())))?;
    ensure!(cluster.path(0, "new/made").is_dir() && !cluster.path(0, "old/made").exists(), "not moved");
    Ok(())
}
