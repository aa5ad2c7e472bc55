//! The FUSE mount: the kernel's protocol in front of a [`headpond_client::Client`].
//!
//! Two layers: `fs` answers file-system questions in our own words and knows no kernel types; `kernel` speaks the
//! protocol. `mount` attaches and detaches. Invariants:
//!
//! * A FUSE thread never waits: what is in memory is answered on it, everything else moves into a task together with its
//!   reply, under a deadline.
//! * A node id is an inode id of the namespace (the mount's root is node 1), so nothing is remembered for `forget`. What is kept
//!   is bounded: inodes that are open now, directories that are open now, and bounded caches of complete listings and of what the kernel has
//!   pages of.
//! * An object replaced from outside is a new inode; bytes written through Headpond change under theirs. So pages that the kernel has of a
//!   content are kept as long as that is what the inode has, and those that were written through this mount.
//! * An inode is open either in passthrough or cached, from its first open to its last release (the kernel refuses a mix). Who writes
//!   what is passed through to readers goes beside them.
//! * Of a file that is written through this mount everybody on it sees the bytes and attributes as they are written.
//! * No request that changes something tells the kernel anything but its answer.
//! * A read-only mount refuses every change with `EROFS`: by the kernel, and here as well.

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
