//! The way of a staged file into the under store: one PUT, or a multipart upload.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use headpond_store::checksums;
use headpond_types::{ContentId, Error, ErrorKind, MountId, PAGE_SIZE, Result};
use headpond_ufs::{Capabilities, Key, ObjectMeta, Precondition, UnderStore};
use tokio::sync::SemaphorePermit;

use super::{Stager, UPLOAD_MEMORY, lost, table::Staged};

/// Files of up to so many bytes go by one PUT, and parts of longer ones have so many at least.
const PART: u64 = 16 << 20;

/// Parts of one upload under way at once.
const PARTS_AT_ONCE: usize = 4;

/// Where an object is to go. As text, key and mount.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) mount: MountId,
    pub(super) key: Key,
    /// What its bytes are called.
    pub(super) content: ContentId,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of mount {}", self.key, self.mount)
    }
}

/// One staged file on its way.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) stager: &'a Stager,
    pub(super) staged: &'a Arc<Staged>,
    pub(super) store: Arc<dyn UnderStore>,
    pub(super) target: &'a Target,
    pub(super) length: u64,
}

impl Upload<'_> {
    /// Stores the file under `condition`. Dropped, it leaves nothing but what the store was doing; a multipart upload is then aborted in
    /// the background, as after an error.
    ///
    /// # Errors
    /// `Stale` when the condition does not hold; what the store answered else, naming mount and key.
    pub(super) async fn run(&self, condition: Precondition) -> Result<ObjectMeta> {
        let capabilities = self.store.capabilities();
        if self.length <= PART || capabilities.min_part_size == 0 {
            return self.put(condition).await;
        }
        let part = part_size(self.length, capabilities);
        self.multipart(condition, part).await
    }

    /// Without multipart uploads the whole file passes through memory.
    async fn put(&self, condition: Precondition) -> Result<ObjectMeta> {
        let (_memory, body) = self.read(0, self.length).await?;
        let checksums = checksums(&body).into();
        let key = &self.target.key;
        let send = |condition: Precondition| {
            let body = body.clone();
            async move { self.store.put(key, body, &condition).await }.boxed()
        };
        self.make(checksums, condition, send).await
    }

    async fn multipart(&self, condition: Precondition, part: u64) -> Result<ObjectMeta> {
        let key = &self.target.key;
        let upload = self.store.create_multipart(key).await.map_err(|error| self.told(error))?;
        let noted = self.stager.abandoned.note(self.target, &upload).await;
        let numbers = 0..u32::try_from(self.length.div_ceil(part)).unwrap_or(u32::MAX);
        let parts = futures::stream::iter(numbers).map(|index| {
            let upload = &upload;
            async move {
                let offset = u64::from(index) * part;
                let (_memory, body) = self.read(offset, part.min(self.length - offset)).await?;
                let checksums = checksums(&body);
                let tag = self.store.put_part(key, upload, index + 1, body).await.map_err(|error| self.told(error))?;
                Ok::<_, Error>(((index + 1, tag), checksums))
            }
        });
        let (parts, checksums): (Vec<_>, Vec<_>) = parts.buffered(PARTS_AT_ONCE).try_collect().await?;
        let send = |condition: Precondition| {
            let (upload, parts) = (&upload, &parts);
            async move { self.store.complete_multipart(key, upload, parts, &condition).await }.boxed()
        };
        let meta = self.make(checksums.concat().into(), condition, send).await?;
        noted.done().await;
        Ok(meta)
    }

    /// Bytes of the staged file, and the memory for them.
    async fn read(&self, offset: u64, length: u64) -> Result<(SemaphorePermit<'_>, Bytes)> {
        let permits = length.div_ceil(1 << 20).min(UPLOAD_MEMORY as u64);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let memory = self.stager.memory.acquire_many(permits).await.map_err(|_| lost(self.staged.lease()))?;
        let wanted = usize::try_from(length).map_err(|error| {
            Error::new(ErrorKind::ResourceExhausted, "a part is larger than memory").with_source(error)
        })?;
        let bytes = self.staged.on_file(move |file| file.read_at(offset, wanted)).await?;
        if bytes.len() == wanted {
            return Ok((memory, bytes));
        }
        let message = format!("{} became shorter while it was stored: store it again", self.target);
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// Bytes in each part but the last: whole pages, so that parts have the checksums of pages.
fn part_size(length: u64, capabilities: &Capabilities) -> u64 {
    let least = length.div_ceil(u64::from(capabilities.max_parts.max(1)));
    PART.max(least).max(capabilities.min_part_size).next_multiple_of(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_pages_and_few_enough() {
        let capabilities = |min_part_size, max_parts| Capabilities {
            conditional_put: true,
            conditional_copy: true,
            conditional_delete: true,
            ordered_listing: true,
            native_directories: false,
            native_rename: false,
            min_part_size,
            max_parts,
            max_put_size: u64::MAX,
        };
        assert_eq!(part_size(PART + 1, &capabilities(5 << 20, 10_000)), PART);
        assert_eq!(part_size(PART + 1, &capabilities((20 << 20) + 1, 10_000)), 21 << 20);
        let length = 5 << 40;
        let part = part_size(length, &capabilities(5 << 20, 10_000));
        assert!(part.is_multiple_of(PAGE_SIZE) && length.div_ceil(part) <= 10_000, "{part}");
    }
}
