//! Nodes that are open now, and how; and the nodes of an inode.
//!
//! The kernel holds a node either in passthrough, always with the same backing file, or cached, and answers `EIO` to an
//! open that mixes them. So the mode is chosen when a node's first open is answered and stays until its last release.
//! The kernel leaves a mode before it sends the last RELEASE, so an empty entry here means a free choice there.
//!
//! A node has one set of pages, and reads are not told apart by handle: all who have it open to read see the same version. When another is to be
//! opened, or one that the kernel passes through is to be written and read, the inode gets a node of its own for that (*turn*), which is found under
//! its names from then on. Who has the older one open reads on there.
//!
//! Who opens a node only to write that is passed through, or reads what is written so, goes *beside* it: with the same backing file, and with reads and
//! writes that come here all the same.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use headpond_types::{ContentId, InodeId};
use tokio::sync::Notify;

use crate::source::SourceFile;

/// Power of two, so that threads opening different files do not meet.
const SHARDS: usize = 64;

/// Where the turn begins in a node id. Inode ids are given in order, and are less.
const TURN: u32 = 48;

/// Bits of a node id that are the inode's.
const INODE: u64 = (1 << TURN) - 1;

/// Inodes of a shard whose nodes are remembered although none is open.
const REMEMBERED: usize = 256;

/// The inode that a node id names; not of the mount's root.
pub(super) const fn inode_of(node: u64) -> InodeId {
    InodeId(node & INODE)
}

/// Open nodes.
#[derive(Debug)]
pub(crate) struct OpenTable<F: SourceFile, B> {
    /// Locked for a map operation, and for registering a backing file at a first open (an ioctl that waits for nobody).
    shards: [Mutex<Shard<F, B>>; SHARDS],
    /// How many nodes are open, and inodes have another node than the first: mostly none, and nobody looks.
    known: AtomicU64,
    /// Told whenever a node is passed through no more.
    left: Notify,
}

#[derive(Debug)]
struct Shard<F: SourceFile, B> {
    open: HashMap<u64, Opened<F, B>>,
    /// Of inodes that have more nodes than one.
    turned: HashMap<InodeId, Turned>,
}

/// The nodes of an inode.
#[derive(Debug)]
struct Turned {
    /// Found under its names.
    current: u64,
    /// Those that are open, or may be.
    nodes: Vec<u64>,
}

#[derive(Debug)]
struct Opened<F: SourceFile, B> {
    /// The version that is read; none while and after it is written here.
    file: Option<Arc<F>>,
    passthrough: Option<Registered<F, B>>,
    /// Somebody writes it, or reads what is written, beside those who are passed through, or did so.
    beside: bool,
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

/// Why a node cannot be opened so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The kernel passes it through to those who read it, and cannot have a file mapped that is written at the same time.
    PassedThrough,
    /// It is open in another version: the inode has another node for this by now, found under its names.
    Elsewhere,
}

impl<F: SourceFile, B> Default for Shard<F, B> {
    fn default() -> Self {
        Self { open: HashMap::new(), turned: HashMap::new() }
    }
}

impl<F: SourceFile, B> Default for OpenTable<F, B> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), known: AtomicU64::new(0), left: Notify::new() }
    }
}

impl<F: SourceFile, B> Opened<F, B> {
    /// Whether who has it open reads another version than `content`.
    fn reads_another(&self, content: Option<ContentId>) -> bool {
        let read = self.file.as_ref().and_then(|file| file.attr().content);
        read.is_some() && content.is_some() && read != content
    }

    /// Whether the kernel reads another version than `content`.
    fn passes_another(&self, content: Option<ContentId>) -> bool {
        let passed = self.passthrough.as_ref().and_then(|registered| registered.content);
        passed.is_some() && content.is_some() && passed != content
    }
}

impl<F: SourceFile, B> Shard<F, B> {
    /// The node that is found under the names of `inode`.
    fn current(&self, inode: InodeId) -> u64 {
        self.turned.get(&inode).map_or(inode.0, |turned| turned.current)
    }

    /// The nodes of an inode that is to have another one.
    fn nodes_of(&mut self, inode: InodeId) -> &mut Turned {
        let Self { open, turned } = self;
        if turned.len() >= REMEMBERED {
            turned.retain(|_, turned| turned.nodes.iter().any(|node| open.contains_key(node)));
        }
        turned.entry(inode).or_insert_with(|| Turned { current: inode.0, nodes: vec![inode.0] })
    }

