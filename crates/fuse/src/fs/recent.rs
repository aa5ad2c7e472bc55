//! Attributes of the inodes that a dataset mount read lately.
//!
//! It hears of no open and no close, yet who has a file open that is replaced meanwhile keeps it: the kernel asks for its
//! attributes when a reader comes to its end, and for pages that it gave up, long after the source has forgotten the inode.

use std::sync::Arc;

use headpond_types::{Attr, InodeId};
use moka::sync::Cache;

/// Most inodes remembered. A reader of one forgotten may get `ESTALE`.
const MOST: u64 = 16 << 10;

/// What was read lately.
#[derive(Debug)]
pub(super) struct RecentAttrs(Cache<InodeId, Arc<Attr>>);

impl Default for RecentAttrs {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl RecentAttrs {
    pub(super) fn keep(&self, inode: InodeId, attr: &Arc<Attr>) {
        if !self.0.contains_key(&inode) {
            self.0.insert(inode, Arc::clone(attr));
        }
    }

    pub(super) fn get(&self, inode: InodeId) -> Option<Arc<Attr>> {
        self.0.get(&inode)
    }
}
