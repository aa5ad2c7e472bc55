//! The two tables that hold the tree: directory entries and inodes.
//!
//! Invariants: an inode's row exists exactly when the entry (its parent, its name) leads to it. A directory that is
//! removed loses its entry and its row at once, while the rows below it go later, a few at a time. So an inode is in the tree exactly
//! when the rows of its parents reach up to the root.
//!
//! The same code reads inside a write transaction and in a snapshot.

use headpond_types::{InodeId, MountId, Name};
use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};

use crate::{
    error::TableError,
    inode::{DirKey, Entry, Inode},
    mounts::Mounts,
};

/// Parent (8 bytes, big-endian) and name → [`Entry`]. One directory's entries lie together, in order of their names.
pub(crate) const ENTRIES: TableDefinition<'static, &'static [u8], u64> = TableDefinition::new("entry");
/// Inode id → [`Inode`].
pub(crate) const INODES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("inode");

/// Deeper trees cannot be: no under store has keys that long. Bounds the walk up through damaged rows.
const DEPTH_MAX: usize = 8192;

/// The tables of the tree in one transaction.
#[derive(Debug)]
pub(crate) struct Rows<E, I> {
    pub(crate) entries: E,
    pub(crate) inodes: I,
}

/// The tree in a read transaction.
pub(crate) type ReadRows = Rows<ReadOnlyTable<&'static [u8], u64>, ReadOnlyTable<u64, &'static [u8]>>;
/// The tree in a write transaction.
pub(crate) type WriteRows<'t> = Rows<Table<'t, &'static [u8], u64>, Table<'t, u64, &'static [u8]>>;

