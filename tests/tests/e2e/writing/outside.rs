//! The bucket changes behind our back while we change it: nothing that others wrote is overwritten or deleted.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, close, eventually, eventually_within, noise};

use super::{must_read, must_soon_be_gone, must_soon_read};
use crate::{check::must_be_clean, lake::Lake};

#[test]
fn an_object_that_was_replaced_meanwhile_is_not_overwritten() -> Result<()> {
    let lake = Lake::of([("small", noise(1, 1_000)), ("large", noise(1, 1_000))])?;
    let cluster = lake.cluster().start()?;
    // Above 16 MiB the condition is on the end of a multipart upload.
    for (key, length) in [("small", 5_000), ("large", 20 << 20)] {
        let mut file = OpenOptions::new().write(true).truncate(true).open(cluster.path(0, key))?;
        file.write_all(&noise(2, length))?;
        lake.put(key, "another's")?;
        let closed = close(file);
        ensure!(closed.is_err(), "{key}: closing says that all is well");
        ensure!(lake.get(key)? == "another's", "{key}: another's object was overwritten");
        eventually("another's bytes are seen", || {
            Ok(std::fs::read(cluster.path(0, key)).is_ok_and(|read| read == b"another's"))
        })?;
    }
    lake.must_have_no_uploads()
}

#[test]
fn an_object_that_came_meanwhile_is_not_overwritten_by_a_new_file() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    for (key, length) in [("small", 5_000), ("large", 20 << 20)] {
        let mut file = File::create_new(cluster.path(0, key))?;
        file.write_all(&noise(2, length))?;
        lake.put(key, "another's")?;
        ensure!(close(file).is_err(), "{key}: closing says that all is well");
        ensure!(lake.get(key)? == "another's", "{key}: another's object was overwritten");
        eventually("another's bytes are seen", || {
            Ok(std::fs::read(cluster.path(0, key)).is_ok_and(|read| read == b"another's"))
        })?;
    }
    lake.must_have_no_uploads()
}

#[test]
fn an_object_that_went_meanwhile_is_not_made_again() -> Result<()> {
    let lake = Lake::of([("f", noise(1, 1_000))])?;
    let cluster = lake.cluster().start()?;
    let mut file = OpenOptions::new().append(true).open(cluster.path(0, "f"))?;
    file.write_all(b"more")?;
    lake.delete("f")?;
    ensure!(close(file).is_err(), "closing says that all is well");
    ensure!(lake.list()?.is_empty(), "it came back: {:?}", lake.list()?);
    eventually("it is gone here too", || Ok(!cluster.path(0, "f").exists()))
}

#[test]
fn an_object_that_is_not_the_one_we_know_is_not_deleted() -> Result<()> {
    let lake = Lake::of([("f", noise(1, 1_000))])?;
    let cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "f"), &noise(1, 1_000))?;
    lake.put("f", "another's")?;
    // Either it is seen as another's and goes as a user wants, or it is left alone: what goes is never what was not seen.
    let removed = std::fs::remove_file(cluster.path(0, "f"));
    match removed {
        Err(_) => ensure!(lake.get("f")? == "another's", "refused, and it went all the same"),
        Ok(()) => ensure!(!cluster.path(0, "f").exists(), "removed, and still there"),
    }
    Ok(())
}

#[test]
fn an_object_in_the_way_of_a_renamed_directory_is_left_alone_until_it_goes() -> Result<()> {
    let files: Vec<_> = (0..10).map(|n| (format!("old/f{n}"), Bytes::from(n.to_string()))).collect();
    let lake = Lake::of(files.clone())?;
    let cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "old/f0"), b"0")?;
    // Nothing comes through to the new prefix before another's object is there.
    lake.proxy.behave(Behaviour { answer: Some(503), only: "/lake/new/".to_owned(), ..Behaviour::default() });
    std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new"))?;
    lake.put("new/f5", "another's")?;
    lake.proxy.behave(Behaviour::default());
    eventually("the trouble is told", || Ok(cluster.run_ok(&["admin", "status", "-o", "json"])?.contains("new/f5")))?;
    let problems = cluster.run_ok(&["admin", "problems", "-o", "json"])?;
    ensure!(problems.contains("new/f5") && problems.contains("\"path\":\"/new"), "admin problems says {problems:?}");
    ensure!(lake.get("new/f5")? == "another's", "another's object was overwritten");
    for (n, (_, body)) in files.iter().enumerate() {
        must_read(&cluster.path(0, &format!("new/f{n}")), body)?;
    }
    lake.delete("new/f5")?;
    let expected = files.into_iter().map(|(key, body)| (key.replace("old", "new"), body)).collect();
    // It is tried again every 30 s.
    let patience = Duration::from_secs(45);
    eventually_within(patience, "the objects have moved", || {
        Ok(lake.list()?.iter().all(|object| object.0.starts_with("new/")))
    })?;
    lake.must_become(&expected)
}

