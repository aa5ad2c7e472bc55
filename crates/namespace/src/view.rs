//! What reading the namespace answers besides attributes.

use headpond_types::{MountId, Name, Timestamp};

/// What is known of a directory whose listing was once merged completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// When the last complete listing began.
    pub at: Timestamp,
    /// Entries in it now.
    pub entries: u64,
    /// Keys directly below it that no path can express, as of that listing.
    pub skipped: u64,
}

/// Where the under store has an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The mount.
    pub mount: MountId,
    /// The names from the mount point down; empty for the mount point itself.
    pub names: Vec<Name>,
    /// Where the object is now, relative to the mount's prefix; of a directory, the prefix of what lies below without its last `/`, and
    /// empty for the mount point. Not what the names say while a relocation is under way. Of a file without a version: where the
    /// names say that it is to go.
    pub key: Vec<u8>,
}

/// Sizes of the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inodes, those included that were removed together with a directory above them and are still being cleared away.
    pub inodes: u64,
    /// Files and directories that an under store does not have, or not as they are, and orphans ([`crate::Dirty::is_orphan`]).
    pub dirty: u64,
    /// Sum of the sizes of those that are files.
    pub file_bytes: u64,
}
