//! The writers of a client, by inode.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use headpond_runtime::Tasks;
use headpond_types::InodeId;
use tokio::sync::{Notify, OwnedMutexGuard};

use super::{FileWriter, ending::Returns};

/// Term of a lease before the master has said.
const TERM: Duration = Duration::from_secs(30);

/// The writers that are alive.
#[derive(Debug)]
pub(crate) struct Writers {
    /// Held for a map operation; no other lock is taken inside.
    slots: Mutex<HashMap<InodeId, Slot>>,
    /// Slots with a writer, so that those who write nothing need not lock.
    count: AtomicUsize,
    term_ms: AtomicU64,
    begun: Notify,
    /// What writers leave to be done when they are dropped.
    endings: Tasks,
    /// The leases of writers that were dropped.
    returns: Returns,
}

#[derive(Debug, Default)]
struct Slot {
    writer: Weak<FileWriter>,
    /// Held while the right to write the inode is asked for, so that the second who wants it finds the writer of the first.
    gate: Arc<tokio::sync::Mutex<()>>,
}

/// Whoever asks for the right to write an inode, until this is dropped.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    writers: &'a Writers,
    inode: InodeId,
    gate: Option<OwnedMutexGuard<()>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        drop(self.gate.take());
        self.writers.clear(self.inode);
    }
}

impl Writers {
    pub(crate) fn new() -> Self {
        let (slots, count) = (Mutex::default(), AtomicUsize::new(0));
        Self {
            slots,
            count,
            term_ms: AtomicU64::new(millis(TERM)),
            begun: Notify::new(),
            endings: Tasks::default(),
            returns: Returns::default(),
        }
    }

    /// Leases that are to be given back.
    pub(super) const fn returns(&self) -> &Returns {
        &self.returns
    }

    /// What writers leave to be done when they are dropped.
    pub(crate) const fn endings(&self) -> &Tasks {
        &self.endings
    }

    /// The writer of an inode that can still write. Never waits.
    pub(crate) fn get(&self, inode: InodeId) -> Option<Arc<FileWriter>> {
        if self.is_empty() {
            return None;
        }
        // Held beyond the lock: the last reference takes it.
        let writer = self.lock().get(&inode)?.writer.upgrade();
        writer.filter(|writer| !writer.is_lost())
    }

    /// Whether nothing is being written.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// All that are alive.
    pub(crate) fn all(&self) -> Vec<Arc<FileWriter>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.lock().values().filter_map(|slot| slot.writer.upgrade()).collect()
    }

    /// Waits for whoever asks for the right to write `inode` at the moment.
    pub(super) async fn enter(&self, inode: InodeId) -> Entered<'_> {
        let gate = Arc::clone(&self.lock().entry(inode).or_default().gate);
        let mut entered = Entered { writers: self, inode, gate: None };
        entered.gate = Some(gate.lock_owned().await);
        entered
    }

    /// Adds a writer.
    pub(super) fn put(&self, writer: &Arc<FileWriter>) {
        let mut slots = self.lock();
        slots.entry(writer.inode()).or_default().writer = Arc::downgrade(writer);
        self.count(&slots);
        drop(slots);
        self.set_term(writer.lease().term);
        self.begun.notify_one();
    }

    /// A writer of `inode` is gone.
    pub(super) fn clear(&self, inode: InodeId) {
        let mut slots = self.lock();
        // Another may have taken its place, or be about to.
        if slots.get(&inode).is_some_and(|slot| slot.writer.strong_count() == 0 && Arc::strong_count(&slot.gate) == 1) {
            slots.remove(&inode);
        }
        self.count(&slots);
    }

    fn count(&self, slots: &HashMap<InodeId, Slot>) {
        self.count.store(slots.len(), Ordering::Release);
    }

    /// Waits until a writer was added. Cancel-safe; one waiter.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    pub(super) fn term(&self) -> Duration {
        Duration::from_millis(self.term_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_term(&self, term: Duration) {
        self.term_ms.store(millis(term).max(1), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InodeId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
