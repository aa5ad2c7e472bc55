//! Writing through the mount (`through`: close returns when the store has the object), against clients of the store itself; renames, and the
//! moving of objects that they begin.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use headpond_client::{Client, ClientConfig, ListOptions};
use headpond_runtime::{Shutdown, Tasks};
use headpond_tests::{Pond, eventually, noise};
use headpond_types::NsPath;

use crate::{
    report::{Report, figure, median},
    world::{MIB, Scale, World, float, have_memory},
};

/// Objects below a directory that is renamed.
const BELOW: u64 = 10_000;

/// Renames of one directory, to and fro.
const RENAMES: usize = 100;

/// Parts of the direct client's upload.
const PART: usize = 16 << 20;

/// Requests of the direct client in flight while it moves objects; the master has as many.
const MOVES: usize = 16;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let pond = world.pond().start()?;
    large(&world, &pond, scale, report)?;
    small(&world, &pond, scale, report)?;
    renames(&world, &pond, scale, report)?;
    drop(pond);
    large_renames(&world, scale, report)
}

/// One large file, written from front to end.
fn large(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let length = 1024 * MIB / scale.divisor;
    let body = noise(3, usize::try_from(length)?);
    report.compare_after(
        scale,
        "sequential write and close, against a client that uploads 16 parts at a time",
        "MB/s",
        "≥ 0.9 ×",
        || have_memory(4 * length),
        || {
            world.runtime.block_on(world.s3.put_in_parts("direct.bin", body.clone(), PART, 16))?;
            Ok(float(length) / 1e6)
        },
        || {
            write_file(&pond.path("ours.bin"), &body)?;
            Ok(float(length) / 1e6)
        },
    )?;
    world.check("ours.bin", 1, length)?;
    fs::remove_file(pond.path("ours.bin"))?;
    world.runtime.block_on(world.s3.delete("direct.bin"))
}

/// Files of 1 KiB.
fn small(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let body = noise(4, 1024);
    let (round, last) = (AtomicU64::new(0), AtomicU64::new(0));
    for threads in [1, 16] {
        let files = 2_000 / scale.divisor / if threads == 1 { 4 } else { 1 };
        report.compare(
            scale,
            &format!("create, 1 KiB and close, {threads} at a time, against PUTs"),
            "/s",
            "≥ 0.8 ×",
            || {
                let round = round.fetch_add(1, Ordering::Relaxed);
                let objects = (0..files).map(|n| (format!("direct-{round}/{n}"), body.clone()));
                world.runtime.block_on(put_all(world, objects, threads))?;
                Ok(float(files))
            },
            || {
                let round = round.fetch_add(1, Ordering::Relaxed);
                let dir = pond.path(&format!("ours-{round}"));
                fs::create_dir(&dir)?;
                let next = AtomicU64::new(0);
                let work = || {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= files {
                            return anyhow::Ok(());
                        }
                        write_file(&dir.join(n.to_string()), &body)?;
                    }
                };
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                    threads
                        .into_iter()
                        .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a writer panicked"))?)
                })?;
                last.store(round, Ordering::Relaxed);
                Ok(float(files))
            },
        )?;
        world.check(&format!("ours-{}/", last.load(Ordering::Relaxed)), files, files * 1024)?;
    }
    Ok(())
}

/// Directories of many files: what the moving of their objects takes, and what the renames take meanwhile.
fn renames(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let below = BELOW / scale.divisor;
    let body = noise(5, 1024);
    for round in 0..=scale.rounds {
        world.put((0..below).map(|n| (format!("tree-{round}/{n:05}"), body.clone())))?;
    }
    let direct = {
        let started = Instant::now();
        world.runtime.block_on(
            stream::iter(0..below)
                .map(|n| async move {
                    world.s3.copy_and_delete(&format!("tree-0/{n:05}"), &format!("moved-0/{n:05}")).await
                })
                .buffer_unordered(MOVES)
                .try_collect::<()>(),
        )?;
        float(below) / started.elapsed().as_secs_f64()
    };
    let mut moved = Vec::new();
    for round in 1..=scale.rounds {
        let (from, to) = (format!("tree-{round}"), format!("moved-{round}"));
        // They were put behind the mount's back.
        pond.run_ok(&["fs", "ls", "--refresh", "/"])?;
        ensure!(fs::read_dir(pond.path(&from))?.count() as u64 == below, "files are missing");
        let started = Instant::now();
        fs::rename(pond.path(&from), pond.path(&to))?;
        eventually("the objects are moved", || world.runtime.block_on(world.s3.is_bare(&format!("{from}/"))))?;
        moved.push(float(below) / started.elapsed().as_secs_f64());
    }
    report.fact(
        "moving the objects of a renamed directory, against a client that copies and deletes 16 at a time",
        &format!("{} /s", figure(direct)),
        &format!("{} /s", figure(median(&moved))),
        &format!("{:.2} ×", median(&moved) / direct),
        "≥ 1 ×",
    );
    back_and_forth(world, pond, "moved-1", below, report)
}

