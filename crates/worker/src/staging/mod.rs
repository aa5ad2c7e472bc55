//! Files that are being written: their bytes until the under store has them.
//!
//! * [`Stager`] does what clients ask for over gRPC and the unix socket. Each write lease has at most one staged file ([`table`]).
//! * A staged file is one process's: a restart loses what was not acknowledged, and whoever goes on with it is told so.
//! * [`durable`] acknowledges bytes that no store has. They outlive the process, the client and the staged file; [`later`] stores them,
//!   [`mirrors`] has other workers hold them, too.
//! * [`persist`] stores its bytes as one object; [`upload`], [`parts`] and [`head`] are how, [`beginnings`] knows what of them the store has, [`settle`] what to make of an answer that was lost.
//! * [`room`] bounds what no store has.
//! * [`ahead`] has begun with it while the file is still being written. Uploads that nobody goes on with are aborted ([`Abandoned`]).

mod account;
mod ahead;
mod beginnings;
mod buffers;
mod durable;
mod head;
mod later;
mod mirrors;
mod origin;
mod parts;
mod persist;
mod room;
mod sent;
mod settle;
mod stored;
mod table;
mod upload;

use std::{fs::File, sync::Arc, time::Duration};

use bytes::Bytes;
use fail::fail_point;
use headpond_proto::v1::{Head, KeepStagedRequest, PersistRequest, PersistResponse, SignedGrant, StagingGrant};
use headpond_runtime::{Clock, Tasks};
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, MountId, Result, Timestamp};
use headpond_ufs::{Abandoned, Label};
use tokio::sync::{Notify, Semaphore};

use self::{
    ahead::Rounds,
    later::Later,
    mirrors::Wish,
    persist::Wanted,
    table::{Staged, Table},
    upload::Target,
};
pub(crate) use self::{
    room::{Dirty, Room},
    stored::{Stored, body},
};
use crate::{
    cache::{Adoption, Cache},
    cluster::Cluster,
    metrics::Metrics,
    peers::Peers,
};

/// Most bytes in one message of staged data.
const MAX_DATA: usize = 4 << 20;

/// Staged files made over gRPC go when nothing was asked about them for so long.
const UNUSED: Duration = Duration::from_mins(10);

/// Pause between two looks at how large staged files have become whose descriptors are out.
const ACCOUNT: Duration = Duration::from_secs(1);

/// Pause between two searches for staged files that nobody uses.
const SWEEP: Duration = Duration::from_mins(1);

/// Memory for parts on their way to under stores, over all uploads, in MiB.
const UPLOAD_MEMORY: usize = 256;

/// Holds the staged files of this worker.
#[derive(Debug)]
pub(crate) struct Stager {
    cache: Arc<Cache>,
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    tasks: Tasks,
    abandoned: Arc<Abandoned>,
    table: Table,
    /// A permit for each MiB.
    memory: Semaphore,
    later: Later,
    peers: Peers,
    room: Arc<Room>,
}

impl Stager {
    pub(crate) fn new(
        cache: Arc<Cache>,
        cluster: Arc<Cluster>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        tasks: Tasks,
        (abandoned, peers, room): (Arc<Abandoned>, Peers, Arc<Room>),
    ) -> Self {
        let memory = Semaphore::new(UPLOAD_MEMORY);
        Self {
            cache,
            cluster,
            clock,
            metrics,
            tasks,
            abandoned,
            table: Table::default(),
            memory,
            later: Later::default(),
            peers,
            room,
        }
    }

