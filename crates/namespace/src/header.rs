//! The one row of numbers that every batch updates.

use headpond_journal::Position;
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::TableError;

/// One row, [`KEY`]: the header.
pub(crate) const HEADER: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("header");
const KEY: &str = "header";

/// Format of all tables that this release writes, and the highest that it reads.
const FORMAT: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The last entry of the journal that the tables hold.
    pub(crate) applied: Option<Position>,
    pub(crate) cluster: Option<u64>,
    pub(crate) term: u64,
    /// The next numbers to give.
    pub(crate) next_inode: u64,
    pub(crate) next_mount: u32,
    pub(crate) next_worker: u32,
    /// Grows with every remembered request.
    pub(crate) next_request: u64,
    /// Under which id the root's entries are stored. The root cannot be removed; when its mount is, it gets another key here, which
    /// empties it in one step.
    pub(crate) root_key: u64,
    pub(crate) inodes: u64,
    pub(crate) file_bytes: u64,
}

impl Header {
    /// The header of a namespace that holds nothing but the root.
    pub(crate) const fn first() -> Self {
        Self {
            applied: None,
            cluster: None,
            term: 0,
            next_inode: 3,
            next_mount: 1,
            next_worker: 1,
            next_request: 0,
            root_key: 2,
            inodes: 1,
            file_bytes: 0,
        }
    }

    pub(crate) fn read(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<Self>, TableError> {
        let Some(row) = table.get(KEY)? else { return Ok(None) };
        unpack("header", &KEY, row.value()).map(Some)
    }

    pub(crate) fn write(&self, table: &mut redb::Table<'_, &'static str, &'static [u8]>) -> Result<(), TableError> {
        table.insert(KEY, pack(self).as_slice())?;
        Ok(())
    }
}

/// A row of a table that holds few: the format, then postcard.
pub(crate) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![FORMAT]).expect("writing to memory cannot fail")
}

/// The value of a row that [`pack`] made.
pub(crate) fn unpack<T: DeserializeOwned>(
    table: &'static str,
    key: &impl ToString,
    row: &[u8],
) -> Result<T, TableError> {
    let damaged = || TableError::Damaged { table, key: key.to_string() };
    let (format, body) = row.split_first().ok_or_else(damaged)?;
    if *format > FORMAT {
        return Err(TableError::Newer { found: *format, known: FORMAT });
    }
    postcard::from_bytes(body).map_err(|_| damaged())
}
