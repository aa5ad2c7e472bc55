//! Hard links.

use headpond_types::{Attr, InodeId, Result};

use super::{Snapshot, View};
use crate::{error::TableError, inode::Inode};

impl View {
    /// How many names an inode has; of a directory 2, as file systems say that do not count.
    pub(super) fn nlink(&self, id: InodeId, row: &Inode) -> Result<u32, TableError> {
        if row.directory().is_some() {
            return Ok(2);
        }
        if self.links.is_empty()? {
            return Ok(1);
        }
        Ok(u32::try_from(self.links.aliases(id)?.len()).unwrap_or(u32::MAX).saturating_add(1))
    }
}

impl Snapshot {
    /// What clients are to know of something that a name leads to: [`Snapshot::lookup`] and [`Snapshot::list`] answer what is under the name, which
    /// may be an *alias*, a further name of another inode, with the size, content and version of its own object. Answers the attributes of that
    /// other inode then; `None` if it is gone.
    ///
    /// # Errors
    /// As for all methods.
    pub fn shown(&self, attr: Attr) -> Result<Option<Attr>> {
        match self.target(attr.inode)? {
            Some(target) => self.attr(target),
            None => Ok(Some(attr)),
        }
    }

    /// Whether any inode has more than one name.
    ///
    /// # Errors
    /// As for all methods.
    pub fn has_links(&self) -> Result<bool> {
        Ok(!self.0.links.is_empty()?)
    }

    /// All inodes that have more than one name.
    ///
    /// # Errors
    /// As for all methods.
    pub fn linked(&self) -> Result<Vec<InodeId>> {
        let links = &self.0.links;
        if links.is_empty()? {
            return Ok(Vec::new());
        }
        Ok(links.targets()?.into_iter().collect())
    }

    /// The inode that an alias is a name of; `None` of what is no alias.
    ///
    /// # Errors
    /// As for all methods.
    pub fn target(&self, inode: InodeId) -> Result<Option<InodeId>> {
        let links = &self.0.links;
        // Asked of every entry: mostly no inode has two names, and no row need be read.
        if links.is_empty()? {
            return Ok(None);
        }
        Ok(links.link(inode)?.map(|link| link.target))
    }

    /// The aliases of an inode, in order of their ids.
    ///
    /// # Errors
    /// As for all methods.
    pub fn aliases(&self, inode: InodeId) -> Result<Vec<InodeId>> {
        let links = &self.0.links;
        if links.is_empty()? {
            return Ok(Vec::new());
        }
        Ok(links.aliases(inode)?)
    }
}
