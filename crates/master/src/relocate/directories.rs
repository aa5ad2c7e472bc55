//! The directories that move with a relocation.

use std::collections::HashSet;

use headpond_namespace::Snapshot;
use headpond_types::{Attr, FileKind, InodeId, MountId, Result};

use super::job::BATCH;
use crate::sync::is_unpersisted;

/// A directory, at or below one that was renamed.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) inode: InodeId,
    /// What leads to it from there: nothing, or names that each end in `/`.
    pub(super) way: Vec<u8>,
    /// The store shows nothing in it, or nothing that stays: it is seen by its marker only.
    pub(super) is_bare: bool,
}

/// Them all, but for those that belong to other relocations.
#[derive(Debug)]
pub(super) struct Directories {
    mount: MountId,
    open: Vec<(InodeId, Vec<u8>)>,
    others: HashSet<InodeId>,
}

impl Directories {
    /// With `top`; none if that is a file.
    pub(super) fn below(top: &Attr, others: HashSet<InodeId>) -> Self {
        let is_directory = top.kind == FileKind::Directory;
        let open = if is_directory { vec![(top.inode, Vec::new())] } else { Vec::new() };
        Self { mount: top.mount, open, others }
    }

    /// The next one.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn next(&mut self, snapshot: &Snapshot) -> Result<Option<Directory>> {
        let Some((inode, way)) = self.open.pop() else { return Ok(None) };
        let (mut after, mut is_bare) = (None, true);
        loop {
            let entries = snapshot.list(inode, after.as_ref(), BATCH)?;
            let Some((last, _)) = entries.last() else { break };
            after = Some(last.clone());
            is_bare &= entries.iter().all(|(_, attr)| is_unpersisted(attr) || self.others.contains(&attr.inode));
            let below = entries.into_iter().filter(|(_, attr)| {
                attr.kind == FileKind::Directory && attr.mount == self.mount && !self.others.contains(&attr.inode)
            });
            self.open.extend(below.map(|(name, attr)| (attr.inode, [&way, name.as_bytes(), b"/"].concat())));
        }
        Ok(Some(Directory { inode, way, is_bare }))
    }
}
