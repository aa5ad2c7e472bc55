//! The tables of what the namespace alone has, and no under store.
//!
//! Invariant: a directory has a row in [`HOLDERS`] exactly when something that no under store holds lies below it in its mount: of how many of
//! its entries this is true. A mount's root has none.

use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition, WriteTransaction};

use headpond_types::InodeId;

use crate::error::TableError;

/// Directory → how many of its entries are, or hold, what no under store holds.
pub(crate) const HOLDERS: TableDefinition<'static, u64, u64> = TableDefinition::new("holder");

/// The tables of one transaction.
#[derive(Debug)]
pub(crate) struct Alone<H> {
    pub(crate) holders: H,
}

/// In a read transaction.
pub(crate) type ReadAlone = Alone<ReadOnlyTable<u64, u64>>;
/// In a write transaction.
pub(crate) type WriteAlone<'t> = Alone<Table<'t, u64, u64>>;

impl ReadAlone {
    pub(crate) fn open(txn: &redb::ReadTransaction) -> Result<Self, TableError> {
        Ok(Self { holders: txn.open_table(HOLDERS)? })
    }
}

impl<'t> WriteAlone<'t> {
    pub(crate) fn open(txn: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self { holders: txn.open_table(HOLDERS)? })
    }
}

impl<H: ReadableTable<u64, u64>> Alone<H> {
    /// Whether something that no under store holds lies below `dir`.
    pub(crate) fn is_holder(&self, dir: InodeId) -> Result<bool, TableError> {
        Ok(self.holders.get(dir.0)?.is_some())
    }
}
