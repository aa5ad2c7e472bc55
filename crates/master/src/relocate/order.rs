//! What relocations and what is to be persisted wait for of each other.
//!
//! A *barrier*, as that of a directory is, moves nothing before the store has all that was changed before; one that replaces an object waits for
//! barriers. What lies below it is not waited for: that goes with it. To a temporary name it waits for nothing: nobody takes what is there for
//! complete, and a job renames a directory or two a task there.
//!
//! A relocation that went on under a new id, since it was renamed again, is seen by others at its first place in the order (`since`): who waited for
//! it goes on to wait. It waits itself for what came between, too, but only up to the first barrier there, since that waits for it. So whatever
//! waits, waits for something that comes before it in the order of these places, and nothing waits in a circle.
//!
//! One whose objects are all where they belong is waited for no more, though it may have to wait for the end of one above it, which may come later in
//! the order: as when a directory was renamed, then another one, and then that around the first.
//!
//! What has to wait may be in the place of what it waits for, as when two directories change names. Its objects are moved aside then, where
//! nobody sees them.

use std::{collections::BTreeSet, sync::Arc};

use headpond_namespace::{Relocation, Snapshot};
use headpond_types::{FileKind, InodeId, MountId, Result};

use super::Relocator;
use crate::{
    mount::{LiveMount, path_key},
    persist::Moves,
    write::is_below,
};

impl Relocator {
    /// Relocations of a mount that are not over, as far as they matter to what is to be persisted.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn moves(&self, mount: MountId) -> Result<Moves> {
        Ok(moves_of(&self.waited_for(relocations_of(&self.catalog.snapshot()?, mount)?)))
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

    /// Those that have to wait, as far as was seen last, and have objects where those of `waiting` are to be.
    pub(super) fn held_in_the_way(&self, mount: MountId, waiting: &BTreeSet<u64>) -> Result<Vec<u64>> {
        let held: BTreeSet<u64> = self.progress.state().held.keys().copied().collect();
        let snapshot = self.catalog.snapshot()?;
        let all = relocations_of(&snapshot, mount)?;
        let mut targets = Vec::new();
        for relocation in all.iter().filter(|relocation| waiting.contains(&relocation.id)) {
            targets.extend(snapshot.location(relocation.inode)?.map(|location| path_key(&location.names)));
        }
        let held = all.iter().filter(|relocation| held.contains(&relocation.id));
        let is_in_the_way = |relocation: &&Relocation| targets.iter().any(|target| relocation.touches(target));
        Ok(held.filter(is_in_the_way).map(|relocation| relocation.id).collect())
    }

    /// Those of `pending`, all of one mount, that have to wait.
    pub(super) fn held_of(&self, pending: &[Relocation]) -> Result<BTreeSet<u64>> {
        let Some(mount) = pending.first().map(|relocation| relocation.mount) else { return Ok(BTreeSet::new()) };
        let (backlog, live) = (self.catalog.backlog(), self.mounts.table().get(mount).cloned());
        let known = relocations_of(&self.catalog.snapshot()?, mount)?;
        let before = self.waited_for(known.clone());
        let moves = moves_of(&before);
        let mut held = BTreeSet::new();
        let mut clear = Vec::new();
        let removals = self.removals(&known)?;
        for relocation in pending {
            if !removals.is_empty() {
                if self.is_removal(relocation)? {
                    let limit = self.limit_of_removal(relocation, &known, &removals)?;
                    if !backlog.has_no_barrier_below(mount, limit, moves) {
                        held.insert(relocation.id);
                    }
                    continue;
                }
                if self.waits_for_removal(relocation, &removals)? {
                    held.insert(relocation.id);
                    continue;
                }
            }
            let limit = self.limit(relocation, &before);
            let is_barrier = relocation.barrier && !self.has_temporary_name(relocation, live.as_deref())?;
            let waits = if is_barrier {
                !backlog.is_clear_below(mount, limit)
            } else {
                !relocation.replaced.is_empty() && !backlog.has_no_barrier_below(mount, relocation.since, moves)
            };
            if waits || self.is_taken(relocation)? {
                held.insert(relocation.id);
            } else if is_barrier {
                clear.push((relocation, limit));
            }
        }
        // Later than the backlog: what is put elsewhere than its path says is relocated from then on.
        let snapshot = self.catalog.snapshot()?;
        let all = self.waited_for(relocations_of(&snapshot, mount)?);
        for (relocation, limit) in clear {
            if waits_for_other(&snapshot, relocation, limit, &all)? {
                held.insert(relocation.id);
            }
        }
        Ok(held)
    }

