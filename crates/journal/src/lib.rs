//! The replicated log of commands: Raft, log files, packing and recovery.

mod machine;

pub use machine::{Position, StateMachine};
