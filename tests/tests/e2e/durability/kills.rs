//! Processes killed at random moments while others write: what was acknowledged is there, and the bucket gets exactly that.

use std::{
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, Part, Pond, eventually, eventually_within};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{
    cluster, must_read, objects_of, sync,
    writer::{Told, Writer},
};
use crate::{check::must_be_clean, lake::Lake};

/// How often somebody is killed.
const KILLS: usize = 12;

/// A file that was made by one who died goes when his lease has run out, which takes a lease's term at most.
const SETTLED: Duration = Duration::from_secs(90);

/// All writers may be closing files at a worker that is away, which takes them two minutes to give up.
const NOTICED: Duration = Duration::from_secs(180);

fn seed(default: u64) -> Result<u64> {
    let seed = std::env::var("HEADPOND_TEST_SEED").ok().map_or(Ok(default), |seed| seed.parse())?;
    println!("HEADPOND_TEST_SEED={seed}");
    Ok(seed)
}

/// Writers below a mount, each in a directory of its own.
fn writers(seed: u64, mount: &Path) -> Result<Vec<Writer>> {
    (0..3)
        .map(|number| {
            let home = format!("home-{number}");
            std::fs::create_dir(mount.join(&home))?;
            Ok(Writer::new(seed + number, mount, &home))
        })
        .collect()
}

/// Has the writers work while `kill` is called again and again, each time when they have got on. It is given whether to wait before it starts
/// again what it killed, and what to wait with.
fn kill_beside(
    writers: &mut [Writer],
    random: &mut SmallRng,
    mut kill: impl FnMut(&mut SmallRng, &dyn Fn() -> Result<()>) -> Result<()>,
) -> Result<()> {
    let (told, stop) = (Told::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(|| writer.work(&told, &stop))).collect();
        let going = || threads.iter().all(|thread| !thread.is_finished());
        let killed = (|| -> Result<()> {
            for _ in 0..KILLS {
                progress(&told, random.random_range(1..60), &going)?;
                let [done, failed] = [&told.done, &told.failed].map(|count| count.load(Ordering::SeqCst));
                let stays_away = random.random_bool(0.5);
                kill(random, &|| {
                    let noticed =
                        || told.failed.load(Ordering::SeqCst) > failed || told.done.load(Ordering::SeqCst) > done + 500;
                    if !stays_away {
                        return Ok(());
                    }
                    eventually_within(NOTICED, "writers have noticed", || Ok(noticed() || !going()))
                })?;
            }
            progress(&told, 20, &going)
        })();
        stop.store(true, Ordering::SeqCst);
        let wrote: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("writers return errors")).collect();
        wrote.into_iter().collect::<Result<Vec<()>>>()?;
        killed
    })?;
    println!("{told:?}");
    Ok(())
}

/// Waits until so many more calls were acknowledged.
pub(super) fn progress(told: &Told, more: u64, going: &dyn Fn() -> bool) -> Result<()> {
    let before = told.done.load(Ordering::SeqCst);
    eventually_within(NOTICED, "writers get on", || {
        ensure!(going(), "a writer gave up");
        Ok(told.done.load(Ordering::SeqCst) >= before + more)
    })
}

/// Waits until everything is as the writers were told.
pub(super) fn must_settle(writers: &[Writer]) -> Result<()> {
    let mut wrong = None;
    let settled = eventually_within(SETTLED, "everything is as it was told", || {
        wrong = writers.iter().find_map(|writer| writer.check().err());
        Ok(wrong.is_none())
    });
    match (settled, wrong) {
        (Err(late), Some(wrong)) => Err(wrong.context(late.to_string())),
        (settled, _) => settled,
    }
}

/// Waits until the bucket has exactly what the mount shows, whatever uploads there are. A file that one who died has made, and nobody was told of,
/// is shown until his lease has run out.
pub(super) fn must_agree(lake: &Lake, mount: &Path) -> Result<()> {
    let mut differs = None;
    let agreed = eventually_within(SETTLED, "the bucket has what the mount shows", || {
        differs = objects_of(mount).and_then(|(objects, either)| lake.must_have(&objects, &either)).err();
        Ok(differs.is_none())
    });
    match (agreed, differs) {
        (Err(late), Some(differs)) => Err(differs.context(late.to_string())),
        (agreed, _) => agreed,
    }
}

