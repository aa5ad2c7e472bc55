//! Objects that are nobody's since what they were of was removed, and directories that would vanish from the under store with their last entry.

use headpond_types::{InodeId, MountId};
use redb::ReadableTableMetadata;

use super::Apply;
use crate::{
    command::{Dirty, Due, Left, Observed, ObservedKind},
    error::TableError,
    inode::Entry,
};

/// What a command that takes an entry out of a directory leaves to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct After<'a> {
    /// What the under store has of the entry is to be deleted.
    pub(super) later: bool,
    /// And so are these.
    pub(super) leaves: &'a [Left],
    /// When the directory is to get its marker, should it be empty by then.
    pub(super) marker: Option<Due>,
}

impl Apply<'_> {
    /// Leaves what the under store has of an entry of `dir` that goes, as far as no row says so already.
    pub(super) fn leave_object(&mut self, dir: InodeId, entry: Entry) -> Result<(), TableError> {
        let row = self.rows.inode(entry.inode)?;
        let row = row.unwrap_or_else(|| panic!("inode {} has an entry but no row", entry.inode));
        let version = match row.file() {
            Some(file) if file.is_persisted() => Some(file.version.clone()),
            Some(_) => return Ok(()),
            None => None,
        };
        let Some(key) = self.object_key(entry.inode, &row)? else { return Ok(()) };
        self.leave_all(dir, &[Left { key, version }])
    }

    /// Whether what the under store has under the new name of something is replaced by it: it has an object, or is a file that is to be put there. A
    /// directory that is to get its marker there may be renamed or removed before, and would leave the other's.
    pub(super) fn takes_place(&self, source: Entry) -> Result<bool, TableError> {
        let row = self.rows.inode(source.inode)?;
        let row = row.unwrap_or_else(|| panic!("inode {} has an entry but no row", source.inode));
        let is_dirty_file = row.dirty && !source.is_directory;
        Ok(is_dirty_file || self.object_key(source.inode, &row)?.is_some())
    }

    /// Notes what is left to be done when an entry has left `dir`.
    pub(super) fn clear_up(&mut self, dir: InodeId, after: After<'_>) -> Result<(), TableError> {
        self.leave_all(dir, after.leaves)?;
        self.keep_directory(dir, after.marker)
    }

    /// Notes objects that are nobody's any more, of the mount that `dir` is in.
    fn leave_all(&mut self, dir: InodeId, leaves: &[Left]) -> Result<(), TableError> {
        if leaves.is_empty() {
            return Ok(());
        }
        let mount = self.rows.mount_of(&self.mounts, dir)?;
        let mount = mount.unwrap_or_else(|| panic!("directory {dir} is in no mount"));
        for Left { key, version } in leaves {
            self.leave_orphan(mount, key.clone(), version.clone(), (Vec::new(), Vec::new()))?;
        }
        Ok(())
    }

    /// An entry left `dir`: if it was the last, the under store is to get a marker of the directory.
    fn keep_directory(&mut self, dir: InodeId, due: Option<Due>) -> Result<(), TableError> {
        let Some(due) = due.filter(|_| self.mounts.rooted_at(dir).is_none()) else { return Ok(()) };
        let (mut row, directory) = self.directory_row(dir)?;
        let known = self.dirty_of(dir, &row)?;
        if directory.children > 0 || known.as_ref().is_some_and(|dirty| dirty.marker) {
            return Ok(());
        }
        let mount = self.rows.mount_of(&self.mounts, dir)?.unwrap_or_else(|| panic!("directory {dir} is in no mount"));
        let dirty = match known {
            Some(known) => known,
            None => self.new_dirty(mount, dir, due),
        };
        // What was in it may be there still, and so may a marker.
        let dirty = Dirty { marker: true, below: true, ..dirty };
        self.set_dirty(&mut row, &dirty)?;
        self.put_inode(dir, &row)
    }

    /// The marker of a new directory was just put: it is not one that is to be deleted.
    pub(super) fn has_marker(&mut self, dir: InodeId) -> Result<(), TableError> {
        if self.dirty.orphaned.is_empty()? {
            return Ok(());
        }
        let (row, _) = self.directory_row(dir)?;
        let mount = self.rows.mount_of(&self.mounts, dir)?.unwrap_or_else(|| panic!("directory {dir} is in no mount"));
        let place = self.rows.path_place(&self.mounts, &row)?;
        self.drop_left_marker(mount, &place)
    }

    /// The marker at `place`, said without its `/`, is not to be deleted any more.
    pub(super) fn drop_left_marker(&mut self, mount: MountId, place: &[u8]) -> Result<(), TableError> {
        match self.dirty.orphan_at(mount, &[place, b"/"].concat())? {
            Some(orphan) => self.drop_dirty_row(orphan.inode),
            None => Ok(()),
        }
    }

    /// Whether what the under store shows there is to be deleted: the object, or something in the directory, unless that is known as one.
    pub(super) fn is_left(&self, dir: InodeId, observed: &Observed) -> Result<bool, TableError> {
        if self.dirty.orphaned.is_empty()? && self.unsettled.left.is_empty()? {
            return Ok(false);
        }
        let mount = self.rows.mount_of(&self.mounts, dir)?.unwrap_or(MountId(0));
        let key = [&self.rows.prefix(&self.mounts, dir)?, observed.name.as_bytes()].concat();
        if !matches!(observed.object, ObservedKind::Directory) {
            return Ok(self.dirty.orphan_at(mount, &key)?.is_some() || self.unsettled.is_left(mount, &key)?);
        }
        let known = self.rows.entry(self.mounts.key(dir), &observed.name)?;
        let is_known = matches!(known, Some(Entry { is_directory: true, .. }));
        let prefix = [&key, &b"/"[..]].concat();
        Ok(!is_known
            && (self.dirty.has_orphans_below(mount, &prefix, true)? || self.unsettled.is_left_below(mount, &prefix)?))
    }
}
