//! The parts of a multipart upload, sent as far as it is known what they have in them.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use fail::fail_point;
use futures::{StreamExt as _, stream::FuturesOrdered};
use headpond_runtime::{Shutdown, Tasks};
use headpond_store::checksums;
use headpond_types::{Error, ErrorKind, PAGE_SIZE, Result};
use headpond_ufs::{Capabilities, Label, Noted, UnderStore};
use tokio::sync::{SemaphorePermit, watch};

use super::{Stager, UPLOAD_MEMORY, buffers::Buffers, origin::Origin, settle::told, upload::Target};

/// Bytes that a part has at least.
pub(super) const PART: u64 = 16 << 20;

/// Parts of one upload under way at once.
pub(super) const PARTS_AT_ONCE: usize = 4;

/// How far parts may be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// The bytes before it do not change any more.
    pub(super) up_to: u64,
    /// The file ends there: what is left is the last part.
    pub(super) is_whole: bool,
}

/// Parts that the store has taken. Dropped, their upload is aborted in the background.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) upload: String,
    pub(super) noted: Noted,
    /// Number and tag, in order.
    pub(super) tags: Vec<(u32, String)>,
    /// Of each page of the file.
    pub(super) checksums: Arc<[u32]>,
}

/// Who sends bytes of a staged file, and where to.
#[derive(Debug)]
pub(super) struct Sender<'a> {
    pub(super) stager: &'a Stager,
    pub(super) origin: &'a Origin,
    pub(super) store: &'a Arc<dyn UnderStore>,
    pub(super) target: &'a Target,
    pub(super) buffers: Buffers,
}

impl Sender<'_> {
    /// Begins an upload and sends parts of `part` bytes until the whole file is there, as `reach` comes to allow it. Dropped, or failed, it leaves
    /// an upload to be aborted in the background.
    ///
    /// # Errors
    /// What the store answered, naming mount and key; `Stale` when the staged file was ended; `Unavailable` when nobody can extend `reach`, or the
    /// worker ends before that.
    pub(super) async fn send(&self, part: u64, mut reach: watch::Receiver<Reach>, label: Label) -> Result<Parts> {
        let shutdown = self.stager.tasks.shutdown();
        next(&mut reach, shutdown, 0..part).await?;
        let (upload, noted) = self.begin(label, false).await?;
        let (mut tags, mut checksums) = (Vec::new(), Vec::new());
        let (mut sending, mut last, mut number) = (FuturesOrdered::new(), false, 1);
        loop {
            let start = u64::from(number - 1) * part;
            tokio::select! {
                range = next(&mut reach, shutdown, start..start + part), if !last && sending.len() < PARTS_AT_ONCE => {
                    let range = range?;
                    last = range.end < start + part;
                    if !range.is_empty() {
                        sending.push_back(self.part(&upload, number, range));
                        number += 1;
                    }
                }
                Some(sent) = sending.next() => {
                    let (tag, of_pages) = sent?;
                    tags.push(tag);
                    checksums.extend(of_pages);
                }
                else => break,
            }
        }
        drop(sending);
        Ok(Parts { upload, noted, tags, checksums: checksums.into() })
    }

    /// Sends one part: its number and tag, and the checksums of its pages.
    pub(super) async fn part(&self, upload: &str, number: u32, range: Range<u64>) -> Result<((u32, String), Vec<u32>)> {
        let most = self.store.capabilities().max_parts;
        if number > most {
            let message = format!("{} does not fit into {most} parts of that size", self.target);
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        let (_memory, body) = self.read(range.start, range.end - range.start).await?;
        let checksums = checksums(&body);
        let tag = self.store.put_part(&self.target.key, upload, number, body).await;
        Ok(((number, tag.map_err(|error| told(self.target, error))?), checksums))
    }

    /// Begins an upload, of which parts are to be copied if it `is_mixed`. In a task of its own: dropped between the store's answer and the note, the upload would be nobody's.
    pub(super) async fn begin(&self, label: Label, is_mixed: bool) -> Result<(String, Noted)> {
        let (store, target) = (Arc::clone(self.store), self.target.clone());
        let (abandoned, refresh) = (Arc::clone(&self.stager.abandoned), Arc::clone(&self.stager.cluster.refresh));
        let tasks: &Tasks = &self.stager.tasks;
        let begun = tasks.spawn(async move {
            let begun = if is_mixed {
                store.create_multipart_mixed(&target.key, label).await
            } else {
                store.create_multipart_as(&target.key, label).await
            };
            let upload = begun.map_err(|error| told(&target, error))?;
            let noted = abandoned.note(target.mount, &target.key, &upload).await;
            // Until the master hears of it, it is lost with this worker's disk.
            refresh.notify_one();
            fail_point!("upload::begun");
            Ok((upload, noted))
        });
        begun.await.map_err(|error| Error::new(ErrorKind::Internal, "beginning an upload").with_source(error))?
    }

    /// Bytes of the file, and the memory for them.
    pub(super) async fn read(&self, offset: u64, length: u64) -> Result<(SemaphorePermit<'_>, Bytes)> {
        let permits = length.div_ceil(1 << 20).min(UPLOAD_MEMORY as u64);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let memory = self.stager.memory.acquire_many(permits).await.expect("the semaphore is never closed");
        let wanted = usize::try_from(length).map_err(|error| {
            Error::new(ErrorKind::ResourceExhausted, "a part is larger than memory").with_source(error)
        })?;
        let bytes = self.origin.read_at(self.stager, offset, wanted, &self.buffers).await?;
        if bytes.len() == wanted {
            return Ok((memory, bytes));
        }
        let message = format!("{} became shorter while it was stored: store it again", self.target);
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// Waits until `part` may be sent; less of it, or nothing, at the end of the file.
async fn next(reach: &mut watch::Receiver<Reach>, shutdown: &Shutdown, part: Range<u64>) -> Result<Range<u64>> {
    let reached = tokio::select! {
        // What may be sent is sent, also while the worker ends.
        biased;
        reached = reach.wait_for(|reach| reach.is_whole || reach.up_to >= part.end) => reached.ok().map(|reach| *reach),
        () = shutdown.begun() => None,
    };
    let ended = || Error::new(ErrorKind::Unavailable, "what was sent ahead is not wanted any more: store it again");
    Ok(part.start..part.end.min(reached.ok_or_else(ended)?.up_to).max(part.start))
}

/// Bytes in each part but the last: whole pages, so that parts have the checksums of pages.
pub(super) fn part_size(length: u64, capabilities: &Capabilities) -> u64 {
    capabilities.part_size(length, PART).next_multiple_of(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_pages_and_few_enough() {
        let capabilities = |min_part_size, max_parts| Capabilities {
            conditional_put: true,
            conditional_copy: true,
            copy_through: None,
            conditional_delete: true,
            max_deletes: 1,
            ordered_listing: true,
            native_directories: false,
            native_rename: false,
            min_part_size,
            max_parts,
            max_put_size: u64::MAX,
            max_key: 1024,
        };
        assert_eq!(part_size(PART + 1, &capabilities(5 << 20, 10_000)), PART);
        assert_eq!(part_size(PART + 1, &capabilities((20 << 20) + 1, 10_000)), 21 << 20);
        let length = 5 << 40;
        let part = part_size(length, &capabilities(5 << 20, 10_000));
        assert!(part.is_multiple_of(PAGE_SIZE) && length.div_ceil(part) <= 10_000, "{part}");
    }
}
