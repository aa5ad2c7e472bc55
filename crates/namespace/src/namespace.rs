//! The namespace over its tables: opening, applying, making durable, and handing out snapshots.
//!
//! Lock order: `writer`, then `current`. Readers take `current` only, for as long as it takes to copy a pointer.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_journal::{Position, StateMachine};
use headpond_types::{InodeId, Result};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction,
};

use crate::{
    alone::ReadAlone,
    apply::{Applied, Apply, MOUNTS, ORPHANS, SESSIONS, create_tables, requests::REPLIES},
    command::{ClientSession, Command, Mount, Outcome},
    dirty::ReadDirty,
    error::TableError,
    header::{Header, unpack},
    links::ReadLinks,
    mounts::Mounts,
    rows::{ENTRIES, INODES, Rows, WriteRows},
    snapshot::{Snapshot, View},
    unsettled::{LEFT, MASKS, RELOCATING, RELOCATIONS, REMOVALS, UNPERSISTED, Unsettled, WriteUnsettled},
};

/// Rows changed since the last durable commit that call for another: pages that later commits free are reused only then, so
/// the file would grow.
const DURABLE_EVERY_ROWS: u64 = 65_536;

const FILE: &str = "namespace.redb";

/// The tree of paths that clients see, with mounts and workers: a pure state machine over tables on disk.
///
/// Between durable commits (every 65,536 changed rows, and [`StateMachine::make_durable`]) a crash takes the tables back to the
/// last one; [`StateMachine::applied`] then says which commands must be applied again.
pub struct Namespace {
    database: Database,
    writer: Mutex<Writer>,
    /// What the last batch left, for snapshots to share.
    current: Mutex<Arc<View>>,
}

/// What the last committed batch left.
struct Writer {
    header: Header,
    mounts: Arc<Mounts>,
    undurable_rows: u64,
}

