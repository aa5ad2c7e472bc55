//! The log as Raft sees it: entries with their commands, the newest of them in memory.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use openraft::{
    AnyError, EntryPayload, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};

use crate::{
    error::JournalError,
    log::{Log, Payload, RawEntry, Record, State},
    machine::StateMachine,
    raft::{Batch, Entry, LogId, StorageError, StoredMembership, Types, Vote, log_id, position},
};

/// Bytes of entries that one read for a follower answers. Tonic's default limit on a message is 4 MiB.
const READ_BYTES: usize = 1 << 20;

/// The log of a state machine `M`. Clones share it.
pub(crate) struct LogStore<M: StateMachine> {
    log: Arc<Log>,
    tail: Arc<Mutex<Tail<M>>>,
}

/// What Raft knows of the log, which may be ahead of the files.
struct Tail<M: StateMachine> {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// `committed` is not in the files.
    owes_committed: bool,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries: those that are not durable or not applied yet.
    entries: VecDeque<Entry<M>>,
}

impl<M: StateMachine> LogStore<M> {
    /// The log in `log`, recovered with `state`.
    pub(crate) fn new(log: Arc<Log>, state: &State) -> Self {
        let last = log.last().map(log_id).max(state.purged);
        let tail = Tail {
            vote: state.vote,
            committed: state.committed,
            owes_committed: false,
            purged: state.purged,
            last,
            entries: VecDeque::new(),
        };
        Self { log, tail: Arc::new(Mutex::new(tail)) }
    }

    /// The last entries that were purged and written.
    pub(crate) fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let tail = self.tail();
        (tail.purged, tail.last)
    }

    /// Lets go of the memory for entries that are applied and so not read soon.
    pub(crate) fn applied(&self, upto: u64) {
        let mut tail = self.tail();
        while tail.entries.front().is_some_and(|entry| entry.log_id.index <= upto) {
            tail.entries.pop_front();
        }
    }

    /// Records the voters as of an applied entry, so that the entry itself may be purged.
    pub(crate) fn save_membership(&self, membership: StoredMembership) -> Result<(), JournalError> {
        self.log.write(&[Record::Membership(membership)])
    }

    fn tail(&self) -> MutexGuard<'_, Tail<M>> {
        // Each change is made of steps that cannot panic.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of `range` that exist, from its start; as many as have `limit` bytes, at least one.
    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<Entry<M>>, JournalError> {
        let (mut entries, from_memory) = {
            let tail = self.tail();
            let in_memory = tail.entries.front().map_or(range.end, |entry| entry.log_id.index);
            let skip = usize::try_from(range.start.saturating_sub(in_memory)).unwrap_or(usize::MAX);
            let newest = tail.entries.iter().skip(skip).take_while(|entry| entry.log_id.index < range.end);
            (newest.cloned().collect::<Vec<_>>(), in_memory.min(range.end))
        };
        if range.start < from_memory {
            let older = self.log.read(range.start..from_memory, limit)?;
            let complete = older.len() as u64 == from_memory - range.start;
            let older = older.into_iter().map(decode).collect::<Result<Vec<_>, _>>();
            let mut older = older?;
            if complete {
                older.append(&mut entries);
            }
            entries = older;
        }
        let mut bytes = 0;
        let within = |entry: &Entry<M>| {
            let first = bytes == 0;
            bytes += entry_bytes(entry).max(1);
            first || bytes <= limit
        };
        let count = entries.iter().map(within).take_while(|within| *within).count();
        entries.truncate(count);
        Ok(entries)
    }
}

impl<M: StateMachine> Clone for LogStore<M> {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log), tail: Arc::clone(&self.tail) }
    }
}

impl<M: StateMachine> RaftLogReader<Types<M>> for LogStore<M> {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<M>>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let (purged, last) = self.bounds();
        let start = start.max(purged.map_or(0, |id| id.index + 1));
        let end = end.min(last.map_or(0, |id| id.index + 1));
        if start >= end {
            return Ok(Vec::new());
        }
        self.read(start..end, usize::MAX).map_err(read_failed)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<M>>, StorageError> {
        self.read(start..end, READ_BYTES).map_err(read_failed)
    }
}

impl<M: StateMachine> RaftLogStorage<Types<M>> for LogStore<M> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<M>>, StorageError> {
        let (last_purged_log_id, last_log_id) = self.bounds();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.log.write_durably(&[Record::Vote(*vote)]);
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        self.tail().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.tail().vote)
    }

    /// It is written with the entries that come next: nobody waits for it, and after a crash the only voter finds out anew.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let mut tail = self.tail();
        tail.committed = committed.max(tail.committed);
        tail.owes_committed = true;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.tail().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types<M>>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<M>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let records = entries.iter().map(|entry| encode(entry).map(Record::Entry));
        let mut records = records.collect::<Result<Vec<_>, _>>().map_err(write_failed)?;
        {
            let mut tail = self.tail();
            if std::mem::take(&mut tail.owes_committed) {
                records.extend(tail.committed.map(Record::Committed));
            }
            tail.last = entries.last().map(|entry| entry.log_id).max(tail.last);
            tail.entries.extend(entries);
        }
        let written = self.log.write_durably(&records);
        callback.log_io_completed(written.map_err(io::Error::other));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let before = match from.index.checked_sub(1) {
            None => None,
            Some(index) => self.try_get_log_entries(index..from.index).await?.first().map(|entry| entry.log_id),
        };
        {
            let mut tail = self.tail();
            while tail.entries.back().is_some_and(|entry| entry.log_id.index >= from.index) {
                tail.entries.pop_back();
            }
            tail.last = before.max(tail.purged);
        }
        self.log.write_durably(&[Record::Truncate(from.index)]).map_err(write_failed)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        {
            let mut tail = self.tail();
            tail.purged = tail.purged.max(Some(upto));
            tail.last = tail.last.max(Some(upto));
        }
        self.applied(upto.index);
        self.log.write_durably(&[Record::Purge(upto)]).map_err(write_failed)
    }
}

fn encode<M: StateMachine>(entry: &Entry<M>) -> Result<RawEntry, JournalError> {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(batch) => Payload::Commands(batch.encoded().clone()),
        EntryPayload::Membership(membership) => Payload::Membership(postcard::to_allocvec(membership)?.into()),
    };
    Ok(RawEntry { at: position(&entry.log_id), payload })
}

fn decode<M: StateMachine>(raw: RawEntry) -> Result<Entry<M>, JournalError> {
    let payload = match raw.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Commands(bytes) => EntryPayload::Normal(Batch::decode(bytes)?),
        Payload::Membership(bytes) => EntryPayload::Membership(postcard::from_bytes(&bytes)?),
    };
    Ok(Entry::<M> { log_id: log_id(raw.at), payload })
}

fn entry_bytes<M: StateMachine>(entry: &Entry<M>) -> usize {
    match &entry.payload {
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        EntryPayload::Normal(batch) => batch.encoded().len(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn read_failed(error: JournalError) -> StorageError {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn write_failed(error: JournalError) -> StorageError {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}
