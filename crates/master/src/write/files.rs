//! Making files and getting the right to write them.

use std::{sync::Arc, time::Duration};

use headpond_namespace::{Command, Reply};
use headpond_proto::v1::SignedGrant;
use headpond_types::{Error, ErrorKind, FileKind, InodeId, RequestId, Result};

use super::{
    Locked, NewEntry, Try, Writing,
    entries::{being_written, exists, names_of},
};
use crate::{
    access::{Caller, WRITE},
    catalog::unexpected,
    lookup::{Answer, Located, describe},
    sync::stale,
};

/// A file that may be written.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// What it is.
    pub(crate) answer: Answer,
    /// `None`: it is no file.
    pub(crate) lease: Option<u64>,
    /// The right to its first persist.
    pub(crate) persist: Option<SignedGrant>,
}

impl Writing {
    /// Makes a file, or finds the one that has the name, and gives a lease on it.
    ///
    /// # Errors
    /// `AlreadyExists` when it is to be new, `Busy` when somebody else writes it for longer than a caller waits, `ReadOnly`,
    /// `PermissionDenied`; those of a lookup.
    pub(crate) async fn create(self: &Arc<Self>, new: NewEntry, exclusive: bool) -> Result<Opened> {
        let this = self.clone();
        self.run_once(new.request, async move { this.persevere(|| this.try_create(&new, exclusive)).await }).await
    }

    async fn try_create(&self, new: &NewEntry, exclusive: bool) -> Result<Try<Opened>> {
        let NewEntry { parent, name, caller, request, .. } = new;
        if let Some(Reply::Inode(inode)) = self.answered(*request)? {
            self.tell_again(*request, &[(*parent, name.clone())], &[], Locked::Names)?;
            return self.try_lease(inode, *request);
        }
        self.lookups.lookup(*parent, name, caller.as_ref(), false).await?;
        let guard = self.names.lock(*parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        if let Some(found) = snapshot.lookup(*parent, name)? {
            if exclusive {
                return Err(exists(&snapshot, *parent, name));
            }
            let is_own = snapshot.target(found.inode)?.is_none();
            let attr = snapshot.shown(found)?.ok_or_else(|| stale(*parent))?;
            if attr.kind != FileKind::File {
                return Ok(Try::Done(Opened { answer: self.answer(attr.inode)?, lease: None, persist: None }));
            }
            self.writable(&snapshot, &attr)?;
            if let Some(caller) = caller {
                caller.require(&attr, WRITE, || describe(&snapshot, attr.inode))?;
            }
            drop(snapshot);
            if is_own {
                return self.try_lease(attr.inode, *request);
            }
            drop(guard);
            let (_guard, ..) = self.lock_inode(attr.inode).await?;
            return self.try_lease(attr.inode, *request);
        }
        let directory = self.directory(&snapshot, *parent, caller.as_ref())?;
        let owner = directory.owner(new, false)?;
        let names = names_of(&snapshot, *parent, name)?;
        drop(snapshot);
        directory.mount.require_key(&names, false).await?;
        let now = self.clock.now();
        let command = Command::Create { request: *request, parent: *parent, name: name.clone(), owner, now };
        match self.change(&[(*parent, name.clone())], command).await? {
            Reply::Inode(inode) => self.try_lease(inode, *request),
            other => Err(unexpected(&other)),
        }
    }

    /// The right to write the next version of a file. Another writer is waited for as long as the caller has `patience`.
    ///
    /// # Errors
    /// `Busy` when somebody else writes it for longer than a caller waits, `IsADirectory`, `ReadOnly`, `PermissionDenied`, `Stale`.
    pub(crate) async fn open(
        self: &Arc<Self>,
        inode: InodeId,
        caller: Option<Caller>,
        request: RequestId,
        patience: Duration,
    ) -> Result<Opened> {
        let this = self.clone();
        let open = async move { this.persevere_for(patience, || this.try_open(inode, caller.as_ref(), request)).await };
        self.run_once(request, open).await
    }

    async fn try_open(&self, inode: InodeId, caller: Option<&Caller>, request: RequestId) -> Result<Try<Opened>> {
        if let Some(caller) = caller {
            caller.require_way(&self.catalog.snapshot()?, inode)?;
        }
        let Located { attr, .. } = self.lookups.attr(inode, false).await?;
        let snapshot = self.catalog.snapshot()?;
        if attr.kind != FileKind::File {
            let message = format!("{} is no file and cannot be written", describe(&snapshot, inode));
            return Err(Error::new(ErrorKind::IsADirectory, message));
        }
        self.writable(&snapshot, &attr)?;
        if let Some(caller) = caller {
            caller.require(&attr, WRITE, || describe(&snapshot, inode))?;
        }
        drop(snapshot);
        let (_guard, ..) = self.lock_inode(inode).await?;
        self.try_lease(inode, request)
    }

    /// A lease on `inode`, whose name is locked, or which `request` has made.
    fn try_lease(&self, inode: InodeId, request: RequestId) -> Result<Try<Opened>> {
        let snapshot = self.catalog.snapshot()?;
        let way = being_written(&snapshot, inode);
        snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        drop(snapshot);
        match self.leases.acquire(inode, request) {
            Some(lease) => {
                let persist = self.offer_copy(lease, &self.catalog.snapshot()?, inode)?;
                Ok(Try::Done(Opened { answer: self.answer(inode)?, lease: Some(lease), persist }))
            }
            None => Ok(Try::Wait(way)),
        }
    }
}
