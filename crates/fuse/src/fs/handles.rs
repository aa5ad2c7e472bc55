//! Files that are open for writing, by the handle that the kernel was given. Handle 0 is of those that only read: they are known by
//! their inode.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The handle of who only reads.
pub(crate) const READER: u64 = 0;

/// Writers by handle.
#[derive(Debug)]
pub(super) struct Handles<W> {
    /// Held for a map operation; nothing else is locked inside.
    open: RwLock<HashMap<u64, Arc<W>>>,
    next: AtomicU64,
}

impl<W> Default for Handles<W> {
    fn default() -> Self {
        Self { open: RwLock::default(), next: AtomicU64::new(READER + 1) }
    }
}

impl<W> Handles<W> {
    /// A handle for `writer`.
    pub(super) fn add(&self, writer: Arc<W>) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(handle, writer);
        handle
    }

    /// The writer behind a handle; none behind [`READER`].
    pub(super) fn get(&self, handle: u64) -> Option<Arc<W>> {
        if handle == READER {
            return None;
        }
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    /// Whether a handle has that writer.
    pub(super) fn have(&self, writer: &Arc<W>) -> bool {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().any(|other| Arc::ptr_eq(other, writer))
    }

    /// Takes a handle back.
    pub(super) fn remove(&self, handle: u64) -> Option<Arc<W>> {
        if handle == READER {
            return None;
        }
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&handle)
    }
}