    /// Writes into the staged file of a lease, after it was to be made durable as `version`. One that is missing is made, unless the client `continues`.
    ///
    /// # Errors
    /// Those of the grant; `Stale` when the staged file is lost; `ResourceExhausted` when there is no room.
    pub(crate) async fn stage(
        &self,
        grant: Option<&SignedGrant>,
        (offset, data): (u64, Bytes),
        continues: bool,
        version: Option<Head>,
    ) -> Result<()> {
        if data.len() > MAX_DATA {
            let message = format!("{} bytes are too many to be staged at once: send at most 4 MiB", data.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let staged = self.staged(grant, continues).await?;
        let bytes = data.len() as u64;
        let work = move |file: &headpond_store::Staging| {
            file.keep(named(version), &(offset..offset.saturating_add(bytes)))?;
            file.write_at(offset, &data)?;
            file.len()
        };
        let length = staged.on_file(work).await?;
        fail_point!("stage::written");
        if let Some(mount) = staged.later() {
            self.room.count(mount, staged.receive(bytes, length));
        }
        Ok(())
    }

    /// Sets room aside for `bytes` of a staged file in all, as soon as there is some, for who has `waited` before: how many are; or how many can be at
    /// most, if those are fewer. One that is missing is made, unless the client `continues`.
    ///
    /// # Errors
    /// As [`Self::stage`]; `Busy` when there was no room yet, `ResourceExhausted` when none will come.
    pub(crate) async fn reserve(
        &self,
        grant: Option<&SignedGrant>,
        bytes: u64,
        continues: bool,
        waited: Duration,
    ) -> Result<u64> {
        let staged = self.staged(grant, continues).await?;
        let Some(mount) = staged.later() else { return Ok(u64::MAX) };
        let held = staged.room().ok_or_else(|| lost(staged.lease()))?;
        let Some(more) = bytes.checked_sub(held).filter(|more| *more > 0) else { return Ok(held) };
        let most = self.room.most(mount);
        if bytes > most {
            return Ok(most);
        }
        let taken = self.room.reserve(mount, (held, more), waited).await?;
        staged.touch();
        if staged.add_room(taken) {
            return Ok(held + taken);
        }
        self.room.give_back(mount, taken);
        Err(lost(staged.lease()))
    }

    /// The bytes of a staged file from `offset`; fewer than `length` only at its end.
    ///
    /// # Errors
    /// As [`Self::stage`].
    pub(crate) async fn read(&self, grant: Option<&SignedGrant>, offset: u64, length: u64) -> Result<Bytes> {
        let length = usize::try_from(length).unwrap_or(MAX_DATA).min(MAX_DATA);
        let staged = self.staged(grant, true).await?;
        staged.on_file(move |file| file.read_at(offset, length)).await
    }

    /// Sets the length of a staged file, after it was to be made durable as `version`. One that is missing is made, unless the client `continues`.
    ///
    /// # Errors
    /// As [`Self::stage`].
    pub(crate) async fn resize(
        &self,
        grant: Option<&SignedGrant>,
        length: u64,
        continues: bool,
        version: Option<Head>,
    ) -> Result<()> {
        let staged = self.staged(grant, continues).await?;
        let work = move |file: &headpond_store::Staging| {
            file.keep(named(version), &(length..u64::MAX))?;
            file.set_len(length)
        };
        staged.on_file(work).await
    }

    /// Keeps what a staged file has in a range for the content that it was acknowledged as last, or is about to be.
    ///
    /// # Errors
    /// As [`Self::stage`].
    pub(crate) async fn keep(&self, request: KeepStagedRequest) -> Result<()> {
        let KeepStagedRequest { grant, version, range } = request;
        let staged = self.staged(grant.as_ref(), true).await?;
        let range = range.map(ByteRange::from).unwrap_or_default();
        staged.on_file(move |file| file.keep(named(version), &range)).await
    }

    /// A descriptor of the staged file of a lease, which is made if it is missing, and how many bytes are set aside for it. It belongs to the
    /// connection `session` from now on.
    ///
    /// # Errors
    /// As [`Self::stage`].
    pub(crate) async fn lend(&self, grant: Option<&SignedGrant>, session: u64) -> Result<(File, u64)> {
        let staged = self.staged(grant, false).await?;
        staged.bind(session);
        let file = staged.descriptor().await?;
        if let Some(mount) = staged.later().filter(|_| staged.room() == Some(0)) {
            let offered = self.room.offer(mount);
            if !staged.add_room(offered) {
                self.room.give_back(mount, offered);
            }
        }
        Ok((file, staged.room().unwrap_or_default()))
    }

    /// Sends what is staged before `up_to` to the under store, in the background. Nothing is stored by it.
    ///
    /// # Errors
    /// Those of the grant; `Stale` when the staged file is lost or `round` over; `Unavailable` when sending has failed, which the persist makes good.
    pub(crate) fn upload(self: &Arc<Self>, signed: Option<&SignedGrant>, up_to: u64, round: u64) -> Result<()> {
        let grant = self.cluster.grants.check_upload(signed, self.clock.now())?;
        let staged = self.table.find(grant.lease).ok_or_else(|| lost(grant.lease))?;
        staged.touch();
        let target = Target { mount: MountId(grant.mount), key: grant.key.into() };
        // What the object is to be called, and when the file was modified last, is not known yet.
        let label = Label { mode: grant.mode, ..Label::default() };
        staged.with_rounds(|rounds| rounds.tell((self, &staged), (target, label), round, up_to))
    }

    /// Stores the staged bytes as one object, or makes them durable here, as the grant says. What was sent ahead in a round need not be sent again. Goes on
    /// when it is dropped; a repetition with the same grant joins it, or gets its answer.
    ///
    /// # Errors
    /// Those of the grant; `Stale` when the store holds another version than the grant says, or the staged file is lost; `Unavailable` when too few
    /// workers have the bytes; what the store answered else.
    pub(crate) async fn persist(self: &Arc<Self>, request: PersistRequest) -> Result<PersistResponse> {
        let PersistRequest { grant: signed, length, round, closing: _, staging, is_copy, mtime_ns, heads } = request;
        let grant = self.cluster.grants.check_persist(signed.as_ref(), self.clock.now())?;
        let lease = grant.lease;
        let staged = self.table.find(lease).ok_or_else(|| lost(lease))?;
        let signed = signed.unwrap_or_default();
        let wish = staging.filter(|_| grant.copies > 1 && !is_copy);
        let copies = wish.map(|staging| Wish { signed: signed.clone(), staging, length });
        if grant.copies > 1 && !is_copy && copies.is_none() {
            let message = "no right to stage was shown, which further copies need: show it";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let wanted = Wanted { length, round, mtime: mtime_ns.map(Timestamp), heads, copies };
        persist::run(Arc::clone(self), staged, (signed, wanted), grant).await
    }

    /// Stores a content that was made durable here as one object, be it still staged. Goes on when it is dropped; a repetition joins it.
    ///
    /// # Errors
    /// Those of the grant; `NotFound` when the content is not here; `Stale` when the store holds another version than the grant says; what the store
    /// answered else.
    pub(crate) async fn persist_dirty(self: &Arc<Self>, signed: Option<&SignedGrant>) -> Result<PersistResponse> {
        let grant = self.cluster.grants.check_persist(signed, self.clock.now())?;
        later::run(self, grant).await
    }

    /// Waits until nothing of what [`Self::persist_dirty`] has begun is being stored under the key that the grant names.
    ///
    /// # Errors
    /// Those of the grant.
    pub(crate) async fn settle_dirty(&self, signed: Option<&SignedGrant>) -> Result<()> {
        let grant = self.cluster.grants.check_persist(signed, self.clock.now())?;
        self.later.settle(grant.mount, &grant.key).await;
        Ok(())
    }

    /// Told when a content that was made durable here was stored.
    pub(crate) fn stored(&self) -> Arc<Notify> {
        Arc::clone(&self.later.stored)
    }

    /// Ends a staged file. If `content` is what its bytes were last persisted as, they stay cached; whoever ends it has closed its
    /// descriptors. No staged file is no error.
    ///
    /// # Errors
    /// Those of the grant, which may have expired.
    pub(crate) async fn end(&self, grant: Option<&SignedGrant>, content: Option<ContentId>) -> Result<()> {
        let grant = self.cluster.grants.check_staging(grant, Timestamp(i64::MIN))?;
        if let Some(staged) = self.table.remove(grant.lease) {
            self.metrics.staged.dec();
            self.finish(staged, content).await;
        }
        Ok(())
    }

    /// Drops the staged files of a connection that has ended: their client is gone.
    pub(crate) async fn end_session(&self, session: u64) {
        self.drop_all(self.table.extract(|staged| staged.session() == Some(session))).await;
    }

    /// Counts what clients write through descriptors, and drops files that nobody uses. Never ends.
    pub(crate) async fn maintain(&self) {
        let accounting = async {
            loop {
                tokio::time::sleep(ACCOUNT).await;
                for staged in self.table.all().into_iter().filter(|staged| staged.session().is_some()) {
                    // That there is no room is told to the client by the disk.
                    let _ = staged.on_file(headpond_store::Staging::account).await;
                }
            }
        };
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.drop_all(self.table.extract(|staged| staged.is_unused(UNUSED))).await;
            }
        };
        tokio::join!(accounting, sweeping);
    }

    /// The staged file that `signed` is for, in use from now on.
    async fn staged(&self, signed: Option<&SignedGrant>, continues: bool) -> Result<Arc<Staged>> {
        let grant = self.cluster.grants.check_staging(signed, self.clock.now())?;
        let StagingGrant { lease, inode, later, .. } = grant;
        let later = Some(MountId(later)).filter(|mount| mount.0 > 0);
        let staged = match self.table.find(lease) {
            Some(staged) => staged,
            None if continues => return Err(lost(lease)),
            None => {
                let file = self.cache.stage().await?;
                let (staged, made) = self.table.insert(lease, Staged::new(lease, inode, later, file));
                if made {
                    self.metrics.staged.inc();
                }
                staged
            }
        };
        if staged.inode() != inode {
            let message = format!("lease {lease} is staged for another file: open the file again");
            return Err(Error::new(ErrorKind::Stale, message));
        }
        // The master allows what it bounded before.
        if later.is_none()
            && let Some((mount, bytes)) = staged.count_no_more()
        {
            self.room.give_back(mount, bytes);
        }
        staged.touch();
        Ok(staged)
    }

    async fn drop_all(&self, staged: Vec<Arc<Staged>>) {
        self.metrics.staged.dec_by(i64::try_from(staged.len()).unwrap_or(i64::MAX));
        for staged in staged {
            self.finish(staged, None).await;
        }
    }

    /// Drops the file of what is in the table no more, unless it was made durable, or makes it that of `content` if its bytes were stored as such.
    async fn finish(&self, staged: Arc<Staged>, content: Option<ContentId>) {
        staged.with_rounds(Rounds::end);
        let shown = staged.show(None, 0);
        let mirrors = mirrors::end(self, staged.with_mirrors(std::mem::take), content);
        let taken = Arc::clone(&staged);
        let take = move || {
            let staged = taken;
            let file = staged.take()?;
            let durable = file.durable();
            let stored = content.filter(|content| !durable.contains(content));
            let stored = stored.and_then(|content| Some((content, staged.with_sent(|sent| sent.stored_as(content))?)));
            match stored {
                Some((content, checksums)) => Some(Adoption::Stored(file, content, checksums)),
                None if durable.is_empty() => None,
                None => Some(Adoption::Dirty(file, content)),
            }
        };
        let (cache, room) = (Arc::clone(&self.cache), Arc::clone(&self.room));
        // In a task of its own: whoever ends it may hang up.
        let finished = self.tasks.spawn(async move {
            cache.adopt(take).await;
            // Only now: who reads it meanwhile need not ask elsewhere.
            cache.stored().remove(&shown);
            if let Some((mount, bytes)) = staged.count_no_more() {
                room.give_back(mount, bytes);
            }
            staged.take_room();
            staged.finish();
        });
        // The next file of the lease has others there.
        let _ = tokio::join!(finished, mirrors);
    }
}

/// A content and its length.
fn named(version: Option<Head>) -> Option<(ContentId, u64)> {
    version.and_then(|version| Some((version.content?.into(), version.length)))
}

fn lost(lease: u64) -> Error {
    let message = format!("what was staged for lease {lease} is lost: write the file again");
    Error::new(ErrorKind::Stale, message)
}

#[cfg(test)]
mod tests;
