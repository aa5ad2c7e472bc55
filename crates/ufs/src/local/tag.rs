//! Which content a file was put as: an extended attribute of it, which appears with the file and is no part of its version.

use std::{os::fd::AsRawFd, str};

use headpond_types::ContentId;
use rustix::fs::{XattrFlags, getxattr, setxattr};

/// Holds 32 hexadecimal digits.
const NAME: &str = "user.headpond.content";

/// What the file says; `None` also where the file system has no such attributes. Takes descriptors that were opened to name a file only.
pub(super) fn read(file: &impl AsRawFd) -> Option<ContentId> {
    let mut text = [0; 33];
    let length = getxattr(path(file), NAME, &mut text).ok()?;
    str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// Has the file say it. That it cannot be kept costs whoever asks for it a comparison of bytes.
pub(super) fn write(file: &impl AsRawFd, content: Option<ContentId>) {
    if let Some(content) = content
        && let Err(error) = setxattr(path(file), NAME, content.to_string().as_bytes(), XattrFlags::empty())
    {
        tracing::debug!(%error, "cannot note the content of a file beside its bytes");
    }
}

/// `fgetxattr` does not take descriptors of `O_PATH`.
fn path(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