impl<E, I> Rows<E, I>
where
    E: ReadableTable<&'static [u8], u64>,
    I: ReadableTable<u64, &'static [u8]>,
{
    pub(crate) fn inode(&self, id: InodeId) -> Result<Option<Inode>, TableError> {
        let Some(row) = self.inodes.get(id.0)? else { return Ok(None) };
        let inode = Inode::decode(row.value());
        inode.map(Some).ok_or_else(|| TableError::Damaged { table: "inode", key: id.to_string() })
    }

    pub(crate) fn entry(&self, dir: DirKey, name: &Name) -> Result<Option<Entry>, TableError> {
        Ok(self.entries.get(entry_key(dir, name.as_bytes()).as_slice())?.map(|row| Entry::decode(row.value())))
    }

    /// At most `limit` entries of a directory in order of their names, from the first after `after`.
    pub(crate) fn list(
        &self,
        dir: DirKey,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, Entry)>, TableError> {
        // No name holds a NUL byte, so this key lies between the name and the next.
        let from =
            after.map_or_else(|| entry_key(dir, &[]), |name| [&entry_key(dir, name.as_bytes())[..], &[0]].concat());
        let to = entry_key(DirKey(dir.0 + 1), &[]);
        let rows = self.entries.range::<&[u8]>(from.as_slice()..to.as_slice())?;
        rows.take(limit)
            .map(|row| {
                let (key, value) = row?;
                let name = key.value().get(8..).and_then(|bytes| Name::new(bytes).ok());
                let name = name.ok_or_else(|| TableError::Damaged { table: "entry", key: hex::encode(key.value()) })?;
                Ok((name, Entry::decode(value.value())))
            })
            .collect()
    }

    /// The mount that the directory `dir` belongs to, 0 for a directory outside all mounts; `None` when `dir` is not in
    /// the tree.
    pub(crate) fn mount_of(&self, mounts: &Mounts, dir: InodeId) -> Result<Option<MountId>, TableError> {
        let mut at = dir;
        for _ in 0..DEPTH_MAX {
            if let Some(mount) = mounts.rooted_at(at) {
                return Ok(Some(mount));
            }
            if at == InodeId::ROOT {
                return Ok(Some(MountId(0)));
            }
            let Some(inode) = self.inode(at)? else { return Ok(None) };
            at = mounts.directory(inode.parent);
        }
        Err(TableError::Damaged { table: "inode", key: dir.to_string() })
    }

    /// What `visit` answers first of `from` and the inodes above it within its mount, the mount's root not included.
    pub(crate) fn climb<T>(
        &self,
        mounts: &Mounts,
        from: InodeId,
        mut visit: impl FnMut(InodeId, &Inode) -> Result<Option<T>, TableError>,
    ) -> Result<Option<T>, TableError> {
        let mut at = from;
        for _ in 0..DEPTH_MAX {
            if at == InodeId::ROOT || mounts.rooted_at(at).is_some() {
                return Ok(None);
            }
            let Some(row) = self.inode(at)? else { return Ok(None) };
            if let Some(found) = visit(at, &row)? {
                return Ok(Some(found));
            }
            at = mounts.directory(row.parent);
        }
        Err(TableError::Damaged { table: "inode", key: from.to_string() })
    }

    /// Whether `inode` is `dir` or lies below, both in one mount; `dir` is no mount's root.
    pub(crate) fn lies_within(&self, mounts: &Mounts, inode: InodeId, dir: InodeId) -> Result<bool, TableError> {
        Ok(self.climb(mounts, inode, |at, _| Ok((at == dir).then_some(())))?.is_some())
    }

    /// Where the under store has what lies right below `dir`, relative to the mount's prefix: nothing, or with `/` at the end. `dir` is in
    /// a mount.
    pub(crate) fn prefix(&self, mounts: &Mounts, dir: InodeId) -> Result<Vec<u8>, TableError> {
        let mut names = Vec::new();
        let explicit = self.climb(mounts, dir, |_, row| {
            names.extend(row.key.is_none().then(|| row.name.clone()).flatten());
            Ok(row.key.clone())
        })?;
        Ok(joined(explicit.unwrap_or_default(), names))
    }

    /// Where it would be if nothing was being relocated.
    pub(crate) fn path_prefix(&self, mounts: &Mounts, dir: InodeId) -> Result<Vec<u8>, TableError> {
        let mut names = Vec::new();
        self.climb(mounts, dir, |_, row| {
            names.extend(row.name.clone());
            Ok(None::<()>)
        })?;
        Ok(joined(Vec::new(), names))
    }

    /// The key of a file, or the prefix of a directory, that is what `row` says if it says none itself.
    pub(crate) fn implied_key(&self, mounts: &Mounts, row: &Inode) -> Result<Vec<u8>, TableError> {
        Ok(below(self.prefix(mounts, mounts.directory(row.parent))?, row))
    }

    /// The key of a file, or the prefix of a directory, that the path says.
    pub(crate) fn path_key(&self, mounts: &Mounts, row: &Inode) -> Result<Vec<u8>, TableError> {
        Ok(below(self.path_prefix(mounts, mounts.directory(row.parent))?, row))
    }

    /// The key of a file, or the prefix of a directory, where the under store has it now.
    pub(crate) fn key(&self, mounts: &Mounts, row: &Inode) -> Result<Vec<u8>, TableError> {
        row.key.clone().map_or_else(|| self.implied_key(mounts, row), Ok)
    }

    /// The same without the `/` at the end of a prefix: what is put for a directory is said like that.
    pub(crate) fn path_place(&self, mounts: &Mounts, row: &Inode) -> Result<Vec<u8>, TableError> {
        Ok(place(self.path_key(mounts, row)?, row))
    }

    /// Where the under store has it now, said like that.
    pub(crate) fn place(&self, mounts: &Mounts, row: &Inode) -> Result<Vec<u8>, TableError> {
        Ok(place(self.key(mounts, row)?, row))
    }

    /// Names from `stop` (exclusive) down to `inode`, `None` when `inode` does not lie below `stop`.
    pub(crate) fn names_below(
        &self,
        mounts: &Mounts,
        stop: InodeId,
        inode: InodeId,
    ) -> Result<Option<Vec<Name>>, TableError> {
        let mut names = Vec::new();
        let mut at = inode;
        for _ in 0..DEPTH_MAX {
            if at == stop {
                names.reverse();
                return Ok(Some(names));
            }
            let Some(row) = self.inode(at)? else { return Ok(None) };
            let Some(name) = row.name else { return Ok(None) };
            names.push(name);
            at = mounts.directory(row.parent);
        }
        Err(TableError::Damaged { table: "inode", key: inode.to_string() })
    }
}

/// `prefix` and the names, of which the last comes first.
fn joined(mut prefix: Vec<u8>, names: Vec<Name>) -> Vec<u8> {
    for name in names.iter().rev() {
        prefix.extend_from_slice(name.as_bytes());
        prefix.push(b'/');
    }
    prefix
}

fn below(mut prefix: Vec<u8>, row: &Inode) -> Vec<u8> {
    prefix.extend_from_slice(row.name.as_ref().map_or(&[], Name::as_bytes));
    if row.directory().is_some() {
        prefix.push(b'/');
    }
    prefix
}

fn place(mut key: Vec<u8>, row: &Inode) -> Vec<u8> {
    if row.directory().is_some() {
        key.pop();
    }
    key
}

/// The key of an entry.
pub(crate) fn entry_key(dir: DirKey, name: &[u8]) -> Vec<u8> {
    [&dir.0.to_be_bytes(), name].concat()
}
