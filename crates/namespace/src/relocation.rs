//! What is to be moved in an under store since a rename.

use headpond_types::{InodeId, MountId};
use serde::{Deserialize, Serialize};

/// Objects that are to be moved to where the namespace says that they belong, since a rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    /// Given in order, never again: what of it is changed by a rename or removal goes on under a new one.
    pub id: u64,
    /// Its place in the order in which changes were acknowledged, that of [`crate::Dirty::number`], too: the first id, or the number of what was
    /// put elsewhere than its path says. Who comes after that one waits for it. At most the id.
    pub since: u64,
    /// The mount.
    pub mount: MountId,
    /// What was renamed: a file, or a directory whose files below may still have their old keys.
    pub inode: InodeId,
    /// Where the objects were when it was begun, relative to the mount's prefix: a key, or a prefix ending in `/`.
    pub from: Vec<u8>,
    /// Where else objects of it may be: where the path said that they were to go before it was renamed on or removed.
    pub also: Vec<Vec<u8>>,
    /// Objects, by key and version, of files that are gone because another was renamed onto them. They may be overwritten, and are to
    /// be deleted.
    pub replaced: Vec<(Vec<u8>, String)>,
    /// Objects are moved only when the under store has all that was changed before.
    pub barrier: bool,
}

impl Relocation {
    /// One that is to be begun, and gets its numbers then.
    pub(crate) const fn new(mount: MountId, inode: InodeId, from: Vec<u8>) -> Self {
        Self { id: 0, since: 0, mount, inode, from, also: Vec::new(), replaced: Vec::new(), barrier: false }
    }

    /// All places where objects of it may be. What the under store shows there is passed over.
    pub fn places(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.from).chain(&self.also).map(Vec::as_slice)
    }

    /// Whether the place `key` is one of those, lies below one or above one.
    #[must_use]
    pub fn touches(&self, key: &[u8]) -> bool {
        self.places().any(|place| overlap(place, key))
    }

    /// Whether the place `key` is one of those, or lies below one.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        self.places().any(|place| {
            let bare = place.strip_suffix(b"/").unwrap_or(place);
            key.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }

    pub(crate) fn add_place(&mut self, key: Vec<u8>) {
        if !self.places().any(|place| place == key) {
            self.also.push(key);
        }
    }
}

/// Whether two keys or prefixes, the last with or without `/` at the end, are the same or one lies below the other.
#[must_use]
pub fn overlap(one: &[u8], other: &[u8]) -> bool {
    let bare = |key| <[u8]>::strip_suffix(key, b"/").unwrap_or(key);
    let (one, other) = (bare(one), bare(other));
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || short.is_empty() || rest[0] == b'/')
}
