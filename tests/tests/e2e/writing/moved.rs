//! Files that are open, and not in the cache, while their objects follow a rename.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{close, noise};

use super::must_read;
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Reads a little of `file` at each of `offsets`, far enough apart that nothing is read ahead.
fn must_have(file: &File, body: &[u8], offsets: &[usize]) -> Result<()> {
    for &offset in offsets {
        let mut read = [0; 4096];
        file.read_exact_at(&mut read, offset as u64).with_context(|| format!("reading at {offset}"))?;
        ensure!(read == body[offset..offset + read.len()], "other bytes at {offset}");
    }
    Ok(())
}

#[test]
fn what_was_opened_before_is_read_and_written_after_its_object_has_moved() -> Result<()> {
    let bodies = [noise(1, 40 * MIB), noise(2, 40 * MIB), noise(3, 40 * MIB)];
    let lake = Lake::of((0..3).map(|n| (format!("a/f{n}"), bodies[n].clone())))?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    // A reader on this mount, one on another, and a writer that has written nothing yet.
    let readers = [File::open(cluster.path(0, "a/f0"))?, File::open(cluster.path(other, "a/f1"))?];
    let mut writer = OpenOptions::new().append(true).open(cluster.path(0, "a/f2"))?;
    let mut objects = lake.objects()?;
    for (round, (from, to)) in [("a", "b"), ("b", "c"), ("c", "a")].into_iter().enumerate() {
        std::fs::rename(cluster.path(0, from), cluster.path(0, to))?;
        objects = objects.into_iter().map(|(key, body)| (key.replacen(from, to, 1), body)).collect();
        lake.must_become(&objects)?;
        for (reader, body) in readers.iter().zip(&bodies) {
            must_have(reader, body, &[(3 + 10 * round) * MIB, (8 + 10 * round) * MIB])
                .with_context(|| format!("after the move to {to}"))?;
        }
    }
    writer.write_all(b"appended").context("appending to what has moved")?;
    close(writer)?;
    let appended = [&bodies[2][..], b"appended"].concat();
    for (name, body) in [("a/f0", &bodies[0][..]), ("a/f1", &bodies[1]), ("a/f2", &appended)] {
        ensure!(lake.get(name)? == body, "the object of {name} has other bytes");
        must_read(&cluster.path(0, name), body)?;
    }
    Ok(())
}
