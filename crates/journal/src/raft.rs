//! The words of Raft as this journal uses them.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use openraft::{CommittedLeaderId, RaftTypeConfig, TokioRuntime, impls::OneshotResponder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::machine::{Position, StateMachine};

pub(crate) type NodeId = u64;
pub(crate) type Node = openraft::BasicNode;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, Node>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type Entry<M> = openraft::Entry<Types<M>>;
pub(crate) type Raft<M> = openraft::Raft<Types<M>>;

/// The types of a journal that drives `M`.
pub(crate) struct Types<M>(PhantomData<fn() -> M>);

impl<M: StateMachine> RaftTypeConfig for Types<M> {
    type D = Batch<M::Command>;
    type R = Outcomes<M::Outcome>;
    type NodeId = NodeId;
    type Node = Node;
    type Entry = Entry<M>;
    type SnapshotData = Checkpoint;
    type AsyncRuntime = TokioRuntime;
    type Responder = OneshotResponder<Self>;
}

/// The commands of one entry, with the bytes that stand for them in files and messages.
pub(crate) struct Batch<C> {
    /// Postcard of the commands as a sequence.
    encoded: Bytes,
    commands: Arc<[C]>,
}

/// One outcome for each command of an entry. Stays in the process that proposed.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Outcomes<O> {
    #[serde(skip)]
    pub(crate) outcomes: Vec<O>,
}

/// A checkpoint: with one voter the tables themselves, so nothing but the position that Raft keeps beside it. What a follower
/// needs to fetch the tables' files will be said here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint;

impl<C: DeserializeOwned> Batch<C> {
    /// Takes commands that are encoded one by one already.
    pub(crate) fn new(commands: Vec<C>, encoded: &[Vec<u8>]) -> Result<Self, postcard::Error> {
        let size = encoded.iter().map(Vec::len).sum::<usize>() + 10;
        // A sequence is its length and then its elements.
        let mut bytes = postcard::to_extend(&commands.len(), Vec::with_capacity(size))?;
        for one in encoded {
            bytes.extend_from_slice(one);
        }
        Ok(Self { encoded: bytes.into(), commands: commands.into() })
    }

    pub(crate) fn decode(encoded: Bytes) -> Result<Self, postcard::Error> {
        let commands = postcard::from_bytes::<Vec<C>>(&encoded)?.into();
        Ok(Self { encoded, commands })
    }
}

impl<C> Batch<C> {
    pub(crate) const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    pub(crate) fn commands(&self) -> &[C] {
        &self.commands
    }
}

pub(crate) fn log_id(at: Position) -> LogId {
    LogId::new(CommittedLeaderId::new(at.term, 0), at.index)
}

pub(crate) const fn position(id: &LogId) -> Position {
    Position { term: id.leader_id.term, index: id.index }
}

impl<C> Clone for Batch<C> {
    fn clone(&self) -> Self {
        Self { encoded: self.encoded.clone(), commands: Arc::clone(&self.commands) }
    }
}

impl<C> fmt::Debug for Batch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} commands, {} bytes)", self.commands.len(), self.encoded.len())
    }
}

impl<C> Serialize for Batch<C> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encoded)
    }
}

impl<'de, C: DeserializeOwned> Deserialize<'de> for Batch<C> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Self::decode(bytes.into()).map_err(serde::de::Error::custom)
    }
}

impl<O> fmt::Debug for Outcomes<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outcomes({})", self.outcomes.len())
    }
}

// Raft asks these of a type that has no values.
impl<M> fmt::Debug for Types<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<M> Clone for Types<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Types<M> {}

impl<M> Default for Types<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M> PartialEq for Types<M> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<M> Eq for Types<M> {}

impl<M> PartialOrd for Types<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Types<M> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
