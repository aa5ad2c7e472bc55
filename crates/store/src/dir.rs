//! One cache directory: its files, its index, its room.
//!
//! Layout: `index`, `lock`, `boot` (the machine's boot id when it was last opened), `pages/<first byte of the id>/<id>.<generation>`, one file per content, and `staged/<generation>`, files that are
//! being written, with `staged/<generation>.<number>` beside those that are changed in place. Directories have mode 0700, files 0600. A generation is used once, so a file name never means two files.

mod claims;
mod dirty;
mod recovery;
mod room;
mod staged;

use std::{
    fmt,
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, OnceLock, RwLock, RwLockReadGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use headpond_types::ContentId;
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};

use self::dirty::DirtyContents;
pub(crate) use self::{
    claims::{Claim, Claims},
    room::Reservation,
};
use crate::{
    config::DirConfig,
    error::{Result, StoreError},
    index::{IndexLog, Record, Rewrite},
    policy::Policy,
    shared::{Shared, lock, read, write},
    usage::{DirUsage, count},
};

pub(crate) struct Dir {
    config: DirConfig,
    root: OwnedFd,
    files: OwnedFd,
    staged: OwnedFd,
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: Mutex<Policy>,
    index: Mutex<IndexLog>,
    /// Shared by those who take pages or files away. Exclusive to close the directory, so that another store may open it.
    removals: RwLock<()>,
    /// Held by `flock` while the directory is in use.
    lock: Mutex<Option<File>>,
    failure: OnceLock<String>,
    next_generation: AtomicU32,
    /// Contents that are nowhere else. A leaf.
    dirty: Mutex<DirtyContents>,
    /// How often a loan, a reader or a writer let something go.
    releases: AtomicU64,
    /// The value of `releases` at which a search found nothing to evict.
    starved_at: AtomicU64,
    pub(crate) used: AtomicU64,
    pub(crate) pages: AtomicU64,
    pub(crate) contents: AtomicU64,
}

