//! Having the worker send a file's beginning to the under store while the rest is still being written.
//!
//! Invariants:
//! * What the worker is told to be final was written from front to end, and is in the staged file.
//! * A change of bytes that it was told of, and each persist, begins another round: what was sent in one round is of no use to the persist of
//!   another. The round changes before the bytes do.
//! * Nobody who writes waits for any of it, and its failures are told to nobody: the persist then has more to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headpond_proto::v1;
use headpond_types::{Attr, ContentId, Error, ErrorKind, Result};

use super::{
    heads::{Heads, Original},
    staged::{Staged, call_worker},
};
use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// Bytes written in a round before any is sent. What is shorter is stored quickly at its close, and may be gone or renamed by then.
const BEGIN: u64 = 32 << 20;

/// Bytes between two calls of the worker: one of its parts.
const STEP: u64 = 16 << 20;

/// How far a file was written from front to end, what of it the worker was told, and what of it was not written at all.
pub(super) struct WrittenAhead(Mutex<Progress>);

/// A leaf lock.
struct Progress {
    /// The bytes before it were written in order; `None` once one was not.
    in_order: Option<u64>,
    /// Nothing is sent: it failed, or is not wanted.
    is_given_up: bool,
    /// A change was begun and not ended.
    is_changing: bool,
    round: u64,
    /// Where the round begins to send.
    from: u64,
    /// What the worker was told in the round.
    told: u64,
    /// The worker is being told.
    is_telling: bool,
    /// What of the bytes the under store may have from before.
    heads: Heads,
    /// The right to send ahead, and the round that it was asked for in: the file may have got another name since.
    granted: Option<(u64, v1::SignedGrant)>,
}

/// What a change makes of the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changed {
    /// All of them were written.
    Written { offset: u64, end: u64 },
    /// The file has that length.
    Cut(u64),
}

impl Changed {
    /// The first byte that may be another one.
    const fn first(self) -> u64 {
        match self {
            Self::Written { offset, .. } => offset,
            Self::Cut(length) => length,
        }
    }
}

impl WrittenAhead {
    /// Of a file that is the version `origin`, which is not written from its front, or else has no bytes.
    pub(super) fn new(origin: Option<&Attr>) -> Self {
        Self(Mutex::new(Progress {
            in_order: if origin.is_none() { Some(0) } else { None },
            heads: Heads::new(origin.and_then(|origin| Some((origin.content?, origin.size)))),
            is_given_up: false,
            is_changing: false,
            round: 1,
            from: BEGIN,
            told: 0,
            is_telling: false,
            granted: None,
        }))
    }

    /// A change is about to be made. The caller lets nobody else make one.
    pub(super) fn begin(&self, change: Changed) {
        let mut progress = self.lock();
        if progress.is_changing {
            // Nobody waited for its end: it may still be going on.
            progress.in_order = None;
        }
        progress.is_changing = true;
        progress.heads.begin(change.first());
        if change.first() < progress.told {
            progress.next_round();
        }
    }

    /// The change was made.
    pub(super) fn made(&self, change: Changed) {
        let mut progress = self.lock();
        progress.is_changing = false;
        progress.heads.end();
        if let Changed::Cut(0) = change {
            progress.is_given_up = false;
        }
        progress.in_order = match (change, progress.in_order) {
            (Changed::Cut(0), _) => Some(0),
            (Changed::Cut(length), Some(up_to)) => Some(up_to.min(length)),
            (Changed::Written { offset, end }, Some(up_to)) if offset == up_to => Some(end),
            (Changed::Cut(_) | Changed::Written { .. }, _) => None,
        };
        if let (Changed::Cut(_), Some(up_to)) = (change, progress.in_order) {
            progress.from = progress.from.min(up_to.saturating_add(BEGIN));
        }
    }

    /// The change that was just made put bytes there that `original` has at the same place.
    pub(super) fn copied(&self, original: Original, (offset, end): (u64, u64)) {
        let mut progress = self.lock();
        if progress.heads.copied(original, offset, end) {
            // As with what was stored, see `end_round`.
            progress.from = progress.from.max(end.saturating_mul(2));
        }
    }

    /// What the file begins with that was copied from another, if that is worth being copied by the store.
    pub(super) fn original(&self) -> Option<(Original, u64)> {
        self.lock().heads.original().filter(|(_, length)| *length >= STEP)
    }