impl Namespace {
    /// Opens the tables in `dir`, which is made when missing. `cache_bytes` bounds the memory for pages of the tables; with
    /// less than about 300 bytes per inode lookups begin to read the disk.
    ///
    /// Blocks on IO. A namespace that was not closed well is at its last durable commit.
    ///
    /// # Errors
    /// `unavailable` when the directory cannot be used or another process uses it; `not_supported` when a later release wrote
    /// the tables; `corrupt` when they are damaged.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self> {
        Ok(Self::open_tables(dir, cache_bytes)?)
    }

    fn open_tables(dir: &Path, cache_bytes: usize) -> Result<Self, TableError> {
        fs::create_dir_all(dir).map_err(|source| TableError::Directory { dir: dir.to_owned(), source })?;
        let database = Database::builder().set_cache_size(cache_bytes).create(dir.join(FILE));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => TableError::InUse { dir: dir.to_owned() },
            other => TableError::Engine(other.into()),
        })?;
        let txn = begin(&database, Durability::Immediate)?;
        let header = create_tables(&txn)?;
        let applied = {
            let rows = write_rows(&txn)?;
            let table = txn.open_table(MOUNTS)?;
            let mut by_id: BTreeMap<_, (InodeId, Mount)> = BTreeMap::new();
            for row in table.range::<u32>(..)? {
                let (id, row) = row?;
                by_id.insert(headpond_types::MountId(id.value()), unpack("mount", &id.value(), row.value())?);
            }
            let mounts = Arc::new(Mounts::new(by_id, header.root_key, &rows)?);
            let has_remains = !txn.open_table(ORPHANS)?.is_empty()?;
            Applied { header, mounts, changed_rows: 0, has_remains }
        };
        txn.commit()?;
        let current = view(&database, &applied)?;
        let writer = Writer { header: applied.header, mounts: applied.mounts, undurable_rows: 0 };
        Ok(Self { database, writer: Mutex::new(writer), current: Mutex::new(current) })
    }

    /// A consistent view of what is applied now; never waits for a batch that is being applied. A view that is kept keeps the pages
    /// that it sees from being reused.
    ///
    /// # Errors
    /// None now; reserved for tables that cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::new(Arc::clone(&lock(&self.current))))
    }

    /// The sessions of clients that have begun and not ended, by their ids, as of what is applied now. Reads the disk.
    ///
    /// # Errors
    /// `corrupt` when a row does not decode, `internal` when the tables cannot be read.
    pub fn sessions(&self) -> Result<Vec<(u64, ClientSession)>> {
        Ok(self.read_sessions()?)
    }

    fn read_sessions(&self) -> Result<Vec<(u64, ClientSession)>, TableError> {
        let sessions = self.database.begin_read()?.open_table(SESSIONS)?;
        let rows = sessions.range::<u64>(..)?.map(|row| {
            let (id, row) = row?;
            Ok((id.value(), unpack("session", &id.value(), row.value())?))
        });
        rows.collect()
    }

    fn apply_batch(&self, at: Position, commands: &[&Command]) -> Result<Vec<Outcome>, TableError> {
        let mut writer = lock(&self.writer);
        assert!(Some(at) > writer.header.applied, "{at:?} is applied already: {:?}", writer.header.applied);
        let mut header = writer.header.clone();
        header.applied = Some(at);
        let durable = writer.undurable_rows >= DURABLE_EVERY_ROWS;
        let txn = begin(&self.database, if durable { Durability::Immediate } else { Durability::None })?;
        let mut apply = Apply::begin(&txn, header, Arc::clone(&writer.mounts))?;
        let outcomes = commands.iter().map(|command| apply.command(command)).collect::<Result<_, _>>()?;
        let applied = apply.finish()?;
        txn.commit()?;
        *lock(&self.current) = view(&self.database, &applied)?;
        let undurable_rows = if durable { 0 } else { writer.undurable_rows + applied.changed_rows };
        *writer = Writer { header: applied.header, mounts: applied.mounts, undurable_rows };
        Ok(outcomes)
    }

    /// All rows that the commands made.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let txn = self.database.begin_read().expect("begins");
        let entries = txn.open_table(ENTRIES).expect("opens");
        let inodes = txn.open_table(INODES).expect("opens");
        let orphans = txn.open_table(ORPHANS).expect("opens");
        let mut rows = Vec::new();
        for row in entries.iter().expect("reads") {
            let (key, value) = row.expect("reads");
            rows.push((key.value().to_vec(), value.value().to_be_bytes().to_vec()));
        }
        for row in inodes.iter().expect("reads") {
            let (key, value) = row.expect("reads");
            rows.push((key.value().to_be_bytes().to_vec(), value.value().to_vec()));
        }
        for row in orphans.iter().expect("reads") {
            rows.push((row.expect("reads").0.value().to_be_bytes().to_vec(), Vec::new()));
        }
        let tables = Unsettled {
            relocations: txn.open_table(RELOCATIONS).expect("opens"),
            relocating: txn.open_table(RELOCATING).expect("opens"),
            removals: txn.open_table(REMOVALS).expect("opens"),
            masks: txn.open_table(MASKS).expect("opens"),
            left: txn.open_table(LEFT).expect("opens"),
            unpersisted: txn.open_table(UNPERSISTED).expect("opens"),
        };
        for row in tables.relocations.iter().expect("reads") {
            let (id, row) = row.expect("reads");
            rows.push((id.value().to_be_bytes().to_vec(), row.value().to_vec()));
        }
        for row in tables.relocating.iter().expect("reads") {
            let (inode, id) = row.expect("reads");
            rows.push((inode.value().to_be_bytes().to_vec(), id.value().to_be_bytes().to_vec()));
        }
        for row in tables.removals.iter().expect("reads") {
            let (inode, at) = row.expect("reads");
            rows.push((inode.value().to_be_bytes().to_vec(), at.value().to_be_bytes().to_vec()));
        }
        for row in tables.masks.iter().expect("reads") {
            rows.push((row.expect("reads").0.value().to_vec(), Vec::new()));
        }
        for row in tables.left.iter().expect("reads") {
            let (key, version) = row.expect("reads");
            rows.push((key.value().to_vec(), version.value().as_bytes().to_vec()));
        }
        for row in tables.unpersisted.iter().expect("reads") {
            rows.push((row.expect("reads").0.value().to_be_bytes().to_vec(), Vec::new()));
        }
        let alone = ReadAlone::open(&txn).expect("opens");
        for row in alone.holders.iter().expect("reads") {
            let (dir, count) = row.expect("reads");
            rows.push((dir.value().to_be_bytes().to_vec(), count.value().to_be_bytes().to_vec()));
        }
        for row in alone.xattrs.iter().expect("reads") {
            let (key, value) = row.expect("reads");
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        let dirty = ReadDirty::open(&txn).expect("opens");
        for row in dirty.rows.iter().expect("reads") {
            let (inode, row) = row.expect("reads");
            rows.push((inode.value().to_be_bytes().to_vec(), row.value().to_vec()));
        }
        for row in dirty.order.iter().expect("reads") {
            let (number, inode) = row.expect("reads").0.value();
            rows.push((number.to_be_bytes().to_vec(), inode.to_be_bytes().to_vec()));
        }
        for inode in dirty.begun().expect("reads") {
            rows.push((inode.0.to_be_bytes().to_vec(), b"begun".to_vec()));
        }
        let links = ReadLinks::open(&txn).expect("opens");
        for row in links.links.iter().expect("reads") {
            let (alias, row) = row.expect("reads");
            rows.push((alias.value().to_be_bytes().to_vec(), row.value().to_vec()));
        }
        for row in links.names.iter().expect("reads") {
            let (target, alias) = row.expect("reads").0.value();
            rows.push((target.to_be_bytes().to_vec(), alias.to_be_bytes().to_vec()));
        }
        for row in dirty.orphaned.iter().expect("reads") {
            let (key, id) = row.expect("reads");
            rows.push((key.value().to_vec(), id.value().to_be_bytes().to_vec()));
        }
        let sessions = txn.open_table(SESSIONS).expect("opens");
        for row in sessions.iter().expect("reads") {
            let (id, row) = row.expect("reads");
            rows.push((id.value().to_be_bytes().to_vec(), row.value().to_vec()));
        }
        rows
    }

    fn commit_durably(&self) -> Result<(), TableError> {
        let mut writer = lock(&self.writer);
        if writer.undurable_rows > 0 {
            begin(&self.database, Durability::Immediate)?.commit()?;
            writer.undurable_rows = 0;
        }
        Ok(())
    }
}

