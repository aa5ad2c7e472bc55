//! Steps at random that make sense where they are done, and some that do not.

use std::{collections::BTreeSet, os::unix::fs::MetadataExt as _};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rustix::fs::{OFlags, fcntl_getfl};

use super::{
    actor::{Actor, SLOTS},
    outcome::Kind,
    step::{Data, Mode, Path, Room, Slot, Step, XATTRS},
    tree::Tree,
};

/// Names that are short to read, order next to a slash, or must be encoded somewhere.
const NAMES: [&str; 10] = ["a", "b", "c", "d", "a-x", "a.b", "ü e", "p%2F+q", "x&y<z", "=?#'\""];

/// Most entries of a tree; a directory is removed before more are made.
const ENTRIES: usize = 60;

/// Deepest directory that is made on purpose.
const DEPTH: usize = 4;

/// Draws steps.
#[derive(Debug)]
pub(super) struct Choice {
    random: SmallRng,
    /// Whether a file may be written while it is open for reading only. A mount that passes reads through to the cache file then shows
    /// the version that was opened, and not what is written: reads are as on a local disk only without.
    reads_while_written: bool,
    drawn: u64,
}

/// Where a step is to be done.
struct Place<'a> {
    random: &'a mut SmallRng,
    files: Vec<&'a str>,
    directories: Vec<&'a str>,
    symlinks: Vec<&'a str>,
    open: Vec<Slot>,
    /// Open directories, with what is in them.
    held: Vec<(Slot, Vec<Path>)>,
    data: u64,
}

