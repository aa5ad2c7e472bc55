//! The kernel's protocol, through the `fuser` crate.

mod adapter;
mod answer;
mod capabilities;
mod changes;
mod complaints;
mod convert;
mod invalidation;
mod names;
mod nodes;
mod passthrough;
mod ranges;
mod sender;
mod session;
mod shared;
mod xattrs;

pub(crate) use passthrough::Passthrough;
pub(crate) use session::{Session, SessionOptions};
