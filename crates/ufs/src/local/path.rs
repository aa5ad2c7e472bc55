//! Keys as paths below the root.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use headpond_types::Timestamp;
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, openat2},
    io::Errno,
};

use super::{STAGING, Shared};
use crate::{Key, ObjectMeta, UfsError, UfsErrorKind};

/// How often a lookup is repeated when a rename elsewhere in the tree disturbs it (`openat2` gives EAGAIN then).
const LOOKUPS: u32 = 16;

impl Shared {
    /// The names of a key; a directory's trailing slash is dropped.
    pub(super) fn names<'k>(&self, key: &'k Key) -> Result<Vec<&'k [u8]>, UfsError> {
        let path = key.as_bytes().strip_suffix(b"/").unwrap_or(key.as_bytes());
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let why = match names.iter().find_map(|name| name_problem(name)) {
            Some(why) => why,
            None if names.first() == Some(&STAGING.as_bytes()) => "is reserved for files being written",
            None => return Ok(names),
        };
        Err(self.error(UfsErrorKind::Invalid, key, why))
    }

    /// Opens what lies under `key`, without following a link out of the root.
    pub(super) fn open_below(&self, root: &OwnedFd, key: &Key, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = key.as_bytes().strip_suffix(b"/").unwrap_or(key.as_bytes());
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < LOOKUPS => {}
                other => return other,
            }
        }
    }
}

fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("has an empty name, which no path can have"),
        b"." | b".." => Some("has a name of dots, which means another place in a path"),
        _ if name.len() > 255 => Some("has a name of more than 255 bytes"),
        _ if name.contains(&0) => Some("has a NUL byte, which no path can have"),
        _ => None,
    }
}

/// Whether an entry of a directory can be (part of) a key.
pub(super) fn is_name(name: &[u8]) -> bool {
    name_problem(name).is_none()
}

/// The kind of a file.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The version that `stat` stands for.
pub(super) fn version_of(stat: &Stat) -> String {
    format!(
        "{:x}-{:x}.{:x}-{:x}.{:x}-{:x}",
        stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec, stat.st_size
    )
}

/// The length of a file.
pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// An object as the kernel describes it; a directory has no bytes.
pub(super) fn describe(key: Bytes, stat: &Stat) -> ObjectMeta {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    ObjectMeta {
        key: Key(key),
        size: if file_type(stat) == FileType::Directory { 0 } else { size_of(stat) },
        mtime: Timestamp(stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos)),
        version: version_of(stat),
        content: None,
    }
}
