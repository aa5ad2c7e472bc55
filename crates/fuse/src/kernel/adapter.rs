//! Requests of the kernel, answered by the file system.
//!
//! What is in memory is answered on the thread that took the request; everything else moves into a task with its reply. A
//! reply that is dropped (the runtime went away) answers `EIO` by itself.

use std::{
    cell::RefCell, ffi::OsStr, future::Future, io, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc,
    time::SystemTime,
};

use fuser::{
    AccessFlags, BackingId, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, INodeNo, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use headpond_client::StatFs;
use headpond_runtime::Tasks;
use headpond_types::{Error, ErrorKind};
use tokio::runtime::Handle;

use super::{answer, capabilities, complaints::Complaints, convert, passthrough::Passthrough, session::SessionOptions};
use crate::{
    errno,
    fs::{FileSystem, Mode, Xattr},
    metrics::{Metrics, Op},
    source::{Loan as _, Source},
};

thread_local! {
    /// Where a FUSE thread reads to; as large as its largest read so far, which the kernel bounds (1 MiB by default).
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What all requests need.
#[derive(Debug)]
pub(super) struct Shared<S: Source> {
    pub(super) fs: Arc<FileSystem<S, BackingId>>,
    pub(super) options: SessionOptions,
    pub(super) passthrough: Arc<Passthrough>,
    pub(super) metrics: Metrics,
    pub(super) runtime: Handle,
    pub(super) tasks: Tasks,
    pub(super) complaints: Complaints,
}

impl<S: Source> Shared<S> {
    /// What the kernel is told of `error`, which is counted and logged.
    fn errno(&self, op: &'static str, error: &Error) -> Errno {
        let errno = errno::of(error.kind());
        self.metrics.error(errno::name(errno));
        self.complaints.tell(op, error);
        Errno::from_i32(errno)
    }

    fn answer_open(&self, node: u64, file: Arc<S::File>, reply: ReplyOpen) {
        let register = |loan: &_| self.register(loan, &reply);
        match self.fs.admit(node, file, register) {
            Mode::Passthrough(backing) => {
                self.metrics.passthrough_opens.inc();
                // Not KEEP_CACHE: the kernel refuses it together with passthrough.
                reply.opened_passthrough(FileHandle(0), FopenFlags::FOPEN_NOFLUSH, &backing);
            }
            Mode::Cached => {
                self.metrics.cached_opens.inc();
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
            }
        }
    }

    fn register(&self, loan: &<S::File as crate::source::SourceFile>::Loan, reply: &ReplyOpen) -> Option<BackingId> {
        self.passthrough.register(loan.file(), |file| reply.open_backing(file))
    }
}

/// The file system as `fuser` calls it.
#[derive(Debug)]
pub(super) struct Adapter<S: Source>(pub(super) Arc<Shared<S>>);

impl<S: Source> Adapter<S> {
    /// Runs `task` with the state that it shares. Never waits.
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Arc<Shared<S>>) -> F) {
        let _entered = self.0.runtime.enter();
        drop(self.0.tasks.spawn(task(Arc::clone(&self.0))));
    }
}

