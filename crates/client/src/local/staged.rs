//! A staged file, lent by the worker of this node to be written.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use headpond_proto::v1;
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, Result};
use rustix::{
    fs::{FallocateFlags, SeekFrom},
    io::Errno,
};
use tokio::{sync::RwLock, time::timeout};

use super::{
    Connection, Place,
    file::{INLINE, read_cached},
    kept::Kept,
};
use crate::writing::Stretch;

/// Bytes that are written without a thread of their own where tasks run, which must not wait for long.
const SMALL: usize = 64 << 10;

/// Most bytes that the worker is asked to keep in one call.
const KEPT_AT_ONCE: u64 = 64 << 20;

/// The bytes of a file's next version on the disk of this node's worker. They are the worker's as long as the connection holds.
#[derive(Debug)]
pub(crate) struct StagedFile {
    file: File,
    connection: Arc<Connection>,
    /// As a signed `StagingGrant`.
    grant: v1::SignedGrant,
    /// A leaf lock.
    kept: Mutex<Kept>,
    /// Read-locked by changes on threads of their own, which go on when nobody waits for them any more.
    changes: Arc<RwLock<()>>,
    _place: Place,
}

impl StagedFile {
    pub(crate) fn new(file: File, connection: Arc<Connection>, grant: v1::SignedGrant, place: Place) -> Self {
        Self { file, connection, grant, kept: Mutex::default(), changes: Arc::default(), _place: place }
    }

    /// What was written is about to be made durable as `content`, of so many bytes: that stays what it is now, whatever is written afterwards. The
    /// caller lets nobody change anything meanwhile; changes that nobody waits for are waited for.
    pub(crate) async fn begin_version(&self, content: ContentId, length: u64) {
        self.settle().await;
        self.kept().begin(content, length);
    }

    /// Waits for changes that nobody waits for.
    pub(crate) async fn settle(&self) {
        drop(self.changes.write().await);
    }

    /// Has the worker keep what the file has in a range, as far as it was acknowledged and that was not done; each call may take as long as
    /// the caller has `patience`. To be called before it is changed there.
    ///
    /// # Errors
    /// `ResourceExhausted` when there is no room for that; `Unavailable`, `DeadlineExceeded`.
    pub(crate) async fn keep(&self, range: &ByteRange, patience: Duration) -> Result<()> {
        loop {
            let missing = self.kept().missing(range);
            let Some(((content, length), missing)) = missing else { return Ok(()) };
            let mut start = missing.start;
            while start < missing.end {
                let piece = start..missing.end.min(start + KEPT_AT_ONCE);
                let request = v1::KeepStagedRequest {
                    grant: Some(self.grant.clone()),
                    version: Some(v1::Head { content: Some(content.into()), length, original: None }),
                    range: Some(piece.clone().into()),
                };
                timeout(patience, self.connection.keep_staged(request)).await.unwrap_or_else(|_| {
                    let message =
                        format!("what a file was is not kept within {} ms: its disk is slow", patience.as_millis());
                    Err(Error::new(ErrorKind::DeadlineExceeded, message))
                })?;
                start = piece.end;
            }
            self.kept().add(content, missing);
        }
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
        let range = offset..offset.saturating_add(bytes.len() as u64);
        if bytes.len() > INLINE || !self.kept().allows(&range) {
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

    /// Writes all of `bytes`, where [`StagedFile::keep`] allows that. Dropping the future does not undo or stop it.
    ///
    /// # Errors
    /// `ResourceExhausted` when the disk is full, `Unavailable` when it fails; parts may be written then.
    pub(crate) async fn write(self: &Arc<Self>, offset: u64, bytes: Bytes) -> Result<()> {
        if bytes.len() <= SMALL && self.try_write(offset, &bytes) {
            return Ok(());
        }
        self.changing("written", move |file| file.write_all_at(&bytes, offset)).await
    }

    /// Sets the length, as [`StagedFile::write`]; what is added reads as zeros.
    ///
    /// # Errors
    /// As of [`StagedFile::write`].
    pub(crate) async fn set_length(self: &Arc<Self>, length: u64) -> Result<()> {
        self.changing("resized", move |file| file.set_len(length)).await
    }

    /// Makes a hole of `length` bytes before the file's end, as [`StagedFile::write`]; whether the file system makes any.
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
        self.changing("made a hole in", punch).await
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

    /// A change, which goes on when nobody waits for it any more.
    async fn changing<T, F>(self: &Arc<Self>, what: &'static str, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> io::Result<T> + Send + 'static,
    {
        let under_way = Arc::clone(&self.changes).read_owned().await;
        let change = move |file: &File| {
            let changed = call(file);
            drop(under_way);
            changed
        };
        self.blocking(what, change).await
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
