//! How commands describe inodes: whose they are, their versions, and what is to change.

use headpond_types::{ContentId, InodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Whose a new inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Permission bits (`0o7777` at most).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A version of a file, as its under store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// The store's name of this version.
    pub version: String,
    /// Identity of its bytes: drawn, for what we wrote.
    pub content: ContentId,
}

/// Attributes to change; those that are `None` stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrChange {
    /// Permission bits (`0o7777` at most).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last change of the content.
    pub mtime: Option<Timestamp>,
}

/// A file whose object was copied to where its path says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFile {
    /// The file.
    pub inode: InodeId,
    /// The version that was copied; if the file has another by now, it is passed over.
    pub from: String,
    /// Where the copy is, relative to the mount's prefix.
    pub key: Vec<u8>,
    /// The store's name of the copy.
    pub version: String,
}
