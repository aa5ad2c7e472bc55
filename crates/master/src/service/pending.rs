//! What is pending, as a message.

use headpond_proto::v1::{PendingMove, PendingPersist, PendingResponse, PersistState};

use crate::{
    persist::{Dirty, DirtyAmounts, State},
    write::Pending,
};

/// `now` is a number that all that is acknowledged is below.
pub(super) fn pending_response(
    pending: Pending,
    dirty: Vec<Dirty>,
    amounts: DirtyAmounts,
    now: u64,
) -> PendingResponse {
    let moving = pending.moving.into_iter().map(|moving| PendingMove {
        path: moving.path.to_bytes().into(),
        from: moving.from.into(),
        problem: moving.problem.unwrap_or_default(),
        removed: moving.removed,
    });
    let dirty = dirty.into_iter().map(|dirty| PendingPersist {
        path: dirty.path.to_bytes().into(),
        number: dirty.number,
        size: dirty.size,
        holders: dirty.holders,
        state: persist_state(dirty.state).into(),
        reason: dirty.reason,
        barrier: dirty.barrier,
    });
    PendingResponse {
        writing: pending.writing.iter().map(|path| path.to_bytes().into()).collect(),
        moving: moving.collect(),
        dirty: dirty.collect(),
        due: amounts.due.items,
        due_bytes: amounts.due.bytes,
        not_due: amounts.not_due.items,
        not_due_bytes: amounts.not_due.bytes,
        now,
    }
}

const fn persist_state(state: State) -> PersistState {
    match state {
        State::Waiting => PersistState::Waiting,
        State::Persisting => PersistState::Persisting,
        State::Failed => PersistState::Failed,
        State::Deferred => PersistState::Deferred,
        State::Scratch => PersistState::Scratch,
    }
}
