//! The tables of what under stores do not hold where the paths say: relocations, the names that they mask, directories that are being removed with
//! all below, and files without a version.
//!
//! Invariants: an inode has at most one relocation. Relocations may lie below others: files belong to the innermost. Only a directory that
//! is being relocated has an explicit prefix. What is relocated, masked or without a version may already be out of the tree. What is being removed
//! has a relocation and an explicit prefix, is out of the tree, and its parent is no inode.
//!
//! *Masks* are of places, not of names: what an under store shows at a place of a relocation, or at what leads to one, is passed over. So an
//! object that is not where its path says is never taken for a new file, wherever directories were renamed to meanwhile. Below a place, too,
//! but for directories that are, or lie in, what is relocated from there, or from a place below that one.
//!
//! The same code reads inside a write transaction and in a snapshot.

use headpond_types::{InodeId, MountId, Name, Timestamp};
use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};

use crate::{error::TableError, header::unpack, mounts::Mounts, relocation::Relocation, rows::Rows};

/// Relocation id → packed [`Relocation`].
pub(crate) const RELOCATIONS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("relocation");
/// What was renamed → its relocation's id.
pub(crate) const RELOCATING: TableDefinition<'static, u64, u64> = TableDefinition::new("relocating");
/// [`mask_key`]. A place may be masked by several relocations.
pub(crate) const MASKS: TableDefinition<'static, &'static [u8], ()> = TableDefinition::new("mask");
/// A directory that is being removed with all below → when that was asked for. It has a relocation.
pub(crate) const REMOVALS: TableDefinition<'static, u64, u64> = TableDefinition::new("removal");
/// Files without a version.
pub(crate) const UNPERSISTED: TableDefinition<'static, u64, ()> = TableDefinition::new("unpersisted");

/// Mount (4 bytes, big-endian) and key → the version of an object that is nobody's.
pub(crate) const LEFT: TableDefinition<'static, &'static [u8], &'static str> = TableDefinition::new("left");

/// The tables of one transaction.
#[derive(Debug)]
pub(crate) struct Unsettled<R, I, M, U, L> {
    pub(crate) relocations: R,
    pub(crate) relocating: I,
    pub(crate) removals: I,
    pub(crate) masks: M,
    pub(crate) unpersisted: U,
    pub(crate) left: L,
}

/// In a read transaction.
pub(crate) type ReadUnsettled = Unsettled<
    ReadOnlyTable<u64, &'static [u8]>,
    ReadOnlyTable<u64, u64>,
    ReadOnlyTable<&'static [u8], ()>,
    ReadOnlyTable<u64, ()>,
    ReadOnlyTable<&'static [u8], &'static str>,
>;
/// In a write transaction.
pub(crate) type WriteUnsettled<'t> = Unsettled<
    Table<'t, u64, &'static [u8]>,
    Table<'t, u64, u64>,
    Table<'t, &'static [u8], ()>,
    Table<'t, u64, ()>,
    Table<'t, &'static [u8], &'static str>,
>;

