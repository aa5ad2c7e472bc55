//! The store: contents over several directories.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    path::PathBuf,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use headpond_types::ContentId;
use tokio::sync::{mpsc, watch};

use crate::{
    config::{DirConfig, StoreConfig},
    content::{Content, MAX_LENGTH},
    dir::Dir,
    error::{Result, StoreError},
    scrub::{Cursor, Scrubbed},
    shared::{Shared, lock, read, write},
    staging::Staging,
    usage::{Counters, DirUsage, Usage},
};

/// Recalls that wait to be received; more are dropped, and published again when the content is still in the way later.
const RECALLS: usize = 1024;

/// The page store. Dropping it closes its directories: contents and loans that are still held can be read where their file is open, but
/// no longer filled.
#[derive(Debug)]
pub struct PageStore {
    shared: Arc<Shared>,
    dirs: Vec<Mount>,
    scrub: Mutex<Cursor>,
    /// Files staged so far, to spread them.
    staged: AtomicU64,
}

/// A configured directory and what became of it.
#[derive(Debug)]
struct Mount {
    config: DirConfig,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Arc<Dir>),
    /// Never opened since the store was.
    Failed(String),
}

impl PageStore {
    /// Opens the directories and recovers what they hold. Does IO: reads each index, looks at each file once.
    ///
    /// Fails with `Config` when no directory is configured, `InUse` when another process has one, and `Newer` when a newer release wrote one. A
    /// directory that cannot be used for another reason is reported by [`PageStore::usage`] and tried again by
    /// [`PageStore::probe_failed`].
    pub fn open(config: StoreConfig) -> Result<Self> {
        if config.dirs.is_empty() {
            let problem = "none configured: name at least one".to_owned();
            return Err(StoreError::Config { dir: PathBuf::new(), problem });
        }
        let shared = Arc::new(Shared::new());
        let mut store = Self { shared, dirs: Vec::new(), scrub: Mutex::default(), staged: AtomicU64::default() };
        for config in config.dirs {
            let state = match Dir::open(config.clone(), Arc::clone(&store.shared)) {
                Ok(dir) => State::Open(dir),
                Err(error @ (StoreError::InUse { .. } | StoreError::Newer { .. })) => return Err(error),
                Err(error) => {
                    tracing::warn!(dir = %config.path.display(), %error, "cannot open a cache directory, going on without it");
                    State::Failed(error.to_string())
                }
            };
            store.dirs.push(Mount { config, state: RwLock::new(state) });
        }
        Ok(store)
    }

    /// The content of `id`, as far as it is cached; begun if there is nothing of it. No IO: files are made when they are written or lent.
    ///
    /// `LengthMismatch`: it is known with another length. `DirFailed`: no directory is in use, go on without the cache. `Full`: it is longer
    /// than any content can be.
    pub fn content(&self, id: ContentId, length: u64) -> Result<Arc<Content>> {
        let content = match self.find(id) {
            Some(content) => content,
            None => {
                let dir = self.place(id)?;
                if length > MAX_LENGTH {
                    return Err(StoreError::Full { dir: dir.config().path.clone() });
                }
                self.shared.find_or_insert(id, || Arc::new(Content::new(id, length, dir)))
            }
        };
        if content.length() == length {
            return Ok(content);
        }
        Err(StoreError::LengthMismatch { content: id, known: content.length(), asked: length })
    }

    /// The content of `id`, if it was begun. No IO.
    #[must_use]
    pub fn find(&self, id: ContentId) -> Option<Arc<Content>> {
        let content = self.shared.find(id)?;
        if content.dir().check().is_err() {
            // Begun while its directory went out of use.
            self.shared.remove(&content);
            return None;
        }
        Some(content)
    }

