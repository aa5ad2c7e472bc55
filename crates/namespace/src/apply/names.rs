//! Names that are made and removed through Headpond.

use headpond_types::{InodeId, MountId, Name, Timestamp};

use super::{Apply, left::After, new_directory, stop::Stop};
use crate::{
    command::{AttrChange, Due, Effect, Owner, Refusal, Reply},
    displaced::{RESERVED, displaced_key},
    error::TableError,
    inode::{Directory, Entry, File, Inode, Node},
    own::Own,
    relocation::Relocation,
    rows::entry_key,
};

impl Apply<'_> {
    pub(super) fn create(
        &mut self,
        parent: InodeId,
        name: &Name,
        owner: &Owner,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let inode = self.make_new(parent, name, owner, now, Node::File(File::unpersisted(now)))?;
        self.unsettled.unpersisted.insert(inode.0, ()).map_err(TableError::from)?;
        Ok(Reply::Inode(inode))
    }

    pub(super) fn make_directory(
        &mut self,
        parent: InodeId,
        name: &Name,
        owner: &Owner,
        dirty: Option<Due>,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let empty = Directory { listed: Some((now, 0)), ..new_directory(now, false) };
        // What has no object yet is in nobody's way, and nobody in its.
        let is_contested =
            dirty.is_none() && self.unsettled.is_contested(&self.rows, &self.mounts, parent, name, true)?;
        let inode = self.make_new(parent, name, owner, now, Node::Directory(empty))?;
        match dirty {
            Some(due) => self.begin_bare(inode, due)?,
            None => {
                self.has_marker(inode)?;
                self.fill(parent, true)?;
            }
        }
        if is_contested {
            self.displace(inode)?;
        }
        Ok(Reply::Inode(inode))
    }

    /// The entry `name` of `parent`, if it is `inode` and may go, and its mount.
    pub(super) fn removable(&self, parent: InodeId, name: &Name, inode: InodeId) -> Result<(MountId, Entry), Stop> {
        let mount = self.changeable(parent, name)?;
        let found = self.rows.entry(self.mounts.key(parent), name)?.filter(|entry| entry.inode == inode);
        let entry = found.ok_or(Refusal::Gone(inode))?;
        if self.mounts.keeps(inode) {
            return Err(Refusal::Fixed(name.clone()).into());
        }
        Ok((mount, entry))
    }

    pub(super) fn remove(
        &mut self,
        parent: InodeId,
        name: &Name,
        inode: InodeId,
        after: After<'_>,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let (_, entry) = self.removable(parent, name, inode)?;
        if entry.is_directory && self.directory_row(inode)?.1.children > 0 {
            return Err(Refusal::NotEmpty(name.clone()).into());
        }
        if self.has_other_names(entry)? {
            self.promote(parent, name, entry, now)?;
            self.clear_up(parent, after)?;
            return Ok(Reply::Done);
        }
        let target = self.links.target(inode)?;
        if after.later {
            self.leave_object(parent, entry)?;
        }
        self.remove_name(parent, name, entry)?;
        self.count_child(parent, -1, now)?;
        self.clear_up(parent, after)?;
        if target != inode {
            self.set_ctime(target, now)?;
        }
        Ok(Reply::Done)
    }

    /// The mount of a directory in which `name` is to be changed.
    pub(super) fn changeable(&self, dir: InodeId, name: &Name) -> Result<MountId, Stop> {
        let mount = self.rows.mount_of(&self.mounts, dir)?.ok_or(Refusal::Gone(dir))?;
        let row = self.rows.inode(dir)?.ok_or(Refusal::Gone(dir))?;
        if row.directory().is_none() {
            return Err(Refusal::NoDirectory(row.name.expect("only the root has no name")).into());
        }
        if mount == MountId(0) {
            return Err(Refusal::Fixed(name.clone()).into());
        }
        Ok(mount)
    }

    /// Whether Headpond keeps objects of its own under that name.
    pub(super) fn is_reserved(&self, dir: InodeId, name: &Name) -> bool {
        self.mounts.rooted_at(dir).is_some() && name.as_bytes() == RESERVED
    }

    /// Gives a new directory a prefix of its own until what lies under its path, or its parent's prefix, has moved away.
    fn displace(&mut self, dir: InodeId) -> Result<(), TableError> {
        let row = self.rows.inode(dir)?.unwrap_or_else(|| panic!("directory {dir} has no row"));
        let mount = self.rows.mount_of(&self.mounts, dir)?.unwrap_or_else(|| panic!("directory {dir} is in no mount"));
        let from = [&displaced_key(dir)[..], b"/"].concat();
        self.put_inode(dir, &Inode { key: Some(from.clone()), ..row })?;
        self.begin_relocation(Relocation::new(mount, dir, from)).map(|_| ())
    }

    /// A new inode under a name that is free.
    pub(super) fn make_new(
        &mut self,
        parent: InodeId,
        name: &Name,
        owner: &Owner,
        now: Timestamp,
        node: Node,
    ) -> Result<InodeId, Stop> {
        let mount = self.changeable(parent, name)?;
        if self.rows.entry(self.mounts.key(parent), name)?.is_some() {
            return Err(Refusal::Exists(name.clone()).into());
        }
        if self.is_reserved(parent, name) {
            return Err(Refusal::Reserved(name.clone()).into());
        }
        let Owner { mode, uid, gid } = *owner;
        let owner = AttrChange { mode: Some(mode), uid: Some(uid), gid: Some(gid), mtime: None };
        let own = self.changed_own(Own::default(), mount, matches!(node, Node::Directory(_)), &owner);
        let inode = self.insert(parent, name, own, node)?;
        self.count_child(parent, 1, now)?;
        self.effects.push(Effect::Entry { parent, name: name.clone(), old: None });
        Ok(inode)
    }

    /// Removes a name and the inode that it leads to, a file or an empty directory.
    pub(super) fn remove_name(&mut self, parent: InodeId, name: &Name, entry: Entry) -> Result<(), TableError> {
        self.rows.entries.remove(entry_key(self.mounts.key(parent), name.as_bytes()).as_slice())?;
        self.leave_behind(entry)?;
        self.orphan_object(entry)?;
        self.remove_inode(entry)?;
        self.effects.push(Effect::Entry { parent, name: name.clone(), old: Some(entry.inode) });
        Ok(())
    }

    /// Entries of a directory came (one may have been replaced) or went at `now`.
    pub(super) fn count_child(&mut self, dir: InodeId, children: i64, now: Timestamp) -> Result<(), TableError> {
        let (mut row, mut directory) = self.directory_row(dir)?;
        let counted = directory.children.checked_add_signed(children);
        directory.children = counted.expect("no directory has less than no entries");
        directory.mtime = now;
        if children >= 0 {
            // It is not only there for a mount point any more.
            directory.made = false;
        }
        row.own.mtime = false;
        self.put_directory(dir, row, directory)
    }
}
