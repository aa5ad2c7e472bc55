//! Others change the bucket while newer bytes wait for it: nothing of theirs is overwritten or deleted unless an operator says so.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, eventually, noise, write_and_close};

use super::{
    cluster, must_be_persisted, must_read, sync,
    told::{problem_of, problems},
};
use crate::lake::Lake;

/// A bucket in which another's object is where a newer file of ours is to be put.
struct Conflict {
    lake: Lake,
    cluster: Cluster,
}

const THEIRS: &[u8] = b"another's";

fn ours() -> Bytes {
    noise(7, 30_000)
}

impl Conflict {
    /// Of a file that was there before, or of one that is new.
    fn of(replaced: bool) -> Result<Self> {
        let lake = if replaced { Lake::of([("d/f", noise(1, 1_000))])? } else { Lake::of([("d/x", "1")])? };
        let cluster = cluster(&lake, "async").start()?;
        ensure!(fs::read_dir(cluster.path(0, "d"))?.count() == 1, "one file");
        lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
        write_and_close(&cluster.path(0, "d/f"), &ours())?;
        lake.put("d/f", THEIRS)?;
        lake.proxy.behave(Behaviour::default());
        let conflict = Self { lake, cluster };
        eventually("the conflict is seen", || Ok(problem_of(&conflict.cluster, "/d/f")?.conflict))?;
        conflict.must_stand()?;
        Ok(conflict)
    }

    /// Ours is read here, theirs is in the bucket.
    fn must_stand(&self) -> Result<()> {
        ensure!(self.lake.get("d/f")? == THEIRS, "another's object was overwritten");
        must_read(&self.cluster.path(0, "d/f"), &ours())
    }

    fn resolve(&self, how: &str) -> Result<String> {
        self.cluster.run_ok(&["admin", "problems", how, "/d/f", "-o", "json"])
    }

    /// The file is what the bucket has.
    fn must_be_theirs(&self) -> Result<()> {
        let path = self.cluster.path(0, "d/f");
        eventually("the file is what the bucket has", || Ok(fs::read(&path).is_ok_and(|read| read == THEIRS)))?;
        ensure!(self.lake.get("d/f")? == THEIRS, "another's object was overwritten");
        sync(&self.cluster)?;
        self.must_have_no_problems()
    }

    fn must_have_no_problems(&self) -> Result<()> {
        let problems = problems(&self.cluster)?;
        ensure!(problems.is_empty(), "{problems:?}");
        Ok(())
    }
}

#[test]
fn a_conflict_stays_until_somebody_decides_and_holds_only_what_it_must() -> Result<()> {
    let conflict = Conflict::of(true)?;
    let Conflict { lake, cluster } = &conflict;
    // A plain file goes ahead, a commit does not.
    write_and_close(&cluster.path(0, "d/plain"), b"2")?;
    write_and_close(&cluster.path(0, "d/_SUCCESS"), b"")?;
    eventually("a plain file arrives", || Ok(lake.get("d/plain").is_ok()))?;
    conflict.resolve("retry")?;
    eventually("it is a conflict again", || Ok(problem_of(cluster, "/d/f")?.conflict))?;
    ensure!(problem_of(cluster, "/d/f")?.held_up >= 1, "{:?}", problems(cluster)?);
    ensure!(lake.get("d/_SUCCESS").is_err(), "a commit is seen without what came before it");
    conflict.must_stand()?;
    // Neither does it get lost with the processes.
    let Conflict { lake, mut cluster } = conflict;
    for part in [&mut cluster.workers[0], &mut cluster.master, &mut cluster.mounts[0]] {
        part.kill()?;
        part.launch()?;
    }
    cluster.wait_workers(1)?;
    let conflict = Conflict { lake, cluster };
    eventually("the conflict is seen again", || Ok(problem_of(&conflict.cluster, "/d/f")?.conflict))?;
    conflict.must_stand()?;
    // Once they take theirs away, and we are told to look again, ours replaces what is no more.
    conflict.resolve("overwrite")?;
    must_be_persisted(&conflict.lake, &conflict.cluster)?;
    ensure!(conflict.lake.get("d/f")? == ours() && conflict.lake.get("d/_SUCCESS").is_ok(), "not persisted");
    conflict.must_have_no_problems()
}

