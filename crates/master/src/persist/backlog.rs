//! What is dirty, in memory: one [`Line`] for each mount.
//!
//! Built from the rows of the namespace at the start, and brought up to date after each command that may have changed them, before the command is
//! answered: by the inodes that it names, and by all rows with numbers that came since. So who asks after an acknowledgement finds what was
//! acknowledged. What it says of a row may be outdated otherwise; who acts on it reads the row first.
//!
//! Lock order: `seen`, then one line; namespace snapshots are taken under them. None is held across an await.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use headpond_namespace::{Dirty, Due, Namespace, Snapshot};
use headpond_types::{ContentId, InodeId, MountId, Result};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::line::{Amount, Item, Line, Moves};
use crate::mount::path_key;

/// Rows that are read at a time.
const PAGE: usize = 1000;

/// The lines of all mounts.
#[derive(Debug)]
pub(crate) struct Backlog {
    namespace: Arc<Namespace>,
    /// How long what was changed is left alone.
    linger: Duration,
    lines: RwLock<HashMap<MountId, Arc<MountLine>>>,
    /// The number up to which all rows were taken over.
    seen: Mutex<u64>,
    /// Whether all rows were read at the start.
    complete: AtomicBool,
    /// Counts what left a line or came to another place in it.
    moved: watch::Sender<u64>,
    /// Tells of mounts that got a line.
    pub(super) grown: Notify,
}

/// One mount's line and who waits for it.
#[derive(Debug)]
pub(crate) struct MountLine {
    line: Mutex<Line>,
    /// Something may go that might not before.
    pub(super) woken: Notify,
}

