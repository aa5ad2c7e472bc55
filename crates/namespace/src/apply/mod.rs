//! Applying commands inside one write transaction.
//!
//! A row that a command finds missing or contradicting another is a broken invariant and ends the process: going on would spread it to
//! every replica.

mod attributes;
mod dirty;
mod entries;
mod exchanges;
mod files;
mod left;
mod links;
mod mount_points;
mod names;
mod persists;
mod released;
mod relocations;
mod renames;
pub(crate) mod requests;
mod stop;
mod sweep;
mod trees;
mod unlinked;
mod unstored;
mod xattrs;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use headpond_types::{InodeId, Timestamp, WorkerId};
use redb::{Table, TableDefinition, WriteTransaction};

use crate::{
    alone::WriteAlone,
    apply::{left::After, persists::NewContent, released::Order},
    command::{Command, Effect, Outcome, Reply},
    dirty::WriteDirty,
    error::TableError,
    header::{HEADER, Header, pack},
    inode::{DirKey, Directory, Inode, Node},
    links::WriteLinks,
    mounts::Mounts,
    namespace::{write_rows, write_unsettled},
    own::Own,
    rows::WriteRows,
    unsettled::WriteUnsettled,
};

/// Mount id → packed (root inode, mount).
pub(crate) const MOUNTS: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("mount");
/// What a worker calls itself → its id.
const WORKERS: TableDefinition<'static, &'static str, u32> = TableDefinition::new("worker");
/// Id of a client's session → packed [`crate::ClientSession`].
pub(crate) const SESSIONS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("session");
/// Keys of directories that are gone but still have rows below.
pub(crate) const ORPHANS: TableDefinition<'static, u64, ()> = TableDefinition::new("orphan");

/// One batch of commands in one transaction.
pub(crate) struct Apply<'t> {
    rows: WriteRows<'t>,
    unsettled: WriteUnsettled<'t>,
    alone: WriteAlone<'t>,
    dirty: WriteDirty<'t>,
    links: WriteLinks<'t>,
    header_table: Table<'t, &'static str, &'static [u8]>,
    mount_table: Table<'t, u32, &'static [u8]>,
    workers: Table<'t, &'static str, u32>,
    sessions: Table<'t, u64, &'static [u8]>,
    orphans: Table<'t, u64, ()>,
    requests: requests::Requests<'t>,
    header: Header,
    mounts: Arc<Mounts>,
    effects: Vec<Effect>,
    /// What aliases that went with this command stood for.
    unlinked: BTreeMap<InodeId, InodeId>,
    /// Inodes that got another number with this command.
    renumbered: Vec<InodeId>,
    changed_rows: u64,
    /// Whether `orphans` may hold any, so that most commands need not look.
    has_orphans: bool,
}

/// What a batch leaves besides the rows.
pub(crate) struct Applied {
    pub(crate) header: Header,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) changed_rows: u64,
    /// Whether rows below directories that are gone are left.
    pub(crate) has_remains: bool,
}

/// Makes the tables that are missing, and the root; answers the header.
pub(crate) fn create_tables(txn: &WriteTransaction) -> Result<Header, TableError> {
    // Tables of before there was writing have none of these.
    write_unsettled(txn)?;
    WriteAlone::open(txn)?;
    WriteDirty::open(txn)?;
    WriteLinks::open(txn)?;
    txn.open_table(SESSIONS)?;
    let mut table = txn.open_table(HEADER)?;
    if let Some(header) = Header::read(&table)? {
        return Ok(header);
    }
    let header = Header::first();
    header.write(&mut table)?;
    let root = Inode {
        parent: DirKey(header.root_key),
        name: None,
        key: None,
        own: Own::default(),
        dirty: false,
        node: Node::Directory(Directory::default()),
    };
    write_rows(txn)?.inodes.insert(InodeId::ROOT.0, root.encode().as_slice())?;
    txn.open_table(MOUNTS)?;
    txn.open_table(WORKERS)?;
    txn.open_table(ORPHANS)?;
    requests::Requests::open(txn)?;
    Ok(header)
}

