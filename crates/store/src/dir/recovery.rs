//! Opening a directory: the index is replayed, then compared with the files that are there.
//!
//! The index is believed only where a file of the right name and length stands behind it; a file of which the index says
//! nothing is removed, unless it says itself that it is needed. Cost: one sequential read of the index, one `stat` per file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, FileExt},
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use headpond_types::{ContentId, page_count};
use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir},
    io::Errno,
};

use super::{
    Claims, Dir, PAGES, Place, parse_file_name,
    staged::{Durable, STAGED, open_staged_files, read_claims},
};
use crate::{
    config::DirConfig,
    content::{Content, MAX_LENGTH},
    error::{Result, StoreError},
    index::{self, Record, Replay},
    pages::{PRESENT, PageTable, publish},
    policy::{Policy, WHOLE_UNIT_PAGES},
    shared::{Shared, lock},
    staging::Staging,
};

/// A content as the index tells it.
#[derive(Debug)]
struct Found {
    id: ContentId,
    length: u64,
    generation: u32,
    table: PageTable,
    /// An earlier process may have lent it to somebody who still reads it. Lending a content that leaves as a whole anyway is not in the
    /// index.
    borrowed: bool,
    has_file: bool,
    /// The file says that it is the only place of the bytes.
    dirty: bool,
    /// Bytes the file occupies.
    occupied: u64,
}

type Slots = Vec<Option<Found>>;

impl Found {
    fn is_whole(&self) -> bool {
        self.dirty && (0..pages_in(self.length)).all(|page| self.table.is_present(page))
    }
}

impl Dir {
    /// Opens the directory and puts its contents into `shared`. Does IO; evicts what exceeds the capacity.
    ///
    /// Fails with `InUse` when another process has the directory, with `Newer` when a newer release wrote it.
    pub(crate) fn open(config: DirConfig, shared: Arc<Shared>) -> Result<Arc<Self>> {
        let failed = |error: io::Error| StoreError::DirFailed { dir: config.path.clone(), reason: error.to_string() };
        let root = open_dirs(&config).map_err(failed)?;
        let files = open_dir(&root, PAGES).map_err(|error| failed(error.into()))?;
        let lock_file = take_lock(&root, &config)?;

        let mut slots = Slots::new();
        let replay = index::read(&root, |record| apply(&mut slots, record)).map_err(failed)?;
        if let Replay::Newer { version, known } = replay {
            return Err(StoreError::Newer { dir: config.path, found: version, known });
        }
        let log = index::open(&root, &replay).map_err(failed)?;
        let restarted = machine_restarted(&root).map_err(failed)?;
        // A record that says "lent" may be among the lost ones.
        let torn = matches!(replay, Replay::Read { torn: true, .. });
        for found in slots.iter_mut().flatten() {
            found.borrowed = !restarted && (found.borrowed || torn || page_count(found.length) <= WHOLE_UNIT_PAGES);
        }
        let strays = match_files(&files, &mut slots).map_err(failed)?;
        let (staged, durable) = open_staged_files(&root).map_err(failed)?;

        let generations = slots.iter().flatten().map(|found| found.generation);
        let generations = generations.chain(strays.iter().map(|(generation, _)| *generation));
        let generations = generations.chain(durable.iter().map(|staged| staged.generation));
        let next_generation = generations.max().map_or(0, |last| last + 1);
        let dir = Arc::new(Self {
            root,
            files,
            staged,
            policy: Mutex::new(Policy::new(config.capacity_bytes)),
            config,
            shared,
            index: Mutex::new(log),
            removals: RwLock::new(()),
            lock: Mutex::new(Some(lock_file)),
            failure: OnceLock::new(),
            next_generation: AtomicU32::new(next_generation),
            releases: AtomicU64::new(0),
            starved_at: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            contents: AtomicU64::new(0),
            dirty: Mutex::default(),
        });
        dir.adopt(slots);
        dir.take_up(strays, durable);
        let capacity = dir.config.capacity_bytes;
        dir.evict_while(|_| dir.used.load(Ordering::Relaxed) > capacity);
        dir.check()?;
        Ok(dir)
    }

