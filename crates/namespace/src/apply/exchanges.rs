//! Exchanging: two names change what they lead to, in one step. Each is then as after a rename: it keeps its key, and has a relocation. Those
//! are in each other's place, which relocations see to.

use headpond_types::Timestamp;

use super::{Apply, left::After, released::Order, renames::Place, stop::Stop};
use crate::command::{Left, Refusal, Reply};

impl Apply<'_> {
    /// Has `one` and `other` lead to what the other of them does; `orders` are of what `one`, and what `other` leads to.
    pub(super) fn exchange(
        &mut self,
        one: Place<'_>,
        other: Place<'_>,
        orders: (Order, Order),
        leaves: &[Left],
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let mounts = (self.changeable(one.0, one.1)?, self.changeable(other.0, other.1)?);
        let [first, second] = [one, other].map(|(dir, name)| {
            let entry = self.rows.entry(self.mounts.key(dir), name)?;
            entry.ok_or_else(|| Stop::from(Refusal::NoEntry(name.clone())))
        });
        let (first, second) = (first?, second?);
        if self.is_same_inode(first, second)? {
            return Ok(Reply::Renamed(None));
        }
        for (entry, name) in [(first, one.1), (second, other.1)] {
            if self.mounts.keeps(entry.inode) {
                return Err(Refusal::Fixed(name.clone()).into());
            }
        }
        if mounts.0 != mounts.1 {
            return Err(Refusal::CrossMount(one.1.clone(), other.1.clone()).into());
        }
        for (entry, (_, name), to) in [(first, one, other.0), (second, other, one.0)] {
            if entry.is_directory && self.rows.lies_within(&self.mounts, to, entry.inode)? {
                return Err(Refusal::IntoItself(name.clone()).into());
            }
        }
        let (mut first, mut second) = (self.take_up(one, first)?, self.take_up(other, second)?);
        self.put_down(&mut first, other, now)?;
        self.put_down(&mut second, one, now)?;
        self.count_child(one.0, 0, now)?;
        self.count_child(other.0, 0, now)?;
        self.clear_up(one.0, After { later: true, leaves, marker: None })?;
        let inodes = (first.inode(), second.inode());
        let relocation = self.follow(mounts.0, first, orders.0)?;
        self.follow(mounts.0, second, orders.1)?;
        self.reorder_link(inodes.0, orders.0)?;
        self.reorder_link(inodes.1, orders.1)?;
        Ok(Reply::Renamed(relocation))
    }
}
