//! Rows of what is dirty: kept in step with the rows of the inodes, the directories above, and what others may find in the under store.
//!
//! A file has an object when it has a version, or a key since something was begun to be put there, or was in its place before. A directory
//! has none, and nothing below it has, while its marker is missing and neither it nor anything below was begun: such a directory is *bare*. A
//! directory above one that is not bare is not bare either.

use headpond_types::{ContentId, InodeId, MountId, WorkerId};

use super::Apply;
use crate::{
    command::{Dirty, Due},
    dirty::orphan_key,
    error::TableError,
    header::pack,
    inode::{Entry, Inode, Node},
};

/// Contents that are remembered of a key.
const PUT_MAX: usize = 8;

impl Apply<'_> {
    /// What is dirty of an inode that has this row.
    pub(super) fn dirty_of(&self, id: InodeId, row: &Inode) -> Result<Option<Dirty>, TableError> {
        if !row.dirty {
            return Ok(None);
        }
        let dirty = self.dirty.get(id)?;
        Ok(Some(dirty.unwrap_or_else(|| panic!("inode {id} is dirty but has no row that says how"))))
    }

    /// Notes what is dirty of an inode; its row is still to be put.
    pub(super) fn set_dirty(&mut self, row: &mut Inode, dirty: &Dirty) -> Result<(), TableError> {
        let entry = Entry { inode: dirty.inode, is_directory: row.directory().is_some() };
        let was_held = self.is_held(entry, row)?;
        row.dirty = true;
        self.put_dirty(dirty)?;
        if was_held { Ok(()) } else { self.hold(self.mounts.directory(row.parent)) }
    }

    /// Notes that nothing is dirty of an inode any more; its row is still to be put.
    pub(super) fn clear_dirty(&mut self, id: InodeId, row: &mut Inode) -> Result<(), TableError> {
        if !row.dirty {
            return Ok(());
        }
        row.dirty = false;
        self.drop_dirty_row(id)?;
        let entry = Entry { inode: id, is_directory: row.directory().is_some() };
        if self.is_held(entry, row)? { Ok(()) } else { self.release(self.mounts.directory(row.parent)) }
    }

    /// Changes a row of something that is dirty already.
    pub(super) fn put_dirty(&mut self, dirty: &Dirty) -> Result<(), TableError> {
        let id = dirty.inode.0;
        let old = self.dirty.get(dirty.inode)?;
        if old.as_ref().is_none_or(|old| (old.number, old.since) != (dirty.number, dirty.since)) {
            self.renumbered.push(dirty.inode);
        }
        if let Some(old) = old.as_ref().filter(|old| old.number != dirty.number) {
            self.dirty.order.remove((old.number, id))?;
        }
        if old.as_ref().is_none_or(|old| old.number != dirty.number) {
            self.dirty.order.insert((dirty.number, id), ())?;
        }
        match (old.is_some_and(|old| old.key.is_some()), dirty.key.is_some()) {
            (false, true) => drop(self.dirty.begun.insert(id, ())?),
            (true, false) => drop(self.dirty.begun.remove(id)?),
            (true, true) | (false, false) => {}
        }
        self.dirty.rows.insert(id, pack(dirty).as_slice())?;
        self.changed_rows += 2;
        Ok(())
    }

    /// Removes the row of what is dirty of `id`.
    pub(super) fn drop_dirty_row(&mut self, id: InodeId) -> Result<(), TableError> {
        let Some(dirty) = self.dirty.get(id)? else { return Ok(()) };
        self.dirty.rows.remove(id.0)?;
        self.dirty.order.remove((dirty.number, id.0))?;
        if let Some(key) = &dirty.key {
            self.dirty.begun.remove(id.0)?;
            if dirty.is_orphan() {
                self.dirty.orphaned.remove(orphan_key(dirty.mount, key).as_slice())?;
            }
        }
        self.changed_rows += 3;
        Ok(())
    }

    /// Leaves what may be at the key of a dirty file to be deleted; the file has it no more. Its row is still to be put.
    pub(super) fn disown(&mut self, dirty: &mut Dirty) -> Result<(), TableError> {
        let (replaces, put) = (dirty.replaces.take(), std::mem::take(&mut dirty.put));
        let Some(key) = dirty.key.take() else { return Ok(()) };
        let holders = if put.is_empty() { Vec::new() } else { dirty.holders.clone() };
        self.leave_orphan(dirty.mount, key, replaces, (put, holders))
    }

    /// Notes that what is at `key`, if it is this version or one of these contents, which these workers may still be putting, is nobody's.
    pub(super) fn leave_orphan(
        &mut self,
        mount: MountId,
        key: Vec<u8>,
        replaces: Option<String>,
        (put, holders): (Vec<ContentId>, Vec<WorkerId>),
    ) -> Result<(), TableError> {
        let number = self.new_id().0;
        let mut orphan = Dirty {
            number,
            since: number,
            then: None,
            mount,
            inode: InodeId(number),
            due: Due::Now,
            barrier: false,
            holders,
            key: None,
            put,
            replaces,
            marker: false,
            below: false,
            tree: false,
        };
        if let Some(older) = self.dirty.orphan_at(mount, &key)? {
            self.drop_dirty_row(older.inode)?;
            orphan.replaces = orphan.replaces.or(older.replaces);
            orphan.put = older.put.into_iter().chain(orphan.put).collect();
            limit_put(&mut orphan);
            orphan.holders.extend(older.holders);
            orphan.holders.sort_unstable();
            orphan.holders.dedup();
        }
        self.dirty.orphaned.insert(orphan_key(mount, &key).as_slice(), number)?;
        orphan.key = Some(key);
        self.put_dirty(&orphan)
    }

    /// Where the under store has, or may have, an inode; nothing when it has nothing of it for sure.
    pub(super) fn object_key(&self, id: InodeId, row: &Inode) -> Result<Option<Vec<u8>>, TableError> {
        match &row.node {
            Node::Unstored { .. } => Ok(None),
            Node::File(file) if !file.is_persisted() => Ok(self.dirty_of(id, row)?.and_then(|dirty| dirty.key)),
            Node::Directory(_) if self.dirty_of(id, row)?.is_some_and(|dirty| dirty.is_bare()) => Ok(None),
            Node::File(_) | Node::Directory(_) => self.rows.key(&self.mounts, row).map(Some),
        }
    }

    /// The under store has, or may have, something below `dir`: no directory from there upwards is bare, and where it is sure, their markers
    /// are not needed any more.
    pub(super) fn fill(&mut self, dir: InodeId, is_sure: bool) -> Result<(), TableError> {
        if self.dirty.is_empty()? {
            return Ok(());
        }
        let mut marked = Vec::new();
        self.rows.climb(&self.mounts, dir, |at, row| {
            marked.extend(row.dirty.then_some(at));
            Ok(None::<()>)
        })?;
        for id in marked {
            let (mut row, _) = self.directory_row(id)?;
            let Some(mut dirty) = self.dirty_of(id, &row)?.filter(|dirty| dirty.marker) else { continue };
            // A marker that is being put comes to its own end.
            if !is_sure || dirty.key.is_some() {
                if !dirty.below {
                    dirty.below = true;
                    self.put_dirty(&dirty)?;
                }
                continue;
            }
            (dirty.marker, dirty.below) = (false, false);
            self.put_or_clear(&mut row, &dirty)?;
            self.put_inode(id, &row)?;
        }
        Ok(())
    }

    /// Notes of a directory what is left of it to be done, if anything; its row is still to be put.
    pub(super) fn put_or_clear(&mut self, row: &mut Inode, dirty: &Dirty) -> Result<(), TableError> {
        if dirty.marker || dirty.tree { self.set_dirty(row, dirty) } else { self.clear_dirty(dirty.inode, row) }
    }

    /// Whether something below `dir`, or itself, is to be put where its path does not say any more.
    pub(super) fn begun_elsewhere(&self, dir: InodeId) -> Result<Vec<Dirty>, TableError> {
        crate::dirty::begun_elsewhere(&self.dirty, &self.rows, &self.mounts, dir)
    }
}

/// Remembers the latest contents only.
pub(super) fn limit_put(dirty: &mut Dirty) {
    let surplus = dirty.put.len().saturating_sub(PUT_MAX);
    dirty.put.drain(..surplus);
}
