//! Reading the namespace at one state.

mod dirty;
mod links;
mod removals;
mod unsettled;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use headpond_types::{Attr, FileKind, InodeId, MountId, Name, NsPath, RequestId, Result};
use redb::{ReadOnlyTable, ReadableTableMetadata};

pub use removals::{Remain, Remaining};

use crate::{
    alone::ReadAlone,
    apply::Applied,
    command::{Mount, Reply},
    dirty::ReadDirty,
    error::TableError,
    header::{Header, unpack},
    inode::{Entry, Inode, Node},
    links::ReadLinks,
    mounts::Mounts,
    rows::ReadRows,
    unsettled::ReadUnsettled,
    unstored::Unstored,
    view::{Counts, Listed, Location},
    xattr::Xattr,
};

/// Directories whose mount is remembered within one view; a few bytes each.
const KNOWN_DIRECTORIES: usize = 16_384;

/// What directories outside all mounts show.
const BARE_MODE: u32 = 0o755;

/// Tables and derived state at one position of the journal; shared by the snapshots taken there.
pub(crate) struct View {
    rows: ReadRows,
    unsettled: ReadUnsettled,
    alone: ReadAlone,
    dirty: ReadDirty,
    links: ReadLinks,
    replies: ReadOnlyTable<u128, &'static [u8]>,
    header: Header,
    mounts: Arc<Mounts>,
    has_remains: bool,
    /// Which mount a directory is in, or that it is not in the tree, as far as it was asked.
    known: RwLock<HashMap<InodeId, Option<MountId>>>,
}

/// A consistent view of the namespace, unaffected by what is applied meanwhile. Clones share it.
///
/// Methods may read the disk, for as long as a page that is not in the cache takes. Inodes that are gone, or lie below a
/// directory that is gone, are `None`. All methods fail with `corrupt` when a row does not decode and with `internal` when the
/// tables cannot be read.
#[derive(Clone)]
pub struct Snapshot(Arc<View>);

impl View {
    pub(crate) fn new(
        rows: ReadRows,
        unsettled: ReadUnsettled,
        alone: ReadAlone,
        dirty: ReadDirty,
        links: ReadLinks,
        replies: ReadOnlyTable<u128, &'static [u8]>,
        applied: &Applied,
    ) -> Self {
        let Applied { header, mounts, has_remains, .. } = applied;
        let (header, mounts, has_remains) = (header.clone(), Arc::clone(mounts), *has_remains);
        Self { rows, unsettled, alone, dirty, links, replies, header, mounts, has_remains, known: RwLock::default() }
    }

