//! The contents of a directory that are nowhere else.

use std::{collections::HashMap, io};

use headpond_types::ContentId;
use rustix::io::Errno;

use super::Dir;
use crate::{error::StoreError, shared::lock};

/// Their ids and lengths.
#[derive(Debug, Default)]
pub(super) struct DirtyContents {
    lengths: HashMap<ContentId, u64>,
    bytes: u64,
}

impl DirtyContents {
    /// All bytes, and how many contents.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.bytes, self.lengths.len() as u64)
    }
}

impl Dir {
    /// Notes a content that is nowhere else.
    pub(crate) fn note_dirty(&self, id: ContentId, length: u64) {
        let mut dirty = lock(&self.dirty);
        dirty.bytes += length;
        dirty.bytes -= dirty.lengths.insert(id, length).unwrap_or(0);
    }

    /// The content is not needed any more.
    pub(crate) fn note_clean(&self, id: ContentId) {
        let mut dirty = lock(&self.dirty);
        dirty.bytes -= dirty.lengths.remove(&id).unwrap_or(0);
    }

    /// Bytes of the contents that are nowhere else, and how many there are.
    pub(crate) fn dirty_size(&self) -> (u64, u64) {
        lock(&self.dirty).size()
    }

    /// The contents that are nowhere else, and their lengths.
    pub(crate) fn dirty(&self) -> Vec<(ContentId, u64)> {
        lock(&self.dirty).lengths.iter().map(|(id, length)| (*id, *length)).collect()
    }

    /// Classifies an error of making a file durable. Where it cannot be said what a file is, nothing can be acknowledged, but all else goes on.
    pub(crate) fn claim_error(&self, error: io::Error) -> StoreError {
        if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) {
            let problem =
                "the file system keeps no extended attributes, so nothing can be made durable: use ext4, XFS or btrfs";
            return StoreError::Config { dir: self.config.path.clone(), problem: problem.to_owned() };
        }
        self.write_error("make a staged file durable", error)
    }
}
