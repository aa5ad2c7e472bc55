//! Processes of a cluster killed while others read (P9): the others go on, or give an error within the deadline.

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use headpond_tests::{
    Behaviour, Cluster, Command, Part, Process, Sample, can_guard, eventually, headpond_binary, noise, within,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// A store that takes about two seconds for an object of 32 MiB read by few connections.
fn narrow() -> Behaviour {
    Behaviour { bytes_per_second: Some(8 << 20), ..Behaviour::default() }
}

/// Reads a whole file under the deadline of the cluster's mounts for each request: where readahead fails the kernel asks for the
/// page alone once more.
fn read(path: PathBuf) -> Result<std::io::Result<Vec<u8>>> {
    let what = format!("reading {}", path.display());
    within(2 * Cluster::DEADLINE, &what, move || std::fs::read(path))
}

/// Kills a worker while a file is read; the reader must not notice.
fn read_over_the_death_of(lake: &Lake, cluster: &mut Cluster, worker: usize, key: &str, body: &Bytes) -> Result<()> {
    lake.proxy.behave(narrow());
    lake.proxy.reset();
    let path = cluster.path(0, key);
    let reader = std::thread::spawn(move || read(path));
    eventually("the read is under way", || Ok(lake.proxy.sent() > 4 << 20 || reader.is_finished()))?;
    ensure!(!reader.is_finished(), "{key} was read too fast to kill anybody meanwhile");
    cluster.workers[worker].kill()?;
    let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(read.with_context(|| format!("{key}, with worker {worker} killed"))? == body[..], "{key} differs");
    lake.proxy.behave(Behaviour::default());
    Ok(())
}

#[test]
fn reads_go_on_when_a_worker_is_killed_and_it_comes_back_warm() -> Result<()> {
    let objects: Vec<_> = (0..12u64).map(|n| (format!("f{n:02}"), noise(n, 32 * MIB))).collect();
    let lake = Lake::of(objects.clone())?;
    let mut cluster = lake.cluster().workers(3).start()?;
    // One that the mount's own worker owns, and one that another does.
    let (mut own, mut other) = (None, None);
    for (key, body) in &objects {
        match cluster.owner(&format!("/{key}"))? {
            0 if own.is_none() => own = Some((key, body)),
            owner if owner > 0 && other.is_none() => other = Some((owner, key, body)),
            _ => {}
        }
    }
    let (own_key, own_body) = own.context("worker 0 owns none of twelve")?;
    let (owner, key, body) = other.context("worker 0 owns all of twelve")?;
    read_over_the_death_of(&lake, &mut cluster, owner, key, body)?;
    cluster.workers[owner].launch()?;
    read_over_the_death_of(&lake, &mut cluster, 0, own_key, own_body)?;
    cluster.workers[0].launch()?;
    cluster.wait_workers(3)?;

    // Cached now, by workers and not only in the kernel; a kill takes nothing of it away.
    for key in [own_key, key] {
        cluster.run_ok(&["fs", "load", &format!("/{key}")])?;
    }
    for worker in &mut cluster.workers {
        worker.kill()?;
        worker.launch()?;
    }
    cluster.wait_workers(3)?;
    // Workers hear where the others are by now with their heartbeats.
    let heartbeats = |cluster: &Cluster| cluster.workers[0].metric("headpond_worker_heartbeats_total", "");
    let before = heartbeats(&cluster)?;
    eventually("worker 0 knows the ring", || Ok(heartbeats(&cluster)? >= before + 2.0))?;
    lake.proxy.reset();
    for (key, body) in [(own_key, own_body), (key, body)] {
        ensure!(read(cluster.path(0, key))?? == body[..], "{key} differs after the restart");
    }
    ensure!(lake.object_gets().is_empty(), "the restarted workers were not warm: {:?}", lake.object_gets());
    Ok(())
}

#[test]
fn a_master_killed_and_started_again_knows_everything() -> Result<()> {
    let sample = Sample::lake(3, 60, 2 << 20);
    let lake = Lake::with(&sample)?;
    let mut cluster = lake.cluster().workers(2).start()?;
    let (half, rest) = sample.objects.split_at(30);
    for (key, body) in half {
        ensure!(read(cluster.path(0, key))?? == body[..], "{key} differs");
    }
    let (open_key, open_body) = rest.iter().find(|(_, body)| body.len() > 1000).context("a file")?;
    let open = File::open(cluster.path(0, open_key))?;
    cluster.master.kill()?;
    // What is open needs no master, cached or not.
    let expected = open_body.clone();
    within(Cluster::DEADLINE, "reading what is open", move || {
        let mut buffer = vec![0; expected.len()];
        open.read_exact_at(&mut buffer, 0)?;
        ensure!(buffer == expected[..], "the open file differs");
        Ok(())
    })??;
    // What nobody has looked up is an error, in time, and not an absence.
    let unknown = cluster.path(0, "never-looked-up");
    let asked = within(Cluster::DEADLINE, "looking up", move || std::fs::metadata(unknown))?;
    let error = asked.err().context("metadata from nowhere")?;
    ensure!(error.raw_os_error() == Some(libc::EIO), "without a master: {error}");

    cluster.master.launch()?;
    cluster.wait_workers(2)?;
    lake.put("added", "while it was away")?;
    eventually("the mount is in session again", || Ok(cluster.path(0, "added").exists()))?;
    for (key, body) in &sample.objects {
        ensure!(read(cluster.path(0, key))?? == body[..], "{key} differs after the restart");
    }
    let mounts = cluster.run_ok(&["admin", "mounts", "-o", "json"])?;
    ensure!(mounts.contains("s3://lake"), "the mount table was lost: {mounts}");
    Ok(())
}

#[test]
fn a_killed_mount_is_dead_at_once_and_cleared_by_the_next() -> Result<()> {
    let lake = Lake::of([("f", noise(1, MIB))])?;
    let mut cluster = lake.cluster().start()?;
    ensure!(read(cluster.path(0, "f"))?? == noise(1, MIB)[..], "f differs");
    cluster.mounts[0].kill()?;
    ensure!(cluster.mountpoint(0).is_mounted()?, "a killed daemon leaves its mount");
    let error = read(cluster.path(0, "f"))?.err().context("bytes from a dead mount")?;
    ensure!(error.kind() == ErrorKind::NotConnected, "a dead mount answers {error}");
    cluster.mounts[0].launch()?;
    ensure!(cluster.mounts[0].output().contains("dead mount"), "{}", cluster.mounts[0].output());
    lake.proxy.reset();
    ensure!(read(cluster.path(0, "f"))?? == noise(1, MIB)[..], "f differs");
    ensure!(lake.object_gets().is_empty(), "the worker did not go on: {:?}", lake.object_gets());
    cluster.mounts[0].stop()?;
    ensure!(!cluster.mountpoint(0).is_mounted()?, "a clean end leaves no mount");
    Ok(())
}

#[test]
fn a_mount_that_does_not_answer_is_an_error_for_the_next_and_not_a_wait() -> Result<()> {
    let lake = Lake::of([("f", "1")])?;
    let mut cluster = lake.cluster().start()?;
    cluster.mounts[0].process()?.signal(rustix::process::Signal::STOP)?;
    let mountpoint = cluster.mountpoint(0).path().display().to_string();
    let master = cluster.master();
    let mut second = Command::new(headpond_binary()?);
    second.args(["mount", &mountpoint, "--master", &master]).env_clear();
    let output = within(Cluster::DEADLINE, "the end of the second mount", move || second.output())?;
    cluster.mounts[0].process()?.signal(rustix::process::Signal::CONT)?;
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("does not answer"), "{said}");
    ensure!(read(cluster.path(0, "f"))?? == b"1", "f differs");
    Ok(())
}

