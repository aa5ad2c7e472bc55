//! What `stat` knows of an inode.

use serde::{Deserialize, Serialize};

use crate::{ContentId, InodeId, MountId, Timestamp};

/// Kind of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A file with content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device of this number.
    CharDevice(u32),
    /// A block device of this number.
    BlockDevice(u32),
}

impl FileKind {
    /// The number of a device; 0 for all else.
    #[must_use]
    pub const fn device(self) -> u32 {
        match self {
            Self::CharDevice(number) | Self::BlockDevice(number) => number,
            Self::File | Self::Directory | Self::Symlink | Self::Fifo | Self::Socket => 0,
        }
    }
}

/// Attributes of an inode, as the master answers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// The inode these attributes belong to.
    pub inode: InodeId,
    /// The directory that holds it; the root is its own parent.
    pub parent: InodeId,
    /// Mount whose under store holds it.
    pub mount: MountId,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits (`0o7777` at most), without the file type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of a file: 1, and one more for each that was made by a hard link. 2 for a directory.
    pub nlink: u32,
    /// Bytes of content; the target's length for a symbolic link; 0 for a directory.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last access, if a program has set it: reads do not move it.
    pub atime: Option<Timestamp>,
    /// `mtime` was set through Headpond, so it need not be what the under store says. Only the master knows; others have `false`.
    pub own_mtime: bool,
    /// It has extended attributes that were set through Headpond.
    pub has_xattrs: bool,
    /// Size and content are those of bytes that workers hold and the under store does not have yet; the version is of what it has, if it
    /// has anything.
    pub dirty: bool,
    /// Last change of these attributes.
    pub ctime: Timestamp,
    /// The content that an open now would read; `None` unless it is a file.
    pub content: Option<ContentId>,
    /// What the under store calls this version (its ETag); empty unless it is a file.
    pub version: String,
}

impl Attr {
    /// When it was accessed last, so far as is known: when it was modified, unless a program has set another time.
    #[must_use]
    pub fn accessed(&self) -> Timestamp {
        self.atime.unwrap_or(self.mtime)
    }
}
