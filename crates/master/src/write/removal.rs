//! Removing files and empty directories: first from the store, then from the namespace; where the mount persists later, from the namespace, and the
//! store follows.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Relocation, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, RequestId, Result};
use headpond_ufs::Precondition;

use super::{
    Try, Writing,
    entries::{absent, being_written, relocating},
    objects::delete_version,
};
use crate::{
    access::Caller,
    lookup::describe,
    mount::{LiveMount, Verdict},
    sync::{is_unpersisted, stale},
};

/// What is to be removed.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) parent: InodeId,
    pub(crate) name: Name,
    /// A directory is meant.
    pub(crate) directory: bool,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: RequestId,
}

impl Writing {
    /// Removes a file or an empty directory; gives the position of the journal that shows it.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `NotADirectory`, `NotEmpty`, `ReadOnly`, `PermissionDenied`; `Stale` when the object is another than was
    /// known, which then stays; `Busy` for mount points and while the object is stored or moved; those of lookup and store.
    pub(crate) async fn remove(self: &Arc<Self>, removal: Removal) -> Result<u64> {
        let this = self.clone();
        let number = self.catalog.snapshot()?.number();
        self.run(async move { this.persevere(|| this.try_remove(&removal, number)).await }).await
    }

    async fn try_remove(&self, removal: &Removal, number: u64) -> Result<Try<u64>> {
        let Removal { parent, name, directory, caller, request } = removal;
        if self.answered(*request)? == Some(Reply::Done) {
            return Ok(Try::Done(self.position()?));
        }
        let caller = caller.as_ref();
        self.lookups.lookup(*parent, name, caller, false).await?;
        let _guard = self.names.lock(*parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        let Some(attr) = snapshot.lookup(*parent, name)? else { return Err(absent(&snapshot, *parent, name)) };
        let above = self.directory(&snapshot, *parent, caller)?;
        above.require_owner(&snapshot, &attr, caller)?;
        require_kind(&snapshot, &attr, *directory)?;
        self.refuse_fixed(&snapshot, attr.inode)?;
        let inode = attr.inode;
        if is_held_up(&snapshot, &attr)? {
            return Ok(Try::Wait(relocating(&snapshot, inode)));
        }
        if self.leases.is_persisting(inode) {
            return Ok(Try::Wait(being_written(&snapshot, inode)));
        }
        let is_stored =
            if *directory { !self.is_unstored_directory(&snapshot, inode)? } else { !is_unpersisted(&attr) };
        let is_later = self.persists_later(&snapshot, &above, name)?;
        if !is_later {
            if let Some(way) = self.is_being_put(&snapshot, &attr)? {
                return Ok(Try::Wait(way));
            }
            if is_stored && let Some(way) = self.keeps_objects(&snapshot, &above.mount, number)? {
                return Ok(Try::Wait(way));
            }
        }
        let path = describe(&snapshot, inode);
        drop(snapshot);

        let mount = &above.mount;
        let is_full = *directory
            && !if is_later { self.is_known_empty(mount, inode).await? } else { self.is_empty(mount, inode).await? };
        if is_full {
            return Err(Error::new(ErrorKind::NotEmpty, format!("{path} is not empty")));
        }
        let (mut leaves, mut marker) = (Vec::new(), None);
        if is_later {
            leaves.extend(self.left_in_place_of(inode));
            marker = self.marker_of(mount, &above.attr).await?;
        } else {
            self.keep(mount, &above.attr, name).await?;
            if !*directory {
                self.delete_object(mount, &attr, name, &path).await?;
            } else if is_stored {
                self.delete_marker(mount, inode).await?;
            }
        }
        fail_point!("remove::stored");
        let (request, now) = (*request, self.clock.now());
        let (parent, name, later) = (*parent, name.clone(), is_later);
        let place = (parent, name.clone());
        let command = Command::Remove { request, parent, name, inode, later, leaves, marker, now };
        self.change(&[place], command).await?;
        self.leases.end_of(inode);
        if later {
            self.replaced.forget(inode);
        }
        Ok(Try::Done(self.position()?))
    }

    /// Deletes the object of a file at its present key, unless it is another than the namespace knows.
    async fn delete_object(&self, mount: &LiveMount, attr: &Attr, name: &Name, path: &str) -> Result<()> {
        if is_unpersisted(attr) {
            return self.delete_replaced(mount, attr.inode).await;
        }
        let location = self.catalog.snapshot()?.location(attr.inode)?.ok_or_else(|| stale(attr.inode))?;
        match delete_version(mount, &mount.object_key(&location.key), &attr.version).await? {
            Verdict::Done(()) | Verdict::Missing => Ok(()),
            // What was to replace it goes; what is there instead, or was put there by us, is the namespace's to know.
            Verdict::Unmet if attr.dirty => Ok(()),
            Verdict::Unmet => {
                self.lookups.lookup(attr.parent, name, None, true).await?;
                let message = format!("{path} was changed outside since it was last seen: look at it again");
                Err(Error::new(ErrorKind::Stale, message))
            }
        }
    }

    /// Deletes the marker of an empty directory. A store with directories of its own keeps one that has entries by now.
    async fn delete_marker(&self, mount: &LiveMount, dir: InodeId) -> Result<()> {
        let location = self.catalog.snapshot()?.location(dir)?.ok_or_else(|| stale(dir))?;
        let key = mount.directory_key(&location.key);
        let store = mount.store().await?;
        mount.ask("delete", &key, store.delete(&key, &Precondition::None)).await.map(|_| ())
    }
}

fn require_kind(snapshot: &Snapshot, attr: &Attr, directory: bool) -> Result<()> {
    let path = || describe(snapshot, attr.inode);
    match (attr.kind == FileKind::Directory, directory) {
        (true, false) => {
            Err(Error::new(ErrorKind::IsADirectory, format!("{} is a directory: remove it as one", path())))
        }
        (false, true) => Err(Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", path()))),
        _ => Ok(()),
    }
}

/// Whether a relocation is in the way. One of the file itself: what it replaces is still in the store. A directory: objects of it, or of what
/// was in it, are still in the store. A file in a directory that is relocated is not held up: its object is deleted where it is.
fn is_held_up(snapshot: &Snapshot, attr: &Attr) -> Result<bool> {
    let is_directory = attr.kind == FileKind::Directory;
    match snapshot.relocation_of(attr.inode)? {
        Some(_) if is_directory => return Ok(true),
        None if !is_directory => return Ok(false),
        _ => {}
    }
    let masks_in = |relocation: &Relocation| relocation.masked.iter().any(|(dir, _)| *dir == attr.inode);
    let is_it = |relocation: &Relocation| relocation.inode == attr.inode || is_directory && masks_in(relocation);
    Ok(snapshot.relocations()?.iter().any(is_it))
}
