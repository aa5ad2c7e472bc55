//! A staged file, lent by the worker of this node to be written.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};
use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, Result};
use rustix::{
    fs::{FallocateFlags, SeekFrom},
    io::Errno,
};

use super::{
    Connection, Place,
    file::{INLINE, read_cached},
};
use crate::writing::Stretch;

/// Bytes that are written without a thread of their own where tasks run, which must not wait for long.
const SMALL: usize = 64 << 10;

/// The bytes of a file's next version on the disk of this node's worker. They are the worker's as long as the connection holds.
#[derive(Debug)]
pub(crate) struct StagedFile {
    file: File,
    connection: Arc<Connection>,
    _place: Place,
}

impl StagedFile {
    pub(crate) const fn new(file: File, connection: Arc<Connection>, place: Place) -> Self {
        Self { file, connection, _place: place }
    }

    /// The worker that lent the file was lost, and with it what was written.
    pub(crate) fn is_lost(&self) -> bool {
        !self.connection.is_open()
    }

    /// Has the worker store what was written, or make it durable. Goes on there when it is dropped.
    ///
    /// # Errors
    /// What the worker answered; `Unavailable` when it was lost.
    pub(crate) async fn persist(&self, request: v1::PersistRequest) -> Result<v1::PersistResponse> {
        self.connection.persist(request).await
    }

    /// The worker need not keep the file any more, but what it was stored as.
    ///
    /// # Errors
    /// As of [`StagedFile::persist`].
    pub(crate) async fn end(&self, request: v1::EndStagingRequest) -> Result<()> {
        self.connection.end_staging(request).await
    }

    /// Bytes in the file, if the page cache knows: on every local file system.
    pub(crate) fn length(&self) -> Option<u64> {
        self.file.metadata().ok().map(|metadata| metadata.len())
    }

    /// Reads into `buffer` if that need not wait for a disk; whether it did. Only for what lies before the file's end.
    pub(crate) fn try_read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        read_cached(&self.file, offset, buffer).0 == buffer.len()
    }

    /// Writes if no other thread waits in here for this node's disk; whether all of it was. Parts may be written otherwise.
    ///
    /// Most file systems take a write into memory and never say beforehand whether that has to wait. Handing it to another thread costs a copy of the
    /// bytes into fresh memory, which is dearer than the write.
    pub(crate) fn try_write(&self, offset: u64, bytes: &[u8]) -> bool {
        if bytes.len() > INLINE {
            return false;
        }
        let Some(_alone) = self.connection.waits_for_disk() else { return false };
        self.file.write_all_at(bytes, offset).is_ok()
    }

    /// Reads `length` bytes, all of which lie before the file's end.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails.
    pub(crate) async fn read(self: &Arc<Self>, offset: u64, length: usize) -> Result<Bytes> {
        let mut buffer = BytesMut::zeroed(length);
        let got = if length <= INLINE { read_cached(&self.file, offset, &mut buffer).0 } else { 0 };
        if got < length {
            let read = move |file: &File| file.read_exact_at(&mut buffer[got..], offset + got as u64).map(|()| buffer);
            buffer = self.blocking("read", read).await?;
        }
        Ok(buffer.freeze())
    }

    /// Writes all of `bytes`. Dropping the future does not undo or stop it.
    ///
    /// # Errors
    /// `ResourceExhausted` when the disk is full, `Unavailable` when it fails; parts may be written then.
    pub(crate) async fn write(self: &Arc<Self>, offset: u64, bytes: Bytes) -> Result<()> {
        if bytes.len() <= SMALL && self.try_write(offset, &bytes) {
            return Ok(());
        }
        self.blocking("written", move |file| file.write_all_at(&bytes, offset)).await
    }

    /// Sets the length; what is added reads as zeros.
    ///
    /// # Errors
    /// As of [`StagedFile::write`].
    pub(crate) async fn set_length(self: &Arc<Self>, length: u64) -> Result<()> {
        self.blocking("resized", move |file| file.set_len(length)).await
    }

    /// Makes a hole of `length` bytes before the file's end; whether the file system makes any.
    ///
    /// # Errors
    /// As of [`StagedFile::write`].
    pub(crate) async fn punch(self: &Arc<Self>, offset: u64, length: u64) -> Result<bool> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punch = move |file: &File| match rustix::fs::fallocate(file, mode, offset, length) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        };
        self.blocking("made a hole in", punch).await
    }

    /// Where from `offset` on, which lies before the file's end, the next such stretch begins.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails.
    pub(crate) async fn next_stretch(self: &Arc<Self>, offset: u64, what: Stretch) -> Result<Option<u64>> {
        let seek = move |file: &File| {
            // Nobody reads or writes at the position that this moves.
            let to = match what {
                Stretch::Data => SeekFrom::Data(offset),
                Stretch::Hole => SeekFrom::Hole(offset),
            };
            match rustix::fs::seek(file, to) {
                Ok(next) => Ok(Some(next)),
                Err(Errno::NXIO) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.blocking("searched for holes", seek).await
    }

    async fn blocking<T, F>(self: &Arc<Self>, what: &'static str, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> io::Result<T> + Send + 'static,
    {
        let file = Arc::clone(self);
        let called = tokio::task::spawn_blocking(move || call(&file.file)).await;
        called.map_err(|error| failed(what, io::Error::other(error)))?.map_err(|error| failed(what, error))
    }
}

fn failed(what: &str, error: io::Error) -> Error {
    let (kind, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::ResourceExhausted, "make room on the disks of this node's worker")
        }
        _ => (ErrorKind::Unavailable, "look at the disks of this node's worker"),
    };
    Error::new(kind, format!("the staged file could not be {what}: {remedy}")).with_source(error)
}
