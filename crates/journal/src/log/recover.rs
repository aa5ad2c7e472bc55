//! Reading the log files at start.
//!
//! Reading ends at the first frame that is not whole or not the next. If that frame was durable once, the files are damaged and nothing
//! is touched; otherwise what follows is the rest of a write that a crash cut off: nobody was told of it, and it is cleared
//! away so that it can never be taken for part of a later write.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    frame::{Frame, proves_durable},
    index::{Index, Segment},
    record::{Record, State},
};
use crate::error::JournalError;

/// The end of the log as it was found.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Number of the file to go on with.
    pub(crate) number: u64,
    /// Where in it.
    pub(crate) offset: u64,
    /// The next frame's number.
    pub(crate) sequence: u64,
    pub(crate) state: State,
}

/// The name of the file `number`.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.log"))
}

/// Reads all files into `index`. `None` when there is no log yet. The last file is durable and clean after it.
pub(crate) fn recover(dir: &Path, index: &mut Index) -> Result<Option<Tail>, JournalError> {
    let numbers = segment_numbers(dir)?;
    let mut tail: Option<Tail> = None;
    for (nth, number) in numbers.iter().copied().enumerate() {
        let path = segment_path(dir, number);
        if tail.as_ref().is_some_and(|tail| tail.number + 1 != number) {
            return Err(JournalError::Missing { path: segment_path(dir, number - 1) });
        }
        let bytes = fs::read(&path).map_err(JournalError::io("reading", &path))?;
        let expected = tail.as_ref().map(|tail| tail.sequence);
        let begins = Frame::read(&bytes).filter(|frame| expected.is_none_or(|expected| frame.sequence == expected));
        let Some(begins) = begins else {
            let is_last = nth + 1 == numbers.len();
            if !is_last || Frame::read(&bytes).is_some() || proves_durable(&bytes, expected.unwrap_or(0)) {
                return Err(damaged(&path, 0, "it does not begin where the file before ends"));
            }
            // The crash came while the file was made.
            fs::remove_file(&path).map_err(JournalError::io("removing", &path))?;
            break;
        };
        let state = tail.map(|tail| tail.state);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(JournalError::io("opening", &path))?;
        let segment = Segment { path, file: Arc::new(file), used: 0, last_entry: None };
        tail = Some(read_segment(index, number, segment, &bytes, begins.sequence, state)?);
    }
    if let Some(tail) = &tail {
        check_beginning(dir, index, tail)?;
    }
    Ok(tail)
}

fn segment_numbers(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(JournalError::io("reading directory", dir))? {
        let name = entry.map_err(JournalError::io("reading directory", dir))?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Takes the records of one file. `state` is the one at the end of the file before.
fn read_segment(
    index: &mut Index,
    number: u64,
    segment: Segment,
    bytes: &[u8],
    mut sequence: u64,
    state: Option<State>,
) -> Result<Tail, JournalError> {
    let (path, file) = (segment.path.clone(), Arc::clone(&segment.file));
    index.add_segment(number, segment);
    let mut state = state;
    let mut at = 0;
    while let Some(frame) = Frame::read(&bytes[at..]).filter(|frame| frame.sequence == sequence) {
        let record = Record::decode(frame.body);
        let record = record.ok_or_else(|| damaged(&path, at, "a record is of no known kind"))?;
        if at == 0 && !matches!(record, Record::State(_)) {
            return Err(damaged(&path, at, "it does not begin with a state"));
        }
        let state = state.get_or_insert_default();
        if !take(index, state, record, number, at as u64) {
            return Err(damaged(&path, at, "an entry is missing before it"));
        }
        sequence += 1;
        at += frame.size();
    }
    let rest = &bytes[at..];
    if proves_durable(rest, sequence) {
        return Err(damaged(&path, at, "a record does not match its checksum, and later ones do"));
    }
    if rest.iter().any(|byte| *byte != 0) {
        tracing::warn!(path = %path.display(), offset = at, "dropping the end of the journal, which a crash cut off");
        file.set_len(at as u64).map_err(JournalError::io("shortening", &path))?;
    }
    sync(&file, &path)?;
    index.set_used(number, at as u64);
    Ok(Tail { number, offset: at as u64, sequence, state: state.unwrap_or_default() })
}

/// Takes one record; `false` when it does not fit those before.
fn take(index: &mut Index, state: &mut State, record: Record, number: u64, offset: u64) -> bool {
    match record {
        Record::State(found) => *state = found,
        Record::Entry(entry) => return index.push(entry.at, number, offset),
        Record::Vote(vote) => state.vote = Some(vote),
        Record::Committed(id) => state.committed = Some(id),
        Record::Truncate(from) => index.truncate(from),
        Record::Purge(id) => {
            state.purged = Some(id);
            index.purge(id.index);
        }
        Record::Membership(membership) => state.membership = membership,
    }
    true
}

/// Entries must reach back to what was purged.
fn check_beginning(dir: &Path, index: &mut Index, tail: &Tail) -> Result<(), JournalError> {
    if let Some(purged) = tail.state.purged {
        index.purge(purged.index);
    }
    let needed = tail.state.purged.map_or(0, |purged| purged.index + 1);
    match index.first() {
        Some(first) if first > needed => Err(damaged(&segment_path(dir, tail.number), 0, "older entries are missing")),
        _ => Ok(()),
    }
}

fn sync(file: &File, path: &Path) -> Result<(), JournalError> {
    file.sync_all().map_err(JournalError::io("syncing", path))
}

fn damaged(path: &Path, offset: usize, what: &'static str) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), offset: offset as u64, what }
}
