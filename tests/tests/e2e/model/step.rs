//! What the model test does.

use std::fmt;

use headpond_tests::noise;

/// Names of extended attributes.
pub(super) const XATTRS: [&str; 3] = ["user.a", "user.b c", "user.headless"];

/// A path below the root, without a leading slash.
pub(super) type Path = String;

/// One of the places for open files.
pub(super) type Slot = usize;

/// Bytes, by what determines them.
#[derive(Clone, Copy)]
pub(super) struct Data {
    pub(super) seed: u64,
    pub(super) length: usize,
}

impl Data {
    pub(super) fn bytes(self) -> bytes::Bytes {
        noise(self.seed, self.length)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {:x}", self.length, self.seed)
    }
}

/// How a file is opened. Variants are named for the flags of open(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
    ReadWrite,
    WriteAppend,
    ReadWriteAppend,
    WriteTruncate,
    ReadWriteTruncate,
    ReadTruncate,
    WriteCreate,
    ReadWriteCreate,
    ReadCreate,
    WriteCreateExclusive,
    ReadWriteCreateTruncate,
    WriteCreateAppend,
    Directory,
}

impl Mode {
    pub(super) const ALL: [Self; 15] = [
        Self::Read,
        Self::Write,
        Self::ReadWrite,
        Self::WriteAppend,
        Self::ReadWriteAppend,
        Self::WriteTruncate,
        Self::ReadWriteTruncate,
        Self::ReadTruncate,
        Self::WriteCreate,
        Self::ReadWriteCreate,
        Self::ReadCreate,
        Self::WriteCreateExclusive,
        Self::ReadWriteCreateTruncate,
        Self::WriteCreateAppend,
        Self::Directory,
    ];

    /// Whether it makes or needs a writer.
    pub(super) const fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::Directory)
    }
}

/// What is to become of a part of a file. Variants are named for the flags of fallocate(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Plain,
    KeepSize,
    PunchHole,
}

/// One step: a call, or a few that programs make together.
#[derive(Clone, Debug)]
pub(super) enum Step {
    // Whole files by path.
    Put(Path, Data),
    PutNew(Path, Data),
    PutBeside(Path, Data),
    Touch(Path),
    Append(Path, Data),
    Overwrite(Path, u64, Data),
    Truncate(Path, i64),
    Get(Path),
    GetPart(Path, u64, usize),
    Copy(Path, Path),
    Unlink(Path),
    // Directories.
    MakeDir(Path, u32),
    MakeDirs(Path),
    RemoveDir(Path),
    RemoveTree(Path),
    List(Path),
    SyncDir(Path),
    // Names.
    Rename(Path, Path),
    RenameNoReplace(Path, Path),
    RenameExchange(Path, Path),
    /// Two names change what they lead to by three renames, the third name being free.
    RenameInCircle(Path, Path, Path),
    Link(Path, Path),
    /// The first is what it leads to, taken from where it lies.
    Symlink(Path, Path),
    ReadLink(Path),
    MakeFifo(Path, u32),
    MakeSocket(Path, u32),
    // Extended attributes, by their place in [`XATTRS`].
    SetXattr(Path, usize, Data),
    GetXattr(Path, usize),
    RemoveXattr(Path, usize),
    ListXattrs(Path),
    FSetXattr(Slot, usize, Data),
    FGetXattr(Slot, usize),
    // Attributes.
    Stat(Path),
    Chmod(Path, u32),
    Chown(Path, u32, u32),
    SetTimes(Path, i64, u32),
    OmitTimes(Path),
    TimesNow(Path),
    // Open files.
    Open(Slot, Path, Mode),
    Close(Slot),
    Duplicate(Slot, Slot),
    DuplicateAndClose(Slot),
    ReadAt(Slot, u64, usize),
    ReadOn(Slot, usize),
    ReadToEnd(Slot),
    ReadVector(Slot, u64, [usize; 2]),
    WriteAt(Slot, u64, Data),
    WriteOn(Slot, Data),
    WriteVector(Slot, u64, [Data; 2]),
    SeekStart(Slot, u64),
    SeekEnd(Slot, i64),
    SeekOn(Slot, i64),
    FTruncate(Slot, u64),
    Allocate(Slot, Room, u64, u64),
    /// Within the kernel: from where in which file, to where in which, how much.
    CopyRange(Slot, u64, Slot, u64, usize),
    Fsync(Slot),
    Fdatasync(Slot),
    FStat(Slot),
    FChmod(Slot, u32),
    FSetTimes(Slot, i64, u32),
    /// Makes the kernel forget what it has of the file.
    Forget(Slot),
    /// Whether a path still leads to what is open.
    IsSame(Slot, Path),
    /// As `cp -p` and `tar` do: writes, sets mode and times through the descriptor, closes.
    PutWithTimes(Path, Data, u32, i64),
    // Below an open directory.
    ListHeld(Slot),
    PutHeld(Slot, Path, Data),
    MakeDirHeld(Slot, Path),
    UnlinkHeld(Slot, Path),
    RemoveDirHeld(Slot, Path),
    StatHeld(Slot, Path),
    RenameHeld(Slot, Path, Slot, Path),
}

impl Step {
    /// The open files that it uses.
    pub(super) fn slots(&self) -> Vec<Slot> {
        match self {
            Self::Close(slot)
            | Self::Duplicate(slot, _)
            | Self::DuplicateAndClose(slot)
            | Self::ReadAt(slot, ..)
            | Self::ReadOn(slot, ..)
            | Self::ReadToEnd(slot)
            | Self::ReadVector(slot, ..)
            | Self::WriteAt(slot, ..)
            | Self::WriteOn(slot, ..)
            | Self::WriteVector(slot, ..)
            | Self::SeekStart(slot, ..)
            | Self::SeekEnd(slot, ..)
            | Self::SeekOn(slot, ..)
            | Self::FTruncate(slot, ..)
            | Self::Allocate(slot, ..)
            | Self::FSetXattr(slot, ..)
            | Self::FGetXattr(slot, ..)
            | Self::Fsync(slot)
            | Self::Fdatasync(slot)
            | Self::FStat(slot)
            | Self::FChmod(slot, ..)
            | Self::FSetTimes(slot, ..)
            | Self::Forget(slot)
            | Self::IsSame(slot, ..)
            | Self::ListHeld(slot)
            | Self::PutHeld(slot, ..)
            | Self::MakeDirHeld(slot, ..)
            | Self::UnlinkHeld(slot, ..)
            | Self::RemoveDirHeld(slot, ..)
            | Self::StatHeld(slot, ..) => vec![*slot],
            Self::RenameHeld(slot, _, to, _) | Self::CopyRange(slot, _, to, ..) => vec![*slot, *to],
            _ => Vec::new(),
        }
    }

    /// Its name, with the mode where it opens.
    pub(super) fn kind(&self) -> String {
        if let Self::Open(_, _, mode) = self {
            return format!("Open{mode:?}");
        }
        let text = format!("{self:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    }
}
