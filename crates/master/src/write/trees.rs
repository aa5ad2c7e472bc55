//! Removing a directory with all that lies below: one command, whatever that is. What the store has follows in the background.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Result};

use super::{
    Locked, Removal, STICKY, Try, Writing,
    entries::{absent, being_written},
    renames::is_below,
};
use crate::{
    access::{Caller, LIST, SEARCH, WRITE},
    lookup::describe,
    mount::LiveMount,
    sync::{Scope, stale},
};

/// Entries of a directory that are looked at in one go.
const ENTRIES: usize = 1000;

impl Writing {
    /// Removes a directory with all that lies below; gives the position of the journal that shows it. Nobody sees a part of it; objects are deleted in
    /// the background, after the barriers before it and before those that come after.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `ReadOnly`; `PermissionDenied` also for a directory below that the caller may not empty; `Busy` for mount points and what
    /// leads to them, and while a file below is stored; those of lookup and store.
    pub(crate) async fn remove_tree(self: &Arc<Self>, removal: Removal) -> Result<u64> {
        let this = self.clone();
        self.run_once(removal.request, async move { this.persevere(|| this.try_remove_tree(&removal)).await }).await
    }

    async fn try_remove_tree(&self, removal: &Removal) -> Result<Try<u64>> {
        let Removal { parent, name, caller, request, .. } = removal;
        if self.answered(*request)? == Some(Reply::Done) {
            self.tell_again(*request, &[(*parent, name.clone())], &[], Locked::Names)?;
            return Ok(Try::Done(self.position()?));
        }
        let caller = caller.as_ref();
        self.lookups.lookup(*parent, name, caller, false).await?;
        let _guard = self.names.lock(*parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        let Some(top) = snapshot.lookup(*parent, name)? else { return Err(absent(&snapshot, *parent, name)) };
        let above = self.directory(&snapshot, *parent, caller)?;
        above.require_owner(&snapshot, &top, caller)?;
        if top.kind != FileKind::Directory {
            let message = format!("{} is not a directory", describe(&snapshot, top.inode));
            return Err(Error::new(ErrorKind::NotADirectory, message));
        }
        self.refuse_mounts(&snapshot, top.inode)?;
        let mount = &above.mount;
        if let Some(caller) = caller.filter(|caller| !caller.is_root()) {
            require_below(&snapshot, mount, &top, caller)?;
        }
        let is_later = self.persists_later(&snapshot, &above, name)?;
        drop(snapshot);
        if mount.store().await?.capabilities().native_directories {
            self.list_all(mount, top.inode).await?;
        }
        let (mut marker, mut kept) = (None, None);
        if is_later {
            marker = self.marker_of(mount, &above.attr).await?;
        } else {
            kept = self.keep(mount, &above.attr, name).await?;
        }
        let inodes = {
            // Nothing that is put from now on for a file below goes unnoticed.
            let _stores = self.stores.write().await;
            let snapshot = self.catalog.snapshot()?;
            if let Some(way) = self.in_the_way_below(&snapshot, top.inode)? {
                return Ok(Try::Wait(way));
            }
            let mut inodes = self.leases.held();
            let mut failed = Ok(());
            inodes.retain(|inode| {
                let is_within = is_below(&snapshot, *inode, top.inode);
                is_within.unwrap_or_else(|error| {
                    failed = Err(error);
                    false
                })
            });
            failed?;
            let leaves = inodes.iter().filter_map(|inode| self.left_in_place_of(*inode)).collect();
            drop(snapshot);
            fail_point!("remove-tree::begun");
            let (request, parent, name, now) = (*request, *parent, name.clone(), self.clock.now());
            let place = (parent, name.clone());
            let command = Command::RemoveTree { request, parent, name, inode: top.inode, leaves, marker, now };
            self.change(&[place], command).await?;
            inodes
        };
        self.catalog.backlog().tree_removed(mount.mount.id);
        for inode in inodes {
            self.leases.end_of(inode);
            self.replaced.forget(inode);
        }
        self.follow(mount, kept).await;
        self.relocator.kick(mount.mount.id);
        Ok(Try::Done(self.position()?))
    }

    /// What at or below `top` has to end before.
    fn in_the_way_below(&self, snapshot: &Snapshot, top: InodeId) -> Result<Option<String>> {
        for inode in self.leases.persisting() {
            if is_below(snapshot, inode, top)? {
                return Ok(Some(being_written(snapshot, inode)));
            }
        }
        // What has names elsewhere moves to one of those.
        for inode in snapshot.linked()? {
            let Some(attr) = snapshot.attr(inode)? else { continue };
            if is_below(snapshot, inode, top)?
                && let Some(way) = self.is_any_being_put(snapshot, &attr)?
            {
                return Ok(Some(way));
            }
        }
        Ok(None)
    }

    /// # Errors
    /// `Busy` for a mount point and what leads to one, which is named.
    fn refuse_mounts(&self, snapshot: &Snapshot, top: InodeId) -> Result<()> {
        if !self.mounts.table().is_fixed(top) {
            return Ok(());
        }
        let path = snapshot.path(top)?.ok_or_else(|| stale(top))?;
        let mounts = snapshot.mounts()?;
        let below = mounts.iter().map(|mount| &mount.path).find(|mounted| mounted.starts_with(&path));
        let below = below.map(|mounted| format!(": {mounted}")).unwrap_or_default();
        let message = format!("{path} is a mount point or has one below{below}: `headpond admin mount` removes those");
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// Lists directories at and below `top` that were never listed: what comes later is known by that.
    async fn list_all(&self, mount: &Arc<LiveMount>, top: InodeId) -> Result<()> {
        let mut open = vec![top];
        while let Some(dir) = open.pop() {
            if self.catalog.snapshot()?.listed(dir)?.is_none() {
                let (bounds, scope) = (self.mounts.bounds(mount).refreshed(), Scope { dir, recursive: false });
                self.engine.listing(mount, scope, bounds, self.clock.now()).await?.landed().await?;
            }
            open.extend(directories_in(&self.catalog.snapshot()?, dir)?.into_iter().map(|attr| attr.inode));
        }
        Ok(())
    }
}

fn directories_in(snapshot: &Snapshot, dir: InodeId) -> Result<Vec<Attr>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let entries = snapshot.list(dir, after.as_ref(), ENTRIES)?;
        let Some((last, _)) = entries.last() else { return Ok(found) };
        after = Some(last.clone());
        found.extend(entries.into_iter().map(|(_, attr)| attr).filter(|attr| attr.kind == FileKind::Directory));
    }
}

