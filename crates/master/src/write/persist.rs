//! From staged bytes to a version: the grant to store them, the commit, the end of a lease.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fail::fail_point;
use headpond_namespace::{Command, Due, Location, Reply, Snapshot, Version, displaced_key};
use headpond_proto::v1::{PersistGrant, SignedGrant, StagingGrant, UploadGrant};
use headpond_types::{
    Attr, ContentId, Error, ErrorKind, InodeId, MountId, Name, RequestId, Result, Timestamp, WorkerId,
};

use super::{Locked, Try, Writing, leases::Persist};
use crate::{
    catalog::unexpected,
    lookup::{Answer, describe},
    mount::{LiveMount, path_key},
    sync::{is_unpersisted, stale},
};

/// What a worker has stored.
#[derive(Clone, Debug)]
pub(crate) struct Persisted {
    /// What the grant said.
    pub(crate) content: ContentId,
    /// The same; the whole key.
    pub(crate) key: Vec<u8>,
    /// Bytes.
    pub(crate) size: u64,
    /// What the store says.
    pub(crate) mtime: Timestamp,
    /// What the store says; empty when workers hold it.
    pub(crate) version: String,
    /// Who does, then.
    pub(crate) holders: Vec<WorkerId>,
}

/// Where an object is to go.
#[derive(Debug)]
struct Destination {
    /// Relative to the mount's prefix.
    key: Vec<u8>,
    /// The same with it.
    object_key: Bytes,
    /// The version that it replaces; `None`: there must be no object.
    replaces: Option<String>,
    /// What that version is called, where it is known.
    replaced: Option<ContentId>,
    /// What may have been put there before.
    earlier: Vec<ContentId>,
}

impl Writing {
    /// The mount of a file of which what is written is acknowledged before the store has it, by its path as of now; `None` where the store has it first.
    pub(crate) fn persisted_later_in(&self, inode: InodeId) -> Option<MountId> {
        let look = || -> Result<Option<MountId>> {
            let snapshot = self.catalog.snapshot()?;
            let Some(attr) = snapshot.attr(inode)? else { return Ok(None) };
            let mount = self.writable(&snapshot, &attr)?;
            let location = if mount.policy.persists_later() { snapshot.location(inode)? } else { None };
            let is_later = location.is_some_and(|location| mount.policy.due(&location.names).is_some());
            Ok(is_later.then_some(mount.mount.id))
        };
        // Without an answer nothing is bounded, and the persist says what is wrong.
        look().unwrap_or_default()
    }

    /// Takes a lost lease back for who shows the grant that came with it; whether it was held all the time.
    ///
    /// # Errors
    /// `PermissionDenied` for the grant, `Stale` when the file is gone or has not the version `version` any more, `Busy` when somebody else writes it.
    pub(crate) async fn reclaim(&self, staging: &SignedGrant, version: &str) -> Result<bool> {
        let StagingGrant { lease, inode, later, .. } = self.grants.staged(staging)?;
        let inode = InodeId(inode);
        // Under it nobody else gets a lease, and the file is not discarded.
        let (_guard, attr, _) = self.lock_inode(inode).await?;
        self.writable(&self.catalog.snapshot()?, &attr)?;
        if attr.version != version {
            let message = format!("inode {inode} was written by somebody else meanwhile: open it again");
            return Err(Error::new(ErrorKind::Stale, message));
        }
        let held = self.leases.reclaim(lease, inode);
        if held == Some(false) && later == 0 {
            self.leases.write_through(lease)?;
        }
        held.ok_or_else(|| Error::new(ErrorKind::Busy, format!("somebody else writes inode {inode}: try again later")))
    }

    /// Has what is written under a lease persisted before it is acknowledged: the right to stage it, without a bound.
    ///
    /// # Errors
    /// `Stale` when the lease is lost or the file gone, `ReadOnly`; `NotSupported` for what is not to be persisted under its name; `Busy` while the file's
    /// last version waits for the store.
    pub(crate) async fn write_through(&self, lease: u64) -> Result<SignedGrant> {
        let inode = self.leases.inode(lease)?;
        let (_guard, attr, _) = self.lock_inode(inode).await?;
        let snapshot = self.catalog.snapshot()?;
        let mount = self.writable(&snapshot, &attr)?;
        let location = snapshot.location(inode)?.ok_or_else(|| stale(inode))?;
        if matches!(mount.policy.due(&location.names), Some(Due::WhenRenamed | Due::Never)) {
            let message = format!("{} is not persisted under its name", describe(&snapshot, inode));
            return Err(Error::new(ErrorKind::NotSupported, message));
        }
        if snapshot.dirty(inode)?.is_some() {
            let message = format!("{} waits for the store: try again later", describe(&snapshot, inode));
            return Err(Error::new(ErrorKind::Busy, message));
        }
        self.leases.write_through(lease)?;
        Ok(self.grants.staging(lease, inode, None))
    }

