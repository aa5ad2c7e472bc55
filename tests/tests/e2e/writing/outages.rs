//! Stores that fail while they are written to: the writer hears of it, and nothing that was acknowledged is lost.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, close, eventually, noise, within, write_and_close};
use rustix::io::Errno;

use super::{errno, must_read};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// What a close may take: the worker's deadline, after which the mount gives its own answer.
const CLOSE: Duration = Duration::from_secs(3 * Cluster::DEADLINE.as_secs());

/// Closes a file that is written; the verdict of close(2).
fn closes(file: File) -> Result<std::io::Result<()>> {
    within(CLOSE, "closing a file", move || close(file))
}

/// Closes a file on a thread of its own.
fn closing(file: File) -> JoinHandle<std::io::Result<()>> {
    std::thread::spawn(move || close(file))
}

/// Waits for a close that began while the store was away. If it failed, the file is written again, which succeeds.
fn must_be_written(closed: JoinHandle<std::io::Result<()>>, path: &Path, body: &[u8]) -> Result<()> {
    match closed.join().map_err(|_| anyhow::anyhow!("closing panicked"))? {
        Ok(()) => println!("{}: close has waited for the store", path.display()),
        Err(error) => {
            println!("{}: close answers {error}", path.display());
            eventually("the store is believed to be back", || Ok(write_and_close(path, body).is_ok()))?;
        }
    }
    must_read(path, body)
}

#[test]
fn a_store_that_dies_while_a_file_is_written_loses_nothing_that_was_acknowledged() -> Result<()> {
    let mut lake = Lake::of([("f", noise(1, 10_000))])?;
    let cluster = lake.cluster().start()?;
    write_and_close(&cluster.path(0, "acknowledged"), &noise(2, 50_000))?;
    let mut new = File::create_new(cluster.path(0, "new"))?;
    let mut old = OpenOptions::new().append(true).open(cluster.path(0, "f"))?;
    new.write_all(&noise(3, 40 * MIB))?;
    old.write_all(b"more")?;
    let appended = [&noise(1, 10_000)[..], b"more"].concat();
    lake.minio.kill()?;
    lake.proxy.reset();
    let (new, old) = (closing(new), closing(old));
    eventually("the store is missed", || Ok(lake.proxy.connections() > 2))?;
    must_read(&cluster.path(0, "acknowledged"), &noise(2, 50_000))?;
    lake.minio.restart()?;
    must_be_written(new, &cluster.path(0, "new"), &noise(3, 40 * MIB))?;
    must_be_written(old, &cluster.path(0, "f"), &appended)?;
    let expected = [("acknowledged", noise(2, 50_000)), ("f", appended.into()), ("new", noise(3, 40 * MIB))];
    for (path, body) in &expected {
        must_read(&cluster.path(0, path), body)?;
    }
    lake.must_become(&expected.map(|(key, body)| (key.to_owned(), body)).into())
}

#[test]
fn a_store_that_dies_in_the_middle_of_an_upload_keeps_no_half_of_it() -> Result<()> {
    let mut lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    let mut file = File::create_new(cluster.path(0, "f"))?;
    file.write_all(&noise(1, 60 * MIB))?;
    lake.proxy.reset();
    lake.proxy.behave(Behaviour { first_byte: Duration::from_secs(1), ..Behaviour::default() });
    let closed = closing(file);
    eventually("parts are on their way", || {
        Ok(closed.is_finished() || lake.proxy.requests().iter().any(|request| request.target.contains("partNumber=")))
    })?;
    ensure!(!closed.is_finished(), "closed before the store was killed");
    lake.minio.kill()?;
    lake.proxy.behave(Behaviour::default());
    lake.minio.restart()?;
    must_be_written(closed, &cluster.path(0, "f"), &noise(1, 60 * MIB))?;
    lake.must_become(&[("f".to_owned(), noise(1, 60 * MIB))].into())
}

