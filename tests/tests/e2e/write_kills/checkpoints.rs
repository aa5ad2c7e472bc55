//! The master killed while it makes a checkpoint of its journal.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{eventually, eventually_within, write_and_close};

use super::{CONVERGED, must_converge};
use crate::{check::must_be_clean, lake::Lake};

/// Before the tables are made durable, after it, and when a file of the journal is gone that nobody needs any more.
const POINTS: [&str; 3] = ["checkpoint::begin", "checkpoint::made", "checkpoint::dropped"];

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

fn killed_at(point: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().env("HEADPOND_MASTER__CHECKPOINT_BYTES", "64KiB").start()?;
    cluster.master.kill()?;
    cluster.master.env("HEADPOND_KILL_AT", point);
    cluster.master.launch()?;
    cluster.wait_workers(1)?;
    eventually("the mount is in session again", || Ok(fs::read_dir(cluster.path(0, "")).is_ok()))?;
    let homes = (0..WRITERS).map(|writer| format!("home-{writer}"));
    let homes: Vec<_> = homes.map(|home| (cluster.path(0, &home), home)).collect();
    let over = &AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let begin = |(path, home)| (home, scope.spawn(move || work(path, over)));
        let working: Vec<_> = homes.iter().map(|(path, home)| begin((path, home))).collect();
        let reached = eventually("the point is reached", || Ok(cluster.master.process()?.check_running().is_err()));
        over.store(true, Ordering::Relaxed);
        let ended = reached.and_then(|()| {
            cluster.master.env("HEADPOND_KILL_AT", "");
            cluster.master.launch()
        });
        let done = working.into_iter().map(|(home, work)| Ok((home, work.join().expect("they return errors")?)));
        ended.and_then(|()| done.collect::<Result<Vec<_>>>())
    })?;
    let total: usize = done.iter().map(|(_, files)| files.len()).sum();
    println!("{point}: {total} files were acknowledged");
    ensure!(total > 0, "nothing was done before the kill");
    for (home, files) in done {
        for (name, (body, mode)) in files {
            let path = cluster.path(0, home).join(&name);
            let mut last = String::new();
            let same = eventually_within(CONVERGED, "a file is as it was acknowledged", || {
                let read = fs::read_to_string(&path)
                    .and_then(|read| Ok((read, fs::metadata(&path)?.permissions().mode() & 0o7777)));
                last = format!("{read:?}");
                Ok(read.is_ok_and(|read| read == (body.clone(), mode)))
            });
            same.with_context(|| format!("{home}/{name} is {last}, and not {body} {mode:o}"))?;
        }
    }
    must_converge(&lake, &cluster.path(0, ""), "", &[])?;
    must_be_clean(&cluster, CONVERGED)
}

#[test]
fn a_master_killed_at_a_checkpoint_has_all_that_was_acknowledged() -> Result<()> {
    std::thread::scope(|scope| {
        let killing = POINTS.map(|point| (point, scope.spawn(move || killed_at(point))));
        killing.into_iter().try_for_each(|(point, kill)| kill.join().expect("they return errors").context(point))
    })
}
