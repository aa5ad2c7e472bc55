//! Files that are written: as objects, through other mounts, and again.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{ErrorKind, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{can_passthrough, close, noise, write_and_close};
use rustix::{fs::Advice, io::Errno};

use super::{errno, must_read, must_soon_read, names};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

#[test]
fn a_written_file_is_an_object_and_others_read_it_after_close() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().workers(2).start()?;
    // One on the node of each worker, and one without a worker.
    let mounts = [0, cluster.mount(1)?, cluster.mount(9)?];
    for (round, length) in [0, 1, 4096, 100_000, 3 * MIB + 7].into_iter().enumerate() {
        for writer in mounts {
            let (key, body) = (format!("from-{writer}-{round}"), noise(round as u64 + 10 * writer as u64, length));
            for reader in mounts {
                let absent = std::fs::read(cluster.path(reader, &key)).err().map(|error| error.kind());
                ensure!(absent == Some(ErrorKind::NotFound), "{key} is there before it was written: {absent:?}");
            }
            write_and_close(&cluster.path(writer, &key), &body)?;
            ensure!(lake.get(&key)? == body, "the object {key} has other bytes");
            must_read(&cluster.path(writer, &key), &body)?;
            for reader in mounts {
                must_soon_read(&cluster.path(reader, &key), &body)?;
            }
        }
    }
    for reader in mounts {
        ensure!(names(&cluster.path(reader, ""))?.len() == 15, "{:?}", names(&cluster.path(reader, "")));
    }
    ensure!(lake.list()?.len() == 15, "{:?}", lake.list()?);
    lake.must_have_no_uploads()
}

#[test]
fn a_file_written_again_is_read_as_new_by_whom_opens_it_and_as_old_by_whom_has_it_open() -> Result<()> {
    let lake = Lake::of([("d/f", noise(1, 300_000))])?;
    let mut cluster = lake.cluster().workers(2).start()?;
    let other = cluster.mount(1)?;
    must_read(&cluster.path(other, "d/f"), &noise(1, 300_000))?;
    let held = File::open(cluster.path(other, "d/f"))?;
    write_and_close(&cluster.path(0, "d/f"), &noise(2, 200_000))?;
    must_read(&cluster.path(0, "d/f"), &noise(2, 200_000))?;
    for mount in [0, other] {
        must_soon_read(&cluster.path(mount, "d/f"), &noise(2, 200_000))?;
        ensure!(std::fs::metadata(cluster.path(mount, "d/f"))?.len() == 200_000, "mount {mount} shows another size");
    }
    let mut buffer = vec![0; 300_000];
    held.read_exact_at(&mut buffer, 0)?;
    ensure!(buffer == noise(1, 300_000)[..], "who has it open sees other bytes");
    ensure!(held.metadata()?.len() == 300_000 || can_passthrough(), "who has it open is shown another length");
    ensure!(lake.get("d/f")? == noise(2, 200_000), "the object has other bytes");
    Ok(())
}

#[test]
fn who_reads_a_cold_file_that_another_mount_writes_reads_his_version_or_is_told() -> Result<()> {
    let lake = Lake::of([("f", noise(1, 40 * MIB))])?;
    let mut cluster = lake.cluster().workers(2).start()?;
    let other = cluster.mount(1)?;
    let held = File::open(cluster.path(other, "f"))?;
    let mut buffer = vec![0; MIB];
    held.read_exact_at(&mut buffer, 0)?;
    ensure!(buffer == noise(1, 40 * MIB)[..MIB], "the bytes differ");
    // Once shorter and once longer than that.
    for (seed, length) in [(2, 30 * MIB), (3, 50 * MIB)] {
        write_and_close(&cluster.path(0, "f"), &noise(seed, length))?;
        must_read(&cluster.path(other, "f"), &noise(seed, length))?;
        for at in (0..40).rev() {
            match held.read_exact_at(&mut buffer, (at * MIB) as u64) {
                Ok(()) => {
                    ensure!(buffer == noise(1, 40 * MIB)[at * MIB..][..MIB], "other bytes at {at} MiB");
                }
                Err(error) => {
                    ensure!(error.raw_os_error() == Some(Errno::STALE.raw_os_error()), "{error} at {at} MiB");
                    ensure!(at > 0, "what was read before cannot be read any more");
                }
            }
        }
    }
    must_read(&cluster.path(other, "f"), &noise(3, 50 * MIB))
}

