//! Making directories: a marker in the store, then the name; where the mount persists later, the name alone.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Reply};
use headpond_types::Result;
use headpond_ufs::Precondition;

use super::{
    Locked, NewEntry, Try, Writing,
    entries::{exists, names_of},
    objects::{Marker, make_marker},
};
use crate::{
    catalog::unexpected,
    lookup::Answer,
    mount::{Verdict, path_key},
};

impl Writing {
    /// Makes a directory.
    ///
    /// # Errors
    /// `AlreadyExists`, `ReadOnly`, `PermissionDenied`, those of lookup and store.
    pub(crate) async fn make_directory(self: &Arc<Self>, new: NewEntry) -> Result<Answer> {
        let this = self.clone();
        self.run_once(new.request, async move { this.persevere(|| this.try_make_directory(&new)).await }).await
    }

    async fn try_make_directory(&self, new: &NewEntry) -> Result<Try<Answer>> {
        let NewEntry { parent, name, caller, request, .. } = new;
        if let Some(Reply::Inode(inode)) = self.answered(*request)? {
            self.tell_again(*request, &[(*parent, name.clone())], &[], Locked::Names)?;
            return Ok(Try::Done(self.answer(inode)?));
        }
        self.lookups.lookup(*parent, name, caller.as_ref(), false).await?;
        let _guard = self.names.lock(*parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        if snapshot.lookup(*parent, name)?.is_some() {
            return Err(exists(&snapshot, *parent, name));
        }
        let directory = self.directory(&snapshot, *parent, caller.as_ref())?;
        let owner = directory.owner(new, true)?;
        let names = names_of(&snapshot, *parent, name)?;
        let mount = &directory.mount;
        let dirty = mount.policy.due(&names);
        // Then its marker is made when what is in the way has moved.
        let is_contested = dirty.is_none() && snapshot.is_contested(*parent, name, true)?;
        drop(snapshot);
        mount.require_key(&names, true).await?;
        let key = mount.directory_key(&path_key(&names));
        let is_made_first = dirty.is_none() && !is_contested;
        if is_made_first {
            // A marker that is there already is of an earlier try, or something from outside that is more than one.
            if make_marker(mount, &key).await? == Verdict::Unmet && !self.is_bare(mount, &key).await? {
                self.lookups.lookup(*parent, name, None, true).await?;
                return Err(exists(&self.catalog.snapshot()?, *parent, name));
            }
            fail_point!("mkdir::stored");
        }
        let now = self.clock.now();
        let (request, parent, name) = (*request, *parent, name.clone());
        let place = (parent, name.clone());
        let command = Command::MakeDirectory { request, parent, name, owner, dirty, now };
        match self.change(&[place], command).await {
            Ok(Reply::Inode(inode)) => {
                if dirty.is_none() {
                    let relocations = self.catalog.snapshot()?.relocations()?;
                    let path = if is_contested { Vec::new() } else { path_key(&names) };
                    if relocations.iter().all(|relocation| relocation.inode != inode) {
                        self.follow(mount, Some(Marker { dir: inode, path })).await;
                    }
                }
                // What a listing under way has seen there was another's.
                self.engine.freshness().moved(inode, self.clock.now());
                self.relocator.kick(mount.mount.id);
                Ok(Try::Done(self.answer(inode)?))
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => {
                if is_made_first && self.catalog.snapshot()?.attr(parent)?.is_none() {
                    // Nobody will: the directory above went meanwhile, and would come back with the marker.
                    let store = mount.store().await?;
                    mount.ask("delete", &key, store.delete(&key, &Precondition::None)).await?;
                }
                Err(error)
            }
        }
    }
}
