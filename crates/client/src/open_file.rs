//! A file open for reading.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use headpond_types::{Attr, ByteRange, ContentId, Result};

use crate::LocalFile;

/// One version of a file, open for reading: every byte read through it is of that version, or the read fails with kind
/// `Stale`. Shared by all who have the same content open; dropping the last handle closes it.
#[derive(Debug)]
pub struct OpenFile {
    attr: Arc<Attr>,
    content: ContentId,
}

impl OpenFile {
    /// Attributes at the time of the open.
    #[must_use]
    pub const fn attr(&self) -> &Arc<Attr> {
        &self.attr
    }

    /// The bytes that are read.
    #[must_use]
    pub const fn content(&self) -> ContentId {
        self.content
    }

    /// Bytes of the whole content.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.attr.size
    }

    /// The cache file, when the worker of this node lent it.
    #[must_use]
    pub fn local(&self) -> Option<Arc<LocalFile>> {
        None
    }

    /// Up to `len` bytes from `offset`; fewer only at the end of the content, none past it. Feeds the readahead. Cancel-safe.
    ///
    /// # Errors
    /// `Stale` when the under store has another version by now (the next open sees it); `Unavailable` or `DeadlineExceeded` when
    /// no worker delivers; what the under store answered otherwise.
    pub async fn read_at(&self, _offset: u64, _len: usize) -> Result<Bytes> {
        Ok(Bytes::new())
    }

    /// Reads into `buffer` from `offset` if the bytes are known to be in the local cache file, without asking anybody: at most
    /// a disk read. `None`: use [`OpenFile::read_at`]. May be called from any thread.
    pub fn try_read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Option<io::Result<usize>> {
        None
    }

    /// The bytes of each range, in the order asked, cut at the end of the content. Near ranges are fetched together.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`OpenFile::read_at`]; no partial result.
    pub async fn read_ranges(&self, _ranges: &[ByteRange]) -> Result<Vec<Bytes>> {
        Ok(Vec::new())
    }

    /// The bytes of `range` in order, for consumption from front to end, with bounded buffering ahead. Ends after the first
    /// error, which is as of [`OpenFile::read_at`].
    pub fn read_stream(self: &Arc<Self>, _range: ByteRange) -> BoxStream<'static, Result<Bytes>> {
        Box::pin(stream::empty())
    }
}
