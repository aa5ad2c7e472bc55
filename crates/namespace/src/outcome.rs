//! What comes of a command.

use headpond_types::{InodeId, Name};

use crate::command::Reply;

/// What a command changed that others may have cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An entry appeared, changed or went.
    Entry {
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
        /// The inode that the name had and that is gone or replaced.
        old: Option<InodeId>,
    },
    /// An entry appeared in a directory that is not completely known: nobody can have its listing.
    Discovered {
        /// The directory.
        parent: InodeId,
        /// The name, which the namespace did not have.
        name: Name,
    },
    /// The mount table changed.
    Mounts,
}

/// A command's answer and effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Goes to who asked.
    pub reply: Reply,
    /// Go to whom they concern.
    pub effects: Vec<Effect>,
}
