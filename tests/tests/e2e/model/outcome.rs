//! What a step answers, so far as two file systems must agree on it.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::step::Step;

/// Answer of a step.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Number(u64),
    Bytes(Vec<u8>),
    Attributes(Attributes),
    Names(Vec<(String, Kind)>),
    /// Time of access, just after it was set: a plain directory's is moved by reads.
    Accessed(i64, u64),
    Failed(i32),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => {
                let sum = hex::encode(&Sha256::digest(bytes)[..6]);
                write!(f, "{} bytes ({sum}, begin with {:02x?})", bytes.len(), &bytes[..bytes.len().min(8)])
            }
            Self::Attributes(attributes) => attributes.fmt(f),
            Self::Names(names) => names.fmt(f),
            Self::Accessed(seconds, nanoseconds) => write!(f, "accessed at {seconds}.{nanoseconds:09}"),
            Self::Failed(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

impl Kind {
    pub(super) fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            _ => Self::Other,
        }
    }
}

/// Attributes that are the same on every file system: no inode numbers, blocks, links and sizes of directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) kind: Kind,
    pub(super) size: Option<u64>,
    mode: u32,
    owner: (u32, u32),
    modified: Modified,
}

/// When something was modified.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Modified {
    /// By a write, since the run began.
    InTheRun,
    /// As it was set.
    Set(i64, u64),
}

/// Since when times count as [`Modified::InTheRun`]. Steps set earlier ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began(i64);

impl Began {
    /// Stores may tell times in whole seconds.
    const TOLERANCE: Duration = Duration::from_secs(2);

    pub(super) fn now() -> Self {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(Self::TOLERANCE);
        Self(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }

    pub(super) fn attributes(self, stat: &rustix::fs::Stat) -> Attributes {
        let kind = Kind::of(FileType::from_raw_mode(stat.st_mode));
        let until = UNIX_EPOCH.elapsed().unwrap_or_default() + Self::TOLERANCE;
        let in_the_run = stat.st_mtime >= self.0 && u64::try_from(stat.st_mtime).is_ok_and(|at| at <= until.as_secs());
        Attributes {
            kind,
            size: matches!(kind, Kind::File | Kind::Symlink).then(|| u64::try_from(stat.st_size).unwrap_or(u64::MAX)),
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            // That of a FIFO that is written is the kernel's.
            modified: if in_the_run || kind == Kind::Other {
                Modified::InTheRun
            } else {
                Modified::Set(stat.st_mtime, stat.st_mtime_nsec)
            },
        }
    }
}

/// Fails unless both answer the same.
pub(super) fn compare(step: &Step, reference: &Outcome, mount: &Outcome) -> Result<()> {
    if let (Outcome::Bytes(expected), Outcome::Bytes(found)) = (reference, mount) {
        let at = expected.iter().zip(found).position(|(one, other)| one != other);
        let at = at.unwrap_or(expected.len().min(found.len()));
        ensure!(
            expected == found,
            "{step:?} reads {found:?} instead of {expected:?}: they part at byte {at}",
            found = mount,
            expected = reference
        );
    }
    ensure!(reference == mount, "{step:?} answers {mount:?} instead of {reference:?}");
    Ok(())
}
