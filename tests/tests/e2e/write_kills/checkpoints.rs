//! The master killed while it makes a checkpoint of its journal, or others while it does.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{eventually, eventually_within, write_and_close};

use super::{CONVERGED, Dies, Victim, must_converge};
use crate::{check::must_be_clean, durability, lake::Lake};

/// Before the tables are made durable, after it, and when a file of the journal is gone that nobody needs any more.
const POINTS: [(&str, Dies, &str); 8] = [
    ("through", Dies::Itself, "checkpoint::begin"),
    ("through", Dies::Itself, "checkpoint::made"),
    ("through", Dies::Itself, "checkpoint::dropped"),
    ("async", Dies::Itself, "checkpoint::made"),
    ("through", Dies::All(Victim::Worker), "checkpoint::made"),
    ("through", Dies::All(Victim::Mount), "checkpoint::made"),
    ("through", Dies::Store, "checkpoint::made"),
    ("async", Dies::All(Victim::Everything), "checkpoint::made"),
];

/// How many at the same time, each in a cluster of its own.
const AT_ONCE: usize = 4;

const WRITERS: u64 = 4;

/// Makes files, renames them and changes their modes until something fails, or it is `over`. What is acknowledged by then: bytes and modes by names.
fn work(home: &Path, over: &AtomicBool) -> Result<BTreeMap<String, (String, u32)>> {
    fs::create_dir(home)?;
    let mut done = BTreeMap::new();
    for round in 0_u32.. {
        let (name, body) = (format!("f{round}"), format!("{}-{round}", home.display()));
        let (made, renamed) = (home.join("new"), home.join(&name));
        let written = write_and_close(&made, body.as_bytes()).is_ok() && fs::rename(&made, &renamed).is_ok();
        let mut mode = 0o600;
        for _ in 0..50 {
            let next = mode ^ 0o044;
            if over.load(Ordering::Relaxed)
                || !written
                || fs::set_permissions(&renamed, Permissions::from_mode(next)).is_err()
            {
                return Ok(done);
            }
            mode = next;
        }
        done.insert(name, (body, mode));
    }
    Ok(done)
}

fn killed_at(durability: &str, dies: Dies, point: &str) -> Result<()> {
    let mut lake = Lake::empty()?;
    let builder = durability::cluster(&lake, durability).env("HEADPOND_MASTER__CHECKPOINT_BYTES", "64KiB");
    let mut cluster = builder.env("HEADPOND_MASTER__WRITE_LEASE", "10s").start()?;
    let ids = dies.ids(Victim::Master, &lake, &mut cluster)?;
    cluster.master.kill()?;
    cluster.master.env("HEADPOND_KILL_AT", point).env("HEADPOND_KILL_PID", ids);
    cluster.master.launch()?;
    cluster.wait_workers(1)?;
    eventually("the mount is in session again", || Ok(fs::read_dir(cluster.path(0, "")).is_ok()))?;
    let homes = (0..WRITERS).map(|writer| format!("home-{writer}"));
    let homes: Vec<_> = homes.map(|home| (cluster.path(0, &home), home)).collect();
    let over = &AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let begin = |(path, home)| (home, scope.spawn(move || work(path, over)));
        let working: Vec<_> = homes.iter().map(|(path, home)| begin((path, home))).collect();
        let reached = dies.wait(Victim::Master, &mut lake, &mut cluster);
        over.store(true, Ordering::Relaxed);
        let ended = reached.and_then(|()| dies.start_again(Victim::Master, &mut lake, &mut cluster));
        let done = working.into_iter().map(|(home, work)| Ok((home, work.join().expect("they return errors")?)));
        ended.and_then(|()| done.collect::<Result<Vec<_>>>())
    })?;
    let total: usize = done.iter().map(|(_, files)| files.len()).sum();
    println!("{point} on {durability}, {dies:?}: {total} files were acknowledged");
    ensure!(total > 0, "nothing was done before the kill");
    for (home, files) in &done {
        for (name, (body, mode)) in files {
            let path = cluster.path(0, home).join(name);
            let mut last = String::new();
            let same = eventually_within(CONVERGED, "a file is as it was acknowledged", || {
                let read = fs::read_to_string(&path)
                    .and_then(|read| Ok((read, fs::metadata(&path)?.permissions().mode() & 0o7777)));
                last = format!("{read:?}");
                Ok(read.is_ok_and(|read| read == (body.clone(), *mode)))
            });
            same.with_context(|| format!("{home}/{name} is {last}, and not {body} {mode:o}"))?;
        }
    }
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
    // Directories that are stored later may be needless by then.
    let needless: Vec<_> =
        homes.iter().filter(|_| durability != "through").map(|(_, home)| format!("{home}/")).collect();
    let needless: Vec<_> = needless.iter().map(String::as_str).collect();
    must_converge(&lake, &cluster.path(0, ""), "", &needless)?;
    must_be_clean(&cluster, CONVERGED)
}

#[test]
fn whoever_is_killed_at_a_checkpoint_all_that_was_acknowledged_is_there() -> Result<()> {
    POINTS.chunks(AT_ONCE).try_for_each(|points| {
        std::thread::scope(|scope| {
            let kill = |(durability, dies, point): &(&str, Dies, &str)| {
                let killed = killed_at(durability, *dies, point);
                killed.with_context(|| format!("{dies:?} killed at {point} on {durability}"))
            };
            let killing: Vec<_> = points.iter().map(|point| scope.spawn(move || kill(point))).collect();
            let ended = killing.into_iter().map(|kill| kill.join().expect("they return errors"));
            ended.collect::<Result<Vec<()>>>().map(drop)
        })
    })
}
