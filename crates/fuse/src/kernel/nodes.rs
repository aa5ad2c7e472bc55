//! Requests about symbolic links and special files.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use fuser::{ReplyData, ReplyEntry, Request};
use headpond_client::Owner;
use headpond_types::FileKind;

use super::{adapter::Adapter, answer};
use crate::{metrics::Op, source::Source};

/// A symbolic link has all permission bits.
const LINK_MODE: u32 = 0o777;

impl<S: Source> Adapter<S> {
    pub(super) fn read_link(&self, node: u64, reply: ReplyData) {
        self.0.metrics.request(Op::Readlink);
        if let Some(target) = self.0.fs.readlink_now(node) {
            return reply.data(&target);
        }
        self.spawn(async move |shared| match shared.fs.readlink(node).await {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(shared.errno("readlink", &error)),
        });
    }

    pub(super) fn make_symlink(&self, request: &Request, parent: u64, name: &OsStr, target: &Path, reply: ReplyEntry) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let owner = Owner { mode: LINK_MODE, uid: request.uid(), gid: request.gid() };
        let (name, target) = (name.as_bytes().to_vec(), target.as_os_str().as_bytes().to_vec());
        self.spawn(async move |shared| match shared.fs.symlink(parent, &name, &target, owner).await {
            Ok(entry) => answer::entry(reply, &entry),
            Err(error) => reply.error(shared.errno("symlink", &error)),
        });
    }

    /// `mode` with the file's type.
    pub(super) fn make_special(
        &self,
        request: &Request,
        parent: u64,
        name: &OsStr,
        mode: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => FileKind::File,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice(device),
            libc::S_IFBLK => FileKind::BlockDevice(device),
            _ => return reply.error(self.0.refusal(libc::EINVAL)),
        };
        let owner = Owner { mode: mode & 0o7777, uid: request.uid(), gid: request.gid() };
        let name = name.as_bytes().to_vec();
        self.spawn(async move |shared| match shared.fs.make_node(parent, &name, kind, owner).await {
            Ok(entry) => answer::entry(reply, &entry),
            Err(error) => reply.error(shared.errno("mknod", &error)),
        });
    }
}
