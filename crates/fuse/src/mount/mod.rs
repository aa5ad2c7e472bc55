//! Attaching to a directory and detaching from it.
//!
//! Not left to fuser: it would unmount by path once more after the mount is gone, which hits whatever lies below, and its
//! errors do not tell what is missing.

mod attach;
mod detach;
mod mountpoint;
mod table;

use std::fs::OpenOptions;

use rustix::fs::OFlags;

pub(crate) use attach::{Attachment, Options, attach, may_allow_other};
pub(crate) use mountpoint::Mountpoint;
pub(crate) use table::is_mounted;

/// The kernel's side of all FUSE mounts.
const DEVICE: &str = "/dev/fuse";

/// What `findmnt` shows as the type after `fuse.`, and the source's first word: how a mount of ours is recognised.
const SUBTYPE: &str = "headpond";

/// Opens the FUSE device, a new conversation with the kernel.
fn open_device() -> std::io::Result<std::os::fd::OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = OFlags::CLOEXEC.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(DEVICE).map(Into::into)
}
