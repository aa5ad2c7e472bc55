//! Many commands into few Raft entries.
//!
//! Raft makes one write and one sync of each entry and does them one after the other. So one task takes the first command that waits and
//! all that wait behind it, without waiting for more, and proposes them as one entry: alone, a command waits for nobody, and in
//! a crowd a sync is shared by many.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use headpond_types::{Error, Result};
use openraft::{error::ClientWriteError, raft::ClientWriteResult};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    error::JournalError,
    log::Log,
    machine::StateMachine,
    raft::{Batch, Raft, Types},
    status::Progress,
};

/// A command on its way into the journal.
pub(crate) struct Proposal<M: StateMachine> {
    pub(crate) command: M::Command,
    /// Postcard of the command.
    pub(crate) encoded: Vec<u8>,
    pub(crate) answer: Answer<M>,
    /// Room in the queue, given back with the answer.
    pub(crate) room: OwnedSemaphorePermit,
}

pub(crate) type Answer<M> = oneshot::Sender<Result<<M as StateMachine>::Outcome>>;

/// The task that packs.
pub(crate) struct Packer<M: StateMachine> {
    pub(crate) raft: Raft<M>,
    pub(crate) proposals: mpsc::Receiver<Proposal<M>>,
    pub(crate) entry_bytes: usize,
    pub(crate) entries_in_flight: usize,
    pub(crate) why: Why,
}

/// Finds out why a journal stopped.
#[derive(Clone, Debug)]
pub(crate) struct Why {
    pub(crate) log: Arc<Log>,
    pub(crate) progress: Arc<Progress>,
}

/// Those who wait for an entry.
type Waiting<M> = Vec<(Answer<M>, OwnedSemaphorePermit)>;

impl<M: StateMachine> Packer<M> {
    /// Packs until nobody can propose any more and all that was proposed is answered.
    pub(crate) async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        let mut open = true;
        while open || !in_flight.is_empty() {
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                first = self.proposals.recv(), if open && in_flight.len() < self.entries_in_flight => match first {
                    None => open = false,
                    Some(first) => {
                        let (batch, waiting) = self.pack(first);
                        in_flight.push(propose(self.raft.clone(), batch, waiting, self.why.clone()));
                    }
                }
            }
        }
    }

    fn pack(&mut self, first: Proposal<M>) -> (Result<Batch<M::Command>, JournalError>, Waiting<M>) {
        let (mut commands, mut encoded, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(Proposal { command, encoded: one, answer, room }) = next {
            bytes += one.len();
            commands.push(command);
            encoded.push(one);
            waiting.push((answer, room));
            next = if bytes < self.entry_bytes { self.proposals.try_recv().ok() } else { None };
        }
        (Batch::new(commands, &encoded).map_err(JournalError::from), waiting)
    }
}

/// Proposes one entry and answers those who wait for it. Who stopped waiting is not told.
async fn propose<M: StateMachine>(
    raft: Raft<M>,
    batch: Result<Batch<M::Command>, JournalError>,
    waiting: Waiting<M>,
    why: Why,
) {
    let result = match batch {
        Ok(batch) => write(&raft, batch, &why).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(outcomes) => {
            for ((answer, _room), outcome) in waiting.into_iter().zip(outcomes) {
                drop(answer.send(Ok(outcome)));
            }
        }
        Err(error) => {
            let error = Error::from(error);
            for (answer, _room) in waiting {
                drop(answer.send(Err(Error::new(error.kind(), error.message()))));
            }
        }
    }
}

/// Proposes one entry and waits until it is applied.
pub(crate) async fn write<M: StateMachine>(
    raft: &Raft<M>,
    batch: Batch<M::Command>,
    why: &Why,
) -> Result<Vec<M::Outcome>, JournalError> {
    let receiver = raft.client_write_ff(batch).await.map_err(|error| why.stopped(&error))?;
    let result: ClientWriteResult<Types<M>> = receiver.await.map_err(|error| why.stopped(&error))?;
    match result {
        Ok(response) => Ok(response.data.outcomes),
        Err(ClientWriteError::ForwardToLeader(_)) => Err(JournalError::NotLeading),
        Err(ClientWriteError::ChangeMembershipError(error)) => Err(why.stopped(&error)),
    }
}

impl Why {
    /// The reason, or else what Raft says.
    pub(crate) fn stopped(&self, error: &dyn std::error::Error) -> JournalError {
        let known = self.known();
        JournalError::Stopped { reason: known.unwrap_or_else(|| error.to_string()) }
    }

    pub(crate) fn known(&self) -> Option<String> {
        self.log.failure().or_else(|| self.progress.stopped()).map(str::to_owned)
    }
}
