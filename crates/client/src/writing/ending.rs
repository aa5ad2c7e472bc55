//! The end of a writer, in the background.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_proto::v1;
use headpond_types::ContentId;
use tokio::{sync::Notify, time::sleep};

use super::{FileWriter, ahead::Changed, staged::Staged};
use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// How long the worker may take, which computes checksums of what it keeps. Nobody waits for it.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long leases are gathered that are given back in one call.
const GATHERING: Duration = Duration::from_millis(4);

impl FileWriter {
    /// What the staged bytes are called in the under store, if all of them are there.
    pub(super) fn adoptable(&self) -> Option<ContentId> {
        let state = self.lock();
        let is_persisted = state.changes == state.persisted && !state.unsure && !state.unlinked;
        state.attr.content.filter(|_| is_persisted && state.lost.is_none())
    }

    /// Cuts the file to nothing by beginning another staged file, if this one has a version that the under store lacks: readers and the under store get
    /// that as it was acknowledged, of which nothing has to be kept for it. Whether it did; the caller lets nobody else change anything.
    pub(super) async fn cut_apart(&self) -> bool {
        let Ok(unanswered) = self.persisting.try_lock() else { return false };
        let Some(staged) = self.staged.get().filter(|_| unanswered.is_none()) else { return false };
        if staged.settle().await.is_err() {
            return false;
        }
        let content = {
            let mut state = self.lock();
            let is_kept = state.attr.dirty && !state.unlinked && state.lost.is_none();
            let content = state.attr.content.filter(|content| is_kept && staged.is_version(*content));
            let Some(content) = content else { return false };
            // Whoever reads from now on needs none of its bytes.
            self.ahead.begin(Changed::Cut(0));
            state.change(0);
            state.room = state.room.anew();
            content
        };
        self.ahead.made(Changed::Cut(0));
        if let Some(staged) = self.staged.take()
            && let Err(error) = staged.end(Some(content), staged.patience()).await
        {
            tracing::debug!(%error, lease = self.lease().id, "a staged file could not be ended: its worker clears it away");
        }
        true
    }
}

/// Leases that are to be given back. Many are told of in one call: nobody waits for that but who wants to write one of the files next, and he
/// [hurries](Returns::hurry).
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// A leaf lock.
    leases: Mutex<Leases>,
    hurried: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    waiting: Vec<u64>,
    is_telling: bool,
}

impl Returns {
    /// Somebody waits for a lease that may be among them.
    pub(crate) fn hurry(&self) {
        if !self.lock().waiting.is_empty() {
            self.hurried.notify_one();
        }
    }

    /// Adds a lease; whether it is for the caller to see to it that they are told of.
    fn add(&self, lease: u64) -> bool {
        let mut leases = self.lock();
        leases.waiting.push(lease);
        !std::mem::replace(&mut leases.is_telling, true)
    }

    /// What is to be told of now. With nothing left, nobody tells any more.
    fn take(&self) -> Option<Vec<u64>> {
        let mut leases = self.lock();
        let taken = std::mem::take(&mut leases.waiting);
        leases.is_telling = !taken.is_empty();
        (!taken.is_empty()).then_some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a lease back and ends what was staged under it. The two need nothing of each other: whoever wants to write the file next
/// does not wait until its bytes are a cached content.
pub(super) fn end(shared: Arc<Shared>, lease: u64, staged: Option<Arc<Staged>>, content: Option<ContentId>) {
    let (tasks, runtime) = (shared.writers.endings().clone(), shared.runtime.clone());
    let _entered = runtime.enter();
    if let Some(staged) = staged {
        drop(tasks.spawn(async move {
            if let Err(error) = staged.end(content, PATIENCE).await {
                tracing::debug!(%error, lease, "a staged file could not be ended: its worker clears it away");
            }
        }));
    }
    if shared.writers.returns().add(lease) {
        drop(tasks.spawn(give_back(shared)));
    }
}

/// Tells the master of leases until none is left.
async fn give_back(shared: Arc<Shared>) {
    let returns = shared.writers.returns();
    loop {
        tokio::select! {
            () = sleep(GATHERING) => {}
            () = returns.hurried.notified() => {}
            () = shared.tasks.shutdown().begun() => {}
        }
        let Some(leases) = returns.take() else { return };
        let call = |channel| {
            let request = v1::EndWritingRequest { leases: leases.clone() };
            async move { master::writing(channel).end_writing(request).await }
        };
        if let Err(failed) = shared.masters.call("end of writing", Retry::Yes, call).await {
            tracing::debug!(error = %failed.error, ?leases, "write leases could not be given back: their term ends them");
        }
    }
}
