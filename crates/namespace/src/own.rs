//! Attributes that an inode has of its own, instead of what its mount and its under store imply.

use headpond_types::Timestamp;

use crate::codec::{Reader, put_varint};

/// Which attributes follow in a row.
const MODE: u8 = 1;
const UID: u8 = 2;
const GID: u8 = 4;
const CTIME: u8 = 8;
/// See [`Own::mtime`].
const MTIME: u8 = 16;
/// See [`Own::xattrs`].
const XATTRS: u8 = 32;
const ATIME: u8 = 64;

/// What was set through Headpond. Most inodes have nothing of it, and then no byte of their row says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Last change of attributes or name.
    pub(crate) ctime: Option<Timestamp>,
    /// Last access, as it was set; `None`: as the time of modification.
    pub(crate) atime: Option<Timestamp>,
    /// The inode's time of modification is not the under store's.
    pub(crate) mtime: bool,
    /// It has rows in the table of extended attributes.
    pub(crate) xattrs: bool,
}

impl Own {
    /// What stays when another content takes the file's place: whose it is, but no times.
    pub(crate) const fn of_replaced(self) -> Self {
        Self { ctime: None, atime: None, mtime: false, ..self }
    }

    /// What stays when the file is written by us, last at `mtime`: attributes may have changed since.
    pub(crate) fn of_written(self, mtime: Timestamp) -> Self {
        Self { ctime: self.ctime.filter(|ctime| *ctime > mtime), mtime: true, ..self }
    }

    /// When attributes, name or content last changed, of an inode modified at `mtime`.
    pub(crate) fn changed(&self, mtime: Timestamp) -> Timestamp {
        match self.ctime {
            Some(ctime) if self.mtime => ctime,
            Some(ctime) => ctime.max(mtime),
            None => mtime,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |is_there: bool, flag| if is_there { flag } else { 0 };
        out.push(
            flag(self.mode.is_some(), MODE)
                | flag(self.uid.is_some(), UID)
                | flag(self.gid.is_some(), GID)
                | flag(self.ctime.is_some(), CTIME)
                | flag(self.mtime, MTIME)
                | flag(self.xattrs, XATTRS)
                | flag(self.atime.is_some(), ATIME),
        );
        for number in [self.mode, self.uid, self.gid].into_iter().flatten() {
            put_varint(out, number.into());
        }
        for time in [self.ctime, self.atime].into_iter().flatten() {
            out.extend_from_slice(&time.0.to_le_bytes());
        }
    }

    /// `None` when the bytes are not what this release writes.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.byte()?;
        if flags & !(MODE | UID | GID | CTIME | MTIME | XATTRS | ATIME) != 0 {
            return None;
        }
        let mut number = |flag| match flags & flag {
            0 => Some(None),
            _ => u32::try_from(reader.varint()?).ok().map(Some),
        };
        let (mode, uid, gid) = (number(MODE)?, number(UID)?, number(GID)?);
        let mut time = |flag| match flags & flag {
            0 => Some(None),
            _ => reader.array().map(|bytes| Some(Timestamp(i64::from_le_bytes(bytes)))),
        };
        let (ctime, atime) = (time(CTIME)?, time(ATIME)?);
        Some(Self { mode, uid, gid, ctime, atime, mtime: flags & MTIME != 0, xattrs: flags & XATTRS != 0 })
    }
}