    /// The change has ended, and is going to be made once more.
    pub(super) fn failed(&self) {
        let mut progress = self.lock();
        progress.is_changing = false;
        progress.heads.end();
    }

    /// All `length` bytes are about to be stored as `content`: the round that ends thereby, and what of them need not be sent.
    pub(super) fn end_round(&self, content: ContentId, length: u64) -> (u64, Vec<v1::Head>) {
        let mut progress = self.lock();
        let round = progress.round;
        progress.next_round();
        // What the store then has it can copy, and sending it once more would cost as much as all that was written before: that is worth it only when as
        // much comes behind.
        if let Some(up_to) = progress.in_order {
            progress.from = progress.from.max(up_to.saturating_mul(2));
        }
        (round, progress.heads.store(content, length))
    }

    /// How much of what was stored as `content` is still the beginning of the file.
    pub(super) fn unchanged_in(&self, content: ContentId) -> u64 {
        self.lock().heads.unchanged_in(content)
    }

    /// Nothing more is sent, unless the file is written anew.
    pub(super) fn stop(&self) {
        self.lock().in_order = None;
    }

    /// Tells the worker, in the background, if there is a step to be told.
    pub(super) fn tell(self: &Arc<Self>, shared: &Arc<Shared>, lease: u64, staged: &Staged) {
        {
            let mut progress = self.lock();
            if progress.is_telling || progress.due().is_none() {
                return;
            }
            progress.is_telling = true;
        }
        let (ahead, shared) = (Arc::clone(self), Arc::clone(shared));
        let (member, patience) = (staged.member().clone(), staged.patience());
        let (runtime, tasks) = (shared.runtime.clone(), shared.tasks.clone());
        let _entered = runtime.enter();
        let telling = async move {
            while let Some((round, up_to)) = ahead.next() {
                let told = async {
                    let grant = ahead.grant(&shared, lease, round).await?;
                    let service = shared.workers.staging(&member)?;
                    let request = v1::UploadRequest { grant: Some(grant), up_to, round };
                    call_worker(&member, "sending ahead", patience, || {
                        let (mut service, request) = (service.clone(), request.clone());
                        async move { service.upload(request).await }
                    })
                    .await
                };
                if let Err(error) = told.await {
                    tracing::debug!(%error, lease, "a file is not sent ahead of its close");
                    ahead.give_up(round);
                }
            }
        };
        drop(tasks.spawn_until_shutdown(telling));
    }

    /// What is to be told next, which counts as told from now on.
    fn next(&self) -> Option<(u64, u64)> {
        let mut progress = self.lock();
        let due = progress.due();
        match due {
            Some(up_to) => progress.told = up_to,
            None => progress.is_telling = false,
        }
        due.map(|up_to| (progress.round, up_to))
    }

    /// The right to send ahead in `round`.
    async fn grant(&self, shared: &Shared, lease: u64, round: u64) -> Result<v1::SignedGrant> {
        let granted = self.lock().granted.clone();
        if let Some((_, grant)) = granted.filter(|(of, _)| *of == round) {
            return Ok(grant);
        }
        let call = |channel| {
            let request = v1::PrepareUploadRequest { lease };
            async move { master::writing(channel).prepare_upload(request).await }
        };
        let prepared = shared.masters.call("preparing to send ahead", Retry::Yes, call).await?;
        let grant = prepared
            .grant
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the master gave no right to send bytes ahead"))?;
        self.lock().granted = Some((round, grant.clone()));
        Ok(grant)
    }

    fn give_up(&self, round: u64) {
        let mut progress = self.lock();
        if progress.round == round {
            progress.is_given_up = true;
        }
    }

    /// What was not wanted is from now on.
    pub(super) fn resume(&self) {
        self.lock().is_given_up = false;
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn due(&self) -> Option<u64> {
        let least = if self.told == 0 { self.from } else { self.told.saturating_add(STEP) };
        self.in_order.filter(|up_to| !self.is_given_up && *up_to >= least)
    }

    fn next_round(&mut self) {
        self.round += 1;
        self.told = 0;
        self.from = self.in_order.unwrap_or(0).saturating_add(BEGIN);
    }
}
