//! What system calls take, and what they answer, in the words of steps.

use std::{
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use headpond_tests::close;
use rustix::{
    fs::{Dir, OFlags, Timespec, Timestamps},
    io::Errno,
};

use super::{
    outcome::{Kind, Outcome},
    step::Mode,
};

pub(super) type Answer<T = Outcome> = std::result::Result<T, Errno>;

/// Closes a file, which no step uses now, and answers what that says.
pub(super) fn close_shared(file: Rc<OwnedFd>) -> Answer<()> {
    Rc::into_inner(file).map_or(Ok(()), |file| close(file).map_err(errno))
}

/// Names and kinds in a directory, in order.
pub(super) fn names(directory: impl AsFd) -> Answer<Vec<(String, Kind)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push((name, Kind::of(entry.file_type())));
        }
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(names)
}

pub(super) fn flags(mode: Mode) -> OFlags {
    let flags = match mode {
        Mode::Read => OFlags::RDONLY,
        Mode::Write => OFlags::WRONLY,
        Mode::ReadWrite => OFlags::RDWR,
        Mode::WriteAppend => OFlags::WRONLY | OFlags::APPEND,
        Mode::ReadWriteAppend => OFlags::RDWR | OFlags::APPEND,
        Mode::WriteTruncate => OFlags::WRONLY | OFlags::TRUNC,
        Mode::ReadWriteTruncate => OFlags::RDWR | OFlags::TRUNC,
        Mode::ReadTruncate => OFlags::RDONLY | OFlags::TRUNC,
        Mode::WriteCreate => OFlags::WRONLY | OFlags::CREATE,
        Mode::ReadWriteCreate => OFlags::RDWR | OFlags::CREATE,
        Mode::ReadCreate => OFlags::RDONLY | OFlags::CREATE,
        Mode::WriteCreateExclusive => OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        Mode::ReadWriteCreateTruncate => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        Mode::WriteCreateAppend => OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
        Mode::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
    };
    // Who opens a FIFO waits for its other end else.
    flags | OFlags::CLOEXEC | OFlags::NONBLOCK
}

pub(super) fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let at = |tv_sec| Timespec { tv_sec, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: at(seconds / 2), last_modification: at(seconds) }
}

pub(super) fn accessed(stat: &rustix::fs::Stat) -> Outcome {
    Outcome::Accessed(stat.st_atime, stat.st_atime_nsec)
}

pub(super) fn special(nanoseconds: rustix::fs::Nsecs) -> Timestamps {
    let at = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    Timestamps { last_access: at, last_modification: at }
}

/// Names that were given to extended attributes, in order: file systems have others of their own.
pub(super) fn xattrs(list: &[u8]) -> Vec<(String, Kind)> {
    let names = list.split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    let mut names: Vec<_> =
        names.filter(|name| !name.starts_with("user.headpond.")).map(|name| (name, Kind::Other)).collect();
    names.sort_by(|one, other| one.0.cmp(&other.0));
    names
}

pub(super) fn done<T>(answer: Answer<T>) -> Answer {
    answer.map(|_| Outcome::Done)
}

pub(super) fn number(count: usize) -> Outcome {
    Outcome::Number(count as u64)
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
