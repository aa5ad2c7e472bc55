//! Directories that are open now.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use headpond_types::{Attr, Error, ErrorKind, InodeId, Result};
use tokio::time::Instant;

use super::{
    FileSystem, Source,
    lister::{Fill, Item, Lister},
};

/// Open directories, by the handle that the kernel was given.
#[derive(Debug, Default)]
pub(super) struct DirTable {
    open: Mutex<HashMap<u64, Arc<DirHandle>>>,
    next: AtomicU64,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct DirHandle {
    inode: InodeId,
    /// Held while waiting for a page. The kernel asks one question at a time per open directory.
    lister: tokio::sync::Mutex<Lister>,
    /// The directory changed since it was opened: what is listed is given no validity.
    disturbed: AtomicBool,
}

/// An entry as the kernel is given it.
#[derive(Debug)]
pub(crate) struct DirEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) node: u64,
    /// `None` for `.` and `..`.
    pub(crate) attr: Option<&'a Arc<Attr>>,
    pub(crate) ttl: Duration,
    /// Where the next entry starts.
    pub(crate) next: u64,
}

impl DirTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<DirHandle>>> {
        // No operation under the lock leaves the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Directories that are open now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Marks the open handles of a directory, or all.
    pub(super) fn disturb(&self, dir: Option<InodeId>) {
        for handle in self.lock().values().filter(|handle| dir.is_none_or(|dir| handle.inode == dir)) {
            handle.disturbed.store(true, Ordering::SeqCst);
        }
    }
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// Opens a directory: its handle, and whether the kernel may go on with the listing it has.
    pub(crate) fn open_dir(&self, node: u64) -> (u64, bool) {
        let inode = self.inode_of(node);
        let handle = DirHandle { inode, lister: tokio::sync::Mutex::default(), disturbed: AtomicBool::new(false) };
        let id = self.dirs.next.fetch_add(1, Ordering::Relaxed);
        self.dirs.lock().insert(id, Arc::new(handle));
        (id, self.kept.is_valid(inode))
    }

    /// Closes a directory.
    pub(crate) fn release_dir(&self, handle: u64) {
        let closed = self.dirs.lock().remove(&handle);
        drop(closed);
    }

    /// The open directory with that handle.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none.
    pub(crate) fn dir(&self, handle: u64) -> Result<Arc<DirHandle>> {
        let found = self.dirs.lock().get(&handle).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("directory handle {handle} is not open")))
    }

    /// Hands out entries from `offset` on if some are in memory, or nothing at the end. `false`: wait with
    /// [`FileSystem::read_dir`].
    pub(crate) fn read_dir_now(
        &self,
        dir: &DirHandle,
        offset: u64,
        add: impl FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> bool {
        // At the start the listing is asked for before the dots are given, so that its error reaches the caller at once.
        let Ok(mut lister) = dir.lister.try_lock() else { return false };
        offset > 0 && lister.hand_out(offset, &mut self.filler(dir, add))
    }

    /// Hands out entries from `offset` on, as many as have arrived and fit and at least one; none at the end.
    ///
    /// # Errors
    /// Of the listing. A listing that breaks is never shown as a shorter one.
    pub(crate) async fn read_dir(
        &self,
        dir: &DirHandle,
        offset: u64,
        add: impl FnMut(DirEntry<'_>) -> ControlFlow<()> + Send,
    ) -> Result<()> {
        let mut lister = dir.lister.lock().await;
        if offset == 0 {
            dir.disturbed.store(false, Ordering::SeqCst);
        }
        let mut begin = |after| self.source.list(dir.inode, after);
        self.within("listing a directory", lister.receive(offset, &mut begin)).await?;
        lister.hand_out(offset, &mut self.filler(dir, add));
        if let Some(valid_until) = lister.whole_until() {
            self.kept.keep(dir.inode, valid_until);
            if dir.disturbed.load(Ordering::SeqCst) {
                self.kept.forget(dir.inode);
            }
        }
        Ok(())
    }

    fn filler(&self, dir: &DirHandle, mut add: impl FnMut(DirEntry<'_>) -> ControlFlow<()>) -> impl Fill {
        let now = Instant::now();
        let longest = if dir.disturbed.load(Ordering::SeqCst) { Duration::ZERO } else { self.options.max_ttl };
        let this = self.node_of(dir.inode).unwrap_or(super::ROOT_NODE);
        move |item: Item<'_>, next| match item {
            Item::This => add(DirEntry { name: b".", node: this, attr: None, ttl: Duration::ZERO, next }),
            // Nobody reads the number of "..": programs step up through the kernel, which knows the way.
            Item::Above => add(DirEntry { name: b"..", node: this, attr: None, ttl: Duration::ZERO, next }),
            Item::Entry(name, attr, valid_until) => {
                let ttl = valid_until.saturating_duration_since(now).min(longest);
                let (attr, ttl) = self.as_written(attr, ttl);
                match self.node_to_show(&attr) {
                    Some(node) => add(DirEntry { name, node, attr: Some(&attr), ttl, next }),
                    None => ControlFlow::Continue(()),
                }
            }
        }
    }
}
