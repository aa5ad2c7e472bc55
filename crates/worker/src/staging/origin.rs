//! Where the bytes of an upload are.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use headpond_store::{Content, Held};
use headpond_types::{ContentId, Error, ErrorKind, Result};

use super::{Stager, buffers::Buffers, lost, sent::Sent, table::Staged};

/// A file to be stored.
#[derive(Debug)]
pub(super) enum Origin {
    /// It is still staged, and may be written meanwhile. If its end makes it the content of the page store that it is to be, the rest is read there.
    Staged(Arc<Staged>, Option<ContentId>),
    /// The same of what it was when it was made durable as the content, which it goes on to be known as.
    Version { staged: Arc<Staged>, content: ContentId, _held: Held },
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
                read_ended(stager, (staged, content), (offset, length), lost).await
            }
            Self::Version { staged, content, _held } => {
                let (content, buffer) = (*content, buffers.take());
                match staged.on_file(move |file| file.read_version(content, offset, length, buffer)).await {
                    Ok(Some(bytes)) => Ok(buffers.lend(bytes)),
                    Ok(None) => Err(lost(staged.lease())),
                    Err(error) if error.kind() == ErrorKind::Stale => {
                        read_ended(stager, (staged, content), (offset, length), error).await
                    }
                    Err(error) => Err(error),
                }
            }
            Self::Kept(content, _) => read_kept(stager, content, offset, length).await,
        }
    }

    /// Looks at or changes what is known of the bytes that were sent.
    pub(super) fn with_sent<T>(&self, look: impl FnOnce(&mut Sent) -> T) -> T {
        match self {
            Self::Staged(staged, _) | Self::Version { staged, .. } => staged.with_sent(look),
            Self::Kept(_, sent) => look(&mut sent.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Bytes of what is staged no more, if it is a content of the page store by now.
async fn read_ended(
    stager: &Stager,
    (staged, content): (&Staged, ContentId),
    (offset, length): (u64, usize),
    lost: Error,
) -> Result<Bytes> {
    staged.finished().await;
    match stager.cache.complete(content) {
        Some(kept) => read_kept(stager, &kept, offset, length).await,
        None => Err(lost),
    }
}

async fn read_kept(stager: &Stager, content: &Arc<Content>, offset: u64, length: usize) -> Result<Bytes> {
    let range = offset..offset.saturating_add(length as u64).min(content.length());
    stager.cache.read(content, range).await.map_err(Error::from)
}