#[test]
fn a_file_that_is_read_is_opened_to_write_and_read() -> Result<()> {
    let lake = Lake::of([("f", noise(1, MIB))])?;
    let cluster = lake.cluster().start()?;
    let path = cluster.path(0, "f");
    must_read(&path, &noise(1, MIB))?;
    let held = File::open(&path)?;
    let both = OpenOptions::new().read(true).write(true).open(&path)?;
    both.write_all_at(b"changed", 10)?;
    let mut read = [0; 9];
    both.read_exact_at(&mut read, 9)?;
    ensure!(read[1..8] == *b"changed", "what was written is not read");
    close(both)?;
    let mut expected = noise(1, MIB).to_vec();
    expected[10..17].copy_from_slice(b"changed");
    must_read(&path, &expected)?;
    ensure!(lake.get("f")? == expected, "the object has other bytes");
    let mut buffer = vec![0; MIB];
    held.read_exact_at(&mut buffer, 0)?;
    // Whom the kernel passes through has the version that he opened; others of the mount see what is written.
    let seen = if can_passthrough() { noise(1, MIB) } else { expected.into() };
    ensure!(buffer == seen[..], "who had it open sees other bytes");
    Ok(())
}

#[test]
fn parts_are_overwritten_appended_and_cut_off() -> Result<()> {
    let body = noise(1, 2 * MIB + 10);
    let lake = Lake::of([("f", body.clone())])?;
    let mut cluster = lake.cluster().start()?;
    let mut expected = body.to_vec();
    for mount in [0, cluster.mount(9)?] {
        let path = cluster.path(mount, "f");
        let mut file = OpenOptions::new().append(true).open(&path)?;
        file.write_all(b"appended")?;
        close(file)?;
        expected.extend_from_slice(b"appended");
        ensure!(lake.get("f")? == expected, "appended through mount {mount}, the object has other bytes");

        let file = OpenOptions::new().write(true).open(&path)?;
        file.write_all_at(b"in the middle", MIB as u64 - 5)?;
        close(file)?;
        expected[MIB - 5..MIB + 8].copy_from_slice(b"in the middle");
        ensure!(lake.get("f")? == expected, "overwritten through mount {mount}, the object has other bytes");

        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.set_len(MIB as u64 + 3)?;
        file.seek(SeekFrom::Start(MIB as u64 + 100))?;
        file.write_all(b"past the end")?;
        file.sync_all()?;
        expected.truncate(MIB + 3);
        expected.resize(MIB + 100, 0);
        expected.extend_from_slice(b"past the end");
        ensure!(lake.get("f")? == expected, "synced through mount {mount}, the object has other bytes");
        close(file)?;
        must_read(&path, &expected)?;
    }
    ensure!(lake.list()?.len() == 1, "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_large_file_goes_in_parts_and_is_whole() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().start()?;
    let without_worker = cluster.mount(9)?;
    for (mount, length) in [(0, 40 * MIB + 12_345), (without_worker, 17 * MIB)] {
        let (key, body) = (format!("large-{mount}"), noise(length as u64, length));
        write_and_close(&cluster.path(mount, &key), &body)?;
        ensure!(lake.get(&key)? == body, "the object {key} has other bytes");
        for reader in [0, without_worker] {
            must_soon_read(&cluster.path(reader, &key), &body)?;
        }
        // One part of it changes, and the new version goes in parts as well.
        let file = OpenOptions::new().write(true).open(cluster.path(mount, &key))?;
        file.write_all_at(b"changed", 1_000_000)?;
        close(file)?;
        let mut changed = body.to_vec();
        changed[1_000_000..1_000_007].copy_from_slice(b"changed");
        ensure!(lake.get(&key)? == changed, "changed, the object {key} has other bytes");
    }
    let requests = lake.proxy.requests();
    let parts = requests.iter().filter(|request| request.method == "PUT" && request.target.contains("partNumber="));
    ensure!(parts.count() >= 2 * (3 + 2), "few parts: {requests:?}");
    lake.must_have_no_uploads()
}

#[test]
fn what_was_written_is_cached() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().start()?;
    let sizes = [1, 100_000, 5 * MIB, 20 * MIB];
    for length in sizes {
        write_and_close(&cluster.path(0, &length.to_string()), &noise(1, length))?;
    }
    // The kernel of a mount that wrote nothing has nothing in memory.
    let other = cluster.mount(0)?;
    lake.proxy.reset();
    for (mount, length) in [0, other].into_iter().flat_map(|mount| sizes.map(|length| (mount, length))) {
        let path = cluster.path(mount, &length.to_string());
        rustix::fs::fadvise(File::open(&path)?, 0, None, Advice::DontNeed)?;
        must_read(&path, &noise(1, length))?;
    }
    ensure!(lake.object_gets().is_empty(), "what was just written is fetched: {:?}", lake.object_gets());
    Ok(())
}

