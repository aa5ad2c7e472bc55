//! Files that are copied within a mount: the store copies what it has.

use std::{
    fs::{self, File},
    io::Write as _,
    ops::Range,
    os::unix::fs::FileExt as _,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, ClusterBuilder, Command, close, eventually, noise};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::fs::copy_file_range;

use crate::lake::Lake;

const MIB: usize = 1 << 20;
const DURABILITIES: [&str; 2] = ["through", "async"];

fn cluster(lake: &Lake, durability: &str) -> ClusterBuilder {
    lake.cluster().store(&["--durability", durability])
}

/// Copies up to `length` bytes between the same places of two files: how many.
fn copy(from: &File, to: &File, offset: usize, length: usize) -> Result<usize> {
    let (mut at, mut to_at, mut copied) = (offset as u64, offset as u64, 0);
    while copied < length {
        match copy_file_range(from, Some(&mut at), to, Some(&mut to_at), length - copied)? {
            0 => break,
            some => copied += some,
        }
    }
    Ok(copied)
}

/// Fails unless a mount shows these bytes, and the store has them soon, for which so many MiB are sent since the proxy was reset.
fn must_arrive(lake: &Lake, cluster: &Cluster, (key, expected): (&str, &[u8]), mib: Range<usize>) -> Result<()> {
    let path = cluster.path(0, key);
    let must_read = || {
        let read = fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(read == expected, "{key} reads as {} bytes that differ from the {}", read.len(), expected.len());
        Ok(())
    };
    must_read()?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    ensure!(lake.get(key)? == expected, "the object {key} has other bytes");
    let (taken, copies) = (lake.proxy.taken(), lake.copies().len());
    let bounds = (mib.start * MIB) as u64..(mib.end * MIB) as u64;
    ensure!(bounds.contains(&taken), "{taken} bytes were sent for {key}, and {copies} parts copied");
    // What was stored is cached with the right checksums, and fetched as it was.
    must_read()?;
    cluster.run_ok(&["fs", "free", &format!("/{key}")])?;
    must_read()
}

#[test]
fn a_large_file_is_copied_by_the_store() -> Result<()> {
    for durability in DURABILITIES {
        let bytes = noise(1, 70 * MIB + 5);
        let lake = Lake::of([("f", bytes.clone())])?;
        let mut cluster = cluster(&lake, durability).start()?;
        // A node without a worker of its own.
        let far = cluster.mount(9)?;
        let copied_from_f = |key: &str| {
            let requests = lake.proxy.requests();
            let copies = requests.iter().filter(|request| request.target.starts_with(&format!("/lake/{key}?")));
            copies.filter(|request| request.copies.as_ref().is_some_and(|from| from.ends_with("lake/f"))).count()
        };
        // As it was found in the store, once it was read, and over what was there.
        for (mount, key) in [(0, "g"), (0, "h"), (0, "g"), (far, "far"), (far, "h")] {
            lake.proxy.reset();
            let (from, to) = (File::open(cluster.path(mount, "f"))?, File::create(cluster.path(mount, key))?);
            ensure!(copy(&from, &to, 0, usize::MAX >> 2)? == bytes.len(), "the file has more bytes than were copied");
            close(to)?;
            must_arrive(&lake, &cluster, (key, &bytes), 0..2).context(durability)?;
            ensure!(copied_from_f(key) > 0, "{durability}: nothing was copied to {key}");
        }
        lake.proxy.reset();
        let cp = Command::new("cp").arg(cluster.path(0, "f")).arg(cluster.path(0, "cp")).status()?;
        ensure!(cp.success(), "cp fails");
        must_arrive(&lake, &cluster, ("cp", &bytes), 0..2).context(durability)?;
        // A copy of the copy, which was written here.
        lake.proxy.reset();
        let cp = Command::new("cp").arg(cluster.path(0, "cp")).arg(cluster.path(0, "again")).status()?;
        ensure!(cp.success(), "cp fails");
        must_arrive(&lake, &cluster, ("again", &bytes), 0..2).context(durability)?;
        lake.must_have_no_uploads()?;
    }
    Ok(())
}

