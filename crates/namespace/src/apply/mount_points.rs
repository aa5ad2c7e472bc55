//! Binding paths to under stores.

use std::sync::Arc;

use headpond_types::{InodeId, MountId, Name, NsPath, Timestamp};

use super::{Apply, new_directory};
use crate::{
    command::{Effect, Mount, Refusal, Reply},
    error::TableError,
    header::pack,
    inode::{Directory, Entry, Inode, Node},
    mounts::Mounts,
    own::Own,
    rows::entry_key,
};

impl Apply<'_> {
    pub(super) fn add_mount(&mut self, mount: &Mount, now: Timestamp) -> Result<Reply, TableError> {
        let path = &mount.path;
        if self.mounts.at(path).is_some() {
            return Ok(Reply::Refused(Refusal::MountExists(path.clone())));
        }
        if let Some(file) = self.file_on(path)? {
            return Ok(Reply::Refused(Refusal::NotADirectory(file)));
        }
        let root = match path.split_last() {
            None => InodeId::ROOT,
            Some((above, name)) => {
                let mut dir = InodeId::ROOT;
                for name in above.names() {
                    dir = self.directory_at(dir, name, now)?;
                }
                self.mount_point(dir, name, now)?
            }
        };
        let id = MountId(self.header.next_mount);
        self.header.next_mount += 1;
        let mount = Mount { id, ..mount.clone() };
        self.mount_table.insert(id.0, pack(&(root, &mount)).as_slice())?;
        self.changed_rows += 1;
        let mut by_id = self.mounts.by_id().clone();
        by_id.insert(id, (root, mount.clone()));
        self.mounts = Arc::new(Mounts::new(by_id, self.header.root_key, &self.rows)?);
        self.effects.push(Effect::Mounts);
        Ok(Reply::Mount(mount))
    }

    pub(super) fn remove_mount(&mut self, path: &NsPath) -> Result<Reply, TableError> {
        let Some(mount) = self.mounts.at(path).map(|mount| mount.id) else {
            return Ok(Reply::Refused(Refusal::NoMount(path.clone())));
        };
        let below =
            self.mounts.iter().map(|mount| &mount.path).filter(|other| *other != path && other.starts_with(path));
        if let Some(other) = below.min() {
            return Ok(Reply::Refused(Refusal::MountsBelow(path.clone(), other.clone())));
        }
        let mut by_id = self.mounts.by_id().clone();
        let (root, _) = by_id.remove(&mount).expect("the mount was just found");
        self.mount_table.remove(mount.0)?;
        self.end_relocations_of(mount)?;
        self.changed_rows += 1;
        if root == InodeId::ROOT {
            self.empty_root()?;
            self.mounts = Arc::new(Mounts::new(by_id, self.header.root_key, &self.rows)?);
        } else {
            self.mounts = Arc::new(Mounts::new(by_id, self.header.root_key, &self.rows)?);
            self.unmake(root)?;
        }
        self.effects.push(Effect::Mounts);
        Ok(Reply::Done)
    }

    /// The first file on the way to `path`, itself included.
    fn file_on(&self, path: &NsPath) -> Result<Option<NsPath>, TableError> {
        let mut dir = InodeId::ROOT;
        let mut reached = NsPath::root();
        for name in path.names() {
            reached = reached.join(name.clone());
            match self.rows.entry(self.mounts.key(dir), name)? {
                None => return Ok(None),
                Some(Entry { is_directory: false, .. }) => return Ok(Some(reached)),
                Some(entry) => dir = entry.inode,
            }
        }
        Ok(None)
    }

    /// The directory `name` in `dir`, made if it is missing.
    fn directory_at(&mut self, dir: InodeId, name: &Name, now: Timestamp) -> Result<InodeId, TableError> {
        match self.rows.entry(self.mounts.key(dir), name)? {
            Some(entry) => Ok(entry.inode),
            None => self.make(dir, name, now),
        }
    }

    fn make(&mut self, dir: InodeId, name: &Name, now: Timestamp) -> Result<InodeId, TableError> {
        let inode = self.insert(dir, name, Own::default(), Node::Directory(new_directory(now, true)))?;
        self.adjust_parent(dir, 1, false)?;
        self.effects.push(Effect::Entry { parent: dir, name: name.clone(), old: None });
        Ok(inode)
    }

    /// The directory `name` in `dir` as a mount point: without what the mount around it shows there.
    fn mount_point(&mut self, dir: InodeId, name: &Name, now: Timestamp) -> Result<InodeId, TableError> {
        let Some(entry) = self.rows.entry(self.mounts.key(dir), name)? else { return self.make(dir, name, now) };
        if self.rows.mount_of(&self.mounts, dir)? != Some(MountId(0)) {
            return self.replace_directory(dir, name, entry, now);
        }
        // Outside all mounts there are only directories above mount points; they stay, under the new mount.
        self.effects.push(Effect::Entry { parent: dir, name: name.clone(), old: None });
        Ok(entry.inode)
    }

    /// Gives a directory a new inode that holds nothing but what leads to mount points below.
    fn replace_directory(
        &mut self,
        dir: InodeId,
        name: &Name,
        old: Entry,
        now: Timestamp,
    ) -> Result<InodeId, TableError> {
        let (_, known) = self.directory_row(old.inode)?;
        let kept = self.kept_below(old.inode)?;
        self.remove_inode(old)?;
        let children = kept.len() as u64;
        let directory = Directory { children, ..new_directory(now, known.made) };
        let new = self.insert(dir, name, Own::default(), Node::Directory(directory))?;
        self.effects.push(Effect::Entry { parent: dir, name: name.clone(), old: Some(old.inode) });
        for (id, row, name) in kept {
            self.rows.entries.remove(entry_key(row.parent, name.as_bytes()).as_slice())?;
            let entry = Entry { inode: id, is_directory: true };
            if self.mounts.rooted_at(id).is_some() {
                let parent = self.mounts.key(new);
                self.rows.entries.insert(entry_key(parent, name.as_bytes()).as_slice(), entry.encode())?;
                self.put_inode(id, &Inode { parent, ..row })?;
                self.effects.push(Effect::Entry { parent: new, name, old: None });
            } else {
                self.replace_directory(new, &name, entry, now)?;
            }
        }
        Ok(new)
    }

    /// The directories right below `dir` that are or lead to mount points.
    fn kept_below(&self, dir: InodeId) -> Result<Vec<(InodeId, Inode, Name)>, TableError> {
        let key = self.mounts.key(dir);
        let mut below = Vec::new();
        for id in self.mounts.kept() {
            // Those above, which are being replaced, have no row any more.
            let Some(row) = self.rows.inode(id)? else { continue };
            if let (true, Some(name)) = (row.parent == key, row.name.clone()) {
                below.push((id, row, name));
            }
        }
        Ok(below)
    }

    /// Removes a mount point, and the directories above it that are there for its sake only.
    fn unmake(&mut self, root: InodeId) -> Result<(), TableError> {
        let mut dir = root;
        loop {
            let (row, _) = self.directory_row(dir)?;
            let parent = self.mounts.directory(row.parent);
            let name = row.name.expect("only the root has no name");
            self.rows.entries.remove(entry_key(row.parent, name.as_bytes()).as_slice())?;
            self.remove_inode(Entry { inode: dir, is_directory: true })?;
            // The under store may hold something that the mount point hid.
            self.adjust_parent(parent, -1, true)?;
            self.effects.push(Effect::Entry { parent, name, old: Some(dir) });
            let (_, above) = self.directory_row(parent)?;
            if !above.made || self.mounts.keeps(parent) {
                return Ok(());
            }
            dir = parent;
        }
    }

    /// Takes everything out of the root in one step.
    fn empty_root(&mut self) -> Result<(), TableError> {
        self.orphan(self.mounts.key(InodeId::ROOT))?;
        self.header.root_key = self.new_id().0;
        let (mut row, directory) = self.directory_row(InodeId::ROOT)?;
        row.parent = crate::inode::DirKey(self.header.root_key);
        if row.own.xattrs {
            self.take_xattrs(InodeId::ROOT)?;
        }
        row.own = Own::default();
        self.put_directory(InodeId::ROOT, row, Directory { mtime: directory.mtime, ..Directory::default() })
    }
}
