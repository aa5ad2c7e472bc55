//! What workers hold instead of a store, when a file is closed: the grant for it, and the commit.

use fail::fail_point;
use headpond_namespace::{Command, Due, Reply, Snapshot};
use headpond_proto::v1::{PersistGrant, SignedGrant};
use headpond_types::{ContentId, Error, ErrorKind, InodeId, RequestId, Result, WorkerId};

use super::{Persisted, Writing, leases::Persist};
use crate::{
    catalog::unexpected,
    lookup::{Answer, describe},
    mount::{LiveMount, path_key},
    sync::stale,
};

impl Writing {
    /// The right to have workers hold the staged bytes of a lease, which `worker` has.
    ///
    /// # Errors
    /// `Unavailable` when the mount wants more workers than are live, naming the remedy; `Stale` when the lease is lost.
    pub(super) fn grant_copies(&self, lease: u64, mount: &LiveMount, worker: Option<WorkerId>) -> Result<SignedGrant> {
        let content = ContentId(rand::random());
        let ring = self.workers.ring();
        let (wanted, live) = (mount.policy.copies, u32::try_from(ring.members.len()).unwrap_or(u32::MAX));
        if live < wanted && mount.policy.strict_copies {
            let path = &mount.mount.path;
            let message = format!(
                "mount {path} wants what is written on {wanted} workers, and {live} are live: start more, or mount it \
                 without strict copies"
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let others = ring.owners(content, 0).into_iter().filter(|member| Some(member.id) != worker);
        let grant = PersistGrant {
            lease,
            mount: mount.mount.id.0,
            content: Some(content.into()),
            copies: wanted.min(live).max(1),
            holders: others.map(|member| member.address.clone()).collect(),
            ..PersistGrant::default()
        };
        self.leases.begin_persist(lease, Persist { content, key: None })?;
        Ok(self.grants.persist(grant))
    }

    /// The right to have one worker, which has them, hold the staged bytes of a lease: for a mount that wants no more now, of a file that nobody has to see
    /// in its turn. Unlike a persist that was begun it is in nobody's way.
    pub(super) fn offer_copy(&self, lease: u64, snapshot: &Snapshot, inode: InodeId) -> Result<Option<SignedGrant>> {
        let (Some(attr), Some(location)) = (snapshot.attr(inode)?, snapshot.location(inode)?) else { return Ok(None) };
        let mount = self.writable(snapshot, &attr)?;
        let policy = &mount.policy;
        if policy.due(&location.names).is_none() || policy.is_barrier(&location.names) {
            return Ok(None);
        }
        let live = u32::try_from(self.workers.ring().members.len()).unwrap_or(u32::MAX);
        if live == 0 || policy.copies.min(live) > 1 || (live < policy.copies && policy.strict_copies) {
            return Ok(None);
        }
        let Some(content) = self.leases.offer(lease, ContentId(rand::random())) else { return Ok(None) };
        let (mount, content) = (mount.mount.id.0, Some(content.into()));
        let grant = PersistGrant { lease, mount, content, copies: 1, ..PersistGrant::default() };
        Ok(Some(self.grants.persist(grant)))
    }

    /// The right to the next persist of a lease whose holder goes on, if it can be had in advance.
    pub(crate) fn offer(&self, lease: u64) -> Option<SignedGrant> {
        let inode = self.leases.inode(lease).ok()?;
        self.offer_copy(lease, &self.catalog.snapshot().ok()?, inode).ok().flatten()
    }

    /// What workers hold is what the file has from now on.
    ///
    /// # Errors
    /// As for [`Writing::commit`]; `InvalidArgument` when nobody holds it.
    pub(super) async fn commit_copies(
        &self,
        lease: u64,
        inode: InodeId,
        persist: &Persist,
        persisted: Persisted,
        request: RequestId,
    ) -> Result<Answer> {
        let Persisted { content, size, mtime, version, holders, .. } = persisted;
        if persist.content != content || !version.is_empty() {
            let message = format!("what is committed for inode {inode} is not what was last granted: persist again");
            return Err(Error::new(ErrorKind::Stale, message));
        }
        if holders.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a content that no worker holds cannot be committed"));
        }
        // Under it the file gets no name that makes it due at another time.
        let (_guard, attr, _) = self.lock_inode(inode).await?;
        let snapshot = self.catalog.snapshot()?;
        let mount = self.writable(&snapshot, &attr)?;
        let names = snapshot.location(inode)?.ok_or_else(|| stale(inode))?.names;
        let name = names.last().cloned().ok_or_else(|| stale(inode))?;
        drop(snapshot);
        // A directory above may have another name than when it was granted.
        let due = mount.policy.due(&names).unwrap_or(Due::Now);
        let barrier = mount.policy.is_barrier(&names);
        let now = self.clock.now();
        let command = Command::CommitDirty { request, inode, size, mtime, content, holders, due, barrier, now };
        fail_point!("commit::held");
        match self.change(&[(attr.parent, name)], command).await? {
            Reply::Inode(_) | Reply::Done => {}
            other => return Err(unexpected(&other)),
        }
        if let Some(old) = self.replaced.get(inode).filter(|old| old.key == path_key(&names)) {
            // What it took the place of is journalled from now on.
            if let Some(dirty) = self.catalog.snapshot()?.dirty(inode)? {
                let version = Some(old.version);
                self.catalog.propose(Command::Overwrite { inode, number: dirty.number, version }).await?;
            }
            self.replaced.forget(inode);
        }
        self.leases.end_persist(lease, content);
        self.answer(inode)
    }

    /// Addresses of the workers that hold the content of a dirty file.
    ///
    /// # Errors
    /// `Unavailable` when none of them is live, naming them.
    pub(crate) fn holders_of(&self, snapshot: &Snapshot, inode: InodeId) -> Result<Vec<String>> {
        let dirty = snapshot.dirty(inode)?.ok_or_else(|| stale(inode))?;
        let addresses = self.workers.addresses(&dirty.holders);
        if addresses.is_empty() {
            let ids: Vec<_> = dirty.holders.iter().map(ToString::to_string).collect();
            let message = format!(
                "{} is held by worker {} only, which is not live: start it again",
                describe(snapshot, inode),
                ids.join(" and ")
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(addresses.into_iter().map(|(_, address)| address).collect())
    }
}
