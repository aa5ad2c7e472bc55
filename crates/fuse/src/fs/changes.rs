//! Changing names and attributes.

use headpond_client::{AttrChange, Owner};
use headpond_runtime::{Clock as _, SystemClock};
use headpond_types::{Attr, FileKind, InodeId, Name, RenameMode, Result, Timestamp};
use tracing::debug;

use super::{Entry, FileSystem, Source, SourceFile, SourceWriter, attributes::name_of};

/// Bits of a mode that give rights to whoever runs the file.
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_RUNS: u32 = 0o0010;

/// Files up to this long are brought to this node before their name goes, so that who has them open can read on.
const KEPT: u64 = 64 << 20;

/// Bytes brought at a time.
const PIECE: usize = 4 << 20;

/// What is to be changed of an inode.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) length: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) atime: Option<Time>,
}

/// A time to be set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Time {
    Now,
    At(Timestamp),
}

impl Time {
    const fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// Makes a directory.
    pub(crate) async fn make_directory(&self, parent: u64, name: &[u8], owner: Owner) -> Result<Entry> {
        let (parent, name) = (self.inode_of(parent), name_of(name)?);
        let made = self.within("making a directory", self.source.make_directory(parent, &name, owner)).await?;
        self.disturb(parent);
        Ok(self.entry(&made))
    }

    /// Gives a file a further name.
    pub(crate) async fn link(&self, node: u64, parent: u64, name: &[u8]) -> Result<Entry> {
        let (inode, parent, name) = (self.inode_of(node), self.inode_of(parent), name_of(name)?);
        let linked = self.within("linking", self.source.link(inode, parent, &name)).await?;
        self.disturb(parent);
        Ok(self.entry(&linked))
    }

    /// Removes a file or an empty directory.
    pub(crate) async fn remove(&self, parent: u64, name: &[u8], directory: bool) -> Result<()> {
        let (parent, name) = (self.inode_of(parent), name_of(name)?);
        let kept = if directory { None } else { self.keep_readable(parent, &name).await };
        let removed = self.within("removing a name", self.source.remove(parent, &name, directory)).await;
        self.let_go_unless(removed.is_ok(), kept);
        self.disturb(parent);
        removed
    }

    /// Renames.
    pub(crate) async fn rename(&self, from: (u64, &[u8]), to: (u64, &[u8]), mode: RenameMode) -> Result<()> {
        let (from, from_name) = (self.inode_of(from.0), name_of(from.1)?);
        let (to, to_name) = (self.inode_of(to.0), name_of(to.1)?);
        let replaces = mode == RenameMode::Replace;
        let kept = if replaces { self.keep_readable(to, &to_name).await } else { None };
        let rename = self.source.rename((from, &from_name), (to, &to_name), mode);
        let renamed = self.within("renaming", rename).await;
        self.let_go_unless(renamed.is_ok(), kept);
        self.disturb(from);
        self.disturb(to);
        renamed
    }

    /// Changes attributes; with `handle` of a file that is open. Who is not `privileged` takes the right to act as owner or group from a
    /// file that he cuts.
    pub(crate) async fn set_attr(
        &self,
        node: u64,
        handle: Option<u64>,
        change: Change,
        privileged: bool,
    ) -> Result<Entry> {
        let Change { mode, uid, gid, length, mtime, atime } = change;
        if let Some(length) = length {
            self.set_length(node, handle, length).await?;
        }
        let drops_rights = uid.is_some() || gid.is_some() || (length.is_some() && !privileged);
        let mode = match mode {
            None if drops_rights => self.mode_without_rights(node).await?,
            mode => mode.map(|mode| mode & 0o7777),
        };
        let (inode, now) = (self.inode_of(node), SystemClock.now());
        let mtime = match mtime {
            // Also of what is not persisted yet: another time may have been set since it was written.
            Some(time) => Some(time.at(now)),
            // The kernel leaves it to us that a file is modified when it is cut through a descriptor, also to the length that it has. What is not
            // persisted yet was modified just then.
            None if handle.and(length).is_some() => self.modified_now(inode),
            None => None,
        };
        let change = AttrChange { mode, uid, gid, mtime, atime: atime.map(|time| time.at(now)) };
        if change != AttrChange::default() {
            let found = self.within("changing attributes", self.source.set_attr(inode, change)).await?;
            return Ok(self.attr_written(node).unwrap_or_else(|| self.attr_of_version(node, &found)));
        }
        match self.attr_now(node) {
            Some(entry) => Ok(entry),
            None => self.attr(node).await,
        }
    }

    /// When a file was modified that is cut to the length that it has, unless that is said by what is to be persisted of it.
    pub(super) fn modified_now(&self, inode: InodeId) -> Option<Timestamp> {
        let is_said = self.source.writer(inode).is_some_and(|writer| writer.is_dirty());
        (!is_said).then(|| SystemClock.now())
    }

    /// Takes from a file the right to act as its owner or group, as a write by somebody else does.
    pub(crate) async fn drop_rights(&self, node: u64) -> Result<()> {
        let Some(mode) = self.mode_without_rights(node).await? else { return Ok(()) };
        let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
        self.within("changing attributes", self.source.set_attr(self.inode_of(node), change)).await.map(drop)
    }

    /// Whether a file may have the right to act as its owner or group: it has, or that is not in memory.
    pub(crate) fn may_have_rights(&self, node: u64) -> bool {
        let found = self.attr_now(node).and_then(|entry| entry.found);
        found.is_none_or(|(_, attr)| without_rights(&attr).is_some())
    }

    /// The mode that a file is left with; `None`: it stays as it is.
    async fn mode_without_rights(&self, node: u64) -> Result<Option<u32>> {
        let entry = match self.attr_now(node) {
            Some(entry) => entry,
            None => self.attr(node).await?,
        };
        Ok(entry.found.and_then(|(_, attr)| without_rights(&attr)))
    }

    /// Sees to it that who has the file `name` open can read on: what is on no disk of this node cannot be had any more once the name is
    /// gone. Answers the inode if it is its writer that was kept.
    async fn keep_readable(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        let attr = self.source.cached_lookup(parent, name.as_bytes())?.attr?;
        let inode = attr.inode;
        // It can be read under its other names.
        if attr.nlink > 1 || !self.opens.is_open(inode) {
            return None;
        }
        if let Some(writer) = self.source.writer(inode) {
            self.orphans.keep(inode, writer);
            // The last release may have come in between.
            let is_open = self.opens.is_open(inode);
            self.let_go_unless(is_open, Some(inode));
            return Some(inode);
        }
        let read = async {
            for node in self.opens.open_nodes(inode) {
                let file = match self.opens.file(node) {
                    Some(file) => file,
                    None => self.open_to_read(node).await?,
                };
                let length = file.attr().size;
                if length <= KEPT && file.complete().is_none() {
                    for offset in (0..length).step_by(PIECE) {
                        file.read_at(offset, PIECE).await?;
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = self.within("reading a file whose name goes", read).await {
            debug!(%error, %name, "who reads a removed file may not be able to go on");
        }
        None
    }

    /// A name that did not go leaves nothing to be kept.
    fn let_go_unless(&self, gone: bool, kept: Option<InodeId>) {
        if let Some(inode) = kept.filter(|_| !gone) {
            self.orphans.let_go(inode);
        }
    }
}

fn without_rights(attr: &Attr) -> Option<u32> {
    let mode = attr.mode;
    let dropped = if mode & GROUP_RUNS == 0 { SET_UID } else { SET_UID | SET_GID };
    (attr.kind == FileKind::File && mode & dropped != 0).then_some(mode & !dropped)
}
