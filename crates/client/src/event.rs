//! What a client tells those who cache on top of it.

use headpond_types::{InodeId, Name};

pub use crate::word::Awaited;

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
        /// It was changed through this client.
        own: bool,
        /// The name leads to `old` as before: only what that is has changed.
        same: bool,
        /// To be held until no cache above the client believes otherwise.
        awaited: Awaited,
    },
    /// Changes may have been missed (the session broke): nothing cached is known to be current.
    Reset,
}
