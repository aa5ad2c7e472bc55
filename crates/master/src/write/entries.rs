//! Finding what is to be changed, and whether the caller may.

use std::sync::Arc;

use headpond_namespace::{Owner, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, RequestId, Result};

use super::{Writing, names::NameGuard};
use crate::{
    access::{Caller, SEARCH, WRITE},
    lookup::{describe, not_a_directory},
    mount::LiveMount,
    sync::stale,
};

/// Only owners remove names from a directory with this bit.
pub(super) const STICKY: u32 = 0o1000;

/// New entries get the group of a directory with this bit, and new directories the bit.
const SET_GROUP: u32 = 0o2000;

/// A name that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    pub(crate) parent: InodeId,
    pub(crate) name: Name,
    pub(crate) owner: Owner,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: RequestId,
}

/// A directory in which the caller may change names.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) attr: Attr,
    pub(super) mount: Arc<LiveMount>,
}

impl Writing {
    /// The directory `dir` to change names in.
    ///
    /// # Errors
    /// `Stale`, `NotADirectory`, `ReadOnly` outside mounts and in those that take no changes, `PermissionDenied`.
    pub(super) fn directory(&self, snapshot: &Snapshot, dir: InodeId, caller: Option<&Caller>) -> Result<Directory> {
        let attr = snapshot.attr(dir)?.ok_or_else(|| stale(dir))?;
        if attr.kind != FileKind::Directory {
            return Err(not_a_directory(snapshot, dir));
        }
        let mount = self.writable(snapshot, &attr)?;
        if let Some(caller) = caller {
            caller.require(&attr, WRITE | SEARCH, || describe(snapshot, dir))?;
            caller.require_way(snapshot, dir)?;
        }
        Ok(Directory { attr, mount })
    }

    /// The mount of `attr`, which must take changes.
    ///
    /// # Errors
    /// `ReadOnly`, naming the remedy.
    pub(super) fn writable(&self, snapshot: &Snapshot, attr: &Attr) -> Result<Arc<LiveMount>> {
        let read_only = |message: String| Error::new(ErrorKind::ReadOnly, message);
        let path = || describe(snapshot, attr.inode);
        let mounts = self.mounts.table();
        let mount = mounts.get(attr.mount).ok_or_else(|| {
            read_only(format!("{} lies outside all mounts: only what is in a mount can be changed", path()))
        })?;
        if mount.mount.read_only {
            let mount = &mount.mount.path;
            return Err(read_only(format!("{} cannot be changed: mount {mount} is read-only", path())));
        }
        Ok(mount.clone())
    }

    /// # Errors
    /// `Busy` for a mount point and what leads to one.
    pub(super) fn refuse_fixed(&self, snapshot: &Snapshot, inode: InodeId) -> Result<()> {
        if !self.mounts.table().is_fixed(inode) {
            return Ok(());
        }
        let path = describe(snapshot, inode);
        let message = format!("{path} is a mount point or leads to one: `headpond admin mount` changes those");
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// Checks that the caller can reach an inode whose attributes are to be changed, that it is there at the store, and that its mount takes
    /// changes; and locks its name. The root has none: it is neither renamed nor removed.
    ///
    /// # Errors
    /// `PermissionDenied`, `Stale` when it is gone, `ReadOnly`; those of a lookup.
    pub(super) async fn lock_writable(
        &self,
        inode: InodeId,
        caller: Option<&Caller>,
    ) -> Result<(Option<NameGuard>, Attr, Snapshot)> {
        if let Some(caller) = caller {
            caller.require_way(&self.catalog.snapshot()?, inode)?;
        }
        self.lookups.attr(inode, false).await?;
        let guard = if inode == InodeId::ROOT { None } else { Some(self.lock_inode(inode).await?.0) };
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        self.writable(&snapshot, &attr)?;
        Ok((guard, attr, snapshot))
    }

    /// Locks the name that `inode` has. Gives the name, too.
    ///
    /// # Errors
    /// `Stale` when it is gone.
    pub(super) async fn lock_inode(&self, inode: InodeId) -> Result<(NameGuard, Attr, Name)> {
        let find = || -> Result<(Attr, Name)> {
            let snapshot = self.catalog.snapshot()?;
            let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
            let path = snapshot.path(inode)?.ok_or_else(|| stale(inode))?;
            let name = path.names().last().cloned().ok_or_else(|| stale(inode))?;
            Ok((attr, name))
        };
        loop {
            let (attr, name) = find()?;
            let guard = self.names.lock(attr.parent, &name).await;
            let (now, now_name) = find()?;
            if now.parent == attr.parent && now_name == name {
                return Ok((guard, now, name));
            }
        }
    }
}

impl Directory {
    /// # Errors
    /// `PermissionDenied` when the directory lets only owners remove `entry`, and the caller owns neither.
    pub(super) fn require_owner(&self, snapshot: &Snapshot, entry: &Attr, caller: Option<&Caller>) -> Result<()> {
        let Some(caller) = caller.filter(|caller| !caller.is_root() && self.attr.mode & STICKY != 0) else {
            return Ok(());
        };
        if caller.uid() == self.attr.uid || caller.uid() == entry.uid {
            return Ok(());
        }
        let (path, dir) = (describe(snapshot, entry.inode), describe(snapshot, self.attr.inode));
        let message =
            format!("user {} may not remove {path}: {dir} has the sticky bit, and the user owns neither", caller.uid());
        Err(Error::new(ErrorKind::PermissionDenied, message))
    }

    /// Whose a new entry is.
    ///
    /// # Errors
    /// `PermissionDenied` for a caller who makes it for another.
    pub(super) fn owner(&self, new: &NewEntry, is_directory: bool) -> Result<Owner> {
        let mut owner = new.owner;
        let inherits = self.attr.mode & SET_GROUP != 0;
        if inherits {
            owner.gid = self.attr.gid;
            owner.mode |= if is_directory { SET_GROUP } else { 0 };
        }
        if let Some(caller) = new.caller.as_ref().filter(|caller| !caller.is_root()) {
            let allowed = caller.uid() == owner.uid && (inherits || caller.is_in(owner.gid));
            if !allowed {
                let Owner { uid, gid, .. } = owner;
                let message = format!("user {} may not make {} for {uid}:{gid}", caller.uid(), new.name);
                return Err(Error::new(ErrorKind::PermissionDenied, message));
            }
        }
        Ok(owner)
    }
}

/// What to say of a writer in the way.
pub(super) fn being_written(snapshot: &Snapshot, inode: InodeId) -> String {
    format!("{} is being written by another client: try again later", describe(snapshot, inode))
}

/// The names of what is or will be `name` in `dir`, from the root of its mount.
///
/// # Errors
/// `Stale` when the directory is gone.
pub(super) fn names_of(snapshot: &Snapshot, dir: InodeId, name: &Name) -> Result<Vec<Name>> {
    let above = snapshot.location(dir)?.ok_or_else(|| stale(dir))?.names;
    Ok(above.into_iter().chain([name.clone()]).collect())
}

/// The error for a name that does not exist.
pub(super) fn absent(snapshot: &Snapshot, dir: InodeId, name: &Name) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name} does not exist in {}", describe(snapshot, dir)))
}

/// The error for a name that is taken.
pub(super) fn exists(snapshot: &Snapshot, dir: InodeId, name: &Name) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("{name} exists already in {}", describe(snapshot, dir)))
}
