//! What a change has to wait for, so that the store sees it in its turn.

use headpond_namespace::{Due, Location, Snapshot};
use headpond_types::{Attr, InodeId, Result};

use super::Writing;
use crate::{lookup::describe, mount::LiveMount};

impl Writing {
    /// What an object that is stored at a close has to wait for: the file's last version is on its way; its key holds what is to be deleted; or
    /// it is a commit file, and what was changed before its first try is not in the store yet.
    pub(super) fn waits_its_turn(
        &self,
        snapshot: &Snapshot,
        mount: &LiveMount,
        lease: u64,
        attr: &Attr,
        location: &Location,
    ) -> Result<Option<String>> {
        if let Some(way) = self.is_being_put(snapshot, attr)? {
            return Ok(Some(way));
        }
        if snapshot.orphan_at(mount.mount.id, &location.key)?.is_some() {
            let path = describe(snapshot, attr.inode);
            return Ok(Some(format!("the object that was {path} before is still to be deleted: try again later")));
        }
        if !mount.policy.is_barrier(&location.names) {
            return Ok(None);
        }
        let after = self.leases.comes_after(lease, snapshot.number())?;
        // Also one of a directory above: what lies beside the file is to be there before it.
        let mut is_clear = self.catalog.backlog().is_clear_below(mount.mount.id, after);
        // Later: what is put elsewhere than its path says is relocated from then on.
        is_clear &= self.relocator.moves(mount.mount.id)?.first.is_none_or(|first| first >= after);
        Ok((!is_clear).then(|| {
            let path = describe(snapshot, attr.inode);
            format!("{path} is to be seen only after what was changed before it: that is not in the store yet")
        }))
    }

    /// What a commit file that is written again has to wait for: its last version, which others after it may need, and which is to be seen before
    /// them.
    pub(super) fn waits_for_its_last_version(
        &self,
        snapshot: &Snapshot,
        mount: &LiveMount,
        inode: InodeId,
        location: &Location,
    ) -> Result<Option<String>> {
        if !mount.policy.is_barrier(&location.names) {
            return Ok(None);
        }
        let is_due = snapshot.dirty(inode)?.is_some_and(|dirty| dirty.due == Due::Now);
        Ok(is_due.then(|| {
            let path = describe(snapshot, inode);
            format!("{path} was written before, and that is to be seen in the store first: try again later")
        }))
    }

    /// Whether workers are just putting something of a file.
    pub(super) fn is_being_put(&self, snapshot: &Snapshot, attr: &Attr) -> Result<Option<String>> {
        let at_work = self.catalog.backlog().is_at_work(attr.mount, attr.inode);
        Ok(at_work.then(|| format!("{} is just being persisted: try again later", describe(snapshot, attr.inode))))
    }

    /// Whether an object must not be deleted yet for a change that was asked for at `number`.
    pub(super) fn keeps_objects(&self, snapshot: &Snapshot, mount: &LiveMount, number: u64) -> Result<Option<String>> {
        let (id, backlog) = (mount.mount.id, self.catalog.backlog());
        if !mount.policy.persists_later() || backlog.is_empty() {
            return Ok(None);
        }
        let moves = self.relocator.moves(id)?;
        Ok((!backlog.has_no_barrier_below(id, number, moves)).then(|| {
            let path = describe(snapshot, mount.root);
            format!("{path} has changes that its store is to see before this one: try again later")
        }))
    }

    /// Whether the store has, or may have, nothing of a directory and what lies below.
    pub(super) fn is_unstored_directory(&self, snapshot: &Snapshot, dir: InodeId) -> Result<bool> {
        Ok(snapshot.dirty(dir)?.is_some_and(|dirty| dirty.is_bare()))
    }
}
