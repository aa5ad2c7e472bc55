//! What the under store was seen to hold.
//!
//! Seeing never undoes what was done through Headpond: where the under store is not yet what the namespace says, it is passed over.
//! That is under masked names, in directories that are being relocated (which are only filled, until they were listed once), and of what is
//! relocated itself, has no version, is dirty or is not where its directory and name say. What is dirty and what no under store can hold stays,
//! and the directories above it. Objects that are nobody's, and what leads to them, are passed over as well: those that a relocation left
//! (`left`) and those that dirty files did (orphans). Nothing is forgotten below a key at which such an object may be, as it may hide what is there.

use headpond_types::{InodeId, MountId, Name, Timestamp};
use redb::ReadableTableMetadata;

use super::{Apply, new_directory};
use crate::{
    command::{Effect, Observed, ObservedKind},
    error::TableError,
    inode::{Directory, Entry, File, Inode, Node},
    own::Own,
    rows::entry_key,
};

impl Apply<'_> {
    pub(super) fn upsert(&mut self, dir: InodeId, entries: &[Observed], at: Timestamp) -> Result<(), TableError> {
        let Some((mut row, mut directory)) = self.mounted_directory(dir)? else { return Ok(()) };
        let before = self.effects.len();
        let mut has_changed = false;
        let is_relocating = self.relocation_of(dir)?.is_some();
        for observed in entries {
            if !self.is_passed_over(dir, observed)? {
                has_changed |= self.upsert_entry(dir, &mut directory, is_relocating, observed, at)?;
            }
        }
        if self.effects.len() == before {
            return Ok(());
        }
        // Loading a directory is no change of it; a change after that is, if not only of what the store says of a file.
        if has_changed && directory.listed.is_some() && directory.mtime < at {
            directory.mtime = at;
            row.own.mtime = false;
        }
        self.put_directory(dir, row, directory)?;
        self.fill(dir, true)
    }

    /// Whether the name leads to something else than before.
    fn upsert_entry(
        &mut self,
        dir: InodeId,
        directory: &mut Directory,
        is_relocating: bool,
        observed: &Observed,
        at: Timestamp,
    ) -> Result<bool, TableError> {
        let name = &observed.name;
        let old = self.rows.entry(self.mounts.key(dir), name)?;
        if is_relocating && (old.is_some() || directory.listed.is_some()) {
            return Ok(false);
        }
        let mut own = Own::default();
        let node = match (&observed.object, old) {
            (ObservedKind::Directory, Some(Entry { is_directory: true, inode })) => {
                if self.mounts.keeps(inode) {
                    self.set_made(inode, false)?;
                }
                return Ok(false);
            }
            (_, Some(entry)) if self.is_unsettled(entry)? => return Ok(false),
            (_, Some(entry)) if self.mounts.keeps(entry.inode) => {
                self.set_made(entry.inode, true)?;
                return Ok(false);
            }
            (ObservedKind::Directory, _) => Node::Directory(new_directory(at, false)),
            (ObservedKind::File { size, mtime, version, content }, old) => {
                let file = File { size: *size, mtime: *mtime, version: version.clone(), content: *content };
                if let Some(entry) = old.filter(|entry| !entry.is_directory) {
                    let (row, known) = self.file_row(entry.inode)?;
                    if is_same(&known, &file) {
                        self.refresh_file(entry.inode, dir, row, &known, file)?;
                        return Ok(false);
                    }
                    own = row.own.of_replaced();
                }
                Node::File(file)
            }
        };
        let mut xattrs = Vec::new();
        let found = old.map(|entry| entry.inode);
        let old = old.map(|entry| self.outlive(entry)).transpose()?;
        own.xattrs &= old.map(|entry| entry.inode) == found;
        match old {
            Some(entry) => {
                if own.xattrs {
                    xattrs = self.take_xattrs(entry.inode)?;
                }
                self.remove_seen(dir, directory, entry)?;
            }
            None => directory.children += 1,
        }
        let new = self.insert(dir, name, own, node)?;
        self.put_xattrs(new, &xattrs)?;
        let (parent, name) = (dir, name.clone());
        self.effects.push(match old {
            None if directory.listed.is_none() => Effect::Discovered { parent, name },
            old => Effect::Entry { parent, name, old: old.map(|entry| entry.inode) },
        });
        Ok(true)
    }

    /// Brings the row of a file up to date whose content is still the `known` one.
    fn refresh_file(
        &mut self,
        id: InodeId,
        dir: InodeId,
        row: Inode,
        known: &File,
        seen: File,
    ) -> Result<(), TableError> {
        let mtime = if row.own.mtime { known.mtime } else { seen.mtime };
        // What we wrote keeps the name that its bytes have in caches.
        let file = File { mtime, content: known.content, ..seen };
        if *known != file {
            self.header.file_bytes = self.header.file_bytes - known.size + file.size;
            let name = row.name.clone().expect("only the root has no name");
            self.put_inode(id, &Inode { node: Node::File(file), ..row })?;
            self.effects.push(Effect::Entry { parent: dir, name, old: None });
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, dir: InodeId, entries: &[(Name, InodeId)]) -> Result<(), TableError> {
        let Some((row, mut directory)) = self.mounted_directory(dir)? else { return Ok(()) };
        if self.relocation_of(dir)?.is_some() || self.is_covered(dir)? {
            return Ok(());
        }
        let before = self.effects.len();
        let key = self.mounts.key(dir);
        for (name, inode) in entries {
            let found = self.rows.entry(key, name)?.filter(|entry| entry.inode == *inode);
            let Some(entry) = found else { continue };
            if self.is_masked(dir, name)? || self.is_unsettled(entry)? {
                continue;
            }
            if self.mounts.keeps(entry.inode) {
                self.set_made(entry.inode, true)?;
                continue;
            }
            let entry = self.outlive(entry)?;
            self.rows.entries.remove(entry_key(key, name.as_bytes()).as_slice())?;
            self.remove_seen(dir, &mut directory, entry)?;
            directory.children -= 1;
            self.effects.push(Effect::Entry { parent: dir, name: name.clone(), old: Some(entry.inode) });
        }
        if self.effects.len() > before {
            self.put_directory(dir, row, directory)?;
        }
        Ok(())
    }

    /// Whether an object may be under the key that leads to `dir`, or to a directory above, that is on its way to another place or nobody's. Stores that
    /// keep each object in a directory of its name, as MinIO does, list nothing of what is below such an object.
    fn is_covered(&self, dir: InodeId) -> Result<bool, TableError> {
        let Self { dirty, unsettled, .. } = self;
        if dirty.orphaned.is_empty()? && unsettled.left.is_empty()? && unsettled.masks.is_empty()? {
            return Ok(false);
        }
        let Some(mount) = self.rows.mount_of(&self.mounts, dir)? else { return Ok(false) };
        let prefix = self.rows.prefix(&self.mounts, dir)?;
        for (slash, _) in prefix.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let key = &prefix[..slash];
            if dirty.orphan_at(mount, key)?.is_some()
                || unsettled.is_left(mount, key)?
                || unsettled.is_place(mount, key)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what an entry of `dir` leads to. Further names of it that go as well may be in the same directory.
    fn remove_seen(&mut self, dir: InodeId, directory: &mut Directory, entry: Entry) -> Result<(), TableError> {
        if self.links.is_empty()? {
            return self.remove_inode(entry);
        }
        let (row, _) = self.directory_row(dir)?;
        self.put_directory(dir, row, directory.clone())?;
        self.remove_inode(entry)?;
        (_, *directory) = self.directory_row(dir)?;
        Ok(())
    }

    pub(super) fn mark_listed(&mut self, dir: InodeId, at: Timestamp, skipped: u64) -> Result<(), TableError> {
        let Some((row, mut directory)) = self.mounted_directory(dir)? else { return Ok(()) };
        directory.listed = Some((at, skipped));
        self.put_directory(dir, row, directory)
    }

    /// Gives `name` in `dir` a new inode. An entry that is there already leads to it from now on.
    pub(super) fn insert(&mut self, dir: InodeId, name: &Name, own: Own, node: Node) -> Result<InodeId, TableError> {
        let key = self.mounts.key(dir);
        let inode = self.new_id();
        let is_directory = matches!(node, Node::Directory(_));
        let row = Inode { parent: key, name: Some(name.clone()), key: None, own, dirty: false, node };
        self.header.inodes += 1;
        self.header.file_bytes += row.bytes();
        self.put_inode(inode, &row)?;
        let entry = Entry { inode, is_directory };
        self.rows.entries.insert(entry_key(key, name.as_bytes()).as_slice(), entry.encode())?;
        self.changed_rows += 1;
        Ok(inode)
    }

    /// Whether what the under store shows there is on its way to another place, or nobody's and to be deleted.
    fn is_passed_over(&self, dir: InodeId, observed: &Observed) -> Result<bool, TableError> {
        Ok(self.is_masked(dir, &observed.name)? || self.is_left(dir, observed)?)
    }

    /// Whether what the under store shows there is on its way to another place, or Headpond's own.
    fn is_masked(&self, dir: InodeId, name: &Name) -> Result<bool, TableError> {
        Ok(self.is_reserved(dir, name) || self.unsettled.is_masked(&self.rows, &self.mounts, dir, name)?)
    }

    /// Whether what an entry leads to is not yet in the under store as the namespace says, or holds such a thing. It lies in no directory
    /// that is being relocated.
    fn is_unsettled(&self, entry: Entry) -> Result<bool, TableError> {
        let row =
            self.rows.inode(entry.inode)?.unwrap_or_else(|| panic!("inode {} has an entry but no row", entry.inode));
        if self.is_held(entry, &row)? || self.unsettled.relocation_at(entry.inode)?.is_some() {
            return Ok(true);
        }
        if entry.is_directory {
            return Ok(self.relocates_within(entry.inode)?
                || self.unsettled.awaits_within(&self.rows, &self.mounts, entry.inode)?);
        }
        let (row, file) = self.file_row(entry.inode)?;
        let Some(key) = row.key.as_ref().filter(|_| file.is_persisted()) else { return Ok(!file.is_persisted()) };
        Ok(*key != self.rows.implied_key(&self.mounts, &row)?)
    }

    /// The row of a file that an entry leads to.
    pub(super) fn file_row(&self, id: InodeId) -> Result<(Inode, File), TableError> {
        let row = self.rows.inode(id)?.unwrap_or_else(|| panic!("inode {id} has an entry but no row"));
        let file = row.file().cloned().unwrap_or_else(|| panic!("inode {id} is a directory but its entry says a file"));
        Ok((row, file))
    }

    /// The row of a directory that is in the tree and in a mount; others hold nothing of an under store.
    fn mounted_directory(&self, dir: InodeId) -> Result<Option<(Inode, Directory)>, TableError> {
        if self.rows.mount_of(&self.mounts, dir)?.is_none_or(|mount| mount == MountId(0)) {
            return Ok(None);
        }
        let row = self.rows.inode(dir)?;
        Ok(row.and_then(|inode| inode.directory().cloned().map(|directory| (inode, directory))))
    }

    /// Remembers of a directory above a mount point whether the under store has it too: that decides whether it goes with the
    /// mount.
    fn set_made(&mut self, id: InodeId, made: bool) -> Result<(), TableError> {
        let (row, mut directory) = self.directory_row(id)?;
        if directory.made != made {
            directory.made = made;
            self.put_directory(id, row, directory)?;
        }
        Ok(())
    }
}

/// Whether two versions have the same bytes: in the words of the under store, or of what is computed from them.
fn is_same(known: &File, seen: &File) -> bool {
    known.content == seen.content || (&known.version, known.size) == (&seen.version, seen.size)
}
