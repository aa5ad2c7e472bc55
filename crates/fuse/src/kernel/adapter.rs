//! Requests of the kernel, answered by the file system.
//!
//! What is in memory is answered on the thread that took the request; everything else moves into a task with its reply. A
//! reply that is dropped (the runtime went away) answers `EIO` by itself. One implementation of one large trait;
//! what changes something is in [`super::changes`].

use std::{
    cell::RefCell, ffi::OsStr, future::Future, io, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc,
    time::SystemTime,
};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use headpond_client::StatFs;

use super::{answer, capabilities, changes, convert, sender::is_root, shared::Shared};
use crate::{
    fs::{Change, Opening, Spot},
    metrics::Op,
    source::Source,
};

thread_local! {
    /// Where a FUSE thread reads to; as large as its largest read so far, which the kernel bounds (1 MiB by default).
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The file system as `fuser` calls it.
#[derive(Debug)]
pub(super) struct Adapter<S: Source>(pub(super) Arc<Shared<S>>);

impl<S: Source> Adapter<S> {
    /// Runs `task` with the state that it shares. Never waits.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Arc<Shared<S>>) -> F) {
        let _entered = self.0.runtime.enter();
        drop(self.0.tasks.spawn(task(Arc::clone(&self.0))));
    }
}

impl<S: Source> fuser::Filesystem for Adapter<S> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        capabilities::negotiate(config, &self.0.options, &self.0.passthrough);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.0.metrics.request(Op::Lookup);
        if let Some(entry) = self.0.fs.lookup_now(parent.0, name.as_bytes()) {
            return answer::entry(reply, &entry);
        }
        let name = name.as_bytes().to_vec();
        self.spawn(async move |shared| match shared.fs.lookup(parent.0, &name).await {
            Ok(entry) => answer::entry(reply, &entry),
            Err(error) => reply.error(shared.errno("lookup", &error)),
        });
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.0.metrics.request(Op::Getattr);
        if let Some(entry) = self.0.fs.attr_now(node.0) {
            return answer::attr(reply, node.0, &entry);
        }
        self.spawn(async move |shared| match shared.fs.attr(node.0).await {
            Ok(entry) => answer::attr(reply, node.0, &entry),
            Err(error) => reply.error(shared.errno("getattr", &error)),
        });
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        self.read_link(node.0, reply);
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if changes::is_change(flags.0) {
            return self.open_to_write(request, node.0, flags.0, reply);
        }
        self.0.metrics.request(Op::Open);
        if self.0.options.dataset {
            // The kernel takes it that opens need no answer, for all files and for as long as the mount lives.
            return reply.error(Errno::ENOSYS);
        }
        if self.0.fs.is_written(node.0) {
            return self.0.answer_open(node.0, Opening::ReadWritten, reply);
        }
        if let Some(file) = self.0.fs.open_now(node.0) {
            return self.0.answer_open(node.0, Opening::Read(file), reply);
        }
        self.spawn(async move |shared| match shared.fs.open(node.0).await {
            Ok(file) => shared.answer_open(node.0, Opening::Read(file), reply),
            Err(error) => reply.error(shared.errno_of_bytes("open", &error)),
        });
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.metrics.request(Op::Read);
        let size = size as usize;
        let unanswered = BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let read = self.0.fs.read_now(node.0, handle.0, offset, &mut buffer[..size]);
            let Some(read) = read else { return Some(reply) };
            self.0.metrics.bytes_read.inc_by(read as u64);
            reply.data(&buffer[..read]);
            None
        });
        let Some(reply) = unanswered else { return };
        self.spawn(async move |shared| match shared.fs.read(node.0, handle.0, offset, size).await {
            Ok(bytes) => {
                shared.metrics.bytes_read.inc_by(bytes.len() as u64);
                reply.data(&bytes);
            }
            Err(error) => reply.error(shared.errno_of_bytes("read", &error)),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        if self.0.options.dataset {
            self.0.metrics.request(Op::Other);
            return reply.error(Errno::ENOSYS);
        }
        self.persist(true, handle.0, reply);
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.metrics.request(Op::Release);
        self.release_handle(node.0, handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.persist(false, handle.0, reply);
    }

    fn opendir(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.0.metrics.request(Op::Opendir);
        let (handle, kept) = self.0.fs.open_dir(node.0);
        let keep = if kept { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
        reply.opened(FileHandle(handle), FopenFlags::FOPEN_CACHE_DIR | keep);
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.0.metrics.request(Op::Readdir);
        let dir = match self.0.fs.dir(handle.0) {
            Ok(dir) => dir,
            Err(error) => return reply.error(self.0.errno("readdir", &error)),
        };
        if self.0.fs.read_dir_now(&dir, offset, |entry| answer::add(&mut reply, &entry)) {
            return reply.ok();
        }
        self.spawn(async move |shared| {
            match shared.fs.read_dir(&dir, offset, |entry| answer::add(&mut reply, &entry)).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(shared.errno("readdir", &error)),
            }
        });
    }

    fn readdirplus(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.0.metrics.request(Op::Readdirplus);
        let dir = match self.0.fs.dir(handle.0) {
            Ok(dir) => dir,
            Err(error) => return reply.error(self.0.errno("readdirplus", &error)),
        };
        if self.0.fs.read_dir_now(&dir, offset, |entry| answer::add_plus(&mut reply, &entry)) {
            return reply.ok();
        }
        self.spawn(async move |shared| {
            match shared.fs.read_dir(&dir, offset, |entry| answer::add_plus(&mut reply, &entry)).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(shared.errno("readdirplus", &error)),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Releasedir);
        self.0.fs.release_dir(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Other);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.0.metrics.request(Op::Statfs);
        self.spawn(async move |shared| match shared.fs.stat_fs().await {
            Ok(known) => convert::statfs(reply, known),
            Err(error) => {
                // Programs that find no room, or no answer, give up a disk: the mount works without these numbers.
                shared.complaints.tell("statfs", &error);
                convert::statfs(reply, StatFs::default());
            }
        });
    }

    fn getxattr(&self, _: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.get_xattr(node.0, name, size, reply);
    }

    fn listxattr(&self, _: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.list_xattrs(node.0, size, reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Other);
        reply.ok();
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.create_file(request, parent.0, name, mode & !umask, flags, reply);
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.write_bytes(node.0, handle.0, offset, data, write_flags, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        length: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (mtime, atime) = (mtime.map(convert::time), atime.map(convert::time));
        let change = Change { mode, uid, gid, length, mtime, atime };
        let is_privileged = length.is_none() || is_root(request);
        self.set_attr(is_privileged, node.0, handle.map(|handle| handle.0), change, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make_directory(request, parent.0, name, mode & !umask, reply);
    }

    fn link(&self, _: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.link_name(node.0, parent.0, name, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove("unlink", parent.0, name, false, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove("rmdir", parent.0, name, true, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.rename_entry((parent.0, name), (new_parent.0, new_name), flags, reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.allocate(request, Spot { node: node.0, handle: handle.0, offset }, length, mode, reply);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        to_node: INodeNo,
        to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = Spot { node: node.0, handle: handle.0, offset };
        let to = Spot { node: to_node.0, handle: to_handle.0, offset: to_offset };
        self.copy_range(request, from, to, length, reply);
    }

    fn lseek(&self, _: &Request, node: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.seek(node.0, handle.0, offset, whence, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        self.make_special(request, parent.0, name, mode & !umask, device, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make_symlink(request, parent.0, name, target, reply);
    }

    fn setxattr(&self, _: &Request, node: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        self.set_xattr(node.0, name, Some(value), flags, reply);
    }

    fn removexattr(&self, _: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.set_xattr(node.0, name, None, 0, reply);
    }
}
