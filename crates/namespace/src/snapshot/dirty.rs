//! What under stores do not have yet.

use headpond_types::{InodeId, MountId, Result};

use super::{Snapshot, View};
use crate::{command::Dirty, dirty::begun_elsewhere, error::TableError};

impl View {
    /// Whether a row is of an inode in the tree, or an orphan.
    fn shows_dirty(&self, dirty: &Dirty) -> Result<bool, TableError> {
        Ok(dirty.is_orphan() || self.inode(dirty.inode)?.is_some())
    }
}

impl Snapshot {
    /// What the under store lacks of an inode, if anything.
    ///
    /// # Errors
    /// As for all methods.
    pub fn dirty(&self, inode: InodeId) -> Result<Option<Dirty>> {
        let view = &self.0;
        // Asked at every lookup: mostly nothing is dirty, and no row need be read.
        if view.dirty.is_empty()? {
            return Ok(None);
        }
        let Some(dirty) = view.dirty.get(inode)? else { return Ok(None) };
        Ok(view.shows_dirty(&dirty)?.then_some(dirty))
    }

    /// At most `limit` of what is dirty, in order of the numbers, from the first after `after`; what has the same number comes in order of the
    /// inodes. Orphans ([`Dirty::is_orphan`]) are among them.
    ///
    /// # Errors
    /// As for all methods.
    pub fn all_dirty(&self, after: (u64, InodeId), limit: usize) -> Result<Vec<Dirty>> {
        let mut found = Vec::new();
        for dirty in self.0.dirty.after(after)? {
            let dirty = dirty?;
            if found.len() == limit {
                break;
            }
            if self.0.shows_dirty(&dirty)? {
                found.push(dirty);
            }
        }
        Ok(found)
    }

    /// What may be at `key` in the under store of a mount that nobody has any more, so that it is to be deleted before anything is put there:
    /// [`Dirty::is_orphan`].
    ///
    /// # Errors
    /// As for all methods.
    pub fn orphan_at(&self, mount: MountId, key: &[u8]) -> Result<Option<Dirty>> {
        Ok(self.0.dirty.orphan_at(mount, key)?)
    }

    /// Whether anything like that is below the prefix `prefix`, its marker not counted.
    ///
    /// # Errors
    /// As for all methods.
    pub fn has_orphans_below(&self, mount: MountId, prefix: &[u8]) -> Result<bool> {
        Ok(self.0.dirty.has_orphans_below(mount, prefix, false)?)
    }

    /// What has a [`Dirty::key`] that is not where its path says, of `dir` and what lies below: a relocation of it ends only after that.
    ///
    /// # Errors
    /// As for all methods.
    pub fn begun_elsewhere(&self, dir: InodeId) -> Result<Vec<Dirty>> {
        let view = &self.0;
        Ok(begun_elsewhere(&view.dirty, &view.rows, &view.mounts, dir)?)
    }

    /// A number that is higher than those of all that is dirty or being relocated, and not higher than those to come.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.header.next_inode
    }
}
