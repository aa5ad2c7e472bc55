//! The FUSE mount: the kernel's protocol in front of a [`headpond_client::Client`].
//!
//! Two layers: `fs` answers file-system questions in our own words and knows no kernel types; `kernel` speaks the
//! protocol. `mount` attaches and detaches. Invariants:
//!
//! * A FUSE thread never waits: what is in memory is answered on it, everything else moves into a task together with its
//!   reply, under a deadline.
//! * A node id is an inode id of the namespace (the mount's root is node 1), so nothing is remembered for `forget`. What is kept
//!   is bounded: inodes that are open now, directories that are open now, and a bounded cache of complete listings.
//! * The bytes of an inode never change: a replaced object is a new inode. So pages the kernel has are always kept.
//! * An inode is open either in passthrough or cached, from its first open to its last release (the kernel refuses a mix).
//! * Every change is refused with `EROFS`: by the kernel, since the mount is read-only, and here as well.

mod config;
mod errno;
mod fs;
mod guard;
mod kernel;
mod metrics;
mod mount;
mod running;
mod source;

#[cfg(test)]
mod testing;

pub use config::FuseConfig;
pub use guard::{GUARD_COMMAND, guard_mount};
pub use running::{DataPath, Detached, FuseMount, RunningMount};
