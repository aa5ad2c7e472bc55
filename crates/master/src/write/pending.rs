//! What the under store does not hold yet as the namespace says.

use headpond_namespace::{Relocation, Snapshot};
use headpond_types::{Name, NsPath, Result};

use super::Writing;

/// What is pending at and below a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Files that are being written.
    pub(crate) writing: Vec<NsPath>,
    /// What was renamed.
    pub(crate) moving: Vec<Moving>,
}

/// Something whose objects are being moved, or deleted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moving {
    /// Where it is now, or was, whichever the path asked for has to do with.
    pub(crate) path: NsPath,
    /// Where its objects were, relative to the mount's prefix.
    pub(crate) from: Vec<u8>,
    /// It was removed with all below: they go nowhere.
    pub(crate) removed: bool,
    /// Why it does not go on.
    pub(crate) problem: Option<String>,
}

/// Where a directory was that is being removed with all below.
fn removed_from(snapshot: &Snapshot, relocation: &Relocation) -> Result<Option<NsPath>> {
    let mounts = snapshot.mounts()?;
    let mount = mounts.iter().find(|mount| mount.id == relocation.mount);
    // The last place is where its path said that it was.
    let place = relocation.places().last().unwrap_or_default();
    let names = place.split(|byte| *byte == b'/').filter_map(|part| Name::new(part).ok());
    Ok(mount.map(|mount| names.fold(mount.path.clone(), |path, name| path.join(name))))
}

impl Writing {
    /// What is pending at and below `path`, or above it: objects of a directory are moved with all that is below. Reads as many rows as
    /// files are written and things are moved, whatever lies below. Of what was renamed only what has a number below `up_to` counts.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn pending(&self, path: &NsPath, up_to: u64) -> Result<Pending> {
        let snapshot = self.catalog.snapshot()?;
        let mut pending = Pending::default();
        for inode in self.leases.held() {
            pending.writing.extend(snapshot.path(inode)?.filter(|written| written.starts_with(path)));
        }
        for relocation in snapshot.relocations()?.into_iter().filter(|relocation| relocation.since < up_to) {
            let removed = snapshot.removed_at(relocation.inode)?.is_some();
            let moved =
                if removed { removed_from(&snapshot, &relocation)? } else { snapshot.path(relocation.inode)? };
            let Some(moved) = moved.filter(|moved| moved.starts_with(path) || path.starts_with(moved)) else {
                continue;
            };
            let problem = self.relocator.problem(relocation.id);
            pending.moving.push(Moving { path: moved, from: relocation.from, removed, problem });
        }
        pending.writing.sort_unstable();
        Ok(pending)
    }
}
