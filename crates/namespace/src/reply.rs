//! What commands answer, and why they are refused.

use headpond_types::{InodeId, Name, NsPath, WorkerId};
use serde::{Deserialize, Serialize};

use crate::command::Mount;

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// The cluster's id.
    Cluster(u64),
    /// The new term.
    Term(u64),
    /// The worker's id.
    Worker(WorkerId),
    /// The mount with its id.
    Mount(Mount),
    /// It was refused; nothing changed.
    Refused(Refusal),
    /// The inode: the new one, or the one that was written.
    Inode(InodeId),
    /// It is renamed; the relocation that moves its objects.
    Renamed(Option<u64>),
    /// The inodes that were passed over.
    Moved(Vec<InodeId>),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is a mount at that path already.
    #[error("{0} is a mount point already: remove that mount first or choose another path")]
    MountExists(NsPath),
    /// There is no mount at that path.
    #[error("{0} is not a mount point: `headpond admin mounts` lists them")]
    NoMount(NsPath),
    /// Other mounts lie below.
    #[error("{0} has mounts below it ({1}): remove those first")]
    MountsBelow(NsPath, NsPath),
    /// A file is in the way.
    #[error("{0} is a file and cannot hold or be a mount point")]
    NotADirectory(NsPath),
    /// The name is taken.
    #[error("{0} exists already")]
    Exists(Name),
    /// The inode, or what a name led to, is not in the tree any more.
    #[error("inode {0} is gone or was replaced: look its name up again")]
    Gone(InodeId),
    /// There is no such name.
    #[error("{0} does not exist")]
    NoEntry(Name),
    /// A directory was needed.
    #[error("{0} is not a directory")]
    NoDirectory(Name),
    /// A file was needed.
    #[error("{0} is a directory")]
    IsDirectory(Name),
    /// The directory has entries.
    #[error("{0} is not empty")]
    NotEmpty(Name),
    /// A directory cannot go below itself.
    #[error("{0} cannot be moved below itself")]
    IntoItself(Name),
    /// The two names lie in different mounts.
    #[error("{0} and {1} lie in different mounts: copy instead")]
    CrossMount(Name, Name),
    /// It is a mount point, leads to one, or lies outside all mounts.
    #[error("{0} is a mount point, lies above one or outside all mounts: `headpond admin mount` changes those")]
    Fixed(Name),
    /// Its objects are still being moved since an earlier rename.
    ///
    /// Answered by earlier releases only.
    #[error("{0} was renamed a moment ago and its objects are still being moved: try again later")]
    Relocating(Name),
    /// There is no such extended attribute.
    #[error("there is no extended attribute {0}")]
    NoXattr(String),
    /// There is such an extended attribute.
    #[error("there is an extended attribute {0} already")]
    XattrExists(String),
    /// The inode's extended attributes would be too large.
    #[error("extended attributes of one inode have at most {max} bytes: remove some", max = crate::xattr::TOTAL_MAX)]
    XattrsFull,
    /// Headpond keeps objects of its own there.
    #[error("{0} at the top of a mount is where Headpond keeps objects of its own: choose another name")]
    Reserved(Name),
    /// The inode cannot have more names.
    #[error("{0} has {max} names, which is the most that one file can have: copy it instead", max = crate::links::MAX + 1)]
    TooManyLinks(Name),
}
