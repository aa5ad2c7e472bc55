//! The tables of hard links: inodes with more than one name.
//!
//! The first name of an inode is that of its own row. Each further one leads to a row of its own, an *alias*: a file like others as far as names, keys
//! and objects go, whose size, content and version are those of its own object. A row here says which inode it stands for.
//!
//! Invariants: an alias is no alias's target, is of its target's kind and lies in its mount. Both tables have the same pairs. An alias that is a file
//! either has a version or is dirty.
//!
//! The same code reads inside a write transaction and in a snapshot.

use std::collections::BTreeSet;

use headpond_types::InodeId;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{command::Due, error::TableError, header::unpack};

/// Alias → packed [`Link`].
const LINKS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("link");
/// Target and alias.
const NAMES: TableDefinition<'static, (u64, u64), ()> = TableDefinition::new("link_name");

/// Further names that an inode can have: each is told of with every change of the inode, in one command.
pub(crate) const MAX: usize = 1000;

/// What an alias stands for, and how its object is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The inode that has the name.
    pub(crate) target: InodeId,
    /// When its object is to be made, once the target has one.
    pub(crate) due: Due,
    /// The object is seen only after all that was changed before.
    pub(crate) barrier: bool,
}

/// The tables of one transaction.
#[derive(Debug)]
pub(crate) struct Links<L, N> {
    pub(crate) links: L,
    pub(crate) names: N,
}

/// The tables in a read transaction.
pub(crate) type ReadLinks = Links<ReadOnlyTable<u64, &'static [u8]>, ReadOnlyTable<(u64, u64), ()>>;
/// The tables in a write transaction.
pub(crate) type WriteLinks<'t> = Links<Table<'t, u64, &'static [u8]>, Table<'t, (u64, u64), ()>>;

impl ReadLinks {
    pub(crate) fn open(txn: &ReadTransaction) -> Result<Self, TableError> {
        Ok(Self { links: txn.open_table(LINKS)?, names: txn.open_table(NAMES)? })
    }
}

impl<'t> WriteLinks<'t> {
    pub(crate) fn open(txn: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self { links: txn.open_table(LINKS)?, names: txn.open_table(NAMES)? })
    }
}

impl<L, N> Links<L, N>
where
    L: ReadableTable<u64, &'static [u8]>,
    N: ReadableTable<(u64, u64), ()>,
{
    /// Whether no inode has a second name: asked first, so that the others cost nothing.
    pub(crate) fn is_empty(&self) -> Result<bool, TableError> {
        Ok(self.links.is_empty()?)
    }

    /// What an alias stands for; `None` of all other inodes.
    pub(crate) fn link(&self, alias: InodeId) -> Result<Option<Link>, TableError> {
        let row = self.links.get(alias.0)?;
        row.map(|row| unpack("link", &alias, row.value())).transpose()
    }

    /// The inode that clients know: what an alias stands for, or the inode itself.
    pub(crate) fn target(&self, inode: InodeId) -> Result<InodeId, TableError> {
        Ok(self.link(inode)?.map_or(inode, |link| link.target))
    }

    /// The aliases of an inode, in order of their ids.
    pub(crate) fn aliases(&self, target: InodeId) -> Result<Vec<InodeId>, TableError> {
        let rows = self.names.range((target.0, 0)..=(target.0, u64::MAX))?;
        rows.map(|row| Ok(InodeId(row?.0.value().1))).collect()
    }

    /// All inodes that have aliases, in order of their ids.
    pub(crate) fn targets(&self) -> Result<BTreeSet<InodeId>, TableError> {
        self.names.iter()?.map(|row| Ok(InodeId(row?.0.value().0))).collect()
    }

    pub(crate) fn has_aliases(&self, target: InodeId) -> Result<bool, TableError> {
        Ok(self.names.range((target.0, 0)..=(target.0, u64::MAX))?.next().transpose()?.is_some())
    }
}
