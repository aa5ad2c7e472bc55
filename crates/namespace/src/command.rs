//! Commands: everything that changes the namespace, and all that a change may depend on.
//!
//! A command carries every time and identity it needs: applying it reads no clock, no randomness and no network, so the
//! journal replays exactly.

use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

/// A change of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Changes nothing; proves that the journal takes commands.
    Noop,
    /// Names the cluster, once; later ones change nothing. Answers [`Reply::Cluster`].
    SetCluster {
        /// A random number, made by the proposer.
        cluster: u64,
    },
    /// A master starts to lead. Answers [`Reply::Term`] with a number larger than any before.
    BeginTerm,
    /// Gives a worker its id: the same for the same uuid. Answers [`Reply::Worker`].
    RegisterWorker {
        /// What the worker calls itself.
        uuid: String,
    },
    /// Binds a path to an under store; missing directories above it are made. Answers [`Reply::Mount`].
    AddMount {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The mount to be; its id is ignored.
        mount: Mount,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Unbinds a path and forgets everything below. Answers [`Reply::Done`].
    RemoveMount {
        /// Makes a repetition harmless.
        request: RequestId,
        /// Where it is mounted.
        path: NsPath,
        /// When it was asked for.
        now: Timestamp,
    },
    /// The under store was seen to hold these entries in a directory. Answers [`Reply::Done`].
    Upsert {
        /// The directory; an unknown one is left alone.
        dir: InodeId,
        /// What was seen, each name once.
        entries: Vec<Observed>,
        /// When the store was asked, at the latest.
        at: Timestamp,
    },
    /// The under store was seen not to hold these entries any more. Answers [`Reply::Done`].
    Forget {
        /// The directory.
        dir: InodeId,
        /// The names and the inodes they had when the store was asked; an entry with another inode by now stays.
        entries: Vec<(Name, InodeId)>,
    },
    /// A listing of the directory was merged completely. Answers [`Reply::Done`].
    MarkListed {
        /// The directory.
        dir: InodeId,
        /// When the listing began.
        at: Timestamp,
        /// Keys directly below that no path can express.
        skipped: u64,
    },
    /// Clears away some of what lies below directories that are gone. Every command clears a little, so this is for idle times, while
    /// [`crate::Snapshot::has_remains`]. Answers [`Reply::Done`].
    Sweep,
}

/// An entry as the under store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub object: ObservedKind,
}

/// What an under store holds under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedKind {
    /// A directory: a common prefix, a marker, or a real one.
    Directory,
    /// An object.
    File {
        /// Bytes.
        size: u64,
        /// Last modification.
        mtime: Timestamp,
        /// The store's name of this version.
        version: String,
        /// Identity of its bytes.
        content: ContentId,
    },
}

/// A namespace path bound to an under store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Given by the namespace, never reused.
    pub id: MountId,
    /// Where it appears.
    pub path: NsPath,
    /// The under store and the prefix in it, for example `s3://bucket/prefix`. Never with credentials.
    pub uri: String,
    /// Options of the driver; credentials only by name.
    pub options: std::collections::BTreeMap<String, String>,
    /// Refuses changes.
    pub read_only: bool,
    /// Bound in milliseconds on how long a change behind our back stays unseen; `None`: for ever.
    pub sync_interval_ms: Option<u64>,
    /// Owner that entries show.
    pub uid: u32,
    /// Group that entries show.
    pub gid: u32,
    /// Permission bits that files show.
    pub file_mode: u32,
    /// Permission bits that directories show.
    pub dir_mode: u32,
}

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
}

/// What a command changed that others may have cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An entry appeared, changed or went.
    Entry {
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
        /// The inode that the name had and that is gone or replaced.
        old: Option<InodeId>,
    },
    /// An entry appeared in a directory that is not completely known: nobody can have its listing.
    Discovered {
        /// The directory.
        parent: InodeId,
        /// The name, which the namespace did not have.
        name: Name,
    },
    /// The mount table changed.
    Mounts,
}

/// A command's answer and effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Goes to who asked.
    pub reply: Reply,
    /// Go to whom they concern.
    pub effects: Vec<Effect>,
}
