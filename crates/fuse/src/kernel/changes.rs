//! Requests that change something.
//!
//! The kernel holds locks of the inodes that a request names until it is answered, and waits for them when it is told of names: nothing
//! here tells it anything, see [`super::invalidation`].

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use bytes::Bytes;
use fuser::{RenameFlags, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags};
use headpond_client::{NewFile, Owner};
use headpond_types::RenameMode;

use super::{adapter::Adapter, answer, sender::is_root};
use crate::{
    fs::{Allocation, Change, READER, Refused, Spot},
    metrics::Op,
    source::{Source, SourceWriter as _},
};

/// Whether an open with these flags is to change something.
pub(super) const fn is_change(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0
}

/// Whether it may read as well.
const fn reads(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_WRONLY
}

/// Whether beside readers that are passed through an open gets a node of its own. Of one that may write the kernel has seen before that nobody runs the
/// file; one that only cuts it has to be refused for that.
const fn turns(flags: i32) -> bool {
    flags & libc::O_ACCMODE == libc::O_RDWR
}

impl<S: Source> Adapter<S> {
    /// What a request gets that is refused as it is, or for being a change of a mount that takes none: asked only after a remount.
    pub(super) fn refused(&self, errno: i32) -> fuser::Errno {
        self.0.metrics.request(Op::Change);
        self.0.refusal(if self.0.options.read_only { libc::EROFS } else { errno })
    }

    /// Counts a change; the errno when there are none.
    pub(super) fn change(&self) -> Result<(), fuser::Errno> {
        self.0.metrics.request(Op::Change);
        if self.0.options.read_only { Err(self.0.refusal(libc::EROFS)) } else { Ok(()) }
    }

    /// Whether a file loses the right to act as its owner or group if who asks changes its bytes. The kernel says so itself, but fuser passes that on of
    /// writes alone. Who asks is looked up for files that have such a right.
    fn drops_rights(&self, request: &Request, node: u64) -> bool {
        self.0.fs.may_have_rights(node) && !is_root(request)
    }

