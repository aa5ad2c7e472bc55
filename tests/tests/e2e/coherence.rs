//! What one mount changes, another sees (P2, P3).

mod races;
mod renames;
mod sessions;

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, can_guard};

use crate::lake::Lake;

/// Turns of each race.
const ROUNDS: usize = 1000;

/// Longest validity of what a master answers here.
const LEASE: Duration = Duration::from_secs(2);

/// A cluster with two mounts, A and B, on different nodes.
struct Two {
    cluster: Cluster,
    _lake: Lake,
}

impl Two {
    fn start() -> Result<Self> {
        Self::with_lease(LEASE)
    }

    fn with_lease(lease: Duration) -> Result<Self> {
        Self::with_store(lease, &[])
    }

    /// With `store` as arguments with which the store is shown.
    fn with_store(lease: Duration, store: &[&str]) -> Result<Self> {
        ensure!(
            can_guard(),
            "these tests need a mount that can be guarded: run them as root, or mount /sys/fs/fuse/connections"
        );
        let lake = Lake::empty()?;
        let lease = format!("{}s", lease.as_secs());
        let mut cluster = lake.cluster().env("HEADPOND_MASTER__CLIENT_LEASE", &lease).store(store).start()?;
        cluster.mount(1)?;
        let two = Self { cluster, _lake: lake };
        two.wait_mounted()?;
        Ok(two)
    }

    fn wait_mounted(&self) -> Result<()> {
        for mount in 0..2 {
            fs::read_dir(self.cluster.path(mount, ""))?.count();
        }
        Ok(())
    }

    fn a(&self, below: &str) -> std::path::PathBuf {
        self.cluster.path(0, below)
    }

    fn b(&self, below: &str) -> std::path::PathBuf {
        self.cluster.path(1, below)
    }
}

/// Its names, in order.
fn names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[test]
fn what_is_closed_on_one_mount_is_read_on_another() -> Result<()> {
    let two = Two::start()?;
    for directory in ["same", "new"] {
        fs::create_dir(two.a(directory))?;
        for round in 0..ROUNDS / 2 {
            let name = if directory == "same" { "same/f".to_owned() } else { format!("new/f{round}") };
            let (path, body) = (two.b(&name), format!("{round}").repeat(round % 7 + 1));
            // What the kernel of B knows before: nothing, or the last version.
            drop(fs::metadata(&path));
            if round % 3 == 0 {
                names(&two.b(directory))?;
            }
            fs::write(two.a(&name), &body)?;
            let size = fs::metadata(&path).with_context(|| format!("round {round} of {directory}"))?.len();
            ensure!(size == body.len() as u64, "round {round} of {directory}: {size} bytes instead of {}", body.len());
            let read = fs::read_to_string(&path)?;
            ensure!(read == body, "round {round} of {directory}: {read:?} instead of {body:?}");
            if round % 3 == 0 {
                let last = name.rsplit('/').next().context("a name")?.to_owned();
                ensure!(names(&two.b(directory))?.contains(&last), "round {round}: {last} is not listed");
            }
        }
    }
    Ok(())
}

#[test]
fn what_appears_in_a_directory_that_the_other_made_is_seen_at_once() -> Result<()> {
    let two = Two::with_lease(Duration::from_secs(30))?;
    for round in 0..30 {
        // A knows without a question what its own directory lacks.
        let dir = format!("d{round}");
        fs::create_dir(two.a(&dir))?;
        let name = |of: &str| format!("{dir}/{of}");
        let is_there = |of: &str| two.a(&name(of)).try_exists();
        ensure!(!is_there("made")? && !is_there("moved")? && !is_there("linked")?, "round {round}: it is not empty");
        fs::write(two.b(&name("made")), b"b")?;
        ensure!(is_there("made")?, "round {round}: what was made is not there");
        fs::rename(two.b(&name("made")), two.b(&name("moved")))?;
        ensure!(!is_there("made")? && is_there("moved")?, "round {round}: what was moved is not where it was moved to");
        fs::hard_link(two.b(&name("moved")), two.b(&name("linked")))?;
        ensure!(is_there("linked")?, "round {round}: the further name is not there");
        fs::remove_file(two.b(&name("moved")))?;
        fs::remove_file(two.b(&name("linked")))?;
        ensure!(!is_there("moved")? && !is_there("linked")?, "round {round}: what was removed is there");
        fs::remove_dir(two.b(&dir))?;
        ensure!(!two.a(&dir).try_exists()?, "round {round}: the directory is there");
        fs::create_dir(two.b(&dir))?;
        fs::write(two.b(&name("moved")), b"again")?;
        ensure!(is_there("moved")? && !is_there("made")?, "round {round}: the second directory is not as it was made");
    }
    Ok(())
}

#[test]
fn other_changes_are_seen_when_they_return() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let two = Two::start()?;
    for round in 0..ROUNDS / 10 {
        let (dir, file) = (format!("d{round}"), format!("d{round}/f"));
        ensure!(!two.b(&dir).exists(), "round {round}: before its time");
        fs::create_dir(two.a(&dir))?;
        ensure!(two.b(&dir).is_dir(), "round {round}: a directory that was made is not there");
        ensure!(names(&two.b(&dir))?.is_empty(), "round {round}");
        fs::write(two.a(&file), "1")?;
        ensure!(fs::metadata(two.b(&file))?.permissions().mode() & 0o777 == 0o644, "round {round}");
        fs::set_permissions(two.a(&file), fs::Permissions::from_mode(0o600))?;
        ensure!(fs::metadata(two.b(&file))?.permissions().mode() & 0o777 == 0o600, "round {round}: the old mode");
        OpenOptions::new().write(true).open(two.b(&file))?.set_len(0)?;
        ensure!(fs::metadata(two.a(&file))?.len() == 0, "round {round}: the old length");
        fs::remove_file(two.a(&file))?;
        ensure!(!two.b(&file).exists(), "round {round}: a file that was removed is there");
        fs::remove_dir(two.b(&dir))?;
        ensure!(!two.a(&dir).exists(), "round {round}: a directory that was removed is there");
    }
    Ok(())
}

#[test]
fn an_open_reader_does_not_keep_others_from_the_new_version() -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let two = Two::start()?;
    for (round, (old, new)) in [("first", "a longer second"), ("a longer first", "second")].into_iter().enumerate() {
        let name = format!("f{round}");
        fs::write(two.b(&name), old)?;
        let readers = [File::open(two.a(&name))?, File::open(two.b(&name))?];
        let mut buffer = [0; 32];
        for reader in &readers {
            let read = reader.read_at(&mut buffer, 0)?;
            ensure!(&buffer[..read] == old.as_bytes(), "the bytes differ");
        }
        for written in [0, 1] {
            let body = format!("{new} by {written}");
            fs::write(two.cluster.path(written, &name), &body)?;
            for seen in [two.a(&name), two.b(&name)] {
                ensure!(fs::read_to_string(&seen)? == body, "an open sees an old version at {}", seen.display());
            }
        }
    }
    Ok(())
}