    /// Those that others may have to wait for: what is in place only waits for the end of one above, which may have to wait for these others.
    fn waited_for(&self, mut pending: Vec<Relocation>) -> Vec<Relocation> {
        let state = self.progress.state();
        pending.retain(|relocation| !state.in_place.contains(&relocation.id));
        pending
    }

    /// Those of `all` that go nowhere: of directories that are being removed with all below, and of what lies there.
    fn removals<'r>(&self, all: &'r [Relocation]) -> Result<Vec<&'r Relocation>> {
        let snapshot = self.catalog.snapshot()?;
        let mut removals = Vec::new();
        for relocation in all {
            if snapshot.is_being_removed(relocation.inode)? {
                removals.push(relocation);
            }
        }
        Ok(removals)
    }

    /// Whether objects would be moved to where others are still to be deleted, or those of the relocation itself go with a directory above.
    fn waits_for_removal(&self, relocation: &Relocation, removals: &[&Relocation]) -> Result<bool> {
        let snapshot = self.catalog.snapshot()?;
        if snapshot.is_being_removed(relocation.inode)? {
            return Ok(true);
        }
        let Some(location) = snapshot.location(relocation.inode)? else { return Ok(false) };
        let target = path_key(&location.names);
        Ok(removals.iter().any(|removal| removal.holds(&target)))
    }

    /// The number up to which a removal waits for barriers: its own, or the first place of what waits for it.
    fn limit_of_removal(&self, removal: &Relocation, all: &[Relocation], removals: &[&Relocation]) -> Result<u64> {
        let mut limit = removal.since;
        for other in all {
            if other.since < limit && !self.is_removal(other)? && self.waits_for_removal(other, removals)? {
                limit = other.since;
            }
        }
        Ok(limit)
    }

    fn has_temporary_name(&self, relocation: &Relocation, mount: Option<&LiveMount>) -> Result<bool> {
        let location = self.catalog.snapshot()?.location(relocation.inode)?;
        Ok(location.zip(mount).is_some_and(|(location, mount)| mount.policy.is_temporary(&location.names)))
    }

    fn is_removal(&self, relocation: &Relocation) -> Result<bool> {
        Ok(self.catalog.snapshot()?.removed_at(relocation.inode)?.is_some())
    }

    /// Whether an object is still to be deleted where a file is to be moved to.
    fn is_taken(&self, relocation: &Relocation) -> Result<bool> {
        let snapshot = self.catalog.snapshot()?;
        let is_file = snapshot.attr(relocation.inode)?.is_some_and(|attr| attr.kind == FileKind::File);
        let Some(location) = snapshot.location(relocation.inode)?.filter(|_| is_file) else { return Ok(false) };
        self.waits_for_orphan(&snapshot, relocation, &path_key(&location.names))
    }

    /// Whether what dirty files left may be at `key`: it is not known by its version, and deleted in its turn. At once where the relocation comes
    /// before it in the order, since what it would wait for may wait for the relocation.
    pub(super) fn waits_for_orphan(&self, snapshot: &Snapshot, relocation: &Relocation, key: &[u8]) -> Result<bool> {
        let Some(orphan) = snapshot.orphan_at(relocation.mount, key)? else { return Ok(false) };
        if relocation.since < orphan.number {
            self.catalog.backlog().free(relocation.mount, orphan.inode);
        }
        Ok(true)
    }

    /// The number up to which a barrier waits for others: its own, or that of the first barrier after its place in the order, which waits for it.
    fn limit(&self, relocation: &Relocation, all: &[Relocation]) -> u64 {
        let later = all.iter().filter(|other| other.barrier && other.since > relocation.since).map(|other| other.since);
        let persisted = self.catalog.backlog().barrier_after(relocation.mount, relocation.since);
        later.chain(persisted).fold(relocation.id, u64::min)
    }
}

fn relocations_of(snapshot: &Snapshot, mount: MountId) -> Result<Vec<Relocation>> {
    let mut pending = snapshot.relocations()?;
    pending.retain(|relocation| relocation.mount == mount);
    Ok(pending)
}

fn moves_of(pending: &[Relocation]) -> Moves {
    Moves {
        first: pending.iter().map(|relocation| relocation.since).min(),
        first_barrier: pending.iter().filter(|relocation| relocation.barrier).map(|relocation| relocation.id).min(),
    }
}

/// Whether one that was begun before, of the same mount, has to end first. Those with the same place came out of one directory, and go side by side.
fn waits_for_other(snapshot: &Snapshot, relocation: &Relocation, limit: u64, all: &[Relocation]) -> Result<bool> {
    for other in all.iter().filter(|other| other.since < limit && other.since != relocation.since) {
        if !is_below(snapshot, other.inode, relocation.inode)? {
            return Ok(true);
        }
    }
    Ok(false)
}
