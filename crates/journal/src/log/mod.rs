//! The log files.
//!
//! A write is made, and synced, on the thread that asks for it: that is the journal's own, which has nothing to do before the write is durable. What is
//! proposed meanwhile is packed into the next entry, so syncs are shared there. After a failed write or sync nothing is known about what is on disk, so the
//! first failure is the last: every later write is refused.

mod files;
mod frame;
mod index;
mod record;
mod recover;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

pub(crate) use self::record::{Payload, RawEntry, Record, State};
use self::{
    files::{Files, lock},
    index::{Index, payload_bytes},
};
use crate::{config::JournalConfig, directory, error::JournalError, machine::Position};

/// The log files.
pub(crate) struct Log {
    /// `None` once they were closed.
    files: Mutex<Option<Files>>,
    index: Arc<Mutex<Index>>,
    failure: OnceLock<String>,
}

impl Log {
    /// Claims the directory and recovers the files. Blocks on IO.
    pub(crate) fn open(config: &JournalConfig) -> Result<(Self, State), JournalError> {
        let files = Files::open(config, directory::claim(&config.dir)?)?;
        files.remove_obsolete()?;
        let state = files.state().clone();
        Ok((Self::of(files), state))
    }

    fn of(files: Files) -> Self {
        let index = Arc::clone(files.index());
        Self { files: Mutex::new(Some(files)), index, failure: OnceLock::new() }
    }

    /// Writes records of which nobody has to know when they are durable. Blocks on IO.
    pub(crate) fn write(&self, records: &[Record]) -> Result<(), JournalError> {
        self.change(|files| files.write(records.iter()))
    }

    /// Writes records and makes them durable. Blocks on IO.
    pub(crate) fn write_durably(&self, records: &[Record]) -> Result<(), JournalError> {
        self.change(|files| {
            files.write(records.iter())?;
            files.sync()?;
            if records.iter().any(|record| matches!(record, Record::Purge(_))) {
                files.remove_obsolete()?;
            }
            Ok(())
        })
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

    /// Ends the last file so that the next start need not look for its end, and gives the directory back. Again, it does nothing. Blocks on IO.
    pub(crate) fn close(&self) -> Result<(), JournalError> {
        let files = self.files().take();
        if self.failure().is_none()
            && let Some(mut files) = files
            && let Err(error) = files.seal()
        {
            drop(self.failure.set(describe(&error)));
        }
        match self.failure() {
            None => Ok(()),
            Some(_) => Err(self.stopped()),
        }
    }

    fn change(&self, work: impl FnOnce(&mut Files) -> Result<(), JournalError>) -> Result<(), JournalError> {
        let mut files = self.files();
        let files = files.as_mut().filter(|_| self.failure().is_none()).ok_or_else(|| self.stopped())?;
        work(files).map_err(|error| {
            let reason = describe(&error);
            tracing::error!(reason, "the journal cannot be written and stops");
            drop(self.failure.set(reason));
            self.stopped()
        })
    }

    /// Held while they are written; nothing else is locked meanwhile but the index.
    fn files(&self) -> MutexGuard<'_, Option<Files>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
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

/// An error with its cause, for those who come too late to have the error itself.
fn describe(error: &JournalError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
