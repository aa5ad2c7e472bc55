//! Somebody killed while a file is stored, at moments that the store's proxy holds still.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, eventually, eventually_within, noise, write_and_close};

use super::{CONVERGED, Victim, Writing, each, keeps_answers, must_converge};
use crate::{check::must_be_clean, lake::Lake};

const MIB: usize = 1 << 20;

/// Kills somebody when the object of a file is in the store, and nobody has heard that it is.
fn killed_after_the_upload(victim: Victim, length: usize, method: &str, only: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().start()?;
    write_and_close(&cluster.path(0, "acknowledged"), b"1")?;
    let body = noise(1, length);
    lake.proxy.behave(keeps_answers(method, only));
    let writing = Writing::begin(&body, &cluster.path(0, "f"))?;
    eventually("the object is there", || Ok(lake.list()?.iter().any(|object| object.0 == "f")))?;
    victim.kill(&mut cluster)?;
    lake.proxy.behave(Behaviour::default());
    victim.launch(&mut cluster)?;
    println!("{victim:?} killed: {:?}", writing.end()?);
    // Acknowledged or not: the object is whole, so it is seen whole.
    let path = cluster.path(0, "f");
    eventually_within(Duration::from_secs(90), "the file is whole", || {
        Ok(std::fs::read(&path).is_ok_and(|read| read == body[..]))
    })?;
    ensure!(std::fs::read(cluster.path(0, "acknowledged"))? == b"1", "what was acknowledged is lost");
    must_converge(&lake, &cluster.path(0, ""), "", &[])?;
    ensure!(lake.get("f")? == body, "the object has other bytes");
    write_and_close(&path, b"again")?;
    ensure!(lake.get("f")? == "again", "it cannot be written again");
    must_be_clean(&cluster, CONVERGED)
}

#[test]
fn killed_when_the_object_is_there_but_nobody_knows() -> Result<()> {
    each(|victim| killed_after_the_upload(victim, 50_000, "PUT", "/lake/f"))
}

#[test]
fn killed_when_the_upload_is_complete_but_nobody_knows() -> Result<()> {
    each(|victim| killed_after_the_upload(victim, 20 * MIB, "POST", "uploadId="))
}

#[test]
fn killed_in_the_middle_of_an_upload_nothing_of_it_is_left() -> Result<()> {
    each(killed_in_the_middle)
}

fn killed_in_the_middle(victim: Victim) -> Result<()> {
    let lake = Lake::of([("old", "before")])?;
    let mut cluster = lake.cluster().start()?;
    // Before anything is sent ahead.
    lake.proxy.behave(keeps_answers("PUT", "partNumber=2"));
    let body = noise(1, 40 * MIB);
    let mut writing = Vec::new();
    for name in ["new", "old"] {
        writing.push((name, Writing::begin(&body, &cluster.path(0, name))?));
    }
    eventually("both uploads are under way", || {
        let requests = lake.proxy.requests();
        let seconds = requests.iter().filter(|request| request.target.contains("partNumber=2"));
        let keys: BTreeSet<_> = seconds.filter_map(|request| request.target.split('?').next()).collect();
        Ok(keys.len() == 2)
    })?;
    ensure!(lake.minio.uploads()? == 2, "{victim:?}: {} uploads", lake.minio.uploads()?);
    victim.kill(&mut cluster)?;
    lake.proxy.behave(Behaviour::default());
    victim.launch(&mut cluster)?;
    for (name, writing) in writing {
        let ended = writing.end()?;
        println!("{victim:?} killed: {name}: {ended:?}");
        // It is what was written, or what it was.
        let objects = lake.objects()?;
        let found = objects.get(name);
        let before = (name == "old").then(|| Bytes::from("before"));
        let length = found.map(Bytes::len);
        let is_right = found == Some(&body) || (found == before.as_ref() && !ended.is_acknowledged());
        ensure!(is_right, "{name} is neither whole nor as before: {ended:?}, {length:?} bytes");
        ensure!(
            ended.is_acknowledged() || victim != Victim::Master,
            "a master takes no file from its writer: {ended:?}"
        );
    }
    must_converge(&lake, &cluster.path(0, ""), "", &[])?;
    must_be_clean(&cluster, CONVERGED)
}
