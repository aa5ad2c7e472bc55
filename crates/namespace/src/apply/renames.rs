//! Renaming: two names change, what lies below stays as it is, and the objects follow in a relocation.

use headpond_types::{InodeId, Name, Timestamp};

use super::{Apply, left::After, released::Order, stop::Stop};
use crate::{
    command::{Effect, Refusal, Relocation, Reply},
    error::TableError,
    inode::{Entry, Inode, Node},
    rows::entry_key,
};

/// A directory and a name in it.
type Place<'a> = (InodeId, &'a Name);

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
        if target == Some(source) {
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
        self.check_settled(from, source, to, target)?;

        if let Some(target) = target {
            self.take_place(source, target, order)?;
            if after.later && !self.takes_place(source)? {
                self.leave_object(to.0, target)?;
            }
        }
        let (key, replaces) = self.move_entry(from, source, to, target, now)?;
        self.clear_up(from.0, after)?;
        self.renumber(source, order)?;
        let Some(from_key) = key else { return Ok(Reply::Renamed(None)) };
        let id = self.new_id().0;
        self.begin_relocation(&Relocation {
            id,
            mount: mounts.0,
            inode: source.inode,
            from: from_key,
            masked: vec![(from.0, from.1.clone())],
            replaces,
            barrier: source.is_directory || order.barrier,
        })?;
        Ok(Reply::Renamed(Some(id)))
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

    /// Refuses what a relocation under way is still at: no relocation begins inside or above another, or on objects that are to be moved.
    fn check_settled(&self, from: Place<'_>, source: Entry, to: Place<'_>, target: Option<Entry>) -> Result<(), Stop> {
        let has_object = |entry: Entry| -> Result<bool, TableError> {
            Ok(self.rows.inode(entry.inode)?.is_none_or(|row| !matches!(row.node, Node::Unstored { .. })))
        };
        if !has_object(source)? && !target.map(has_object).transpose()?.unwrap_or(false) {
            return Ok(());
        }
        let at = |entry: Entry| self.unsettled.relocation_at(entry.inode);
        if self.unsettled.is_masked(to.0, to.1)?
            || self.relocation_of(to.0)?.is_some()
            || target.map(at).transpose()?.flatten().is_some()
        {
            return Err(Refusal::Relocating(to.1.clone()).into());
        }
        if self.relocation_of(from.0)?.is_some()
            || at(source)?.is_some()
            || source.is_directory && self.relocates_within(source.inode)?
        {
            return Err(Refusal::Relocating(from.1.clone()).into());
        }
        Ok(())
    }

    /// Answers where the under store has what was moved, if that is not where it is now to be, and the version of what was replaced.
    fn move_entry(
        &mut self,
        from: Place<'_>,
        source: Entry,
        to: Place<'_>,
        target: Option<Entry>,
        now: Timestamp,
    ) -> Result<(Option<Vec<u8>>, Option<String>), TableError> {
        let row = self.rows.inode(source.inode)?;
        let row = row.unwrap_or_else(|| panic!("inode {} has an entry but no row", source.inode));
        let key = self.object_key(source.inode, &row)?;
        if self.is_held(source, &row)? {
            self.release(from.0)?;
            self.hold(to.0)?;
        }
        let (old_dir, new_dir) = (self.mounts.key(from.0), self.mounts.key(to.0));
        self.rows.entries.remove(entry_key(old_dir, from.1.as_bytes()).as_slice())?;
        self.effects.push(Effect::Entry { parent: from.0, name: from.1.clone(), old: Some(source.inode) });
        let mut replaces = None;
        match target {
            Some(target) => {
                let replaced = self.rows.inode(target.inode)?;
                let version = replaced.as_ref().and_then(Inode::file).map(|file| file.version.clone());
                replaces = version.filter(|version| !version.is_empty());
                self.remove_name(to.0, to.1, target)?;
            }
            None => self.effects.push(Effect::Entry { parent: to.0, name: to.1.clone(), old: None }),
        }
        self.rows.entries.insert(entry_key(new_dir, to.1.as_bytes()).as_slice(), source.encode())?;
        let mut row = Inode { parent: new_dir, name: Some(to.1.clone()), key: None, ..row };
        row.own.ctime = Some(now);
        if let Some(key) = &key {
            self.place(&mut row, key)?;
            self.fill(to.0, false)?;
        }
        self.put_inode(source.inode, &row)?;
        self.count_child(from.0, -1, now)?;
        self.count_child(to.0, if target.is_some() { 0 } else { 1 }, now)?;
        Ok((row.key, replaces))
    }
}
