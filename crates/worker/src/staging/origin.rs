//! Where the bytes of an upload are.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use headpond_store::Content;
use headpond_types::{ContentId, Error, ErrorKind, Result};

use super::{Stager, buffers::Buffers, sent::Sent, table::Staged};

/// A file to be stored.
#[derive(Debug)]
pub(super) enum Origin {
    /// It is still staged, and may be written meanwhile. If its end makes it the content of the page store that it is to be, the rest is read there.
    Staged(Arc<Staged>, Option<ContentId>),
    /// A complete content of the page store, and what of it the under store may hold.
    Kept(Arc<Content>, Mutex<Sent>),
}

impl Origin {
    /// The bytes from `offset`, in memory of `buffers`; fewer than `length` only where the file ends.
    pub(super) async fn read_at(
        &self,
        stager: &Stager,
        offset: u64,
        length: usize,
        buffers: &Buffers,
    ) -> Result<Bytes> {
        match self {
            Self::Staged(staged, content) => {
                let buffer = buffers.take();
                let lost = match staged.on_file(move |file| file.read_onto(offset, length, buffer)).await {
                    Err(error) if error.kind() == ErrorKind::Stale => error,
                    read => return read.map(|bytes| buffers.lend(bytes)),
                };
                let Some(content) = *content else { return Err(lost) };
                staged.finished().await;
                match stager.cache.complete(content) {
                    Some(kept) => read_kept(stager, &kept, offset, length).await,
                    None => Err(lost),
                }
            }
            Self::Kept(content, _) => read_kept(stager, content, offset, length).await,
        }
    }

    /// Looks at or changes what is known of the bytes that were sent.
    pub(super) fn with_sent<T>(&self, look: impl FnOnce(&mut Sent) -> T) -> T {
        match self {
            Self::Staged(staged, _) => staged.with_sent(look),
            Self::Kept(_, sent) => look(&mut sent.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

async fn read_kept(stager: &Stager, content: &Arc<Content>, offset: u64, length: usize) -> Result<Bytes> {
    let range = offset..offset.saturating_add(length as u64).min(content.length());
    stager.cache.read(content, range).await.map_err(Error::from)
}
