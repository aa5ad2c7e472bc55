//! What no under store can hold, and the directories that are kept for its sake.

use headpond_types::{InodeId, Name, Timestamp};

use super::{Apply, stop::Stop};
use crate::{
    command::{Owner, Reply},
    error::TableError,
    inode::{Entry, Inode, Node},
    unstored::Unstored,
};

impl Apply<'_> {
    pub(super) fn make_unstored(
        &mut self,
        parent: InodeId,
        name: &Name,
        owner: &Owner,
        what: &Unstored,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let inode = self.make_new(parent, name, owner, now, Node::Unstored { what: what.clone(), mtime: now })?;
        self.hold(parent)?;
        Ok(Reply::Inode(inode))
    }

    /// Whether an entry is, or holds, what no under store holds.
    pub(super) fn is_held(&self, entry: Entry, row: &Inode) -> Result<bool, TableError> {
        match row.node {
            _ if row.dirty => Ok(true),
            Node::Unstored { .. } => Ok(true),
            Node::Directory(_) => self.alone.is_holder(entry.inode),
            Node::File(_) => Ok(false),
        }
    }

    /// `dir` got an entry that no under store holds, or that holds such a thing.
    pub(super) fn hold(&mut self, dir: InodeId) -> Result<(), TableError> {
        let mut at = dir;
        while self.mounts.rooted_at(at).is_none() {
            let count = self.alone.holders.insert(at.0, 1)?.map_or(0, |count| count.value());
            self.changed_rows += 1;
            if count > 0 {
                self.alone.holders.insert(at.0, count + 1)?;
                return Ok(());
            }
            let (row, _) = self.directory_row(at)?;
            if row.dirty {
                return Ok(());
            }
            at = self.mounts.directory(row.parent);
        }
        Ok(())
    }

    /// Such an entry left `dir`, which may be gone itself.
    pub(super) fn release(&mut self, dir: InodeId) -> Result<(), TableError> {
        let mut at = dir;
        loop {
            let Some(count) = self.alone.holders.remove(at.0)?.map(|count| count.value()) else { return Ok(()) };
            self.changed_rows += 1;
            if count > 1 {
                self.alone.holders.insert(at.0, count - 1)?;
                return Ok(());
            }
            let (row, _) = self.directory_row(at)?;
            if row.dirty {
                return Ok(());
            }
            at = self.mounts.directory(row.parent);
        }
    }
}
