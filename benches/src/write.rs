//! Writing through the mount (`through`: close returns when the store has the object), against clients of the store itself; renames, and the
//! moving of objects that they begin.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use headpond_proto::v1::{ProbeRequest, admin_service_client::AdminServiceClient};
use headpond_tests::{Pond, eventually, noise};

use crate::{
    report::{Report, figure, median},
    world::{MIB, Scale, World, float},
};

/// Objects below a directory that is renamed.
const BELOW: u64 = 10_000;

/// Parts of the direct client's upload.
const PART: usize = 16 << 20;

/// Requests of the direct client in flight while it moves objects; the master has as many.
const MOVES: usize = 16;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let pond = world.pond().start()?;
    large(&world, &pond, scale, report)?;
    small(&world, &pond, scale, report)?;
    renames(&world, &pond, scale, report)
}

/// One large file, written from front to end.
fn large(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let length = 1024 * MIB / scale.divisor;
    let body = noise(3, usize::try_from(length)?);
    report.compare(
        scale,
        "sequential write and close, against a client that uploads 16 parts at a time",
        "MB/s",
        "≥ 0.9 ×",
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

/// Directories of many files: what the rename takes, what a listing beside it takes, and the moving of the objects.
fn renames(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let below = BELOW / scale.divisor;
    let rounds = scale.rounds + 1;
    let body = noise(5, 1024);
    for round in 0..=rounds {
        world.put((0..below).map(|n| (format!("tree-{round}/{n:05}"), body.clone())))?;
    }
    fs::create_dir(pond.path("beside"))?;
    let empty = durable_commands(world, pond)?;

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
    let (mut took, mut moved) = (Vec::new(), Vec::new());
    let (done, listings) = (AtomicBool::new(false), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                if fs::read_dir(pond.path("beside")).is_ok_and(|entries| entries.count() == 0) {
                    let mut listings = listings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    listings.push(started.elapsed().as_secs_f64() * 1e3);
                }
            }
        });
        let measured = (|| {
            for round in 1..=rounds {
                let (from, to) = (format!("tree-{round}"), format!("moved-{round}"));
                ensure!(fs::read_dir(pond.path(&from))?.count() as u64 == below, "files are missing");
                let started = Instant::now();
                fs::rename(pond.path(&from), pond.path(&to))?;
                took.push(started.elapsed().as_secs_f64() * 1e3);
                eventually("the objects are moved", || {
                    Ok(world.runtime.block_on(world.s3.list(&format!("{from}/")))?.is_empty())
                })?;
                moved.push(float(below) / started.elapsed().as_secs_f64());
            }
            anyhow::Ok(())
        })();
        done.store(true, Ordering::Relaxed);
        measured
    })?;
    let name =
        format!("rename of a directory with {} files: median, against an empty durable command", figure(float(below)));
    let (ours, worst) = (median(&took), took.iter().copied().fold(0., f64::max));
    report.fact(
        &name,
        &format!("{empty:.2} ms"),
        &format!("{ours:.2} ms (worst {worst:.2} ms)"),
        &format!("{:.2} ×", ours / empty),
        "≤ 2 ×, p99 < 10 ms",
    );
    let mut listings = listings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    listings.sort_by(f64::total_cmp);
    let p99 = listings.get(listings.len() * 99 / 100).copied().unwrap_or_default();
    report.fact("a listing of another directory meanwhile: p99", "", &format!("{p99:.2} ms"), "", "not delayed");
    report.fact(
        "moving the objects, against a client that copies and deletes 16 at a time",
        &format!("{} /s", figure(direct)),
        &format!("{} /s", figure(median(&moved))),
        &format!("{:.2} ×", median(&moved) / direct),
        "≥ 1 ×",
    );
    Ok(())
}

/// Milliseconds that a durable command without effect takes, one after the other.
fn durable_commands(world: &World, pond: &Pond) -> Result<f64> {
    world.runtime.block_on(async {
        let mut admin = AdminServiceClient::connect(format!("http://{}", pond.master())).await?;
        let mut took = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            admin.probe(ProbeRequest { durable: true }).await?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(median(&took))
    })
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
