//! One who writes, renames, removes and commits below a directory of its own, and notes it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use headpond_tests::{close, eventually};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rustix::io::Errno;

use super::history::{At, File, History, Kind, body};

/// What scribes share.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) history: History,
    pub(super) commits: AtomicUsize,
    pub(super) stop: AtomicBool,
}

/// A directory with the files in it.
#[derive(Debug)]
struct Directory {
    path: String,
    files: Vec<File>,
}

#[derive(Debug)]
pub(super) struct Scribe<'a> {
    random: SmallRng,
    mount: PathBuf,
    home: String,
    desk: &'a Desk,
    directories: Vec<Directory>,
    /// The table's `version-hint.text`, written again and again.
    hint: Option<File>,
    made: usize,
    /// Whether directories are filled under a temporary name.
    staged: bool,
}

impl<'a> Scribe<'a> {
    pub(super) fn new(seed: u64, number: u64, mount: &Path, desk: &'a Desk, staged: bool) -> Result<Self> {
        let home = format!("table-{number}");
        fs::create_dir_all(mount.join(&home).join("_delta_log"))?;
        let random = SmallRng::seed_from_u64(seed ^ number << 40);
        let (directories, mount) = (Vec::new(), mount.to_owned());
        Ok(Self { random, mount, home, desk, directories, hint: None, made: 0, staged })
    }

    /// Works until so many commits were made by all.
    pub(super) fn work(&mut self, commits: usize) -> Result<()> {
        while self.desk.commits.load(Ordering::SeqCst) < commits && !self.desk.stop.load(Ordering::SeqCst) {
            match self.random.random_range(0..100) {
                0..12 => self.make_directory()?,
                12..40 => self.put_new()?,
                40..48 => self.put_again()?,
                48..53 => self.remove()?,
                53..58 => self.rename_file()?,
                58..64 => self.rename_directory()?,
                64..84 => self.commit_to_log()?,
                _ => self.hint()?,
            }
        }
        Ok(())
    }

    fn fresh(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{}/{what}-{}", self.home, self.made)
    }

    /// Does something and notes it before and after.
    fn noted(
        &self,
        changes: &[(File, Option<At>)],
        kind: Kind,
        call: impl FnMut() -> std::io::Result<()>,
    ) -> Result<()> {
        self.desk.history.begin(changes, kind);
        patiently(call).with_context(|| format!("{changes:?}"))?;
        self.desk.history.acknowledge(changes);
        Ok(())
    }