impl<'t> Apply<'t> {
    pub(crate) fn begin(txn: &'t WriteTransaction, header: Header, mounts: Arc<Mounts>) -> Result<Self, TableError> {
        let orphans = txn.open_table(ORPHANS)?;
        let has_orphans = !redb::ReadableTableMetadata::is_empty(&orphans)?;
        Ok(Self {
            rows: write_rows(txn)?,
            unsettled: write_unsettled(txn)?,
            alone: WriteAlone::open(txn)?,
            dirty: WriteDirty::open(txn)?,
            links: WriteLinks::open(txn)?,
            header_table: txn.open_table(HEADER)?,
            mount_table: txn.open_table(MOUNTS)?,
            workers: txn.open_table(WORKERS)?,
            sessions: txn.open_table(SESSIONS)?,
            orphans,
            requests: requests::Requests::open(txn)?,
            header,
            mounts,
            effects: Vec::new(),
            unlinked: BTreeMap::new(),
            renumbered: Vec::new(),
            changed_rows: 0,
            has_orphans,
        })
    }

    /// Applies one command.
    pub(crate) fn command(&mut self, command: &Command) -> Result<Outcome, TableError> {
        self.changed_rows += 1;
        let reply = match command {
            Command::Noop => Reply::Done,
            Command::SetCluster { cluster } => Reply::Cluster(*self.header.cluster.get_or_insert(*cluster)),
            Command::BeginTerm => {
                self.header.term += 1;
                Reply::Term(self.header.term)
            }
            Command::RegisterWorker { uuid } => Reply::Worker(self.register_worker(uuid)?),
            Command::AddMount { request, mount, now } => {
                self.once(*request, |apply| Ok(apply.add_mount(mount, *now)?))?
            }
            Command::RemoveMount { request, path, now: _ } => {
                self.once(*request, |apply| Ok(apply.remove_mount(path)?))?
            }
            Command::Upsert { dir, entries, at } => {
                self.upsert(*dir, entries, *at)?;
                Reply::Done
            }
            Command::Forget { dir, entries } => {
                self.forget(*dir, entries)?;
                Reply::Done
            }
            Command::MarkListed { dir, at, skipped } => {
                self.mark_listed(*dir, *at, *skipped)?;
                Reply::Done
            }
            Command::Create { request, parent, name, owner, now } => {
                self.once(*request, |apply| apply.create(*parent, name, owner, *now))?
            }
            Command::Commit { request, inode, key, version, now: _ } => {
                self.once(*request, |apply| apply.commit(*inode, key, version))?
            }
            Command::Discard { inode } => {
                self.discard(*inode)?;
                Reply::Done
            }
            Command::MakeDirectory { request, parent, name, owner, dirty, now } => {
                self.once(*request, |apply| apply.make_directory(*parent, name, owner, *dirty, *now))?
            }
            Command::Remove { request, parent, name, inode, later, leaves, marker, now } => {
                let after = After { later: *later, leaves, marker: *marker };
                self.once(*request, |apply| apply.remove(*parent, name, *inode, after, *now))?
            }
            Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now } => {
                let order = Order { released: *released, barrier: *barrier };
                let after = After { later: *later, leaves, marker: *marker };
                let from = (from.0, &from.1);
                self.once(*request, |apply| apply.rename(from, (to.0, &to.1), *no_replace, (order, after), *now))?
            }
            Command::Moved { relocation, files } => Reply::Moved(self.moved(*relocation, files)?),
            Command::EndRelocation { relocation } => {
                self.end_relocation(*relocation)?;
                Reply::Done
            }
            Command::SetAttr { request, inode, change, now } => {
                self.once(*request, |apply| apply.set_attr(*inode, change, None, *now))?
            }
            Command::SetTimes { request, inode, change, atime, now } => {
                self.once(*request, |apply| apply.set_attr(*inode, change, Some(*atime), *now))?
            }
            Command::MakeUnstored { request, parent, name, owner, what, now } => {
                self.once(*request, |apply| apply.make_unstored(*parent, name, owner, what, *now))?
            }
            Command::SetXattr { request, inode, change, now } => {
                self.once(*request, |apply| apply.set_xattr(*inode, change, *now))?
            }
            Command::CommitDirty { request, inode, size, mtime, content, holders, due, barrier, now: _ } => {
                let (size, mtime, content, due, barrier) = (*size, *mtime, *content, *due, *barrier);
                let new = NewContent { size, mtime, content, holders, due, barrier };
                self.once(*request, |apply| apply.commit_dirty(*inode, &new))?
            }
            Command::BeginPersist { files } => {
                files.iter().try_for_each(|begun| self.begin_persist(begun))?;
                Reply::Done
            }
            Command::EndPersist { inode, number, key, version } => {
                self.end_persist(*inode, *number, key, version.as_ref())?;
                Reply::Done
            }
            Command::MakeDue { inodes, number } => {
                inodes.iter().try_for_each(|(inode, barrier)| self.make_due(*inode, *barrier, *number))?;
                Reply::Done
            }
            Command::EndTree { inode, number } => {
                self.end_tree(*inode, *number)?;
                Reply::Done
            }
            Command::DropDirty { inode, number } => {
                self.drop_dirty(*inode, *number)?;
                Reply::Done
            }
            Command::Overwrite { inode, number, version } => {
                self.overwrite(*inode, *number, version.as_deref())?;
                Reply::Done
            }
            Command::Leave { mount, objects, gone } => {
                self.leave(*mount, objects, gone)?;
                Reply::Done
            }
            Command::Link { request, inode, parent, name, due, barrier, now } => {
                self.once(*request, |apply| apply.link(*inode, *parent, name, *due, *barrier, *now))?
            }
            Command::Exchange { request, one, other, released, barriers, leaves, now } => {
                let order = |released, barrier| Order { released, barrier };
                let orders = (order(released.0, barriers.0), order(released.1, barriers.1));
                let (one, other) = ((one.0, &one.1), (other.0, &other.1));
                self.once(*request, |apply| apply.exchange(one, other, orders, leaves, *now))?
            }
            Command::RemoveTree { request, parent, name, inode, leaves, marker, now } => {
                let after = After { later: true, leaves, marker: *marker };
                self.once(*request, |apply| apply.remove_tree(*parent, name, *inode, after, *now))?
            }
            Command::Reap { tree, files } => {
                self.reap(*tree, files)?;
                Reply::Done
            }
            Command::Replace { relocation, key, version } => {
                self.may_replace(*relocation, key, version)?;
                Reply::Done
            }
            Command::Yield { inode, from, key, version } => {
                self.give_way(*inode, from, key, version)?;
                Reply::Done
            }
            Command::BeginSession { id, session } => {
                self.sessions.insert(id, pack(session).as_slice())?;
                Reply::Done
            }
            Command::EndSessions { ids } => {
                for id in ids {
                    self.sessions.remove(id)?;
                }
                Reply::Done
            }
            Command::Sweep => Reply::Done,
        };
        self.sweep(matches!(command, Command::Sweep))?;
        self.settle_links()?;
        Ok(Outcome { reply, effects: std::mem::take(&mut self.effects) })
    }

    /// Ends the batch, all but committing it.
    pub(crate) fn finish(mut self) -> Result<Applied, TableError> {
        self.header.write(&mut self.header_table)?;
        Ok(Applied {
            header: self.header,
            mounts: self.mounts,
            changed_rows: self.changed_rows + 1,
            has_remains: self.has_orphans,
        })
    }

    fn register_worker(&mut self, uuid: &str) -> Result<WorkerId, TableError> {
        if let Some(id) = redb::ReadableTable::get(&self.workers, uuid)? {
            return Ok(WorkerId(id.value()));
        }
        let id = self.header.next_worker;
        self.header.next_worker += 1;
        self.workers.insert(uuid, id)?;
        Ok(WorkerId(id))
    }

    fn new_id(&mut self) -> InodeId {
        let id = self.header.next_inode;
        self.header.next_inode += 1;
        InodeId(id)
    }

    /// The row of a directory that an entry leads to.
    fn directory_row(&self, id: InodeId) -> Result<(Inode, Directory), TableError> {
        let row = self.rows.inode(id)?;
        let found = row.and_then(|inode| inode.directory().cloned().map(|directory| (inode, directory)));
        Ok(found.unwrap_or_else(|| panic!("directory {id} has no row")))
    }

    fn put_directory(&mut self, id: InodeId, mut inode: Inode, directory: Directory) -> Result<(), TableError> {
        inode.node = Node::Directory(directory);
        self.put_inode(id, &inode)
    }

    fn put_inode(&mut self, id: InodeId, inode: &Inode) -> Result<(), TableError> {
        self.changed_rows += 1;
        self.rows.inodes.insert(id.0, inode.encode().as_slice())?;
        Ok(())
    }

    /// A directory's entry in its parent changed on account of a mount, so what was listed there is not complete any more.
    fn adjust_parent(&mut self, parent: InodeId, children: i64, relist: bool) -> Result<(), TableError> {
        let (row, mut directory) = self.directory_row(parent)?;
        directory.children =
            directory.children.checked_add_signed(children).expect("no directory has less than no entries");
        if relist {
            directory.listed = None;
        }
        self.put_directory(parent, row, directory)
    }
}

/// A directory that `now` finds in the tree.
const fn new_directory(now: Timestamp, made: bool) -> Directory {
    Directory { mtime: now, children: 0, listed: None, made }
}