#[test]
fn a_copy_that_is_changed_has_the_changes() -> Result<()> {
    for durability in DURABILITIES {
        let original = noise(1, 70 * MIB + 5);
        let lake = Lake::of([("f", original.clone())])?;
        let cluster = cluster(&lake, durability).start()?;
        let from = File::open(cluster.path(0, "f"))?;
        let make = |key: &str| -> Result<File> {
            let to = File::create_new(cluster.path(0, key))?;
            copy(&from, &to, 0, original.len())?;
            lake.proxy.reset();
            Ok(to)
        };
        let must_have = |to: File, key: &str, expected: &[u8], mib| -> Result<()> {
            close(to)?;
            must_arrive(&lake, &cluster, (key, expected), mib).context(durability)
        };
        // In the middle: what lies before that is copied.
        let (to, mut expected) = (make("middle")?, original.to_vec());
        to.write_all_at(b"other", 40 * MIB as u64)?;
        expected[40 * MIB..][..5].copy_from_slice(b"other");
        must_have(to, "middle", &expected, 30..33)?;

        let (to, mut expected) = (make("front")?, original.to_vec());
        to.write_all_at(b"other", 0)?;
        expected[..5].copy_from_slice(b"other");
        must_have(to, "front", &expected, 70..73)?;

        // A hole is none of it.
        let (to, mut expected) = (make("hole")?, original.to_vec());
        rustix::fs::fallocate(
            &to,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            50 * MIB as u64,
            77,
        )?;
        expected[50 * MIB..][..77].fill(0);
        must_have(to, "hole", &expected, 20..23)?;

        let (to, mut expected) = (make("longer")?, original.to_vec());
        to.write_all_at(b"behind", original.len() as u64)?;
        expected.extend_from_slice(b"behind");
        must_have(to, "longer", &expected, 0..2)?;

        // Cut, and made longer again: the bytes are gone.
        let (to, mut expected) = (make("cut")?, original.to_vec());
        to.set_len(33 * MIB as u64 - 3)?;
        to.set_len(40 * MIB as u64)?;
        expected.truncate(33 * MIB - 3);
        expected.resize(40 * MIB, 0);
        must_have(to, "cut", &expected, 7..10)?;

        // Made durable halfway, once with a change that comes later.
        let to = File::create_new(cluster.path(0, "synced"))?;
        lake.proxy.reset();
        copy(&from, &to, 0, 35 * MIB)?;
        to.sync_all()?;
        copy(&from, &to, 35 * MIB, original.len())?;
        must_have(to, "synced", &original, 0..3)?;
        let (to, mut expected) = (make("later")?, original.to_vec());
        to.sync_all()?;
        to.write_all_at(b"other", 60 * MIB as u64)?;
        expected[60 * MIB..][..5].copy_from_slice(b"other");
        must_have(to, "later", &expected, 10..14)?;

        // Only what is at the same place is copied.
        let mut to = File::create_new(cluster.path(0, "shifted"))?;
        lake.proxy.reset();
        to.write_all(b"x")?;
        let (mut at, mut to_at) = (0, 1);
        while copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), usize::MAX >> 2)? > 0 {}
        must_have(to, "shifted", &[b"x", &original[..]].concat(), 70..73)?;
        lake.must_have_no_uploads()?;
    }
    Ok(())
}

#[test]
fn what_was_read_of_a_version_that_was_replaced_is_sent() -> Result<()> {
    for durability in DURABILITIES {
        let original = noise(1, 70 * MIB + 5);
        let lake = Lake::of(["f", "gone", "half", "moved", "written", "removed"].map(|key| (key, original.clone())))?;
        let cluster = cluster(&lake, durability).start()?;
        let begin = |key: &str, length: usize| -> Result<(File, File)> {
            let (from, to) =
                (File::open(cluster.path(0, key))?, File::create_new(cluster.path(0, &format!("{key}-2")))?);
            ensure!(copy(&from, &to, 0, length)? == length, "fewer bytes were copied");
            lake.proxy.reset();
            Ok((from, to))
        };
        let another = noise(2, 80 * MIB);
        let (_from, to) = begin("f", original.len())?;
        lake.put("f", another.clone())?;
        close(to)?;
        must_arrive(&lake, &cluster, ("f-2", &original), 70..73).context(durability)?;
        ensure!(lake.get("f")? == another, "another's object was overwritten");

        let (_from, to) = begin("gone", original.len())?;
        lake.delete("gone")?;
        close(to)?;
        must_arrive(&lake, &cluster, ("gone-2", &original), 70..73).context(durability)?;

        // Before all of it was copied: the rest cannot be had, or is of the same version.
        let (from, to) = begin("half", 40 * MIB)?;
        lake.put("half", another.clone())?;
        let rest = copy(&from, &to, 40 * MIB, original.len());
        let length = 40 * MIB + rest.unwrap_or(0);
        close(to)?;
        let read = fs::read(cluster.path(0, "half-2"))?;
        ensure!(read.len() >= length && read == original[..read.len()], "a mixture of {} bytes", read.len());
        must_arrive(&lake, &cluster, ("half-2", &read), 40..73).context(durability)?;

        // By a program of the mount.
        let (_from, to) = begin("written", original.len())?;
        fs::write(cluster.path(0, "written"), "another")?;
        close(to)?;
        must_arrive(&lake, &cluster, ("written-2", &original), 70..73).context(durability)?;
        let (_from, to) = begin("removed", original.len())?;
        fs::remove_file(cluster.path(0, "removed"))?;
        close(to)?;
        must_arrive(&lake, &cluster, ("removed-2", &original), 70..73).context(durability)?;

        // It was moved: the store has it, elsewhere.
        let (_from, to) = begin("moved", original.len())?;
        fs::rename(cluster.path(0, "moved"), cluster.path(0, "moved-3"))?;
        eventually("the object is moved", || Ok(lake.get("moved-3").is_ok() && lake.get("moved").is_err()))?;
        close(to)?;
        must_arrive(&lake, &cluster, ("moved-2", &original), 0..2).context(durability)?;
        lake.must_have_no_uploads()?;
    }
    Ok(())
}

