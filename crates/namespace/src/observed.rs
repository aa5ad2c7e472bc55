//! What under stores are seen to hold.

use headpond_types::{ContentId, Name, Timestamp};
use serde::{Deserialize, Serialize};

/// An entry as the under store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub object: ObservedKind,
}

/// What an under store holds under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedKind {
    /// A directory: a common prefix, a marker, or a real one.
    Directory,
    /// An object.
    File {
        /// Bytes.
        size: u64,
        /// Last modification.
        mtime: Timestamp,
        /// The store's name of this version.
        version: String,
        /// Identity of its bytes.
        content: ContentId,
    },
}
