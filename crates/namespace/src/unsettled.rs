//! The tables of what under stores do not hold where the paths say: relocations, the names that they mask, and files without a version.
//!
//! Invariants: an inode has at most one relocation, and no relocation lies below another's. Only a directory that is being relocated has
//! an explicit prefix. What is masked or without a version may already be out of the tree.
//!
//! The same code reads inside a write transaction and in a snapshot.

use headpond_types::{InodeId, Name};
use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};

use crate::{command::Relocation, error::TableError, header::unpack, mounts::Mounts, rows::Rows};

/// Relocation id → packed [`Relocation`].
pub(crate) const RELOCATIONS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("relocation");
/// What was renamed → its relocation's id.
pub(crate) const RELOCATING: TableDefinition<'static, u64, u64> = TableDefinition::new("relocating");
/// [`mask_key`]. A name may be masked by several relocations.
pub(crate) const MASKS: TableDefinition<'static, &'static [u8], ()> = TableDefinition::new("mask");
/// Files without a version.
pub(crate) const UNPERSISTED: TableDefinition<'static, u64, ()> = TableDefinition::new("unpersisted");

/// The tables of one transaction.
#[derive(Debug)]
pub(crate) struct Unsettled<R, I, M, U> {
    pub(crate) relocations: R,
    pub(crate) relocating: I,
    pub(crate) masks: M,
    pub(crate) unpersisted: U,
}

/// In a read transaction.
pub(crate) type ReadUnsettled = Unsettled<
    ReadOnlyTable<u64, &'static [u8]>,
    ReadOnlyTable<u64, u64>,
    ReadOnlyTable<&'static [u8], ()>,
    ReadOnlyTable<u64, ()>,
>;
/// In a write transaction.
pub(crate) type WriteUnsettled<'t> =
    Unsettled<Table<'t, u64, &'static [u8]>, Table<'t, u64, u64>, Table<'t, &'static [u8], ()>, Table<'t, u64, ()>>;

impl<R, I, M, U> Unsettled<R, I, M, U>
where
    R: ReadableTable<u64, &'static [u8]>,
    I: ReadableTable<u64, u64>,
    M: ReadableTable<&'static [u8], ()>,
    U: ReadableTable<u64, ()>,
{
    pub(crate) fn relocation(&self, id: u64) -> Result<Option<Relocation>, TableError> {
        let row = self.relocations.get(id)?;
        row.map(|row| unpack("relocation", &id, row.value())).transpose()
    }

    /// In order of their ids.
    pub(crate) fn relocations(&self) -> Result<Vec<Relocation>, TableError> {
        let rows = self.relocations.iter()?;
        rows.map(|row| {
            let (id, row) = row?;
            unpack("relocation", &id.value(), row.value())
        })
        .collect()
    }

    /// The relocation that began with this very inode.
    pub(crate) fn relocation_at(&self, inode: InodeId) -> Result<Option<u64>, TableError> {
        Ok(self.relocating.get(inode.0)?.map(|id| id.value()))
    }

    /// The relocation that `inode` is, or lies below.
    pub(crate) fn relocation_of<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        inode: InodeId,
    ) -> Result<Option<u64>, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        if self.relocating.is_empty()? {
            return Ok(None);
        }
        rows.climb(mounts, inode, |at, _| self.relocation_at(at))
    }

    /// Whether something that is being relocated is `dir` or lies below.
    pub(crate) fn relocates_within<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        dir: InodeId,
    ) -> Result<bool, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        any_within(&self.relocating, rows, mounts, dir)
    }

    /// Whether a file without a version lies below `dir`.
    pub(crate) fn awaits_within<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        dir: InodeId,
    ) -> Result<bool, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        any_within(&self.unpersisted, rows, mounts, dir)
    }

    /// Whether what under stores show at `name` in `dir` is to be passed over.
    pub(crate) fn is_masked(&self, dir: InodeId, name: &Name) -> Result<bool, TableError> {
        if self.masks.is_empty()? {
            return Ok(false);
        }
        let (from, to) = (mask_key(dir, name, 0), mask_key(dir, name, u64::MAX));
        Ok(self.masks.range::<&[u8]>(from.as_slice()..=to.as_slice())?.next().transpose()?.is_some())
    }

    /// The relocations that mask names in `dir`.
    pub(crate) fn masking_in(&self, dir: InodeId) -> Result<Vec<u64>, TableError> {
        let (from, to) = (dir.0.to_be_bytes(), (dir.0 + 1).to_be_bytes());
        let mut ids = Vec::new();
        for row in self.masks.range::<&[u8]>(from.as_slice()..to.as_slice())? {
            let (key, _) = row?;
            let id = key.value().last_chunk().map(|id| u64::from_be_bytes(*id));
            ids.push(id.ok_or_else(|| TableError::Damaged { table: "mask", key: hex::encode(key.value()) })?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

/// Whether one of the inodes is `dir` or lies below. Walks up from each: they are few.
fn any_within<V, E, N>(
    inodes: &impl ReadableTable<u64, V>,
    rows: &Rows<E, N>,
    mounts: &Mounts,
    dir: InodeId,
) -> Result<bool, TableError>
where
    V: redb::Value + 'static,
    E: ReadableTable<&'static [u8], u64>,
    N: ReadableTable<u64, &'static [u8]>,
{
    for row in inodes.iter()? {
        if rows.lies_within(mounts, InodeId(row?.0.value()), dir)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Directory (8 bytes, big-endian), name, NUL (which no name holds), relocation (8 bytes, big-endian).
pub(crate) fn mask_key(dir: InodeId, name: &Name, relocation: u64) -> Vec<u8> {
    [&dir.0.to_be_bytes(), name.as_bytes(), &[0], &relocation.to_be_bytes()].concat()
}
