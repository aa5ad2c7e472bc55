//! The replicated log of commands: Raft, log files, packing and recovery.
//!
//! A [`Journal`] makes commands durable and applies them to a [`StateMachine`], of which it knows nothing else. One voter by default: the
//! same code as with several, without a network.
//!
//! Invariants:
//! 1. A command is acknowledged only when it is durable in the log and applied to the tables.
//! 2. The log keeps every entry that the tables do not hold durably.
//! 3. The tables never hold an entry that the log never had; opening checks it.
//! 4. After a failed write or sync of the log nothing more is written: what is on disk then is for the next start to find out.

mod applier;
mod blocking;
mod config;
mod directory;
mod error;
mod home;
mod journal;
mod log;
mod machine;
mod network;
mod packer;
mod raft;
mod status;
mod store;

pub use config::JournalConfig;
pub use journal::Journal;
pub use machine::{Position, StateMachine};
pub use status::JournalStatus;