/// Kills a part, or all, or the store, and starts it again.
fn kill_one(lake: &mut Lake, cluster: &mut Cluster, victim: u8, wait: &dyn Fn() -> Result<()>) -> Result<()> {
    let (master, workers, mounts) = (&mut cluster.master, &mut cluster.workers, &mut cluster.mounts);
    let mut parts: Vec<&mut Part> = match victim {
        0 => vec![master],
        1 => vec![&mut workers[0]],
        2 => vec![&mut mounts[0]],
        3 => std::iter::once(master).chain(workers).chain(mounts).collect(),
        _ => {
            lake.minio.kill()?;
            wait()?;
            return lake.minio.restart();
        }
    };
    parts.iter_mut().try_for_each(|part| part.kill())?;
    wait()?;
    parts.into_iter().try_for_each(Part::launch)
}

fn kill_parts(seed: u64, durability: &[&str]) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut lake = Lake::empty()?;
    let mut cluster = cluster(&lake, durability[0]).store(&durability[1..]).workers(2).start()?;
    let mut writers = writers(seed, &cluster.path(0, ""))?;
    kill_beside(&mut writers, &mut random, |random, wait| {
        kill_one(&mut lake, &mut cluster, random.random_range(0..5), wait)
    })?;
    cluster.wait_workers(2)?;
    must_settle(&writers).with_context(|| format!("in the bucket: {:?}", lake.list()))?;
    // A store that was killed does not list the uploads that were begun before, so nobody can find those.
    sync(&cluster)?;
    must_agree(&lake, &cluster.path(0, ""))?;
    // Once more without what the mount remembers.
    cluster.mounts[0].kill()?;
    cluster.mounts[0].launch()?;
    writers.iter().try_for_each(Writer::check)?;
    lake.must_have_no_parts()?;
    must_be_clean(&cluster, SETTLED)
}

#[test]
fn parts_killed_at_random_lose_nothing_that_was_acknowledged() -> Result<()> {
    let seed = seed(20_263)?;
    kill_parts(seed, &["async", "--copies", "1"]).with_context(|| format!("HEADPOND_TEST_SEED={seed}"))
}

#[test]
fn parts_killed_at_random_lose_nothing_with_two_copies() -> Result<()> {
    let seed = seed(20_264)?;
    kill_parts(seed, &["async"]).with_context(|| format!("HEADPOND_TEST_SEED={seed}"))
}

#[test]
fn one_process_killed_at_random_loses_nothing_that_was_acknowledged() -> Result<()> {
    let seed = seed(20_265)?;
    let lake = Lake::empty()?;
    let arguments = ["--durability", "async", "--sync-interval", "1s"];
    let mut pond: Pond = arguments.iter().fold(lake.pond(), |pond, argument| pond.arg(argument)).start()?;
    let mut writers = writers(seed, &pond.path(""))?;
    kill_beside(&mut writers, &mut SmallRng::seed_from_u64(seed), |_, wait| {
        pond.kill()?;
        wait()?;
        pond.launch()
    })
    .and_then(|()| must_settle(&writers).with_context(|| format!("in the bucket: {:?}", lake.list())))
    .and_then(|()| {
        pond.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
        must_agree(&lake, &pond.path(""))?;
        must_be_clean(&pond, SETTLED)?;
        lake.must_have_no_uploads()
    })
    .with_context(|| format!("HEADPOND_TEST_SEED={seed}"))
}

#[test]
fn a_client_that_is_killed_leaves_what_it_was_told_and_no_more() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").start()?;
    let mut synced = std::fs::File::create_new(cluster.path(0, "synced"))?;
    synced.write_all(b"acknowledged")?;
    synced.sync_all()?;
    let mut unsynced = std::fs::File::create_new(cluster.path(0, "unsynced"))?;
    unsynced.write_all(b"not acknowledged")?;
    cluster.mounts[0].kill()?;
    drop((synced, unsynced));
    cluster.mounts[0].launch()?;
    eventually("the mount is in session again", || Ok(std::fs::read_dir(cluster.path(0, "")).is_ok()))?;
    must_read(&cluster.path(0, "synced"), b"acknowledged")?;
    eventually_within(SETTLED, "what nobody was told is gone", || Ok(!cluster.path(0, "unsynced").exists()))?;
    sync(&cluster)?;
    lake.must_be(&[("synced".to_owned(), "acknowledged".into())].into(), &[].into())?;
    must_be_clean(&cluster, SETTLED)
}