    /// Writes a version of a file. It is acknowledged by close, and in a third of the cases by fsync before.
    fn write(&mut self, file: File, at: At, commits: bool) -> Result<()> {
        let length = match self.random.random_range(0..50) {
            0 => self.random.random_range(0..2 << 20),
            1..10 => 0,
            _ => self.random.random_range(0..8_000),
        };
        let synced = self.random.random_bool(0.3);
        let path = self.mount.join(&at.path);
        let (bytes, change) = (body(file, at.version, length), [(file, Some(at))]);
        let mut open = fs::File::create(&path).with_context(|| path.display().to_string())?;
        open.write_all(&bytes)?;
        self.desk.history.begin(&change, if commits { Kind::Commit } else { Kind::Plain });
        if synced {
            open.sync_all().with_context(|| format!("fsync of {}", path.display()))?;
            self.desk.history.acknowledge(&change);
        }
        close(open).with_context(|| format!("closing {}", path.display()))?;
        if !synced {
            self.desk.history.acknowledge(&change);
        }
        if commits {
            self.desk.commits.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// A directory with some files, which gets its name when they are there, and a `_SUCCESS` then.
    fn make_directory(&mut self) -> Result<()> {
        let name = self.fresh("job");
        let staging = if self.staged { self.fresh("_temporary/job") } else { self.fresh("unfinished") };
        fs::create_dir_all(self.mount.join(&staging)).with_context(|| staging.clone())?;
        let mut files = Vec::new();
        for number in 0..self.random.random_range(1..5) {
            let file = self.desk.history.file();
            self.write(file, At { path: format!("{staging}/part-{number}"), version: 0 }, false)?;
            files.push(file);
        }
        self.directories.push(Directory { path: staging, files });
        self.move_directory(self.directories.len() - 1, name.clone(), Kind::Rename)?;
        let file = self.desk.history.file();
        self.write(file, At { path: format!("{name}/_SUCCESS"), version: 0 }, true)?;
        if let Some(directory) = self.directories.last_mut() {
            directory.files.push(file);
        }
        if self.directories.len() > 20 {
            // Left alone from now on.
            self.directories.remove(0);
        }
        Ok(())
    }

    fn move_directory(&mut self, number: usize, to: String, kind: Kind) -> Result<()> {
        let Directory { path: from, files } = &self.directories[number];
        let moved = files.iter().filter_map(|file| {
            let at = self.desk.history.at(*file)?;
            Some((*file, Some(At { path: at.path.replacen(from, &to, 1), version: at.version })))
        });
        let changes: Vec<_> = moved.collect();
        let (from, target) = (self.mount.join(from), self.mount.join(&to));
        self.noted(&changes, kind, || fs::rename(&from, &target))?;
        self.directories[number].path = to;
        Ok(())
    }

    fn directory(&mut self) -> Option<usize> {
        if self.directories.is_empty() { None } else { Some(self.random.random_range(0..self.directories.len())) }
    }

    /// A file that is there, and is no commit.
    fn plain(&mut self) -> Option<(usize, File, At)> {
        let number = self.directory()?;
        let there =
            self.directories[number].files.iter().filter_map(|file| Some((*file, self.desk.history.at(*file)?)));
        let there: Vec<_> = there.filter(|(_, at)| !at.path.ends_with("_SUCCESS")).collect();
        let at = if there.is_empty() { return None } else { self.random.random_range(0..there.len()) };
        let (file, at) = there[at].clone();
        Some((number, file, at))
    }

    fn put_new(&mut self) -> Result<()> {
        let Some(number) = self.directory() else { return self.make_directory() };
        let file = self.desk.history.file();
        let path = format!("{}/new-{file}", self.directories[number].path);
        self.write(file, At { path, version: 0 }, false)?;
        self.directories[number].files.push(file);
        Ok(())
    }

    fn put_again(&mut self) -> Result<()> {
        let Some((_, file, at)) = self.plain() else { return Ok(()) };
        self.write(file, At { version: at.version + 1, ..at }, false)
    }

    fn remove(&mut self) -> Result<()> {
        let Some((_, file, at)) = self.plain() else { return Ok(()) };
        let path = self.mount.join(&at.path);
        self.noted(&[(file, None)], Kind::Plain, || fs::remove_file(&path))
    }

    /// To a new name, or over another file.
    fn rename_file(&mut self) -> Result<()> {
        let Some((number, file, at)) = self.plain() else { return Ok(()) };
        let from = self.mount.join(&at.path);
        let mut changes = vec![(file, None)];
        let to = match self.plain() {
            Some((other_number, other, over)) if other_number == number && other != file => {
                changes.push((other, None));
                over.path
            }
            _ => format!("{}/renamed-{}", self.directories[number].path, self.desk.history.file()),
        };
        changes[0].1 = Some(At { path: to.clone(), version: at.version });
        let to = self.mount.join(to);
        self.noted(&changes, Kind::Plain, || fs::rename(&from, &to))
    }

    fn rename_directory(&mut self) -> Result<()> {
        let Some(number) = self.directory() else { return Ok(()) };
        let to = self.fresh("moved");
        self.move_directory(number, to, Kind::Plain)
    }

    fn commit_to_log(&mut self) -> Result<()> {
        let file = self.desk.history.file();
        let path = format!("{}/_delta_log/{file:020}.json", self.home);
        self.write(file, At { path, version: 0 }, true)
    }

    fn hint(&mut self) -> Result<()> {
        let at = At { path: format!("{}/version-hint.text", self.home), version: 0 };
        let Some(file) = self.hint else {
            let file = *self.hint.insert(self.desk.history.file());
            return self.write(file, at, true);
        };
        let version = self.desk.history.at(file).context("the hint is never removed")?.version + 1;
        self.write(file, At { version, ..at }, true)
    }
}

/// Repeats a call while it answers that objects are being moved there.
fn patiently(mut call: impl FnMut() -> std::io::Result<()>) -> Result<()> {
    eventually("what was renamed before has been moved", || match call() {
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(false),
        other => Ok(other.map(|()| true)?),
    })
}
