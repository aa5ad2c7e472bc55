//! Renaming: two names change, what lies below stays as it is, and the objects follow in a relocation.
//!
//! Nothing is in the way of a rename. What is moved keeps its key, and has a relocation of its own whenever that is not the key that its
//! directory implies, or that directory is relocated, or it is a directory that comes out of such. If it had one, that goes on, and where its
//! path said until now becomes one of its places: objects may have been copied there. The same holds for the relocations below. What is replaced
//! leaves its object to the relocation of what replaces it.

use headpond_types::{InodeId, MountId, Name, Timestamp};

use super::{Apply, left::After, released::Order, stop::Stop};
use crate::{
    command::{Effect, Refusal, Reply},
    error::TableError,
    inode::{Entry, Inode},
    relocation::Relocation,
    rows::entry_key,
};

/// A directory and a name in it.
pub(super) type Place<'a> = (InodeId, &'a Name);

/// An entry on its way from one name to another.
#[derive(Debug)]
pub(super) struct Moving {
    entry: Entry,
    row: Inode,
    /// Where the under store has it, if it has anything of it.
    key: Option<Vec<u8>>,
    /// Where its path said that it belongs.
    old_path: Vec<u8>,
    /// Of a directory: where relocations above may have put what is below it.
    around: Vec<Vec<u8>>,
    /// See [`Apply::order_around`].
    order_around: Option<(u64, bool)>,
    /// Of a directory: the relocations below it, and where they were to go.
    below: Vec<(u64, Vec<u8>)>,
    /// See [`Apply::is_held`].
    is_held: bool,
}

impl Moving {
    pub(super) const fn inode(&self) -> InodeId {
        self.entry.inode
    }
}

