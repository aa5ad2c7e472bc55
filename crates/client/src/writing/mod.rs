//! Changing files and names.
//!
//! A file is written by one client at a time, under a write lease of the master. Its next version grows on one worker as a *staged file*:
//! through a descriptor if that worker is on this node, over gRPC otherwise, and on that worker for good, since nobody else has the bytes.
//! Persisting it is three steps: the master says where the object goes, the worker stores it under the condition that nobody else did,
//! the master commits. What is written from front to end is sent [`ahead`] of that, in the background. A crash between them leaves what a synchronisation finds, or nothing.
//!
//! Invariants:
//! * A client has at most one writer of an inode, which all its handles share.
//! * A writer is dirty from its first change until a persist that began after the last; a file that never had a version is dirty from
//!   the start.
//! * Once bytes may be lost (lease or worker gone) every later call of the writer fails; none of its bytes is persisted then.
//! * After a change returned, no answer from this client's memory shows the state before it.
//!
//! Lock order, per writer: `persisting`, `changing`, `state`. The first two are held across awaits.

mod ahead;
mod copying;
mod ending;
mod heads;
mod holes;
mod lease;
mod mutations;
mod nodes;
mod pending;
mod persisting;
mod room;
mod staged;
mod state;
mod table;
mod writer;
mod xattrs;

use headpond_types::Timestamp;

pub use holes::Stretch;
pub(crate) use lease::{Lease, renew};
pub(crate) use nodes::Targets;
pub(crate) use pending::path_of;
pub use pending::{Amount, Moving, Pending, PersistState, Unpersisted};
pub(crate) use table::Writers;
pub use writer::FileWriter;

/// A file that is to be made, or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Permission bits, with the umask applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Fail when the name exists.
    pub exclusive: bool,
    /// If the name exists, begin with no bytes.
    pub truncate: bool,
}

/// Whose a new directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Permission bits, with the umask applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Attributes to change; those that are `None` stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last change of the content.
    pub mtime: Option<Timestamp>,
    /// Last access. Reads do not move it.
    pub atime: Option<Timestamp>,
}
