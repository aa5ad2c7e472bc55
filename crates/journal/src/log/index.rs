//! Where in the files each entry is.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    frame::{Frame, HEADER},
    record::{RawEntry, Record},
};
use crate::{error::JournalError, machine::Position};

/// The files and the entries in them. Entries are numbered without gaps.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Number of the first entry in `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    /// By number.
    segments: BTreeMap<u64, Segment>,
}

/// Where an entry is: 24 bytes for each that is kept.
#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    segment: u64,
    offset: u64,
}

/// A log file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    /// Bytes of frames in it.
    pub(crate) used: u64,
    /// The highest number of an entry in it.
    pub(crate) last_entry: Option<u64>,
}

/// Where a frame is, to be read without the index.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    file: Arc<File>,
    offset: u64,
}

impl Index {
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    pub(crate) fn last(&self) -> Option<Position> {
        let slot = self.slots.back()?;
        Some(Position { term: slot.term, index: self.end() - 1 })
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Bytes of frames in all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.used).sum()
    }

    pub(crate) fn add_segment(&mut self, number: u64, segment: Segment) {
        self.segments.insert(number, segment);
    }

    pub(crate) fn remove_segment(&mut self, number: u64) {
        self.segments.remove(&number);
    }

    pub(crate) fn set_used(&mut self, number: u64, used: u64) {
        self.segments.get_mut(&number).expect("the file is known").used = used;
    }

    /// Adds the next entry; `false` when it is not the next.
    pub(crate) fn push(&mut self, at: Position, segment: u64, offset: u64) -> bool {
        if self.slots.is_empty() {
            self.first = at.index;
        } else if at.index != self.end() {
            return false;
        }
        self.slots.push_back(Slot { term: at.term, segment, offset });
        let segment = self.segments.get_mut(&segment).expect("the file is known");
        segment.last_entry = segment.last_entry.max(Some(at.index));
        true
    }

    pub(crate) fn truncate(&mut self, from: u64) {
        let kept = from.saturating_sub(self.first);
        self.slots.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    pub(crate) fn purge(&mut self, upto: u64) {
        while !self.slots.is_empty() && self.first <= upto {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// The oldest file if nothing in it is needed and it is not `active`.
    pub(crate) fn obsolete(&self, active: u64, purged: Option<u64>) -> Option<(u64, PathBuf)> {
        let (number, segment) = self.segments.first_key_value()?;
        (*number != active && segment.last_entry <= purged).then(|| (*number, segment.path.clone()))
    }

    /// Places of the entries of `range` that are in the files.
    pub(crate) fn places(&self, range: Range<u64>) -> Vec<Place> {
        let (start, end) = (range.start.max(self.first), range.end.min(self.end()));
        let place = |index: u64| {
            let slot = self.slots[usize::try_from(index - self.first).expect("the slots are in memory")];
            let segment = &self.segments[&slot.segment];
            Place { path: segment.path.clone(), file: Arc::clone(&segment.file), offset: slot.offset }
        };
        (start..end.max(start)).map(place).collect()
    }
}

impl Place {
    /// The entry there. Blocks on IO.
    pub(crate) fn read(&self) -> Result<RawEntry, JournalError> {
        let failed = || JournalError::io("reading", &self.path);
        let mut bytes = vec![0; HEADER];
        self.file.read_exact_at(&mut bytes, self.offset).map_err(failed())?;
        let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let past = self.offset.saturating_add(u64::from(length));
        if past <= self.file.metadata().map_err(failed())?.len() {
            bytes.resize(HEADER + length as usize, 0);
            self.file.read_exact_at(&mut bytes[HEADER..], self.offset + HEADER as u64).map_err(failed())?;
        }
        match Frame::read(&bytes).and_then(|frame| Record::decode(frame.body)) {
            Some(Record::Entry(entry)) => Ok(entry),
            _ => Err(JournalError::Damaged {
                path: self.path.clone(),
                offset: self.offset,
                what: "an entry does not match its checksum",
            }),
        }
    }
}

/// The bytes of an entry's payload.
pub(crate) const fn payload_bytes(entry: &RawEntry) -> usize {
    match &entry.payload {
        super::record::Payload::Blank => 0,
        super::record::Payload::Commands(bytes) | super::record::Payload::Membership(bytes) => Bytes::len(bytes),
    }
}