/// A kind of step: how often it is drawn, and how it is made.
type Kinds = [(u32, fn(&mut Place<'_>) -> Option<Step>)];

const KINDS: &Kinds = &[
    (14, |p| Some(Step::Put(p.file(), p.data()))),
    (4, |p| Some(Step::PutNew(p.file(), p.data()))),
    (5, |p| Some(Step::PutBeside(p.file(), p.data()))),
    (4, |p| Some(Step::PutWithTimes(p.file(), p.data(), p.bits(), p.seconds()))),
    (3, |p| Some(Step::Touch(p.file()))),
    (6, |p| Some(Step::Append(p.file(), p.data()))),
    (6, |p| Some(Step::Overwrite(p.file(), p.offset(), p.data()))),
    (5, |p| Some(Step::Truncate(p.file(), p.length()))),
    (8, |p| Some(Step::Get(p.file()))),
    (5, |p| Some(Step::GetPart(p.file(), p.offset(), p.size()))),
    (4, |p| Some(Step::Copy(p.file(), p.file()))),
    (6, |p| Some(Step::Unlink(p.file()))),
    (8, |p| Some(Step::MakeDir(p.directory(), 0o755))),
    (2, |p| Some(Step::MakeDir(p.directory(), 0o700))),
    (3, |p| Some(Step::MakeDirs(p.directory()))),
    (4, |p| Some(Step::RemoveDir(p.directory()))),
    (1, |p| Some(Step::RemoveTree(p.directory()))),
    (6, |p| Some(Step::List(p.directory()))),
    (1, |p| Some(Step::SyncDir(p.directory()))),
    (8, |p| Some(Step::Rename(p.file(), p.file()))),
    (8, |p| Some(Step::Rename(p.directory(), p.directory()))),
    (2, |p| Some(Step::Rename(p.file(), p.directory()))),
    (2, |p| Some(Step::Rename(p.directory(), p.file()))),
    (1, |p| p.onto_itself()),
    (2, |p| p.below_itself()),
    (2, |p| Some(Step::RenameNoReplace(p.file(), p.file()))),
    (4, |p| Some(Step::RenameExchange(p.any(), p.any()))),
    (2, |p| Some(Step::RenameExchange(p.directory(), p.directory()))),
    (4, |p| Some(Step::RenameInCircle(p.directory(), p.directory(), p.fresh()))),
    (6, |p| Some(Step::Link(p.file(), p.fresh()))),
    (1, |p| Some(Step::Link(p.file(), p.file()))),
    (1, |p| Some(Step::Link(p.directory(), p.file()))),
    (2, |p| Some(Step::RenameNoReplace(p.directory(), p.directory()))),
    (5, |p| Some(Step::Symlink(p.target(), p.fresh()))),
    (1, |p| Some(Step::Symlink(p.target(), p.any()))),
    (3, |p| p.symlink().map(Step::ReadLink)),
    (1, |p| Some(Step::ReadLink(p.any()))),
    (2, |p| p.symlink().map(Step::Stat)),
    (2, |p| p.symlink().map(Step::Unlink)),
    (2, |p| p.symlink().map(|path| Step::Rename(path, p.any()))),
    (2, |p| p.symlink().map(|path| Step::Link(path, p.fresh()))),
    (3, |p| p.symlink().map(|path| Step::Put(path, p.data()))),
    (2, |p| p.symlink().map(Step::Get)),
    (2, |p| Some(Step::MakeFifo(p.fresh(), p.bits()))),
    (1, |p| Some(Step::MakeSocket(p.fresh(), p.bits()))),
    (10, |p| Some(Step::SetXattr(p.any(), p.xattr(), p.value()))),
    (4, |p| Some(Step::GetXattr(p.any(), p.xattr()))),
    (8, |p| Some(Step::RemoveXattr(p.any(), p.xattr()))),
    (3, |p| Some(Step::ListXattrs(p.any()))),
    (2, |p| p.opened().map(|slot| Step::FSetXattr(slot, p.xattr(), p.value()))),
    (2, |p| p.opened().map(|slot| Step::FGetXattr(slot, p.xattr()))),
    (6, |p| Some(Step::Stat(p.any()))),
    (3, |p| Some(Step::Chmod(p.any(), p.bits()))),
    (2, |p| p.owner().map(|(user, group)| Step::Chown(p.any(), user, group))),
    (3, |p| Some(Step::SetTimes(p.any(), p.seconds(), 123_456_789))),
    (1, |p| Some(Step::OmitTimes(p.any()))),
    (1, |p| Some(Step::TimesNow(p.any()))),
    (18, |p| Some(Step::Open(p.slot(), p.file(), p.mode()))),
    (2, |p| Some(Step::Open(p.slot(), p.any(), p.mode()))),
    (4, |p| Some(Step::Open(p.slot(), p.directory(), Mode::Directory))),
    (14, |p| p.opened().map(Step::Close)),
    (2, |p| p.opened().map(|slot| Step::Duplicate(slot, p.slot()))),
    (2, |p| p.opened().map(Step::DuplicateAndClose)),
    (8, |p| p.opened().map(|slot| Step::ReadAt(slot, p.offset(), p.size()))),
    (4, |p| p.opened().map(|slot| Step::ReadOn(slot, p.size()))),
    (5, |p| p.opened().map(Step::ReadToEnd)),
    (2, |p| p.opened().map(|slot| Step::ReadVector(slot, p.offset(), [p.size(), p.size()]))),
    (10, |p| p.opened().map(|slot| Step::WriteAt(slot, p.offset(), p.data()))),
    (6, |p| p.opened().map(|slot| Step::WriteOn(slot, p.data()))),
    (2, |p| p.opened().map(|slot| Step::WriteVector(slot, p.offset(), [p.data(), p.data()]))),
    (1, |p| p.opened().map(|slot| Step::WriteAt(slot, p.offset(), Data { seed: 0, length: 0 }))),
    (2, |p| p.opened().map(|slot| Step::SeekStart(slot, p.offset()))),
    (3, |p| p.opened().map(|slot| Step::SeekEnd(slot, p.step()))),
    (2, |p| p.opened().map(|slot| Step::SeekOn(slot, p.step()))),
    (5, |p| p.opened().map(|slot| Step::FTruncate(slot, p.offset()))),
    (3, |p| p.opened().map(|slot| Step::Allocate(slot, Room::Plain, p.offset(), p.offset()))),
    (2, |p| p.opened().map(|slot| Step::Allocate(slot, Room::KeepSize, p.offset(), p.offset()))),
    (4, |p| p.opened().map(|slot| Step::Allocate(slot, Room::PunchHole, p.offset(), p.offset()))),
    (8, |p| {
        p.opened().and_then(|one| p.opened().map(|other| Step::CopyRange(one, p.offset(), other, p.offset(), p.size())))
    }),
    (3, |p| p.opened().map(Step::Fsync)),
    (2, |p| p.opened().map(Step::Fdatasync)),
    (5, |p| p.opened().map(Step::FStat)),
    (2, |p| p.opened().map(|slot| Step::FChmod(slot, p.bits()))),
    (2, |p| p.opened().map(|slot| Step::FSetTimes(slot, p.seconds(), 987_654_321))),
    (2, |p| p.opened().map(Step::Forget)),
    (3, |p| p.opened().map(|slot| Step::IsSame(slot, p.any()))),
    (2, |p| p.held().map(|(slot, _)| Step::ListHeld(slot))),
    (3, |p| p.held().map(|(slot, name)| Step::PutHeld(slot, name, p.data()))),
    (8, |p| p.held().map(|(slot, name)| Step::MakeDirHeld(slot, name))),
    (5, |p| p.held().map(|(slot, name)| Step::UnlinkHeld(slot, name))),
    (16, |p| p.held().map(|(slot, name)| Step::RemoveDirHeld(slot, name))),
    (4, |p| p.held().map(|(slot, name)| Step::StatHeld(slot, name))),
    (3, |p| p.held().and_then(|(slot, name)| p.held().map(|to| Step::RenameHeld(slot, name, to.0, to.1)))),
];

impl Choice {
    pub(super) fn new(seed: u64, reads_while_written: bool) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), reads_while_written, drawn: 0 }
    }

    /// The next step, to be done in both roots, of which `reference` is the one to look at.
    pub(super) fn next(&mut self, reference: &Actor, tree: &Tree) -> Step {
        if tree.len() > ENTRIES
            && let Some(top) = tree.paths(Kind::Directory).iter().find(|path| !path.contains('/'))
        {
            return Step::RemoveTree((*top).to_owned());
        }
        loop {
            self.drawn += 1;
            let mut place = Place {
                random: &mut self.random,
                files: tree.paths(Kind::File),
                directories: tree.paths(Kind::Directory),
                symlinks: tree.paths(Kind::Symlink),
                open: (0..SLOTS).filter(|slot| reference.open(*slot).is_some()).collect(),
                held: (0..SLOTS).filter_map(|slot| Some((slot, reference.entries(slot)?))).collect(),
                data: self.drawn,
            };
            let total: u32 = KINDS.iter().map(|(often, _)| often).sum();
            let mut at = place.random.random_range(0..total);
            let kind = KINDS.iter().find(|(often, _)| match at.checked_sub(*often) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
            let Some(step) = kind.and_then(|(_, make)| make(&mut place)) else { continue };
            if uses_what_has_no_name(&step, reference) || seeks_in_a_directory(&step, reference) {
                continue;
            }
            if self.reads_while_written || !writes_what_is_read(&step, reference, tree) {
                return step;
            }
        }
    }
}

/// Whether a step uses a file that was unlinked while it was open for more than a mount allows now.
fn uses_what_has_no_name(step: &Step, reference: &Actor) -> bool {
    let has_no_name = |slot: &Slot| {
        let stat = reference.open(*slot).and_then(|file| rustix::fs::fstat(file).ok());
        stat.is_some_and(|stat| stat.st_nlink == 0)
    };
    step.slots().iter().any(has_no_name) && !matches!(step, Step::Close(_) | Step::Open(..))
}

/// Positions in directories are what each file system likes.
fn seeks_in_a_directory(step: &Step, reference: &Actor) -> bool {
    let (Step::SeekStart(slot, _) | Step::SeekEnd(slot, _) | Step::SeekOn(slot, _)) = step else { return false };
    reference.entries(*slot).is_some()
}

/// Whether a step would write to a file that is open for reading only, or open one for reading that is being written.
fn writes_what_is_read(step: &Step, reference: &Actor, tree: &Tree) -> bool {
    let mut read_only = BTreeSet::new();
    for file in (0..SLOTS).filter_map(|slot| reference.open(slot)) {
        let (Ok(flags), Ok(stat)) = (fcntl_getfl(file), rustix::fs::fstat(file)) else { continue };
        if flags & OFlags::RWMODE == OFlags::RDONLY {
            read_only.insert(stat.st_ino);
        }
    }
    let is_read = |path: &str| {
        let there = std::fs::metadata(reference.root.join(path));
        there.is_ok_and(|there| read_only.contains(&there.ino()))
    };
    let path = match step {
        Step::Put(path, _)
        | Step::PutWithTimes(path, ..)
        | Step::Append(path, _)
        | Step::Overwrite(path, ..)
        | Step::Touch(path)
        | Step::Truncate(path, _)
        | Step::Copy(_, path) => path,
        Step::Open(_, path, mode) if mode.writes() => path,
        Step::PutBeside(path, _) => &format!("{path}.tmp"),
        // Below an open directory: whichever file has the name.
        Step::PutHeld(_, name, _) => {
            let some = [Kind::File, Kind::Symlink].map(|kind| tree.paths(kind)).into_iter().flatten();
            return some.filter(|path| path.ends_with(name.as_str())).any(is_read);
        }
        _ => return false,
    };
    is_read(path)
}

impl Place<'_> {
    fn one_of<T: Copy>(&mut self, some: &[T]) -> Option<T> {
        if some.is_empty() { None } else { Some(some[self.random.random_range(0..some.len())]) }
    }

    fn name(&mut self) -> Path {
        NAMES[self.random.random_range(0..NAMES.len())].to_owned()
    }

    /// A path that may or may not exist.
    fn fresh(&mut self) -> Path {
        let name = match self.random.random_range(0..60) {
            0 => "n".repeat(256),
            // MinIO keeps the marker of a directory in a folder whose name is longer by ten bytes.
            1 => return "m".repeat(240),
            2 => return format!("{}/{}", self.name(), self.name()),
            3 => {
                let file = self.files.clone();
                return format!("{}/{}", self.one_of(&file).unwrap_or("a"), self.name());
            }
            _ => self.name(),
        };
        let directories: Vec<_> =
            self.directories.iter().filter(|path| path.split('/').count() < DEPTH).copied().collect();
        match self.one_of(&directories) {
            Some(directory) if self.random.random_bool(0.7) => format!("{directory}/{name}"),
            _ => name,
        }
    }

    fn existing_or_fresh(&mut self, existing: &[&str], chance: f64) -> Path {
        let path = match self.one_of(existing) {
            Some(path) if self.random.random_bool(chance) => path.to_owned(),
            _ => self.fresh(),
        };
        if self.random.random_bool(0.02) { format!("{path}/") } else { path }
    }

    fn file(&mut self) -> Path {
        let files = self.files.clone();
        self.existing_or_fresh(&files, 0.6)
    }

    fn directory(&mut self) -> Path {
        let directories = self.directories.clone();
        self.existing_or_fresh(&directories, 0.5)
    }

    fn any(&mut self) -> Path {
        if self.random.random_bool(0.6) { self.file() } else { self.directory() }
    }

    fn onto_itself(&mut self) -> Option<Step> {
        let path = self.any();
        Some(Step::Rename(path.clone(), path))
    }

    fn below_itself(&mut self) -> Option<Step> {
        let directories = self.directories.clone();
        let path = self.one_of(&directories)?;
        let below: Vec<_> =
            directories.iter().filter(|other| other.starts_with(&format!("{path}/"))).copied().collect();
        let below = self.one_of(&below).unwrap_or(path);
        Some(Step::Rename(path.to_owned(), format!("{below}/{}", self.name())))
    }

    fn symlink(&mut self) -> Option<Path> {
        let symlinks = self.symlinks.clone();
        self.one_of(&symlinks).map(ToOwned::to_owned)
    }

    /// What a symbolic link leads to: never out of the root.
    fn target(&mut self) -> Path {
        if self.random.random_bool(0.3) { format!("{}/{}", self.name(), self.name()) } else { self.name() }
    }

    fn xattr(&mut self) -> usize {
        self.random.random_range(0..XATTRS.len())
    }

    /// Of an extended attribute: all of them have room on any file system.
    fn value(&mut self) -> Data {
        let length = self.random.random_range(0..100);
        self.data += 1 << 32;
        Data { seed: self.data, length }
    }

    fn slot(&mut self) -> Slot {
        self.random.random_range(0..SLOTS)
    }

    fn opened(&mut self) -> Option<Slot> {
        let open = self.open.clone();
        self.one_of(&open)
    }

    /// An open directory and a name that may be in it; sometimes any open file.
    fn held(&mut self) -> Option<(Slot, Path)> {
        if self.held.is_empty() || self.random.random_bool(0.1) {
            return self.opened().map(|slot| (slot, self.name()));
        }
        let (slot, names) = self.held[self.random.random_range(0..self.held.len())].clone();
        if names.is_empty() || self.random.random_bool(0.3) {
            return Some((slot, self.name()));
        }
        Some((slot, names[self.random.random_range(0..names.len())].clone()))
    }

    fn mode(&mut self) -> Mode {
        Mode::ALL[self.random.random_range(0..Mode::ALL.len())]
    }

    fn data(&mut self) -> Data {
        let length = match self.random.random_range(0..40) {
            0 => self.random.random_range(1 << 20..=5 << 19),
            1..4 => self.random.random_range(0..300_000),
            4..6 => 4096 * self.random.random_range(1..9_usize),
            6 => 0,
            _ => self.random.random_range(1..20_000),
        };
        self.data += 1 << 32;
        Data { seed: self.data, length }
    }

    fn size(&mut self) -> usize {
        if self.random.random_bool(0.1) {
            self.random.random_range(0..2 << 20)
        } else {
            self.random.random_range(0..30_000)
        }
    }

    fn offset(&mut self) -> u64 {
        match self.random.random_range(0..20) {
            0 => self.random.random_range(0..3 << 20),
            1..4 => 0,
            4..7 => 4096 * self.random.random_range(0..8_u64),
            _ => self.random.random_range(0..25_000),
        }
    }

    fn length(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => -1,
            1 => self.random.random_range(0..3 << 20),
            2..5 => 0,
            _ => self.random.random_range(0..25_000),
        }
    }

    fn step(&mut self) -> i64 {
        self.random.random_range(-20_000..10_000)
    }

    /// Whose bits leave the owner what the run itself needs.
    fn bits(&mut self) -> u32 {
        let special = if self.random.random_bool(0.2) { self.random.random_range(0..8) << 9 } else { 0 };
        special | 0o700 | self.random.random_range(0..0o100)
    }

    fn owner(&mut self) -> Option<(u32, u32)> {
        headpond_tests::is_root().then(|| (self.random.random_range(0..3), self.random.random_range(0..3)))
    }

    /// Long before the run.
    fn seconds(&mut self) -> i64 {
        self.random.random_range(0..1_500_000_000)
    }
}
