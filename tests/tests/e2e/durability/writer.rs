//! One that writes, renames and deletes, and remembers what it was told.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use headpond_tests::{close, noise};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Bytes, by seed and length.
type Data = (u64, usize);

/// What may be at a path; `None` for nothing. More than one: a call on it failed, and nobody touches it any more.
type Allowed = Vec<Option<Data>>;

/// A directory of the writer.
#[derive(Debug, Default)]
struct Directory {
    /// What it may be called: two names after a rename that failed.
    names: Vec<String>,
    /// Whether it was acknowledged to be there.
    certain: bool,
    files: BTreeMap<String, Allowed>,
}

/// What became of the calls so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// A writer below a directory of its own.
#[derive(Debug)]
pub(super) struct Writer {
    random: SmallRng,
    /// The mount point.
    mount: PathBuf,
    /// Below it. It is not there while nothing is mounted, so nothing can be written past the mount.
    home: PathBuf,
    directories: Vec<Directory>,
    made: u64,
}

impl Writer {
    pub(super) fn new(seed: u64, mount: &Path, home: &str) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            mount: mount.to_owned(),
            home: mount.join(home),
            directories: Vec::new(),
            made: seed << 32,
        }
    }

    /// Works until told to stop. A call may fail; what is read must be right.
    pub(super) fn work(&mut self, told: &Told, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::SeqCst) {
            if self.step()? {
                told.done.fetch_add(1, Ordering::SeqCst);
            } else {
                told.failed.fetch_add(1, Ordering::SeqCst);
                #[expect(clippy::disallowed_methods, reason = "a dead mount is not asked in a busy loop")]
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// One thing; whether it was acknowledged.
    fn step(&mut self) -> Result<bool> {
        let usable: Vec<_> = (0..self.directories.len()).filter(|n| self.directories[*n].is_settled()).collect();
        let what = self.random.random_range(0..100);
        if usable.is_empty() || what < 6 {
            return Ok(self.make_directory());
        }
        let number = usable[self.random.random_range(0..usable.len())];
        match what {
            6..14 => Ok(self.rename_directory(number)),
            14..60 => Ok(self.put(number)),
            60..70 => Ok(self.unlink(number)),
            70..76 => Ok(self.rename_file(number)),
            _ => self.read(number),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn make_directory(&mut self) -> bool {
        let name = format!("d{}", self.fresh());
        let made = std::fs::create_dir(self.home.join(&name)).is_ok();
        self.directories.push(Directory { names: vec![name], certain: made, ..Directory::default() });
        made
    }

    fn rename_directory(&mut self, number: usize) -> bool {
        let name = format!("r{}", self.fresh());
        let directory = &mut self.directories[number];
        let renamed = std::fs::rename(self.home.join(&directory.names[0]), self.home.join(&name)).is_ok();
        if renamed {
            directory.names = vec![name];
        } else {
            directory.names.push(name);
        }
        renamed
    }

    /// Writes a new file, or one that is there.
    fn put(&mut self, number: usize) -> bool {
        let seed = self.fresh();
        let length = match self.random.random_range(0..20) {
            0 => self.random.random_range(0..2 << 20),
            1 => 0,
            _ => self.random.random_range(1..50_000),
        };
        let name = match self.settled_file(number) {
            Some(name) if self.random.random_bool(0.4) => name,
            _ => format!("f{seed}"),
        };
        let path = self.path(number, &name);
        let written = write(&path, &noise(seed, length), self.random.random_bool(0.3));
        let allowed = self.directories[number].files.entry(name).or_insert_with(|| vec![None]);
        if written {
            allowed.clear();
        } else {
            // It was emptied, and maybe closed so.
            allowed.push(Some((seed, 0)));
        }
        allowed.push(Some((seed, length)));
        written
    }

    fn unlink(&mut self, number: usize) -> bool {
        let Some(name) = self.settled_file(number) else { return self.put(number) };
        let gone = std::fs::remove_file(self.path(number, &name)).is_ok();
        let allowed = self.directories[number].files.entry(name).or_default();
        if gone {
            allowed.clear();
        }
        allowed.push(None);
        gone
    }

    /// Renames a file over another, or to a new name.
    fn rename_file(&mut self, number: usize) -> bool {
        let Some(from) = self.settled_file(number) else { return self.put(number) };
        let to = match self.settled_file(number) {
            Some(other) if other != from => other,
            _ => format!("f{}", self.fresh()),
        };
        let renamed = std::fs::rename(self.path(number, &from), self.path(number, &to)).is_ok();
        let files = &mut self.directories[number].files;
        let moved = files.get(&from).and_then(|allowed| allowed[0]);
        let (source, target) = (vec![None], vec![moved]);
        for (name, after) in [(from, source), (to, target)] {
            let allowed = files.entry(name).or_insert_with(|| vec![None]);
            if renamed {
                *allowed = after;
            } else {
                allowed.extend(after);
            }
        }
        renamed
    }

    /// Reads a file that is certain. An error is fine, other bytes are not, nor is its absence.
    fn read(&mut self, number: usize) -> Result<bool> {
        let Some(name) = self.settled_file(number) else { return Ok(self.put(number)) };
        let (path, expected) = (self.path(number, &name), self.directories[number].files[&name][0]);
        let (seed, length) = expected.context("a file that is there")?;
        let mount = mount_of(&self.mount);
        match std::fs::read(&path) {
            Ok(read) => {
                ensure!(read == noise(seed, length)[..], "{} differs in its {} bytes", path.display(), read.len());
                Ok(true)
            }
            // Between two mounts there is nothing below the mount point.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let stayed = mount.is_some() && mount == mount_of(&self.mount) && self.home.is_dir();
                let again = || {
                    let beside = path.parent().map(std::fs::read_dir).map(|listing| listing.map(Iterator::count));
                    format!("a moment later: {:?}, beside {beside:?}", path.metadata().map(|found| found.len()))
                };
                ensure!(!stayed, "{} was acknowledged and is gone; {}", path.display(), again());
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    /// A file of which is known that it is there.
    fn settled_file(&mut self, number: usize) -> Option<String> {
        let files = self.directories[number].files.iter();
        let settled: Vec<_> = files.filter(|(_, allowed)| matches!(allowed[..], [Some(_)])).collect();
        let at = if settled.is_empty() { return None } else { self.random.random_range(0..settled.len()) };
        Some(settled[at].0.clone())
    }

    fn path(&self, number: usize, name: &str) -> PathBuf {
        self.home.join(&self.directories[number].names[0]).join(name)
    }

    /// Fails unless everything is as it was told, through the mount. With an error that says what is not.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.home.is_dir(), "{} is gone", self.home.display());
        for directory in &self.directories {
            let found: Vec<_> = directory.names.iter().filter(|name| self.home.join(name).is_dir()).collect();
            ensure!(found.len() <= 1, "{found:?} are two names of one directory");
            let Some(name) = found.first() else {
                ensure!(!directory.certain, "none of {:?} is there", directory.names);
                continue;
            };
            for (file, allowed) in &directory.files {
                check_file(&self.home.join(name).join(file), allowed)?;
            }
            for entry in std::fs::read_dir(self.home.join(name))? {
                let entry = entry?.file_name().to_string_lossy().into_owned();
                ensure!(directory.files.contains_key(&entry), "{name}/{entry} was never written");
            }
        }
        Ok(())
    }
}

impl Directory {
    /// Whether it is there under one name.
    fn is_settled(&self) -> bool {
        self.certain && self.names.len() == 1
    }
}

/// Fails unless the file is what it may be.
fn check_file(path: &Path, allowed: &Allowed) -> Result<()> {
    let found = match std::fs::read(path) {
        Ok(read) => Some(read),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => bail!("{}: {error}", path.display()),
    };
    let fits = allowed.iter().any(|one| match (one, &found) {
        (None, None) => true,
        (Some((seed, length)), Some(read)) => *read == noise(*seed, *length)[..],
        _ => false,
    });
    let found = found.map(|read| read.len());
    ensure!(fits, "{} has {found:?} bytes, but {allowed:?} is what it may have", path.display());
    Ok(())
}

/// Writes a file; whether one of the calls that acknowledge it did so.
fn write(path: &Path, bytes: &[u8], synced: bool) -> bool {
    let Ok(mut file) = File::create(path) else { return false };
    if file.write_all(bytes).is_err() {
        let _closed_without_them = close(file);
        return false;
    }
    let synced = synced && file.sync_all().is_ok();
    close(file).is_ok() || synced
}

/// The mount that a path is on; `None` while it is dead. Neither a device nor an ordinary id is told: the next mount may get the same.
fn mount_of(path: &Path) -> Option<u64> {
    /// `STATX_MNT_ID_UNIQUE` of linux/stat.h, since Linux 6.8; before, the ordinary one is answered.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID | UNIQUE;
    statx(CWD, path, AtFlags::empty(), wanted).ok().map(|found| found.stx_mnt_id)
}
