//! Requests about extended attributes.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use fuser::{Errno, ReplyEmpty, ReplyXattr};

use super::{adapter::Adapter, answer};
use crate::{metrics::Op, source::Source};

/// What the names of users' attributes begin with: of no other there are any.
const USER: &[u8] = b"user.";

impl<S: Source> Adapter<S> {
    pub(super) fn get_xattr(&self, node: u64, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.0.metrics.request(Op::Xattr);
        let name = name.as_bytes();
        if !name.starts_with(USER) {
            // Programs that hear "not supported" of an ACL do not ask for the next file's.
            let system = name.starts_with(b"system.");
            return reply.error(if system { Errno::EOPNOTSUPP } else { Errno::ENODATA });
        }
        let name = name.to_vec();
        self.spawn(async move |shared| match shared.fs.xattr(node, &name).await {
            Ok(Some(value)) => answer::xattr(reply, size, &value),
            Ok(None) => reply.error(Errno::ENODATA),
            Err(error) => reply.error(shared.errno("getxattr", &error)),
        });
    }

    pub(super) fn list_xattrs(&self, node: u64, size: u32, reply: ReplyXattr) {
        self.0.metrics.request(Op::Xattr);
        self.spawn(async move |shared| match shared.fs.xattr_names(node).await {
            Ok(names) => answer::xattr(reply, size, &names),
            Err(error) => reply.error(shared.errno("listxattr", &error)),
        });
    }

    /// Sets an attribute, or removes it without a value.
    pub(super) fn set_xattr(&self, node: u64, name: &OsStr, value: Option<&[u8]>, flags: i32, reply: ReplyEmpty) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let exists = match flags {
            0 => None,
            libc::XATTR_CREATE => Some(false),
            libc::XATTR_REPLACE => Some(true),
            _ => return reply.error(self.0.refusal(libc::EINVAL)),
        };
        let (name, value) = (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec));
        self.spawn(async move |shared| match shared.fs.set_xattr(node, &name, value.as_deref(), exists).await {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(shared.errno("setxattr", &error)),
        });
    }
}
