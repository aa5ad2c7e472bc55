//! Removing files and empty directories: first from the store, then from the namespace; where the mount persists later, from the namespace, and the
//! store follows.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, RequestId, Result};
use headpond_ufs::Precondition;

use super::{
    Locked, Try, Writing,
    entries::{Directory, absent, being_written},
    objects::delete_version,
};
use crate::{
    access::Caller,
    lookup::describe,
    mount::{LiveMount, Verdict, path_key},
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
    /// Removes a file or an empty directory; gives the position of the journal that shows it, and how many names are left to what had
    /// this one.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `NotADirectory`, `NotEmpty`, `ReadOnly`, `PermissionDenied`; `Stale` when the object is another than was
    /// known, which then stays; `Busy` for mount points and while the object is stored; those of lookup and store.
    pub(crate) async fn remove(self: &Arc<Self>, removal: Removal) -> Result<(u64, u32)> {
        let this = self.clone();
        let number = self.catalog.snapshot()?.number();
        self.run_once(removal.request, async move { this.persevere(|| this.try_remove(&removal, number)).await }).await
    }

    async fn try_remove(&self, removal: &Removal, number: u64) -> Result<Try<(u64, u32)>> {
        let Removal { parent, name, directory, caller, request } = removal;
        if self.answered(*request)? == Some(Reply::Done) {
            self.tell_again(*request, &[(*parent, name.clone())], &[], Locked::Names)?;
            return Ok(Try::Done((self.position()?, 0)));
        }
        let caller = caller.as_ref();
        self.lookups.lookup(*parent, name, caller, false).await?;
        let _guard = self.names.lock(*parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        let Some(attr) = snapshot.lookup(*parent, name)? else { return Err(absent(&snapshot, *parent, name)) };
        let _links = self.lock_links(Self::linked(&snapshot, &[&attr])?).await;
        let snapshot = self.catalog.snapshot()?;
        let Some(attr) = snapshot.lookup(*parent, name)? else { return Err(absent(&snapshot, *parent, name)) };
        let named = Self::named(&snapshot, &attr)?;
        let above = self.directory(&snapshot, *parent, caller)?;
        above.require_owner(&snapshot, &named.attr, caller)?;
        require_kind(&snapshot, &attr, *directory)?;
        self.refuse_fixed(&snapshot, attr.inode)?;
        let inode = attr.inode;
        if self.leases.is_persisting(inode) {
            return Ok(Try::Wait(being_written(&snapshot, inode)));
        }
        if named.moves {
            let aliases = snapshot.aliases(inode)?;
            drop(snapshot);
            let position = self.remove_own_name(&above, removal, inode).await?;
            // It has the place of one of these.
            self.catalog.backlog().note(&aliases);
            return Ok(Try::Done((position, named.others)));
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
        if let Some(way) = self.awaits_deletions(&snapshot, &above.mount, &attr, is_later)? {
            return Ok(Try::Wait(way));
        }
        let path = describe(&snapshot, inode);
        drop(snapshot);

        let mount = &above.mount;
        let is_full = *directory
            && !if is_later { self.is_known_empty(mount, inode).await? } else { self.is_empty(mount, inode).await? };
        if is_full {
            return Err(Error::new(ErrorKind::NotEmpty, format!("{path} is not empty")));
        }
        let (mut leaves, mut marker, mut kept) = (Vec::new(), None, None);
        if is_later {
            leaves.extend(self.left_in_place_of(inode));
            marker = self.marker_of(mount, &above.attr).await?;
        } else {
            kept = self.keep(mount, &above.attr, name).await?;
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
        if named.others == 0 {
            self.leases.end_of(inode);
        }
        if later {
            self.replaced.forget(inode);
        }
        self.follow(mount, kept).await;
        self.relocator.kick(mount.mount.id);
        Ok(Try::Done((self.position()?, named.others)))
    }

    /// Takes its own name from an inode that has others. The namespace alone changes, as with a rename; its object follows.
    async fn remove_own_name(&self, above: &Directory, removal: &Removal, inode: InodeId) -> Result<u64> {
        let Removal { parent, name, request, .. } = removal;
        let is_later = self.persists_later(&self.catalog.snapshot()?, above, name)?;
        let (mut leaves, mut marker, mut kept) = (Vec::new(), None, None);
        if is_later {
            leaves.extend(self.left_in_place_of(inode));
            marker = self.marker_of(&above.mount, &above.attr).await?;
        } else {
            kept = self.keep(&above.mount, &above.attr, name).await?;
            self.delete_replaced(&above.mount, inode).await?;
        }
        let (request, now) = (*request, self.clock.now());
        let (parent, name, later) = (*parent, name.clone(), is_later);
        let place = (parent, name.clone());
        let command = Command::Remove { request, parent, name, inode, later, leaves, marker, now };
        self.change(&[place], command).await?;
        self.replaced.forget(inode);
        self.follow(&above.mount, kept).await;
        self.relocator.kick(above.mount.mount.id);
        self.position()
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

    /// Deletes the marker of an empty directory where its path says. One that it has elsewhere since a rename may be another directory's by
    /// now: its relocation sees to that. A store with directories of its own keeps one that has entries by now.
    async fn delete_marker(&self, mount: &LiveMount, dir: InodeId) -> Result<()> {
        let location = self.catalog.snapshot()?.location(dir)?.ok_or_else(|| stale(dir))?;
        let key = mount.directory_key(&path_key(&location.names));
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
