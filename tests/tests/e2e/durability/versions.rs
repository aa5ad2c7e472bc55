//! Files that are changed in place while versions of them that were acknowledged are on their way to the store.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, eventually_within, noise, write_and_close};

use super::{cluster, must_read, sync};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Stamps in a file, which all tell its version.
const STAMPS: usize = 50;

/// What version `n` of a file of so many bytes is.
fn version(length: usize, n: u64) -> Vec<u8> {
    let mut body = noise(1, length).to_vec();
    stamps(length).for_each(|at| body[at..at + 8].copy_from_slice(&n.to_le_bytes()));
    body
}

fn stamps(length: usize) -> impl Iterator<Item = usize> {
    (0..STAMPS).map(move |n| n * (length / STAMPS) + 5)
}

fn change(file: &File, length: usize, n: u64) -> Result<()> {
    Ok(stamps(length).try_for_each(|at| file.write_all_at(&n.to_le_bytes(), at as u64))?)
}

/// The version that the object is; fails if it is none.
fn put_version(lake: &Lake, key: &str, length: usize) -> Result<u64> {
    let body = lake.get(key)?;
    let first = stamps(length).next().expect("there are some");
    let n = u64::from_le_bytes(*body.get(first..).and_then(|rest| rest.first_chunk()).context("too short")?);
    let told: Vec<_> = stamps(length).filter_map(|at| body.get(at).copied()).collect();
    ensure!(body == version(length, n), "the object is no version: {told:?}");
    Ok(n)
}

fn slow(lake: &Lake) {
    let method = "PUT".to_owned();
    lake.proxy.behave(Behaviour { first_byte: Duration::from_millis(700), method, ..Behaviour::default() });
}

/// Makes version 1 of a file, and has it acknowledged.
fn begin(path: &Path, length: usize) -> Result<File> {
    let file = OpenOptions::new().create_new(true).write(true).open(path)?;
    file.write_all_at(&version(length, 1), 0)?;
    file.sync_all()?;
    Ok(file)
}

/// Has a file changed and synced without end, while the store takes its time.
fn must_put_versions(lake: &Lake, cluster: &Cluster, mount: usize, length: usize) -> Result<()> {
    let key = format!("{mount}-{length}");
    slow(lake);
    let (file, stop, acknowledged) =
        (begin(&cluster.path(mount, &key), length)?, AtomicBool::new(false), AtomicU64::new(1));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            for n in 2.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                change(&file, length, n)?;
                file.sync_all()?;
                acknowledged.store(n, Ordering::SeqCst);
            }
            Ok(())
        });
        let (mut put, mut wrong) = (Vec::new(), None);
        let done = eventually_within(Duration::from_secs(60), "versions arrive while the file is written", || {
            if lake.get(&key).is_ok() {
                match put_version(lake, &key, length) {
                    Ok(n) if put.last() == Some(&n) => {}
                    Ok(n) => {
                        let so_far = acknowledged.load(Ordering::SeqCst);
                        ensure!(n <= so_far + 1, "version {n} was put, of {so_far}");
                        put.push(n);
                    }
                    Err(error) => wrong = Some(error),
                }
            }
            Ok(put.len() >= 3 || wrong.is_some() || writing.is_finished())
        });
        stop.store(true, Ordering::SeqCst);
        let wrote = writing.join().expect("errors are returned");
        println!("{key}: {} versions, of which {put:?} were put", acknowledged.load(Ordering::SeqCst));
        wrong.map_or(Ok(()), Err)?;
        done?;
        wrote
    })?;
    lake.proxy.behave(Behaviour::default());
    drop(file);
    let last = acknowledged.load(Ordering::SeqCst);
    must_read(&cluster.path(mount, &key), &version(length, last))?;
    sync(cluster)?;
    ensure!(put_version(lake, &key, length)? == last, "the last version is missing");
    Ok(())
}

#[test]
fn what_is_put_is_a_version_that_was_acknowledged() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").env("HEADPOND_MASTER__PERSIST_DELAY", "100ms").start()?;
    for mount in [0, cluster.mount(9)?] {
        for length in [8 * MIB, 100 * MIB] {
            must_put_versions(&lake, &cluster, mount, length)?;
        }
    }
    lake.must_have_no_uploads()
}

#[test]
fn a_version_arrives_although_its_file_is_changed_without_end_and_never_synced() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").start()?;
    for mount in [0, cluster.mount(9)?] {
        for length in [8 * MIB, 100 * MIB] {
            let (key, barrier) = (format!("{mount}-{length}/f"), format!("{mount}-{length}/_SUCCESS"));
            fs::create_dir(cluster.path(mount, &format!("{mount}-{length}")))?;
            slow(&lake);
            let (file, stop) = (begin(&cluster.path(mount, &key), length)?, AtomicBool::new(false));
            std::thread::scope(|scope| {
                let writing = scope.spawn(|| {
                    let versions = (2..).take_while(|_| !stop.load(Ordering::SeqCst));
                    versions.map(|n| change(&file, length, n)).collect::<Result<Vec<_>>>()
                });
                let put = (|| {
                    write_and_close(&cluster.path(mount, &barrier), b"")?;
                    eventually_within(Duration::from_secs(30), "the barrier arrives", || {
                        Ok(lake.get(&barrier).is_ok())
                    })?;
                    put_version(&lake, &key, length)
                })();
                stop.store(true, Ordering::SeqCst);
                writing.join().expect("errors are returned")?;
                ensure!(put? == 1, "another version than the one that was acknowledged");
                anyhow::Ok(())
            })?;
        }
    }
    lake.must_have_no_uploads()
}

#[test]
fn a_worker_that_is_killed_brings_back_what_was_acknowledged() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").workers(1).start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let lengths = [8 * MIB, 40 * MIB];
    let mut files = Vec::new();
    for length in lengths {
        let file = begin(&cluster.path(0, &length.to_string()), length)?;
        change(&file, length, 2)?;
        file.sync_all()?;
        change(&file, length, 3)?;
        file.set_len(1000)?;
        files.push(file);
    }
    cluster.workers[0].kill()?;
    cluster.workers[0].launch()?;
    drop(files);
    lake.proxy.behave(Behaviour::default());
    sync(&cluster)?;
    for length in lengths {
        ensure!(put_version(&lake, &length.to_string(), length)? == 2, "another version than the last one");
        must_read(&cluster.path(0, &length.to_string()), &version(length, 2))?;
    }
    Ok(())
}
