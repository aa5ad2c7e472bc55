//! Removing a directory with all that lies below, in one step.
//!
//! What of it the under store has is deleted by the relocation of the directory, which goes nowhere. Until that ends the rows stay, out of the tree:
//! the directory gets a parent that is no inode's, so it is gone for everybody, and a row in the table of *removals*, so who deletes objects
//! finds those that were known. What is not as the under store has it goes at once, as if each was removed by itself: further names, first
//! names of what has others elsewhere, what is dirty, and files without a version. So the rows that stay lead to clean objects only.

use std::collections::BTreeSet;

use headpond_types::{InodeId, MountId, Name, Timestamp};
use redb::ReadableTable;

use super::{Apply, left::After, renames::Place, stop::Stop};
use crate::{
    command::{Effect, Refusal, Reply},
    error::TableError,
    inode::{DirKey, Entry, Inode},
    relocation::Relocation,
    rows::entry_key,
};

impl Apply<'_> {
    pub(super) fn remove_tree(
        &mut self,
        parent: InodeId,
        name: &Name,
        inode: InodeId,
        after: After<'_>,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let (mount, entry) = self.removable(parent, name, inode)?;
        if !entry.is_directory {
            return Err(Refusal::NoDirectory(name.clone()).into());
        }
        let (row, _) = self.directory_row(inode)?;
        let is_bare = self.object_key(inode, &row)?.is_none();
        self.remove_names_within(inode, now)?;
        self.remove_unsettled_within(inode, is_bare, now)?;
        if is_bare {
            self.remove_name(parent, name, entry)?;
        } else {
            self.detach(mount, (parent, name), entry, now)?;
        }
        self.count_child(parent, -1, now)?;
        self.clear_up(parent, after)?;
        Ok(Reply::Done)
    }

    /// Removes further names at or below `dir`, and has inodes that have names elsewhere live on under one of those.
    fn remove_names_within(&mut self, dir: InodeId, now: Timestamp) -> Result<(), TableError> {
        if self.links.is_empty()? {
            return Ok(());
        }
        let targets = self.links.targets()?;
        for target in &targets {
            for alias in self.links.aliases(*target)? {
                if self.rows.lies_within(&self.mounts, alias, dir)? {
                    self.remove_within(alias, now)?;
                }
            }
        }
        for target in targets {
            if !self.links.has_aliases(target)? || !self.rows.lies_within(&self.mounts, target, dir)? {
                continue;
            }
            let (parent, name) = self.name_of(target)?;
            self.promote(parent, &name, Entry { inode: target, is_directory: false }, now)?;
        }
        Ok(())
    }

    /// Removes files at or below `top` that are dirty or have no version. Directories there are not dirty any more; that may except the top, if the
    /// under store has nothing of it.
    fn remove_unsettled_within(&mut self, top: InodeId, is_bare: bool, now: Timestamp) -> Result<(), TableError> {
        let mut unsettled = BTreeSet::new();
        for row in self.dirty.rows.iter()? {
            unsettled.insert(InodeId(row?.0.value()));
        }
        for row in self.unsettled.unpersisted.iter()? {
            unsettled.insert(InodeId(row?.0.value()));
        }
        for inode in unsettled {
            if !self.rows.lies_within(&self.mounts, inode, top)? {
                continue;
            }
            let Some(mut row) = self.rows.inode(inode)? else { continue };
            if row.directory().is_none() {
                self.remove_within(inode, now)?;
                continue;
            }
            if inode == top && is_bare {
                continue;
            }
            if let Some(dirty) = self.dirty_of(inode, &row)?
                && let Some(place) = dirty.key
            {
                // Its marker may be put at any moment.
                self.leave_orphan(dirty.mount, [&place[..], b"/"].concat(), None, (Vec::new(), Vec::new()))?;
            }
            self.clear_dirty(inode, &mut row)?;
            self.put_inode(inode, &row)?;
        }
        Ok(())
    }

    /// Removes a file that is not the first of several names, and leaves what the under store has of it to be deleted.
    fn remove_within(&mut self, file: InodeId, now: Timestamp) -> Result<(), TableError> {
        let (parent, name) = self.name_of(file)?;
        let entry = Entry { inode: file, is_directory: false };
        let target = self.links.target(file)?;
        self.leave_object(parent, entry)?;
        self.remove_name(parent, &name, entry)?;
        self.count_child(parent, -1, now)?;
        if target == file { Ok(()) } else { self.set_ctime(target, now) }
    }

    fn name_of(&self, inode: InodeId) -> Result<(InodeId, Name), TableError> {
        let row = self.rows.inode(inode)?.unwrap_or_else(|| panic!("inode {inode} has an entry but no row"));
        Ok((self.mounts.directory(row.parent), row.name.unwrap_or_else(|| panic!("inode {inode} has no name"))))
    }

    /// Takes a directory out of the tree, and begins to remove what the under store has of it.
    fn detach(&mut self, mount: MountId, from: Place<'_>, entry: Entry, now: Timestamp) -> Result<(), TableError> {
        let dir = entry.inode;
        let (row, _) = self.directory_row(dir)?;
        let key = self.rows.key(&self.mounts, &row)?;
        let old_path = self.rows.path_key(&self.mounts, &row)?;
        let around = self.places_around(from)?;
        let below = self.relocations_below(dir)?;
        if self.is_held(entry, &row)? {
            self.release(from.0)?;
        }
        self.rows.entries.remove(entry_key(self.mounts.key(from.0), from.1.as_bytes()).as_slice())?;
        self.effects.push(Effect::Entry { parent: from.0, name: from.1.clone(), old: Some(dir) });
        let nowhere = DirKey(self.new_id().0);
        self.put_inode(dir, &Inode { parent: nowhere, key: Some(key.clone()), ..row })?;
        self.unsettled.removals.insert(dir.0, now.0.cast_unsigned())?;
        // Nobody who came before waits for it: only what is deleted is left of what they might have waited for.
        let removing = |relocation: &mut Relocation| (relocation.since, relocation.barrier) = (0, false);
        match self.unsettled.relocation_at(dir)? {
            Some(id) => self.amend_relocation(id, |relocation| {
                relocation.add_place(old_path);
                removing(relocation);
            })?,
            None => {
                let mut relocation = Relocation::new(mount, dir, key);
                around.into_iter().chain([old_path]).for_each(|place| relocation.add_place(place));
                self.begin_relocation(relocation)?
            }
        };
        for (id, path) in below {
            self.amend_relocation(id, |relocation| {
                relocation.add_place(path);
                removing(relocation);
            })?;
        }
        Ok(())
    }

    /// Forgets files below `tree`, which is being removed: the under store does not have their objects any more, in these versions.
    pub(super) fn reap(&mut self, tree: InodeId, files: &[(InodeId, String)]) -> Result<(), TableError> {
        if self.unsettled.removed_at(tree)?.is_none() {
            return Ok(());
        }
        for (inode, version) in files {
            let Some(row) = self.rows.inode(*inode)? else { continue };
            let is_same = row.file().is_some_and(|file| file.version == *version);
            let Some(name) = row.name.as_ref().filter(|_| is_same) else { continue };
            if self.rows.lies_within(&self.mounts, *inode, tree)? {
                self.rows.entries.remove(entry_key(row.parent, name.as_bytes()).as_slice())?;
                self.remove_inode(Entry { inode: *inode, is_directory: false })?;
            }
        }
        Ok(())
    }

    /// The relocation of `dir` is over: if it was being removed, what is known of it goes, and what is known below follows later. Answers whether it was.
    pub(super) fn end_removal(&mut self, dir: InodeId) -> Result<bool, TableError> {
        if self.unsettled.removals.remove(dir.0)?.is_none() {
            return Ok(false);
        }
        self.remove_inode(Entry { inode: dir, is_directory: true })?;
        Ok(true)
    }
}
