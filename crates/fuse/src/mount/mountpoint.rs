//! The directory that a mount goes to.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use headpond_types::{Error, ErrorKind, Result};
use rustix::io::Errno;
use tracing::info;

use super::{detach, table};

/// How long something mounted at the mount point may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A directory that is fit to be mounted on, under its real name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mountpoint(PathBuf);

impl Mountpoint {
    /// Checks `path`. A mount of ours left there by a process that died is detached first. Blocks.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory` and `NotEmpty` (unless `nonempty`); `AlreadyExists` when something is mounted there: a
    /// live mount of Headpond, or a dead one of somebody else; `DeadlineExceeded` when what is mounted there does not answer.
    /// Each says what to do.
    pub(crate) fn prepare(path: &Path, nonempty: bool) -> Result<Self> {
        let real = real_name(path)?;
        if let Some(mounted) = mounted(&real)? {
            if !is_dead(&real)? {
                if mounted.is_ours() {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("{} is mounted by Headpond already: `umount {0}` ends that", real.display()),
                    ));
                }
            } else if mounted.is_ours() {
                info!(mountpoint = %real.display(), "detaching a dead mount left by a process that was killed");
                detach::detach(&real).map_err(|error| {
                    let message = format!("cannot detach the dead mount at {}: try `umount -l`", real.display());
                    Error::new(ErrorKind::AlreadyExists, message).with_source(error)
                })?;
            } else {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!(
                        "a dead mount of {} is in the way at {}: `umount -l` removes it",
                        mounted.source.display(),
                        real.display()
                    ),
                ));
            }
        }
        let found = fs::metadata(&real).map_err(|error| unusable(&real, error))?;
        if !found.is_dir() {
            return Err(Error::new(
                ErrorKind::NotADirectory,
                format!("mount point {} is not a directory: name an empty directory", real.display()),
            ));
        }
        if !nonempty && fs::read_dir(&real).map_err(|error| unusable(&real, error))?.next().is_some() {
            return Err(Error::new(
                ErrorKind::NotEmpty,
                format!(
                    "mount point {} is not empty: name an empty directory, or allow it with the option nonempty",
                    real.display()
                ),
            ));
        }
        Ok(Self(real))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// `major:minor` of what is mounted there.
    ///
    /// # Errors
    /// Nothing is, or `/proc` cannot be read.
    pub(super) fn device(&self) -> Result<String> {
        let missing = || Error::new(ErrorKind::Internal, format!("nothing is mounted at {}", self.0.display()));
        Ok(mounted(&self.0)?.ok_or_else(missing)?.device)
    }
}

/// The name of `path` in the table of mounts. What is mounted there is not asked anything: it may be dead, or never answer.
fn real_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return fs::canonicalize(path).map_err(|error| unusable(path, error));
    };
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above,
        Some(_) | None => Path::new("."),
    };
    let real = fs::canonicalize(above).map_err(|error| unusable(path, error))?.join(name);
    if mounted(&real)?.is_none() && fs::symlink_metadata(&real).is_ok_and(|found| found.is_symlink()) {
        return fs::canonicalize(&real).map_err(|error| unusable(path, error));
    }
    Ok(real)
}

fn mounted(path: &Path) -> Result<Option<table::MountEntry>> {
    table::mount_at(path).map_err(|error| {
        Error::new(ErrorKind::NotSupported, "cannot read /proc/self/mountinfo: mount /proc").with_source(error)
    })
}

/// Whether the process behind the FUSE mount at `path` is gone. Asks for the file system's size: unlike the attributes of its root,
/// which the kernel answers from memory for as long as they are valid, that always goes to the process.
///
/// # Errors
/// `DeadlineExceeded`: there is a process, which does not answer.
fn is_dead(path: &Path) -> Result<bool> {
    let (sender, answer) = mpsc::sync_channel(1);
    let asked = path.to_owned();
    let thread = thread::Builder::new().name("headpond-statfs".to_owned());
    // Left behind if there is no answer: it ends with the other mount or with this process.
    let spawned = thread.spawn(move || sender.send(rustix::fs::statfs(&asked).map(drop)));
    spawned.map_err(|error| {
        Error::new(ErrorKind::ResourceExhausted, "no thread to look at the mount point").with_source(error)
    })?;
    match answer.recv_timeout(ANSWER) {
        Ok(found) => Ok(matches!(found, Err(Errno::NOTCONN | Errno::CONNABORTED))),
        Err(_) => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            format!(
                "what is mounted at {} does not answer: `umount -f` ends it, or name another directory",
                path.display()
            ),
        )),
    }
}

fn unusable(path: &Path, error: io::Error) -> Error {
    let (kind, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "does not exist: create it"),
        io::ErrorKind::NotADirectory => (ErrorKind::NotADirectory, "lies below something that is not a directory"),
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "is not accessible to this user"),
        _ => (ErrorKind::InvalidArgument, "cannot be used"),
    };
    Error::new(kind, format!("mount point {} {remedy}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> ErrorKind {
        Mountpoint::prepare(path, false).expect_err("must be refused").kind()
    }

    #[test]
    fn only_an_empty_directory_is_taken() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(Mountpoint::prepare(dir.path(), false).is_ok());
        assert_eq!(refused(&dir.path().join("missing")), ErrorKind::NotFound);
        let file = dir.path().join("file");
        fs::write(&file, "x").expect("a file");
        assert_eq!(refused(&file), ErrorKind::NotADirectory);
        assert_eq!(refused(dir.path()), ErrorKind::NotEmpty);
        assert!(Mountpoint::prepare(dir.path(), true).is_ok());
        assert_eq!(refused(&file.join("below")), ErrorKind::NotADirectory);
    }

    #[test]
    fn the_name_is_the_real_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let real = fs::canonicalize(dir.path()).expect("a real name").join("pond");
        fs::create_dir(&real).expect("a directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        for name in [link.clone(), dir.path().join("./pond/"), link.join(".")] {
            assert_eq!(Mountpoint::prepare(&name, false).expect("fit").path(), real, "{name:?}");
        }
    }
}