/// Whether the thread of a mount that tells the kernel of names waits for what no signal interrupts.
fn waits_for_the_kernel(process: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    tasks.flatten().any(|task| stat(task).contains("(headpond-names) D"))
}

#[test]
fn a_mount_killed_while_it_tells_the_kernel_of_a_change_leaves_nobody_hanging() -> Result<()> {
    let lake = Lake::of([("d/f", "1"), ("d/new", "2")])?;
    // The name is to be waited for until the mount is killed.
    let slowly = lake.cluster().env("HEADPOND_MASTER__STORE_DEADLINE", "60s");
    let mut cluster = slowly.env("HEADPOND_CLIENT__METADATA_TIMEOUT", "60s").start()?;
    ensure!(read(cluster.path(0, "d/f"))?? == b"1", "d/f differs");
    // Who looks a name up holds its directory in the kernel until the store has answered, and the mount waits for that directory
    // when it makes the kernel doubt a name there.
    lake.proxy.behave(Behaviour { hang: true, only: "slow".to_owned(), ..Behaviour::default() });
    let mut command = Command::new("stat");
    command.arg(cluster.path(0, "d/slow"));
    let mut waiting = Process::start("stat", &command, &cluster.folder().join("stat.log"))?;
    eventually("the store is asked for the name", || {
        Ok(lake.proxy.requests().iter().any(|request| request.target.contains("slow")))
    })?;
    // Meanwhile the mount hears of a change there.
    let notices = if can_guard() { "headpond_fuse_names_doubted_total" } else { "headpond_fuse_invalidations_total" };
    let told = cluster.mounts[0].metric(notices, "")?;
    cluster.run_ok(&["fs", "stat", "/d/new"])?;
    let process = cluster.mounts[0].process()?.id();
    eventually("the mount tells the kernel", || {
        waiting.check_running()?;
        let tells = cluster.mounts[0].metric(notices, "")? > told;
        Ok(tells && (!can_guard() || waits_for_the_kernel(process)))
    })?;
    cluster.mounts[0].process()?.signal(rustix::process::Signal::KILL)?;
    let tasks = format!("/proc/{process}/task");
    let is_over = |tasks: &str| std::fs::read_dir(tasks).map_or(0, Iterator::count) <= 1;
    let ended = eventually("the killed process and who waits for it end", || {
        Ok(is_over(&tasks) && waiting.check_running().is_err())
    });
    if ended.is_err() {
        // Else this test would hang as well.
        cluster.mountpoint(0).abort()?;
    }
    ended?;
    ensure!(!waiting.wait()?.success(), "attributes of nothing");
    cluster.mounts[0].launch()?;
    lake.proxy.behave(Behaviour::default());
    ensure!(read(cluster.path(0, "d/new"))?? == b"2", "d/new differs");
    Ok(())
}

