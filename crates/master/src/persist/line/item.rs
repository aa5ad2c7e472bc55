//! What waits in a line, and what is said of it.

use headpond_namespace::Due;
use headpond_types::{ContentId, InodeId};
use tokio::time::Instant;

use super::linger::Linger;

/// Place in the line.
pub(super) type Place = (u64, Class, InodeId);

/// What comes first among equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A directory below which everything is being made due.
    Tree,
    Plain,
    /// Is seen only after everything before.
    Commit,
}

/// What a row and its inode say, as far as order goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its place among others.
    pub(crate) number: u64,
    /// The number of its row.
    pub(crate) identity: u64,
    pub(crate) due: Due,
    /// Is seen only after everything before.
    pub(crate) barrier: bool,
    /// A directory whose tree is to be made due.
    pub(crate) tree: bool,
    /// Something is to be put into the store: false for a tree that has its marker.
    pub(crate) stores: bool,
    /// There is an object in its place.
    pub(crate) replaces: bool,
    /// There may be an object of it in the store.
    pub(crate) begun: bool,
    /// The same, and elsewhere than its path says.
    pub(crate) elsewhere: bool,
    /// The directory that it is in.
    pub(crate) parent: InodeId,
    /// Bytes.
    pub(crate) size: u64,
    /// Of a file.
    pub(crate) content: Option<ContentId>,
}

/// Whether an item may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// It was changed a moment ago, and is left alone until then.
    Fresh(Instant),
    /// It is being persisted.
    AtWork,
    /// To be tried again later.
    Resting,
}

/// Something in a line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) item: Item,
    pub(super) state: State,
    pub(super) linger: Linger,
}

/// Relocations of the mount that are not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Lowest place in the order of all: who comes after it waits for it.
    pub(crate) first: Option<u64>,
    /// Lowest id of those that are barriers: what is later than that is not to be seen before them.
    pub(crate) first_barrier: Option<u64>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// How many files have a content, and how many of them are due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Users {
    pub(super) all: u32,
    pub(super) due: u32,
}

/// Where an item stands.
pub(super) const fn place(inode: InodeId, item: &Item) -> Place {
    let class = match (item.tree, item.barrier) {
        (true, _) => Class::Tree,
        (false, true) => Class::Commit,
        (false, false) => Class::Plain,
    };
    (item.number, class, inode)
}
