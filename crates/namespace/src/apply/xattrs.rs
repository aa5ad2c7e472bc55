//! Extended attributes.

use headpond_types::{InodeId, Timestamp};

use super::{Apply, stop::Stop};
use crate::{
    alone::xattr_key,
    command::{Effect, Refusal, Reply},
    error::TableError,
    xattr::{TOTAL_MAX, Xattr, XattrChange},
};

impl Apply<'_> {
    pub(super) fn set_xattr(&mut self, id: InodeId, change: &XattrChange, now: Timestamp) -> Result<Reply, Stop> {
        let mut row = self.rows.inode(id)?.ok_or(Refusal::Gone(id))?;
        let parent = self.mounts.directory(row.parent);
        self.rows.mount_of(&self.mounts, parent)?.ok_or(Refusal::Gone(id))?;
        let XattrChange { name, value, exists } = change;
        let shown = || String::from_utf8_lossy(name).into_owned();
        let mut others = if row.own.xattrs { self.alone.xattrs_of(id)? } else { Vec::new() };
        let before = others.len();
        others.retain(|(other, _)| other != name);
        let is_there = others.len() < before;
        if is_there && *exists == Some(false) {
            return Err(Refusal::XattrExists(shown()).into());
        }
        if !is_there && (*exists == Some(true) || value.is_none()) {
            return Err(Refusal::NoXattr(shown()).into());
        }
        let key = xattr_key(id, name);
        if let Some(value) = value {
            let others = others.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            if others + name.len() + value.len() > TOTAL_MAX {
                return Err(Refusal::XattrsFull.into());
            }
            self.alone.xattrs.insert(key.as_slice(), value.as_slice()).map_err(TableError::from)?;
        } else {
            self.alone.xattrs.remove(key.as_slice()).map_err(TableError::from)?;
        }
        self.changed_rows += 1;
        row.own.xattrs = value.is_some() || !others.is_empty();
        row.own.ctime = Some(now);
        self.put_inode(id, &row)?;
        if let Some(name) = row.name {
            self.effects.push(Effect::Entry { parent, name, old: Some(id) });
        }
        Ok(Reply::Done)
    }

    /// Takes an inode's extended attributes out of their table.
    pub(super) fn take_xattrs(&mut self, inode: InodeId) -> Result<Vec<Xattr>, TableError> {
        let xattrs = self.alone.xattrs_of(inode)?;
        for (name, _) in &xattrs {
            self.alone.xattrs.remove(xattr_key(inode, name).as_slice())?;
            self.changed_rows += 1;
        }
        Ok(xattrs)
    }

    pub(super) fn put_xattrs(&mut self, inode: InodeId, xattrs: &[Xattr]) -> Result<(), TableError> {
        for (name, value) in xattrs {
            self.alone.xattrs.insert(xattr_key(inode, name).as_slice(), value.as_slice())?;
            self.changed_rows += 1;
        }
        Ok(())
    }
}