#[test]
fn without_master_and_workers_what_is_lent_is_read_and_the_rest_is_an_error_in_time() -> Result<()> {
    let lake = Lake::of([("lent", noise(1, 3 * MIB)), ("part", noise(2, 3 * MIB)), ("cold", noise(3, 3 * MIB))])?;
    let mut cluster = lake.cluster().start()?;
    ensure!(read(cluster.path(0, "lent"))?? == noise(1, 3 * MIB)[..], "lent differs");
    let lent = File::open(cluster.path(0, "lent"))?;
    let cold = File::open(cluster.path(0, "cold"))?;
    cluster.master.kill()?;
    cluster.workers[0].kill()?;
    let lent = within(Cluster::DEADLINE, "reading what is lent", move || {
        let mut buffer = vec![0; 3 * MIB];
        lent.read_exact_at(&mut buffer, 0).map(|()| buffer)
    })?;
    ensure!(lent.context("what is lent and open")? == noise(1, 3 * MIB)[..], "lent differs");
    let opened = read(cluster.path(0, "lent"))?;
    ensure!(opened.context("what is lent, opened anew")? == noise(1, 3 * MIB)[..], "lent differs");
    let read_cold = within(2 * Cluster::DEADLINE, "reading what nobody has", move || {
        cold.read_exact_at(&mut [0; 4096], MIB as u64)
    })?;
    let error = read_cold.err().context("bytes from nowhere")?;
    ensure!(error.raw_os_error() == Some(libc::EIO), "what nobody has answers {error}");
    // Programs that cannot have the size of a disk give it up.
    let root = cluster.path(0, "");
    let space = within(Cluster::DEADLINE, "asking for the size", move || rustix::fs::statvfs(root))?;
    ensure!(space.context("the size without a master")?.f_bavail > 0, "no room on a mount without a master");
    let error = read(cluster.path(0, "part"))?.err().context("bytes from nowhere")?;
    ensure!(error.raw_os_error() == Some(libc::EIO), "what was never opened answers {error}");
    Ok(())
}

/// What one reader is doing.
#[derive(Debug, Default)]
struct Watched {
    since: Mutex<Option<(Instant, String)>>,
    right: AtomicU64,
    failed: AtomicU64,
}

/// The file system that a path is on; `None` while it is dead.
fn device(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|metadata| metadata.dev())
}

