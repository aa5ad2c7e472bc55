//! What becomes of the names of an inode when its object, its row, or a directory around it goes without anybody asking for it.

use headpond_types::InodeId;

use super::Apply;
use crate::{
    command::Effect,
    error::TableError,
    inode::{Entry, Inode},
};

impl Apply<'_> {
    /// The under store does not have the object of an entry any more: an inode lives on under another name whose object it has. Answers what the
    /// entry leads to then.
    pub(super) fn outlive(&mut self, entry: Entry) -> Result<Entry, TableError> {
        if !self.has_other_names(entry)? {
            return Ok(entry);
        }
        let Some(alias) = self.twin_of(entry.inode)? else { return Ok(entry) };
        self.trade_places(entry.inode, alias)?;
        Ok(Entry { inode: alias, is_directory: false })
    }

    /// An inode's row is gone: an alias is none any more, and the aliases of another are files of their own, as far as they have objects.
    pub(super) fn forget_links(&mut self, inode: InodeId) -> Result<(), TableError> {
        if self.links.is_empty()? {
            return Ok(());
        }
        if let Some(target) = self.drop_link(inode)? {
            self.unlinked.insert(inode, target);
            return Ok(());
        }
        self.free_all(inode)
    }

    /// A directory goes with all below, if it is still in the tree. What has names elsewhere stays there, as if each object below was lost by itself;
    /// what goes as a whole is left to later sweeps.
    pub(super) fn cut_links(&mut self, dir: InodeId) -> Result<(), TableError> {
        if self.links.is_empty()? || !self.is_in_tree(dir)? {
            return Ok(());
        }
        for target in self.links.targets()? {
            let goes = self.rows.lies_within(&self.mounts, target, dir)?;
            let (mut inside, mut stay) = (Vec::new(), false);
            for alias in self.links.aliases(target)? {
                if self.rows.lies_within(&self.mounts, alias, dir)? {
                    inside.push(alias);
                } else {
                    stay = true;
                }
            }
            if goes && !stay {
                continue;
            }
            for alias in inside {
                self.drop_link(alias)?;
            }
            if !goes {
                continue;
            }
            match self.twin_of(target)? {
                Some(twin) => {
                    self.trade_places(target, twin)?;
                    self.drop_link(twin)?;
                }
                None => self.free_all(target)?,
            }
        }
        Ok(())
    }

    fn is_in_tree(&self, dir: InodeId) -> Result<bool, TableError> {
        let Some(row) = self.rows.inode(dir)? else { return Ok(false) };
        Ok(self.rows.mount_of(&self.mounts, self.mounts.directory(row.parent))?.is_some())
    }

    /// Of an inode that is gone, what were its aliases are files of their own, as far as they have objects.
    fn free_all(&mut self, target: InodeId) -> Result<(), TableError> {
        for alias in self.links.aliases(target)? {
            self.drop_link(alias)?;
            let Some(row) = self.rows.inode(alias)? else { continue };
            let parent = self.mounts.directory(row.parent);
            if row.file().is_some() && self.rows.mount_of(&self.mounts, parent)?.is_some() {
                self.set_free(alias, target, row)?;
            }
        }
        Ok(())
    }

    fn drop_link(&mut self, alias: InodeId) -> Result<Option<InodeId>, TableError> {
        let Some(link) = self.links.link(alias)? else { return Ok(None) };
        self.links.links.remove(alias.0)?;
        self.links.names.remove((link.target.0, alias.0))?;
        self.changed_rows += 2;
        Ok(Some(link.target))
    }

    /// What was an alias of `target`, which is gone, is a file of its own if it has an object.
    fn set_free(&mut self, alias: InodeId, target: InodeId, mut row: Inode) -> Result<(), TableError> {
        let (parent, name) = (self.mounts.directory(row.parent), row.name.clone().expect("an alias has a name"));
        if row.file().is_some_and(|file| !file.is_persisted()) {
            self.remove_name(parent, &name, Entry { inode: alias, is_directory: false })?;
            self.adjust_parent(parent, -1, true)?;
        } else {
            if let Some(mut dirty) = self.dirty_of(alias, &row)? {
                self.disown(&mut dirty)?;
                self.clear_dirty(alias, &mut row)?;
            }
            self.put_inode(alias, &row)?;
        }
        self.effects.push(Effect::Entry { parent, name, old: Some(target) });
        Ok(())
    }
}