impl<R, I, M, U, L> Unsettled<R, I, M, U, L>
where
    L: ReadableTable<&'static [u8], &'static str>,
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

    /// When the removal of a directory with all below was asked for, if it is being removed.
    pub(crate) fn removed_at(&self, dir: InodeId) -> Result<Option<Timestamp>, TableError> {
        Ok(self.removals.get(dir.0)?.map(|at| Timestamp(at.value().cast_signed())))
    }

    /// The directory that is being removed with `inode` in it, itself included.
    pub(crate) fn removal_of<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        inode: InodeId,
    ) -> Result<Option<InodeId>, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        if self.removals.is_empty()? {
            return Ok(None);
        }
        rows.climb(mounts, inode, |at, _| Ok(self.removed_at(at)?.map(|_| at)))
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

    /// Whether an object that is nobody's may be below the prefix `prefix`.
    pub(crate) fn is_left_below(&self, mount: MountId, prefix: &[u8]) -> Result<bool, TableError> {
        let from = left_key(mount, prefix);
        let first = self.left.range::<&[u8]>(from.as_slice()..)?.next().transpose()?;
        Ok(first.is_some_and(|(key, _)| key.value().starts_with(&from)))
    }

    pub(crate) fn is_left(&self, mount: MountId, key: &[u8]) -> Result<bool, TableError> {
        Ok(self.left.get(left_key(mount, key).as_slice())?.is_some())
    }

    /// The objects in the store of `mount` that are nobody's, in order of their keys.
    pub(crate) fn left_in(&self, mount: MountId) -> Result<Vec<(Vec<u8>, String)>, TableError> {
        let (from, to) = (left_key(mount, &[]), left_key(MountId(mount.0 + 1), &[]));
        let rows = self.left.range::<&[u8]>(from.as_slice()..to.as_slice())?;
        rows.map(|row| {
            let (key, version) = row?;
            Ok((key.value().get(4..).unwrap_or_default().to_vec(), version.value().to_owned()))
        })
        .collect()
    }

    /// The relocations that `dir` is, or lies below, each with the way from there down to it: nothing, or names that each end in `/`.
    fn relocations_around<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        dir: InodeId,
    ) -> Result<Vec<(u64, Vec<u8>)>, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        let (mut around, mut way) = (Vec::new(), Vec::new());
        rows.climb(mounts, dir, |at, row| {
            around.extend(self.relocation_at(at)?.map(|id| (id, way.clone())));
            way = [row.name.as_ref().map_or(&[][..], Name::as_bytes), b"/", &way].concat();
            Ok(None::<()>)
        })?;
        Ok(around)
    }

    /// Whether a place of a relocation is `key`.
    pub(crate) fn is_place(&self, mount: MountId, key: &[u8]) -> Result<bool, TableError> {
        self.is_any_place(mount, key, 0)
    }

    /// Whether a place of a relocation is `key`, or lies below it.
    fn is_place_at(&self, mount: MountId, key: &[u8]) -> Result<bool, TableError> {
        Ok(self.is_place(mount, key)? || self.is_any_place(mount, key, b'/')?)
    }

    /// Whether a place of a relocation begins with `key`, and goes on with `byte`, or ends there if that is 0.
    fn is_any_place(&self, mount: MountId, key: &[u8], byte: u8) -> Result<bool, TableError> {
        let end = |byte| [&mount.0.to_be_bytes(), key, &[byte]].concat();
        let (from, to) = (end(byte), end(byte + 1));
        Ok(self.masks.range::<&[u8]>(from.as_slice()..to.as_slice())?.next().transpose()?.is_some())
    }

    /// Relocations of which a place is a prefix of `key`, longer than `shorter` bytes, and the lengths of those.
    fn places_above(&self, mount: MountId, key: &[u8], shorter: usize) -> Result<Vec<(u64, usize)>, TableError> {
        let mut above = Vec::new();
        for slash in (shorter..key.len()).filter(|at| key[*at] == b'/') {
            let end = |byte| [&mount.0.to_be_bytes(), &key[..=slash], &[byte]].concat();
            let (from, to) = (end(0), end(1));
            for row in self.masks.range::<&[u8]>(from.as_slice()..to.as_slice())? {
                above.push((mask_relocation(row?.0.value())?, slash + 1));
            }
        }
        Ok(above)
    }

    /// Whether what under stores show at `name` in `dir` is to be passed over.
    pub(crate) fn is_masked<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        dir: InodeId,
        name: &Name,
    ) -> Result<bool, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        if self.masks.is_empty()? {
            return Ok(false);
        }
        let Some(mount) = rows.mount_of(mounts, dir)? else { return Ok(false) };
        let key = [&rows.prefix(mounts, dir)?, name.as_bytes()].concat();
        // What lies below the prefix of a directory that is relocated is its own, whatever was moved away from there around it.
        let prefix = rows.climb(mounts, dir, |_, row| Ok(row.key.as_ref().map(Vec::len)))?.unwrap_or(0);
        if self.is_place_at(mount, &key)? {
            return Ok(true);
        }
        let above = self.places_above(mount, &key, prefix)?;
        if above.is_empty() {
            return Ok(false);
        }
        let around = self.relocations_around(rows, mounts, dir)?;
        Ok(above.iter().any(|(id, _)| around.iter().all(|(other, _)| other != id)))
    }

    /// Whether objects that are to be moved away may lie at, below or above the place that the path says for `name` in `dir`; for a
    /// directory, also at the place that its parent's present prefix implies. Below a place of a relocation in which `dir` lies, only what would
    /// be there under that very relocation is at home.
    pub(crate) fn is_contested<E, N>(
        &self,
        rows: &Rows<E, N>,
        mounts: &Mounts,
        dir: InodeId,
        name: &Name,
        is_directory: bool,
    ) -> Result<bool, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        N: ReadableTable<u64, &'static [u8]>,
    {
        if self.masks.is_empty()? {
            return Ok(false);
        }
        let Some(mount) = rows.mount_of(mounts, dir)? else { return Ok(false) };
        let key = [&rows.path_prefix(mounts, dir)?, name.as_bytes()].concat();
        if self.is_place_at(mount, &key)? {
            return Ok(true);
        }
        let above = self.places_above(mount, &key, 0)?;
        if !above.is_empty() {
            let around = self.relocations_around(rows, mounts, dir)?;
            let is_home = |(id, place): &(u64, usize)| {
                let rest = key[*place..].strip_suffix(name.as_bytes());
                around.iter().any(|(other, way)| other == id && rest == Some(way))
            };
            if !above.iter().all(is_home) {
                return Ok(true);
            }
        }
        Ok(is_directory && self.is_masked(rows, mounts, dir, name)?)
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

/// Mount (4 bytes, big-endian), place, NUL (which no name holds), relocation (8 bytes, big-endian).
pub(crate) fn mask_key(mount: MountId, place: &[u8], relocation: u64) -> Vec<u8> {
    [&mount.0.to_be_bytes(), place, &[0], &relocation.to_be_bytes()].concat()
}

pub(crate) fn left_key(mount: MountId, key: &[u8]) -> Vec<u8> {
    [&mount.0.to_be_bytes(), key].concat()
}

fn mask_relocation(key: &[u8]) -> Result<u64, TableError> {
    let id = key.last_chunk().map(|id| u64::from_be_bytes(*id));
    id.ok_or_else(|| TableError::Damaged { table: "mask", key: hex::encode(key) })
}
