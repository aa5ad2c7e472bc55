//! A master and workers in this process: real sockets, scripted answers, and a log of what was asked.

mod cluster;
mod master;
mod socket;
mod staging;
mod worker;
mod writing;

pub(crate) use cluster::{Cluster, config};
pub(crate) use master::FakeMaster;
pub(crate) use socket::FakeSocket;
pub(crate) use staging::Staging;
pub(crate) use worker::{Behaviour, FakeWorker};

use headpond_types::{Attr, ContentId, FileKind, InodeId, MountId, Timestamp};

/// The byte at an offset of any content.
pub(crate) fn byte(offset: u64) -> u8 {
    let [a, b, c, ..] = offset.to_le_bytes();
    a ^ b.wrapping_mul(31) ^ c.wrapping_mul(17)
}

/// The bytes of a range of any content.
pub(crate) fn bytes(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(byte).collect()
}

/// Attributes of a file in the root.
pub(crate) fn file(inode: u64, size: u64) -> Attr {
    Attr {
        inode: InodeId(inode),
        parent: InodeId::ROOT,
        mount: MountId(1),
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size,
        mtime: Timestamp(1),
        atime: None,
        own_mtime: false,
        has_xattrs: false,
        dirty: false,
        ctime: Timestamp(1),
        content: Some(ContentId(u128::from(inode) << 64 | 7)),
        version: format!("v{inode}"),
    }
}

/// Attributes of a directory.
pub(crate) fn directory(inode: u64) -> Attr {
    Attr { kind: FileKind::Directory, content: None, version: String::new(), mode: 0o755, ..file(inode, 0) }
}
