//! Who may do what: POSIX permission bits.

use headpond_namespace::Snapshot;
use headpond_proto::v1;
use headpond_types::{Attr, Error, ErrorKind, InodeId, Result};

use crate::{lookup::describe, sync::stale};

/// To read a file.
pub(crate) const READ: u32 = 0o4;
/// To list a directory.
pub(crate) const LIST: u32 = 0o4;
/// To write a file, or to change names in a directory.
pub(crate) const WRITE: u32 = 0o2;
/// To look names up in a directory, and to reach what lies below it.
pub(crate) const SEARCH: u32 = 0o1;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    uid: u32,
    gids: Vec<u32>,
}

impl From<v1::Caller> for Caller {
    fn from(caller: v1::Caller) -> Self {
        Self { uid: caller.uid, gids: caller.gids }
    }
}

impl Caller {
    /// Root may do everything.
    pub(crate) const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Who it is.
    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether the caller is in the group.
    pub(crate) fn is_in(&self, gid: u32) -> bool {
        self.gids.contains(&gid)
    }

    /// # Errors
    /// `PermissionDenied`, naming the thing as `what` says, unless the bits of `attr` grant `right`.
    pub(crate) fn require(&self, attr: &Attr, right: u32, what: impl FnOnce() -> String) -> Result<()> {
        if self.is_root() || self.granted(attr) & right == right {
            return Ok(());
        }
        let Attr { mode, uid, gid, .. } = attr;
        let message = format!("user {} may not use {}: mode {mode:04o}, owner {uid}:{gid}", self.uid, what());
        Err(Error::new(ErrorKind::PermissionDenied, message))
    }

    /// # Errors
    /// `PermissionDenied`, naming the directory, unless the caller may search all directories above `inode`; `Stale` when it is
    /// gone.
    pub(crate) fn require_way(&self, snapshot: &Snapshot, inode: InodeId) -> Result<()> {
        if self.is_root() {
            return Ok(());
        }
        let attr = |inode| snapshot.attr(inode)?.ok_or_else(|| stale(inode));
        let mut below = attr(inode)?;
        while below.parent != below.inode {
            below = attr(below.parent)?;
            self.require(&below, SEARCH, || describe(snapshot, below.inode))?;
        }
        Ok(())
    }

    /// The three bits that count for this caller: the first class that fits decides.
    fn granted(&self, attr: &Attr) -> u32 {
        let shift = if self.uid == attr.uid {
            6
        } else if self.gids.contains(&attr.gid) {
            3
        } else {
            0
        };
        attr.mode >> shift & 0o7
    }
}

#[cfg(test)]
mod tests {
    use headpond_types::{FileKind, InodeId, MountId, Timestamp};

    use super::*;

    fn attr(mode: u32) -> Attr {
        Attr {
            inode: InodeId(2),
            parent: InodeId::ROOT,
            mount: MountId(1),
            kind: FileKind::File,
            mode,
            uid: 10,
            gid: 20,
            nlink: 1,
            size: 0,
            mtime: Timestamp(0),
            atime: None,
            own_mtime: false,
            has_xattrs: false,
            dirty: false,
            ctime: Timestamp(0),
            content: None,
            version: String::new(),
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let may = |uid, gids: &[u32], mode| {
            Caller { uid, gids: gids.to_vec() }.require(&attr(mode), READ, || "/f".to_owned()).is_ok()
        };
        assert!(may(10, &[], 0o400) && !may(10, &[20], 0o044));
        assert!(may(11, &[5, 20], 0o040) && !may(11, &[20], 0o404));
        assert!(may(11, &[], 0o004) && !may(11, &[], 0o440));
        assert!(may(0, &[], 0o000));
    }
}
