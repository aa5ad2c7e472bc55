//! Files that are written through Headpond.

use headpond_types::{InodeId, MountId};

use super::{Apply, stop::Stop};
use crate::{
    command::{Effect, Refusal, Reply, Version},
    displaced::displaced_inode,
    error::TableError,
    inode::{Entry, File, Inode, Node},
    relocation::Relocation,
    unsettled::left_key,
};

impl Apply<'_> {
    pub(super) fn commit(&mut self, id: InodeId, key: &[u8], version: &Version) -> Result<Reply, Stop> {
        let row = self.rows.inode(id)?.ok_or(Refusal::Gone(id))?;
        let parent = self.mounts.directory(row.parent);
        let mount = self.rows.mount_of(&self.mounts, parent)?.ok_or(Refusal::Gone(id))?;
        let name = row.name.clone().ok_or(Refusal::Gone(id))?;
        let Some(known) = row.file() else { return Err(Refusal::IsDirectory(name).into()) };
        let Version { size, mtime, version, content } = version.clone();
        let file = File { size, mtime, version, content };
        self.header.file_bytes = self.header.file_bytes - known.size + size;
        if file.is_persisted() {
            self.unsettled.unpersisted.remove(id.0).map_err(TableError::from)?;
        }
        let mut row = Inode { node: Node::File(file), ..row };
        let mut order = None;
        if let Some(mut dirty) = self.dirty_of(id, &row)? {
            order = Some((dirty.since, dirty.barrier));
            if dirty.key.as_deref() != Some(key) {
                self.disown(&mut dirty)?;
            }
            self.clear_dirty(id, &mut row)?;
        }
        // The store may tell of another time, by its own clock: the version that we know to be ours has this one.
        row.own = row.own.of_written(mtime);
        self.settle(id, mount, key, row, order)?;
        self.aliases_lag(id)?;
        Ok(Reply::Inode(id))
    }

    /// The under store has a file at `key`, as `row` says otherwise; the file had this place in the `order`, and was a barrier, or is not to wait.
    pub(super) fn settle(
        &mut self,
        id: InodeId,
        mount: MountId,
        key: &[u8],
        mut row: Inode,
        order: Option<(u64, bool)>,
    ) -> Result<(), TableError> {
        let parent = self.mounts.directory(row.parent);
        let name = row.name.clone().expect("only the root has no name");
        if let Some(orphan) = self.dirty.orphan_at(mount, key)? {
            self.drop_dirty_row(orphan.inode)?;
        }
        self.place(id, &mut row, key)?;
        self.put_inode(id, &row)?;
        self.unsettled.left.remove(left_key(mount, key).as_slice())?;
        self.effects.push(Effect::Entry { parent, name, old: Some(id) });
        self.fill(parent, self.rows.path_key(&self.mounts, &row)? == key)?;
        self.begin_to_move_written(id, mount, key, &row, order)
    }

    /// Has a file relocated that was written where its path does not say, unless what is under way is sure to move it: that of a directory
    /// may have seen it elsewhere, and end. Who waits for the file goes on to wait until it is moved.
    fn begin_to_move_written(
        &mut self,
        inode: InodeId,
        mount: MountId,
        key: &[u8],
        row: &Inode,
        order: Option<(u64, bool)>,
    ) -> Result<(), TableError> {
        if self.rows.path_key(&self.mounts, row)? == key {
            return Ok(());
        }
        if let Some(id) = self.unsettled.relocation_at(inode)? {
            let known = self.unsettled.relocation(id)?;
            // Where readers of the store look for it, it is there in its turn.
            let Some((since, barrier)) = order.filter(|_| displaced_inode(key).is_some()) else { return Ok(()) };
            if known.is_some_and(|known| since < known.since || barrier && !known.barrier) {
                self.amend_relocation(id, |relocation| {
                    relocation.since = relocation.since.min(since);
                    relocation.barrier |= barrier;
                })?;
            }
            return Ok(());
        }
        if self.relocation_of(inode)?.is_some() && self.rows.implied_key(&self.mounts, row)? == key {
            return Ok(());
        }
        let (since, barrier) = order.unwrap_or_default();
        let relocation = Relocation::new(mount, inode, key.to_vec());
        self.begin_relocation(Relocation { since, barrier, ..relocation }).map(|_| ())
    }

    pub(super) fn discard(&mut self, id: InodeId) -> Result<(), TableError> {
        let Some(row) = self.rows.inode(id)? else { return Ok(()) };
        let parent = self.mounts.directory(row.parent);
        let is_unpersisted = row.file().is_some_and(|file| !file.is_persisted()) && !row.dirty;
        if !is_unpersisted || self.rows.mount_of(&self.mounts, parent)?.is_none() {
            return Ok(());
        }
        let name = row.name.expect("only the root has no name");
        self.remove_name(parent, &name, Entry { inode: id, is_directory: false })?;
        self.adjust_parent(parent, -1, false)
    }

    /// Says of a row that the under store has it at `key`, in so many words only if that is needed. That of what is relocated is always said:
    /// the prefix that implies it may be that of a directory above which ends to be relocated before.
    pub(super) fn place(&self, id: InodeId, row: &mut Inode, key: &[u8]) -> Result<(), TableError> {
        row.key = None;
        if self.unsettled.relocation_at(id)?.is_some() || self.rows.implied_key(&self.mounts, row)? != key {
            row.key = Some(key.to_vec());
        }
        Ok(())
    }
}