    /// When what is written under a lease at `path` is persisted; `None`: before it is acknowledged.
    fn due(&self, lease: u64, mount: &LiveMount, path: &[Name]) -> Option<Due> {
        let due = mount.policy.due(path);
        due.filter(|due| *due != Due::Now || !self.leases.is_through(lease))
    }

    /// The right to send the staged bytes of a lease ahead, to where [`Writing::prepare`] would have them stored as of now. Nothing waits for what
    /// is made of it: it makes no object.
    ///
    /// # Errors
    /// As of [`Writing::prepare`]; `NotSupported` for what the store does not get at a close.
    pub(crate) async fn prepare_upload(&self, lease: u64) -> Result<SignedGrant> {
        let inode = self.leases.inode(lease)?;
        let (_guard, attr, _) = self.lock_inode(inode).await?;
        let snapshot = self.catalog.snapshot()?;
        let mount = self.writable(&snapshot, &attr)?;
        let location = snapshot.location(inode)?.ok_or_else(|| stale(inode))?;
        if self.due(lease, &mount, &location.names).is_some() {
            let message = format!("{} is not stored when it is closed", describe(&snapshot, inode));
            return Err(Error::new(ErrorKind::NotSupported, message));
        }
        let Destination { object_key: key, .. } = self.destination(&snapshot, &mount, &attr, location)?;
        let (mount, mode) = (attr.mount.0, Some(attr.mode));
        Ok(self.grants.upload(UploadGrant { lease, mount, key, mode, ..UploadGrant::default() }))
    }

    /// The right to have the staged bytes of a lease, which `worker` has, persisted as the mount says: stored where the file's object is or is to
    /// be, or held by workers. That of a new file begins at a key of its own while others may be where its path says. What is in its way is waited for
    /// as long as the caller has `patience`.
    ///
    /// # Errors
    /// `Stale` when the lease is lost or the file gone, `ReadOnly`; `Busy` for a commit file while what was changed before is not in the store, and
    /// while the file's last version is being stored; `Unavailable` when there are fewer workers than the mount wants.
    pub(crate) async fn prepare(
        &self,
        lease: u64,
        worker: Option<WorkerId>,
        patience: Duration,
    ) -> Result<SignedGrant> {
        self.persevere_for(patience, || self.try_prepare(lease, worker)).await
    }

    async fn try_prepare(&self, lease: u64, worker: Option<WorkerId>) -> Result<Try<SignedGrant>> {
        let inode = self.leases.inode(lease)?;
        // Under it nobody moves the object.
        let (_guard, ..) = self.lock_inode(inode).await?;
        let _stores = self.stores.read().await;
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        let mount = self.writable(&snapshot, &attr)?;
        let location = snapshot.location(inode)?.ok_or_else(|| stale(inode))?;
        if let Some(due) = self.due(lease, &mount, &location.names) {
            if due == Due::Now
                && let Some(way) = self.waits_for_its_last_version(&snapshot, &mount, inode, &location)?
            {
                return Ok(Try::Wait(way));
            }
            return self.grant_copies(lease, &mount, worker).map(Try::Done);
        }
        if let Some(way) = self.waits_its_turn(&snapshot, &mount, lease, &attr, &location)? {
            return Ok(Try::Wait(way));
        }
        let Destination { key, object_key, replaces, replaced, earlier } =
            self.destination(&snapshot, &mount, &attr, location)?;
        let content = ContentId(rand::random());
        let grant = PersistGrant {
            lease,
            mount: attr.mount.0,
            key: object_key,
            replaces,
            replaced: replaced.map(Into::into),
            content: Some(content.into()),
            earlier: earlier.into_iter().map(Into::into).collect(),
            mode: Some(attr.mode),
            ..PersistGrant::default()
        };
        self.leases.begin_persist(lease, Persist { content, key: Some(key) })?;
        Ok(Try::Done(self.grants.persist(grant)))
    }

    /// Where the object of a file is or is to be. Its name is locked.
    fn destination(
        &self,
        snapshot: &Snapshot,
        mount: &LiveMount,
        attr: &Attr,
        location: Location,
    ) -> Result<Destination> {
        let inode = attr.inode;
        let dirty = snapshot.dirty(inode)?;
        let earlier = dirty.as_ref().map(|dirty| dirty.put.clone()).unwrap_or_default();
        let (key, replaces, replaced) = if is_unpersisted(attr) {
            let key = match dirty.as_ref().and_then(|dirty| dirty.key.clone()) {
                Some(key) => key,
                None => first_key(snapshot, attr, &location)?,
            };
            let old = self.replaced.get(inode).filter(|old| old.key == key).map(|old| old.version);
            (key, old.or(dirty.and_then(|dirty| dirty.replaces)), None)
        } else {
            // Of a file that is dirty the attributes tell what workers hold.
            (location.key, Some(attr.version.clone()), attr.content.filter(|_| !attr.dirty))
        };
        Ok(Destination { object_key: mount.object_key(&key).0, key, replaces, replaced, earlier })
    }

