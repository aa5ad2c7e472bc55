//! Reading what under stores do not hold where the paths say.

use headpond_types::{InodeId, MountId, Name, Result};
use redb::ReadableTableMetadata;

use super::{Snapshot, View};
use crate::{error::TableError, relocation::Relocation};

impl Snapshot {
    /// Relocations under way, in the order in which they were begun.
    ///
    /// # Errors
    /// As for all methods.
    pub fn relocations(&self) -> Result<Vec<Relocation>> {
        Ok(self.0.unsettled.relocations()?)
    }

    /// Objects in the store of `mount`, by key and version, that are nobody's: see [`crate::Command::Leave`]. In order of their keys.
    ///
    /// # Errors
    /// As for all methods.
    pub fn left_objects(&self, mount: MountId) -> Result<Vec<(Vec<u8>, String)>> {
        Ok(self.0.unsettled.left_in(mount)?)
    }

    /// Whether one of those may be at `key`.
    ///
    /// # Errors
    /// As for all methods.
    pub fn is_left(&self, mount: MountId, key: &[u8]) -> Result<bool> {
        Ok(self.0.unsettled.is_left(mount, key)?)
    }

    /// The relocation under way that an inode is, or lies below.
    ///
    /// # Errors
    /// As for all methods.
    pub fn relocation_of(&self, inode: InodeId) -> Result<Option<u64>> {
        let View { rows, unsettled, mounts, .. } = &*self.0;
        // Asked at every lookup: mostly nothing is being moved, and no row need be read.
        if unsettled.relocating.is_empty().map_err(TableError::from)? || self.0.inode(inode)?.is_none() {
            return Ok(None);
        }
        Ok(unsettled.relocation_of(rows, mounts, inode)?)
    }

    /// Whether what the under store shows at `name` in `dir` is passed over, because objects that were renamed away are still there.
    ///
    /// # Errors
    /// As for all methods.
    pub fn masks(&self, dir: InodeId, name: &Name) -> Result<bool> {
        Ok(self.0.unsettled.is_masked(&self.0.rows, &self.0.mounts, dir, name)?)
    }

    /// Whether objects that are to be moved away may lie at, above or below where the path says for `name` in `dir`: see [`crate::displaced_key`].
    ///
    /// # Errors
    /// As for all methods.
    pub fn is_contested(&self, dir: InodeId, name: &Name, is_directory: bool) -> Result<bool> {
        Ok(self.0.unsettled.is_contested(&self.0.rows, &self.0.mounts, dir, name, is_directory)?)
    }

    /// Whether an inode stays, whatever the under store shows: it is, or holds, what that has not, or not where the path says.
    ///
    /// # Errors
    /// As for all methods.
    pub fn stays(&self, inode: InodeId) -> Result<bool> {
        let View { rows, unsettled, mounts, alone, .. } = &*self.0;
        Ok(alone.is_holder(inode)?
            || unsettled.relocates_within(rows, mounts, inode)?
            || unsettled.awaits_within(rows, mounts, inode)?)
    }
}