    /// An empty file for bytes that are no content yet, in the directory with the most room. Does IO.
    ///
    /// `DirFailed`: no directory is in use. `Full`: the disk is.
    pub fn stage(&self) -> Result<Staging> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        Staging::create(self.place(ContentId(number.into()))?)
    }

    /// Makes a staged file the complete and verified cache file of content `id`, whose pages have these CRC32Cs. Does IO: reads the file, and
    /// appends a record per page. Nobody may write the file any more: the caller answers for it that descriptors which he handed out are
    /// closed. What is there of the content already makes way, unless it is complete: then the staged file is dropped.
    ///
    /// After any error the staged file is gone, which costs only that the content has to be fetched. `Corrupt`: a page has another
    /// checksum. `Full`, `DirFailed`: as everywhere.
    pub fn adopt(&self, staging: Staging, id: ContentId, checksums: &[u32]) -> Result<()> {
        staging.disclaim();
        let is_complete = |content: Arc<Content>| content.is_complete();
        if self.find(id).is_some_and(is_complete) { Ok(()) } else { Content::adopt(staging, id, checksums) }
    }

    /// Makes a staged file that was made durable as `id` the complete cache file of that content, which is dirty: it is neither evicted nor freed
    /// before [`PageStore::set_clean`], also after a restart. Without an `id`, or with one that it was not made durable as lately, of each content that
    /// it stands for; a file that stands for none is dropped. Does IO: reads the file, and appends a record per page. Nobody may write the file any more,
    /// as for [`PageStore::adopt`].
    ///
    /// After an error the file is left for the next open, which does the same.
    pub fn adopt_dirty(&self, staging: Staging, id: Option<ContentId>) -> Result<()> {
        let claims = staging.claims();
        match id.and_then(|id| claims.of(id)) {
            Some(claim) => Content::adopt_dirty(staging, &[claim]),
            None => Content::adopt_dirty(staging, claims.as_slice()),
        }
    }

    /// The content `id` is needed no longer, since the under store has it or nobody wants it: it is cached as any other from now on, or gone. Does IO,
    /// waits for none.
    pub fn set_clean(&self, id: ContentId) {
        if let Some(content) = self.find(id) {
            content.clean();
        }
    }

    /// Contents that are nowhere else, and their lengths in bytes. No IO.
    #[must_use]
    pub fn dirty(&self) -> Vec<(ContentId, u64)> {
        self.dirs.iter().filter_map(Mount::in_use).flat_map(|dir| dir.dirty()).collect()
    }

    /// Bytes of the contents that are nowhere else. No IO.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.dirs.iter().filter_map(Mount::in_use).map(|dir| dir.dirty_size().0).sum()
    }

    /// Drops what is cached of `id`, and says how many bytes that was. Does IO. If it is lent, the bytes come free when the last loan ends. What is dirty stays.
    pub fn free(&self, id: ContentId) -> u64 {
        let Some(content) = self.shared.find(id).filter(|content| !content.is_dirty()) else { return 0 };
        let bytes = content.present_bytes();
        content.discard();
        bytes
    }

    /// Drops everything, as [`PageStore::free`]. Does IO: one unlink per content.
    pub fn free_all(&self) -> u64 {
        self.shared.all().into_iter().map(|content| self.free(content.id())).sum()
    }

    /// What the store holds. No IO.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { dirs: self.dirs.iter().map(Mount::usage).collect() }
    }

    /// What happened since the store was opened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Where lent contents are named that stand in the way of new ones: whoever lent them should give them back; the last loan of such
    /// a content evicts it. Each is named once until it is touched again. Bounded: what nobody takes is dropped and counted. A new
    /// receiver replaces the one before.
    #[must_use]
    pub fn recalls(&self) -> mpsc::Receiver<ContentId> {
        let (sender, receiver) = mpsc::channel(RECALLS);
        self.shared.set_recalls(sender);
        receiver
    }

    /// Changes whenever a lent content is dropped ([`crate::Hold::is_dropped`] says which): until its loans end it holds disk space for bytes
    /// that nobody else can find. No drop is missed, many may be one change.
    #[must_use]
    pub fn drops(&self) -> watch::Receiver<u64> {
        self.shared.drops()
    }

    /// Compares about `budget` bytes of pages with their checksums, going on where the last step ended; corrupt pages are dropped. Does IO.
    pub fn scrub_step(&self, budget: u64) -> Scrubbed {
        let dirs: Vec<_> = self.dirs.iter().map(Mount::in_use).collect();
        lock(&self.scrub).step(&dirs, budget)
    }

    /// Tries to open directories that are out of use again, after a repair or a remount. Does IO; the number that are back.
    pub fn probe_failed(&self) -> usize {
        self.dirs.iter().filter(|mount| mount.probe(&self.shared)).count()
    }

    /// The directory for a new content: weighted rendezvous by free capacity, so that directories fill evenly, and with one of them gone
    /// the others keep what they would have got. A full one keeps a small weight, since what is new is hotter than what it evicts.
    fn place(&self, id: ContentId) -> Result<Arc<Dir>> {
        let in_use = self.dirs.iter().enumerate().filter_map(|(index, mount)| Some((index, mount.in_use()?)));
        let scored = in_use.map(|(index, dir)| {
            let weight = dir.free_bytes().max(dir.config().capacity_bytes / 16).max(1);
            (score(id, index, weight), dir)
        });
        let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, dir)| dir).ok_or_else(|| {
            let first = self.usage().dirs.into_iter().next().unwrap_or_default();
            StoreError::DirFailed { dir: first.path, reason: first.problem.unwrap_or_default() }
        })
    }
}

/// The score of a directory for a content: the largest of `-1 / ln(u) * weight` over uniform `u` falls to each with
/// probability proportional to its weight (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a weight")]
fn score(id: ContentId, index: usize, weight: u64) -> f64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((id, index));
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    weight as f64 / -uniform.ln()
}

impl Mount {
    fn in_use(&self) -> Option<Arc<Dir>> {
        match &*read(&self.state) {
            State::Open(dir) if dir.check().is_ok() => Some(Arc::clone(dir)),
            State::Open(_) | State::Failed(_) => None,
        }
    }

    fn usage(&self) -> DirUsage {
        let (path, capacity_bytes) = (self.config.path.clone(), self.config.capacity_bytes);
        let out_of_use = |problem| DirUsage { path, capacity_bytes, problem: Some(problem), ..DirUsage::default() };
        match &*read(&self.state) {
            State::Open(dir) => {
                let usage = dir.usage();
                usage.problem.clone().map_or(usage, out_of_use)
            }
            State::Failed(problem) => out_of_use(problem.clone()),
        }
    }

    /// Whether the directory was out of use and is back.
    fn probe(&self, shared: &Arc<Shared>) -> bool {
        if self.in_use().is_some() {
            return false;
        }
        let mut state = write(&self.state);
        match &*state {
            State::Open(dir) if dir.check().is_ok() => return false,
            State::Open(dir) => dir.close(),
            State::Failed(_) => {}
        }
        match Dir::open(self.config.clone(), Arc::clone(shared)) {
            Ok(dir) => {
                tracing::info!(dir = %self.config.path.display(), "cache directory is back in use");
                *state = State::Open(dir);
                true
            }
            Err(error) => {
                *state = State::Failed(error.to_string());
                false
            }
        }
    }
}

impl Drop for PageStore {
    fn drop(&mut self) {
        for mount in &self.dirs {
            if let State::Open(dir) = &*read(&mount.state) {
                dir.close();
            }
        }
        self.shared.remove_all(None);
    }
}