#[test]
fn overwriting_replaces_what_was_decided_about_and_nothing_newer() -> Result<()> {
    for replaced in [true, false] {
        let conflict = Conflict::of(replaced)?;
        conflict.resolve("overwrite")?;
        must_be_persisted(&conflict.lake, &conflict.cluster).with_context(|| format!("replaced: {replaced}"))?;
        ensure!(conflict.lake.get("d/f")? == ours(), "the object is not ours");
        conflict.must_have_no_problems()?;
    }
    Ok(())
}

#[test]
fn skipping_gives_up_what_was_written() -> Result<()> {
    for replaced in [true, false] {
        let conflict = Conflict::of(replaced)?;
        conflict.resolve("skip")?;
        conflict.must_be_theirs().with_context(|| format!("replaced: {replaced}"))?;
        must_be_persisted(&conflict.lake, &conflict.cluster)?;
    }
    Ok(())
}

#[test]
fn diverting_keeps_both() -> Result<()> {
    for replaced in [true, false] {
        let conflict = Conflict::of(replaced)?;
        let said = conflict.resolve("divert")?;
        conflict.must_be_theirs().with_context(|| format!("replaced: {replaced}"))?;
        let keys: Vec<_> = conflict.lake.list()?.into_iter().map(|(key, ..)| key).collect();
        let beside = keys.iter().find(|key| key.starts_with("d/f.headpond-conflict-"));
        let beside = beside.with_context(|| format!("no conflict name in {keys:?}"))?;
        ensure!(said.contains(beside.as_str()), "{said} does not name {beside}");
        ensure!(conflict.lake.get(beside)? == ours(), "other bytes");
        eventually("the other name is seen", || Ok(conflict.cluster.path(0, beside).exists()))?;
        must_read(&conflict.cluster.path(0, beside), &ours())?;
        must_be_persisted(&conflict.lake, &conflict.cluster)?;
    }
    Ok(())
}

#[test]
fn an_object_that_went_while_a_newer_file_waits_is_put_again() -> Result<()> {
    let lake = Lake::of([("f", noise(1, 1_000)), ("x", "1".into())])?;
    let cluster = cluster(&lake, "async").start()?;
    ensure!(fs::read_dir(cluster.path(0, ""))?.count() == 2, "two files");
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    write_and_close(&cluster.path(0, "f"), &ours())?;
    lake.delete("f")?;
    lake.proxy.behave(Behaviour::default());
    must_read(&cluster.path(0, "f"), &ours())?;
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("f")? == ours(), "other bytes");
    // That is told, until somebody has taken note of it.
    let told = problem_of(&cluster, "/f")?;
    ensure!(!told.conflict && told.held_up == 0 && told.reason.contains("deleted outside"), "{told:?}");
    cluster.run_ok(&["admin", "problems", "skip", "/f"])?;
    ensure!(problems(&cluster)?.is_empty(), "{:?}", problems(&cluster)?);
    ensure!(lake.get("f")? == ours(), "dismissing it changed the object");
    Ok(())
}

#[test]
fn what_others_put_elsewhere_is_seen_beside_dirty_files() -> Result<()> {
    let lake = Lake::of([("d/f", "1")])?;
    let cluster = cluster(&lake, "async").start()?;
    ensure!(fs::read_dir(cluster.path(0, "d"))?.count() == 1, "one file");
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    write_and_close(&cluster.path(0, "d/ours"), &ours())?;
    lake.put("d/theirs", THEIRS)?;
    lake.delete("d/f")?;
    eventually("it is seen", || {
        // A listing that lacks what the store lacks does not make it go.
        must_read(&cluster.path(0, "d/ours"), &ours())?;
        Ok(cluster.path(0, "d/theirs").exists() && !cluster.path(0, "d/f").exists())
    })?;
    let mut names: Vec<_> = fs::read_dir(cluster.path(0, "d"))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    ensure!(names == ["ours", "theirs"], "{names:?}");
    lake.proxy.behave(Behaviour::default());
    must_be_persisted(&lake, &cluster)
}
