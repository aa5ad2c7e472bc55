//! What a mount keeps in memory: nothing of a file that is neither open nor among the latest answers.

use std::fs::File;

use anyhow::{Result, ensure};
use headpond_tests::{Cluster, new_folder};

use crate::lake::Lake;

const FILES: usize = 10_000;

/// Bytes that a mount may grow for each file seen: what it would keep of one is more.
const EACH: u64 = 100;

/// Lists a directory, and looks up and asks about every file in it.
fn see(cluster: &Cluster, directory: usize) -> Result<()> {
    let path = cluster.path(0, &format!("files/{directory}"));
    let mut seen = 0;
    for entry in std::fs::read_dir(&path)? {
        ensure!(entry?.metadata()?.is_file(), "not a file in {}", path.display());
        seen += 1;
    }
    ensure!(seen == FILES, "{seen} files in {}", path.display());
    Ok(())
}

#[test]
fn a_mount_does_not_grow_with_the_files_ever_seen() -> Result<()> {
    const BEFORE: usize = 3;
    const AFTER: usize = 5;
    let files = new_folder()?;
    for directory in 0..BEFORE + AFTER {
        let directory = files.path().join(directory.to_string());
        std::fs::create_dir(&directory)?;
        for file in 0..FILES {
            File::create_new(directory.join(format!("file-{file:05}")))?;
        }
    }
    let lake = Lake::empty()?;
    // The latest answers are kept, up to a bound, which must have been reached before anything is measured.
    let mut cluster = lake.cluster().env("HEADPOND_CLIENT__METADATA_ENTRIES", "1000").start()?;
    cluster.add_directory("/files", files.path(), &[])?;
    for directory in 0..BEFORE {
        see(&cluster, directory)?;
    }
    let before = cluster.mounts[0].process()?.resident_bytes()?;
    for directory in BEFORE..BEFORE + AFTER {
        see(&cluster, directory)?;
    }
    let grown = cluster.mounts[0].process()?.resident_bytes()?.saturating_sub(before);
    let most = EACH * (AFTER * FILES) as u64;
    ensure!(grown <= most, "{} files more and the mount has {grown} bytes more", AFTER * FILES);
    Ok(())
}