    /// The mount that a directory is in; `None` when it is not in the tree.
    fn mount_of(&self, dir: InodeId) -> Result<Option<MountId>, TableError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&dir).copied();
        if let Some(mount) = known {
            return Ok(mount);
        }
        let mount = self.rows.mount_of(&self.mounts, dir)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_DIRECTORIES {
            known.clear();
        }
        known.insert(dir, mount);
        Ok(mount)
    }

    /// The row of an inode that is in the tree.
    fn inode(&self, id: InodeId) -> Result<Option<Inode>, TableError> {
        let Some(inode) = self.rows.inode(id)? else { return Ok(None) };
        let parent = self.mounts.directory(inode.parent);
        Ok(self.mount_of(parent)?.is_some().then_some(inode))
    }

    fn lookup(&self, dir: InodeId, name: &Name) -> Result<Option<Attr>, TableError> {
        let Some(mount) = self.mount_of(dir)? else { return Ok(None) };
        let Some(entry) = self.rows.entry(self.mounts.key(dir), name)? else { return Ok(None) };
        self.entry_attr(mount, entry).map(Some)
    }

    fn list(&self, dir: InodeId, after: Option<&Name>, limit: usize) -> Result<Vec<(Name, Attr)>, TableError> {
        let Some(mount) = self.mount_of(dir)? else { return Ok(Vec::new()) };
        let entries = self.rows.list(self.mounts.key(dir), after, limit)?;
        entries.into_iter().map(|(name, entry)| Ok((name, self.entry_attr(mount, entry)?))).collect()
    }

    /// The attributes of what an entry in a directory of `mount` leads to.
    fn entry_attr(&self, mount: MountId, entry: Entry) -> Result<Attr, TableError> {
        let inode = self.rows.inode(entry.inode)?;
        let inode = inode.ok_or_else(|| TableError::Damaged { table: "inode", key: entry.inode.to_string() })?;
        self.attr(entry.inode, mount, inode)
    }

    /// `mount` is the one that the parent is in.
    fn attr(&self, id: InodeId, mount: MountId, inode: Inode) -> Result<Attr, TableError> {
        let nlink = self.nlink(id, &inode)?;
        let mount = self.mounts.rooted_at(id).unwrap_or(mount);
        let shown = self.mounts.get(mount);
        let own = inode.own;
        let base = Attr {
            inode: id,
            parent: self.mounts.directory(inode.parent),
            mount,
            kind: FileKind::Directory,
            mode: own.mode.unwrap_or_else(|| shown.map_or(BARE_MODE, |mount| mount.dir_mode)),
            uid: own.uid.unwrap_or_else(|| shown.map_or(0, |mount| mount.uid)),
            gid: own.gid.unwrap_or_else(|| shown.map_or(0, |mount| mount.gid)),
            nlink,
            size: 0,
            mtime: Default::default(),
            atime: own.atime,
            own_mtime: own.mtime,
            dirty: inode.dirty && inode.file().is_some(),
            has_xattrs: own.xattrs,
            ctime: Default::default(),
            content: None,
            version: String::new(),
        };
        Ok(match inode.node {
            Node::Directory(directory) => Attr { mtime: directory.mtime, ctime: own.changed(directory.mtime), ..base },
            Node::File(file) => Attr {
                kind: FileKind::File,
                mode: own.mode.unwrap_or_else(|| shown.map_or(BARE_MODE, |mount| mount.file_mode)),
                size: file.size,
                mtime: file.mtime,
                ctime: own.changed(file.mtime),
                content: Some(file.content),
                version: file.version,
                ..base
            },
            Node::Unstored { what, mtime } => Attr {
                kind: what.kind(),
                mode: own.mode.unwrap_or_else(|| shown.map_or(BARE_MODE, |mount| mount.file_mode)),
                size: what.size(),
                mtime,
                ctime: own.changed(mtime),
                ..base
            },
        })
    }

    fn location(&self, id: InodeId) -> Result<Option<Location>, TableError> {
        let Some(inode) = self.rows.inode(id)? else { return Ok(None) };
        let mount = match self.mounts.rooted_at(id) {
            Some(mount) => Some(mount),
            None => self.mount_of(self.mounts.directory(inode.parent))?,
        };
        let Some((mount, root)) = mount.and_then(|mount| Some((mount, self.mounts.root_of(mount)?))) else {
            return Ok(None);
        };
        let Some(names) = self.rows.names_below(&self.mounts, root, id)? else { return Ok(None) };
        let key = match &inode.node {
            _ if id == root => Vec::new(),
            Node::Unstored { .. } => self.rows.path_key(&self.mounts, &inode)?,
            Node::File(file) if !file.is_persisted() => {
                let dirty = if inode.dirty { self.dirty.get(id)? } else { None };
                match dirty.and_then(|dirty| dirty.key) {
                    Some(key) => key,
                    None => self.rows.path_key(&self.mounts, &inode)?,
                }
            }
            Node::File(_) => self.rows.key(&self.mounts, &inode)?,
            Node::Directory(_) => self.rows.place(&self.mounts, &inode)?,
        };
        Ok(Some(Location { mount, names, key }))
    }
}

impl Snapshot {
    pub(crate) const fn new(view: Arc<View>) -> Self {
        Self(view)
    }

