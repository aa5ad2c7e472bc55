//! Objects under the names of files that no store holds yet: a rename of such a file onto another leaves the other's object where it is,
//! until the first version of the file takes its place.
//!
//! In memory only, like the files' leases: after a restart of the master such a file is discarded, and the object is found again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use headpond_types::InodeId;

/// An object that is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldObject {
    /// Its key, relative to the mount's prefix.
    pub(crate) key: Vec<u8>,
    /// Its version.
    pub(crate) version: String,
}

/// The objects, by the files that are to replace them.
#[derive(Debug, Default)]
pub(crate) struct Replaced(Mutex<HashMap<InodeId, OldObject>>);

impl Replaced {
    pub(crate) fn note(&self, inode: InodeId, object: OldObject) {
        self.objects().insert(inode, object);
    }

    pub(crate) fn get(&self, inode: InodeId) -> Option<OldObject> {
        self.objects().get(&inode).cloned()
    }

    /// The files that are to replace some.
    pub(crate) fn inodes(&self) -> Vec<InodeId> {
        self.objects().keys().copied().collect()
    }

    pub(crate) fn forget(&self, inode: InodeId) {
        self.objects().remove(&inode);
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<InodeId, OldObject>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
