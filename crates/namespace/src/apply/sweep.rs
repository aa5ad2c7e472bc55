//! Removing what lies below a directory that is gone: the directory at once, the rows below it a few with each later command.

use headpond_types::InodeId;
use redb::ReadableTable;

use super::Apply;
use crate::{
    error::TableError,
    inode::{DirKey, Entry, Inode},
    rows::entry_key,
};

/// Rows that a command clears away besides its own work: few, so that no command waits for them. Fewer still in tests, where
/// directories are small.
const ALONGSIDE: usize = if cfg!(test) { 2 } else { 32 };
/// Rows that a [`crate::Command::Sweep`] clears away: about 10 ms of work.
const SWEEP: usize = 4096;

impl Apply<'_> {
    /// Clears away rows below directories that are gone. How many depends on the command alone and not on the batch that it is in, so
    /// that all replicas have the same rows.
    pub(super) fn sweep(&mut self, thoroughly: bool) -> Result<(), TableError> {
        let mut budget = if thoroughly { SWEEP } else { ALONGSIDE };
        while self.has_orphans && budget > 0 {
            let first = self.orphans.first()?.map(|(key, _)| DirKey(key.value()));
            let Some(dir) = first else {
                self.has_orphans = false;
                return Ok(());
            };
            let entries = self.rows.list(dir, None, budget)?;
            if entries.len() < budget {
                self.orphans.remove(dir.0)?;
            }
            budget -= entries.len().max(1);
            for (name, entry) in entries {
                self.rows.entries.remove(entry_key(dir, name.as_bytes()).as_slice())?;
                self.remove_inode(entry)?;
            }
        }
        Ok(())
    }

    /// Removes an inode to which no entry leads any more; of a directory, what lies below follows later.
    pub(super) fn remove_inode(&mut self, entry: Entry) -> Result<(), TableError> {
        if entry.is_directory {
            self.cut_links(entry.inode)?;
        }
        let inode = {
            let row = self.rows.inodes.remove(entry.inode.0)?;
            let row = row.unwrap_or_else(|| panic!("inode {} has an entry but no row", entry.inode));
            Inode::decode(row.value())
        };
        let inode = inode.ok_or_else(|| TableError::Damaged { table: "inode", key: entry.inode.to_string() })?;
        if inode.file().is_some_and(|file| !file.is_persisted()) {
            self.unsettled.unpersisted.remove(entry.inode.0)?;
        }
        if self.is_held(entry, &inode)? {
            self.alone.holders.remove(entry.inode.0)?;
            self.release(self.mounts.directory(inode.parent))?;
        }
        if inode.dirty {
            self.drop_dirty_row(entry.inode)?;
        }
        if inode.own.xattrs {
            self.take_xattrs(entry.inode)?;
        }
        self.changed_rows += 2;
        self.header.inodes -= 1;
        self.header.file_bytes -= inode.bytes();
        if entry.is_directory {
            self.orphan(self.mounts.key(entry.inode))?;
        }
        self.forget_links(entry.inode)
    }

    /// Leaves what is stored under `dir` to later sweeps.
    pub(super) fn orphan(&mut self, dir: DirKey) -> Result<(), TableError> {
        debug_assert!(dir.0 != InodeId::ROOT.0, "nothing is stored under the root's own id");
        self.orphans.insert(dir.0, ())?;
        self.has_orphans = true;
        Ok(())
    }
}
