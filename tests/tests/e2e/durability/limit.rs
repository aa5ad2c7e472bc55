//! A writer that outruns the store is slowed, not failed, and what waits on a worker stays below its limit.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, close, eventually, noise, within, write_and_close};

use super::{cluster, must_be_persisted, must_read, told::Status};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Half of the cache.
const LIMIT: usize = 32 * MIB;

/// The file that is being written may be begun below the limit.
const SLACK: usize = 4 * MIB;

const FILES: usize = 30;

/// The bound holds, by what the master says that waits.
fn must_hold(cluster: &Cluster, written: &AtomicUsize) -> Result<()> {
    let waiting = Status::of(cluster, "/")?.due_bytes();
    ensure!(waiting <= (LIMIT + SLACK) as u64, "{waiting} bytes wait after {written:?} files");
    Ok(())
}

#[test]
fn a_writer_that_outruns_the_store_is_slowed_and_the_bound_holds() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 0..FILES {
                write_and_close(&cluster.path(0, &format!("f{n}")), &noise(n as u64, 4 * MIB))?;
                written.fetch_add(1, Ordering::SeqCst);
            }
            anyhow::Ok(())
        });
        let watched = (|| {
            eventually("the worker is almost at its limit", || {
                ensure!(!writing.is_finished(), "the writer has ended: {:?} files", written);
                Ok(written.load(Ordering::SeqCst) * 4 * MIB > LIMIT * 3 / 4)
            })?;
            // What was acknowledged is read meanwhile, and nothing of it goes.
            for _ in 0..50 {
                must_read(&cluster.path(0, "f0"), &noise(0, 4 * MIB))?;
                ensure!(!writing.is_finished(), "the writer has ended although nothing could be persisted");
                must_hold(&cluster, &written)?;
            }
            lake.proxy.behave(Behaviour::default());
            eventually("the writer is done", || {
                must_hold(&cluster, &written)?;
                Ok(writing.is_finished())
            })
        })();
        lake.proxy.behave(Behaviour::default());
        let wrote = writing.join().expect("the writer returns errors");
        watched.and(wrote)
    })?;
    must_be_persisted(&lake, &cluster)
}

/// Waits until a writer waits for room.
fn until_somebody_waits(cluster: &Cluster) -> Result<()> {
    let waiting = || Ok(cluster.workers[0].metric("headpond_worker_waiting_writers", "")? > 0.0);
    eventually("a writer waits for room", waiting)
}

#[test]
fn a_writer_waits_while_the_store_is_away_and_what_needs_no_room_goes_on() -> Result<()> {
    let mut lake = Lake::of([("old", noise(1, 100_000))])?;
    let cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    must_read(&cluster.path(0, "old"), &noise(1, 100_000))?;
    let told = cluster.workers[0].metric("headpond_worker_dirty_limit_bytes", "")?;
    ensure!((told - LIMIT as f64).abs() < 1.0, "another limit: {told}");
    // A name that nobody asked for needs the store.
    let files = (0..10).map(|n| File::create_new(cluster.path(0, &format!("f{n}")))).collect::<Result<Vec<_>, _>>()?;
    let mut open = File::create_new(cluster.path(0, "open"))?;
    lake.minio.kill()?;
    open.write_all(&noise(2, 5_000))?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            (0..).zip(files).try_for_each(|(n, mut file)| {
                file.write_all(&noise(n, 4 * MIB))?;
                close(file)
            })
        });
        let watched = (|| {
            until_somebody_waits(&cluster)?;
            must_read(&cluster.path(0, "old"), &noise(1, 100_000))?;
            must_read(&cluster.path(0, "f0"), &noise(0, 4 * MIB))?;
            let finish = move || open.sync_all().and_then(|()| close(open));
            within(Cluster::DEADLINE, "fsync and close of what was staged", finish)??;
            ensure!(!writing.is_finished(), "the writer has ended although nothing could be persisted");
            lake.minio.restart()?;
            eventually("the writer is done", || Ok(writing.is_finished()))
        })();
        let wrote = writing.join().expect("the writer returns errors");
        watched.and(wrote.map_err(Into::into))
    })?;
    must_be_persisted(&lake, &cluster)?;
    eventually("what was set aside is given back", || {
        let reserved = cluster.workers[0].metric("headpond_worker_reserved_bytes", "")?;
        let dirty = cluster.workers[0].metric("headpond_worker_dirty_bytes", "")?;
        Ok(reserved == 0.0 && dirty == 0.0)
    })
}

#[test]
fn where_nothing_is_to_be_persisted_the_writer_hears_that_there_is_no_space() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "scratch").capacity("64MiB").start()?;
    let write = |n: u64| -> std::io::Result<()> {
        let mut file = File::create(cluster.path(0, &format!("f{n}")))?;
        file.write_all(&noise(n, 4 * MIB))?;
        close(file)
    };
    let (mut kept, mut full) = (Vec::new(), None);
    for n in 0..2 * (LIMIT / 4 / MIB) as u64 {
        match write(n) {
            Ok(()) => kept.push(n),
            Err(error) => {
                full = Some(error);
                break;
            }
        }
    }
    let error = full.context("more was written than may wait")?;
    ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
    ensure!(kept.len() * 4 * MIB > LIMIT * 3 / 4, "only {} files were written", kept.len());
    let told = cluster.workers[0].output();
    ensure!(told.contains("worker.dirty_limit"), "the worker does not say why");
    for n in &kept {
        must_read(&cluster.path(0, &format!("f{n}")), &noise(*n, 4 * MIB))?;
    }
    std::fs::remove_file(cluster.path(0, "f0"))?;
    write(100).context("writing after something was removed")?;
    must_read(&cluster.path(0, "f100"), &noise(100, 4 * MIB))
}
