//! What the under store was seen to hold.

use headpond_types::{InodeId, MountId, Name, Timestamp};

use super::{Apply, new_directory};
use crate::{
    command::{Effect, Observed, ObservedKind},
    error::TableError,
    inode::{Directory, Entry, File, Inode, Node},
    rows::entry_key,
};

impl Apply<'_> {
    pub(super) fn upsert(&mut self, dir: InodeId, entries: &[Observed], at: Timestamp) -> Result<(), TableError> {
        let Some((row, mut directory)) = self.mounted_directory(dir)? else { return Ok(()) };
        let before = self.effects.len();
        for observed in entries {
            self.upsert_entry(dir, &mut directory, observed, at)?;
        }
        if self.effects.len() == before {
            return Ok(());
        }
        // Loading a directory is no change of it; a change after that is.
        if directory.listed.is_some() && directory.mtime < at {
            directory.mtime = at;
        }
        self.put_directory(dir, row, directory)
    }

    fn upsert_entry(
        &mut self,
        dir: InodeId,
        directory: &mut Directory,
        observed: &Observed,
        at: Timestamp,
    ) -> Result<(), TableError> {
        let old = self.rows.entry(self.mounts.key(dir), &observed.name)?;
        let node = match (&observed.object, old) {
            (object, Some(entry)) if self.mounts.keeps(entry.inode) => {
                return self.set_made(entry.inode, !matches!(object, ObservedKind::Directory));
            }
            (ObservedKind::Directory, Some(Entry { is_directory: true, .. })) => return Ok(()),
            (ObservedKind::Directory, _) => Node::Directory(new_directory(at, false)),
            (ObservedKind::File { size, mtime, version, content }, old) => {
                let file = File { size: *size, mtime: *mtime, version: version.clone(), content: *content };
                if let Some(entry) = old.filter(|entry| !entry.is_directory)
                    && self.refresh_file(entry.inode, dir, &observed.name, &file)?
                {
                    return Ok(());
                }
                Node::File(file)
            }
        };
        match old {
            Some(entry) => self.remove_inode(entry)?,
            None => directory.children += 1,
        }
        self.insert(dir, &observed.name, node)?;
        let (parent, name) = (dir, observed.name.clone());
        self.effects.push(match old {
            None if directory.listed.is_none() => Effect::Discovered { parent, name },
            old => Effect::Entry { parent, name, old: old.map(|entry| entry.inode) },
        });
        Ok(())
    }

    /// Brings the row of a file up to date if it still has the content of `file`; `false` if it has another.
    fn refresh_file(&mut self, id: InodeId, dir: InodeId, name: &Name, file: &File) -> Result<bool, TableError> {
        let row = self.rows.inode(id)?.unwrap_or_else(|| panic!("inode {id} has an entry but no row"));
        let Node::File(known) = &row.node else { panic!("inode {id} is a directory but its entry says a file") };
        if known.content != file.content {
            return Ok(false);
        }
        if known != file {
            self.header.file_bytes = self.header.file_bytes - known.size + file.size;
            self.put_inode(id, &Inode { node: Node::File(file.clone()), ..row })?;
            self.effects.push(Effect::Entry { parent: dir, name: name.clone(), old: None });
        }
        Ok(true)
    }

    pub(super) fn forget(&mut self, dir: InodeId, entries: &[(Name, InodeId)]) -> Result<(), TableError> {
        let Some((row, mut directory)) = self.mounted_directory(dir)? else { return Ok(()) };
        let before = self.effects.len();
        let key = self.mounts.key(dir);
        for (name, inode) in entries {
            let found = self.rows.entry(key, name)?.filter(|entry| entry.inode == *inode);
            let Some(entry) = found else { continue };
            if self.mounts.keeps(entry.inode) {
                self.set_made(entry.inode, true)?;
                continue;
            }
            self.rows.entries.remove(entry_key(key, name.as_bytes()).as_slice())?;
            self.remove_inode(entry)?;
            directory.children -= 1;
            self.effects.push(Effect::Entry { parent: dir, name: name.clone(), old: Some(entry.inode) });
        }
        if self.effects.len() > before {
            self.put_directory(dir, row, directory)?;
        }
        Ok(())
    }

    pub(super) fn mark_listed(&mut self, dir: InodeId, at: Timestamp, skipped: u64) -> Result<(), TableError> {
        let Some((row, mut directory)) = self.mounted_directory(dir)? else { return Ok(()) };
        directory.listed = Some((at, skipped));
        self.put_directory(dir, row, directory)
    }

    /// Gives `name` in `dir` a new inode. An entry that is there already leads to it from now on.
    pub(super) fn insert(&mut self, dir: InodeId, name: &Name, node: Node) -> Result<InodeId, TableError> {
        let key = self.mounts.key(dir);
        let inode = self.new_id();
        let is_directory = matches!(node, Node::Directory(_));
        let row = Inode { parent: key, name: Some(name.clone()), node };
        self.header.inodes += 1;
        self.header.file_bytes += row.bytes();
        self.put_inode(inode, &row)?;
        let entry = Entry { inode, is_directory };
        self.rows.entries.insert(entry_key(key, name.as_bytes()).as_slice(), entry.encode())?;
        self.changed_rows += 1;
        Ok(inode)
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
