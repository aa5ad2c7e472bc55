//! Describing and reading objects.

use std::{os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream};
use headpond_types::ByteRange;
use rustix::{
    buffer::spare_capacity,
    fs::{FileType, OFlags, Stat, fstat},
    io::{Errno, pread},
};

use super::{
    Shared, blocking,
    path::{describe, file_type, size_of, version_of},
    tag,
};
use crate::{BodyStream, Key, ObjectMeta, UfsError, UfsErrorKind};

/// Bytes read by one system call: more means fewer changes of threads, and more memory held by each reader.
const CHUNK: u64 = 1 << 20;

impl Shared {
    pub(super) fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        let (file, stat) = self.open_object(key, OFlags::PATH)?;
        Ok(ObjectMeta { content: tag::read(&file), ..describe(key.0.clone(), &stat) })
    }

    /// The file or, for a key with a trailing slash, the directory under `key`.
    pub(super) fn open_object(&self, key: &Key, flags: OFlags) -> Result<(OwnedFd, Stat), UfsError> {
        let root = self.root()?;
        self.names(key)?;
        let failure = |errno| self.failure("open", key, errno);
        let file = self.open_below(&root, key, flags).map_err(failure)?;
        let stat = fstat(&file).map_err(failure)?;
        let wanted = if key.as_bytes().ends_with(b"/") { FileType::Directory } else { FileType::RegularFile };
        if file_type(&stat) == wanted { Ok((file, stat)) } else { Err(failure(Errno::NOENT)) }
    }

    pub(super) fn changed(&self, key: &Key) -> UfsError {
        self.error(UfsErrorKind::Changed, key, "has changed since it was listed")
    }

    /// Opens the version `version` of `key` to read `range`.
    pub(super) fn open_version(&self, key: &Key, range: &ByteRange, version: &str) -> Result<OwnedFd, UfsError> {
        // Opening a pipe that somebody put there must not wait for a writer.
        let (file, stat) = self.open_object(key, OFlags::RDONLY | OFlags::NONBLOCK)?;
        if version_of(&stat) != version {
            return Err(self.changed(key));
        }
        let size = if file_type(&stat) == FileType::Directory { 0 } else { size_of(&stat) };
        if range.start > range.end || range.end > size {
            let why = format!("has {size} bytes, it cannot be read at {}..{}", range.start, range.end);
            return Err(self.error(UfsErrorKind::Invalid, key, &why));
        }
        Ok(file)
    }
}

/// A range being read. Each chunk is handed out only if the version still holds after it was read.
pub(super) struct Reading {
    shared: Arc<Shared>,
    key: Key,
    version: String,
    file: OwnedFd,
    left: ByteRange,
}

impl Reading {
    pub(super) fn begin(shared: Arc<Shared>, key: Key, range: ByteRange, version: String) -> Result<Self, UfsError> {
        let file = shared.open_version(&key, &range, &version)?;
        Ok(Self { shared, key, version, file, left: range })
    }

    pub(super) fn into_body(self) -> BodyStream {
        stream::unfold(Some(self), |reading| async {
            let mut reading = reading.filter(|reading| !reading.left.is_empty())?;
            let step = blocking(move || reading.next_chunk().map(|chunk| (chunk, reading))).await;
            match step {
                Ok((chunk, reading)) => Some((Ok(chunk), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    fn next_chunk(&mut self) -> Result<Bytes, UfsError> {
        let wanted = usize::try_from(CHUNK.min(self.left.end - self.left.start)).unwrap_or(1 << 20);
        let mut chunk = Vec::with_capacity(wanted);
        let got = loop {
            match pread(&self.file, spare_capacity(&mut chunk), self.left.start) {
                Err(Errno::INTR) => {}
                other => break other.map_err(|errno| self.shared.failure("read", &self.key, errno))?,
            }
        };
        let now = fstat(&self.file).map_err(|errno| self.shared.failure("read", &self.key, errno))?;
        if version_of(&now) != self.version {
            return Err(self.shared.changed(&self.key));
        }
        if got == 0 {
            let why = format!("ended {} bytes early", self.left.end - self.left.start);
            return Err(self.shared.error(UfsErrorKind::Protocol, &self.key, &why));
        }
        chunk.truncate(wanted);
        let taken = chunk.len() as u64;
        self.left.start += taken;
        Ok(chunk.into())
    }
}
