//! What a rename does to what is dirty: whose place it takes, and when it is due.

use super::Apply;
use crate::{
    command::{Dirty, Due},
    error::TableError,
    inode::{Entry, File, Inode},
};

/// What a rename means for the order in which under stores get what is dirty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// What waits for another name has it.
    pub(super) released: bool,
    /// The new name is seen only after all that was changed before.
    pub(super) barrier: bool,
}

impl Apply<'_> {
    /// Has a dirty file of which there is no object, and that is to be persisted, take the place of the object of what it replaces: it is
    /// to be put there, and is moved later if it is renamed before. Otherwise that object is nobody's. Answers whether it is such a file.
    pub(super) fn take_place(&mut self, source: Entry, target: Entry, order: Order) -> Result<bool, TableError> {
        let (Some(source_row), Some(target_row)) = (self.rows.inode(source.inode)?, self.rows.inode(target.inode)?)
        else {
            return Ok(false);
        };
        let Some(mut dirty) = self.dirty_of(source.inode, &source_row)? else { return Ok(false) };
        if source.is_directory || source_row.file().is_some_and(File::is_persisted) || dirty.key.is_some() {
            return Ok(false);
        }
        let place = self.rows.path_key(&self.mounts, &target_row)?;
        let Some(key) = self.object_key(target.inode, &target_row)? else { return Ok(true) };
        let is_due = dirty.due == Due::Now || order.released && dirty.due == Due::WhenRenamed;
        let version = target_row.file().filter(|file| file.is_persisted()).map(|file| file.version.clone());
        let known = self.dirty_of(target.inode, &target_row)?;
        if !is_due || key != place {
            if let Some(version) = version {
                self.leave_orphan(dirty.mount, key, Some(version), (Vec::new(), Vec::new()))?;
            }
            return Ok(true);
        }
        dirty.replaces = version;
        if let Some(mut known) = known.filter(|known| known.key.as_ref() == Some(&key)) {
            dirty.put = std::mem::take(&mut known.put);
            dirty.replaces = dirty.replaces.or(known.replaces.take());
            known.key = None;
            self.put_dirty(&known)?;
        }
        dirty.key = Some(key);
        self.put_dirty(&dirty)?;
        Ok(true)
    }

    /// What may be in the under store of a dirty file that goes is nobody's.
    pub(super) fn orphan_object(&mut self, entry: Entry) -> Result<(), TableError> {
        if entry.is_directory {
            return Ok(());
        }
        let Some(row) = self.rows.inode(entry.inode)? else { return Ok(()) };
        let Some(mut dirty) = self.dirty_of(entry.inode, &row)? else { return Ok(()) };
        // What it was to replace is as little anybody's.
        let version = row.file().filter(|file| file.is_persisted()).map(|file| file.version.clone());
        dirty.replaces = dirty.replaces.take().or(version);
        self.disown(&mut dirty)?;
        self.put_dirty(&dirty)
    }

    /// What was renamed is due from now on, or has another place in the order.
    pub(super) fn renumber(&mut self, moved: Entry, order: Order) -> Result<(), TableError> {
        let Some(mut row) = self.rows.inode(moved.inode)? else { return Ok(()) };
        let known = self.dirty_of(moved.inode, &row)?;
        if moved.is_directory {
            return if order.released { self.release_tree(moved, row, known) } else { Ok(()) };
        }
        let Some(dirty) = known else { return Ok(()) };
        let is_released = order.released && dirty.due == Due::WhenRenamed;
        let is_late = order.barrier && dirty.due == Due::Now;
        if !is_released && !is_late {
            return Ok(());
        }
        let number = self.new_id().0;
        let barrier = if is_released { order.barrier } else { true };
        let since = if is_released { number } else { dirty.since };
        self.set_dirty(&mut row, &Dirty { number, since, due: Due::Now, barrier, ..dirty })
    }

    fn release_tree(&mut self, moved: Entry, mut row: Inode, known: Option<Dirty>) -> Result<(), TableError> {
        let tree = self.alone.is_holder(moved.inode)?;
        if !tree && known.is_none() {
            return Ok(());
        }
        let mount = self.rows.mount_of(&self.mounts, moved.inode)?;
        let mount = mount.unwrap_or_else(|| panic!("directory {} is in no mount", moved.inode));
        let fresh = self.new_dirty(mount, moved.inode, Due::Now);
        let dirty = match known {
            Some(known) => {
                Dirty { number: fresh.number, since: fresh.number, due: Due::Now, barrier: true, tree, ..known }
            }
            None => Dirty { barrier: true, tree, ..fresh },
        };
        self.set_dirty(&mut row, &dirty)?;
        self.put_inode(moved.inode, &row)
    }
}
