//! The pure state machine of the namespace and its tables.

mod command;

pub use command::{Command, Effect, Mount, Observed, ObservedKind, Outcome, Refusal, Reply};
