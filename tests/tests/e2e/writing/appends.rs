//! Large files that are changed behind a long beginning: the store copies that within itself.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
    time::Duration,
};

use anyhow::{Result, ensure};
use headpond_tests::{Behaviour, append_and_close, close, eventually, noise};

use super::must_read;
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Forgets what passed, makes a change, and fails unless the object is as expected and no more than `most` MiB were sent for it.
fn must_cost(lake: &Lake, expected: &[u8], most: usize, change: impl FnOnce() -> Result<()>) -> Result<()> {
    lake.proxy.reset();
    change()?;
    let (taken, copies) = (lake.proxy.taken(), lake.copies().len());
    ensure!(lake.get("f")? == expected, "the object has other bytes");
    ensure!(taken <= (most * MIB) as u64, "{taken} bytes were sent, and {copies} parts copied");
    Ok(())
}

#[test]
fn of_a_large_file_only_what_was_changed_is_sent() -> Result<()> {
    let mut expected = noise(1, 70 * MIB + 5).to_vec();
    let lake = Lake::of([("f", expected.clone())])?;
    let mut cluster = lake.cluster().start()?;
    for mount in [0, cluster.mount(9)?] {
        let path = cluster.path(mount, "f");
        expected.extend_from_slice(b"appended");
        must_cost(&lake, &expected, 2, || Ok(append_and_close(&path, b"appended")?))?;
        must_read(&path, &expected)?;

        // In the middle, and with many persists of one open file.
        let file = OpenOptions::new().write(true).open(&path)?;
        expected[40 * MIB..][..5].copy_from_slice(b"other");
        must_cost(&lake, &expected, 33, || {
            file.write_all_at(b"other", 40 * MIB as u64)?;
            Ok(file.sync_all()?)
        })?;
        for round in 0..3 {
            let bytes = noise(round + 10, 300_000);
            let end = expected.len() as u64;
            expected.extend_from_slice(&bytes);
            must_cost(&lake, &expected, 3, || {
                file.write_all_at(&bytes, end)?;
                Ok(file.sync_all()?)
            })?;
        }
        close(file)?;

        // Cut off, to a length that is none of whole pages.
        expected.truncate(71 * MIB - 3);
        must_cost(&lake, &expected, 1, || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(expected.len() as u64)?;
            Ok(close(file)?)
        })?;
        must_read(&path, &expected)?;
        // What was stored is cached with the right checksums: nothing is fetched once more, however it is read.
        cluster.run_ok(&["fs", "free", "/f"])?;
        must_read(&path, &expected)?;
    }

    // An object that was moved has another version than the one that was read, and is the same content.
    std::fs::rename(cluster.path(0, "f"), cluster.path(0, "g"))?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    expected.extend_from_slice(b"moved");
    lake.proxy.reset();
    append_and_close(&cluster.path(0, "g"), b"moved")?;
    ensure!(lake.get("g")? == expected, "the object has other bytes");
    ensure!(lake.proxy.taken() < 2 * MIB as u64, "{} bytes were sent", lake.proxy.taken());
    lake.must_have_no_uploads()
}

#[test]
fn a_file_that_is_synced_as_it_grows_costs_what_it_grows_by() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    let (mut file, mut expected) = (File::create_new(cluster.path(0, "f"))?, Vec::new());
    for (round, grows) in (0..).zip([70, 40, 40]) {
        let bytes = noise(round, grows * MIB);
        expected.extend_from_slice(&bytes);
        must_cost(&lake, &expected, grows + 1, || {
            file.write_all(&bytes)?;
            Ok(file.sync_all()?)
        })?;
    }
    close(file)?;
    must_read(&cluster.path(0, "f"), &expected)?;
    lake.must_have_no_uploads()
}

#[test]
fn bytes_that_change_while_they_are_copied_are_stored_as_they_are() -> Result<()> {
    let mut expected = noise(1, 70 * MIB).to_vec();
    let lake = Lake::of([("f", expected.clone())])?;
    let cluster = lake.cluster().start()?;
    let file = OpenOptions::new().write(true).open(cluster.path(0, "f"))?;
    file.write_all_at(b"appended", 70 * MIB as u64)?;
    expected.extend_from_slice(b"appended");
    lake.proxy.behave(Behaviour { first_byte: Duration::from_secs(2), copies: true, ..Behaviour::default() });
    let changed = std::thread::scope(|scope| -> Result<()> {
        let syncing = scope.spawn(|| file.sync_all());
        eventually("a part is being copied", || Ok(!lake.copies().is_empty()))?;
        file.write_all_at(b"other", 5)?;
        Ok(syncing.join().expect("no panic")?)
    });
    changed?;
    expected[5..10].copy_from_slice(b"other");
    // What was stored is what is read, be it with the change or without.
    let object = lake.get("f")?;
    ensure!(object.len() == expected.len() && object[10..] == expected[10..], "the object has other bytes");
    close(file)?;
    ensure!(lake.get("f")? == expected, "the object has other bytes once all is closed");
    must_read(&cluster.path(0, "f"), &expected)?;
    cluster.run_ok(&["fs", "free", "/f"])?;
    must_read(&cluster.path(0, "f"), &expected)?;
    lake.must_have_no_uploads()
}

#[test]
fn a_store_that_copies_nothing_is_sent_all() -> Result<()> {
    let mut expected = noise(1, 40 * MIB).to_vec();
    let lake = Lake::of([("f", expected.clone())])?;
    let cluster = lake.cluster().start()?;
    for status in [501, 403] {
        lake.proxy.behave(Behaviour { answer: Some(status), copies: true, ..Behaviour::default() });
        expected.extend_from_slice(b"appended");
        append_and_close(&cluster.path(0, "f"), b"appended")?;
        ensure!(lake.get("f")? == expected, "{status}: the object has other bytes");
        must_read(&cluster.path(0, "f"), &expected)?;
    }
    lake.must_have_no_uploads()
}

#[test]
fn an_object_that_was_replaced_meanwhile_lends_no_bytes() -> Result<()> {
    let body = noise(1, 40 * MIB);
    let lake = Lake::of([("f", body.clone()), ("gone", body)])?;
    let cluster = lake.cluster().start()?;
    let open = |key: &str| -> Result<File> {
        let mut file = OpenOptions::new().append(true).open(cluster.path(0, key))?;
        file.write_all(b"appended")?;
        Ok(file)
    };
    let (file, gone) = (open("f")?, open("gone")?);
    let another = noise(2, 50 * MIB);
    lake.put("f", another.clone())?;
    lake.delete("gone")?;
    ensure!(close(file).is_err() && close(gone).is_err(), "closing says that all is well");
    ensure!(lake.get("f")? == another, "another's object was overwritten");
    ensure!(lake.get("gone").is_err(), "it came back");
    eventually("another's bytes are seen", || {
        Ok(std::fs::read(cluster.path(0, "f")).is_ok_and(|read| read == another))
    })?;
    lake.must_have_no_uploads()
}
