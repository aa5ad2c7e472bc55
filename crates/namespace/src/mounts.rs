//! The mount table in memory, with what is derived from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use headpond_types::{InodeId, MountId, NsPath};
use redb::ReadableTable;

use crate::{command::Mount, error::TableError, inode::DirKey, rows::Rows};

/// All mounts at one state of the tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts {
    by_id: BTreeMap<MountId, (InodeId, Mount)>,
    by_root: HashMap<InodeId, MountId>,
    /// Mount points and every directory above one: what an under store shows or does not show there changes nothing.
    kept: BTreeSet<InodeId>,
    /// Under which id the root's entries are stored.
    root_key: u64,
}

impl Mounts {
    /// Takes the mounts and derives the rest from the tree.
    pub(crate) fn new<E, I>(
        by_id: BTreeMap<MountId, (InodeId, Mount)>,
        root_key: u64,
        rows: &Rows<E, I>,
    ) -> Result<Self, TableError>
    where
        E: ReadableTable<&'static [u8], u64>,
        I: ReadableTable<u64, &'static [u8]>,
    {
        let by_root = by_id.iter().map(|(id, (root, _))| (*root, *id)).collect();
        let mut mounts = Self { by_id, by_root, kept: BTreeSet::from([InodeId::ROOT]), root_key };
        for (root, _) in mounts.by_id.values() {
            let mut at = *root;
            while mounts.kept.insert(at) {
                let row = rows.inode(at)?;
                let row = row.ok_or_else(|| TableError::Damaged { table: "inode", key: at.to_string() })?;
                at = directory(root_key, row.parent);
            }
        }
        Ok(mounts)
    }

    pub(crate) fn get(&self, mount: MountId) -> Option<&Mount> {
        self.by_id.get(&mount).map(|(_, mount)| mount)
    }

    pub(crate) fn root_of(&self, mount: MountId) -> Option<InodeId> {
        self.by_id.get(&mount).map(|(root, _)| *root)
    }

    /// In order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.by_id.values().map(|(_, mount)| mount)
    }

    pub(crate) fn at(&self, path: &NsPath) -> Option<&Mount> {
        self.iter().find(|mount| mount.path == *path)
    }

    pub(crate) fn rooted_at(&self, inode: InodeId) -> Option<MountId> {
        self.by_root.get(&inode).copied()
    }

    pub(crate) fn keeps(&self, inode: InodeId) -> bool {
        self.kept.contains(&inode)
    }

    /// In order of their ids.
    pub(crate) fn kept(&self) -> impl Iterator<Item = InodeId> {
        self.kept.iter().copied()
    }

    /// The mounts by id with their roots.
    pub(crate) fn by_id(&self) -> &BTreeMap<MountId, (InodeId, Mount)> {
        &self.by_id
    }

    /// The directory whose entries are stored under `key`; an inode without a row when that directory is gone.
    pub(crate) const fn directory(&self, key: DirKey) -> InodeId {
        directory(self.root_key, key)
    }

    /// Where the entries of `dir` are stored.
    pub(crate) const fn key(&self, dir: InodeId) -> DirKey {
        DirKey(if dir.0 == InodeId::ROOT.0 { self.root_key } else { dir.0 })
    }
}

const fn directory(root_key: u64, key: DirKey) -> InodeId {
    if key.0 == root_key { InodeId::ROOT } else { InodeId(key.0) }
}
