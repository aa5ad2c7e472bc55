//! A writer that outruns the store is slowed, not failed, and what waits on a worker stays below its limit.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, Disk, close, eventually, is_root, noise, run_as, within, write_and_close};
use rustix::process::Signal;

use super::{cluster, must_be_persisted, must_read, sync, told::Status};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Half of the cache.
const LIMIT: usize = 32 * MIB;

const FILES: u64 = 30;

/// Bytes of contents that no store has, by the worker.
fn dirty(cluster: &Cluster) -> Result<usize> {
    Ok(format!("{}", cluster.workers[0].metric("headpond_worker_dirty_bytes", "")?).parse()?)
}

/// The bound holds, by what the master says that waits, and by what the worker keeps.
fn must_hold(cluster: &Cluster) -> Result<()> {
    let (due, dirty) = (Status::of(cluster, "/")?.due_bytes(), dirty(cluster)?);
    ensure!(due <= LIMIT as u64 && dirty <= LIMIT, "{due} bytes wait for the store, and the worker keeps {dirty}");
    Ok(())
}

/// Writes files of 4 MiB one after the other, the bytes of `n` into `name(n)`.
fn write_all(files: Range<u64>, path: impl Fn(u64) -> PathBuf, written: &AtomicUsize) -> Result<()> {
    for n in files {
        write_and_close(&path(n), &noise(n, 4 * MIB)).with_context(|| path(n).display().to_string())?;
        written.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Writes 4 MiB into each of `files`, one after the other.
fn fill(files: Vec<File>) -> std::io::Result<()> {
    (0..).zip(files).try_for_each(|(n, mut file)| {
        file.write_all(&noise(n, 4 * MIB))?;
        close(file)
    })
}

#[test]
fn a_writer_that_outruns_the_store_is_slowed_and_the_bound_holds() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_all(0..FILES, |n| cluster.path(0, &format!("f{n}")), &written));
        let watched = (|| {
            eventually("the worker is almost at its limit", || {
                ensure!(!writing.is_finished(), "the writer has ended: {:?} files", written);
                Ok(written.load(Ordering::SeqCst) * 4 * MIB > LIMIT * 3 / 4)
            })?;
            // What was acknowledged is read meanwhile, and nothing of it goes.
            for _ in 0..50 {
                must_read(&cluster.path(0, "f0"), &noise(0, 4 * MIB))?;
                ensure!(!writing.is_finished(), "the writer has ended although nothing could be persisted");
                must_hold(&cluster)?;
            }
            lake.proxy.behave(Behaviour::default());
            eventually("the writer is done", || {
                must_hold(&cluster)?;
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
        let writing = scope.spawn(|| fill(files));
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

#[test]
fn a_file_that_may_not_wait_for_the_store_is_stored_when_it_is_closed() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster =
        cluster(&lake, "async").store(&["--durability-rule", "scratch/*=scratch"]).capacity("64MiB").start()?;
    let path = |name: &str| cluster.path(0, name);
    let body = noise(1, 2 * LIMIT);
    let mut file = File::create(path("large"))?;
    for piece in body.chunks(MIB) {
        file.write_all(piece)?;
        ensure!(dirty(&cluster)? <= LIMIT, "{} bytes wait for the store", dirty(&cluster)?);
    }
    write_and_close(&path("small"), b"beside it").context("what fits beside it")?;
    close(file).context("closing it")?;
    ensure!(lake.get("large")? == body, "it is not in the store when it is closed");
    must_read(&path("large"), &body)?;
    // One that others know already, and that is written here and there.
    let mut expected = noise(2, 8 * MIB).to_vec();
    let mut file = File::options().read(true).write(true).create_new(true).open(path("grown"))?;
    file.write_all(&expected)?;
    file.sync_all()?;
    expected.resize(LIMIT + 12 * MIB, 0);
    for at in [LIMIT + 4 * MIB, LIMIT - 4 * MIB, 16 * MIB, 20 * MIB, 12 * MIB, 4 * MIB, LIMIT + 4 * MIB - 1] {
        let piece = noise(at as u64, 8 * MIB);
        file.write_all_at(&piece, at as u64).with_context(|| format!("at {at}"))?;
        expected[at..at + 8 * MIB].copy_from_slice(&piece);
    }
    close(file).context("closing what has grown")?;
    must_read(&path("grown"), &expected)?;
    sync(&cluster)?;
    ensure!(lake.get("grown")? == expected, "the object has other bytes");
    must_hold(&cluster)?;
    // What is not to be stored cannot.
    std::fs::create_dir(path("scratch"))?;
    let error = write_and_close(&path("scratch/large"), &body).expect_err("it does not fit");
    ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
    lake.must_have_no_uploads()
}

#[test]
fn a_mount_whose_store_is_stopped_stops_no_writer_of_another() -> Result<()> {
    let (lake, stopped) = (Lake::empty()?, Lake::empty()?);
    let cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    let later = ["--durability", "async"];
    cluster.add_store_with("/far", "s3://lake", &stopped.minio.endpoint(), Cluster::CREDENTIALS, &later)?;
    // A name that nobody asked for needs the store.
    let files = (0..FILES).map(|n| File::create_new(cluster.path(0, &format!("far/f{n}"))));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    stopped.minio.signal(Signal::STOP)?;
    let near = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| fill(files));
        let watched = (|| {
            until_somebody_waits(&cluster)?;
            // Many times what is left of the bound.
            write_all(0..FILES, |n| cluster.path(0, &format!("f{n}")), &near)?;
            must_hold(&cluster)?;
            cluster.run_ok(&["fs", "sync", "/f0", "--timeout", "90s"])?;
            ensure!(!writing.is_finished(), "the other writer has ended although nothing of it could be persisted");
            Ok(())
        })();
        stopped.minio.signal(Signal::CONT)?;
        let watched = watched.and_then(|()| {
            eventually("the other writer is done", || {
                must_hold(&cluster)?;
                Ok(writing.is_finished())
            })
        });
        let wrote = writing.join().expect("the writer returns errors");
        watched.and(wrote.map_err(Into::into))
    })?;
    sync(&cluster)?;
    for of in [&lake, &stopped] {
        let objects = of.objects()?;
        let arrived =
            (0..FILES).filter(|n| objects.get(&format!("f{n}")).is_some_and(|body| *body == noise(*n, 4 * MIB)));
        ensure!(arrived.count() == 30 && objects.len() == 30, "arrived: {:?}", objects.keys());
    }
    Ok(())
}

#[test]
fn what_a_worker_kept_counts_after_its_restart() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let written = AtomicUsize::new(0);
    write_all(0..6, |n| cluster.path(0, &format!("f{n}")), &written)?;
    eventually("the worker keeps them", || Ok(dirty(&cluster)? == 24 * MIB))?;
    cluster.workers[0].kill()?;
    cluster.workers[0].launch()?;
    cluster.wait_workers(1)?;
    ensure!(dirty(&cluster)? == 24 * MIB, "{} bytes count", dirty(&cluster)?);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_all(6..12, |n| cluster.path(0, &format!("f{n}")), &written));
        let watched = until_somebody_waits(&cluster).and_then(|()| {
            ensure!(written.load(Ordering::SeqCst) < 9, "{written:?} files were written, which is more than may wait");
            must_hold(&cluster)
        });
        lake.proxy.behave(Behaviour::default());
        let wrote = writing.join().expect("the writer returns errors");
        watched.and(wrote)
    })?;
    must_be_persisted(&lake, &cluster)
}

