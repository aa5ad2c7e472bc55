//! Reading what is known of directories that are being removed with all that lies below. They are gone for all other methods.

use headpond_types::{InodeId, Name, Result, Timestamp};

use super::{Snapshot, View};
use crate::{
    error::TableError,
    inode::{Entry, Node},
};

/// Something below a directory that is being removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remain {
    /// Which.
    pub inode: InodeId,
    /// What it is.
    pub what: Remaining,
}

/// What is left of something that is being removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// A directory.
    Directory {
        /// Everything that the under store had in it was known at some time.
        listed: bool,
        /// Its objects do not lie below those of the directory above.
        apart: bool,
    },
    /// A file with an object.
    File {
        /// Where it is, relative to the mount's prefix.
        key: Vec<u8>,
        /// In which version.
        version: String,
    },
    /// No under store has anything of it.
    Nothing,
}

impl View {
    fn remain(&self, entry: Entry) -> Result<Remain, TableError> {
        let damaged = || TableError::Damaged { table: "inode", key: entry.inode.to_string() };
        let row = self.rows.inode(entry.inode)?.ok_or_else(damaged)?;
        let what = match &row.node {
            Node::Directory(directory) => {
                Remaining::Directory { listed: directory.listed.is_some(), apart: row.key.is_some() }
            }
            Node::File(file) if file.is_persisted() => {
                Remaining::File { key: self.rows.key(&self.mounts, &row)?, version: file.version.clone() }
            }
            Node::File(_) | Node::Unstored { .. } => Remaining::Nothing,
        };
        Ok(Remain { inode: entry.inode, what })
    }

    fn is_removed(&self, inode: InodeId) -> Result<bool, TableError> {
        Ok(self.unsettled.removal_of(&self.rows, &self.mounts, inode)?.is_some())
    }
}

impl Snapshot {
    /// When a directory was removed with all that lay below, while that is not done at the under store: see [`crate::Command::RemoveTree`].
    ///
    /// # Errors
    /// As for all methods.
    pub fn removed_at(&self, dir: InodeId) -> Result<Option<Timestamp>> {
        Ok(self.0.unsettled.removed_at(dir)?)
    }

    /// Whether `inode` is such a directory, or lies below one.
    ///
    /// # Errors
    /// As for all methods.
    pub fn is_being_removed(&self, inode: InodeId) -> Result<bool> {
        Ok(self.0.is_removed(inode)?)
    }

    /// The directory that is being removed, as what lies below it is told by [`Snapshot::remains`]; `None` of all other inodes.
    ///
    /// # Errors
    /// As for all methods.
    pub fn removed(&self, dir: InodeId) -> Result<Option<Remain>> {
        match self.removed_at(dir)? {
            Some(_) => Ok(Some(self.0.remain(Entry { inode: dir, is_directory: true })?)),
            None => Ok(None),
        }
    }

    /// At most `limit` entries of a directory that is being removed, or lies below one, in order of their names, from the first after `after`.
    ///
    /// # Errors
    /// As for all methods.
    pub fn remains(&self, dir: InodeId, after: Option<&Name>, limit: usize) -> Result<Vec<(Name, Remain)>> {
        let view = &self.0;
        if !view.is_removed(dir)? {
            return Ok(Vec::new());
        }
        let entries = view.rows.list(view.mounts.key(dir), after, limit).map_err(headpond_types::Error::from)?;
        entries.into_iter().map(|(name, entry)| Ok((name, view.remain(entry)?))).collect()
    }

    /// The entry `name` of such a directory.
    ///
    /// # Errors
    /// As for all methods.
    pub fn remain(&self, dir: InodeId, name: &Name) -> Result<Option<Remain>> {
        let view = &self.0;
        if !view.is_removed(dir)? {
            return Ok(None);
        }
        let entry = view.rows.entry(view.mounts.key(dir), name).map_err(headpond_types::Error::from)?;
        entry.map(|entry| Ok(view.remain(entry)?)).transpose()
    }

    /// Where the under store had what lies right below such a directory, relative to the mount's prefix and with `/` at the end; and how much of
    /// that is said of the directory, or the nearest above, itself.
    ///
    /// # Errors
    /// As for all methods.
    pub fn remaining_prefix(&self, dir: InodeId) -> Result<Option<(Vec<u8>, usize)>> {
        let view = &self.0;
        if !view.is_removed(dir)? {
            return Ok(None);
        }
        let base = view.rows.climb(&view.mounts, dir, |_, row| Ok(row.key.as_ref().map(Vec::len)))?;
        Ok(Some((view.rows.prefix(&view.mounts, dir)?, base.unwrap_or_default())))
    }
}
