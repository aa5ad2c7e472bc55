//! Removing names where the mount persists later: the namespace notes what the store still has, and [`crate::persist`] deletes that in its turn. Nobody
//! waits for the store, nor for what it is to see before.

use std::sync::Arc;

use headpond_namespace::{Due, Left, Snapshot};
use headpond_types::{Attr, InodeId, Name, Result};

use super::{Writing, entries::Directory, replaced::OldObject};
use crate::{
    health::is_outage,
    mount::LiveMount,
    sync::{Scope, stale},
};

impl Writing {
    /// Whether what is at `name` in a directory is persisted later than it is acknowledged.
    pub(super) fn persists_later(&self, snapshot: &Snapshot, dir: &Directory, name: &Name) -> Result<bool> {
        if !dir.mount.policy.persists_later() {
            return Ok(false);
        }
        let mut names = snapshot.location(dir.attr.inode)?.ok_or_else(|| stale(dir.attr.inode))?.names;
        names.push(name.clone());
        Ok(dir.mount.policy.due(&names).is_some())
    }

    /// The object that a file which no store holds was to replace.
    pub(super) fn left_in_place_of(&self, inode: InodeId) -> Option<Left> {
        self.replaced.get(inode).map(|OldObject { key, version }| Left { key, version: Some(version) })
    }

    /// When the marker of a directory is to be persisted, should the last entry leave it. `None`: it needs none.
    pub(super) async fn marker_of(&self, mount: &LiveMount, dir: &Attr) -> Result<Option<Due>> {
        let names = self.catalog.snapshot()?.location(dir.inode)?.ok_or_else(|| stale(dir.inode))?.names;
        if names.is_empty() || mount.store().await?.capabilities().native_directories {
            return Ok(None);
        }
        Ok(Some(mount.policy.due(&names).unwrap_or(Due::Now)))
    }

    /// Whether a directory is empty, as fresh as a read would see it. A store that cannot be asked does not count.
    pub(super) async fn is_known_empty(&self, mount: &Arc<LiveMount>, dir: InodeId) -> Result<bool> {
        let known = |snapshot: &Snapshot| snapshot.list(dir, None, 1).map(|entries| !entries.is_empty());
        let snapshot = self.catalog.snapshot()?;
        if known(&snapshot)? {
            return Ok(false);
        }
        if self.is_unstored_directory(&snapshot, dir)? {
            return Ok(true);
        }
        let (bounds, now) = (self.mounts.bounds(mount), self.clock.now());
        let listed = self.engine.freshness().directory(&snapshot, dir)?;
        drop(snapshot);
        let is_fresh = listed.is_some_and(|at| bounds.remaining(at, now).is_some());
        if is_fresh || listed.is_some() && mount.health.is_down() {
            return Ok(true);
        }
        let listing =
            async { self.engine.listing(mount, Scope { dir, recursive: false }, bounds, now).await?.landed().await };
        match listing.await {
            Err(error) if listed.is_some() && is_outage(&error) => Ok(true),
            Err(error) => Err(error),
            Ok(()) => Ok(!known(&self.catalog.snapshot()?)?),
        }
    }
}
