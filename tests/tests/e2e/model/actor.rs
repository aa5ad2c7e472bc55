//! Does steps below a root, be it a mount or a plain directory.

mod open;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use headpond_tests::{close, truncate};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode as Bits, OFlags, RenameFlags, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
        XattrFlags,
    },
    io::Errno,
};

use super::{
    calls::{Answer, accessed, close_shared, done, errno, flags, names, number, special, times, xattrs},
    outcome::{Began, Kind, Outcome},
    step::{Data, Mode, Path, Slot, Step, XATTRS},
};

/// Places for open files.
pub(super) const SLOTS: Slot = 6;

/// How long a call may answer that somebody else is busy there. A mount says so while objects are being moved.
const PATIENCE: Duration = Duration::from_secs(60);

/// A root with the files that are open below it.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) root: PathBuf,
    // Shared only while a step uses it: a second descriptor would flush the file when it is closed.
    slots: [Option<Rc<OwnedFd>>; SLOTS],
    began: Began,
    /// Calls that were to be repeated since somebody was busy.
    pub(super) waits: usize,
}

impl Actor {
    pub(super) fn new(root: PathBuf, began: Began) -> Self {
        Self { root, slots: [const { None }; SLOTS], began, waits: 0 }
    }

    /// Closes whatever is open.
    pub(super) fn close_all(&mut self) -> Result<()> {
        for slot in &mut self.slots {
            if let Some(file) = slot.take() {
                close_shared(file).map_err(std::io::Error::from).context("closing what was open at the end")?;
            }
        }
        Ok(())
    }

    /// The open file there.
    pub(super) fn open(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        self.slots[slot].as_ref().map(|file| file.as_fd())
    }

    /// Names in the open directory there.
    pub(super) fn entries(&self, slot: Slot) -> Option<Vec<Path>> {
        let names = names(self.open(slot)?).ok()?;
        Some(names.into_iter().map(|(name, _)| name).collect())
    }

    /// Does a step.
    ///
    /// # Errors
    /// Somebody was busy for a minute.
    pub(super) fn act(&mut self, step: &Step) -> Result<Outcome> {
        match self.answer(step) {
            Ok(outcome) => Ok(outcome),
            Err(Errno::BUSY) => anyhow::bail!("{step:?} answers that somebody is busy for {PATIENCE:?}"),
            Err(errno) => Ok(Outcome::Failed(errno.raw_os_error())),
        }
    }