impl StateMachine for Namespace {
    type Command = Command;
    type Outcome = Outcome;

    fn applied(&self) -> Result<Option<Position>> {
        Ok(lock(&self.writer).header.applied)
    }

    fn apply(&self, at: Position, commands: &[&Command]) -> Result<Vec<Outcome>> {
        Ok(self.apply_batch(at, commands)?)
    }

    fn make_durable(&self) -> Result<()> {
        Ok(self.commit_durably()?)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("header", &lock(&self.writer).header).finish_non_exhaustive()
    }
}

/// A write transaction. Durable ones save the allocator's state, so that opening after a crash need not walk the file.
fn begin(database: &Database, durability: Durability) -> Result<WriteTransaction, TableError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(durability)?;
    txn.set_quick_repair(matches!(durability, Durability::Immediate));
    Ok(txn)
}

/// The view after what was just committed. No other commit may happen meanwhile.
fn view(database: &Database, applied: &Applied) -> Result<Arc<View>, TableError> {
    let txn = database.begin_read()?;
    let rows = Rows { entries: txn.open_table(ENTRIES)?, inodes: txn.open_table(INODES)? };
    let unsettled = Unsettled {
        relocations: txn.open_table(RELOCATIONS)?,
        relocating: txn.open_table(RELOCATING)?,
        removals: txn.open_table(REMOVALS)?,
        masks: txn.open_table(MASKS)?,
        left: txn.open_table(LEFT)?,
        unpersisted: txn.open_table(UNPERSISTED)?,
    };
    let replies = txn.open_table(REPLIES)?;
    Ok(Arc::new(View::new(
        rows,
        unsettled,
        ReadAlone::open(&txn)?,
        ReadDirty::open(&txn)?,
        ReadLinks::open(&txn)?,
        replies,
        applied,
    )))
}

pub(crate) fn write_rows(txn: &WriteTransaction) -> Result<WriteRows<'_>, TableError> {
    Ok(Rows { entries: txn.open_table(ENTRIES)?, inodes: txn.open_table(INODES)? })
}

