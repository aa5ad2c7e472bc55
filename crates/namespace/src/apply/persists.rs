//! What workers hold and under stores are to get.

use headpond_types::{ContentId, InodeId, MountId, Timestamp, WorkerId};

use super::{Apply, dirty::limit_put, stop::Stop};
use crate::{
    command::{Dirty, Due, Effect, PersistBegun, Refusal, Reply, Version},
    displaced::displaced_key,
    error::TableError,
    inode::{Directory, Entry, File, Inode, Node},
    rows::entry_key,
};

/// A content that is to be persisted.
pub(super) struct NewContent<'a> {
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) content: ContentId,
    pub(super) holders: &'a [WorkerId],
    pub(super) due: Due,
    pub(super) barrier: bool,
}

impl Apply<'_> {
    pub(super) fn commit_dirty(&mut self, id: InodeId, new: &NewContent<'_>) -> Result<Reply, Stop> {
        let mut row = self.rows.inode(id)?.ok_or(Refusal::Gone(id))?;
        let parent = self.mounts.directory(row.parent);
        let mount = self.rows.mount_of(&self.mounts, parent)?.ok_or(Refusal::Gone(id))?;
        let name = row.name.clone().ok_or(Refusal::Gone(id))?;
        let Node::File(file) = &mut row.node else { return Err(Refusal::IsDirectory(name).into()) };
        let NewContent { size, mtime, content, .. } = *new;
        self.header.file_bytes = self.header.file_bytes - file.size + size;
        if !file.is_persisted() && !row.dirty {
            self.unsettled.unpersisted.remove(id.0).map_err(TableError::from)?;
        }
        *file = File { size, mtime, content, version: std::mem::take(&mut file.version) };
        row.own = row.own.of_written(mtime);
        let known = self.dirty_of(id, &row)?;
        let fresh = self.new_dirty(mount, id, new.due);
        let mut dirty = Dirty { barrier: new.barrier, holders: new.holders.to_vec(), ..fresh };
        if let Some(known) = known {
            if known.due == Due::Now && new.due == Due::Now {
                dirty.since = known.since;
            }
            dirty.then = known.then.or(known.key.is_some().then_some(dirty.number));
            (dirty.key, dirty.put, dirty.replaces) = (known.key, known.put, known.replaces);
        }
        self.set_dirty(&mut row, &dirty)?;
        self.put_inode(id, &row)?;
        self.effects.push(Effect::Entry { parent, name, old: Some(id) });
        self.aliases_lag(id)?;
        Ok(Reply::Inode(id))
    }

    /// A row with the next number, of which nothing was put yet.
    pub(super) fn new_dirty(&mut self, mount: MountId, inode: InodeId, due: Due) -> Dirty {
        let number = self.new_id().0;
        Dirty {
            number,
            since: number,
            then: None,
            mount,
            inode,
            due,
            barrier: false,
            holders: Vec::new(),
            key: None,
            put: Vec::new(),
            replaces: None,
            marker: false,
            below: false,
            tree: false,
        }
    }

    pub(super) fn begin_persist(&mut self, begun: &PersistBegun) -> Result<(), TableError> {
        let Some((row, mut dirty)) = self.dirty_numbered(begun.inode, begun.number)? else { return Ok(()) };
        let is_missing = row.directory().is_none() || dirty.marker;
        if begun.content.is_some() == row.directory().is_some()
            || !is_missing
            || begun.key != self.due_key(&row, &dirty)? && !may_be_displaced(&row, &dirty, &begun.key)
        {
            return Ok(());
        }
        if row.directory().is_some() {
            self.drop_left_marker(dirty.mount, &begun.key)?;
        } else if let Some(orphan) = self.dirty.orphan_at(dirty.mount, &begun.key)? {
            self.drop_dirty_row(orphan.inode)?;
            dirty.replaces = dirty.replaces.or(orphan.replaces);
            dirty.put = orphan.put.into_iter().chain(dirty.put).collect();
        }
        (dirty.key, dirty.then) = (Some(begun.key.clone()), None);
        dirty.put.extend(begun.content.filter(|content| dirty.put.last() != Some(content)));
        limit_put(&mut dirty);
        self.put_dirty(&dirty)?;
        self.fill(self.mounts.directory(row.parent), false)
    }

    pub(super) fn end_persist(
        &mut self,
        id: InodeId,
        number: u64,
        key: &[u8],
        version: Option<&Version>,
    ) -> Result<(), TableError> {
        let dirty = self.dirty.get(id)?;
        if let Some(orphan) = dirty.filter(Dirty::is_orphan) {
            return if orphan.number == number { self.drop_dirty_row(id) } else { Ok(()) };
        }
        let Some((row, dirty)) = self.dirty_in_tree(id)? else { return Ok(()) };
        match (&row.node, version) {
            (Node::Directory(_), None) => self.end_marker(id, key, row, dirty),
            (Node::File(_), Some(version)) => self.end_upload(id, number, key, version, row, dirty),
            (Node::File(_) | Node::Directory(_) | Node::Unstored { .. }, _) => Ok(()),
        }
    }

    fn end_upload(
        &mut self,
        id: InodeId,
        number: u64,
        key: &[u8],
        version: &Version,
        mut row: Inode,
        mut dirty: Dirty,
    ) -> Result<(), TableError> {
        let (mount, since, barrier) = (dirty.mount, dirty.since, dirty.barrier);
        let since = if barrier { dirty.number } else { since };
        let Node::File(file) = &mut row.node else { return Ok(()) };
        let known = file.size;
        file.version.clone_from(&version.version);
        if dirty.number == number {
            // Mostly the bytes are those that were committed, and so is their time: the store's is later.
            if file.content != version.content {
                (file.size, file.mtime, file.content) = (version.size, version.mtime, version.content);
            }
            self.header.file_bytes = self.header.file_bytes - known + file.size;
            self.clear_dirty(id, &mut row)?;
        } else {
            // What was put after it may be there instead.
            let ended = dirty.put.iter().position(|content| *content == version.content);
            dirty.put.drain(..ended.map_or(dirty.put.len(), |at| at + 1));
            (dirty.replaces, dirty.since) = (None, dirty.then.take().unwrap_or(dirty.number));
            dirty.key = dirty.key.filter(|_| !dirty.put.is_empty());
            self.put_dirty(&dirty)?;
        }
        self.settle(id, mount, key, row, Some((since, barrier)))
    }

    fn end_marker(&mut self, id: InodeId, key: &[u8], mut row: Inode, mut dirty: Dirty) -> Result<(), TableError> {
        // Under another number it has the marker as well, but not where it was renamed from.
        if !dirty.marker || key != self.due_key(&row, &dirty)? {
            return Ok(());
        }
        (dirty.marker, dirty.below, dirty.key) = (false, false, None);
        self.put_or_clear(&mut row, &dirty)?;
        self.put_inode(id, &row)?;
        self.fill(self.mounts.directory(row.parent), self.rows.path_place(&self.mounts, &row)? == key)
    }

    pub(super) fn make_due(&mut self, id: InodeId, barrier: bool, number: Option<u64>) -> Result<(), TableError> {
        let Some((_, mut dirty)) = self.dirty_in_tree(id)? else { return Ok(()) };
        if dirty.due == Due::Now {
            return Ok(());
        }
        dirty.due = Due::Now;
        dirty.barrier = barrier;
        dirty.number = number.unwrap_or_else(|| self.new_id().0);
        dirty.since = dirty.number;
        self.put_dirty(&dirty)
    }

    pub(super) fn end_tree(&mut self, id: InodeId, number: u64) -> Result<(), TableError> {
        let Some((mut row, mut dirty)) = self.dirty_numbered(id, number)? else { return Ok(()) };
        if !dirty.tree {
            return Ok(());
        }
        dirty.tree = false;
        self.put_or_clear(&mut row, &dirty)?;
        self.put_inode(id, &row)
    }

    pub(super) fn drop_dirty(&mut self, id: InodeId, number: u64) -> Result<(), TableError> {
        let Some((mut row, mut dirty)) = self.dirty_numbered(id, number)? else { return Ok(()) };
        if row.directory().is_some() {
            (dirty.marker, dirty.below, dirty.key) = (false, false, None);
            self.put_or_clear(&mut row, &dirty)?;
            return self.put_inode(id, &row);
        }
        let parent = self.mounts.directory(row.parent);
        let name = row.name.expect("only the root has no name");
        let entry = Entry { inode: id, is_directory: false };
        self.rows.entries.remove(entry_key(row.parent, name.as_bytes()).as_slice())?;
        self.leave_behind(entry)?;
        self.remove_inode(entry)?;
        self.effects.push(Effect::Entry { parent, name, old: Some(id) });
        self.adjust_parent(parent, -1, true)
    }

    pub(super) fn overwrite(&mut self, id: InodeId, number: u64, version: Option<&str>) -> Result<(), TableError> {
        if let Some(mut orphan) = self.dirty.get(id)?.filter(|dirty| dirty.is_orphan() && dirty.number == number) {
            orphan.replaces = version.map(str::to_owned);
            return self.put_dirty(&orphan);
        }
        let Some((mut row, mut dirty)) = self.dirty_numbered(id, number)? else { return Ok(()) };
        let path = self.rows.path_key(&self.mounts, &row)?;
        let Node::File(file) = &mut row.node else { return Ok(()) };
        let parent = self.mounts.directory(row.parent);
        if file.is_persisted() {
            file.version = version.unwrap_or_default().to_owned();
            self.effects.push(Effect::Entry { parent, name: row.name.clone().expect("has one"), old: Some(id) });
            return self.put_inode(id, &row);
        }
        dirty.replaces = version.map(str::to_owned);
        if dirty.replaces.is_some() {
            dirty.key.get_or_insert(path);
        }
        self.put_dirty(&dirty)?;
        self.fill(parent, false)
    }

    /// Where something dirty is to be put.
    fn due_key(&self, row: &Inode, dirty: &Dirty) -> Result<Vec<u8>, TableError> {
        match &row.node {
            _ if dirty.key.is_some() => Ok(dirty.key.clone().unwrap_or_default()),
            Node::File(file) if !file.is_persisted() => self.rows.path_key(&self.mounts, row),
            Node::File(_) | Node::Directory(_) | Node::Unstored { .. } => self.rows.place(&self.mounts, row),
        }
    }

    /// The row of something dirty that is in the tree, and what is dirty of it.
    fn dirty_in_tree(&self, id: InodeId) -> Result<Option<(Inode, Dirty)>, TableError> {
        let Some(row) = self.rows.inode(id)? else { return Ok(None) };
        let Some(dirty) = self.dirty_of(id, &row)? else { return Ok(None) };
        let is_there = self.rows.mount_of(&self.mounts, self.mounts.directory(row.parent))?.is_some();
        Ok(is_there.then_some((row, dirty)))
    }

    fn dirty_numbered(&self, id: InodeId, number: u64) -> Result<Option<(Inode, Dirty)>, TableError> {
        Ok(self.dirty_in_tree(id)?.filter(|(_, dirty)| dirty.number == number))
    }

    /// A directory that is made, of which the under store has nothing.
    pub(super) fn begin_bare(&mut self, id: InodeId, due: Due) -> Result<(), TableError> {
        let (mut row, _): (Inode, Directory) = self.directory_row(id)?;
        let mount = self.rows.mount_of(&self.mounts, id)?.unwrap_or_else(|| panic!("directory {id} is in no mount"));
        let dirty = Dirty { marker: true, ..self.new_dirty(mount, id, due) };
        self.set_dirty(&mut row, &dirty)?;
        self.put_inode(id, &row)
    }
}

/// Whether a new file may be put at a key of its own, since others may be where its path says.
fn may_be_displaced(row: &Inode, dirty: &Dirty, key: &[u8]) -> bool {
    dirty.key.is_none() && row.file().is_some_and(|file| !file.is_persisted()) && key == displaced_key(dirty.inode)
}