/// Refuses operations that change something. The mount is read-only, so the kernel asks none of them unless it is remounted.
macro_rules! refuse {
    ($($op:ident($($argument:ty),*) -> $reply:ty;)*) => {
        $(fn $op(&self, _: &Request, $(_: $argument,)* reply: $reply) {
            self.0.metrics.request(Op::Change);
            let error = Error::new(ErrorKind::ReadOnly, concat!(stringify!($op), ": the mount is read-only"));
            reply.error(self.0.errno(stringify!($op), &error));
        })*
    };
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
        self.0.metrics.request(Op::Readlink);
        self.spawn(async move |shared| match shared.fs.readlink(node.0).await {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(shared.errno("readlink", &error)),
        });
    }

    fn open(&self, _: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.0.metrics.request(Op::Open);
        if flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0 {
            let error = Error::new(ErrorKind::ReadOnly, "open for writing: the mount is read-only");
            return reply.error(self.0.errno("open", &error));
        }
        if self.0.options.dataset {
            // The kernel takes it that opens need no answer, for all files and for as long as the mount lives.
            return reply.error(Errno::ENOSYS);
        }
        if let Some(file) = self.0.fs.open_now(node.0) {
            return self.0.answer_open(node.0, file, reply);
        }
        self.spawn(async move |shared| match shared.fs.open(node.0).await {
            Ok(file) => shared.answer_open(node.0, file, reply),
            Err(error) => reply.error(shared.errno("open", &error)),
        });
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
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
            let Some(read) = self.0.fs.read_now(node.0, offset, &mut buffer[..size]) else { return Some(reply) };
            self.0.metrics.bytes_read.inc_by(read as u64);
            reply.data(&buffer[..read]);
            None
        });
        let Some(reply) = unanswered else { return };
        self.spawn(async move |shared| match shared.fs.read(node.0, offset, size).await {
            Ok(bytes) => {
                shared.metrics.bytes_read.inc_by(bytes.len() as u64);
                reply.data(&bytes);
            }
            Err(error) => reply.error(shared.errno("read", &error)),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Other);
        if self.0.options.dataset { reply.error(Errno::ENOSYS) } else { reply.ok() }
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.fs.release(node.0);
        self.0.metrics.request(Op::Release);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Other);
        reply.ok();
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
        self.0.metrics.request(Op::Xattr);
        let Some(xattr) = Xattr::named(name.as_bytes()) else {
            // Programs that hear "not supported" of an ACL do not ask for the next file's.
            let system = name.as_bytes().starts_with(b"system.");
            return reply.error(if system { Errno::EOPNOTSUPP } else { Errno::ENODATA });
        };
        self.spawn(async move |shared| match shared.fs.xattr(node.0, xattr).await {
            Ok(Some(value)) => answer::xattr(reply, size, &value),
            Ok(None) => reply.error(Errno::ENODATA),
            Err(error) => reply.error(shared.errno("getxattr", &error)),
        });
    }

    fn listxattr(&self, _: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.0.metrics.request(Op::Xattr);
        self.spawn(async move |shared| match shared.fs.xattr_names(node.0).await {
            Ok(names) => answer::xattr(reply, size, &names),
            Err(error) => reply.error(shared.errno("listxattr", &error)),
        });
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        self.0.metrics.request(Op::Other);
        reply.ok();
    }

    refuse! {
        mknod(INodeNo, &OsStr, u32, u32, u32) -> ReplyEntry;
        mkdir(INodeNo, &OsStr, u32, u32) -> ReplyEntry;
        create(INodeNo, &OsStr, u32, u32, i32) -> ReplyCreate;
        symlink(INodeNo, &OsStr, &Path) -> ReplyEntry;
        link(INodeNo, INodeNo, &OsStr) -> ReplyEntry;
        unlink(INodeNo, &OsStr) -> ReplyEmpty;
        rmdir(INodeNo, &OsStr) -> ReplyEmpty;
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) -> ReplyEmpty;
        write(INodeNo, FileHandle, u64, &[u8], WriteFlags, OpenFlags, Option<LockOwner>) -> ReplyWrite;
        fallocate(INodeNo, FileHandle, u64, u64, i32) -> ReplyEmpty;
        copy_file_range(
            INodeNo, FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags
        ) -> ReplyWrite;
        setxattr(INodeNo, &OsStr, &[u8], i32, u32) -> ReplyEmpty;
        removexattr(INodeNo, &OsStr) -> ReplyEmpty;
        setattr(
            INodeNo, Option<u32>, Option<u32>, Option<u32>, Option<u64>, Option<TimeOrNow>, Option<TimeOrNow>,
            Option<SystemTime>, Option<FileHandle>, Option<SystemTime>, Option<SystemTime>, Option<SystemTime>,
            Option<BsdFileFlags>
        ) -> ReplyAttr;
    }
}