    fn adopt(self: &Arc<Self>, slots: Slots) {
        for (slot, found) in (0..).zip(slots) {
            let Some(found) = found else { continue };
            let Found { id, length, generation, table, borrowed, has_file, dirty, occupied } = found;
            let place = Place { slot, generation };
            let content = Arc::new(Content::recovered(id, length, Arc::clone(self), place, table, borrowed));
            let present = content.present_pages();
            if dirty && has_file {
                content.mark_dirty();
            } else if !has_file || present == 0 {
                if has_file {
                    self.remove_file(id, generation);
                }
                // Else the next open would find it beside what has its file now.
                let _without_it_more_is_read = self.append_removal(Record::ContentRemoved { slot });
                continue;
            }
            let known = self.shared.find_or_insert(id, || Arc::clone(&content));
            if !Arc::ptr_eq(&known, &content) {
                self.remove_file(id, generation);
                continue;
            }
            let bytes = content.present_bytes();
            self.used.fetch_add(bytes, Ordering::Relaxed);
            self.pages.fetch_add(u64::from(present), Ordering::Relaxed);
            self.contents.fetch_add(1, Ordering::Relaxed);
            if occupied > bytes {
                content.punch_absent();
            }
            let mut policy = lock(&self.policy);
            policy.adopt(slot, &content);
            for page in content.present_list().filter(|_| !content.is_dirty()) {
                policy.insert_recovered(&content, slot, page);
            }
        }
        lock(&self.policy).adopted();
    }

    /// Takes up files that say that they are needed: in their place, but not as the index has them, and staged ones. What cannot be had now stays
    /// for the next open.
    fn take_up(self: &Arc<Self>, strays: Vec<(u32, Claims)>, durable: Vec<Durable>) {
        let in_place = strays.into_iter().map(|(generation, claims)| {
            claims.as_slice().iter().try_for_each(|claim| Content::take_up(self, *claim, generation))
        });
        let staged = durable.into_iter().map(|staged| {
            let claims = staged.claims.clone();
            let staging = Staging::recovered(Arc::clone(self), staged.generation, claims.clone(), &staged.segments)?;
            Content::adopt_dirty(staging, claims.as_slice())
        });
        for error in in_place.chain(staged).filter_map(Result::err) {
            tracing::error!(dir = %self.config.path.display(), %error, "cannot take up a file whose bytes may be nowhere else");
        }
    }
}