/// Reads random pieces of random files until told to stop. An error is fine, other bytes and absence are not.
fn read_at_random(seed: u64, root: PathBuf, sample: &Sample, watched: &Watched, stop: &AtomicBool) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.load(Ordering::SeqCst) {
        let (key, body) = &sample.objects[random.random_range(0..sample.objects.len())];
        let from = random.random_range(0..=body.len());
        let length = random.random_range(0..=(body.len() - from).min(2 * MIB));
        *watched.since.lock().expect("no panic while held") = Some((Instant::now(), key.clone()));
        let mut buffer = vec![0; length];
        let mount = device(&root);
        let read = File::open(root.join(key)).and_then(|file| file.read_exact_at(&mut buffer, from as u64));
        *watched.since.lock().expect("no panic while held") = None;
        match read {
            Ok(()) => {
                ensure!(buffer == body[from..from + length], "{key} differs in {length} bytes from {from}");
                watched.right.fetch_add(1, Ordering::SeqCst);
            }
            // Between two mounts there is nothing below the mount point.
            Err(error) if error.kind() == ErrorKind::NotFound && mount != device(&root) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && mount == device(root.parent().unwrap_or(&root)) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("{key} is gone: {error}"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => bail!("{key} is short: {error}"),
            Err(_) => {
                watched.failed.fetch_add(1, Ordering::SeqCst);
                #[expect(clippy::disallowed_methods, reason = "a dead mount is not asked in a busy loop")]
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    Ok(())
}

/// Fails when a reader has waited for longer than an open and a read of two pieces may take.
fn check_none_hangs(readers: &[Watched]) -> Result<()> {
    for reader in readers {
        if let Some((since, key)) = reader.since.lock().expect("no panic while held").as_ref() {
            ensure!(since.elapsed() < 4 * Cluster::DEADLINE, "a reader of {key} hangs since {:?}", since.elapsed());
        }
    }
    Ok(())
}

#[test]
fn killed_at_random_moments_under_load_all_is_right_afterwards() -> Result<()> {
    const KILLS: usize = 15;
    let seed = std::env::var("HEADPOND_TEST_SEED").ok().map_or(Ok(20_251), |seed| seed.parse())?;
    println!("HEADPOND_TEST_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let sample = Sample::lake(seed, 400, 12 << 20);
    let lake = Lake::with(&sample)?;
    let mut cluster = lake.cluster().workers(3).start()?;
    let root = cluster.path(0, "");
    let stop = AtomicBool::new(false);
    let readers: [Watched; 4] = Default::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(&readers)
            .map(|(number, watched)| {
                let (root, sample, stop) = (root.clone(), &sample, &stop);
                scope.spawn(move || read_at_random(seed ^ number, root, sample, watched, stop))
            })
            .collect();
        let killed = (|| -> Result<()> {
            for _ in 0..KILLS {
                let before: u64 = readers.iter().map(|reader| reader.right.load(Ordering::SeqCst)).sum();
                let more = random.random_range(1..40);
                eventually("reads succeed again", || {
                    check_none_hangs(&readers)?;
                    ensure!(threads.iter().all(|thread| !thread.is_finished()), "a reader gave up");
                    let now: u64 = readers.iter().map(|reader| reader.right.load(Ordering::SeqCst)).sum();
                    Ok(now >= before + more)
                })?;
                let victim: &mut Part = match random.random_range(0..5) {
                    0 => &mut cluster.master,
                    1 => &mut cluster.mounts[0],
                    worker => &mut cluster.workers[worker - 2],
                };
                victim.kill()?;
                let failed: u64 = readers.iter().map(|reader| reader.failed.load(Ordering::SeqCst)).sum();
                if random.random_bool(0.5) {
                    // Half of the time it stays away until that was noticed, or others went on without.
                    eventually("readers have met it or gone on", || {
                        check_none_hangs(&readers)?;
                        let (mut right, mut wrong) = (0, 0);
                        for reader in &readers {
                            right += reader.right.load(Ordering::SeqCst);
                            wrong += reader.failed.load(Ordering::SeqCst);
                        }
                        Ok(wrong > failed || right > before + more + 10)
                    })?;
                }
                victim.launch()?;
            }
            Ok(())
        })();
        stop.store(true, Ordering::SeqCst);
        let read: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("readers return errors")).collect();
        read.into_iter().collect::<Result<Vec<()>>>()?;
        killed
    })?;
    cluster.wait_workers(3)?;
    // Every file is right now, and a second time from the cache.
    eventually("the mount is in session again", || Ok(std::fs::read_dir(&root)?.next().is_some()))?;
    for round in ["afterwards", "warm"] {
        lake.proxy.reset();
        for (key, body) in &sample.objects {
            ensure!(read(root.join(key))?.with_context(|| key.clone())? == body[..], "{round}: {key} differs");
        }
    }
    ensure!(lake.object_gets().is_empty(), "{:?}", lake.object_gets());
    Ok(())
}
