//! What a log file holds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    machine::Position,
    raft::{LogId, StoredMembership, Vote},
};

const STATE: u8 = 1;
const ENTRY: u8 = 2;
const VOTE: u8 = 3;
const COMMITTED: u8 = 4;
const TRUNCATE: u8 = 5;
const PURGE: u8 = 6;
const MEMBERSHIP: u8 = 7;

/// One record. Together, in order, they make the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// All that is not an entry, as of here. Every file begins with it, so that older files can go.
    State(State),
    /// The next entry.
    Entry(RawEntry),
    /// The node voted.
    Vote(Vote),
    /// Entries up to here are committed.
    Committed(LogId),
    /// Entries from this index on are void.
    Truncate(u64),
    /// Entries up to here are not needed any more.
    Purge(LogId),
    /// The voters, as of the entry that says so, which is applied.
    Membership(StoredMembership),
}

/// What Raft must remember besides entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// An entry whose payload is bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub(crate) at: Position,
    pub(crate) payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Blank,
    Commands(Bytes),
    /// Postcard of the voters.
    Membership(Bytes),
}

impl Record {
    /// Appends the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::State(state) => put(out, STATE, state),
            Self::Entry(entry) => entry.encode(out),
            Self::Vote(vote) => put(out, VOTE, vote),
            Self::Committed(id) => put(out, COMMITTED, id),
            Self::Truncate(index) => put(out, TRUNCATE, index),
            Self::Purge(id) => put(out, PURGE, id),
            Self::Membership(membership) => put(out, MEMBERSHIP, membership),
        }
    }

    /// `None` when the bytes are not a record that this release writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, body) = bytes.split_first()?;
        match *kind {
            STATE => postcard::from_bytes(body).ok().map(Self::State),
            ENTRY => RawEntry::decode(body).map(Self::Entry),
            VOTE => postcard::from_bytes(body).ok().map(Self::Vote),
            COMMITTED => postcard::from_bytes(body).ok().map(Self::Committed),
            TRUNCATE => postcard::from_bytes(body).ok().map(Self::Truncate),
            PURGE => postcard::from_bytes(body).ok().map(Self::Purge),
            MEMBERSHIP => postcard::from_bytes(body).ok().map(Self::Membership),
            _ => None,
        }
    }
}

impl RawEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(ENTRY);
        out.extend_from_slice(&self.at.term.to_le_bytes());
        out.extend_from_slice(&self.at.index.to_le_bytes());
        let (kind, payload): (u8, &[u8]) = match &self.payload {
            Payload::Blank => (0, &[]),
            Payload::Commands(bytes) => (1, bytes),
            Payload::Membership(bytes) => (2, bytes),
        };
        out.push(kind);
        out.extend_from_slice(payload);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (term, rest) = bytes.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (kind, payload) = rest.split_first()?;
        let payload = match kind {
            0 => Payload::Blank,
            1 => Payload::Commands(Bytes::copy_from_slice(payload)),
            2 => Payload::Membership(Bytes::copy_from_slice(payload)),
            _ => return None,
        };
        let at = Position { term: u64::from_le_bytes(*term), index: u64::from_le_bytes(*index) };
        Some(Self { at, payload })
    }
}

fn put<T: Serialize>(out: &mut Vec<u8>, kind: u8, value: &T) {
    out.push(kind);
    let bytes = postcard::to_allocvec(value).expect("writing to memory cannot fail");
    out.extend_from_slice(&bytes);
}
