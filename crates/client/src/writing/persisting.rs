//! Making what was written a version of the file in the under store.

use std::{sync::Arc, time::Duration};

use fail::fail_point;
use headpond_proto::v1;
use headpond_types::{Attr, ContentId, Error, ErrorKind, Result, Timestamp};
use prost::Message as _;
use tokio::time::{Instant, sleep};

use super::{AttrChange, FileWriter, heads::Original};
use crate::{
    admin::request_id,
    backoff::Backoff,
    master::{self, Retry},
    metadata::{attr_of, gone},
    opening,
};

/// How long storing an object may take, without its bytes: longer than the worker tries, so that it is known how that ended.
const PATIENCE: Duration = Duration::from_secs(130);

/// The least rate at which bytes are stored, as the worker has it.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Files up to this long are not changed while they are stored, so that what is stored is one state of them; writers wait for no longer
/// than [`STILL_FOR`]. Changes made meanwhile may be in what is stored otherwise, and are stored anew by the next persist.
const STILL: u64 = 64 << 20;
const STILL_FOR: Duration = Duration::from_secs(2);

/// A commit that the master has not answered.
#[derive(Debug)]
pub(super) struct Unanswered {
    request: v1::CommitRequest,
    /// How many changes are in it.
    changes: u64,
    /// [`FileWriter::reclaims`] before it was prepared.
    reclaims: u64,
}

impl FileWriter {
    /// Makes what was written the file's version, as durable as its mount promises, and seen by other readers when this answers: in the under store,
    /// or on workers, which persist it later ([`Attr::dirty`]). There is nothing to do for a file that was not changed, and for one that lost its
    /// name. What is written after this began may be left for the next persist. With `closing` the bytes are about to be read by others; what was
    /// made durable without is theirs as well, at the price of a first read that waits for checksums.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`]; `Stale`, too, when the under store got another version meanwhile, which stays; `StoreRefused`; `Busy`
    /// when the file is being renamed, or what has to be persisted before it is not for two minutes. After an error the bytes are still staged, and may be persisted in another try, unless they are lost.
    pub async fn persist(&self, closing: bool) -> Result<Arc<Attr>> {
        let mut unanswered = self.persisting.lock().await;
        self.lock().check()?;
        if let Some(commit) = unanswered.take() {
            // The object is there: until the master knows, it takes it for somebody else's.
            self.commit(commit, &mut unanswered).await?;
        }
        let mut with_heads = true;
        while self.lock().is_dirty() {
            let Some(commit) = self.store(closing, with_heads).await? else {
                with_heads = false;
                continue;
            };
            if self.commit(commit, &mut unanswered).await? {
                break;
            }
        }
        let mtime = self.lock().mtime.take();
        if let Some(mtime) = mtime {
            let change = AttrChange { mtime: Some(mtime), ..AttrChange::default() };
            let set = self.shared.change_attr(self.inode(), change).await;
            set.inspect_err(|_| {
                let mut state = self.lock();
                // Unless it was changed since.
                state.mtime = state.mtime.or(Some(mtime).filter(|mtime| state.attr.mtime == *mtime));
            })?;
        }
        Ok(self.attr())
    }

    /// Has the worker store the bytes, of which those that the under store has need not be sent `with_heads`. `None` when they were not, and changed
    /// meanwhile: then all of it is to be sent.
    async fn store(&self, closing: bool, with_heads: bool) -> Result<Option<Unanswered>> {
        let worker = self.staged().await?.member().id.0;
        let reclaims = *self.reclaims.lock().await;
        let mut prepared = match self.lease().take_offer() {
            Some(offered) => Ok(offered),
            None => self.prepare(worker).await,
        };
        if let Err(error) = &prepared
            && self.is_reclaimed_after(error, reclaims).await
        {
            prepared = self.prepare(worker).await;
        }
        let signed = prepared.inspect_err(|error| self.note(error))?;
        let grant = v1::PersistGrant::decode(&signed.grant[..]).map_err(|error| {
            Error::new(ErrorKind::Internal, "the master's right to persist cannot be read").with_source(error)
        })?;
        let staging = (grant.copies > 0).then(|| self.lease().staging());
        let order = v1::PersistRequest { grant: Some(signed), closing, staging, ..v1::PersistRequest::default() };
        let content = grant.content.map(Into::into).unwrap_or_default();
        let original = if with_heads { self.granted_original().await } else { None };
        // Boxed, for what is sent to the worker would be part of every caller's future.
        let (changes, mtime, stored) = Box::pin(self.send(order, content, with_heads, original)).await?;
        if self.ahead.unchanged_in(content) < stored.copied {
            return Ok(None);
        }
        let request = v1::CommitRequest {
            lease: self.lease().id,
            content: grant.content,
            key: grant.key,
            size: stored.size,
            // That of the last change in it: a close changes nothing, and the store has a clock of its own.
            mtime_ns: mtime.0,
            version: stored.version,
            holders: stored.holders,
            request_id: request_id(),
            goes_on: !closing,
        };
        Ok(Some(Unanswered { request, changes, reclaims }))
    }