#[test]
fn a_disk_that_is_full_before_the_bound_is_no_space_and_loses_nothing() -> Result<()> {
    if !is_root() {
        run_as("a full disk", "an ordinary user: not at all, as he can make no file system that is small");
        return Ok(());
    }
    run_as("a full disk", "root: an ext4 of 48 MiB");
    let disk = Disk::fragile(48 << 20)?;
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").cache_dir(&disk.path().join("cache")).capacity("256MiB").start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let path = |n| cluster.path(0, &format!("f{n}"));
    let mut full = None;
    let mut kept = 0..0;
    for n in 0..FILES {
        let mut file = File::create(path(n))?;
        match file.write_all(&noise(n, 4 * MIB)).and_then(|()| close(file)) {
            Ok(()) => kept.end += 1,
            Err(error) => {
                full = Some(error);
                break;
            }
        }
    }
    let error = full.context("more was written than the disk holds")?;
    ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
    ensure!(kept.end > 4, "only {} files were written", kept.end);
    for n in kept.clone() {
        must_read(&path(n), &noise(n, 4 * MIB))?;
    }
    std::fs::remove_file(path(kept.end))?;
    lake.proxy.behave(Behaviour::default());
    must_be_persisted(&lake, &cluster)?;
    eventually("nothing has to be kept any more", || Ok(dirty(&cluster)? == 0))?;
    // What is cached then fills the disk, which is smaller than the cache was told.
    cluster.run_ok(&["fs", "free", "/f0", "/f1"])?;
    write_and_close(&path(100), &noise(100, 4 * MIB)).context("writing after all was persisted")?;
    must_be_persisted(&lake, &cluster)?;
    ensure!(lake.get("f100")? == noise(100, 4 * MIB), "other bytes arrived");
    Ok(())
}