    fn answer(&mut self, step: &Step) -> Answer {
        match step {
            Step::Put(path, data) => self.put(path, Mode::ReadWriteCreateTruncate, None, *data),
            Step::PutNew(path, data) => self.put(path, Mode::WriteCreateExclusive, None, *data),
            Step::Append(path, data) => self.put(path, Mode::WriteAppend, None, *data),
            Step::Overwrite(path, at, data) => self.put(path, Mode::Write, Some(*at), *data),
            Step::PutBeside(path, data) => {
                let beside = format!("{path}.tmp");
                let file = self.open_at(&beside, Mode::WriteCreate)?;
                self.write_all(&file, None, *data)?;
                self.call(|| rustix::fs::fsync(&file))?;
                done(close(file).map_err(errno))?;
                let root = self.root()?;
                done(self.call(|| rustix::fs::renameat(&root, beside.as_str(), &root, path.as_str())))
            }
            Step::PutWithTimes(path, data, mode, seconds) => {
                let file = self.open_at(path, Mode::ReadWriteCreateTruncate)?;
                self.write_all(&file, None, *data)?;
                self.call(|| rustix::fs::fchmod(&file, Bits::from_raw_mode(*mode)))?;
                self.call(|| rustix::fs::futimens(&file, &times(*seconds, 7)))?;
                done(close(file).map_err(errno))
            }
            Step::Touch(path) => {
                let file = self.open_at(path, Mode::WriteCreate)?;
                done(close(file).map_err(errno))
            }
            Step::Truncate(path, length) => {
                let path = self.root.join(path);
                done(self.call(|| truncate(&path, *length).map_err(errno)))
            }
            Step::Get(path) => {
                let file = self.open_at(path, Mode::Read)?;
                self.read_to_end(&file)
            }
            Step::GetPart(path, at, length) => {
                let file = self.open_at(path, Mode::Read)?;
                self.read_at(&file, *at, *length)
            }
            Step::Copy(from, to) => {
                let Outcome::Bytes(bytes) = self.answer(&Step::Get(from.clone()))? else { return Err(Errno::IO) };
                let file = self.open_at(to, Mode::ReadWriteCreateTruncate)?;
                self.write_bytes(&file, None, &bytes)?;
                done(close(file).map_err(errno))
            }
            Step::Unlink(path) => self.unlink(None, path, AtFlags::empty()),
            Step::RemoveDir(path) => self.unlink(None, path, AtFlags::REMOVEDIR),
            Step::MakeDir(path, mode) => self.make_dir(None, path, *mode),
            Step::MakeDirs(path) => {
                for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
                    match self.make_dir(None, &path[..end], 0o777) {
                        Ok(_) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Ok(Outcome::Done)
            }
            Step::RemoveTree(path) => self.remove_tree(path),
            Step::List(path) => {
                let directory = self.open_at(path, Mode::Directory)?;
                names(&directory).map(Outcome::Names)
            }
            Step::SyncDir(path) => {
                let directory = self.open_at(path, Mode::Directory)?;
                done(self.call(|| rustix::fs::fsync(&directory)))
            }
            Step::Rename(from, to) => self.rename((None, from), (None, to), RenameFlags::empty()),
            Step::RenameNoReplace(from, to) => self.rename((None, from), (None, to), RenameFlags::NOREPLACE),
            Step::RenameExchange(one, other) => self.rename((None, one), (None, other), RenameFlags::EXCHANGE),
            Step::RenameInCircle(one, other, aside) => {
                for (from, to) in [(one, aside), (other, one), (aside, other)] {
                    self.rename((None, from), (None, to), RenameFlags::NOREPLACE)?;
                }
                Ok(Outcome::Done)
            }
            Step::Link(from, to) => {
                let root = self.root()?;
                done(self.call(|| rustix::fs::linkat(&root, from.as_str(), &root, to.as_str(), AtFlags::empty())))
            }
            Step::Symlink(target, path) => {
                let root = self.root()?;
                done(self.call(|| rustix::fs::symlinkat(target.as_str(), &root, path.as_str())))
            }
            Step::ReadLink(path) => {
                let root = self.root()?;
                let target = self.call(|| rustix::fs::readlinkat(&root, path.as_str(), Vec::new()))?;
                Ok(Outcome::Bytes(target.into_bytes()))
            }
            Step::MakeFifo(path, mode) => self.make_node(path, FileType::Fifo, *mode),
            Step::MakeSocket(path, mode) => self.make_node(path, FileType::Socket, *mode),
            Step::SetXattr(path, name, value) => {
                let (path, value) = (self.root.join(path), value.bytes());
                done(self.call(|| rustix::fs::setxattr(&path, XATTRS[*name], &value, XattrFlags::empty())))
            }
            Step::GetXattr(path, name) => {
                let (path, mut value) = (self.root.join(path), vec![0; 4096]);
                let got = self.call(|| rustix::fs::getxattr(&path, XATTRS[*name], &mut value[..]))?;
                value.truncate(got);
                Ok(Outcome::Bytes(value))
            }
            Step::RemoveXattr(path, name) => {
                let path = self.root.join(path);
                done(self.call(|| rustix::fs::removexattr(&path, XATTRS[*name])))
            }
            Step::ListXattrs(path) => {
                let (path, mut list) = (self.root.join(path), vec![0; 4096]);
                let got = self.call(|| rustix::fs::listxattr(&path, &mut list[..]))?;
                Ok(Outcome::Names(xattrs(&list[..got])))
            }
            Step::CopyRange(from, at, to, to_at, length) => {
                let (from, to) = (self.held(*from)?, self.held(*to)?);
                self.copy_range((&from, *at), (&to, *to_at), *length)
            }
            Step::Stat(path) => self.stat(None, path),
            Step::Chmod(path, mode) => {
                let (root, bits) = (self.root()?, Bits::from_raw_mode(*mode));
                done(self.call(|| rustix::fs::chmodat(&root, path.as_str(), bits, AtFlags::empty())))
            }
            Step::Chown(path, user, group) => {
                let (root, user, group) = (self.root()?, Uid::from_raw(*user), Gid::from_raw(*group));
                let flags = AtFlags::empty();
                done(self.call(|| rustix::fs::chownat(&root, path.as_str(), Some(user), Some(group), flags)))
            }
            Step::SetTimes(path, seconds, nanoseconds) => {
                self.set_times(path, &times(*seconds, *nanoseconds))?;
                let root = self.root()?;
                Ok(accessed(&self.call(|| rustix::fs::statat(&root, path.as_str(), AtFlags::empty()))?))
            }
            Step::OmitTimes(path) => self.set_times(path, &special(UTIME_OMIT)),
            Step::TimesNow(path) => self.set_times(path, &special(UTIME_NOW)),
            Step::Open(slot, path, mode) => {
                let file = self.open_at(path, *mode)?;
                self.slots[*slot] = Some(Rc::new(file));
                Ok(Outcome::Done)
            }
            Step::Close(slot) => match self.slots[*slot].take() {
                Some(file) => done(close_shared(file)),
                None => Err(Errno::BADF),
            },
            Step::Duplicate(slot, to) => {
                let copy = rustix::io::dup(&self.held(*slot)?)?;
                self.slots[*to] = Some(Rc::new(copy));
                Ok(Outcome::Done)
            }
            Step::DuplicateAndClose(slot) => {
                let copy = rustix::io::dup(&self.held(*slot)?)?;
                done(close(copy).map_err(errno))
            }
            Step::ListHeld(slot) => names(self.held(*slot)?).map(Outcome::Names),
            Step::PutHeld(slot, name, data) => {
                let (directory, flags) = (self.held(*slot)?, flags(Mode::ReadWriteCreateTruncate));
                let bits = Bits::from_raw_mode(0o666);
                let file = self.call(|| rustix::fs::openat(&directory, name.as_str(), flags, bits))?;
                self.write_all(&file, None, *data)?;
                done(close(file).map_err(errno))
            }
            Step::MakeDirHeld(slot, name) => self.make_dir(Some(*slot), name, 0o755),
            Step::UnlinkHeld(slot, name) => self.unlink(Some(*slot), name, AtFlags::empty()),
            Step::RemoveDirHeld(slot, name) => self.unlink(Some(*slot), name, AtFlags::REMOVEDIR),
            Step::StatHeld(slot, name) => self.stat(Some(*slot), name),
            Step::RenameHeld(slot, from, to_slot, to) => {
                self.rename((Some(*slot), from), (Some(*to_slot), to), RenameFlags::empty())
            }
            _ => self.answer_open(step),
        }
    }

    fn put(&mut self, path: &str, mode: Mode, at: Option<u64>, data: Data) -> Answer {
        let file = self.open_at(path, mode)?;
        self.write_all(&file, at, data)?;
        done(close(file).map_err(errno))
    }

    fn unlink(&mut self, below: Option<Slot>, path: &str, flags: AtFlags) -> Answer {
        let directory = self.below(below)?;
        done(self.call(|| rustix::fs::unlinkat(&directory, path, flags)))
    }

    fn make_dir(&mut self, below: Option<Slot>, path: &str, mode: u32) -> Answer {
        let directory = self.below(below)?;
        done(self.call(|| rustix::fs::mkdirat(&directory, path, Bits::from_raw_mode(mode))))
    }

    fn make_node(&mut self, path: &str, kind: FileType, mode: u32) -> Answer {
        let (root, bits) = (self.root()?, Bits::from_raw_mode(mode));
        done(self.call(|| rustix::fs::mknodat(&root, path, kind, bits, 0)))
    }

    /// As many calls as it takes: one may copy less than it was asked for.
    fn copy_range(&mut self, from: (&OwnedFd, u64), to: (&OwnedFd, u64), length: usize) -> Answer {
        let (mut at, mut to_at) = (from.1, to.1);
        let mut copied = 0;
        loop {
            let rest = length - copied;
            match self.call(|| rustix::fs::copy_file_range(from.0, Some(&mut at), to.0, Some(&mut to_at), rest))? {
                0 => return Ok(number(copied)),
                got => copied += got,
            }
        }
    }

    fn rename(&mut self, from: (Option<Slot>, &Path), to: (Option<Slot>, &Path), flags: RenameFlags) -> Answer {
        let (old, new) = (self.below(from.0)?, self.below(to.0)?);
        let (from, to) = (from.1.as_str(), to.1.as_str());
        done(self.call(|| rustix::fs::renameat_with(&old, from, &new, to, flags)))
    }

    fn stat(&mut self, below: Option<Slot>, path: &str) -> Answer {
        let directory = self.below(below)?;
        let stat = self.call(|| rustix::fs::statat(&directory, path, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(Outcome::Attributes(self.began.attributes(&stat)))
    }

    fn set_times(&mut self, path: &str, times: &Timestamps) -> Answer {
        let root = self.root()?;
        done(self.call(|| rustix::fs::utimensat(&root, path, times, AtFlags::empty())))
    }

    fn remove_tree(&mut self, path: &str) -> Answer {
        let directory = match self.open_at(path, Mode::Directory) {
            Err(Errno::NOTDIR) => return self.unlink(None, path, AtFlags::empty()),
            other => other?,
        };
        for (name, kind) in names(&directory)? {
            let below = format!("{path}/{name}");
            match kind {
                Kind::Directory => self.remove_tree(&below)?,
                _ => self.unlink(None, &below, AtFlags::empty())?,
            };
        }
        drop(directory);
        self.unlink(None, path, AtFlags::REMOVEDIR)
    }

    fn root(&self) -> Answer<Rc<OwnedFd>> {
        rustix::fs::openat(CWD, &self.root, OFlags::PATH | OFlags::CLOEXEC, Bits::empty()).map(Rc::new)
    }

    /// The directory in a slot, or the root.
    fn below(&self, slot: Option<Slot>) -> Answer<Rc<OwnedFd>> {
        slot.map_or_else(|| self.root(), |slot| self.held(slot))
    }

    fn held(&self, slot: Slot) -> Answer<Rc<OwnedFd>> {
        self.slots[slot].clone().ok_or(Errno::BADF)
    }

    fn open_at(&mut self, path: &str, mode: Mode) -> Answer<OwnedFd> {
        let (root, flags) = (self.root()?, flags(mode));
        self.call(|| rustix::fs::openat(&root, path, flags, Bits::from_raw_mode(0o666)))
    }

    fn write_all(&mut self, file: &OwnedFd, at: Option<u64>, data: Data) -> Answer<()> {
        self.write_bytes(file, at, &data.bytes())
    }

    fn write_bytes(&mut self, file: &OwnedFd, at: Option<u64>, bytes: &[u8]) -> Answer<()> {
        let mut done = 0;
        while done < bytes.len() {
            done += match at {
                Some(at) => self.call(|| rustix::io::pwrite(file, &bytes[done..], at + done as u64))?,
                None => self.call(|| rustix::io::write(file, &bytes[done..]))?,
            };
        }
        Ok(())
    }

    fn read_at(&mut self, file: &OwnedFd, at: u64, length: usize) -> Answer {
        let mut buffer = vec![0; length];
        let got = self.call(|| rustix::io::pread(file, &mut buffer[..], at))?;
        buffer.truncate(got);
        Ok(Outcome::Bytes(buffer))
    }

    fn read_to_end(&mut self, file: &OwnedFd) -> Answer {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let got = self.call(|| rustix::io::pread(file, &mut buffer[..], bytes.len() as u64))?;
            bytes.extend_from_slice(&buffer[..got]);
            if got == 0 {
                return Ok(Outcome::Bytes(bytes));
            }
        }
    }

    /// A call, until nobody is busy there.
    fn call<T>(&mut self, mut call: impl FnMut() -> Answer<T>) -> Answer<T> {
        let began = Instant::now();
        loop {
            match call() {
                // The kernel tells of a close a moment after it: until then who reads has the file passed through, and it is not opened for
                // reading and writing.
                Err(Errno::BUSY | Errno::TXTBSY) if began.elapsed() < PATIENCE => self.waits += 1,
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}