pub(crate) fn write_unsettled(txn: &WriteTransaction) -> Result<WriteUnsettled<'_>, TableError> {
    Ok(Unsettled {
        relocations: txn.open_table(RELOCATIONS)?,
        relocating: txn.open_table(RELOCATING)?,
        removals: txn.open_table(REMOVALS)?,
        masks: txn.open_table(MASKS)?,
        left: txn.open_table(LEFT)?,
        unpersisted: txn.open_table(UNPERSISTED)?,
    })
}

/// What a lock guards is replaced as a whole, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_by_one_namespace_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = Namespace::open(dir.path(), 1 << 20).expect("opens");
        let error = Namespace::open(dir.path(), 1 << 20).expect_err("is in use");
        assert_eq!(error.kind(), headpond_types::ErrorKind::Busy);
        assert!(error.message().contains("is used by another process"), "{error}");
        drop(first);
        Namespace::open(dir.path(), 1 << 20).expect("is free again");
    }

    #[test]
    fn tables_of_a_later_release_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(Namespace::open(dir.path(), 1 << 20).expect("opens"));
        let database = Database::create(dir.path().join(FILE)).expect("opens");
        let txn = database.begin_write().expect("begins");
        txn.open_table(crate::header::HEADER).expect("opens").insert("header", [9].as_slice()).expect("inserts");
        txn.commit().expect("commits");
        drop(database);
        let error = Namespace::open(dir.path(), 1 << 20).expect_err("is newer");
        assert_eq!(error.kind(), headpond_types::ErrorKind::NotSupported);
    }

    #[test]
    fn tables_of_before_there_was_writing_are_taken_on() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(Namespace::open(dir.path(), 1 << 20).expect("opens"));
        let database = Database::create(dir.path().join(FILE)).expect("opens");
        let txn = database.begin_write().expect("begins");
        for deleted in [
            txn.delete_table(RELOCATIONS),
            txn.delete_table(RELOCATING),
            txn.delete_table(REMOVALS),
            txn.delete_table(MASKS),
            txn.delete_table(LEFT),
            txn.delete_table(UNPERSISTED),
            txn.delete_table(SESSIONS),
        ] {
            assert!(deleted.expect("deletes"));
        }
        txn.commit().expect("commits");
        drop(database);
        let namespace = Namespace::open(dir.path(), 1 << 20).expect("opens");
        let snapshot = namespace.snapshot().expect("a snapshot");
        assert_eq!(snapshot.relocations().expect("reads"), []);
        assert_eq!(snapshot.unpersisted().expect("reads"), []);
        assert_eq!(namespace.sessions().expect("reads"), []);
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(Namespace::open(dir.path(), 1 << 20).expect("opens"));
        let database = Database::create(dir.path().join(FILE)).expect("opens");
        let txn = database.begin_write().expect("begins");
        txn.open_table(INODES).expect("opens").insert(7, [0x11, 0xff, 1].as_slice()).expect("inserts");
        txn.open_table(RELOCATIONS).expect("opens").insert(9, [1, 0xff].as_slice()).expect("inserts");
        let name = headpond_types::Name::new("x").expect("a name");
        let key = crate::rows::entry_key(crate::inode::DirKey(2), name.as_bytes());
        txn.open_table(ENTRIES).expect("opens").insert(key.as_slice(), 7 << 1).expect("inserts");
        txn.commit().expect("commits");
        drop(database);
        let namespace = Namespace::open(dir.path(), 1 << 20).expect("opens");
        let snapshot = namespace.snapshot().expect("a snapshot");
        let errors = [
            snapshot.attr(InodeId(7)).expect_err("does not decode"),
            snapshot.lookup(InodeId::ROOT, &name).expect_err("does not decode"),
            snapshot.list(InodeId::ROOT, None, 9).expect_err("does not decode"),
            snapshot.path(InodeId(7)).expect_err("does not decode"),
        ];
        for error in errors {
            assert_eq!(error.kind(), headpond_types::ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("inode row 7"), "{error}");
        }
        let error = snapshot.relocations().expect_err("does not decode");
        assert!(error.kind() == headpond_types::ErrorKind::Corrupt && error.message().contains("relocation row 9"));
    }
}
