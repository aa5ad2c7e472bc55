//! Disks of a worker that fail while a mount reads: reads stay right, the fault is logged once and counted.

use std::{
    fs::{File, Permissions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, Disk, is_root, noise, run_as};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Objects of three pages.
fn objects(count: u64) -> Vec<(String, bytes::Bytes)> {
    (0..count).map(|n| (format!("f{n:02}"), noise(n, 3 * MIB))).collect()
}

/// Reads all of `objects` through the mount and over the network, twice.
fn read_all(cluster: &Cluster, objects: &[(String, bytes::Bytes)]) -> Result<()> {
    for round in 0..2 {
        for (key, body) in objects {
            ensure!(std::fs::read(cluster.path(0, key))? == body[..], "round {round}: {key} differs");
        }
    }
    for (key, body) in objects {
        let sum = cluster.run_ok(&["fs", "checksum", &format!("/{key}")])?;
        let expected = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body));
        ensure!(sum.starts_with(&expected), "{key} differs over the network: {sum}");
    }
    Ok(())
}

/// The lines that the worker has logged about its cache at a level that is seen.
fn complaints(cluster: &Cluster) -> Vec<String> {
    let output = cluster.workers[0].output();
    let lines = output.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    lines
        .filter(|line| line.contains("headpond_worker::cache") || line.contains("headpond_store"))
        .map(str::to_owned)
        .collect()
}

fn told_once_and_counted(cluster: &Cluster) -> Result<()> {
    let lines = complaints(cluster);
    ensure!(lines.len() == 1, "told {} times: {lines:#?}", lines.len());
    ensure!(cluster.workers[0].metric("headpond_worker_store_faults_total", "")? > 0.0, "not counted");
    Ok(())
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn a_full_disk_costs_no_read() -> Result<()> {
    let objects = objects(12);
    let lake = Lake::of(objects.clone())?;
    // Every file is open while the next are read, so that nothing can be evicted to make room.
    let read_open = |cluster: &Cluster| -> Result<()> {
        let mut open = Vec::new();
        for (key, body) in &objects {
            let file = File::open(cluster.path(0, key))?;
            let mut buffer = vec![0; body.len()];
            file.read_exact_at(&mut buffer, 0)?;
            ensure!(buffer == body[..], "{key} differs");
            open.push(file);
        }
        read_all(cluster, &objects)
    };
    if is_root() {
        run_as("a full disk", "root: a tmpfs of 16 MiB");
        let disk = Disk::small(16 << 20)?;
        let cluster = lake.cluster().cache_dir(disk.path()).start()?;
        read_open(&cluster)?;
        told_once_and_counted(&cluster)
    } else {
        run_as("a full disk", "an ordinary user: a limit of 2 MiB on files");
        let limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "bash"];
        let cluster = lake.cluster().worker_wrapper(&limited).start()?;
        read_open(&cluster)?;
        told_once_and_counted(&cluster)
    }
}

#[test]
fn a_cache_directory_that_turns_read_only_costs_no_read() -> Result<()> {
    let objects = objects(8);
    let lake = Lake::of(objects.clone())?;
    if is_root() {
        run_as("a read-only disk", "root: an ext4 that turns read-only at an error");
        let disk = Disk::fragile(96 << 20)?;
        let cluster = lake.cluster().cache_dir(&disk.path().join("cache")).start()?;
        read_all(&cluster, &objects[..4])?;
        disk.break_down()?;
        read_all(&cluster, &objects)?;
        told_once_and_counted(&cluster)
    } else {
        run_as("a read-only disk", "an ordinary user: directories without the right to write");
        let cluster = lake.cluster().start()?;
        read_all(&cluster, &objects[..4])?;
        let mut files = Vec::new();
        files_below(&cluster.cache_dir(0), &mut files)?;
        let folders: Vec<_> = files
            .iter()
            .filter_map(|file| file.parent())
            .chain([&*cluster.cache_dir(0).join("pages")])
            .map(Path::to_owned)
            .collect();
        let set =
            |mode| folders.iter().try_for_each(|folder| std::fs::set_permissions(folder, Permissions::from_mode(mode)));
        set(0o500)?;
        let read = read_all(&cluster, &objects).and_then(|()| told_once_and_counted(&cluster));
        set(0o700)?;
        read
    }
}

#[test]
fn a_cache_directory_that_vanishes_costs_no_read() -> Result<()> {
    let objects = objects(8);
    let lake = Lake::of(objects.clone())?;
    let cluster = lake.cluster().start()?;
    read_all(&cluster, &objects[..4])?;
    std::fs::remove_dir_all(cluster.cache_dir(0))?;
    read_all(&cluster, &objects)?;
    told_once_and_counted(&cluster)
}

/// Caches a file, flips a byte of it on the worker's disk, and lets `read` read it: right, from the store, told once, counted.
fn flipped(page: usize, read: impl FnOnce(&mut Cluster, &[u8]) -> Result<()>) -> Result<()> {
    let body = noise(1, 3 * MIB + 77);
    let lake = Lake::of([("f", body.clone())])?;
    let mut cluster = lake.cluster().start()?;
    ensure!(std::fs::read(cluster.path(0, "f"))? == body[..], "f differs");
    let mut files = Vec::new();
    files_below(&cluster.cache_dir(0), &mut files)?;
    let cached = files.iter().find(|file| file.metadata().is_ok_and(|found| found.len() == body.len() as u64));
    let file = File::options().read(true).write(true).open(cached.context("no cache file")?)?;
    let at = page * MIB + 4321;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64)?;
    ensure!(byte[0] == body[at], "{cached:?} is not the cache file");
    file.write_all_at(&[byte[0] ^ 4], at as u64)?;
    lake.proxy.reset();
    read(&mut cluster, &body)?;
    ensure!(!lake.object_gets().is_empty(), "the page did not come from the store");
    let counted = cluster.workers[0].metric("headpond_worker_cache_corrupt_pages_total", "")?;
    ensure!((counted - 1.0).abs() < 0.5, "{counted} corrupt pages were counted");
    told_once_and_counted(&cluster)
}

#[test]
fn a_flipped_byte_is_found_by_who_reads_over_the_network() -> Result<()> {
    flipped(0, |cluster, body| {
        let sum = cluster.run_ok(&["fs", "checksum", "/f"])?;
        let expected = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body));
        ensure!(sum.starts_with(&expected), "a corrupt page was sent");
        Ok(())
    })
}

#[test]
fn a_flipped_byte_is_found_before_a_restarted_worker_lends_the_file() -> Result<()> {
    flipped(2, |cluster, body| {
        cluster.mounts[0].stop()?;
        cluster.workers[0].kill()?;
        cluster.workers[0].launch()?;
        cluster.wait_workers(1)?;
        cluster.mounts[0].launch()?;
        ensure!(std::fs::read(cluster.path(0, "f"))? == body[..], "a corrupt page was lent");
        Ok(())
    })
}
