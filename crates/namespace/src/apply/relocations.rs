//! Relocations: the row of each, the places that it masks, and the files that it has moved.

use headpond_types::{InodeId, MountId};
use redb::ReadableTable;

use super::{Apply, stop::Stop};
use crate::{
    command::{Due, Effect, MovedFile, Version},
    error::TableError,
    header::pack,
    inode::{Entry, Node},
    relocation::Relocation,
    unsettled::{left_key, mask_key},
};

impl Apply<'_> {
    /// Begins a relocation under an id of its own, and with that as its place in the order unless it has one; gives it.
    pub(super) fn begin_relocation(&mut self, relocation: Relocation) -> Result<u64, TableError> {
        let id = self.new_id().0;
        let since = if relocation.since == 0 { id } else { relocation.since };
        let relocation = Relocation { id, since, ..relocation };
        for place in relocation.places() {
            self.unsettled.masks.insert(mask_key(relocation.mount, place, relocation.id).as_slice(), ())?;
        }
        self.unsettled.relocating.insert(relocation.inode.0, relocation.id)?;
        self.changed_rows += 3;
        self.unsettled.relocations.insert(relocation.id, pack(&relocation).as_slice())?;
        Ok(relocation.id)
    }

    /// Changes a relocation, which goes on under a new id: what was found out about the old one, and is not journalled yet, counts no more.
    pub(super) fn amend_relocation(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Relocation),
    ) -> Result<u64, TableError> {
        let relocation = self.take_relocation(id)?;
        let mut relocation = relocation.unwrap_or_else(|| panic!("relocation {id} has an inode but no row"));
        change(&mut relocation);
        self.begin_relocation(relocation)
    }

    fn take_relocation(&mut self, id: u64) -> Result<Option<Relocation>, TableError> {
        let Some(relocation) = self.unsettled.relocation(id)? else { return Ok(None) };
        for place in relocation.places() {
            self.unsettled.masks.remove(mask_key(relocation.mount, place, id).as_slice())?;
        }
        self.unsettled.relocating.remove(relocation.inode.0)?;
        self.unsettled.relocations.remove(id)?;
        self.changed_rows += 3;
        Ok(Some(relocation))
    }

    /// The relocations of what lies below `dir`, each with where its path says that its objects are to go.
    pub(super) fn relocations_below(&self, dir: InodeId) -> Result<Vec<(u64, Vec<u8>)>, TableError> {
        let mut below = Vec::new();
        for row in self.unsettled.relocating.iter()? {
            let (inode, id) = row?;
            let (inode, id) = (InodeId(inode.value()), id.value());
            if inode != dir
                && self.rows.lies_within(&self.mounts, inode, dir)?
                && let Some(row) = self.rows.inode(inode)?
            {
                below.push((id, self.rows.path_key(&self.mounts, &row)?));
            }
        }
        Ok(below)
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
        let Some(mount) = self.rows.mount_of(&self.mounts, parent)? else { return Ok(false) };
        let begun = self.dirty_of(id, &row)?.filter(|dirty| dirty.key.is_some());
        // What is being put there is newer; it comes to an end first.
        if begun.as_ref().is_some_and(|dirty| dirty.due == Due::Now) {
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
        if let Some(mut dirty) = begun {
            self.disown(&mut dirty)?;
            self.put_dirty(&dirty)?;
        }
        let left = std::mem::replace(&mut file.version, moved.version.clone());
        // The copy is younger than the file.
        row.own.mtime = true;
        self.place(id, &mut row, &moved.key)?;
        self.put_inode(id, &row)?;
        if key != moved.key {
            self.unsettled.left.insert(left_key(mount, &key).as_slice(), left.as_str())?;
        }
        self.unsettled.left.remove(left_key(mount, &moved.key).as_slice())?;
        if let Some(orphan) = self.dirty.orphan_at(mount, &moved.key)? {
            self.drop_dirty_row(orphan.inode)?;
        }
        let name = row.name.expect("only the root has no name");
        self.effects.push(Effect::Entry { parent, name, old: None });
        Ok(true)
    }

    /// What is at `key` in another's version may be replaced by what a relocation moves there.
    pub(super) fn may_replace(&mut self, relocation: u64, key: &[u8], version: &str) -> Result<(), TableError> {
        let Some(mut relocation) = self.unsettled.relocation(relocation)? else { return Ok(()) };
        relocation.replaced.retain(|(known, _)| known != key);
        relocation.replaced.push((key.to_vec(), version.to_owned()));
        self.changed_rows += 1;
        self.unsettled.relocations.insert(relocation.id, pack(&relocation).as_slice())?;
        Ok(())
    }

    /// The file is what somebody else put at `key`, where its path says; its own object is left to be deleted.
    pub(super) fn give_way(
        &mut self,
        id: InodeId,
        from: &str,
        key: &[u8],
        version: &Version,
    ) -> Result<(), TableError> {
        let Some(row) = self.rows.inode(id)? else { return Ok(()) };
        let parent = self.mounts.directory(row.parent);
        let Some(mount) = self.rows.mount_of(&self.mounts, parent)? else { return Ok(()) };
        let old = self.rows.key(&self.mounts, &row)?;
        let is_that = row.file().is_some_and(|file| file.is_persisted() && file.version == from);
        if !is_that || row.dirty || old == key || self.rows.path_key(&self.mounts, &row)? != key {
            return Ok(());
        }
        match self.commit(id, key, version) {
            Ok(_) => {}
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Refused(refusal)) => panic!("a file that is there was refused: {refusal}"),
        }
        self.changed_rows += 1;
        self.unsettled.left.insert(left_key(mount, &old).as_slice(), from)?;
        Ok(())
    }

    pub(super) fn end_relocation(&mut self, id: u64) -> Result<(), TableError> {
        let Some(relocation) = self.unsettled.relocation(id)? else { return Ok(()) };
        let row = self.rows.inode(relocation.inode)?;
        if let Some(row) = row.filter(|row| row.directory().is_some()) {
            // Its prefix could not be said without it. What is swept has none to say.
            let above = self.mounts.directory(row.parent);
            if self.relocation_of(above)?.is_some()
                && (self.rows.mount_of(&self.mounts, above)?.is_some() || self.removal_of(above)?.is_some())
            {
                return Ok(());
            }
        }
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
        let Some(relocation) = self.take_relocation(id)? else { return Ok(()) };
        if self.end_removal(relocation.inode)? {
            return Ok(());
        }
        let Some(mut row) = self.rows.inode(relocation.inode)? else { return Ok(()) };
        match (&row.node, row.key.take()) {
            (_, None) => return Ok(()),
            (Node::Directory(_), Some(_)) => {}
            (Node::File(_) | Node::Unstored { .. }, Some(key)) => self.place(relocation.inode, &mut row, &key)?,
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
        for (key, _) in self.unsettled.left_in(mount)? {
            self.unsettled.left.remove(left_key(mount, &key).as_slice())?;
        }
        Ok(())
    }

    /// Notes objects that are nobody's, of a mount that is still there.
    pub(super) fn leave(
        &mut self,
        mount: MountId,
        objects: &[(Vec<u8>, String)],
        gone: &[Vec<u8>],
    ) -> Result<(), TableError> {
        for key in gone {
            self.unsettled.left.remove(left_key(mount, key).as_slice())?;
        }
        if self.mounts.get(mount).is_some() {
            for (key, version) in objects {
                self.unsettled.left.insert(left_key(mount, key).as_slice(), version.as_str())?;
            }
        }
        self.changed_rows += (objects.len() + gone.len()) as u64;
        Ok(())
    }

    /// What goes may have been on its way to where its path says: objects there are left to its relocation. A directory below one that is
    /// relocated gets one for that: its marker may be in any of the places of those above.
    pub(super) fn leave_behind(&mut self, entry: Entry) -> Result<(), TableError> {
        let Some(row) = self.rows.inode(entry.inode)? else { return Ok(()) };
        let path = self.rows.path_key(&self.mounts, &row)?;
        if let Some(id) = self.unsettled.relocation_at(entry.inode)? {
            return self.amend_relocation(id, |relocation| relocation.add_place(path)).map(|_| ());
        }
        let is_bare = || Ok::<_, TableError>(self.object_key(entry.inode, &row)?.is_none());
        if !entry.is_directory || self.relocation_of(entry.inode)?.is_none() || is_bare()? {
            return Ok(());
        }
        let (Some(mount), Some(name)) = (self.rows.mount_of(&self.mounts, entry.inode)?, &row.name) else {
            return Ok(());
        };
        let around = self.places_around((self.mounts.directory(row.parent), name))?;
        let mut relocation = Relocation::new(mount, entry.inode, self.rows.key(&self.mounts, &row)?);
        around.into_iter().chain([path]).for_each(|place| relocation.add_place(place));
        self.begin_relocation(relocation).map(|_| ())
    }

    /// Leaves the object of a file that is gone to be deleted.
    pub(super) fn leave_replaced(
        &mut self,
        mount: MountId,
        file: InodeId,
        object: (Vec<u8>, String),
    ) -> Result<(), TableError> {
        let key = object.0.clone();
        match self.unsettled.relocation_at(file)? {
            Some(id) => self.amend_relocation(id, |relocation| {
                relocation.add_place(key);
                relocation.replaced.push(object);
            }),
            None => {
                let relocation = Relocation::new(mount, file, key);
                self.begin_relocation(Relocation { replaced: vec![object], ..relocation })
            }
        }
        .map(|_| ())
    }

    /// The relocation under way that an inode is, or lies below.
    pub(super) fn relocation_of(&self, inode: InodeId) -> Result<Option<u64>, TableError> {
        self.unsettled.relocation_of(&self.rows, &self.mounts, inode)
    }

    /// The directory that is being removed with `inode` in it, itself included.
    fn removal_of(&self, inode: InodeId) -> Result<Option<InodeId>, TableError> {
        self.unsettled.removal_of(&self.rows, &self.mounts, inode)
    }

    /// Whether something that is being relocated is `dir` or lies below.
    pub(super) fn relocates_within(&self, dir: InodeId) -> Result<bool, TableError> {
        self.unsettled.relocates_within(&self.rows, &self.mounts, dir)
    }
}
