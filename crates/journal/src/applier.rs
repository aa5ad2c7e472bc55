//! The state machine as Raft sees it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fail::fail_point;
use headpond_types::{Error, ErrorKind, Result};
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError,
    storage::RaftStateMachine,
};

use crate::{
    blocking::blocking,
    machine::StateMachine,
    raft::{Checkpoint, Entry, LogId, Node, NodeId, Outcomes, StorageError, StoredMembership, Types, log_id, position},
    status::Progress,
    store::LogStore,
};

/// Applies committed entries to the state machine, all that Raft hands over at once in one transaction.
pub(crate) struct Applier<M: StateMachine> {
    machine: Arc<M>,
    store: LogStore<M>,
    applied: Option<LogId>,
    membership: StoredMembership,
    progress: Arc<Progress>,
}

impl<M: StateMachine> Applier<M> {
    /// `applied` and `membership` are as of the tables and the log.
    pub(crate) fn new(
        machine: Arc<M>,
        store: LogStore<M>,
        applied: Option<LogId>,
        membership: StoredMembership,
        progress: Arc<Progress>,
    ) -> Self {
        progress.set_applied(applied.as_ref().map(position));
        Self { machine, store, applied, membership, progress }
    }
}

impl<M: StateMachine> RaftStateMachine<Types<M>> for Applier<M> {
    type SnapshotBuilder = Checkpointer<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes<M::Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry<M>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else { return Ok(Vec::new()) };
        let mut commands = Vec::new();
        for entry in &entries {
            if let EntryPayload::Normal(batch) = &entry.payload {
                commands.extend(batch.commands());
            }
        }
        let outcomes = guarded(|| self.machine.apply(position(&last), &commands)).map_err(|error| {
            self.progress.stop(&error);
            StorageIOError::apply(last, AnyError::new(&error))
        })?;
        assert_eq!(outcomes.len(), commands.len(), "the state machine gives one outcome for each command");
        self.applied = Some(last);
        self.progress.set_applied(Some(position(&last)));
        for entry in &entries {
            if let EntryPayload::Membership(membership) = &entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                let saved = self.store.save_membership(self.membership.clone());
                saved.map_err(|error| StorageIOError::write(AnyError::new(&error)))?;
            }
        }
        self.store.applied(last.index);
        Ok(share_out(&entries, outcomes))
    }

    async fn get_snapshot_builder(&mut self) -> Checkpointer<M> {
        Checkpointer {
            machine: Arc::clone(&self.machine),
            applied: self.applied,
            membership: self.membership.clone(),
            progress: Arc::clone(&self.progress),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Checkpoint>, StorageError> {
        Err(no_shipping())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<NodeId, Node>,
        _: Box<Checkpoint>,
    ) -> Result<(), StorageError> {
        Err(no_shipping())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types<M>>>, StorageError> {
        // The tables are the checkpoint; Raft asks for a new one where it needs one.
        Ok(None)
    }
}

/// Makes checkpoints while entries are applied.
pub(crate) struct Checkpointer<M> {
    machine: Arc<M>,
    applied: Option<LogId>,
    membership: StoredMembership,
    progress: Arc<Progress>,
}

impl<M: StateMachine> RaftSnapshotBuilder<Types<M>> for Checkpointer<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types<M>>, StorageError> {
        fail_point!("checkpoint::begin");
        let machine = Arc::clone(&self.machine);
        // Commands go on being applied and made durable meanwhile, as far as the tables let them.
        blocking(move || guarded(|| machine.make_durable())).await.map_err(|error| {
            self.progress.stop(&error);
            StorageIOError::write_snapshot(None, AnyError::new(&error))
        })?;
        fail_point!("checkpoint::made");
        let at = self.applied.as_ref().map(position).unwrap_or_default();
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{}-{}", at.term, at.index),
        };
        Ok(Snapshot { meta, snapshot: Box::new(Checkpoint) })
    }
}

/// Makes an error of a panic: those who wait for the work would wait for ever. Whatever panicked is not used again.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::new(ErrorKind::Internal, format!("the state machine broke an invariant: {text}")))
    })
}

/// Deals the outcomes out to the entries whose commands they are of.
fn share_out<M: StateMachine>(entries: &[Entry<M>], outcomes: Vec<M::Outcome>) -> Vec<Outcomes<M::Outcome>> {
    let mut rest = outcomes.into_iter();
    let share = |entry: &Entry<M>| {
        let count = match &entry.payload {
            EntryPayload::Normal(batch) => batch.commands().len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        Outcomes { outcomes: rest.by_ref().take(count).collect() }
    };
    entries.iter().map(share).collect()
}

fn no_shipping() -> StorageError {
    let error = AnyError::error("this release cannot take a checkpoint from another master: run one master");
    StorageIOError::write_snapshot(None, error).into()
}

/// The tables' position as Raft writes it.
pub(crate) fn applied_log_id<M: StateMachine>(machine: &M) -> Result<Option<LogId>> {
    Ok(machine.applied()?.map(log_id))
}
