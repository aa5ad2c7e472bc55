//! What relocations and what is to be persisted wait for of each other.
//!
//! A *barrier*, as that of a directory is, moves nothing before the store has all that was changed before; one that replaces an object waits for
//! barriers. Of relocations only those of mounts that persist later are waited for, and none of what lies below: those go with it.

use std::{collections::BTreeSet, sync::Arc};

use headpond_namespace::{Relocation, Snapshot};
use headpond_types::{FileKind, InodeId, MountId, Result};

use super::Relocator;
use crate::{mount::path_key, persist::Moves, write::is_below};

impl Relocator {
    /// Relocations of a mount that are not over, as far as they matter to what is to be persisted.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn moves(&self, mount: MountId) -> Result<Moves> {
        Ok(moves_of(&relocations_of(&self.catalog.snapshot()?, mount)?))
    }

    /// Whether the object of `inode` may be put at any moment.
    pub(crate) fn is_being_put(&self, mount: MountId, inode: InodeId) -> bool {
        self.leases.is_persisting(inode) || self.catalog.backlog().is_at_work(mount, inode)
    }

    /// Has the relocations of a mount taken up that wait no longer for what is to be persisted.
    pub(crate) fn kick_if_cleared(self: &Arc<Self>, mount: MountId) {
        let of_mount = |(id, of): (&u64, &MountId)| (*of == mount).then_some(*id);
        let before: Vec<_> = self.progress.state().held.iter().filter_map(of_mount).collect();
        if before.is_empty() {
            return;
        }
        let pending = self.catalog.snapshot().and_then(|snapshot| relocations_of(&snapshot, mount));
        let held = pending.and_then(|pending| self.held_of(&pending));
        if held.is_ok_and(|held| before.iter().any(|id| !held.contains(id))) {
            self.kick(mount);
        }
    }

    /// Those of `pending`, all of one mount, that have to wait.
    pub(super) fn held_of(&self, pending: &[Relocation]) -> Result<BTreeSet<u64>> {
        let Some(mount) = pending.first().map(|relocation| relocation.mount) else { return Ok(BTreeSet::new()) };
        let backlog = self.catalog.backlog();
        let persists_later = self.mounts.table().get(mount).is_some_and(|live| live.policy.persists_later());
        let snapshot = self.catalog.snapshot()?;
        let all = relocations_of(&snapshot, mount)?;
        let moves = moves_of(&all);
        let mut held = BTreeSet::new();
        for relocation in pending {
            let waits = if relocation.barrier {
                !backlog.is_clear_below(mount, relocation.id)
                    || persists_later && waits_for_other(&snapshot, relocation, &all)?
            } else {
                relocation.replaces.is_some() && !backlog.has_no_barrier_below(mount, relocation.id, moves)
            };
            if waits || is_taken(&snapshot, relocation)? {
                held.insert(relocation.id);
            }
        }
        Ok(held)
    }
}

/// Whether an object is still to be deleted where a file is to be moved to.
fn is_taken(snapshot: &Snapshot, relocation: &Relocation) -> Result<bool> {
    let is_file = snapshot.attr(relocation.inode)?.is_some_and(|attr| attr.kind == FileKind::File);
    let Some(location) = snapshot.location(relocation.inode)?.filter(|_| is_file) else { return Ok(false) };
    Ok(snapshot.orphan_at(relocation.mount, &path_key(&location.names))?.is_some())
}

fn relocations_of(snapshot: &Snapshot, mount: MountId) -> Result<Vec<Relocation>> {
    let mut pending = snapshot.relocations()?;
    pending.retain(|relocation| relocation.mount == mount);
    Ok(pending)
}

fn moves_of(pending: &[Relocation]) -> Moves {
    Moves {
        first: pending.iter().map(|relocation| relocation.id).min(),
        first_barrier: pending.iter().filter(|relocation| relocation.barrier).map(|relocation| relocation.id).min(),
    }
}

/// Whether one that was begun before, of the same mount, has to end first.
fn waits_for_other(snapshot: &Snapshot, relocation: &Relocation, all: &[Relocation]) -> Result<bool> {
    for other in all.iter().filter(|other| other.id < relocation.id) {
        if !is_below(snapshot, other.inode, relocation.inode)? {
            return Ok(true);
        }
    }
    Ok(false)
}
