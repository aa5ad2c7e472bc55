//! What a client tells those who cache on top of it.

use headpond_types::{InodeId, Name};

/// A change that caches above the client (the kernel's) must hear of. The client's own cache has forgotten it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry appeared, changed or went.
    Entry {
        /// The directory that holds it.
        parent: InodeId,
        /// The name; `None`: the listing as a whole.
        name: Option<Name>,
        /// The inode that the name had and that is gone or changed.
        old: Option<InodeId>,
    },
    /// Changes may have been missed (the session broke): nothing cached is known to be current.
    Reset,
}