    /// Index of the last journal entry that the view has; 0 before the first.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.header.applied.map_or(0, |applied| applied.index)
    }

    /// The attributes of what `name` in `dir` leads to; of a further name, what [`Snapshot::shown`] resolves.
    ///
    /// # Errors
    /// As for all methods.
    pub fn lookup(&self, dir: InodeId, name: &Name) -> Result<Option<Attr>> {
        Ok(self.0.lookup(dir, name)?)
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// As for all methods.
    pub fn attr(&self, inode: InodeId) -> Result<Option<Attr>> {
        let view = &self.0;
        let Some(row) = view.rows.inode(inode)? else { return Ok(None) };
        let mount = view.mount_of(view.mounts.directory(row.parent))?;
        Ok(mount.map(|mount| view.attr(inode, mount, row)).transpose()?)
    }

    /// At most `limit` entries of `dir` in the order of their names' bytes, from the first after `after`; attributes as of
    /// [`Snapshot::lookup`].
    ///
    /// # Errors
    /// As for all methods.
    pub fn list(&self, dir: InodeId, after: Option<&Name>, limit: usize) -> Result<Vec<(Name, Attr)>> {
        Ok(self.0.list(dir, after, limit)?)
    }

    /// What is known of the last complete listing of `dir`; `None` when there was none, or something that it cannot have seen
    /// has come to light since.
    ///
    /// # Errors
    /// As for all methods.
    pub fn listed(&self, dir: InodeId) -> Result<Option<Listed>> {
        let inode = self.0.inode(dir)?;
        let directory = inode.as_ref().and_then(Inode::directory);
        Ok(directory.and_then(|directory| {
            directory.listed.map(|(at, skipped)| Listed { at, entries: directory.children, skipped })
        }))
    }

    /// Where the under store has an inode; `None` also for a directory outside all mounts.
    ///
    /// # Errors
    /// As for all methods.
    pub fn location(&self, inode: InodeId) -> Result<Option<Location>> {
        Ok(self.0.location(inode)?)
    }

    /// The target of a symbolic link; `None` also of what is none.
    ///
    /// # Errors
    /// As for all methods.
    pub fn link_target(&self, inode: InodeId) -> Result<Option<Vec<u8>>> {
        Ok(self.0.inode(inode)?.and_then(|row| match row.node {
            Node::Unstored { what: Unstored::Symlink(target), .. } => Some(target),
            Node::Unstored { .. } | Node::File(_) | Node::Directory(_) => None,
        }))
    }

    /// Names and values of the extended attributes of an inode, in order of the names.
    ///
    /// # Errors
    /// As for all methods.
    pub fn xattrs(&self, inode: InodeId) -> Result<Vec<Xattr>> {
        if self.0.inode(inode)?.is_none_or(|row| !row.own.xattrs) {
            return Ok(Vec::new());
        }
        Ok(self.0.alone.xattrs_of(inode)?)
    }

    /// Whether something lies below a directory that no under store can hold: the directory stays, whatever the under store shows.
    ///
    /// # Errors
    /// As for all methods.
    pub fn holds_unstored(&self, dir: InodeId) -> Result<bool> {
        Ok(self.0.alone.is_holder(dir)?)
    }

    /// What a request was answered, if that is still remembered: the state that it met may be gone.
    ///
    /// # Errors
    /// As for all methods.
    pub fn reply(&self, request: RequestId) -> Result<Option<Reply>> {
        let row = self.0.replies.get(request.0).map_err(TableError::from)?;
        Ok(row.map(|row| unpack("request", &request.0, row.value())).transpose()?)
    }

    /// The files that no under store holds yet, in order of their ids: without a writer, they are to be discarded.
    ///
    /// # Errors
    /// As for all methods.
    pub fn unpersisted(&self) -> Result<Vec<InodeId>> {
        let view = &self.0;
        let mut files = Vec::new();
        for row in redb::ReadableTable::iter(&view.unsettled.unpersisted).map_err(TableError::from)? {
            let file = InodeId(row.map_err(TableError::from)?.0.value());
            if view.inode(file)?.is_some() {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// The path of an inode.
    ///
    /// # Errors
    /// As for all methods.
    pub fn path(&self, inode: InodeId) -> Result<Option<NsPath>> {
        let view = &self.0;
        let names = view.rows.names_below(&view.mounts, InodeId::ROOT, inode)?;
        Ok(names.map(|names| names.into_iter().fold(NsPath::root(), |path, name| path.join(name))))
    }

    /// All mounts in order of their ids.
    ///
    /// # Errors
    /// As for all methods.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        Ok(self.0.mounts.iter().cloned().collect())
    }

    /// The directory that a mount shows.
    ///
    /// # Errors
    /// As for all methods.
    pub fn mount_root(&self, mount: MountId) -> Result<Option<InodeId>> {
        Ok(self.0.mounts.root_of(mount))
    }

    /// Sizes of the namespace. Takes no longer for a large one.
    ///
    /// # Errors
    /// As for all methods.
    pub fn counts(&self) -> Result<Counts> {
        let dirty = self.0.dirty.rows.len().map_err(TableError::from)?;
        Ok(Counts { inodes: self.0.header.inodes, dirty, file_bytes: self.0.header.file_bytes })
    }

    /// The cluster's id, once it has one.
    ///
    /// # Errors
    /// As for all methods.
    pub fn cluster(&self) -> Result<Option<u64>> {
        Ok(self.0.header.cluster)
    }

    /// Whether something lies below directories that are gone, for [`crate::Command::Sweep`] to clear away.
    #[must_use]
    pub fn has_remains(&self) -> bool {
        self.0.has_remains
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("header", &self.0.header).finish_non_exhaustive()
    }
}