    /// The right to persist, once nothing is in the way: what was changed before a commit file reaches the under store before it.
    async fn prepare(&self, worker: u32) -> Result<v1::SignedGrant> {
        let call = |channel| {
            let request = v1::PreparePersistRequest { lease: self.lease().id, worker };
            async move { master::writing(channel).prepare_persist(request).await }
        };
        let deadline = Instant::now() + PATIENCE;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            let pause = backoff.pause();
            match self.shared.masters.call("preparing to persist", Retry::Yes, call).await.map_err(Error::from) {
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() + pause < deadline => {
                    sleep(pause).await
                }
                prepared => return Ok(prepared?.grant.unwrap_or_default()),
            }
        }
    }

    /// What the file begins with that was copied from another, and the right to have the under store copy that, if it has it. The master is asked: the
    /// object may have been moved since it was read, which who reads a cached copy does not notice.
    async fn granted_original(&self) -> Option<(Original, v1::SignedGrant)> {
        let (original, _) = self.ahead.original()?;
        match opening::ask(&self.shared, original.inode).await {
            Ok((attr, grant)) => {
                let is_stored = attr.content == Some(original.content) && !grant.is_dirty();
                is_stored.then(|| (original, grant.signed()))
            }
            Err(error) => {
                tracing::debug!(%error, inode = %original.inode, "what was copied from a file is sent to the under store");
                None
            }
        }
    }

    /// Has them stored as `content`, of which what was copied from an `original` need not be sent. Answers how many of the changes are, when the last of
    /// them was made, and as what.
    async fn send(
        &self,
        order: v1::PersistRequest,
        content: ContentId,
        with_heads: bool,
        original: Option<(Original, v1::SignedGrant)>,
    ) -> Result<(u64, Timestamp, v1::PersistResponse)> {
        let changing = self.changing.lock().await;
        let staged = self.staged().await?;
        let (unsure, changes, mtime, length) = {
            let state = self.lock();
            (state.unsure, state.changes, state.attr.mtime, state.attr.size)
        };
        if unsure {
            staged.set_length(length).await.inspect_err(|error| self.note(error))?;
            self.lock().unsure = false;
        }
        if order.staging.is_some() {
            staged.begin_version(content, length).await?;
        }
        let (round, mut heads) = self.ahead.end_round(content, length);
        heads.retain(|_| with_heads);
        // Another may have been copied over it, before nobody else could change anything.
        let copied = self.ahead.original().zip(original).filter(|((now, _), (granted, _))| now == granted);
        heads.extend(copied.map(|((Original { content, .. }, length), (_, signed))| v1::Head {
            content: Some(content.into()),
            length,
            original: Some(signed),
        }));
        let mut still = (length <= STILL).then_some(changing);
        let request = v1::PersistRequest { length, round, mtime_ns: Some(mtime.0), heads, ..order };
        let patience = PATIENCE + Duration::from_secs(length / BYTES_PER_SECOND);
        let storing = staged.persist(request, patience);
        tokio::pin!(storing);
        let stored = loop {
            tokio::select! {
                stored = &mut storing => break stored,
                () = sleep(STILL_FOR), if still.is_some() => still = None,
            }
        };
        drop(still);
        // The worker may have been lost with bytes that only it had.
        self.staged().await?;
        Ok((changes, mtime, stored?))
    }

    /// Whether an error came of a lease that was lost, and is not any more: taken back now, or by its renewal after there were `reclaims`.
    async fn is_reclaimed_after(&self, error: &Error, reclaims: u64) -> bool {
        error.kind() == ErrorKind::Stale
            && (self.reclaim().await == Some(true) || *self.reclaims.lock().await != reclaims)
    }

    /// Tells the master, and the client's memory. A commit that may have happened all the same stays `unanswered`. Answers `false` when the lease
    /// was lost and taken back: then the bytes are to be stored once more.
    async fn commit(&self, commit: Unanswered, unanswered: &mut Option<Unanswered>) -> Result<bool> {
        let shared = &self.shared;
        fail_point!("close::stored");
        let ticket = shared.cache.ticket();
        let commit = unanswered.insert(commit);
        let call = |channel| {
            let request = commit.request.clone();
            async move { master::writing(channel).commit(request).await }
        };
        let answer = match shared.masters.call("committing", Retry::Change, call).await.map_err(Error::from) {
            Ok(answer) => answer,
            Err(error) if self.is_reclaimed_after(&error, commit.reclaims).await => {
                *unanswered = None;
                return Ok(false);
            }
            Err(error) => {
                self.note(&error);
                if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) {
                    *unanswered = None;
                }
                return Err(error);
            }
        };
        fail_point!("close::committed");
        let changes = commit.changes;
        *unanswered = None;
        if let Some(grant) = answer.persist {
            self.lease().offer(grant);
        }
        let attr = attr_of(answer.attr)?.ok_or_else(|| gone(self.inode()))?;
        let answered = ticket.answered(answer.as_of, Duration::from_millis(answer.valid_ms));
        shared.cache.outdate(answer.as_of, attr.inode);
        shared.cache.put_attr(&answered, Arc::clone(&attr));
        let mut state = self.lock();
        state.persisted = changes;
        let own = Arc::clone(&state.attr);
        let is_newer = state.changes != changes;
        // Attributes were changed after it, and that was answered before.
        let is_overtaken = answer.as_of < state.as_of;
        state.as_of = state.as_of.max(answer.as_of);
        let keeps_mtime = is_newer || is_overtaken || state.mtime.is_some();
        state.edit(|new| {
            new.clone_from(&attr);
            new.nlink = own.nlink;
            new.size = if is_newer { own.size } else { attr.size };
            new.mtime = if keeps_mtime { own.mtime } else { attr.mtime };
            if is_overtaken {
                (new.mode, new.uid, new.gid) = (own.mode, own.uid, own.gid);
                (new.atime, new.ctime) = (own.atime, own.ctime);
            }
        });
        Ok(true)
    }
}
