//! The pure state machine of the namespace and its tables.
//!
//! [`Namespace`] takes [`Command`]s and answers an [`Outcome`] for each: a reply, and the effects on what others may have cached. It
//! reads no clock, no randomness and no network, so the same commands give the same rows everywhere. Reads go through a
//! [`Snapshot`].
//!
//! Invariants, on which the modules build:
//! 1. Inode ids are given in order and never again; the root has 1.
//! 2. An inode has a row exactly when its parent's entry leads to it (`rows`).
//! 3. Rows depend on the sequence of commands alone, not on how it was cut into batches.
//! 4. Mount points and the directories above them stay, whatever under stores show there.

mod alone;
mod apply;
mod codec;
mod command;
mod described;
mod dirty;
mod displaced;
mod error;
mod header;
mod inode;
mod links;
mod mounts;
mod namespace;
mod observed;
mod outcome;
mod own;
mod pending;
mod persistence;
#[cfg(test)]
mod reference;
mod relocation;
mod reply;
mod rows;
mod snapshot;
mod unsettled;
mod unstored;
mod view;
mod xattr;

pub use command::{
    AttrChange, ClientSession, Command, Dirty, Due, Durability, Effect, Left, Mount, MovedFile, Observed, ObservedKind,
    Outcome, Owner, PersistBegun, Persistence, Refusal, Reply, Version,
};
pub use displaced::{RESERVED, displaced_inode, displaced_key};
pub use namespace::Namespace;
pub use relocation::{Relocation, overlap};
pub use snapshot::{Remain, Remaining, Snapshot};
pub use unstored::Unstored;
pub use view::{Counts, Listed, Location};
pub use xattr::{Xattr, XattrChange};
