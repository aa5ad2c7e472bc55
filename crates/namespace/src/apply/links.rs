//! Hard links: further names of an inode, each a row of its own (see [`crate::links`]).
//!
//! An alias is renamed, removed, relocated and listed as the file that its row is. What is different: it gets its object not from workers but from
//! its target's, so it is dirty whenever the target got another content, with numbers that are never lower than the target's, since it waits for
//! that: else what the target waits for might wait for the alias. When the first name of an inode goes, the inode takes the place of an alias.

use headpond_types::{InodeId, Name, Timestamp};

use super::{Apply, left::After, released::Order, stop::Stop};
use crate::{
    command::{Dirty, Due, Effect, Owner, Refusal, Reply},
    error::TableError,
    header::pack,
    inode::{Entry, File, Inode, Node},
    links::{Link, MAX},
    rows::entry_key,
};

impl Apply<'_> {
    pub(super) fn link(
        &mut self,
        target: InodeId,
        parent: InodeId,
        name: &Name,
        due: Due,
        barrier: bool,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let row = self.rows.inode(target)?.ok_or(Refusal::Gone(target))?;
        let own_name = row.name.clone().ok_or(Refusal::Gone(target))?;
        let mount = self.rows.mount_of(&self.mounts, self.mounts.directory(row.parent))?;
        let mount = mount.filter(|_| self.links.link(target).is_ok_and(|link| link.is_none()));
        let mount = mount.ok_or(Refusal::Gone(target))?;
        if row.directory().is_some() {
            return Err(Refusal::IsDirectory(own_name).into());
        }
        if self.changeable(parent, name)? != mount {
            return Err(Refusal::CrossMount(own_name, name.clone()).into());
        }
        if self.links.aliases(target)?.len() >= MAX {
            return Err(Refusal::TooManyLinks(own_name).into());
        }
        let node = match &row.node {
            Node::File(_) | Node::Directory(_) => Node::File(File::unpersisted(now)),
            Node::Unstored { what, mtime } => Node::Unstored { what: what.clone(), mtime: *mtime },
        };
        let shown = self.mounts.get(mount).map(|mount| (mount.file_mode, mount.uid, mount.gid)).unwrap_or_default();
        let owner = Owner {
            mode: row.own.mode.unwrap_or(shown.0),
            uid: row.own.uid.unwrap_or(shown.1),
            gid: row.own.gid.unwrap_or(shown.2),
        };
        let alias = self.make_new(parent, name, &owner, now, node)?;
        self.put_link(alias, Link { target, due, barrier })?;
        self.links.names.insert((target.0, alias.0), ()).map_err(TableError::from)?;
        let mut row = self.rows.inode(target)?.unwrap_or(row);
        row.own.ctime = Some(now);
        self.put_inode(target, &row)?;
        self.effects.push(Effect::Entry {
            parent: self.mounts.directory(row.parent),
            name: own_name,
            old: Some(target),
        });
        if row.file().is_none() {
            self.hold(parent)?;
            return Ok(Reply::Inode(target));
        }
        // Without a first content there is nothing that it could lack.
        let is_new = row.file().is_some_and(|file| !file.is_persisted()) && !row.dirty;
        self.lag(alias, if is_new { Due::Never } else { due })?;
        if due == Due::Now {
            self.give_due_name(target, alias, barrier)?;
        }
        Ok(Reply::Inode(target))
    }

    /// Has a file that is not due, and of which the under store has nothing, trade places with an alias that is due: so it is put once, under the
    /// name that is to have it.
    fn give_due_name(&mut self, target: InodeId, alias: InodeId, barrier: bool) -> Result<(), TableError> {
        let (mut row, file) = self.file_row(target)?;
        let (mut other, _) = self.file_row(alias)?;
        let (Some(dirty), Some(lag)) = (self.dirty_of(target, &row)?, self.dirty_of(alias, &other)?) else {
            return Ok(());
        };
        if dirty.due == Due::Now || file.is_persisted() || dirty.key.is_some() || lag.key.is_some() {
            return Ok(());
        }
        self.trade_names(target, &mut row, alias, &mut other)?;
        let number = self.new_id().0;
        let due = dirty.due;
        self.set_dirty(&mut row, &Dirty { number, since: number, due: Due::Now, barrier, ..dirty })?;
        self.put_link(alias, Link { target, due, barrier: false })?;
        self.set_dirty(&mut other, &Dirty { due, barrier: false, ..lag })?;
        self.put_inode(target, &row)?;
        self.put_inode(alias, &other)
    }

    /// Both are files with rows that are still to be put, and either both or none are held.
    fn trade_names(
        &mut self,
        target: InodeId,
        row: &mut Inode,
        alias: InodeId,
        other: &mut Inode,
    ) -> Result<(), TableError> {
        std::mem::swap(&mut row.parent, &mut other.parent);
        std::mem::swap(&mut row.name, &mut other.name);
        std::mem::swap(&mut row.key, &mut other.key);
        for (inode, row) in [(target, &*row), (alias, &*other)] {
            let name = row.name.as_ref().map_or(&[][..], Name::as_bytes);
            let entry = Entry { inode, is_directory: false };
            self.rows.entries.insert(entry_key(row.parent, name).as_slice(), entry.encode())?;
            self.changed_rows += 1;
        }
        Ok(())
    }

    fn put_link(&mut self, alias: InodeId, link: Link) -> Result<(), TableError> {
        self.changed_rows += 1;
        self.links.links.insert(alias.0, pack(&link).as_slice())?;
        Ok(())
    }

    /// The inode got another content, which the objects of its aliases are to have as well.
    pub(super) fn aliases_lag(&mut self, target: InodeId) -> Result<(), TableError> {
        if self.links.is_empty()? {
            return Ok(());
        }
        for alias in self.links.aliases(target)? {
            let Some(link) = self.links.link(alias)? else { continue };
            self.lag(alias, link.due)?;
        }
        Ok(())
    }

    /// Notes that an alias, a file, is to have another object.
    fn lag(&mut self, alias: InodeId, due: Due) -> Result<(), TableError> {
        let (mut row, _) = self.file_row(alias)?;
        let parent = self.mounts.directory(row.parent);
        let Some(mount) = self.rows.mount_of(&self.mounts, parent)? else { return Ok(()) };
        let barrier = self.links.link(alias)?.is_some_and(|link| link.barrier);
        let fresh = self.new_dirty(mount, alias, due);
        let mut dirty = Dirty { barrier, ..fresh };
        if let Some(known) = self.dirty_of(alias, &row)? {
            if known.due == Due::Now && due == Due::Now {
                dirty.since = known.since;
            }
            dirty.then = known.then.or(known.key.is_some().then_some(dirty.number));
            (dirty.key, dirty.put, dirty.replaces) = (known.key, known.put, known.replaces);
        }
        self.set_dirty(&mut row, &dirty)?;
        self.put_inode(alias, &row)
    }

    /// What a rename says of when it is due holds for an alias that has no object yet as well as for its next ones.
    pub(super) fn reorder_link(&mut self, moved: InodeId, order: Order) -> Result<(), TableError> {
        let Some(mut link) = self.links.link(moved)? else { return Ok(()) };
        if order.released && link.due == Due::WhenRenamed {
            link.due = Due::Now;
        }
        link.barrier |= order.barrier;
        self.put_link(moved, link)?;
        let is_file = self.rows.inode(moved)?.is_some_and(|row| row.file().is_some());
        if is_file && link.due == Due::Now { self.give_due_name(link.target, moved, link.barrier) } else { Ok(()) }
    }

    /// Whether two entries lead to the same inode.
    pub(super) fn is_same_inode(&self, one: Entry, other: Entry) -> Result<bool, TableError> {
        Ok(one == other || self.links.target(one.inode)? == self.links.target(other.inode)?)
    }

    /// Whether an entry is the first name of an inode that has others.
    pub(super) fn has_other_names(&self, entry: Entry) -> Result<bool, TableError> {
        Ok(!entry.is_directory && self.links.has_aliases(entry.inode)?)
    }

    /// Takes the first name from an inode that has others: it gets the place of an alias. What may be put there for that just now is an orphan like others,
    /// which [`Apply::moved`] ends if it turns out to be a copy of the inode's object.
    pub(super) fn promote(
        &mut self,
        parent: InodeId,
        name: &Name,
        entry: Entry,
        now: Timestamp,
    ) -> Result<(), TableError> {
        let target = entry.inode;
        if let Some(alias) = self.twin_of(target)? {
            let (row, file) = self.file_row(target)?;
            let key = self.rows.key(&self.mounts, &row)?;
            let mount = self.rows.mount_of(&self.mounts, parent)?;
            let mount = mount.unwrap_or_else(|| panic!("directory {parent} is in no mount"));
            self.trade_places(target, alias)?;
            self.leave_orphan(mount, key, Some(file.version), (Vec::new(), Vec::new()))?;
            self.remove_name(parent, name, Entry { inode: alias, is_directory: false })?;
            self.count_child(parent, -1, now)?;
            return self.set_ctime(target, now);
        }
        let alias = self.alias_to_replace(target)?;
        let link = self.links.link(alias)?.unwrap_or_else(|| panic!("alias {alias} has no row that says whose"));
        let row = self.rows.inode(alias)?.unwrap_or_else(|| panic!("alias {alias} has no row"));
        let to = (self.mounts.directory(row.parent), row.name.unwrap_or_else(|| panic!("alias {alias} has no name")));
        let order = Order { released: link.due == Due::Now, barrier: link.barrier };
        let replaced = Some(Entry { inode: alias, is_directory: false });
        let after = After { later: false, leaves: &[], marker: None };
        self.do_rename((parent, name), entry, (to.0, &to.1), replaced, (order, after), now)?;
        if link.due == Due::Now { self.make_due(target, link.barrier, None) } else { Ok(()) }
    }

    /// An alias whose object has the content of the inode, if both are settled.
    pub(super) fn twin_of(&self, target: InodeId) -> Result<Option<InodeId>, TableError> {
        let is_settled = |id: InodeId, row: &Inode| -> Result<bool, TableError> {
            Ok(!row.dirty && self.relocation_of(id)?.is_none())
        };
        let Some(row) = self.rows.inode(target)? else { return Ok(None) };
        let Some(file) = row.file().filter(|file| file.is_persisted()) else { return Ok(None) };
        if !is_settled(target, &row)? {
            return Ok(None);
        }
        for alias in self.links.aliases(target)? {
            let (other, copy) = self.file_row(alias)?;
            if copy.is_persisted() && copy.content == file.content && is_settled(alias, &other)? {
                return Ok(Some(alias));
            }
        }
        Ok(None)
    }

    /// The alias whose place is taken: one of which nothing was begun, if there is any.
    fn alias_to_replace(&self, target: InodeId) -> Result<InodeId, TableError> {
        let aliases = self.links.aliases(target)?;
        for alias in &aliases {
            if self.dirty.get(*alias)?.is_none_or(|dirty| dirty.key.is_none()) {
                return Ok(*alias);
            }
        }
        Ok(*aliases.first().unwrap_or_else(|| panic!("inode {target} has no other names")))
    }

    /// An inode and its twin trade names and objects.
    pub(super) fn trade_places(&mut self, target: InodeId, alias: InodeId) -> Result<(), TableError> {
        let ((mut row, _), (mut other, _)) = (self.file_row(target)?, self.file_row(alias)?);
        self.trade_names(target, &mut row, alias, &mut other)?;
        if let (Node::File(file), Node::File(copy)) = (&mut row.node, &mut other.node) {
            std::mem::swap(&mut file.version, &mut copy.version);
        }
        // The copy has another time.
        row.own.mtime = true;
        self.put_inode(target, &row)?;
        self.put_inode(alias, &other)?;
        let (parent, name) = (self.mounts.directory(row.parent), row.name.expect("an alias has a name"));
        self.effects.push(Effect::Entry { parent, name, old: Some(target) });
        Ok(())
    }

    /// Notes that an inode got or lost a name.
    pub(super) fn set_ctime(&mut self, inode: InodeId, now: Timestamp) -> Result<(), TableError> {
        let Some(mut row) = self.rows.inode(inode)? else { return Ok(()) };
        row.own.ctime = Some(now);
        self.put_inode(inode, &row)
    }

    /// Ends a command: no alias comes before its target, and clients hear of inodes as they know them, under all names.
    pub(super) fn settle_links(&mut self) -> Result<(), TableError> {
        let (unlinked, renumbered) = (std::mem::take(&mut self.unlinked), std::mem::take(&mut self.renumbered));
        if unlinked.is_empty() && self.links.is_empty()? {
            return Ok(());
        }
        for inode in renumbered {
            self.put_behind(inode)?;
        }
        let mut told = Vec::new();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in &mut effects {
            let Effect::Entry { old: Some(old), .. } = effect else { continue };
            *old = match unlinked.get(old) {
                Some(target) => *target,
                None => self.links.target(*old)?,
            };
            if !told.contains(old) {
                told.push(*old);
            }
        }
        for inode in told {
            for alias in self.links.aliases(inode)?.into_iter().chain([inode]) {
                let Some(row) = self.rows.inode(alias)?.filter(|row| row.directory().is_none()) else { continue };
                let (parent, Some(name)) = (self.mounts.directory(row.parent), row.name) else { continue };
                let is_told = |effect: &Effect| matches!(effect, Effect::Entry { parent: in_dir, name: of, .. } if *in_dir == parent && *of == name);
                if !effects.iter().any(is_told) && self.links.has_aliases(inode)? {
                    effects.push(Effect::Entry { parent, name, old: Some(inode) });
                }
            }
        }
        self.effects = effects;
        Ok(())
    }

    /// Gives the aliases of an inode, or an alias itself, numbers after the inode's.
    fn put_behind(&mut self, inode: InodeId) -> Result<(), TableError> {
        let target = self.links.target(inode)?;
        let Some(first) = self.dirty.get(target)? else { return Ok(()) };
        for alias in self.links.aliases(target)? {
            let Some(lag) = self.dirty.get(alias)?.filter(|lag| lag.number < first.number || lag.since < first.since)
            else {
                continue;
            };
            let number = if lag.number < first.number { self.new_id().0 } else { lag.number };
            self.put_dirty(&Dirty { number, since: lag.since.max(first.since), ..lag })?;
        }
        self.renumbered.clear();
        Ok(())
    }
}
