//! Unmounting.

use std::{io, path::Path, process::Command};

use rustix::{io::Errno, mount::UnmountFlags};

/// The setuid program that mounts and unmounts for ordinary users.
pub(super) const HELPER: &str = "fusermount3";

/// Unmounts what is at `path` if nobody uses it. Blocks.
///
/// # Errors
/// `ResourceBusy` when a file or directory below is open; what the kernel or the helper said otherwise.
pub(super) fn unmount(path: &Path) -> io::Result<()> {
    // NOFOLLOW: the path was resolved when it was mounted on; a link that took its place is not ours.
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => helper("-uq", path),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

/// Takes what is mounted at `path` out of the tree; it ends when its last user does. Blocks, but waits for nobody.
///
/// # Errors
/// What the kernel or the helper said.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => helper("-uqz", path),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

fn helper(flags: &str, path: &Path) -> io::Result<()> {
    let output = Command::new(HELPER).arg(flags).arg("--").arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    // With -q it says nothing, and busy is the one thing that is worth another try.
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{HELPER} {flags} failed: {said}")))
}
