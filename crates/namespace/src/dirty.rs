//! The tables of what under stores do not have yet.
//!
//! Invariants: a row is of an inode whose own row says so, or an orphan ([`Dirty::is_orphan`]). The order has exactly the rows, and the begun
//! ones are exactly those with a key.
//!
//! The same code reads inside a write transaction and in a snapshot.

use headpond_types::{InodeId, MountId};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::{command::Dirty, error::TableError, header::unpack, mounts::Mounts, rows::Rows};

/// Inode → packed [`Dirty`].
const ROWS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("dirty");
/// Number and inode.
const ORDER: TableDefinition<'static, (u64, u64), ()> = TableDefinition::new("dirty_order");
/// Inodes whose row has a key.
const BEGUN: TableDefinition<'static, u64, ()> = TableDefinition::new("dirty_begun");
/// [`orphan_key`] → the orphan's id. At most one of a key.
const ORPHANED: TableDefinition<'static, &'static [u8], u64> = TableDefinition::new("dirty_orphan");

/// The tables of one transaction.
#[derive(Debug)]
pub(crate) struct DirtyRows<R, O, B, K> {
    pub(crate) rows: R,
    pub(crate) order: O,
    pub(crate) begun: B,
    pub(crate) orphaned: K,
}

/// In a read transaction.
pub(crate) type ReadDirty = DirtyRows<
    ReadOnlyTable<u64, &'static [u8]>,
    ReadOnlyTable<(u64, u64), ()>,
    ReadOnlyTable<u64, ()>,
    ReadOnlyTable<&'static [u8], u64>,
>;
/// In a write transaction.
pub(crate) type WriteDirty<'t> = DirtyRows<
    Table<'t, u64, &'static [u8]>,
    Table<'t, (u64, u64), ()>,
    Table<'t, u64, ()>,
    Table<'t, &'static [u8], u64>,
>;

impl ReadDirty {
    pub(crate) fn open(txn: &ReadTransaction) -> Result<Self, TableError> {
        Ok(Self {
            rows: txn.open_table(ROWS)?,
            order: txn.open_table(ORDER)?,
            begun: txn.open_table(BEGUN)?,
            orphaned: txn.open_table(ORPHANED)?,
        })
    }
}

impl<'t> WriteDirty<'t> {
    pub(crate) fn open(txn: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            rows: txn.open_table(ROWS)?,
            order: txn.open_table(ORDER)?,
            begun: txn.open_table(BEGUN)?,
            orphaned: txn.open_table(ORPHANED)?,
        })
    }
}

impl<R, O, B, K> DirtyRows<R, O, B, K>
where
    R: ReadableTable<u64, &'static [u8]>,
    O: ReadableTable<(u64, u64), ()>,
    B: ReadableTable<u64, ()>,
    K: ReadableTable<&'static [u8], u64>,
{
    pub(crate) fn is_empty(&self) -> Result<bool, TableError> {
        Ok(self.rows.is_empty()?)
    }

    pub(crate) fn get(&self, inode: InodeId) -> Result<Option<Dirty>, TableError> {
        let row = self.rows.get(inode.0)?;
        row.map(|row| unpack("dirty", &inode, row.value())).transpose()
    }

    /// In order of the numbers, and of the inodes where those are the same, from the first after `after`.
    pub(crate) fn after(
        &self,
        after: (u64, InodeId),
    ) -> Result<impl Iterator<Item = Result<Dirty, TableError>>, TableError> {
        let rows = self.order.range((after.0, after.1.0.saturating_add(1))..)?;
        Ok(rows.map(|row| {
            let inode = InodeId(row?.0.value().1);
            self.get(inode)?.ok_or_else(|| TableError::Damaged { table: "dirty", key: inode.to_string() })
        }))
    }

    /// The inodes of which there may be an object since something was begun to be put, in order of their ids.
    pub(crate) fn begun(&self) -> Result<Vec<InodeId>, TableError> {
        self.begun.iter()?.map(|row| Ok(InodeId(row?.0.value()))).collect()
    }

    /// The orphans of a mount.
    pub(crate) fn orphans_of(&self, mount: MountId) -> Result<Vec<InodeId>, TableError> {
        let (from, to) = (orphan_key(mount, &[]), orphan_key(MountId(mount.0 + 1), &[]));
        let rows = self.orphaned.range::<&[u8]>(from.as_slice()..to.as_slice())?;
        rows.map(|row| Ok(InodeId(row?.1.value()))).collect()
    }

    /// Whether an orphan has a key that begins with `prefix` and is longer; or is that, too, if `itself` counts.
    pub(crate) fn has_orphans_below(&self, mount: MountId, prefix: &[u8], itself: bool) -> Result<bool, TableError> {
        let from = orphan_key(mount, prefix);
        for row in self.orphaned.range::<&[u8]>(from.as_slice()..)?.take(2) {
            let (key, _) = row?;
            if key.value().starts_with(&from) && (itself || key.value() != from) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What may be at `key` that nobody has any more.
    pub(crate) fn orphan_at(&self, mount: MountId, key: &[u8]) -> Result<Option<Dirty>, TableError> {
        let Some(id) = self.orphaned.get(orphan_key(mount, key).as_slice())?.map(|id| id.value()) else {
            return Ok(None);
        };
        let orphan = self.get(InodeId(id))?;
        orphan.map(Some).ok_or_else(|| TableError::Damaged { table: "dirty", key: id.to_string() })
    }
}

/// Mount (4 bytes, big-endian) and key.
pub(crate) fn orphan_key(mount: MountId, key: &[u8]) -> Vec<u8> {
    [&mount.0.to_be_bytes(), key].concat()
}

/// What is to be put where its path does not say any more: `dir`, and what lies below.
pub(crate) fn begun_elsewhere<R, O, B, K, E, N>(
    dirty: &DirtyRows<R, O, B, K>,
    rows: &Rows<E, N>,
    mounts: &Mounts,
    dir: InodeId,
) -> Result<Vec<Dirty>, TableError>
where
    R: ReadableTable<u64, &'static [u8]>,
    O: ReadableTable<(u64, u64), ()>,
    B: ReadableTable<u64, ()>,
    K: ReadableTable<&'static [u8], u64>,
    E: ReadableTable<&'static [u8], u64>,
    N: ReadableTable<u64, &'static [u8]>,
{
    let mut elsewhere = Vec::new();
    for inode in dirty.begun()? {
        let Some(row) = rows.inode(inode)? else { continue };
        if !rows.lies_within(mounts, inode, dir)? {
            continue;
        }
        let path = rows.path_place(mounts, &row)?;
        elsewhere.extend(dirty.get(inode)?.filter(|dirty| dirty.key.as_ref() != Some(&path)));
    }
    Ok(elsewhere)
}