impl MountLine {
    /// Somebody waits for what is in the line.
    pub(super) fn hurry(&self) {
        if self.lock().hurry() {
            self.woken.notify_one();
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backlog {
    /// Nothing yet. What will be changed is left alone for `linger` before it is persisted, unless somebody waits for it.
    pub(crate) fn new(namespace: Arc<Namespace>, linger: Duration) -> Self {
        Self {
            namespace,
            linger,
            lines: RwLock::default(),
            seen: Mutex::default(),
            complete: AtomicBool::new(false),
            moved: watch::Sender::new(0),
            grown: Notify::new(),
        }
    }

    /// Takes over all rows.
    ///
    /// # Errors
    /// Those of the namespace; nothing is dropped on what is not complete.
    pub(crate) fn load(&self) -> Result<()> {
        self.catch_up()?;
        self.complete.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether all that is dirty is known here.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines().values().all(|line| line.lock().is_empty())
    }

    /// Takes over rows with numbers that came since, and those of `inodes` as they are now. After a failure nothing counts as complete any more.
    pub(crate) fn note(&self, inodes: &[InodeId]) {
        let noted = self.catch_up().and_then(|()| inodes.iter().try_for_each(|inode| self.update(*inode)));
        if let Err(error) = noted {
            tracing::error!(%error, "cannot see what is dirty: restart the master");
            self.complete.store(false, Ordering::Release);
        }
    }

    fn catch_up(&self) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.namespace.snapshot()?;
        let mut after = (*seen, InodeId(u64::MAX));
        loop {
            let rows = snapshot.all_dirty(after, PAGE)?;
            let Some(last) = rows.last() else { break };
            after = (last.number, last.inode);
            for row in &rows {
                self.take_over(row.mount, row.inode)?;
            }
        }
        *seen = snapshot.number().saturating_sub(1).max(*seen);
        Ok(())
    }

    fn update(&self, inode: InodeId) -> Result<()> {
        match self.namespace.snapshot()?.dirty(inode)? {
            Some(dirty) => self.take_over(dirty.mount, inode),
            None => {
                let lines: Vec<_> = self.lines().keys().copied().collect();
                lines.into_iter().try_for_each(|mount| self.take_over(mount, inode))
            }
        }
    }

    /// Takes over the row of `inode`. It is read under the lock of its line, so what is read later is what counts.
    fn take_over(&self, mount: MountId, inode: InodeId) -> Result<()> {
        let line = self.line_or_new(mount);
        let mut locked = line.lock();
        let snapshot = self.namespace.snapshot()?;
        let row = snapshot.dirty(inode)?.filter(|dirty| dirty.mount == mount);
        let item = row.map(|dirty| item(&snapshot, &dirty)).transpose()?.flatten();
        let moved = locked.update(inode, item);
        drop(locked);
        line.woken.notify_one();
        if moved {
            self.moved.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Something that was at work is not any more.
    pub(super) fn ended(&self, line: &MountLine, inode: InodeId, rests: bool) {
        line.lock().end(inode, rests);
        line.woken.notify_one();
        self.moved.send_modify(|count| *count += 1);
    }

    /// Tells of all that leaves a line, or ends to be at work, from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    pub(crate) fn line(&self, mount: MountId) -> Option<Arc<MountLine>> {
        self.lines().get(&mount).cloned()
    }

    /// Mounts of which something is, or was, dirty.
    pub(crate) fn mounts(&self) -> Vec<MountId> {
        self.lines().keys().copied().collect()
    }

    fn line_or_new(&self, mount: MountId) -> Arc<MountLine> {
        if let Some(line) = self.line(mount) {
            return line;
        }
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(MountLine { line: Mutex::new(Line::new(self.linger)), woken: Notify::new() });
        let line = lines.entry(mount).or_insert_with(new).clone();
        drop(lines);
        self.grown.notify_one();
        line
    }

    /// A mount is gone, and with it what was to be persisted there.
    pub(crate) fn forget_mount(&self, mount: MountId) {
        if let Some(line) = self.lines.write().unwrap_or_else(PoisonError::into_inner).remove(&mount) {
            *line.lock() = Line::new(self.linger);
            line.woken.notify_one();
        }
        self.moved.send_modify(|count| *count += 1);
    }

    /// Whether something of `inode` is being put into the store.
    pub(crate) fn is_at_work(&self, mount: MountId, inode: InodeId) -> bool {
        self.line(mount).is_some_and(|line| line.lock().is_at_work(inode))
    }

    /// The mount for which workers have to keep a content, and whether it is to be persisted in its turn.
    pub(crate) fn needed_by(&self, content: ContentId) -> Option<(MountId, bool)> {
        self.lines().iter().find_map(|(mount, line)| line.lock().needs(content).map(|is_due| (*mount, is_due)))
    }

    /// Writers wait until something of a mount is persisted: for a while nothing of it is left alone.
    pub(crate) fn press(&self, mount: MountId) {
        if let Some(line) = self.line(mount) {
            line.lock().press(Instant::now());
            line.woken.notify_one();
        }
    }

    /// Whether all of a mount that is due with a lower number is persisted. Whoever asks waits for it: nothing is left alone any more.
    pub(crate) fn is_clear_below(&self, mount: MountId, number: u64) -> bool {
        self.line(mount).is_none_or(|line| {
            let is_clear = line.lock().is_clear_below(number);
            if !is_clear {
                line.hurry();
            }
            is_clear
        })
    }

    /// The number of the first barrier of a mount after `number`.
    pub(crate) fn barrier_after(&self, mount: MountId, number: u64) -> Option<u64> {
        self.line(mount).and_then(|line| line.lock().barrier_after(number))
    }

    /// Has something go at once, whatever it is to wait for: somebody waits for it who comes before that in the order.
    pub(crate) fn free(&self, mount: MountId, inode: InodeId) {
        if let Some(line) = self.line(mount)
            && line.lock().free(inode)
        {
            line.woken.notify_one();
        }
    }

    /// Whether no barrier of a mount with a lower number is left.
    pub(crate) fn has_no_barrier_below(&self, mount: MountId, number: u64, moves: Moves) -> bool {
        self.line(mount).map_or_else(
            || Line::default().has_no_barrier_below(number, moves),
            |line| line.lock().has_no_barrier_below(number, moves),
        )
    }

    /// Has it looked at again where the files are of which something may be in the store: a directory above them was renamed.
    pub(crate) fn paths_changed(&self, mount: MountId) {
        let begun: Vec<_> = self.line(mount).map(|line| line.lock().begun().collect()).unwrap_or_default();
        self.note(&begun);
    }

    /// Has all of a mount looked at again: a directory was removed with all below.
    pub(crate) fn tree_removed(&self, mount: MountId) {
        let known: Vec<_> = self.line(mount).map(|line| line.lock().inodes().collect()).unwrap_or_default();
        self.note(&known);
    }

    /// How much is due, and how much is not, of all mounts.
    pub(crate) fn amounts(&self) -> (Amount, Amount) {
        let sum = |a: Amount, b: Amount| Amount { items: a.items + b.items, bytes: a.bytes + b.bytes };
        let amounts = self.lines().values().map(|line| line.lock().amounts()).collect::<Vec<_>>();
        amounts.into_iter().fold(Default::default(), |(due, other), (a, b)| (sum(due, a), sum(other, b)))
    }

    fn lines(&self) -> std::sync::RwLockReadGuard<'_, HashMap<MountId, Arc<MountLine>>> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts of a row for the order; `None` when its inode is gone.
fn item(snapshot: &Snapshot, dirty: &Dirty) -> Result<Option<Item>> {
    // What others see only after all before it comes where it was changed last, everything else where it was changed first.
    let number = if dirty.barrier || dirty.tree { dirty.number } else { dirty.since };
    let mut item = Item {
        number,
        identity: dirty.number,
        due: dirty.due,
        barrier: dirty.barrier,
        tree: dirty.tree,
        stores: true,
        replaces: true,
        begun: false,
        elsewhere: false,
        parent: InodeId(0),
        size: 0,
        content: None,
    };
    if dirty.is_orphan() {
        return Ok(Some(Item { due: Due::Now, ..item }));
    }
    let Some(attr) = snapshot.attr(dirty.inode)? else { return Ok(None) };
    let is_directory = attr.kind == headpond_types::FileKind::Directory;
    item.parent = attr.parent;
    item.begun = dirty.key.is_some();
    if let Some(key) = &dirty.key {
        let location = snapshot.location(dirty.inode)?;
        item.elsewhere = location.is_some_and(|location| path_key(&location.names) != *key);
    }
    if is_directory {
        (item.stores, item.replaces) = (dirty.marker, false);
    } else {
        item.replaces = !attr.version.is_empty() || dirty.replaces.is_some();
        item.size = attr.size;
        // Of a further name nothing is on workers.
        item.content = attr.content.filter(|_| snapshot.target(dirty.inode).is_ok_and(|target| target.is_none()));
    }
    Ok(Some(item))
}
