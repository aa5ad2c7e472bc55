//! Processes killed at points that have names in their code. Needs a binary with the feature `failpoints`.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{eventually, eventually_within, noise};

use super::{CONVERGED, Ended, Victim, Writing, must_converge, objects_of};
use crate::{check::must_be_clean, lake::Lake};

/// Each point, with at which pass it kills. What is worked before a point in [`work`] decides which step a pass is of.
const MASTER: [(&str, u32); 17] = [
    ("write::journal", 1),
    ("write::journal", 4),
    ("write::journalled", 1),
    ("write::journalled", 3),
    ("write::journalled", 6),
    ("commit::stored", 1),
    ("commit::stored", 2),
    ("mkdir::stored", 1),
    ("remove::stored", 1),
    ("rename::begun", 1),
    ("relocate::uploading", 9),
    ("relocate::copied", 8),
    ("relocate::journal", 1),
    ("relocate::noted", 1),
    ("relocate::deleted", 6),
    ("relocate::end", 1),
    ("relocate::ended", 1),
];

const WORKER: [(&str, u32); 3] = [("upload::begun", 1), ("persist::stored", 1), ("persist::stored", 3)];

const MOUNT: [(&str, u32); 4] =
    [("close::stored", 1), ("close::stored", 2), ("close::committed", 1), ("close::committed", 3)];

/// Points at which the store is killed, by whom passes them.
const STORE: [(Victim, &str, u32); 16] = [
    (Victim::Master, "write::journal", 3),
    (Victim::Master, "write::journalled", 4),
    (Victim::Master, "commit::stored", 1),
    (Victim::Master, "mkdir::stored", 1),
    (Victim::Master, "remove::stored", 1),
    (Victim::Worker, "upload::begun", 1),
    (Victim::Worker, "persist::stored", 1),
    (Victim::Mount, "close::stored", 1),
    // What is being moved is tried again after half a minute: at the same time.
    (Victim::Master, "rename::begun", 1),
    (Victim::Master, "relocate::uploading", 9),
    (Victim::Master, "relocate::copied", 8),
    (Victim::Master, "relocate::noted", 1),
    (Victim::Master, "relocate::deleted", 6),
    (Victim::Master, "relocate::end", 1),
    (Victim::Worker, "persist::stored", 3),
    (Victim::Mount, "close::committed", 1),
];

/// Objects in the directory that is renamed.
const FILES: u64 = 20;

/// More than one PUT takes.
const LARGE: usize = 20 << 20;

/// How many are killed at the same time, each in a cluster of its own.
const AT_ONCE: usize = 4;

/// What is done one after the other.
type Done = Vec<(&'static str, Ended)>;

/// All is below it: nothing can be written past a mount that is not there.
const HOME: &str = "home";

/// Of each second more than is read and put again when it is moved.
fn body_of(n: u64) -> Bytes {
    noise(n, if n.is_multiple_of(2) { 2_000 } else { 1_100_000 })
}

fn before() -> Vec<(String, Bytes)> {
    let files = (0..FILES).map(|n| (format!("{HOME}/old/f{n:02}"), body_of(n)));
    let others = ["there", "gone", "over", "source"].map(|key| (format!("{HOME}/{key}"), Bytes::from(key)));
    files.chain(others).collect()
}

fn work(root: PathBuf) -> JoinHandle<Result<Done>> {
    std::thread::spawn(move || {
        let path = |below: &str| root.join(below);
        let put = |below: &str, body: &[u8]| Writing::begin(body, &path(below))?.end();
        Ok(vec![
            ("put new", put("new", b"new")?),
            ("put there", put("there", b"changed")?),
            ("mkdir made", Ended::of(std::fs::create_dir(path("made")))),
            ("put made/inside", put("made/inside", &noise(99, LARGE))?),
            ("unlink gone", Ended::of(std::fs::remove_file(path("gone")))),
            ("rename source over", Ended::of(std::fs::rename(path("source"), path("over")))),
            ("rename old moved", Ended::of(std::fs::rename(path("old"), path("moved")))),
            ("put moved/new", put("moved/new", b"new there")?),
        ])
    })
}

/// Fails unless `root` shows what was acknowledged, and what was not as either before or after.
fn check(root: &Path, done: &Done) -> Result<()> {
    let objects = objects_of(root)?;
    let at = |key: &str| objects.get(key).map(|body| &body[..]);
    for (what, ended) in done {
        let put = |key: &str, body: &[u8], before: Option<&[u8]>| {
            let found = at(key);
            let is_cut = ended.is_cut() && found.is_some_and(|found| body.starts_with(found));
            (found == Some(body), found == before || is_cut)
        };
        let (after, before) = match *what {
            "put new" => put("new", b"new", None),
            "put there" => put("there", b"changed", Some(b"there")),
            "mkdir made" => (at("made/").is_some(), at("made/").is_none()),
            "put made/inside" => put("made/inside", &noise(99, LARGE), None),
            "unlink gone" => (at("gone").is_none(), at("gone") == Some(b"gone")),
            "rename source over" => (
                at("source").is_none() && at("over") == Some(b"source"),
                at("source") == Some(b"source") && at("over") == Some(b"over"),
            ),
            "rename old moved" => {
                let whole = |name: &str| (0..FILES).all(|n| at(&format!("{name}/f{n:02}")) == Some(&body_of(n)));
                let none = |name: &str| !objects.keys().any(|key| key.starts_with(&format!("{name}/f")));
                (whole("moved") && none("old"), whole("old") && none("moved"))
            }
            _ => put("moved/new", b"new there", None),
        };
        let shown: Vec<_> = objects.iter().map(|(key, body)| (key, body.len())).collect();
        let is_right = after || (before && !ended.is_acknowledged());
        ensure!(is_right, "`{what}`: {ended:?}, and now there is {shown:?}");
    }
    Ok(())
}

/// Who dies when a point is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    /// Who passes it.
    Itself,
    /// The store.
    Store,
}

