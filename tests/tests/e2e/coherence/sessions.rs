//! Mounts that stand still or end, and masters that are started anew.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{LEASE, Two, names};

#[test]
fn a_mount_that_stands_still_delays_one_change() -> Result<()> {
    let mut two = Two::start()?;
    fs::create_dir(two.a("s"))?;
    for round in 0..3 {
        names(&two.b("s"))?;
        drop(fs::metadata(two.b("s/f")));
        two.cluster.mounts[1].process()?.signal(Signal::STOP)?;
        let began = Instant::now();
        let first = fs::write(two.a("s/f"), format!("{round}"));
        let delayed = began.elapsed();
        let second = fs::write(two.a("s/g"), "2");
        let then = began.elapsed() - delayed;
        two.cluster.mounts[1].process()?.signal(Signal::CONT)?;
        first?;
        second?;
        ensure!(delayed < LEASE + Duration::from_secs(1), "delayed for {delayed:?}");
        // Later the mount may be without a session, and believes nothing.
        ensure!(round > 0 || delayed > LEASE / 4, "nobody waited: {delayed:?}");
        ensure!(then < LEASE / 2, "delayed again for {then:?}");
        ensure!(fs::read_to_string(two.b("s/f"))? == format!("{round}"), "the bytes differ");
    }
    Ok(())
}

#[test]
fn a_mount_that_ends_cleanly_delays_nobody() -> Result<()> {
    let lease = Duration::from_secs(20);
    let mut two = Two::with_lease(lease)?;
    fs::create_dir(two.a("s"))?;
    names(&two.b("s"))?;
    drop(fs::metadata(two.b("s/f")));
    let ended = two.cluster.mounts[1].process()?.interrupt()?;
    ensure!(ended.success(), "the mount ended with {ended}");
    let began = Instant::now();
    fs::write(two.a("s/f"), "1")?;
    ensure!(began.elapsed() < lease / 4, "delayed for {:?}", began.elapsed());
    Ok(())
}

/// What is done to files of which a kernel knows all, and what `stat` then says of the first path: its size.
#[derive(Clone, Copy, Debug)]
enum Done {
    Renamed,
    Written,
    Removed,
}

impl Done {
    fn to(self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::Renamed => fs::rename(path, path.with_extension("new")),
            Self::Written => fs::write(path, "longer than it was"),
            Self::Removed => fs::remove_file(path),
        }
    }

    /// Whether that is how `path` looks before it.
    fn is_ahead(path: &Path) -> Result<bool> {
        match fs::metadata(path) {
            Ok(found) => Ok(found.len() == 3),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[test]
fn a_mount_that_has_not_found_the_new_master_is_waited_for() -> Result<()> {
    let lease = Duration::from_secs(8);
    let mut two = Two::with_store(lease, &["--sync-interval", "never"])?;
    fs::create_dir(two.a("s"))?;
    for comes_back in [true, false] {
        let changes = [Done::Renamed, Done::Written, Done::Removed].map(|done| {
            let name = format!("s/{done:?}-{comes_back}");
            (done, two.a(&name), two.b(&name))
        });
        for (_, path, _) in &changes {
            fs::write(path, "old")?;
        }
        names(&two.b("s"))?;
        for (done, _, seen) in &changes {
            ensure!(Done::is_ahead(seen)?, "{done:?} before its time");
        }
        two.cluster.mounts[1].process()?.signal(Signal::STOP)?;
        two.cluster.master.kill()?;
        let restarted = two.cluster.master.launch().and_then(|()| two.cluster.wait_workers(1));
        let began = Instant::now();
        let looks = thread::scope(|scope| {
            let (answers, answered) = mpsc::channel();
            let (looks, looked) = mpsc::channel();
            let changers = changes.each_ref().map(|(done, path, seen)| {
                let (answers, looks) = (answers.clone(), looks.clone());
                scope.spawn(move || {
                    let changed = done.to(path);
                    let waited = began.elapsed();
                    // Nobody hears it when the other mount is back.
                    let _ = answers.send(*done);
                    // What its kernel says of itself, or the mount when it is there again.
                    let look = scope.spawn(move || {
                        let look = Done::is_ahead(seen);
                        let _ = looks.send(*done);
                        look
                    });
                    (*done, changed, waited, look)
                })
            });
            let early = comes_back.then(|| answered.recv_timeout(lease / 4).ok()).flatten();
            if !comes_back {
                for _ in &changes {
                    answered.recv()?;
                }
                // Whoever is told the old state is told so at once.
                let _ = looked.recv_timeout(lease / 16);
            }
            two.cluster.mounts[1].process()?.signal(Signal::CONT)?;
            let looks = changers.map(|changer| {
                let (done, changed, waited, look) = changer.join().expect("no panic");
                (done, changed, waited, look.join().expect("no panic"))
            });
            ensure!(early.is_none(), "{early:?} was answered while the other mount stood still");
            Ok(looks)
        })?;
        restarted?;
        for (done, changed, waited, is_ahead) in looks {
            changed.with_context(|| format!("{done:?}"))?;
            println!("{done:?} was answered after {waited:?}, with the other mount back: {comes_back}");
            ensure!(!is_ahead?, "{done:?}: the other mount shows the state before, after {waited:?}");
            ensure!(waited < lease + Duration::from_secs(2), "{done:?} was delayed for {waited:?}");
            ensure!(!comes_back || waited < lease * 3 / 4, "{done:?} waited for {waited:?}, and nobody had to");
        }
    }
    Ok(())
}

#[test]
fn a_restarted_master_delays_no_change_once_its_clients_are_back() -> Result<()> {
    let mut two = Two::with_store(Duration::from_secs(20), &["--sync-interval", "never"])?;
    fs::create_dir(two.a("s"))?;
    for round in 0..3 {
        let (old, new) = (format!("s/old{round}"), format!("s/new{round}"));
        fs::write(two.a(&old), "1")?;
        names(&two.b("s"))?;
        ensure!(two.b(&old).exists() && !two.b(&new).exists(), "round {round}: not as it was made");
        two.cluster.master.kill()?;
        two.cluster.master.launch()?;
        two.cluster.wait_workers(1)?;
        let mut changes = Vec::new();
        let mut change = |change: &dyn Fn() -> std::io::Result<()>| -> Result<()> {
            let began = Instant::now();
            change()?;
            changes.push(began.elapsed());
            Ok(())
        };
        change(&|| fs::rename(two.a(&old), two.a(&new)))?;
        ensure!(!two.b(&old).exists() && two.b(&new).exists(), "round {round}: not renamed");
        change(&|| fs::write(two.a(&new), "12"))?;
        ensure!(fs::metadata(two.b(&new))?.len() == 2, "round {round}: the old length");
        change(&|| fs::remove_file(two.b(&new)))?;
        ensure!(!two.a(&new).exists(), "round {round}: not removed");
        println!("changes after a restart took {changes:?}");
        ensure!(changes.iter().all(|took| *took < Duration::from_secs(2)), "round {round}: delayed for {changes:?}");
    }
    Ok(())
}
