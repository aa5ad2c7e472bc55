//! Inodes that are open now, and how.
//!
//! The kernel holds an inode either in passthrough, always with the same backing file, or cached, and answers `EIO` to an
//! open that mixes them. So the mode is chosen when an inode's first open is answered and stays until its last release.
//! The kernel leaves a mode before it sends the last RELEASE, so an empty entry here means a free choice there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_types::InodeId;

use crate::source::SourceFile;

/// Power of two, so that threads opening different files do not meet.
const SHARDS: usize = 64;

type Shard<F, B> = HashMap<InodeId, Opened<F, B>>;

/// Open inodes, by id.
#[derive(Debug)]
pub(crate) struct OpenTable<F: SourceFile, B> {
    /// Locked for a map operation, and for registering a backing file at a first open (an ioctl that waits for nobody).
    shards: [Mutex<Shard<F, B>>; SHARDS],
}

#[derive(Debug)]
struct Opened<F: SourceFile, B> {
    file: Arc<F>,
    /// Dropped in this order: the registration, then the loan of the file it registers.
    passthrough: Option<(Arc<B>, F::Loan)>,
    opens: u64,
}

/// How an open is to be answered.
#[derive(Debug)]
pub(crate) enum Mode<B> {
    /// The kernel reads the registered file.
    Passthrough(Arc<B>),
    /// The kernel reads through us and keeps pages.
    Cached,
}

impl<F: SourceFile, B> Default for OpenTable<F, B> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl<F: SourceFile, B> OpenTable<F, B> {
    /// Counts an open of `file` and says how to answer it. `register` offers a complete local copy to the kernel at a first
    /// open; `None` means that passthrough is not to be had. To be answered before the kernel can release it.
    pub(crate) fn open(&self, inode: InodeId, file: Arc<F>, register: impl FnOnce(&F::Loan) -> Option<B>) -> Mode<B> {
        let mut shard = self.shard(inode);
        let opened = shard.entry(inode).or_insert_with(|| {
            let passthrough = file.complete().and_then(|loan| Some((Arc::new(register(&loan)?), loan)));
            Opened { file, passthrough, opens: 0 }
        });
        opened.opens += 1;
        match &opened.passthrough {
            Some((backing, _)) => Mode::Passthrough(Arc::clone(backing)),
            None => Mode::Cached,
        }
    }

    /// Takes back one open.
    pub(crate) fn release(&self, inode: InodeId) {
        let mut shard = self.shard(inode);
        let Some(opened) = shard.get_mut(&inode) else { return };
        opened.opens -= 1;
        if opened.opens == 0 {
            let last = shard.remove(&inode);
            drop(shard);
            drop(last);
        }
    }

    /// The file that the inode is open as.
    pub(crate) fn file(&self, inode: InodeId) -> Option<Arc<F>> {
        self.shard(inode).get(&inode).map(|opened| Arc::clone(&opened.file))
    }

    /// Inodes that are open now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    fn shard(&self, inode: InodeId) -> MutexGuard<'_, Shard<F, B>> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
        let index = inode.0 as usize % SHARDS;
        // No operation under the lock leaves a map half changed.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