    /// What was stored is the file's version from now on.
    ///
    /// # Errors
    /// `Stale` when the lease is lost, another persist was begun since, or the file is gone; what is in the store is then found by its next listing.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        lease: u64,
        persisted: Persisted,
        request: RequestId,
    ) -> Result<Answer> {
        let this = self.clone();
        self.run_once(request, async move { this.do_commit(lease, persisted, request).await }).await
    }

    async fn do_commit(&self, lease: u64, persisted: Persisted, request: RequestId) -> Result<Answer> {
        if let Some(Reply::Inode(inode)) = self.answered(request)? {
            self.leases.end_persist(lease, persisted.content);
            self.tell_again(request, &[], &[inode], Locked::Nothing)?;
            return self.answer(inode);
        }
        let (inode, persist) = self.leases.persist(lease, persisted.content)?;
        if persist.key.is_none() {
            return self.commit_copies(lease, inode, &persist, persisted, request).await;
        }
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        let mount = self.writable(&snapshot, &attr)?;
        let key = mount.relative(&persisted.key).filter(|key| Some(*key) == persist.key.as_deref());
        let Some(key) = key.filter(|_| persist.content == persisted.content) else {
            let message = format!("what is committed for inode {inode} is not what was last granted: persist again");
            return Err(Error::new(ErrorKind::Stale, message));
        };
        let path = snapshot.path(inode)?.ok_or_else(|| stale(inode))?;
        let name = path.names().last().cloned().ok_or_else(|| stale(inode))?;
        drop(snapshot);
        let Persisted { content, size, mtime, ref version, .. } = persisted;
        if version.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a version without a name cannot be committed"));
        }
        let version = Version { size, mtime, version: version.clone(), content };
        let command = Command::Commit { request, inode, key: key.to_vec(), version, now: self.clock.now() };
        fail_point!("commit::stored");
        let committed = self.change(&[(attr.parent, name)], command).await;
        match committed? {
            Reply::Inode(_) | Reply::Done => {}
            other => return Err(unexpected(&other)),
        }
        self.replaced.forget(inode);
        self.leases.end_persist(lease, content);
        let snapshot = self.catalog.snapshot()?;
        // It may have been written where it is not any more.
        if snapshot.relocation_of(inode)?.is_some() {
            self.relocator.kick(mount.mount.id);
        }
        self.answer(inode)
    }

    /// Gives a lease back. A file that never got a version goes. A lease that is lost is no error.
    ///
    /// # Errors
    /// Those of the journal; the lease is ended all the same.
    pub(crate) async fn end(self: &Arc<Self>, lease: u64) -> Result<()> {
        let this = self.clone();
        self.run(async move { this.do_end(lease).await }).await
    }

    /// Gives leases back, all of them whatever becomes of one.
    ///
    /// # Errors
    /// As for [`Writing::end`], the first.
    pub(crate) async fn end_all(self: &Arc<Self>, leases: Vec<u64>) -> Result<()> {
        let this = self.clone();
        self.run(async move {
            let ended = leases.into_iter().map(|lease| this.do_end(lease));
            futures::future::join_all(ended).await.into_iter().collect()
        })
        .await
    }

    async fn do_end(&self, lease: u64) -> Result<()> {
        let Ok(inode) = self.leases.inode(lease) else { return Ok(()) };
        let locked = self.lock_inode(inode).await;
        self.leases.end(lease);
        match locked {
            Ok((_guard, attr, name)) if is_unpersisted(&attr) && !attr.dirty => {
                self.discard(inode, (attr.parent, name)).await
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Stale => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes a file that nobody writes and no store holds out of the namespace. Its name is locked.
    pub(super) async fn discard(&self, inode: InodeId, place: super::Place) -> Result<()> {
        let command = Command::Discard { inode };
        if self.replaced.get(inode).is_some() {
            // What it was to replace is there again, as the next listing shows.
            self.catalog.propose(command).await?;
            self.replaced.forget(inode);
            return Ok(());
        }
        self.change(&[place], command).await.map(|_| ())
    }
}

/// Where the object of a file is put that has none yet: where its path says, or at a key of its own while others may be there.
///
/// # Errors
/// When the namespace cannot be read.
pub(crate) fn first_key(snapshot: &Snapshot, attr: &Attr, location: &Location) -> Result<Vec<u8>> {
    let path = path_key(&location.names);
    let name = location.names.last().ok_or_else(|| stale(attr.inode))?;
    if snapshot.is_contested(attr.parent, name, false)? || snapshot.is_left(attr.mount, &path)? {
        return Ok(displaced_key(attr.inode));
    }
    Ok(path)
}