    pub(super) fn open_to_write(&self, request: &Request, node: u64, flags: i32, reply: ReplyOpen) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let (reads, truncate) = (reads(flags), flags & libc::O_TRUNC != 0);
        let drops_rights = truncate && self.drops_rights(request, node);
        self.spawn(async move |shared| {
            if reads && let Err(refused) = shared.fs.may_write_and_read(node, turns(flags)).await {
                return reply.error(shared.refused(refused));
            }
            let writer = match shared.fs.open_to_write(node, truncate).await {
                Ok(writer) => writer,
                Err(error) => return reply.error(shared.errno("open", &error)),
            };
            if drops_rights && let Err(error) = shared.fs.drop_rights(node).await {
                return reply.error(shared.errno("open", &error));
            }
            match shared.fs.admit_writer(node, writer, reads, truncate) {
                Ok((handle, admitted)) => {
                    shared.count_open(&admitted.mode);
                    answer::opened(reply, handle, &admitted);
                }
                Err(refused) => reply.error(shared.refused(refused)),
            }
        });
    }

    pub(super) fn create_file(
        &self,
        request: &Request,
        parent: u64,
        name: &OsStr,
        mode: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let new = NewFile {
            mode: mode & 0o7777,
            uid: request.uid(),
            gid: request.gid(),
            exclusive: flags & libc::O_EXCL != 0,
            truncate: flags & libc::O_TRUNC != 0,
        };
        let name = name.as_bytes().to_vec();
        self.spawn(async move |shared| {
            let writer = match shared.fs.create(parent, &name, new).await {
                Ok(writer) => writer,
                Err(error) => return reply.error(shared.errno("create", &error)),
            };
            let attr = writer.attr();
            let mut node = shared.fs.current_node(attr.inode);
            if reads(flags) {
                match shared.fs.may_write_and_read(node, turns(flags)).await {
                    Ok(()) => {}
                    Err(Refused::Elsewhere) => node = shared.fs.current_node(attr.inode),
                    Err(refused) => return reply.error(shared.refused(refused)),
                }
            }
            match shared.fs.admit_writer(node, writer, reads(flags), attr.size == 0) {
                Ok((handle, admitted)) => {
                    shared.count_open(&admitted.mode);
                    answer::created(reply, node, &attr, handle, &admitted);
                }
                Err(refused) => reply.error(shared.refused(refused)),
            }
        });
    }

    pub(super) fn write_bytes(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        reply: ReplyWrite,
    ) {
        self.0.metrics.request(Op::Write);
        // The kernel writes 16 MiB at once at most.
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let drops_rights = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        if !drops_rights && self.0.fs.write_now(handle, offset, data) {
            self.0.metrics.bytes_written.inc_by(length.into());
            return reply.written(length);
        }
        let data = Bytes::copy_from_slice(data);
        self.spawn(async move |shared| {
            if drops_rights && let Err(error) = shared.fs.drop_rights(node).await {
                return reply.error(shared.errno("write", &error));
            }
            match shared.fs.write(handle, offset, data).await {
                Ok(()) => {
                    shared.metrics.bytes_written.inc_by(length.into());
                    reply.written(length);
                }
                Err(error) => reply.error(shared.errno("write", &error)),
            }
        });
    }

    /// Answers when what was written through a handle is as durable as the mount promises: a flush when it is `closing`, or else an fsync.
    pub(super) fn persist(&self, closing: bool, handle: u64, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Persist);
        if handle == READER || !self.0.fs.is_dirty(handle) {
            return reply.ok();
        }
        let op = if closing { "flush" } else { "fsync" };
        self.spawn(async move |shared| match shared.fs.persist(handle, closing).await {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(shared.errno(op, &error)),
        });
    }

    pub(super) fn release_handle(&self, node: u64, handle: u64) {
        let Some(writer) = self.0.fs.release(node, handle) else { return };
        self.spawn(async move |shared| {
            if let Err(error) = shared.fs.finish(node, writer).await {
                shared.complaints.tell("release", &error);
            }
        });
    }

    pub(super) fn set_attr(&self, privileged: bool, node: u64, handle: Option<u64>, change: Change, reply: ReplyAttr) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        self.spawn(async move |shared| match shared.fs.set_attr(node, handle, change, privileged).await {
            Ok(entry) => answer::attr(reply, node, &entry),
            Err(error) => reply.error(shared.errno("setattr", &error)),
        });
    }

    pub(super) fn make_directory(&self, request: &Request, parent: u64, name: &OsStr, mode: u32, reply: ReplyEntry) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let owner = Owner { mode: mode & 0o7777, uid: request.uid(), gid: request.gid() };
        let name = name.as_bytes().to_vec();
        self.spawn(async move |shared| match shared.fs.make_directory(parent, &name, owner).await {
            Ok(entry) => answer::entry(reply, &entry),
            Err(error) => reply.error(shared.errno("mkdir", &error)),
        });
    }

    pub(super) fn link_name(&self, node: u64, parent: u64, name: &OsStr, reply: ReplyEntry) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let name = name.as_bytes().to_vec();
        self.spawn(async move |shared| match shared.fs.link(node, parent, &name).await {
            Ok(entry) => answer::entry(reply, &entry),
            Err(error) => reply.error(shared.errno("link", &error)),
        });
    }

    pub(super) fn remove(&self, op: &'static str, parent: u64, name: &OsStr, directory: bool, reply: ReplyEmpty) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let name = name.as_bytes().to_vec();
        self.spawn(async move |shared| match shared.fs.remove(parent, &name, directory).await {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(shared.errno(op, &error)),
        });
    }

    pub(super) fn rename_entry(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags, reply: ReplyEmpty) {
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            // Not ENOSYS: the kernel would give up flags for the whole mount.
            _ => return reply.error(self.refused(libc::EINVAL)),
        };
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let (from, from_name) = (from.0, from.1.as_bytes().to_vec());
        let (to, to_name) = (to.0, to.1.as_bytes().to_vec());
        self.spawn(async move |shared| match shared.fs.rename((from, &from_name), (to, &to_name), mode).await {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(shared.errno("rename", &error)),
        });
    }

    pub(super) fn allocate(&self, request: &Request, to: Spot, length: u64, mode: i32, reply: ReplyEmpty) {
        let Some(what) = Allocation::of(mode) else { return reply.error(self.refused(libc::EOPNOTSUPP)) };
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        let drops_rights = self.drops_rights(request, to.node);
        self.spawn(async move |shared| {
            if drops_rights && let Err(error) = shared.fs.drop_rights(to.node).await {
                return reply.error(shared.errno("fallocate", &error));
            }
            match shared.fs.allocate(to.handle, to.offset, length, what).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(shared.errno("fallocate", &error)),
            }
        });
    }
}