#[test]
fn what_an_object_says_of_itself_moves_along() -> Result<()> {
    let lake = Lake::empty()?;
    let says = ["text/csv", "gzip", "of somebody else"];
    for (key, length) in [("d/empty", 0), ("d/small", 1_000), ("d/middle", 2 << 20), ("d/large", 70 << 20)] {
        lake.put_saying(key, noise(1, length), says)?;
    }
    let cluster = lake.cluster().start()?;
    std::fs::rename(cluster.path(0, "d"), cluster.path(0, "e"))?;
    std::fs::hard_link(cluster.path(0, "e/small"), cluster.path(0, "link"))?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    for key in ["e/empty", "e/small", "e/middle", "e/large", "link"] {
        eventually(&format!("{key} has been stored"), || Ok(lake.said(key).is_ok()))?;
        ensure!(lake.said(key)? == says, "{key} says {:?}", lake.said(key));
    }
    Ok(())
}

#[test]
fn a_source_that_is_replaced_while_it_moves_is_moved_as_it_is_then() -> Result<()> {
    let files: Vec<_> = (0..10).map(|n| (format!("old/f{n}"), Bytes::from(n.to_string()))).collect();
    let lake = Lake::of(files)?;
    let cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "old/f5"), b"5")?;
    lake.proxy.behave(Behaviour { answer: Some(503), only: "/lake/new/".to_owned(), ..Behaviour::default() });
    std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new"))?;
    lake.put("old/f5", "another's")?;
    lake.proxy.behave(Behaviour::default());
    // Nothing of another's is lost: it is where it was put, or it went along.
    eventually("the other objects have moved", || {
        Ok((0..10).filter(|n| *n != 5).all(|n| lake.get(&format!("new/f{n}")).is_ok()))
    })?;
    let kept = ["old/f5", "new/f5"].iter().any(|key| lake.get(key).is_ok_and(|body| body == "another's"));
    ensure!(kept, "another's object is gone: {:?}", lake.list()?);
    Ok(())
}

/// Ten are deleted by one request, four one by one.
#[test]
fn what_changes_between_the_copy_and_the_deletion_of_what_moves_is_left_alone() -> Result<()> {
    for (count, method, only) in [(10, "POST", "delete"), (4, "DELETE", "/lake/old/")] {
        what_changes_before_the_deletion(count, method, only).with_context(|| format!("{count} objects"))?;
    }
    Ok(())
}

fn what_changes_before_the_deletion(count: usize, method: &str, only: &str) -> Result<()> {
    let mut expected: BTreeMap<_, _> =
        (0..count).map(|n| (format!("new/f{n}"), Bytes::from(format!("of file {n}")))).collect();
    let lake = Lake::of(expected.iter().map(|(key, body)| (key.replace("new", "old"), body.clone())))?;
    let cluster = lake.cluster().start()?;
    must_read(&cluster.path(0, "old/f0"), b"of file 0")?;
    let (method, only) = (method.to_owned(), only.to_owned());
    let deletions = || {
        let requests = lake.proxy.requests().into_iter();
        requests.filter(|request| request.method == method && request.target.contains(&only)).count()
    };
    lake.proxy.behave(Behaviour { hang: true, method: method.clone(), only: only.clone(), ..Behaviour::default() });
    std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new"))?;
    eventually("all have been copied, and the deletion of the sources has been asked for", || {
        Ok(expected.keys().all(|key| lake.get(key).is_ok()) && deletions() > 0)
    })?;
    lake.put("old/f1", "another's, where it was")?;
    lake.delete("new/f2")?;
    lake.put("new/f3", "another's, where it is")?;
    eventually("it is told that the objects cannot be moved", || {
        let problems = cluster.run_ok(&["admin", "problems", "-o", "json"])?;
        Ok(problems.lines().any(|line| line.contains("\"path\":\"/new\"")))
    })?;
    lake.proxy.behave(Behaviour::default());
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
    expected.insert("old/f1".to_owned(), "another's, where it was".into());
    expected.remove("new/f2");
    expected.insert("new/f3".to_owned(), "another's, where it is".into());
    lake.must_become(&expected)?;
    // What came to the old place while it was hidden is shown when that is free, as a file of its own.
    for (key, body) in &expected {
        must_soon_read(&cluster.path(0, key), body)?;
    }
    must_soon_be_gone(&cluster.path(0, "new/f2"))?;
    let problems = cluster.run_ok(&["admin", "problems", "-o", "json"])?;
    ensure!(!problems.contains("\"path\":\"/new\""), "it is still told of {problems}");
    must_be_clean(&cluster, Duration::from_secs(30))
}