fn open_dirs(config: &DirConfig) -> io::Result<OwnedFd> {
    for name in [PAGES, STAGED] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(config.path.join(name))?;
    }
    Ok(rustix::fs::open(&config.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

pub(super) fn open_dir(at: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether the machine was started anew since the directory was last opened: then nobody holds descriptors from before.
fn machine_restarted(root: &OwnedFd) -> io::Result<bool> {
    let now = std::fs::read("/proc/sys/kernel/random/boot_id")?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(root, "boot", flags, Mode::RUSR | Mode::WUSR)?);
    let mut before = Vec::new();
    file.read_to_end(&mut before)?;
    if before == now {
        return Ok(false);
    }
    file.set_len(0)?;
    file.write_all_at(&now, 0)?;
    // An id that was not wholly written is none, and says nothing.
    Ok(before.len() == now.len())
}

fn take_lock(root: &OwnedFd, config: &DirConfig) -> Result<File> {
    let failed = |error: Errno| StoreError::DirFailed { dir: config.path.clone(), reason: format!("lock: {error}") };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, "lock", flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(File::from(file)),
        Err(Errno::AGAIN) => Err(StoreError::InUse { dir: config.path.clone() }),
        Err(error) => Err(failed(error)),
    }
}

fn apply(slots: &mut Slots, record: Record) {
    match record {
        Record::Content { slot, id, length, generation } | Record::DirtyContent { slot, id, length, generation } => {
            let dirty = matches!(record, Record::DirtyContent { .. });
            let slot = slot as usize;
            // Slots are given out densely: a number far beyond the last is not ours, whatever its checksum says.
            if length > MAX_LENGTH || slot > slots.len() + (1 << 20) {
                return;
            }
            if slots.len() <= slot {
                slots.resize_with(slot + 1, || None);
            }
            let table = PageTable::new(pages_in(length));
            slots[slot] =
                Some(Found { id, length, generation, table, borrowed: false, has_file: false, dirty, occupied: 0 });
        }
        Record::Page { slot, page, crc } => {
            if let Some(Some(found)) = slots.get(slot as usize)
                && u64::from(page) < page_count(found.length)
                && let Some(word) = found.table.get_or_make(page)
            {
                publish(word, crc, 0);
            }
        }
        Record::PageRemoved { slot, page } => {
            if let Some(Some(found)) = slots.get(slot as usize)
                && let Some(word) = found.table.get(page)
            {
                word.fetch_and(!PRESENT, Ordering::Relaxed);
            }
        }
        Record::Lent { slot } => {
            if let Some(Some(found)) = slots.get_mut(slot as usize) {
                found.borrowed = true;
            }
        }
        Record::Clean { slot } => {
            if let Some(Some(found)) = slots.get_mut(slot as usize) {
                found.dirty = false;
            }
        }
        Record::ContentRemoved { slot } => {
            if let Some(found) = slots.get_mut(slot as usize) {
                *found = None;
            }
        }
    }
}

fn pages_in(length: u64) -> u32 {
    u32::try_from(page_count(length)).expect("checked against MAX_LENGTH")
}

/// Notes which contents have their file, and removes every file that belongs to none; but those that say that they are needed are answered, with
/// their generations and what they were named for.
fn match_files(files: &OwnedFd, slots: &mut Slots) -> io::Result<Vec<(u32, Claims)>> {
    let by_generation: HashMap<u32, usize> =
        (0..).zip(slots.iter()).filter_map(|(slot, found)| Some((found.as_ref()?.generation, slot))).collect();
    let mut strays = Vec::new();
    for folder in names(files)? {
        let Ok(folder_fd) = open_dir(files, &folder) else { continue };
        for name in names(&folder_fd)? {
            let named = parse_file_name(&name);
            let found = named.and_then(|(id, generation)| {
                let found = slots[*by_generation.get(&generation)?].as_mut()?;
                (found.id == id).then_some(found)
            });
            let stat = rustix::fs::statat(&folder_fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            match found {
                Some(found) if is_file && !found.dirty && size == found.length => {
                    found.has_file = true;
                    found.occupied = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
                    continue;
                }
                _ if !is_file => continue,
                _ => {}
            }
            // Only files that the index calls dirty, or does not know, are asked.
            let claim = match named {
                Some((id, _)) => read_claims(&folder_fd, &name)?.of(id),
                None => None,
            };
            match (found, claim) {
                (Some(found), Some(_)) if found.is_whole() && size >= found.length => found.has_file = true,
                (Some(found), None) if found.dirty && size == found.length => {
                    (found.has_file, found.dirty) = (true, false)
                }
                (found, Some(claim)) => {
                    if let Some(found) = found {
                        // Not to be found with fewer pages than the file has.
                        found.dirty = false;
                    }
                    strays.extend(named.map(|(_, generation)| (generation, Claims::single(claim))));
                }
                (_, None) => remove_stray(&folder_fd, &name),
            }
        }
    }
    Ok(strays)
}

fn remove_stray(folder: &OwnedFd, name: &str) {
    if let Err(error) = rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        tracing::debug!(name, %error, "cannot remove a stray cache file");
    }
}

pub(super) fn names(dir: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
