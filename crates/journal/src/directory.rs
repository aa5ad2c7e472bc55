//! The directory of a journal: whose it is, and in which format.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::error::JournalError;

/// The format of all files that this release writes, and the highest that it reads.
const FORMAT: u64 = 1;

const LOCK: &str = "lock";
const VERSION: &str = "version";

/// The right to use a journal's directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

/// Takes the directory for this process and checks its format, making both when missing.
pub(crate) fn claim(dir: &Path) -> Result<DirectoryLock, JournalError> {
    fs::create_dir_all(dir).map_err(JournalError::io("making directory", dir))?;
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(JournalError::io("opening", &path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK {
            JournalError::InUse { dir: dir.to_owned() }
        } else {
            JournalError::io("locking", &path)(error.into())
        }
    })?;
    check_format(dir)?;
    Ok(DirectoryLock(file))
}

fn check_format(dir: &Path) -> Result<(), JournalError> {
    let path = dir.join(VERSION);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u64>() {
            Ok(found) if found > FORMAT => Err(JournalError::Newer { dir: dir.to_owned(), found, known: FORMAT }),
            Ok(_) => Ok(()),
            Err(_) => Err(JournalError::NoFormat { path }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let new = dir.join("version.new");
            let write = || {
                let mut file = File::create(&new)?;
                writeln!(file, "{FORMAT}")?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
                File::open(dir)?.sync_all()
            };
            write().map_err(JournalError::io("writing", &path))
        }
        Err(error) => Err(JournalError::io("reading", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_has_a_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = claim(dir.path()).expect("is free");
        assert!(matches!(claim(dir.path()), Err(JournalError::InUse { .. })));
        drop(first);
        claim(dir.path()).expect("is free again");
    }

    #[test]
    fn a_directory_of_a_later_release_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(claim(dir.path()).expect("is free"));
        fs::write(dir.path().join(VERSION), "2\n").expect("writes");
        let error = claim(dir.path()).expect_err("is newer");
        assert!(error.to_string().contains("has format 2, this release knows up to 1"), "{error}");
        fs::write(dir.path().join(VERSION), "x").expect("writes");
        assert!(matches!(claim(dir.path()), Err(JournalError::NoFormat { .. })));
    }
}
