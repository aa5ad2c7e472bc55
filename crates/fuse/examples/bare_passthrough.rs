//! A passthrough file system with nothing behind it: what FUSE itself costs, the baseline of "open, read 4 KiB, close".
//!
//! Shows a local directory read-only and hands every file to the kernel, with the flags that Headpond uses, from an inode
//! table that is filled as names are looked up and never emptied. Needs root.
//!
//! ```text
//! bare_passthrough [--register-each-open] SOURCE MOUNTPOINT
//! ```
//!
//! Backing files are registered once and kept; `--register-each-open` registers a file at its first open and forgets it at
//! its last close, as Headpond does. It ends with the mount: `umount MOUNTPOINT`.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use fuser::{
    BackingId, Config, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
    SessionACL,
};

/// How long the kernel believes names and attributes.
const TTL: Duration = Duration::from_secs(30);

/// Locks of the tables, so that threads seldom meet.
const SHARDS: usize = 64;

struct Node {
    path: PathBuf,
    backing: Option<Arc<BackingId>>,
    opens: u64,
}

struct Bare {
    register_each_open: bool,
    shards: [Mutex<HashMap<u64, Node>>; SHARDS],
}

impl Bare {
    /// Runs `with` on the node's entry; `None` when nobody looked it up.
    fn with<T>(&self, node: INodeNo, with: impl FnOnce(&mut Node) -> T) -> Option<T> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
        let shard = &self.shards[node.0 as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&node.0).map(with)
    }

    fn path(&self, node: INodeNo) -> io::Result<PathBuf> {
        self.with(node, |node| node.path.clone()).ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    fn learn(&self, path: PathBuf, node: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
        let shard = &self.shards[node as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.entry(node).or_insert(Node { path, backing: None, opens: 0 });
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        let path = self.path(parent)?.join(name);
        let found = fs::symlink_metadata(&path)?;
        self.learn(path, found.ino());
        Ok(attr(found.ino(), &found))
    }

    fn open_file(&self, node: INodeNo, reply: &ReplyOpen) -> io::Result<Arc<BackingId>> {
        let opened = self.with(node, |node| {
            let backing = match &node.backing {
                Some(backing) => Arc::clone(backing),
                None => Arc::new(reply.open_backing(File::open(&node.path)?)?),
            };
            node.backing = Some(Arc::clone(&backing));
            node.opens += 1;
            Ok(backing)
        });
        opened.unwrap_or_else(|| Err(io::Error::from_raw_os_error(libc::ESTALE)))
    }
}

impl fuser::Filesystem for Bare {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PASSTHROUGH
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        let depth = config.set_max_stack_depth(1).is_ok();
        if !depth || config.add_capabilities(wanted).is_err() {
            return Err(io::Error::other("the kernel has no FUSE passthrough (Linux 6.9 is the first)"));
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => reply.entry(&TTL, &absent(), Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(node).and_then(fs::symlink_metadata) {
            Ok(found) => reply.attr(&TTL, &attr(node.0, &found)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn open(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_file(node, &reply) {
            Ok(backing) => reply.opened_passthrough(FileHandle(0), FopenFlags::FOPEN_NOFLUSH, &backing),
            Err(error) => reply.error(error.into()),
        }
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
        let last = self.with(node, |node| {
            node.opens -= 1;
            if self.register_each_open && node.opens == 0 { node.backing.take() } else { None }
        });
        drop(last);
        reply.ok();
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.path(node).and_then(fs::read_dir) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error.into()),
        };
        for (entry, next) in entries.zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let Ok(entry) = entry else { return reply.error(Errno::EIO) };
            let Ok(found) = entry.metadata() else { continue };
            if reply.add(INodeNo(found.ino()), next, kind(&found), entry.file_name()) {
                break;
            }
        }
        reply.ok();
    }
}

fn kind(found: &Metadata) -> FileType {
    FileType::from_std(found.file_type()).unwrap_or(FileType::RegularFile)
}

fn attr(node: u64, found: &Metadata) -> FileAttr {
    let mtime = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(node),
        size: found.size(),
        blocks: found.blocks(),
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: mtime,
        kind: kind(found),
        perm: (found.mode() & 0o7777) as u16,
        nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// What the kernel takes for the absence of a name, to be believed as long as a name.
const fn absent() -> FileAttr {
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let register_each_open = arguments.first().is_some_and(|first| first == "--register-each-open");
    if register_each_open {
        arguments.remove(0);
    }
    let [source, mountpoint] = arguments.as_slice() else {
        println!("usage: bare_passthrough [--register-each-open] SOURCE MOUNTPOINT");
        return ExitCode::from(2);
    };
    let bare = Bare { register_each_open, shards: std::array::from_fn(|_| Mutex::default()) };
    bare.learn(PathBuf::from(source), INodeNo::ROOT.0);
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::RO, MountOption::DefaultPermissions, MountOption::FSName("bare-passthrough".to_owned())];
    config.acl = SessionACL::All;
    config.n_threads = Some(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16));
    config.clone_fd = true;
    match fuser::mount(bare, mountpoint, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cannot mount: {error}");
            ExitCode::FAILURE
        }
    }
}