    /// From now on `node` is found under the names of `inode`.
    fn turn_to(&mut self, inode: InodeId, node: u64) {
        let turned = self.nodes_of(inode);
        turned.current = node;
        if !turned.nodes.contains(&node) {
            turned.nodes.push(node);
        }
    }

    /// Gives `inode` a node that nobody has open.
    fn turn(&mut self, inode: InodeId) -> u64 {
        let mut node = self.current(inode);
        while self.open.contains_key(&node) {
            node = node.wrapping_add(1 << TURN);
        }
        self.turn_to(inode, node);
        let Self { open, turned } = self;
        if let Some(turned) = turned.get_mut(&inode) {
            turned.nodes.retain(|other| *other == node || open.contains_key(other));
        }
        node
    }
}

impl<F: SourceFile, B> OpenTable<F, B> {
    /// Counts an open and says how to answer it. `register` offers a complete local copy to the kernel at a first open; `None` means
    /// that passthrough is not to be had. To be answered before the kernel can release it.
    ///
    /// # Errors
    /// [`Refused`]; nothing is counted then.
    pub(crate) fn open(
        &self,
        node: u64,
        opening: Opening<F>,
        register: impl FnOnce(&F::Loan) -> Option<B>,
    ) -> Result<Mode<B>, Refused> {
        let inode = inode_of(node);
        let mut shard = self.shard(node);
        let current = shard.current(inode);
        if current != node {
            if shard.open.contains_key(&current) || shard.open.contains_key(&node) {
                return Err(Refused::Elsewhere);
            }
            // Nobody has either open: the name that led here need not be looked up again.
            self.change(&mut shard, |shard| shard.turn_to(inode, node));
        }
        if let Some(opened) = shard.open.get(&node) {
            match &opening {
                Opening::Read(file) => {
                    let content = file.attr().content;
                    if opened.reads_another(content) || opened.passes_another(content) {
                        self.change(&mut shard, |shard| shard.turn(inode));
                        return Err(Refused::Elsewhere);
                    }
                }
                Opening::Write { reads: true } if opened.passthrough.is_some() => return Err(Refused::PassedThrough),
                Opening::ReadWritten | Opening::Write { .. } => {}
            }
        }
        let opened = match shard.open.entry(node) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let passthrough = match &opening {
                    Opening::Read(file) => file.complete().and_then(|loan| {
                        let content = file.attr().content;
                        Some(Registered { backing: Arc::new(register(&loan)?), _loan: loan, content })
                    }),
                    Opening::ReadWritten | Opening::Write { .. } => None,
                };
                self.known.fetch_add(1, Ordering::SeqCst);
                entry.insert(Opened { file: None, passthrough, beside: false, opens: 0 })
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
            Some(registered) => {
                opened.beside = true;
                Mode::Beside(Arc::clone(&registered.backing))
            }
            None => Mode::Cached,
        })
    }

    /// The node under which a name of `inode` is found that says that its content is `content`: another one than before where that is open in another
    /// version.
    pub(crate) fn node_to_show(&self, inode: InodeId, content: Option<ContentId>) -> u64 {
        if self.known.load(Ordering::SeqCst) == 0 {
            return inode.0;
        }
        let mut shard = self.shard(inode.0);
        let current = shard.current(inode);
        if shard.open.get(&current).is_some_and(|opened| opened.reads_another(content)) {
            return self.change(&mut shard, |shard| shard.turn(inode));
        }
        current
    }

    /// Changes which nodes inodes have, and counts those with another than the first.
    fn change<T>(&self, shard: &mut Shard<F, B>, change: impl FnOnce(&mut Shard<F, B>) -> T) -> T {
        let before = shard.turned.len() as u64;
        let changed = change(shard);
        self.known.fetch_add(shard.turned.len() as u64, Ordering::SeqCst);
        self.known.fetch_sub(before, Ordering::SeqCst);
        changed
    }

    /// Gives the inode another node if the kernel passes this one through, so that it can be written and read there.
    ///
    /// # Errors
    /// [`Refused::Elsewhere`] when it has another one; [`Refused::PassedThrough`] when somebody writes it beside those who are passed through, or reads
    /// what is written: he would not hear of it.
    pub(crate) fn turn_from_passed_through(&self, node: u64) -> Result<(), Refused> {
        let mut shard = self.shard(node);
        let inode = inode_of(node);
        if shard.current(inode) != node {
            return Err(Refused::Elsewhere);
        }
        match shard.open.get(&node) {
            Some(Opened { passthrough: Some(_), beside: true, .. }) => Err(Refused::PassedThrough),
            Some(Opened { passthrough: Some(_), .. }) => {
                self.change(&mut shard, |shard| shard.turn(inode));
                Err(Refused::Elsewhere)
            }
            _ => Ok(()),
        }
    }

    /// Whether this is the node that is found under the inode's names.
    pub(crate) fn is_current(&self, node: u64) -> bool {
        self.known.load(Ordering::SeqCst) == 0 || self.shard(node).current(inode_of(node)) == node
    }

    /// All nodes of an inode that the kernel may have open or find.
    pub(crate) fn nodes(&self, inode: InodeId) -> Vec<u64> {
        let shard = self.shard(inode.0);
        let mut nodes = shard.turned.get(&inode).map(|turned| turned.nodes.clone()).unwrap_or_default();
        if !nodes.contains(&inode.0) {
            nodes.push(inode.0);
        }
        nodes
    }

    /// Those that are open.
    pub(crate) fn open_nodes(&self, inode: InodeId) -> Vec<u64> {
        let mut nodes = self.nodes(inode);
        let shard = self.shard(inode.0);
        nodes.retain(|node| shard.open.contains_key(node));
        nodes
    }

    /// Whether anybody has the inode open.
    pub(crate) fn is_open(&self, inode: InodeId) -> bool {
        !self.open_nodes(inode).is_empty()
    }

    /// Whether the kernel reads the node from a backing file.
    pub(crate) fn is_passed_through(&self, node: u64) -> bool {
        self.shard(node).open.get(&node).is_some_and(|opened| opened.passthrough.is_some())
    }

    /// Whether the kernel may read the node from another version than who reads it here.
    pub(crate) fn is_read_as_another(&self, node: u64) -> bool {
        self.shard(node).open.get(&node).is_some_and(|opened| {
            let content = opened.file.as_ref().and_then(|file| file.attr().content);
            opened.passthrough.as_ref().is_some_and(|registered| content.is_none() || registered.content != content)
        })
    }

    /// Waits until the kernel does not read the node from a backing file.
    pub(crate) async fn until_not_passed_through(&self, node: u64) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // Before looking, so that none falls between.
            left.as_mut().enable();
            if !self.is_passed_through(node) {
                return;
            }
            left.await;
        }
    }

    /// The node was written: the version that is read is not known any more.
    pub(crate) fn outdate(&self, node: u64) {
        let file = self.shard(node).open.get_mut(&node).and_then(|opened| opened.file.take());
        drop(file);
    }

    /// The version that is read from now on, where none is known of a node that is open.
    pub(crate) fn adopt(&self, node: u64, file: &Arc<F>) {
        if let Some(opened) = self.shard(node).open.get_mut(&node) {
            opened.file.get_or_insert_with(|| Arc::clone(file));
        }
    }

    /// Takes back one open; whether it was the last of the inode.
    pub(crate) fn release(&self, node: u64) -> bool {
        let mut shard = self.shard(node);
        if let Some(opened) = shard.open.get_mut(&node) {
            opened.opens -= 1;
            if opened.opens > 0 {
                return false;
            }
        }
        let last = shard.open.remove(&node);
        drop(shard);
        if last.is_some() {
            self.known.fetch_sub(1, Ordering::SeqCst);
        }
        if last.is_some_and(|opened| opened.passthrough.is_some()) {
            self.left.notify_waiters();
        }
        !self.is_open(inode_of(node))
    }

    /// The file that the node is open as.
    pub(crate) fn file(&self, node: u64) -> Option<Arc<F>> {
        self.shard(node).open.get(&node)?.file.clone()
    }

    /// Nodes that are open now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().open.len()).sum()
    }

    /// The shard of an inode and all its nodes.
    fn shard(&self, node: u64) -> MutexGuard<'_, Shard<F, B>> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
        let index = node as usize % SHARDS;
        // No operation under the lock leaves a map half changed.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
