//! The one table between the kinds of error and the exit codes of the binary.

use headpond_types::ErrorKind;
use serde::Serialize;

use crate::{
    failure::Result,
    output::{Format, Output},
};

/// Some of several things failed, for different reasons; each was reported on its own line.
pub(crate) const SEVERAL: u8 = 1;

/// A check found something.
pub(crate) const FOUND: u8 = 19;

/// The process was made to end before it had finished what was in flight.
pub(crate) const FORCED: u8 = 20;

/// The exit code for an error of `kind`.
pub(crate) const fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::NameTooLong => 2,
        ErrorKind::NotFound | ErrorKind::NoAttribute => 3,
        ErrorKind::AlreadyExists => 4,
        ErrorKind::NotEmpty => 5,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => 6,
        ErrorKind::PermissionDenied => 7,
        ErrorKind::ReadOnly => 8,
        ErrorKind::StoreRefused => 9,
        ErrorKind::Unavailable => 10,
        ErrorKind::DeadlineExceeded => 11,
        ErrorKind::ResourceExhausted => 12,
        ErrorKind::Stale => 13,
        ErrorKind::Corrupt => 14,
        ErrorKind::NotSupported => 15,
        ErrorKind::Fenced => 16,
        ErrorKind::Busy => 17,
        ErrorKind::CrossMount => 18,
        ErrorKind::Internal => 70,
    }
}

/// The table as users read it: `headpond help exit-codes`.
pub(crate) const TABLE: &str = "\
What the exit code of headpond says:

   0  it is done
   1  several things failed for different reasons, each on a line of its own
   2  the request makes no sense as it stands: a wrong flag, path, URI or setting
   3  it does not exist
   4  it exists already, or the port is in use
   5  the directory is not empty
   6  it is a directory where a file is needed, or the other way round
   7  permission denied
   8  it is read only
   9  the under store refuses: no such bucket, wrong credentials, a policy
  10  a master, worker or store cannot be reached or is overloaded; try again later
  11  the deadline passed
  12  a disk, quota or queue is full
  13  the file has changed meanwhile; open it again
  14  bytes did not match their checksum
  15  not supported here, or state written by a newer version
  16  superseded by another process with the same identity
  17  somebody else is using it; try again later
  18  the two paths lie in different mounts
  19  `admin check` found something
  20  the end was forced before everything in flight was finished
  70  a defect of headpond; please report it";

#[derive(Debug, Serialize)]
struct CodeJson {
    code: u8,
    meaning: &'static str,
}

/// Prints the table: `headpond exit-codes`.
pub(crate) fn print(format: Format) -> Result<()> {
    let mut out = Output::new(format);
    if !out.is_json() {
        out.line(TABLE)?;
        return out.flush();
    }
    for line in TABLE.lines() {
        if let Some((code, meaning)) = line.trim_start().split_once("  ")
            && let Ok(code) = code.parse()
        {
            out.json(&CodeJson { code, meaning })?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_table_and_none_means_success() {
        let kinds = [
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::NotADirectory,
            ErrorKind::IsADirectory,
            ErrorKind::NotEmpty,
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnly,
            ErrorKind::InvalidArgument,
            ErrorKind::NameTooLong,
            ErrorKind::Stale,
            ErrorKind::StoreRefused,
            ErrorKind::Unavailable,
            ErrorKind::DeadlineExceeded,
            ErrorKind::Busy,
            ErrorKind::CrossMount,
            ErrorKind::ResourceExhausted,
            ErrorKind::Corrupt,
            ErrorKind::NoAttribute,
            ErrorKind::NotSupported,
            ErrorKind::Fenced,
            ErrorKind::Internal,
        ];
        for code in kinds.map(of).into_iter().chain([SEVERAL, FOUND, FORCED]) {
            assert_ne!(code, 0);
            assert!(TABLE.lines().any(|line| line.starts_with(&format!("{code:>4}  "))), "{code} is not explained");
        }
    }
}
