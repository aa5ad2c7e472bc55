//! What one mount changes, another sees (P2, P3).

mod renames;

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    path::Path,
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, can_guard};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    process::Signal,
};

use crate::lake::Lake;

/// Turns of each race.
const ROUNDS: usize = 1000;

/// Longest validity of what a master answers here.
const LEASE: Duration = Duration::from_secs(2);

/// A cluster with two mounts, A and B, on different nodes.
struct Two {
    cluster: Cluster,
    _lake: Lake,
}

impl Two {
    fn start() -> Result<Self> {
        Self::with_lease(LEASE)
    }

    fn with_lease(lease: Duration) -> Result<Self> {
        Self::with_store(lease, &[])
    }

    /// With `store` as arguments with which the store is shown.
    fn with_store(lease: Duration, store: &[&str]) -> Result<Self> {
        ensure!(
            can_guard(),
            "these tests need a mount that can be guarded: run them as root, or mount /sys/fs/fuse/connections"
        );
        let lake = Lake::empty()?;
        let lease = format!("{}s", lease.as_secs());
        let mut cluster = lake.cluster().env("HEADPOND_MASTER__CLIENT_LEASE", &lease).store(store).start()?;
        cluster.mount(1)?;
        let two = Self { cluster, _lake: lake };
        two.wait_mounted()?;
        Ok(two)
    }

    fn wait_mounted(&self) -> Result<()> {
        for mount in 0..2 {
            fs::read_dir(self.cluster.path(mount, ""))?.count();
        }
        Ok(())
    }

    fn a(&self, below: &str) -> std::path::PathBuf {
        self.cluster.path(0, below)
    }

    fn b(&self, below: &str) -> std::path::PathBuf {
        self.cluster.path(1, below)
    }
}

/// Its names, in order.
fn names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[test]
fn what_is_closed_on_one_mount_is_read_on_another() -> Result<()> {
    let two = Two::start()?;
    for directory in ["same", "new"] {
        fs::create_dir(two.a(directory))?;
        for round in 0..ROUNDS / 2 {
            let name = if directory == "same" { "same/f".to_owned() } else { format!("new/f{round}") };
            let (path, body) = (two.b(&name), format!("{round}").repeat(round % 7 + 1));
            // What the kernel of B knows before: nothing, or the last version.
            drop(fs::metadata(&path));
            if round % 3 == 0 {
                names(&two.b(directory))?;
            }
            fs::write(two.a(&name), &body)?;
            let size = fs::metadata(&path).with_context(|| format!("round {round} of {directory}"))?.len();
            ensure!(size == body.len() as u64, "round {round} of {directory}: {size} bytes instead of {}", body.len());
            let read = fs::read_to_string(&path)?;
            ensure!(read == body, "round {round} of {directory}: {read:?} instead of {body:?}");
            if round % 3 == 0 {
                let last = name.rsplit('/').next().context("a name")?.to_owned();
                ensure!(names(&two.b(directory))?.contains(&last), "round {round}: {last} is not listed");
            }
        }
    }
    Ok(())
}

#[test]
fn what_appears_in_a_directory_that_the_other_made_is_seen_at_once() -> Result<()> {
    let two = Two::with_lease(Duration::from_secs(30))?;
    for round in 0..30 {
        // A knows without a question what its own directory lacks.
        let dir = format!("d{round}");
        fs::create_dir(two.a(&dir))?;
        let name = |of: &str| format!("{dir}/{of}");
        let is_there = |of: &str| two.a(&name(of)).try_exists();
        ensure!(!is_there("made")? && !is_there("moved")? && !is_there("linked")?, "round {round}: it is not empty");
        fs::write(two.b(&name("made")), b"b")?;
        ensure!(is_there("made")?, "round {round}: what was made is not there");
        fs::rename(two.b(&name("made")), two.b(&name("moved")))?;
        ensure!(!is_there("made")? && is_there("moved")?, "round {round}: what was moved is not where it was moved to");
        fs::hard_link(two.b(&name("moved")), two.b(&name("linked")))?;
        ensure!(is_there("linked")?, "round {round}: the further name is not there");
        fs::remove_file(two.b(&name("moved")))?;
        fs::remove_file(two.b(&name("linked")))?;
        ensure!(!is_there("moved")? && !is_there("linked")?, "round {round}: what was removed is there");
        fs::remove_dir(two.b(&dir))?;
        ensure!(!two.a(&dir).try_exists()?, "round {round}: the directory is there");
        fs::create_dir(two.b(&dir))?;
        fs::write(two.b(&name("moved")), b"again")?;
        ensure!(is_there("moved")? && !is_there("made")?, "round {round}: the second directory is not as it was made");
    }
    Ok(())
}

#[test]
fn other_changes_are_seen_when_they_return() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let two = Two::start()?;
    for round in 0..ROUNDS / 10 {
        let (dir, file) = (format!("d{round}"), format!("d{round}/f"));
        ensure!(!two.b(&dir).exists(), "round {round}: before its time");
        fs::create_dir(two.a(&dir))?;
        ensure!(two.b(&dir).is_dir(), "round {round}: a directory that was made is not there");
        ensure!(names(&two.b(&dir))?.is_empty(), "round {round}");
        fs::write(two.a(&file), "1")?;
        ensure!(fs::metadata(two.b(&file))?.permissions().mode() & 0o777 == 0o644, "round {round}");
        fs::set_permissions(two.a(&file), fs::Permissions::from_mode(0o600))?;
        ensure!(fs::metadata(two.b(&file))?.permissions().mode() & 0o777 == 0o600, "round {round}: the old mode");
        OpenOptions::new().write(true).open(two.b(&file))?.set_len(0)?;
        ensure!(fs::metadata(two.a(&file))?.len() == 0, "round {round}: the old length");
        fs::remove_file(two.a(&file))?;
        ensure!(!two.b(&file).exists(), "round {round}: a file that was removed is there");
        fs::remove_dir(two.b(&dir))?;
        ensure!(!two.a(&dir).exists(), "round {round}: a directory that was removed is there");
    }
    Ok(())
}

