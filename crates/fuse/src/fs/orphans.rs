//! Writers of files that lost their name while they were open. The bytes are nowhere but with the writer: it stays for those who read
//! them after the last who wrote has closed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_types::InodeId;

/// Writers by inode, each until the inode's last release.
#[derive(Debug)]
pub(super) struct Orphans<W>(Mutex<HashMap<InodeId, Arc<W>>>);

impl<W> Default for Orphans<W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<W> Orphans<W> {
    pub(super) fn keep(&self, inode: InodeId, writer: Arc<W>) {
        let before = self.lock().insert(inode, writer);
        drop(before);
    }

    pub(super) fn let_go(&self, inode: InodeId) {
        let kept = self.lock().remove(&inode);
        // Not under the lock: the last reference may end the writer.
        drop(kept);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InodeId, Arc<W>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