fn killed_at(victim: Victim, dies: Dies, point: &str, pass: u32) -> Result<()> {
    let mut lake = Lake::of(before())?;
    let mut cluster = lake.cluster().start()?;
    let root = cluster.path(0, HOME);
    ensure!(objects_of(&root)?.len() as u64 == FILES + 5, "not everything is seen before");
    victim.kill(&mut cluster)?;
    for part in victim.parts(&mut cluster) {
        part.env("HEADPOND_KILL_AT", format!("{point}={pass}"));
        if dies == Dies::Store {
            part.env("HEADPOND_KILL_PID", lake.minio.id().to_string());
        }
    }
    victim.launch(&mut cluster)?;
    cluster.wait_workers(1)?;
    eventually("the mount is in session again", || {
        let absent = std::fs::metadata(root.join("never-asked-for"));
        Ok(root.is_dir() && absent.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound))
    })?;
    let working = work(root.clone());
    let reached = eventually("the point is reached", || {
        if dies == Dies::Store {
            return Ok(lake.minio.has_ended());
        }
        let mut parts = victim.parts(&mut cluster).into_iter();
        Ok(parts.all(|part| part.process().is_ok_and(|process| process.check_running().is_err())))
    });
    reached.context("a binary without the feature failpoints? `make test` builds one with it")?;
    match dies {
        Dies::Store => lake.minio.restart()?,
        Dies::Itself => {
            for part in victim.parts(&mut cluster) {
                part.env("HEADPOND_KILL_AT", "");
            }
            victim.launch(&mut cluster)?;
        }
    }
    let done = working.join().map_err(|_| anyhow::anyhow!("the work panicked"))??;
    println!("{victim:?} at {point}, pass {pass}, {dies:?} killed: {done:?}");
    let mut wrong = None;
    let settled = eventually_within(CONVERGED, "all is as it was told", || {
        wrong = check(&root, &done).err();
        Ok(wrong.is_none())
    });
    if let (Err(late), Some(wrong)) = (&settled, wrong) {
        return Err(wrong.context(late.to_string()));
    }
    // A directory that objects alone made has a marker or has none.
    must_converge(&lake, &root, &format!("{HOME}/"), &["home/", "home/old/", "home/moved/"])?;
    must_be_clean(&cluster, CONVERGED)?;
    check(&root, &done)
}

/// Some at the same time: most of it is waiting.
fn each<'p>(dies: Dies, points: impl IntoIterator<Item = &'p (Victim, &'p str, u32)>, at_once: usize) -> Result<()> {
    let points: Vec<_> = points.into_iter().collect();
    for points in points.chunks(at_once) {
        std::thread::scope(|scope| {
            let kill = |(victim, point, pass): &(Victim, &str, u32)| {
                let killed = killed_at(*victim, dies, point, *pass);
                killed.with_context(|| format!("{victim:?} at {point}, pass {pass}, {dies:?} killed"))
            };
            let threads: Vec<_> = points.iter().map(|point| scope.spawn(move || kill(point))).collect();
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("they return errors")).collect();
            ended.into_iter().collect::<Result<Vec<()>>>().map(drop)
        })?;
    }
    Ok(())
}

/// Kills who passes the points.
fn each_itself(victim: Victim, points: &[(&str, u32)]) -> Result<()> {
    let points: Vec<_> = points.iter().map(|(point, pass)| (victim, *point, *pass)).collect();
    each(Dies::Itself, &points, AT_ONCE)
}

#[test]
fn a_master_killed_at_any_named_point_is_taken_up_where_it_was() -> Result<()> {
    each_itself(Victim::Master, &MASTER)
}

#[test]
fn a_worker_killed_at_any_named_point_stores_all_or_nothing() -> Result<()> {
    each_itself(Victim::Worker, &WORKER)
}

#[test]
fn a_mount_killed_at_any_named_point_has_told_the_truth() -> Result<()> {
    each_itself(Victim::Mount, &MOUNT)
}

#[test]
fn a_store_killed_at_any_named_point_loses_nothing_that_was_told() -> Result<()> {
    each(Dies::Store, &STORE, 2 * AT_ONCE)
}
