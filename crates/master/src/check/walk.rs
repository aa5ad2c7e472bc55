//! The namespace below a directory in the order of a store's keys.
//!
//! A directory `a` stands where `a/` does: behind `a` and `a-x`, which come later by their names. So directories are held back until a name is met
//! that comes behind them. Those that are held at a time have names that begin with one another, so there are never more than a name has bytes.
//! Pages are read from the namespace as it is then: who is made or renamed meanwhile may be met twice or not at all.

use std::collections::VecDeque;

use headpond_types::{Attr, FileKind, InodeId, MountId, Name, Result};

use crate::catalog::Catalog;

/// Entries that are read at a time.
const PAGE: usize = 1000;

/// A file or directory where its path says that its object is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Relative to the mount's prefix; of a directory with `/` at the end.
    pub(super) key: Vec<u8>,
    pub(super) attr: Attr,
}

/// A directory in work.
#[derive(Debug)]
struct Open {
    dir: InodeId,
    /// The key of what lies in it, before its name.
    prefix: Vec<u8>,
    /// The last name that was read.
    after: Option<Name>,
    all_read: bool,
    read: VecDeque<(Name, Attr)>,
    /// The one that comes first is the last.
    held: Vec<(Name, Attr)>,
}

/// Goes through files and directories of one mount; what no store can hold, and other mounts, are left out.
#[derive(Debug)]
pub(super) struct KeyWalk {
    mount: MountId,
    open: Vec<Open>,
}

impl KeyWalk {
    /// Of what lies below `dir`, whose entries have keys that begin with `prefix`.
    pub(super) fn new(mount: MountId, dir: InodeId, prefix: Vec<u8>) -> Self {
        Self { mount, open: vec![Open::new(dir, prefix)] }
    }

    /// The next; `None` at the end.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn next(&mut self, catalog: &Catalog) -> Result<Option<Place>> {
        while let Some(dir) = self.open.last_mut() {
            let Some((name, attr)) = dir.take(catalog, self.mount)? else {
                self.open.pop();
                continue;
            };
            let mut key = [&dir.prefix, name.as_bytes()].concat();
            if attr.kind == FileKind::Directory {
                key.push(b'/');
                self.open.push(Open::new(attr.inode, key.clone()));
            }
            return Ok(Some(Place { key, attr }));
        }
        Ok(None)
    }
}

impl Open {
    const fn new(dir: InodeId, prefix: Vec<u8>) -> Self {
        Self { dir, prefix, after: None, all_read: false, read: VecDeque::new(), held: Vec::new() }
    }

    /// Reads until there is something, or nothing is left.
    fn read_on(&mut self, catalog: &Catalog, mount: MountId) -> Result<()> {
        let snapshot = catalog.snapshot()?;
        while self.read.is_empty() && !self.all_read {
            let entries = snapshot.list(self.dir, self.after.as_ref(), PAGE)?;
            self.all_read = entries.len() < PAGE;
            self.after = entries.last().map(|(name, _)| name.clone()).or(self.after.take());
            let is_wanted =
                |attr: &Attr| attr.mount == mount && matches!(attr.kind, FileKind::File | FileKind::Directory);
            self.read.extend(entries.into_iter().filter(|(_, attr)| is_wanted(attr)));
        }
        Ok(())
    }

    /// The next by its key.
    fn take(&mut self, catalog: &Catalog, mount: MountId) -> Result<Option<(Name, Attr)>> {
        loop {
            if self.read.is_empty() && !self.all_read {
                self.read_on(catalog, mount)?;
            }
            let comes_first = match (self.held.last(), self.read.front()) {
                (Some((held, _)), Some((name, _))) => [held.as_bytes(), b"/"].concat().as_slice() < name.as_bytes(),
                (held, None) => held.is_some(),
                (None, Some(_)) => false,
            };
            if comes_first {
                return Ok(self.held.pop());
            }
            match self.read.pop_front() {
                Some(entry) if entry.1.kind == FileKind::Directory => self.held.push(entry),
                entry => return Ok(entry),
            }
        }
    }
}