#[test]
fn attributes_that_were_set_are_seen_by_others_and_outlive_a_restart() -> Result<()> {
    let lake = Lake::of([("read", "1")])?;
    let mut cluster = lake.cluster().start()?;
    let other = cluster.mount(9)?;
    std::fs::create_dir(cluster.path(0, "d"))?;
    write_and_close(&cluster.path(0, "d/written"), b"2")?;
    let at = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    let paths = ["read", "d", "d/written"];
    for path in paths {
        std::fs::set_permissions(cluster.path(0, path), Permissions::from_mode(0o710))?;
        File::open(cluster.path(0, path))?.set_modified(at)?;
    }
    let check = |cluster: &headpond_tests::Cluster, when: &str| -> Result<()> {
        for (mount, path) in [0, other].into_iter().flat_map(|mount| paths.map(|path| (mount, path))) {
            let found = std::fs::metadata(cluster.path(mount, path))?;
            ensure!(found.mode() & 0o7777 == 0o710, "{when}: {path} has mode {:o} in mount {mount}", found.mode());
            ensure!(found.modified()? == at, "{when}: {path} was modified at {:?} in mount {mount}", found.modified()?);
        }
        Ok(())
    };
    headpond_tests::eventually("all mounts have heard of it", || Ok(check(&cluster, "set").is_ok()))?;
    cluster.master.kill()?;
    cluster.master.launch()?;
    headpond_tests::eventually("the mounts are in session again", || {
        Ok([0, other].iter().all(|mount| names(&cluster.path(*mount, "")).is_ok()))
    })?;
    check(&cluster, "after a restart")
}

#[test]
fn a_mount_that_is_read_only_beside_one_that_is_not_refuses_changes() -> Result<()> {
    let lake = Lake::of([("d/f", "1")])?;
    let mut cluster = lake.cluster().start()?;
    let reader = cluster.mount_with(0, &["-o", "ro"])?;
    write_and_close(&cluster.path(0, "d/new"), b"2")?;
    must_soon_read(&cluster.path(reader, "d/new"), b"2")?;
    let refused = [
        errno("create", File::create_new(cluster.path(reader, "d/other")))?,
        errno("write", OpenOptions::new().write(true).open(cluster.path(reader, "d/f")))?,
        errno("mkdir", std::fs::create_dir(cluster.path(reader, "e")))?,
        errno("unlink", std::fs::remove_file(cluster.path(reader, "d/f")))?,
        errno("rename", std::fs::rename(cluster.path(reader, "d"), cluster.path(reader, "e")))?,
    ];
    ensure!(refused == [Errno::ROFS.raw_os_error(); 5], "{refused:?}");
    Ok(())
}

#[test]
fn an_open_file_outlives_its_name() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = lake.cluster().start()?;
    let path = cluster.path(0, "f");
    write_and_close(&path, &noise(1, 100_000))?;
    let writer = OpenOptions::new().read(true).write(true).open(&path)?;
    let reader = File::open(&path)?;
    std::fs::remove_file(&path)?;
    ensure!(!path.exists() && lake.list()?.is_empty(), "the name is still there");
    let mut buffer = vec![0; 100_000];
    reader.read_exact_at(&mut buffer, 0).context("reading")?;
    ensure!(buffer == noise(1, 100_000)[..], "the open file differs");
    writer.write_all_at(b"still here", 0).context("writing")?;
    let mut buffer = [0; 10];
    writer.read_exact_at(&mut buffer, 0).context("reading what was written")?;
    ensure!(&buffer == b"still here", "what was written is not read");
    close(writer).context("closing")?;
    ensure!(!path.exists() && lake.list()?.is_empty(), "the name came back");
    Ok(())
}