/// Checks that a caller may remove all that is below a directory name by name: that he may list every directory there that is not known to be empty, and
/// change names in it. One that was never listed may hold others, which are as the mount shows them.
///
/// # Errors
/// `PermissionDenied`, naming the directory.
fn require_below(snapshot: &Snapshot, mount: &LiveMount, top: &Attr, caller: &Caller) -> Result<()> {
    let mut open = vec![top.clone()];
    while let Some(dir) = open.pop() {
        let path = || describe(snapshot, dir.inode);
        let is_listed = snapshot.listed(dir.inode)?.is_some();
        if is_listed && snapshot.list(dir.inode, None, 1)?.is_empty() {
            continue;
        }
        caller.require(&dir, LIST | WRITE | SEARCH, path)?;
        if dir.mode & STICKY != 0 && caller.uid() != dir.uid {
            let message = format!("user {} may not empty {}: it has the sticky bit", caller.uid(), path());
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        if !is_listed {
            let headpond_namespace::Mount { dir_mode: mode, uid, gid, .. } = mount.mount;
            let shown = Attr { mode, uid, gid, ..dir.clone() };
            caller.require(&shown, LIST | WRITE | SEARCH, || format!("what {} may hold", path()))?;
        }
        open.extend(directories_in(snapshot, dir.inode)?);
    }
    Ok(())
}
