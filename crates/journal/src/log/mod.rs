//! The log files and the thread that writes them.
//!
//! All writes go through one queue to one thread, so they are durable in the order in which they were asked for. The thread takes all that
//! wait, writes them at once and syncs once. After a failed write or sync nothing is known about what is on disk, so the first
//! failure is the last: every later write is refused.

mod files;
mod frame;
mod index;
mod record;
mod recover;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::{mpsc, oneshot};

pub(crate) use self::record::{Payload, RawEntry, Record, State};
use self::{
    files::{Files, lock},
    index::{Index, payload_bytes},
};
use crate::{config::JournalConfig, directory, error::JournalError, machine::Position};

/// Writes that may wait; Raft has few under way.
const QUEUE: usize = 256;

/// Bytes of entries after which the thread takes no more into one write.
const WRITE_BYTES: usize = 4 << 20;

/// Called on the log's thread when a write is durable or has failed.
pub(crate) type Done = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// The log files.
pub(crate) struct Log {
    queue: mpsc::Sender<Request>,
    index: Arc<Mutex<Index>>,
    failure: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Request {
    /// Without `done` nobody waits for the records to be durable.
    Write { records: Vec<Record>, done: Option<Done> },
    /// Ends the thread.
    Close,
}

impl Log {
    /// Claims the directory, recovers the files and starts the thread. Blocks on IO.
    pub(crate) fn open(config: &JournalConfig) -> Result<(Self, State), JournalError> {
        let files = Files::open(config, directory::claim(&config.dir)?)?;
        files.remove_obsolete()?;
        Self::start(files).map_err(JournalError::io("starting the thread of", &config.dir))
    }

    fn start(files: Files) -> io::Result<(Self, State)> {
        let state = files.state().clone();
        let index = Arc::clone(files.index());
        let (queue, requests) = mpsc::channel(QUEUE);
        let failure = Arc::new(OnceLock::new());
        let noted = Arc::clone(&failure);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || run(files, requests, &noted))?;
        Ok((Self { queue, index, failure, thread: Mutex::new(Some(thread)) }, state))
    }

    /// Queues records; `done` is called once they are durable. Cancelled, it has queued all or none.
    pub(crate) async fn write(&self, records: Vec<Record>, done: Option<Done>) -> Result<(), JournalError> {
        let sent = self.queue.send(Request::Write { records, done }).await;
        sent.map_err(|_| self.stopped())
    }

    /// Writes a record and waits until it is durable.
    pub(crate) async fn write_durably(&self, record: Record) -> Result<(), JournalError> {
        let (sender, receiver) = oneshot::channel();
        // Who stopped waiting does not want to know.
        let done: Done = Box::new(move |result| drop(sender.send(result)));
        self.write(vec![record], Some(done)).await?;
        receiver.await.map_err(|_| self.stopped())?
    }

    /// The last entry in the files.
    pub(crate) fn last(&self) -> Option<Position> {
        lock(&self.index).last()
    }

    /// Bytes of records in the files.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.index).bytes()
    }

    /// Why the log takes no more records, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// The entries of `range` that are in the files, from its start; as many as have `limit` bytes, at least one. Blocks on IO.
    pub(crate) fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<RawEntry>, JournalError> {
        let places = lock(&self.index).places(range);
        let mut entries = Vec::with_capacity(places.len());
        let mut bytes = 0;
        for place in places {
            if bytes >= limit {
                break;
            }
            let entry = place.read()?;
            bytes += payload_bytes(&entry);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Writes out what is queued, ends the thread and gives the directory back.
    pub(crate) async fn close(&self) -> Result<(), JournalError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that ended by itself takes no request.
            drop(self.queue.send(Request::Close).await);
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            assert!(matches!(joined, Ok(Ok(()))), "the journal's thread panicked");
        }
        match self.failure() {
            None => Ok(()),
            Some(_) => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> JournalError {
        JournalError::Stopped { reason: self.failure().unwrap_or("it was shut down").to_owned() }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("last", &self.last()).field("failure", &self.failure()).finish_non_exhaustive()
    }
}

fn run(mut files: Files, mut requests: mpsc::Receiver<Request>, failure: &OnceLock<String>) {
    let mut open = true;
    while open {
        let Some(first) = requests.blocking_recv() else { break };
        let mut records = Vec::new();
        let mut waiting = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write { records: more, done } => {
                    bytes += more.iter().map(record_bytes).sum::<usize>();
                    records.extend(more);
                    waiting.extend(done);
                }
                Request::Close => {
                    open = false;
                    break;
                }
            }
            next = if bytes < WRITE_BYTES { requests.try_recv().ok() } else { None };
        }
        let result = match failure.get() {
            Some(reason) => Err(reason.clone()),
            None => write(&mut files, &records, !waiting.is_empty()).map_err(|error| describe(&error)),
        };
        if let Err(reason) = &result
            && failure.set(reason.clone()).is_ok()
        {
            tracing::error!(reason, "the journal cannot be written and stops");
        }
        for done in waiting {
            done(result.clone().map_err(|reason| JournalError::Stopped { reason }));
        }
    }
    if failure.get().is_none()
        && let Err(error) = files.seal()
    {
        drop(failure.set(describe(&error)));
    }
}

fn write(files: &mut Files, records: &[Record], durably: bool) -> Result<(), JournalError> {
    if records.is_empty() {
        return Ok(());
    }
    files.write(records.iter())?;
    if durably {
        files.sync()?;
    }
    if durably && records.iter().any(|record| matches!(record, Record::Purge(_))) {
        files.remove_obsolete()?;
    }
    Ok(())
}

const fn record_bytes(record: &Record) -> usize {
    match record {
        Record::Entry(entry) => payload_bytes(entry),
        _ => 0,
    }
}

/// An error with its cause, for those who come too late to have the error itself.
fn describe(error: &JournalError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
