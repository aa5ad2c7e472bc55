//! Where the bytes of an upload are.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use headpond_store::Content;
use headpond_types::{Error, Result};

use super::{Stager, sent::Sent, table::Staged};

/// A file to be stored.
#[derive(Debug)]
pub(super) enum Origin {
    /// It is still staged, and may be written meanwhile.
    Staged(Arc<Staged>),
    /// A complete content of the page store, and what of it the under store may hold.
    Kept(Arc<Content>, Mutex<Sent>),
}

impl Origin {
    /// The bytes from `offset`; fewer than `length` only where the file ends.
    pub(super) async fn read_at(&self, stager: &Stager, offset: u64, length: usize) -> Result<Bytes> {
        match self {
            Self::Staged(staged) => staged.on_file(move |file| file.read_at(offset, length)).await,
            Self::Kept(content, _) => {
                let range = offset..offset.saturating_add(length as u64);
                stager.cache.read(content, range).await.map_err(Error::from)
            }
        }
    }

    /// Looks at or changes what is known of the bytes that were sent.
    pub(super) fn with_sent<T>(&self, look: impl FnOnce(&mut Sent) -> T) -> T {
        match self {
            Self::Staged(staged) => staged.with_sent(look),
            Self::Kept(_, sent) => look(&mut sent.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