/// The same of a local directory with a hundred times as many.
fn large_renames(world: &World, scale: Scale, report: &mut Report) -> Result<()> {
    const EACH: u64 = 1_000;
    let below = 100 * BELOW / scale.divisor;
    let lake = world.folder.path().join("lake");
    for dir in 0..below / EACH {
        let dir = lake.join(format!("tree/{dir}"));
        fs::create_dir_all(&dir)?;
        for n in 0..EACH {
            File::create(dir.join(n.to_string()))?;
        }
    }
    let pond = Pond::over(&lake.display().to_string(), None).arg("--sync-interval").arg("1h").start()?;
    pond.run_ok(&["fs", "du", "/"])?;
    back_and_forth(world, &pond, "tree", below, report)
}

/// Renames `name` to another and back, while objects follow, and another client lists the directory that it lies in every millisecond. Each rename
/// comes in turn with the least that the mount makes durable: a change of the mode of a file that nobody else has heard of.
fn back_and_forth(world: &World, pond: &Pond, name: &str, below: u64, report: &mut Report) -> Result<()> {
    fs::read_dir(pond.path(""))?.count();
    let probe = pond.path("aside/probe");
    fs::create_dir(pond.path("aside"))?;
    File::create(&probe)?;
    let other = {
        let _entered = world.runtime.enter();
        let config = ClientConfig { masters: vec![pond.master()], ..ClientConfig::default() };
        Client::connect(config, Tasks::new(Shutdown::new()))?
    };
    let listing = || -> Result<f64> {
        #[expect(clippy::disallowed_methods, reason = "the pace of who looks now and then")]
        std::thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        let pages = other.list(NsPath::root(), ListOptions::default()).try_collect::<Vec<_>>();
        let entries: usize = world.runtime.block_on(pages)?.iter().map(|page| page.entries.len()).sum();
        ensure!(entries > 0, "the root of the mount is empty");
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    let mut alone = (0..RENAMES).map(|_| listing()).collect::<Result<Vec<_>>>()?;

    let (names, mut took, mut least) = ([pond.path(name), pond.path("elsewhere")], Vec::new(), Vec::new());
    let done = AtomicBool::new(false);
    let mut beside = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let lister = scope.spawn(|| {
            let mut listings = Vec::new();
            while !done.load(Ordering::Relaxed) {
                listings.push(listing()?);
            }
            anyhow::Ok(listings)
        });
        let renamed = (0..RENAMES).try_for_each(|turn| {
            let started = Instant::now();
            fs::set_permissions(&probe, Permissions::from_mode(if turn % 2 == 0 { 0o600 } else { 0o644 }))?;
            least.push(started.elapsed().as_secs_f64() * 1e3);
            let started = Instant::now();
            fs::rename(&names[turn % 2], &names[(turn + 1) % 2])?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            anyhow::Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let listings = lister.join().map_err(|_| anyhow!("the listing panicked"))?;
        renamed.and(listings)
    })?;
    let count = figure(float(below));
    let ratio = median(&took) / median(&least);
    let shown = |took: &mut Vec<f64>| format!("{:.2} ms ({:.2} ms)", median(took), percentile(took, 99));
    report.fact(
        &format!("rename of a directory with {count} files, listed lately: median (99th of 100), in turn with changes of a mode"),
        &shown(&mut least),
        &shown(&mut took),
        &format!("{ratio:.2} ×"),
        "≤ 2 ×, 99th < 10 ms",
    );
    let ratio = median(&beside) / median(&alone);
    report.fact(
        "another client's listing of the directory it lies in meanwhile: median (99th of 100), against the same before",
        &shown(&mut alone),
        &shown(&mut beside),
        &format!("{ratio:.2} ×"),
        "not delayed",
    );
    Ok(())
}

/// The value that so many of a hundred do not exceed.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

async fn put_all(world: &World, objects: impl Iterator<Item = (String, Bytes)>, parallel: usize) -> Result<()> {
    stream::iter(objects)
        .map(|(key, body)| async move { world.s3.put(&key, body).await.map(drop) })
        .buffer_unordered(parallel)
        .try_collect()
        .await
}

/// Writes a file as programs do, in steps of 1 MiB. What the close says is not heard: that the store has the file is checked behind.
fn write_file(path: &Path, body: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    for piece in body.chunks(1 << 20) {
        file.write_all(piece)?;
    }
    Ok(())
}