/// Two mounts try the same at once, `ROUNDS` times: exactly one succeeds, the other is told that the name exists.
fn race(two: &Two, attempt: impl Fn(usize, usize) -> std::io::Result<()> + Sync) -> Result<()> {
    let start = Barrier::new(2);
    let outcomes = thread::scope(|scope| {
        let racers = [0, 1].map(|mount| {
            let (start, attempt) = (&start, &attempt);
            scope.spawn(move || {
                let tries = (0..ROUNDS).map(|round| {
                    start.wait();
                    attempt(mount, round)
                });
                tries.collect::<Vec<_>>()
            })
        });
        racers.map(|racer| racer.join().expect("no panic"))
    });
    let [a, b] = outcomes;
    for (round, outcome) in a.into_iter().zip(b).enumerate() {
        match outcome {
            (Ok(()), Err(error)) | (Err(error), Ok(())) if error.kind() == ErrorKind::AlreadyExists => {}
            other => anyhow::bail!("round {round} ended with {other:?}"),
        }
    }
    let _ = two;
    Ok(())
}

#[test]
fn one_of_two_makes_a_file_exclusively() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("x"))?;
    race(&two, |mount, round| {
        let path = two.cluster.path(mount, &format!("x/f{round}"));
        OpenOptions::new().write(true).create_new(true).open(path).map(drop)
    })?;
    ensure!(names(&two.a("x"))?.len() == ROUNDS && names(&two.b("x"))?.len() == ROUNDS, "files are missing");
    Ok(())
}

#[test]
fn one_of_two_links_to_a_name() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    /// Names that one file gets at most.
    const NAMES: usize = 50;
    let two = Two::start()?;
    fs::create_dir(two.a("l"))?;
    race(&two, |mount, round| {
        let path = |name: &str| two.cluster.path(mount, name);
        let old = path(&format!("from{mount}-{}", round / NAMES));
        if round % NAMES == 0 {
            fs::write(&old, format!("{mount}"))?;
        }
        fs::hard_link(old, path(&format!("l/f{round}")))
    })?;
    for mount in 0..2 {
        ensure!(names(&two.cluster.path(mount, "l"))?.len() == ROUNDS, "names are missing");
        for round in 0..ROUNDS {
            let writer = fs::read_to_string(two.cluster.path(mount, &format!("l/f{round}")))?;
            let other = fs::metadata(two.cluster.path(1 - mount, &format!("from{writer}-{}", round / NAMES)))?;
            let found = fs::metadata(two.cluster.path(mount, &format!("l/f{round}")))?;
            ensure!(found.ino() == other.ino() && found.nlink() > 1, "round {round} is a file of its own");
        }
    }
    Ok(())
}

#[test]
fn one_of_two_renames_without_replacing() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("n"))?;
    for mount in 0..2 {
        fs::create_dir(two.cluster.path(mount, &format!("n/from{mount}")))?;
    }
    race(&two, |mount, round| {
        let old = two.cluster.path(mount, &format!("n/from{mount}/d{round}"));
        fs::create_dir(&old)?;
        let new = two.cluster.path(mount, &format!("n/d{round}"));
        Ok(renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE)?)
    })?;
    ensure!(names(&two.a("n"))?.len() == ROUNDS + 2, "directories are missing");
    Ok(())
}

#[test]
fn two_that_change_one_directory_do_not_wait_for_each_other() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("busy"))?;
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let writers = [0, 1].map(|mount| {
            let two = &two;
            scope.spawn(move || -> Result<Duration> {
                let mut longest = Duration::ZERO;
                for round in 0..ROUNDS / 10 {
                    let path = |name: &str| two.cluster.path(mount, &format!("busy/{name}{mount}-{round}"));
                    let began = Instant::now();
                    fs::create_dir(path("d"))?;
                    fs::rename(path("d"), path("e"))?;
                    names(&two.cluster.path(mount, "busy"))?;
                    fs::remove_dir(path("e"))?;
                    longest = longest.max(began.elapsed());
                }
                Ok(longest)
            })
        });
        for writer in writers {
            let longest = writer.join().expect("no panic")?;
            ensure!(longest < LEASE, "a change took {longest:?}");
        }
        Ok(())
    })?;
    ensure!(names(&two.a("busy"))?.is_empty() && names(&two.b("busy"))?.is_empty(), "something is left");
    println!("{} changes of two mounts took {:?}", ROUNDS / 10 * 6, began.elapsed());
    Ok(())
}

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

#[test]
fn an_open_reader_does_not_keep_others_from_the_new_version() -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let two = Two::start()?;
    for (round, (old, new)) in [("first", "a longer second"), ("a longer first", "second")].into_iter().enumerate() {
        let name = format!("f{round}");
        fs::write(two.b(&name), old)?;
        let readers = [File::open(two.a(&name))?, File::open(two.b(&name))?];
        let mut buffer = [0; 32];
        for reader in &readers {
            let read = reader.read_at(&mut buffer, 0)?;
            ensure!(&buffer[..read] == old.as_bytes(), "the bytes differ");
        }
        for written in [0, 1] {
            let body = format!("{new} by {written}");
            fs::write(two.cluster.path(written, &name), &body)?;
            for seen in [two.a(&name), two.b(&name)] {
                ensure!(fs::read_to_string(&seen)? == body, "an open sees an old version at {}", seen.display());
            }
        }
    }
    Ok(())
}
