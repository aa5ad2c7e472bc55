//! Objects that are nobody's since what they were of was removed, and directories that would vanish from the under store with their last entry.

use headpond_types::{InodeId, MountId};
use redb::ReadableTableMetadata;

use super::Apply;
use crate::{
    command::{Dirty, Due, Left, Observed, ObservedKind},
    error::TableError,
    inode::Entry,
};

impl Apply<'_> {
    /// Notes objects that are nobody's any more, of the mount that `dir` is in.
    pub(super) fn leave_all(&mut self, dir: InodeId, leaves: &[Left]) -> Result<(), TableError> {
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
    pub(super) fn keep_directory(&mut self, dir: InodeId, due: Option<Due>) -> Result<(), TableError> {
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
        if self.dirty.orphaned.is_empty()? {
            return Ok(false);
        }
        let mount = self.rows.mount_of(&self.mounts, dir)?.unwrap_or(MountId(0));
        let key = [&self.rows.prefix(&self.mounts, dir)?, observed.name.as_bytes()].concat();
        if !matches!(observed.object, ObservedKind::Directory) {
            return Ok(self.dirty.orphan_at(mount, &key)?.is_some());
        }
        let known = self.rows.entry(self.mounts.key(dir), &observed.name)?;
        let is_known = matches!(known, Some(Entry { is_directory: true, .. }));
        Ok(!is_known && self.dirty.has_orphans_below(mount, &[&key, &b"/"[..]].concat(), true)?)
    }
}
