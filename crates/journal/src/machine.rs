//! What a journal drives: a deterministic state machine over tables of its own.

use std::fmt::Debug;

use headpond_types::Result;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A place in the journal. Positions are ordered; each entry's is larger than any before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Raft term in which the entry was proposed.
    pub term: u64,
    /// Number of the entry; without gaps.
    pub index: u64,
}

/// A state machine whose tables may lag behind on disk: what they lost in a crash is applied to them again.
///
/// All methods block on the tables' IO; the journal calls them on threads of its own. It never calls
/// [`StateMachine::apply`] twice at once, but the others at any time.
pub trait StateMachine: Send + Sync + 'static {
    /// A change. It carries every time, identity and random number that applying it needs.
    type Command: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;
    /// What applying one command gives.
    type Outcome: Send + Sync + 'static;

    /// The position that the tables are at; `None` when nothing was applied yet.
    ///
    /// # Errors
    /// When the tables cannot be read.
    fn applied(&self) -> Result<Option<Position>>;

    /// Applies `commands` in order and moves the tables to `at`, all in one transaction, and gives one outcome for each
    /// command. The commands may come from several entries of the journal, of which `at` is the last; there may be none.
    /// The result depends on nothing but the tables and the commands. Need not be durable when it returns.
    ///
    /// # Errors
    /// When the tables cannot be read or written. Nothing of the call has happened then, and the journal stops.
    fn apply(&self, at: Position, commands: &[&Self::Command]) -> Result<Vec<Self::Outcome>>;

    /// Makes durable what was applied until the call. The journal drops no entry before.
    ///
    /// # Errors
    /// When the tables cannot be written.
    fn make_durable(&self) -> Result<()>;
}
