//! The pure state machine of the namespace and its tables.

mod command;
mod view;

pub use command::{Command, Effect, Mount, Observed, ObservedKind, Outcome, Refusal, Reply};
pub use view::{Counts, Listed, Location};
