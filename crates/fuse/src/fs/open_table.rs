//! Inodes that are open now, and how.
//!
//! The kernel holds an inode either in passthrough, always with the same backing file, or cached, and answers `EIO` to an
//! open that mixes them. So the mode is chosen when an inode's first open is answered and stays until its last release.
//! The kernel leaves a mode before it sends the last RELEASE, so an empty entry here means a free choice there.
//!
//! In passthrough the kernel reads one content. Who opens the inode for another, or to write, goes *beside* it: with the same backing file,
//! and with reads and writes that come here all the same. Reads that come here are not told apart by handle: an inode has one set of
//! pages. They get what is being written, else the newest version that was opened.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_types::{ContentId, InodeId};
use tokio::sync::Notify;

use crate::source::SourceFile;

/// Power of two, so that threads opening different files do not meet.
const SHARDS: usize = 64;

type Shard<F, B> = HashMap<InodeId, Opened<F, B>>;

/// Open inodes, by id.
#[derive(Debug)]
pub(crate) struct OpenTable<F: SourceFile, B> {
    /// Locked for a map operation, and for registering a backing file at a first open (an ioctl that waits for nobody).
    shards: [Mutex<Shard<F, B>>; SHARDS],
    /// Told whenever an inode is passed through no more.
    left: Notify,
}

#[derive(Debug)]
struct Opened<F: SourceFile, B> {
    /// The newest version that was opened; none while and after it is written here.
    file: Option<Arc<F>>,
    passthrough: Option<Registered<F, B>>,
    opens: u64,
}

/// A backing file that the kernel reads. Dropped in this order: the registration, then the loan of the file it registers.
#[derive(Debug)]
struct Registered<F: SourceFile, B> {
    backing: Arc<B>,
    _loan: F::Loan,
    content: Option<ContentId>,
}

/// What an inode is opened for.
#[derive(Debug)]
pub(crate) enum Opening<F> {
    /// To read a version.
    Read(Arc<F>),
    /// To read what is being written.
    ReadWritten,
    /// To write, and perhaps to read.
    Write {
        /// What is mapped into memory would be that of the backing file.
        reads: bool,
    },
}

/// How an open is to be answered.
#[derive(Debug)]
pub(crate) enum Mode<B> {
    /// The kernel reads the registered file.
    Passthrough(Arc<B>),
    /// Others read the registered file in the kernel; this open reads and writes through us, past the kernel's pages.
    Beside(Arc<B>),
    /// The kernel reads and writes through us and keeps pages.
    Cached,
}

/// The kernel passes the inode through to those who read it, and cannot have a file mapped that is written at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassedThrough;

impl<F: SourceFile, B> Default for OpenTable<F, B> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), left: Notify::new() }
    }
}

impl<F: SourceFile, B> OpenTable<F, B> {
    /// Counts an open and says how to answer it. `register` offers a complete local copy to the kernel at a first open; `None` means
    /// that passthrough is not to be had. To be answered before the kernel can release it.
    ///
    /// # Errors
    /// The inode is passed through, and is to be written and read.
    pub(crate) fn open(
        &self,
        inode: InodeId,
        opening: Opening<F>,
        register: impl FnOnce(&F::Loan) -> Option<B>,
    ) -> Result<Mode<B>, PassedThrough> {
        let mut shard = self.shard(inode);
        let opened = match shard.entry(inode) {
            Entry::Occupied(entry) => {
                let opened = entry.into_mut();
                if opened.passthrough.is_some() && matches!(opening, Opening::Write { reads: true }) {
                    return Err(PassedThrough);
                }
                opened
            }
            Entry::Vacant(entry) => {
                let passthrough = match &opening {
                    Opening::Read(file) => file.complete().and_then(|loan| {
                        let content = file.attr().content;
                        Some(Registered { backing: Arc::new(register(&loan)?), _loan: loan, content })
                    }),
                    Opening::ReadWritten | Opening::Write { .. } => None,
                };
                entry.insert(Opened { file: None, passthrough, opens: 0 })
            }
        };
        opened.opens += 1;
        let content = match opening {
            Opening::Read(file) => {
                let content = file.attr().content;
                opened.file = Some(file);
                content
            }
            Opening::ReadWritten | Opening::Write { .. } => {
                opened.file = None;
                None
            }
        };
        Ok(match &opened.passthrough {
            Some(registered) if content.is_some() && registered.content == content => {
                Mode::Passthrough(Arc::clone(&registered.backing))
            }
            Some(registered) => Mode::Beside(Arc::clone(&registered.backing)),
            None => Mode::Cached,
        })
    }

    /// Whether anybody has the inode open.
    pub(crate) fn is_open(&self, inode: InodeId) -> bool {
        self.shard(inode).contains_key(&inode)
    }

    /// Whether the kernel reads the inode from a backing file.
    pub(crate) fn is_passed_through(&self, inode: InodeId) -> bool {
        self.shard(inode).get(&inode).is_some_and(|opened| opened.passthrough.is_some())
    }

    /// Whether the kernel may read the inode from another version than who reads it here.
    pub(crate) fn is_read_as_another(&self, inode: InodeId) -> bool {
        self.shard(inode).get(&inode).is_some_and(|opened| {
            let content = opened.file.as_ref().and_then(|file| file.attr().content);
            opened.passthrough.as_ref().is_some_and(|registered| content.is_none() || registered.content != content)
        })
    }

    /// Waits until the kernel does not read the inode from a backing file.
    pub(crate) async fn until_not_passed_through(&self, inode: InodeId) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // Before looking, so that none falls between.
            left.as_mut().enable();
            if !self.is_passed_through(inode) {
                return;
            }
            left.await;
        }
    }

    /// The inode was written: the version that is read is not known any more.
    pub(crate) fn outdate(&self, inode: InodeId) {
        let file = self.shard(inode).get_mut(&inode).and_then(|opened| opened.file.take());
        drop(file);
    }

    /// The version that is read from now on, where none is known of an inode that is open.
    pub(crate) fn adopt(&self, inode: InodeId, file: &Arc<F>) {
        if let Some(opened) = self.shard(inode).get_mut(&inode) {
            opened.file.get_or_insert_with(|| Arc::clone(file));
        }
    }

    /// Takes back one open; whether it was the last.
    pub(crate) fn release(&self, inode: InodeId) -> bool {
        let mut shard = self.shard(inode);
        let Some(opened) = shard.get_mut(&inode) else { return true };
        opened.opens -= 1;
        if opened.opens > 0 {
            return false;
        }
        let last = shard.remove(&inode);
        drop(shard);
        if last.is_some_and(|opened| opened.passthrough.is_some()) {
            self.left.notify_waiters();
        }
        true
    }

    /// The file that the inode is open as.
    pub(crate) fn file(&self, inode: InodeId) -> Option<Arc<F>> {
        self.shard(inode).get(&inode)?.file.clone()
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
