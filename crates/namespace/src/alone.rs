//! The tables of what the namespace alone has, and no under store.
//!
//! Invariants: a directory has a row in [`HOLDERS`] exactly when something that no under store holds lies below it in its mount: of how many of
//! its entries this is true. A mount's root has none. An inode has rows in [`XATTRS`] exactly when its own row says so.

use headpond_types::InodeId;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::{error::TableError, xattr::Xattr};

/// Directory → how many of its entries are, or hold, what no under store holds.
const HOLDERS: TableDefinition<'static, u64, u64> = TableDefinition::new("holder");
/// Inode (8 bytes, big-endian) and name → value.
const XATTRS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("xattr");

/// The tables of one transaction.
#[derive(Debug)]
pub(crate) struct Alone<H, X> {
    pub(crate) holders: H,
    pub(crate) xattrs: X,
}

/// In a read transaction.
pub(crate) type ReadAlone = Alone<ReadOnlyTable<u64, u64>, ReadOnlyTable<&'static [u8], &'static [u8]>>;
/// In a write transaction.
pub(crate) type WriteAlone<'t> = Alone<Table<'t, u64, u64>, Table<'t, &'static [u8], &'static [u8]>>;

impl ReadAlone {
    pub(crate) fn open(txn: &ReadTransaction) -> Result<Self, TableError> {
        Ok(Self { holders: txn.open_table(HOLDERS)?, xattrs: txn.open_table(XATTRS)? })
    }
}

impl<'t> WriteAlone<'t> {
    pub(crate) fn open(txn: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self { holders: txn.open_table(HOLDERS)?, xattrs: txn.open_table(XATTRS)? })
    }
}

impl<H, X> Alone<H, X>
where
    H: ReadableTable<u64, u64>,
    X: ReadableTable<&'static [u8], &'static [u8]>,
{
    /// Whether something that no under store holds lies below `dir`.
    pub(crate) fn is_holder(&self, dir: InodeId) -> Result<bool, TableError> {
        Ok(self.holders.get(dir.0)?.is_some())
    }

    /// Names and values of an inode's extended attributes, in order of the names.
    pub(crate) fn xattrs_of(&self, inode: InodeId) -> Result<Vec<Xattr>, TableError> {
        let (from, to) = (inode.0.to_be_bytes(), (inode.0 + 1).to_be_bytes());
        let rows = self.xattrs.range::<&[u8]>(from.as_slice()..to.as_slice())?;
        rows.map(|row| {
            let (key, value) = row?;
            let name = key.value().get(from.len()..);
            let name = name.ok_or_else(|| TableError::Damaged { table: "xattr", key: hex::encode(key.value()) })?;
            Ok((name.to_vec(), value.value().to_vec()))
        })
        .collect()
    }
}

/// The key of an extended attribute.
pub(crate) fn xattr_key(inode: InodeId, name: &[u8]) -> Vec<u8> {
    [&inode.0.to_be_bytes(), name].concat()
}
