//! Our answers as the kernel's structures.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, Generation, INodeNo, TimeOrNow};
use headpond_client::StatFs;
use headpond_types::{Attr, FileKind};

use crate::fs::Time;

/// What `stat` calls the best size of a read; the page size, since the kernel's own readahead does the rest.
const BLOCK: u32 = 4096;

/// Room shown as free, so that nobody takes the mount for full: 1 PiB.
const FREE_BYTES: u64 = 1 << 50;

/// Inode ids are never used again, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// Inodes shown as free.
const FREE_INODES: u64 = 1 << 40;

pub(super) const fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice(_) => FileType::CharDevice,
        FileKind::BlockDevice(_) => FileType::BlockDevice,
    }
}

/// A time to be set.
pub(super) fn time(time: TimeOrNow) -> Time {
    match time {
        TimeOrNow::SpecificTime(time) => Time::At(time.into()),
        TimeOrNow::Now => Time::Now,
    }
}

/// Attributes under the number `node`.
pub(super) fn file_attr(node: u64, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(node),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: SystemTime::from(attr.accessed()),
        mtime: SystemTime::from(attr.mtime),
        ctime: SystemTime::from(attr.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.kind.device(),
        blksize: BLOCK,
        flags: 0,
    }
}

/// The answer "there is no such name", which the kernel remembers for the entry's validity: node 0.
pub(super) const fn no_entry() -> FileAttr {
    blank(0, FileType::RegularFile)
}

/// A directory of which only the number matters.
pub(super) const fn directory(node: u64) -> FileAttr {
    blank(node, FileType::Directory)
}

const fn blank(node: u64, kind: FileType) -> FileAttr {
    FileAttr {
        ino: INodeNo(node),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

/// Answers `statfs`: what is known is used, and there is always plenty of room.
pub(super) fn statfs(reply: fuser::ReplyStatfs, known: StatFs) {
    let block = u64::from(BLOCK);
    let free = FREE_BYTES / block;
    let blocks = known.bytes.div_ceil(block).saturating_add(free);
    reply.statfs(blocks, free, free, known.inodes.saturating_add(FREE_INODES), FREE_INODES, BLOCK, 255, BLOCK);
}