#[test]
fn a_store_that_refuses_is_heard_of_at_close_and_nothing_changes() -> Result<()> {
    let lake = Lake::of([("f", noise(1, 10_000))])?;
    let cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "f"), &noise(1, 10_000))?;
    let before = lake.objects()?;
    lake.proxy.behave(Behaviour { answer: Some(403), method: "PUT".to_owned(), ..Behaviour::default() });
    for (what, length) in [("small", 5_000), ("large", 20 * MIB)] {
        let mut new = File::create_new(cluster.path(0, &format!("new-{what}")))?;
        new.write_all(&noise(2, length))?;
        let refused = errno("closing a new file", closes(new)?)?;
        ensure!(refused == Errno::ACCESS.raw_os_error(), "{what}: closing a new file answers {refused}");
        let mut old = OpenOptions::new().write(true).truncate(true).open(cluster.path(0, "f"))?;
        old.write_all(&noise(2, length))?;
        let refused = errno("closing an old file", closes(old)?)?;
        ensure!(refused == Errno::ACCESS.raw_os_error(), "{what}: closing an old file answers {refused}");
    }
    let refused = errno("mkdir", std::fs::create_dir(cluster.path(0, "d")))?;
    ensure!(refused == Errno::ACCESS.raw_os_error(), "mkdir answers {refused}");
    ensure!(lake.objects()? == before, "the bucket changed: {:?}", lake.list()?);
    lake.must_have_no_uploads()?;
    // A file whose writer failed is what it was, and one that never was one is not there.
    eventually("the old version is read", || {
        Ok(std::fs::read(cluster.path(0, "f")).is_ok_and(|read| read == noise(1, 10_000)[..]))
    })?;
    eventually("what was never stored is gone", || {
        Ok(!cluster.path(0, "new-small").exists() && !cluster.path(0, "new-large").exists())
    })?;
    lake.proxy.behave(Behaviour { answer: Some(403), method: "DELETE".to_owned(), ..Behaviour::default() });
    let refused = errno("unlink", std::fs::remove_file(cluster.path(0, "f")))?;
    ensure!(refused == Errno::ACCESS.raw_os_error(), "unlink answers {refused}");
    must_read(&cluster.path(0, "f"), &noise(1, 10_000))?;
    lake.proxy.behave(Behaviour::default());
    write_and_close(&cluster.path(0, "f"), b"allowed")?;
    ensure!(lake.get("f")? == "allowed", "the object has other bytes");
    Ok(())
}

#[test]
fn a_store_that_is_busy_for_a_moment_is_tried_again() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    let mut file = File::create_new(cluster.path(0, "f"))?;
    file.write_all(&noise(1, 3 * MIB))?;
    let before = lake.proxy.requests().len();
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let closing = std::thread::spawn(move || closes(file));
    eventually("the store was asked twice", || Ok(closing.is_finished() || lake.proxy.requests().len() > before + 1))?;
    lake.proxy.behave(Behaviour::default());
    closing.join().map_err(|_| anyhow::anyhow!("closing panicked"))??.context("closing")?;
    ensure!(lake.get("f")? == noise(1, 3 * MIB), "the object has other bytes");
    Ok(())
}

#[test]
fn a_store_that_hangs_holds_up_nobody_else_and_is_waited_for() -> Result<()> {
    let lake = Lake::of([("f", "1")])?;
    let cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "f"), b"1")?;
    let mut file = File::create_new(cluster.path(0, "new"))?;
    file.write_all(b"2")?;
    lake.proxy.reset();
    lake.proxy.behave(Behaviour { hang: true, ..Behaviour::default() });
    let closed = closing(file);
    let puts = || lake.proxy.requests().iter().filter(|request| request.method == "PUT").count();
    eventually("it is tried again", || Ok(closed.is_finished() || puts() > 1))?;
    must_read(&cluster.path(0, "f"), b"1")?;
    let directory = cluster.path(0, "d");
    let made = within(CLOSE, "making a directory", move || std::fs::create_dir(directory))?;
    ensure!(made.is_err(), "made a directory although the store hangs");
    lake.proxy.behave(Behaviour::default());
    must_be_written(closed, &cluster.path(0, "new"), b"2")?;
    ensure!(lake.get("new")? == "2", "the object has other bytes");
    Ok(())
}

#[test]
fn an_answer_that_is_lost_is_not_waited_for() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    for (name, length, method, only) in
        [("small", 50_000, "PUT", "/lake/small"), ("large", 20 * MIB, "POST", "uploadId=")]
    {
        let mut file = File::create_new(cluster.path(0, name))?;
        file.write_all(&noise(1, length))?;
        // Longer than any deadline.
        let first_byte = Duration::from_secs(600);
        let (method, only) = (method.to_owned(), only.to_owned());
        lake.proxy.behave(Behaviour { first_byte, method, only, ..Behaviour::default() });
        closes(file)?.with_context(|| format!("closing the {name} file"))?;
        ensure!(lake.get(name)? == noise(1, length), "the {name} object has other bytes");
        must_read(&cluster.path(0, name), &noise(1, length))?;
    }
    lake.must_have_no_uploads()
}
