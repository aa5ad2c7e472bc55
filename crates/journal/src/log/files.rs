//! Writing the log files.
//!
//! Files are extended with zeros ahead of use: a sync of bytes that are allocated already has no metadata to write, which makes
//! 1.6 times as many syncs a second (measured on ext4).

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fail::fail_point;

use super::{
    frame,
    index::{Index, Segment},
    record::{Record, State},
    recover::{recover, segment_path},
};
use crate::{config::JournalConfig, directory::DirectoryLock, error::JournalError};

const ZEROS: &[u8] = &[0; 1 << 18];

/// The files, for the one thread that writes them.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    segment_bytes: u64,
    extend_bytes: u64,
    number: u64,
    path: PathBuf,
    file: Arc<File>,
    /// Where the next frame goes.
    offset: u64,
    /// Bytes of the file, all zeros from `offset` on.
    allocated: u64,
    /// Number of the next frame.
    sequence: u64,
    /// The last frame known to be on disk.
    durable: u64,
    state: State,
    index: Arc<Mutex<Index>>,
    buffer: Vec<u8>,
    _lock: DirectoryLock,
}

impl Files {
    /// Recovers the files in the directory or makes the first.
    pub(crate) fn open(config: &JournalConfig, lock: DirectoryLock) -> Result<Self, JournalError> {
        let mut index = Index::default();
        let dir = config.dir.clone();
        let tail = recover(&dir, &mut index)?;
        let found = tail.as_ref().map(|tail| (tail.number, tail.offset, tail.sequence));
        let state = tail.map(|tail| tail.state).unwrap_or_default();
        let (number, offset, sequence) = found.unwrap_or((0, 0, 1));
        let path = segment_path(&dir, number);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = Arc::new(file.map_err(JournalError::io("opening", &path))?);
        let allocated = file.metadata().map_err(JournalError::io("reading", &path))?.len();
        let mut files = Self {
            dir,
            segment_bytes: config.segment_bytes,
            extend_bytes: config.extend_bytes,
            number,
            path,
            file,
            offset,
            allocated,
            sequence,
            durable: sequence - 1,
            state,
            index: Arc::new(Mutex::new(index)),
            buffer: Vec::new(),
            _lock: lock,
        };
        if found.is_none() {
            files.begin_segment(0)?;
        }
        Ok(files)
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    pub(crate) const fn index(&self) -> &Arc<Mutex<Index>> {
        &self.index
    }

    /// Writes `records` behind all others. They are durable after the next [`Files::sync`].
    pub(crate) fn write<'r>(&mut self, records: impl Iterator<Item = &'r Record>) -> Result<(), JournalError> {
        if self.offset >= self.segment_bytes {
            self.sync()?;
            self.begin_segment(self.number + 1)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut placed = Vec::new();
        for record in records {
            placed.push((record, self.offset + buffer.len() as u64));
            frame::put(&mut buffer, self.sequence, self.durable, |out| record.encode(out));
            self.sequence += 1;
        }
        self.extend_to(self.offset + buffer.len() as u64)?;
        self.file.write_all_at(&buffer, self.offset).map_err(JournalError::io("writing", &self.path))?;
        self.offset += buffer.len() as u64;
        self.buffer = buffer;
        let mut index = lock(&self.index);
        for (record, offset) in placed {
            note(&mut index, &mut self.state, record, self.number, offset);
        }
        index.set_used(self.number, self.offset);
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        if self.durable + 1 < self.sequence {
            self.file.sync_data().map_err(JournalError::io("syncing", &self.path))?;
            self.durable = self.sequence - 1;
        }
        Ok(())
    }

    /// Writes the state once more, so that what was written last is known to have been durable, too.
    pub(crate) fn seal(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let state = Record::State(self.state.clone());
        self.write(std::iter::once(&state))?;
        self.sync()
    }

    /// Removes files that hold nothing that is needed. The record that says so is durable.
    pub(crate) fn remove_obsolete(&self) -> Result<(), JournalError> {
        let purged = self.state.purged.map(|id| id.index);
        loop {
            let obsolete = lock(&self.index).obsolete(self.number, purged);
            let Some((number, path)) = obsolete else { return Ok(()) };
            fs::remove_file(&path).map_err(JournalError::io("removing", &path))?;
            fail_point!("checkpoint::dropped");
            lock(&self.index).remove_segment(number);
        }
    }

    /// From here on writes fail.
    #[cfg(test)]
    pub(super) fn deny_writes(&mut self) {
        self.file = Arc::new(File::open(&self.path).expect("opens"));
    }

    /// From here on writes succeed, and nothing can be made durable.
    #[cfg(test)]
    pub(super) fn deny_syncs(&mut self) {
        self.file = Arc::new(OpenOptions::new().write(true).open("/dev/null").expect("opens"));
    }

    /// Goes on in a new file. All that was written before is durable.
    fn begin_segment(&mut self, number: u64) -> Result<(), JournalError> {
        let path = segment_path(&self.dir, number);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        self.file = Arc::new(file.map_err(JournalError::io("making", &path))?);
        (self.number, self.path, self.offset, self.allocated) = (number, path.clone(), 0, 0);
        let segment = Segment { path, file: Arc::clone(&self.file), used: 0, last_entry: None };
        lock(&self.index).add_segment(number, segment);
        let state = Record::State(self.state.clone());
        self.write(std::iter::once(&state))?;
        self.file.sync_all().map_err(JournalError::io("syncing", &self.path))?;
        sync_directory(&self.dir)?;
        self.durable = self.sequence - 1;
        Ok(())
    }

    fn extend_to(&mut self, end: u64) -> Result<(), JournalError> {
        let target = end.next_multiple_of(self.extend_bytes.max(1));
        while self.allocated < end {
            let length = ZEROS.len().min(usize::try_from(target - self.allocated).unwrap_or(usize::MAX));
            let zeros = &ZEROS[..length];
            self.file.write_all_at(zeros, self.allocated).map_err(JournalError::io("extending", &self.path))?;
            self.allocated += length as u64;
        }
        Ok(())
    }
}

/// What a record that was written changes.
fn note(index: &mut Index, state: &mut State, record: &Record, number: u64, offset: u64) {
    match record {
        Record::State(_) => {}
        Record::Entry(entry) => assert!(index.push(entry.at, number, offset), "{:?} is not the next entry", entry.at),
        Record::Vote(vote) => state.vote = Some(*vote),
        Record::Committed(id) => state.committed = Some(*id),
        Record::Truncate(from) => index.truncate(*from),
        Record::Purge(id) => {
            state.purged = Some(*id);
            index.purge(id.index);
        }
        Record::Membership(membership) => state.membership = membership.clone(),
    }
}

fn sync_directory(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(JournalError::io("syncing", dir))
}

/// Every change of an index is one call, so a panic elsewhere leaves it whole.
pub(crate) fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