impl Apply<'_> {
    pub(super) fn rename(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        no_replace: bool,
        (order, after): (Order, After<'_>),
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let mounts = (self.changeable(from.0, from.1)?, self.changeable(to.0, to.1)?);
        let source = self.rows.entry(self.mounts.key(from.0), from.1)?;
        let source = source.ok_or_else(|| Refusal::NoEntry(from.1.clone()))?;
        let target = self.rows.entry(self.mounts.key(to.0), to.1)?;
        if no_replace && target.is_some() {
            return Err(Refusal::Exists(to.1.clone()).into());
        }
        if let Some(target) = target
            && self.is_same_inode(source, target)?
        {
            return Ok(Reply::Renamed(None));
        }
        if self.mounts.keeps(source.inode) {
            return Err(Refusal::Fixed(from.1.clone()).into());
        }
        if mounts.0 != mounts.1 {
            return Err(Refusal::CrossMount(from.1.clone(), to.1.clone()).into());
        }
        if source.is_directory && self.rows.lies_within(&self.mounts, to.0, source.inode)? {
            return Err(Refusal::IntoItself(from.1.clone()).into());
        }
        if let Some(target) = target {
            self.check_replaceable(source, target, to.1)?;
        }
        if self.is_reserved(to.0, to.1) {
            return Err(Refusal::Reserved(to.1.clone()).into());
        }
        let mut target = target;
        if let Some(replaced) = target
            && self.has_other_names(replaced)?
        {
            self.promote(to.0, to.1, replaced, now)?;
            target = None;
        }
        Ok(Reply::Renamed(self.do_rename(from, source, to, target, (order, after), now)?))
    }

    /// Renames what may be renamed; answers the relocation of what was moved, if its objects are not where they are now to be.
    pub(super) fn do_rename(
        &mut self,
        from: Place<'_>,
        source: Entry,
        to: Place<'_>,
        target: Option<Entry>,
        how: (Order, After<'_>),
        now: Timestamp,
    ) -> Result<Option<u64>, TableError> {
        let mount = self.rows.mount_of(&self.mounts, from.0)?;
        let mount = mount.unwrap_or_else(|| panic!("directory {} is in no mount", from.0));
        let relocation = self.move_entry(mount, from, source, to, target, how, now)?;
        self.reorder_link(source.inode, how.0)?;
        Ok(relocation)
    }

    /// Refuses what rename(2) does not replace.
    fn check_replaceable(&self, source: Entry, target: Entry, name: &Name) -> Result<(), Stop> {
        let refusal = if self.mounts.keeps(target.inode) {
            Refusal::Fixed
        } else {
            match (source.is_directory, target.is_directory) {
                (false, true) => Refusal::IsDirectory,
                (true, false) => Refusal::NoDirectory,
                (true, true) if self.directory_row(target.inode)?.1.children > 0 => Refusal::NotEmpty,
                (true, true) | (false, false) => return Ok(()),
            }
        };
        Err(refusal(name.clone()).into())
    }

    /// Answers the relocation of what was moved, if its objects are not where they are now to be.
    #[expect(clippy::too_many_arguments, reason = "two places, what leads there and how")]
    fn move_entry(
        &mut self,
        mount: MountId,
        from: Place<'_>,
        source: Entry,
        to: Place<'_>,
        target: Option<Entry>,
        (order, after): (Order, After<'_>),
        now: Timestamp,
    ) -> Result<Option<u64>, TableError> {
        let mut object = None;
        // A dirty file sees to the object that it replaces itself.
        if let Some(target) = target
            && !self.take_place(source, target, order)?
        {
            // A directory of which the under store has nothing never takes the place of another's marker, whoever persists it when.
            if (after.later || source.is_directory) && !self.takes_place(source)? {
                self.leave_object(to.0, target)?;
            } else {
                object = self.object_of(target.inode)?;
            }
        }
        let mut moving = self.take_up(from, source)?;
        match target {
            Some(target) => self.remove_name(to.0, to.1, target)?,
            None => self.effects.push(Effect::Entry { parent: to.0, name: to.1.clone(), old: None }),
        }
        self.put_down(&mut moving, to, now)?;
        self.count_child(from.0, -1, now)?;
        self.count_child(to.0, if target.is_some() { 0 } else { 1 }, now)?;

        let new_path = self.rows.path_key(&self.mounts, &moving.row)?;
        self.clear_up(from.0, after)?;
        let has_object = moving.key.is_some();
        let relocation = self.follow(mount, moving, order)?;
        match (object, relocation, target) {
            (Some(object), Some(id), _) if object.0 == new_path => {
                return self.amend_relocation(id, |relocation| relocation.replaced.push(object)).map(Some);
            }
            // A file without a version takes the object's place when it gets one.
            (Some(object), None, _) if object.0 == new_path && !has_object => {}
            (Some(object), _, Some(target)) => self.leave_replaced(mount, target.inode, object)?,
            (None, ..) | (Some(_), _, None) => {}
        }
        Ok(relocation)
    }

    /// Takes an entry out of its directory, to be put down elsewhere with the same command.
    pub(super) fn take_up(&mut self, from: Place<'_>, entry: Entry) -> Result<Moving, TableError> {
        let row = self.rows.inode(entry.inode)?;
        let row = row.unwrap_or_else(|| panic!("inode {} has an entry but no row", entry.inode));
        let key = self.object_key(entry.inode, &row)?;
        let old_path = self.rows.path_key(&self.mounts, &row)?;
        let around = if entry.is_directory { self.places_around(from)? } else { Vec::new() };
        let order_around = self.order_around(from.0)?;
        let below = if entry.is_directory { self.relocations_below(entry.inode)? } else { Vec::new() };
        let is_held = self.is_held(entry, &row)?;
        if is_held {
            self.release(from.0)?;
        }
        self.rows.entries.remove(entry_key(self.mounts.key(from.0), from.1.as_bytes()).as_slice())?;
        self.effects.push(Effect::Entry { parent: from.0, name: from.1.clone(), old: Some(entry.inode) });
        Ok(Moving { entry, row, key, old_path, around, order_around, below, is_held })
    }

    /// Gives what was taken up the name `to`, which is free.
    pub(super) fn put_down(&mut self, moving: &mut Moving, to: Place<'_>, now: Timestamp) -> Result<(), TableError> {
        if moving.is_held {
            self.hold(to.0)?;
        }
        let (dir, inode) = (self.mounts.key(to.0), moving.entry.inode);
        self.rows.entries.insert(entry_key(dir, to.1.as_bytes()).as_slice(), moving.entry.encode())?;
        let row = &mut moving.row;
        (row.parent, row.name, row.key) = (dir, Some(to.1.clone()), None);
        row.own.ctime = Some(now);
        if let Some(key) = &moving.key {
            self.fill(to.0, false)?;
            self.place(inode, row, key)?;
            // What is implied there is implied by a relocation, which may end without having seen it, or parts of it are elsewhere already.
            if row.key.is_none() && (!moving.around.is_empty() || self.relocation_of(to.0)?.is_some()) {
                row.key = Some(key.clone());
            }
        }
        self.put_inode(inode, row)
    }

    /// Has the objects of what was moved follow, unless they are where they are to be; answers the relocation that does so.
    pub(super) fn follow(&mut self, mount: MountId, moving: Moving, order: Order) -> Result<Option<u64>, TableError> {
        let Moving { entry, row, old_path, around, order_around, below, .. } = moving;
        // What is dirty of it has a lower number than what is relocated then.
        self.renumber(entry, order)?;
        let barrier = entry.is_directory || order.barrier;
        let relocation = match (self.unsettled.relocation_at(entry.inode)?, row.key) {
            (Some(id), _) => Some(self.amend_relocation(id, |relocation| {
                relocation.add_place(old_path);
                relocation.barrier |= barrier;
            })?),
            (None, Some(from)) => {
                let mut relocation = Relocation { barrier, ..Relocation::new(mount, entry.inode, from) };
                // Who waits for the directory that it comes out of goes on to wait for it.
                if let Some((since, barrier)) = order_around {
                    (relocation.since, relocation.barrier) = (since, relocation.barrier | barrier);
                }
                around.into_iter().chain([old_path]).for_each(|place| relocation.add_place(place));
                Some(self.begin_relocation(relocation)?)
            }
            (None, None) => None,
        };
        for (id, path) in below {
            self.amend_relocation(id, |relocation| relocation.add_place(path))?;
        }
        Ok(relocation)
    }

    /// Where relocations of what it lies in may have put what is below a directory.
    pub(super) fn places_around(&self, (parent, name): Place<'_>) -> Result<Vec<Vec<u8>>, TableError> {
        let (mut places, mut below) = (Vec::new(), [name.as_bytes(), b"/"].concat());
        self.rows.climb(&self.mounts, parent, |at, row| {
            if let Some(id) = self.unsettled.relocation_at(at)?
                && let Some(relocation) = self.unsettled.relocation(id)?
            {
                places.extend(relocation.places().map(|place| [place, &below].concat()));
            }
            let name = row.name.as_ref().map_or(&[][..], Name::as_bytes);
            below = [name, b"/", &below].concat();
            Ok(None::<()>)
        })?;
        Ok(places)
    }

    /// The first place in the order among the relocations that `dir` is, or lies below; whether one of them is a barrier.
    fn order_around(&self, dir: InodeId) -> Result<Option<(u64, bool)>, TableError> {
        let mut order = None;
        self.rows.climb(&self.mounts, dir, |at, _| {
            if let Some(id) = self.unsettled.relocation_at(at)?
                && let Some(relocation) = self.unsettled.relocation(id)?
            {
                let (since, barrier) = order.unwrap_or((relocation.since, false));
                order = Some((since.min(relocation.since), barrier | relocation.barrier));
            }
            Ok(None::<()>)
        })?;
        Ok(order)
    }

    /// Where the under store has a file, and in which version.
    fn object_of(&self, file: InodeId) -> Result<Option<(Vec<u8>, String)>, TableError> {
        let Some(row) = self.rows.inode(file)? else { return Ok(None) };
        let Some(file) = row.file().filter(|file| file.is_persisted()) else { return Ok(None) };
        Ok(Some((self.rows.key(&self.mounts, &row)?, file.version.clone())))
    }
}