#[test]
fn a_store_that_copies_nothing_is_sent_all() -> Result<()> {
    let bytes = noise(1, 40 * MIB);
    for durability in DURABILITIES {
        let lake = Lake::of([("f", bytes.clone())])?;
        let cluster = cluster(&lake, durability).start()?;
        lake.proxy.behave(Behaviour { answer: Some(501), copies: true, ..Behaviour::default() });
        let (from, to) = (File::open(cluster.path(0, "f"))?, File::create_new(cluster.path(0, "g"))?);
        copy(&from, &to, 0, bytes.len())?;
        close(to)?;
        must_arrive(&lake, &cluster, ("g", &bytes), 40..43).context(durability)?;
        lake.must_have_no_uploads()?;
    }
    Ok(())
}

#[test]
fn a_worker_that_is_started_anew_sends_what_was_copied() -> Result<()> {
    let bytes = noise(1, 40 * MIB);
    let lake = Lake::of([("f", bytes.clone())])?;
    let mut cluster = cluster(&lake, "async").workers(1).start()?;
    let (from, to) = (File::open(cluster.path(0, "f"))?, File::create_new(cluster.path(0, "g"))?);
    copy(&from, &to, 0, bytes.len())?;
    lake.proxy.behave(Behaviour { answer: Some(503), only: "/lake/g".to_owned(), ..Behaviour::default() });
    close(to)?;
    cluster.workers[0].kill()?;
    cluster.workers[0].launch()?;
    lake.proxy.reset();
    lake.proxy.behave(Behaviour::default());
    eventually("the object arrives", || Ok(lake.get("g").is_ok_and(|body| body == bytes)))?;
    must_arrive(&lake, &cluster, ("g", &bytes), 40..43)?;
    lake.must_have_no_uploads()
}

/// Copies, changes, cuts and syncs in any order: what is stored is what a list of bytes would have.
#[test]
fn copies_and_changes_in_any_order_are_stored_as_they_were_made() -> Result<()> {
    let seed = std::env::var("HEADPOND_TEST_SEED").ok().map_or(Ok(20_261), |seed| seed.parse())?;
    println!("HEADPOND_TEST_SEED={seed}");
    let originals = [1, 2].map(|n| noise(n, 48 * MIB + 7));
    for durability in DURABILITIES {
        let lake = Lake::of([("0", originals[0].clone()), ("1", originals[1].clone())])?;
        let cluster = cluster(&lake, durability).start()?;
        let sources = [File::open(cluster.path(0, "0"))?, File::open(cluster.path(0, "1"))?];
        let (mut rng, mut copied) = (StdRng::seed_from_u64(seed), 0);
        for round in 0..10 {
            let (mut file, mut expected) = (File::create(cluster.path(0, "copy"))?, Vec::new());
            lake.proxy.reset();
            for step in 0..rng.random_range(1..8) {
                let at_end = step == 0 || rng.random_bool(0.5);
                let start = if at_end { expected.len().min(47 * MIB) } else { rng.random_range(0..47 * MIB) };
                let length = rng.random_range(1..MIB);
                match if step == 0 { 9 } else { rng.random_range(0..10) } {
                    0 => {
                        file.set_len(start as u64)?;
                        expected.resize(start, 0);
                    }
                    1 => {
                        expected.resize(expected.len().max(start + length), 0);
                        expected[start..start + length].fill(9);
                        file.write_all_at(&expected[start..start + length], start as u64)?;
                    }
                    2 => file.sync_all()?,
                    3 => {
                        close(file)?;
                        file = File::options().write(true).open(cluster.path(0, "copy"))?;
                    }
                    _ => {
                        let which = usize::from(rng.random_bool(0.2));
                        let end = start + copy(&sources[which], &file, start, length * 40)?;
                        expected.resize(expected.len().max(end), 0);
                        expected[start..end].copy_from_slice(&originals[which][start..end]);
                    }
                }
            }
            close(file)?;
            let arrived = must_arrive(&lake, &cluster, ("copy", &expected), 0..1000);
            arrived.with_context(|| format!("HEADPOND_TEST_SEED={seed}, {durability}, round {round}"))?;
            copied += lake.copies().len();
        }
        ensure!(copied > 0, "nothing was copied");
        lake.must_have_no_uploads()?;
    }
    Ok(())
}

#[test]
fn a_copy_under_a_temporary_name_is_made_by_the_store_under_its_last() -> Result<()> {
    let bytes = noise(1, 40 * MIB);
    let lake = Lake::of([("f", bytes.clone())])?;
    let cluster = cluster(&lake, "deferred").start()?;
    fs::create_dir(cluster.path(0, "_temporary"))?;
    let (from, to) = (File::open(cluster.path(0, "f"))?, File::create_new(cluster.path(0, "_temporary/g"))?);
    copy(&from, &to, 0, bytes.len())?;
    close(to)?;
    lake.proxy.reset();
    fs::rename(cluster.path(0, "_temporary/g"), cluster.path(0, "g"))?;
    must_arrive(&lake, &cluster, ("g", &bytes), 0..2)?;
    lake.must_have_no_uploads()
}
