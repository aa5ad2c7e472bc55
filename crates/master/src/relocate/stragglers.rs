//! Files whose objects are not where their paths say.

use std::collections::HashSet;

use headpond_namespace::Snapshot;
use headpond_types::{Attr, FileKind, InodeId, MountId, Name, Result};

use crate::{mount::path_key, sync::is_unpersisted};

/// Entries of a directory that are looked at in one go, and stragglers given in one.
const BATCH: usize = 1000;

/// One that is to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Straggler {
    pub(super) inode: InodeId,
    pub(super) place: (InodeId, Name),
    pub(super) size: u64,
    /// The size is not that of the object: workers hold what it is now.
    pub(super) dirty: bool,
    pub(super) version: String,
    /// Where the object is, relative to the mount's prefix.
    pub(super) from: Vec<u8>,
    /// Where the path says that it is.
    pub(super) to: Vec<u8>,
}

/// All files at or below an inode, in search of such.
#[derive(Debug)]
pub(super) struct Search {
    mount: MountId,
    /// The top, if it is a file that was not looked at yet.
    file: Option<InodeId>,
    /// Directories that are not done, each with the last name looked at.
    open: Vec<(InodeId, Option<Name>)>,
    /// What other relocations move.
    others: HashSet<InodeId>,
}

impl Search {
    /// Those that belong to `others` are left out, with all below.
    pub(super) fn below(top: &Attr, others: HashSet<InodeId>) -> Self {
        let is_directory = top.kind == FileKind::Directory;
        let open = if is_directory { vec![(top.inode, None)] } else { Vec::new() };
        Self { mount: top.mount, file: (!is_directory).then_some(top.inode), open, others }
    }

    /// The next stragglers; none when all was searched.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) fn next(&mut self, snapshot: &Snapshot) -> Result<Vec<Straggler>> {
        let mut found = Vec::new();
        if let Some(file) = self.file.take()
            && let Some(attr) = snapshot.attr(file)?
        {
            let path = snapshot.path(file)?;
            if let Some(name) = path.as_ref().and_then(|path| path.names().last()) {
                found.extend(straggler(snapshot, attr, name.clone())?);
            }
        }
        while found.len() < BATCH {
            let Some((dir, after)) = self.open.pop() else { break };
            let entries = snapshot.list(dir, after.as_ref(), BATCH)?;
            if let Some((last, _)) = entries.last().filter(|_| entries.len() == BATCH) {
                self.open.push((dir, Some(last.clone())));
            }
            for (name, attr) in entries {
                if attr.mount != self.mount || self.others.contains(&attr.inode) {
                    continue;
                }
                if attr.kind == FileKind::Directory {
                    self.open.push((attr.inode, None));
                } else {
                    found.extend(straggler(snapshot, attr, name)?);
                }
            }
        }
        Ok(found)
    }
}

/// The file, if its object is not where its path says.
fn straggler(snapshot: &Snapshot, attr: Attr, name: Name) -> Result<Option<Straggler>> {
    if is_unpersisted(&attr) {
        return Ok(None);
    }
    let Some(location) = snapshot.location(attr.inode)? else { return Ok(None) };
    let to = path_key(&location.names);
    Ok((location.key != to).then_some(Straggler {
        inode: attr.inode,
        place: (attr.parent, name),
        size: attr.size,
        dirty: attr.dirty,
        version: attr.version,
        from: location.key,
        to,
    }))
}
