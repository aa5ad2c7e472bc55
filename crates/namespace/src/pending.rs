//! What under stores are to get: the row of each.

use headpond_types::{ContentId, InodeId, MountId, WorkerId};
use serde::{Deserialize, Serialize};

/// When something dirty is to be persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Due {
    /// In its turn.
    Now,
    /// Once it has another name: it has a temporary one.
    WhenRenamed,
    /// Not unless that is asked for.
    Never,
}

/// What the under store does not have, or not as it is now, of a file or a directory. At most one per inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirty {
    /// Its place in the order in which changes were acknowledged, that of [`crate::Relocation::id`], too.
    pub number: u64,
    /// Its first number since the under store had what it was: who comes after that one waits for it, whatever it became since. At most
    /// [`Dirty::number`].
    pub since: u64,
    /// The number of the first content after the one that was last begun to be put: what it is since, when the under store has that.
    pub then: Option<u64>,
    /// The mount.
    pub mount: MountId,
    /// The file or directory.
    pub inode: InodeId,
    /// When it is to be persisted.
    pub due: Due,
    /// To be seen in the under store only when it has all with lower numbers.
    pub barrier: bool,
    /// Of a file: workers that hold its content.
    pub holders: Vec<WorkerId>,
    /// Where there may be an object of it in the under store since [`crate::Command::BeginPersist`], or since it took the place of another's; of a
    /// directory, its marker's without the last `/`. Relative to the mount's prefix. There it is put, wherever it was renamed to meanwhile, and
    /// then relocated. While its path is another, no relocation above it ends, so that it waits for none either, whatever its number.
    pub key: Option<Vec<u8>>,
    /// Contents that it had when something was put under the key, the latest last; 8 at most.
    pub put: Vec<ContentId>,
    /// The version that an object of a file without one may replace, because the file replaced that one's file.
    pub replaces: Option<String>,
    /// Of a directory: its marker is missing.
    pub marker: bool,
    /// Of a directory whose marker is missing: the under store may have something below.
    pub below: bool,
    /// Of a directory: what is [`Due::WhenRenamed`] below is to be made due with this number, since it was renamed.
    pub tree: bool,
}

impl Dirty {
    /// The inode is gone, or has nothing to do with this any more: what the under store has at [`Dirty::key`], if it is of version
    /// [`Dirty::replaces`] or says that it is one of [`Dirty::put`], is to be deleted, and anything else there left alone. A key that ends in `/` is
    /// a marker's, of whatever version. Then [`crate::Command::EndPersist`] ends it. The inode is a number that no inode ever has, and the holders are
    /// workers that may still be putting something there.
    #[must_use]
    pub const fn is_orphan(&self) -> bool {
        self.inode.0 == self.number
    }

    /// Of a directory: the under store has nothing of it, nor of what lies below.
    #[must_use]
    pub const fn is_bare(&self) -> bool {
        self.marker && !self.below && self.key.is_none()
    }
}

/// An object that is nobody's from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Where it is, relative to the mount's prefix. Of the marker of a directory, with its `/`.
    pub key: Vec<u8>,
    /// Which it is; `None` for a marker.
    pub version: Option<String>,
}

/// An object that may be there from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistBegun {
    /// The file or directory.
    pub inode: InodeId,
    /// Which [`Dirty`] it is.
    pub number: u64,
    /// Where, relative to the mount's prefix.
    pub key: Vec<u8>,
    /// What it will be; `None` for a marker.
    pub content: Option<ContentId>,
}
