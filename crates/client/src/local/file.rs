//! A content's cache file, lent by the worker of this node.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use headpond_proto::v1;
use headpond_types::{ByteRange, Error, ErrorKind, Result, page_range, pages_of};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{Connection, Place, present::Present};

/// Longest read done on the caller's thread: copying 1 MiB out of the page cache takes about 100 µs, as long as a runtime's
/// thread should be held up.
pub(super) const INLINE: usize = 1 << 20;

/// The cache file of one content, open for reading. While any clone lives the worker punches no hole into it; when the last
/// one is dropped it is given back.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    length: u64,
    lease: u64,
    complete: AtomicBool,
    /// The worker has dropped the file from its cache.
    dropped: AtomicBool,
    present: Mutex<Present>,
    connection: Arc<Connection>,
    _place: Place,
}

impl LocalFile {
    pub(super) fn new(file: File, lent: &v1::LendResponse, connection: Arc<Connection>, place: Place) -> Self {
        let v1::LendResponse { lease, complete, length } = *lent;
        Self {
            file,
            length,
            lease,
            complete: complete.into(),
            dropped: false.into(),
            present: Mutex::default(),
            connection,
            _place: place,
        }
    }

    /// The descriptor. Ranges that are not known to be present read as zeros: read them through
    /// [`crate::OpenFile::read_at`], or the file directly once [`LocalFile::is_complete`].
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether every page is present and verified. Once true it stays true as long as this value lives.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether the file may be read: the worker knows that it is lent and has it in its cache. A complete one also after the worker
    /// was lost, until another takes its place: nobody changes it in between, and none but its pages can be had then. A worker that
    /// was started anew does not know the loan; one that has dropped the file keeps disk space occupied until it is given back.
    pub(crate) fn is_lent(&self) -> bool {
        let is_known = self.connection.is_open() || (self.is_complete() && !self.connection.is_succeeded());
        is_known && !self.dropped.load(Ordering::Acquire)
    }

    /// The worker has dropped the file from its cache.
    pub(super) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// Whether `range` can be read from the descriptor without asking.
    pub(crate) fn has(&self, range: &ByteRange) -> bool {
        self.is_complete() || self.present.lock().unwrap_or_else(PoisonError::into_inner).covers(range)
    }

    /// Waits until `range` can be read from the descriptor.
    ///
    /// # Errors
    /// `Unavailable` when the socket broke; what the worker answered otherwise.
    pub(crate) async fn ensure(self: &Arc<Self>, range: &ByteRange) -> Result<()> {
        // Pages are present or not as a whole: asked for so, the answer serves the neighbours too.
        let pages = pages_of(range);
        let whole = page_range(pages.start, self.length).start..page_range(pages.end.max(1) - 1, self.length).end;
        self.connection.ensure(self, self.lease, Some(whole)).await?;
        if self.has(range) {
            return Ok(());
        }
        let message = format!("the worker of this node answered that {range:?} is present, but not all of it");
        Err(Error::new(ErrorKind::Internal, message))
    }

    /// Asks whether the file has become complete, others may have had it filled.
    ///
    /// # Errors
    /// As of [`LocalFile::ensure`].
    pub(crate) async fn check(self: &Arc<Self>) -> Result<()> {
        self.connection.ensure(self, self.lease, None).await
    }

    /// Tells the worker what to have ready next. Does not wait.
    pub(crate) fn hint(self: &Arc<Self>, ahead: ByteRange) {
        self.connection.hint(self, self.lease, ahead);
    }

    /// The worker answered what is present.
    pub(super) fn learn(&self, complete: bool, present: impl IntoIterator<Item = ByteRange>) {
        let mut known = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.into_iter().for_each(|range| known.insert(range));
        let covered = known.covers(&(0..self.length));
        drop(known);
        if complete || covered {
            self.complete.store(true, Ordering::Release);
        }
    }

    /// Reads a range that is present, if it need not wait for a disk; whether it did. On a file system that cannot tell (tmpfs, which
    /// has none; overlayfs) it reads all the same.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn try_read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        match read_cached(&self.file, offset, buffer) {
            (got, None) if got == buffer.len() => Ok(true),
            (_, None) => Err(io::ErrorKind::UnexpectedEof.into()),
            (_, Some(Errno::AGAIN)) => Ok(false),
            (_, Some(Errno::OPNOTSUPP)) => self.file.read_exact_at(buffer, offset).map(|()| true),
            (_, Some(error)) => Err(error.into()),
        }
    }

    /// Reads a range that is present.
    ///
    /// What the page cache has is copied at once (`RWF_NOWAIT`, preadv2(2)); what the disk must give is read on a thread
    /// made for blocking, so neither a slow disk nor the switch of threads for warm data is paid by everyone.
    pub(crate) async fn read(self: &Arc<Self>, range: ByteRange) -> Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(|_| {
            Error::new(ErrorKind::InvalidArgument, format!("{range:?} does not fit into memory: read less at once"))
        })?;
        let mut buffer = BytesMut::zeroed(length);
        let got = if length <= INLINE { read_cached(&self.file, range.start, &mut buffer).0 } else { 0 };
        if got < length {
            let file = Arc::clone(self);
            let read = tokio::task::spawn_blocking(move || {
                file.file.read_exact_at(&mut buffer[got..], range.start + got as u64).map(|()| buffer)
            });
            let read = read.await.map_err(|error| failed(io::Error::other(error)))?;
            buffer = read.map_err(failed)?;
        }
        Ok(buffer.freeze())
    }
}

/// As much of the beginning of `buffer` as the page cache has, and why it is not more: no reason at the end of the file.
pub(super) fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> (usize, Option<Errno>) {
    let mut got = 0;
    while got < buffer.len() {
        let slice = &mut [IoSliceMut::new(&mut buffer[got..])];
        match preadv2(file, slice, offset + got as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(Errno::INTR) => {}
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the cache file could not be read").with_source(error)
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        self.connection.give_back(self.lease);
    }
}