/// Where a content lies in its directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Dir {
    pub(crate) const fn config(&self) -> &DirConfig {
        &self.config
    }

    /// Fails when the directory is out of use.
    pub(crate) fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |reason| Err(self.failed_error(reason)))
    }

    pub(crate) fn usage(&self) -> DirUsage {
        let (dirty_bytes, dirty_contents) = self.dirty_size();
        DirUsage {
            path: self.config.path.clone(),
            capacity_bytes: self.config.capacity_bytes,
            used_bytes: self.used.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
            contents: self.contents.load(Ordering::Relaxed),
            dirty_bytes,
            dirty_contents,
            problem: self.failure.get().cloned(),
        }
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.config.capacity_bytes.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// A number that no file of this directory has had.
    pub(crate) fn next_generation(&self) -> u32 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the file of a content, `length` bytes of hole. Does IO.
    pub(crate) fn create_file(&self, id: ContentId, generation: u32, length: u64) -> io::Result<()> {
        let name = file_name(id, generation);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = match rustix::fs::openat(&self.files, &name, flags, mode) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&self.files, fan_out(id), Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::openat(&self.files, &name, flags, mode)?
            }
            other => other?,
        };
        if let Err(error) = rustix::fs::ftruncate(&fd, length) {
            let _the_first_error_counts = rustix::fs::unlinkat(&self.files, &name, AtFlags::empty());
            return Err(error.into());
        }
        Ok(())
    }

    /// Opens the file of a content. Does IO.
    pub(crate) fn open_file(&self, id: ContentId, generation: u32, flags: OFlags) -> io::Result<File> {
        let name = file_name(id, generation);
        Ok(File::from(rustix::fs::openat(&self.files, &name, flags | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Held while pages or files are taken away; `None` when the directory is closed and must be left alone.
    pub(crate) fn removing(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let guard = read(&self.removals);
        (!lock(&self.index).is_closed()).then_some(guard)
    }

    /// Removes the file of a content; under [`Self::removing`]. A file that stays is found and removed at the next open.
    pub(crate) fn remove_file(&self, id: ContentId, generation: u32) {
        if let Err(error) = rustix::fs::unlinkat(&self.files, file_name(id, generation), AtFlags::empty()) {
            tracing::debug!(dir = %self.config.path.display(), content = %id, %error, "cannot remove a cache file");
        }
    }

    /// Appends to the index, and rewrites it when that is due. On a full disk evicts once and tries again. Does IO.
    pub(crate) fn append(self: &Arc<Self>, record: Record) -> Result<()> {
        let doing = "append to the index";
        let mut appended = lock(&self.index).append(record);
        if appended.as_ref().is_err_and(is_full) && self.evict_bytes(FULL_DISK_BYTES) {
            appended = lock(&self.index).append(record);
        }
        appended.map_err(|error| self.write_error(doing, error))?;
        let live = self.pages.load(Ordering::Relaxed) + self.contents.load(Ordering::Relaxed);
        if lock(&self.index).begin_rewrite(live)
            && let Err(error) = self.rewrite_index()
        {
            // The old log is as good, only longer.
            tracing::debug!(dir = %self.config.path.display(), %error, "cannot rewrite the index of a cache directory");
            count(&self.shared.counters.write_errors, 1);
            lock(&self.index).abandon_rewrite();
        }
        Ok(())
    }

    /// As [`Self::append`], for records of removal: never evicts.
    pub(crate) fn append_removal(&self, record: Record) -> io::Result<()> {
        lock(&self.index).append(record)
    }

    fn rewrite_index(&self) -> io::Result<()> {
        let mut rewrite = Rewrite::begin(&self.root)?;
        let contents = lock(&self.policy).contents();
        for content in contents {
            content.records(|record| rewrite.push(record))?;
        }
        rewrite.sync()?;
        let mut index = lock(&self.index);
        if index.is_closed() { Ok(()) } else { index.replace(rewrite, &self.root) }
    }

    /// Classifies an error of a write: a full disk, a passing one, or one that puts the directory out of use.
    pub(crate) fn write_error(&self, doing: &'static str, error: io::Error) -> StoreError {
        count(&self.shared.counters.write_errors, 1);
        if is_full(&error) { StoreError::Full { dir: self.config.path.clone() } } else { self.error(doing, error) }
    }

    /// Classifies an error of a read or an open: a passing one, or one that puts the directory out of use.
    pub(crate) fn error(&self, doing: &'static str, error: io::Error) -> StoreError {
        if let Some(reason) = self.failure.get() {
            return self.failed_error(reason);
        }
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN) => {
                StoreError::Io { dir: self.config.path.clone(), doing, source: error }
            }
            _ => {
                self.fail(format!("{doing}: {error}"));
                self.failed_error(self.failure.get().map_or("", String::as_str))
            }
        }
    }

    /// Whether the directory is still the one that its path names.
    pub(crate) fn is_in_place(&self) -> bool {
        let named = rustix::fs::stat(self.config.path.join(PAGES));
        let open = rustix::fs::fstat(&self.files);
        matches!((named, open), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Puts the directory out of use; its contents are no longer found.
    pub(crate) fn fail(&self, reason: String) {
        let mut first = false;
        self.failure.get_or_init(|| {
            first = true;
            reason
        });
        if first {
            let reason = self.failure.get().map_or("", String::as_str);
            tracing::warn!(dir = %self.config.path.display(), reason, "cache directory is out of use, going on without it");
            count(&self.shared.counters.failed_dirs, 1);
            // Not exclusive of removals: one of them may be what failed. `close` settles them before another open.
            lock(&self.index).close();
            self.shared.remove_all(Some(self));
        }
    }

    /// Ends all changes to the directory, so that another store may open it. Waits for removals that are under way.
    pub(crate) fn close(&self) {
        let _no_removals = write(&self.removals);
        self.failure.get_or_init(|| "closed".to_owned());
        lock(&self.index).close();
        if let Some(file) = lock(&self.lock).take()
            // Not only by closing it: a child of this process has a copy until it runs its own program.
            && let Err(error) = rustix::fs::flock(&file, FlockOperation::Unlock)
        {
            tracing::debug!(dir = %self.config.path.display(), %error, "cannot unlock a cache directory");
        }
    }

    fn failed_error(&self, reason: &str) -> StoreError {
        StoreError::DirFailed { dir: self.config.path.clone(), reason: reason.to_owned() }
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dir").field("config", &self.config).field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// Below the configured directory: the files of contents.
const PAGES: &str = "pages";
/// What is evicted when the disk turns out to be full before the capacity is.
pub(crate) const FULL_DISK_BYTES: u64 = 8 << 20;

/// The disk, a quota or a limit leaves no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}

fn fan_out(id: ContentId) -> String {
    format!("{:02x}", id.0 >> 120)
}

fn file_name(id: ContentId, generation: u32) -> String {
    format!("{:02x}/{id}.{generation:x}", id.0 >> 120)
}

/// The id and generation in a file's name (without its folder).
fn parse_file_name(name: &str) -> Option<(ContentId, u32)> {
    let (id, generation) = name.split_once('.')?;
    Some((id.parse().ok()?, u32::from_str_radix(generation, 16).ok()?))
}
