//! Files being written, out of sight until they are whole.

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use headpond_types::ContentId;
use rustix::{
    fs::{
        AtFlags, FlockOperation, Mode, OFlags, ResolveFlags, Stat, copy_file_range, flock, fstat, fsync, linkat,
        mkdirat, openat, openat2, renameat, unlinkat,
    },
    io::{Errno, write},
};

use super::{
    STAGING, Shared,
    path::{describe, version_of},
    tag,
};
use crate::{Key, ObjectMeta, Precondition, UfsError, UfsErrorKind};

/// Bytes copied by one system call, so that a copy can be interrupted by an error in reasonable time.
const COPY_STEP: usize = 64 << 20;

/// A file without a key yet; dropped, it is gone.
pub(super) struct Staged {
    staging: OwnedFd,
    name: String,
    file: OwnedFd,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing under the name any more.
        let _ = unlinkat(&self.staging, &self.name, AtFlags::empty());
    }
}

impl Staged {
    pub(super) fn write(&self, mut body: &[u8]) -> Result<(), Errno> {
        while !body.is_empty() {
            match write(&self.file, body) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => body = &body[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Appends `length` bytes of `source` from `offset`.
    pub(super) fn append(&self, source: impl AsFd, mut offset: u64, mut length: u64) -> Result<(), Errno> {
        while length > 0 {
            let step = usize::try_from(length).unwrap_or(COPY_STEP).min(COPY_STEP);
            match copy_file_range(&source, Some(&mut offset), &self.file, None, step) {
                Ok(0) => return Err(Errno::IO),
                Ok(copied) => length -= copied as u64,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Has the file say which content it is, where the file system keeps such things.
    pub(super) fn set_content(&self, content: Option<ContentId>) {
        tag::write(&self.file, content);
    }

    pub(super) fn sync(&self) -> Result<(), Errno> {
        fsync(&self.file)
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        fstat(&self.file)
    }

    /// Gives the file a name in `directory`, which must be on the same file system.
    pub(super) fn rename_to(&self, directory: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        renameat(&self.staging, &self.name, directory, name)
    }
}

impl Shared {
    /// The staging directory, made if need be.
    pub(super) fn staging(&self, root: &OwnedFd) -> Result<OwnedFd, Errno> {
        match mkdirat(root, STAGING, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        openat(root, STAGING, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// A new empty file in the staging directory.
    pub(super) fn stage(&self, root: &OwnedFd) -> Result<Staged, Errno> {
        let staging = self.staging(root)?;
        let name = format!("file-{:032x}", rand::random::<u128>());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = openat(&staging, &name, flags, mode)?;
        Ok(Staged { staging, name, file })
    }

    /// Makes a whole staged file the object under `key`, durably, if `condition` holds.
    ///
    /// Conditions are atomic among processes that use this driver (they lock the staging directory); another program that replaces the
    /// file between check and rename is overwritten. `Absent` is atomic against everybody.
    pub(super) fn publish(
        &self,
        root: &OwnedFd,
        key: &Key,
        staged: &Staged,
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        let failure = |errno| self.failure("write", key, errno);
        staged.sync().map_err(failure)?;
        let names = self.names(key)?;
        let Some((last, above)) = names.split_last() else { return Err(failure(Errno::INVAL)) };
        let parent = self.make_directories(root, key, above)?;
        match condition {
            Precondition::None => staged.rename_to(&parent, last).map_err(failure)?,
            Precondition::Absent => {
                match linkat(&staged.staging, &staged.name, &parent, *last, AtFlags::empty()) {
                    Err(Errno::EXIST) => return Err(self.unmet(key)),
                    other => other.map_err(failure)?,
                }
                unlinkat(&staged.staging, &staged.name, AtFlags::empty()).map_err(failure)?;
            }
            Precondition::Matches(_) => {
                flock(&staged.staging, FlockOperation::LockExclusive).map_err(failure)?;
                self.check(key, condition)?;
                staged.rename_to(&parent, last).map_err(failure)?;
            }
        }
        fsync(&parent).map_err(failure)?;
        // Naming the file has changed its ctime.
        let content = tag::read(&staged.file);
        Ok(ObjectMeta { content, ..describe(key.0.clone(), &staged.stat().map_err(failure)?) })
    }

    /// Opens the directory `names` below the root, made durably where it is missing.
    pub(super) fn make_directories(&self, root: &OwnedFd, key: &Key, names: &[&[u8]]) -> Result<OwnedFd, UfsError> {
        let failure = |errno| match errno {
            Errno::NOTDIR | Errno::EXIST => self.error(
                UfsErrorKind::Invalid,
                key,
                "cannot be written: a file stands where its path has a directory",
            ),
            other => self.failure("write", key, other),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut directory = root.try_clone().map_err(|error| {
            self.error(UfsErrorKind::Transient, key, "cannot be written: no descriptor is left").with_source(error)
        })?;
        for name in names {
            match mkdirat(&directory, *name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH) {
                Ok(()) => fsync(&directory).map_err(failure)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failure(errno)),
            }
            directory = openat2(&directory, *name, flags, Mode::empty(), resolve).map_err(failure)?;
        }
        Ok(directory)
    }

    /// Whether `condition` holds now; the caller holds the lock.
    pub(super) fn check(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        let present = match self.open_object(key, OFlags::PATH) {
            Ok((_, stat)) => Some(version_of(&stat)),
            Err(error) if error.kind() == UfsErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match condition {
            Precondition::None => Ok(()),
            Precondition::Matches(version) if present.as_ref() == Some(version) => Ok(()),
            Precondition::Absent if present.is_none() => Ok(()),
            _ => Err(self.unmet(key)),
        }
    }

    pub(super) fn unmet(&self, key: &Key) -> UfsError {
        self.error(UfsErrorKind::Precondition, key, "is not as the condition says")
    }

    pub(super) fn bytes_of_marker(&self, key: &Key, body: &Bytes) -> Result<(), UfsError> {
        if body.is_empty() {
            return Ok(());
        }
        Err(self.error(UfsErrorKind::Invalid, key, "is a directory and takes no bytes"))
    }
}
