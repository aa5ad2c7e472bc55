//! Relocations: the row of each, what it masks, and the files that it has moved.

use headpond_types::{InodeId, MountId, Name};

use super::Apply;
use crate::{
    command::{Due, Effect, MovedFile, Relocation},
    error::TableError,
    header::pack,
    inode::{Entry, Node},
    unsettled::mask_key,
};

impl Apply<'_> {
    pub(super) fn begin_relocation(&mut self, relocation: &Relocation) -> Result<(), TableError> {
        for (dir, name) in &relocation.masked {
            self.unsettled.masks.insert(mask_key(*dir, name, relocation.id).as_slice(), ())?;
        }
        self.unsettled.relocating.insert(relocation.inode.0, relocation.id)?;
        self.put_relocation(relocation)
    }

    /// Notes the copies that are the files' objects from now on; answers those that were passed over.
    pub(super) fn moved(&mut self, relocation: u64, files: &[MovedFile]) -> Result<Vec<InodeId>, TableError> {
        let mut passed_over = Vec::new();
        for file in files {
            if !self.moved_file(relocation, file)? {
                passed_over.push(file.inode);
            }
        }
        Ok(passed_over)
    }

    fn moved_file(&mut self, relocation: u64, moved: &MovedFile) -> Result<bool, TableError> {
        let id = moved.inode;
        if self.relocation_of(id)? != Some(relocation) {
            return Ok(false);
        }
        let Some(mut row) = self.rows.inode(id)? else { return Ok(false) };
        let parent = self.mounts.directory(row.parent);
        if self.rows.mount_of(&self.mounts, parent)?.is_none() {
            return Ok(false);
        }
        // What is being put there is newer; it comes to an end first.
        if self.dirty_of(id, &row)?.is_some_and(|dirty| dirty.key.is_some()) {
            return Ok(false);
        }
        let key = self.rows.key(&self.mounts, &row)?;
        let Node::File(file) = &mut row.node else { return Ok(false) };
        if !file.is_persisted() {
            return Ok(false);
        }
        if file.version == moved.version && key == moved.key {
            return Ok(true);
        }
        if file.version != moved.from {
            return Ok(false);
        }
        file.version.clone_from(&moved.version);
        // The copy is younger than the file.
        row.own.mtime = true;
        self.place(&mut row, &moved.key)?;
        self.put_inode(id, &row)?;
        let name = row.name.expect("only the root has no name");
        self.effects.push(Effect::Entry { parent, name, old: None });
        Ok(true)
    }

    pub(super) fn end_relocation(&mut self, id: u64) -> Result<(), TableError> {
        let Some(relocation) = self.unsettled.relocation(id)? else { return Ok(()) };
        let begun = self.begun_elsewhere(relocation.inode)?;
        if begun.iter().any(|dirty| dirty.due == Due::Now) {
            return Ok(());
        }
        for mut dirty in begun {
            self.disown(&mut dirty)?;
            self.put_dirty(&dirty)?;
        }
        self.give_up_relocation(id)
    }

    fn give_up_relocation(&mut self, id: u64) -> Result<(), TableError> {
        let Some(relocation) = self.unsettled.relocation(id)? else { return Ok(()) };
        for (dir, name) in &relocation.masked {
            self.unsettled.masks.remove(mask_key(*dir, name, id).as_slice())?;
        }
        self.unsettled.relocating.remove(relocation.inode.0)?;
        self.unsettled.relocations.remove(id)?;
        self.changed_rows += 3;
        let Some(mut row) = self.rows.inode(relocation.inode)? else { return Ok(()) };
        match (&row.node, row.key.take()) {
            (_, None) => return Ok(()),
            (Node::Directory(_), Some(_)) => {}
            (Node::File(_) | Node::Unstored { .. }, Some(key)) => self.place(&mut row, &key)?,
        }
        self.put_inode(relocation.inode, &row)
    }

    /// A mount goes, and with it what was to be moved or deleted in its under store.
    pub(super) fn end_relocations_of(&mut self, mount: MountId) -> Result<(), TableError> {
        for orphan in self.dirty.orphans_of(mount)? {
            self.drop_dirty_row(orphan)?;
        }
        for relocation in self.unsettled.relocations()?.iter().filter(|relocation| relocation.mount == mount) {
            self.give_up_relocation(relocation.id)?;
        }
        Ok(())
    }

    /// What goes at `name` in `parent` may leave objects in the under store that are to be moved, its own or others' that were renamed out
    /// of it: what shows there is masked until they are.
    pub(super) fn mask_in_place_of(&mut self, entry: Entry, parent: InodeId, name: &Name) -> Result<(), TableError> {
        let mut ids = if entry.is_directory { self.unsettled.masking_in(entry.inode)? } else { Vec::new() };
        ids.extend(self.unsettled.relocation_at(entry.inode)?);
        for id in ids {
            let Some(mut relocation) = self.unsettled.relocation(id)? else { continue };
            let place = (parent, name.clone());
            if !relocation.masked.contains(&place) {
                self.unsettled.masks.insert(mask_key(parent, name, id).as_slice(), ())?;
                relocation.masked.push(place);
                self.put_relocation(&relocation)?;
            }
        }
        Ok(())
    }

    /// The relocation under way that an inode is, or lies below.
    pub(super) fn relocation_of(&self, inode: InodeId) -> Result<Option<u64>, TableError> {
        self.unsettled.relocation_of(&self.rows, &self.mounts, inode)
    }

    /// Whether something that is being relocated is `dir` or lies below.
    pub(super) fn relocates_within(&self, dir: InodeId) -> Result<bool, TableError> {
        self.unsettled.relocates_within(&self.rows, &self.mounts, dir)
    }

    fn put_relocation(&mut self, relocation: &Relocation) -> Result<(), TableError> {
        self.changed_rows += 3;
        self.unsettled.relocations.insert(relocation.id, pack(relocation).as_slice())?;
        Ok(())
    }
}
