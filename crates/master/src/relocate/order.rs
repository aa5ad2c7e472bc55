//! What relocations and what is to be persisted wait for of each other.
//!
//! A *barrier*, as that of a directory is, moves nothing before the store has all that was changed before; one that replaces an object waits for
//! barriers. Of relocations only those of mounts that persist later are waited for, and none of what lies below: those go with it.

use std::{collections::BTreeSet, sync::Arc};

use headpond_namespace::{Relocation, Snapshot};
use headpond_types::{InodeId, MountId, Result};

use super::Relocator;
use crate::{persist::Moves, write::is_below};

impl Relocator {
    /// Relocations of a mount that are not over, as far as they matter to what is to be persisted.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn moves(&self, mount: MountId) -> Result<Moves> {
        let pending = self.catalog.snapshot()?.relocations()?;
        let of_mount = || pending.iter().filter(|relocation| relocation.mount == mount);
        Ok(Moves {
            first: of_mount().map(|relocation| relocation.id).min(),
            first_barrier: of_mount().filter(|relocation| relocation.barrier).map(|relocation| relocation.id).min(),
        })
    }

    /// Whether a mount has relocations that are not over.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn has_any(&self, mount: MountId) -> Result<bool> {
        Ok(self.catalog.snapshot()?.relocations()?.iter().any(|relocation| relocation.mount == mount))
    }

    /// Whether the object of `inode` may be put at any moment.
    pub(crate) fn is_being_put(&self, mount: MountId, inode: InodeId) -> bool {
        self.leases.is_persisting(inode) || self.catalog.backlog().is_at_work(mount, inode)
    }

    /// Has the relocations of a mount taken up that wait no longer for what is to be persisted.
    pub(crate) fn kick_if_cleared(self: &Arc<Self>, mount: MountId) {
        if !self.progress.state().held.values().any(|of| *of == mount) {
            return;
        }
        let held = self.catalog.snapshot().and_then(|snapshot| snapshot.relocations());
        let held = held.and_then(|mut pending| {
            pending.retain(|relocation| relocation.mount == mount);
            self.held_of(&pending)
        });
        let before: BTreeSet<_> = self.progress.state().held.keys().copied().collect();
        if held.is_ok_and(|held| before.iter().any(|id| !held.contains(id))) {
            self.kick(mount);
        }
    }

    /// Those of `pending`, all of one mount, that have to wait.
    pub(super) fn held_of(&self, pending: &[Relocation]) -> Result<BTreeSet<u64>> {
        let Some(mount) = pending.first().map(|relocation| relocation.mount) else { return Ok(BTreeSet::new()) };
        let (moves, backlog) = (self.moves(mount)?, self.catalog.backlog());
        let persists_later = self.mounts.table().get(mount).is_some_and(|live| live.policy.persists_later());
        let snapshot = self.catalog.snapshot()?;
        let all = if persists_later { snapshot.relocations()? } else { Vec::new() };
        let mut held = BTreeSet::new();
        for relocation in pending {
            let waits = if relocation.barrier {
                !backlog.is_clear_below(mount, relocation.id) || waits_for_other(&snapshot, relocation, &all)?
            } else {
                relocation.replaces.is_some() && !backlog.has_no_barrier_below(mount, relocation.id, moves)
            };
            if waits {
                held.insert(relocation.id);
            }
        }
        Ok(held)
    }
}

fn waits_for_other(snapshot: &Snapshot, relocation: &Relocation, all: &[Relocation]) -> Result<bool> {
    for other in all.iter().filter(|other| other.mount == relocation.mount && other.id < relocation.id) {
        if !is_below(snapshot, other.inode, relocation.inode)? {
            return Ok(true);
        }
    }
    Ok(false)
}
