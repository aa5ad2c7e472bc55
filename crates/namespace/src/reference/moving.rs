//! What the model does with nodes that get other names, and when two of them are exchanged.

use std::collections::BTreeMap;

use headpond_types::{InodeId, Name, Timestamp};

use super::{changes::Changed, model::Model};
use crate::{Left, Refusal, Reply};

/// What is known of a node before it gets another name.
pub(super) struct Lifted {
    has_object: bool,
    pub(super) key: Vec<u8>,
    pub(super) old_path: Vec<u8>,
    pub(super) around: Vec<Vec<u8>>,
    /// Places in the order of the relocations of what it lies in, and whether they are barriers.
    orders: Vec<(u64, bool)>,
    pub(super) below: BTreeMap<u64, Vec<u8>>,
}

impl Model {
    pub(super) fn lift(&self, parent: u64, name: &Name, id: u64) -> Lifted {
        let below = self.relocations.values().map(|relocation| relocation.inode.0).filter(|inode| *inode != id);
        let below = below.filter(|inode| self.nodes.contains_key(inode) && self.within_mount(*inode).contains(&id));
        let moving = self.within_mount(parent).into_iter().filter_map(|above| self.relocation_at(above));
        Lifted {
            orders: moving.map(|id| (self.relocations[&id].since, self.relocations[&id].barrier)).collect(),
            has_object: self.has_object(id),
            key: self.key(id),
            old_path: self.path_key(id),
            around: if self.is_directory(id) { self.places_around(parent, name) } else { Vec::new() },
            // In the order of inodes, which is that of the table.
            below: below.map(|inode| (inode, self.path_key(inode))).collect(),
        }
    }

    pub(super) fn put_down(&mut self, id: u64, parent: u64, name: &Name, lifted: &Lifted, now: Timestamp) {
        self.children(parent).insert(name.clone(), id);
        let node = self.nodes.get_mut(&id).expect("is there");
        (node.parent, node.name, node.key, node.own.ctime) = (parent, Some(name.clone()), None, Some(now));
        self.gain(parent, now);
        if lifted.has_object {
            self.fill(parent, false);
            self.place(id, &lifted.key);
            if !lifted.around.is_empty() || self.relocation_of(parent).is_some() {
                self.nodes.get_mut(&id).expect("is there").key = Some(lifted.key.clone());
            }
        }
    }

    pub(super) fn follow(&mut self, id: u64, lifted: Lifted, order: (bool, bool)) {
        let Lifted { key, old_path, around, orders, below, .. } = lifted;
        self.renumber(id, order);
        let barrier = self.is_directory(id) || order.1;
        if self.relocation_at(id).is_some() {
            self.amend(id, |relocation| {
                relocation.add_place(old_path);
                relocation.barrier |= barrier;
            });
        } else if self.nodes[&id].key.is_some() {
            let places = [vec![key], around, vec![old_path]].concat();
            let id = self.relocate(id, places, None);
            let relocation = self.relocations.get_mut(&id).expect("is there");
            relocation.since = orders.iter().map(|(since, _)| *since).min().unwrap_or(id);
            relocation.barrier = barrier || orders.iter().any(|(_, barrier)| *barrier);
        }
        for (inode, path) in below {
            self.amend(inode, |relocation| relocation.add_place(path));
        }
    }

    pub(super) fn exchange(
        &mut self,
        one: &(InodeId, Name),
        other: &(InodeId, Name),
        orders: ((bool, bool), (bool, bool)),
        leaves: &[Left],
        now: Timestamp,
    ) -> Changed {
        let ((p, n), (q, m)) = ((one.0.0, &one.1), (other.0.0, &other.1));
        let mounts = (self.changeable(p, n)?, self.changeable(q, m)?);
        let first = self.child(p, n).ok_or_else(|| Refusal::NoEntry(n.clone()))?;
        let second = self.child(q, m).ok_or_else(|| Refusal::NoEntry(m.clone()))?;
        if self.target(first) == self.target(second) {
            return Ok(Reply::Renamed(None));
        }
        if self.keeps(first) {
            return Err(Refusal::Fixed(n.clone()));
        }
        if self.keeps(second) {
            return Err(Refusal::Fixed(m.clone()));
        }
        if mounts.0 != mounts.1 {
            return Err(Refusal::CrossMount(n.clone(), m.clone()));
        }
        if self.upwards(q).contains(&first) {
            return Err(Refusal::IntoItself(n.clone()));
        }
        if self.upwards(p).contains(&second) {
            return Err(Refusal::IntoItself(m.clone()));
        }
        let lifted = (self.lift(p, n, first), self.lift(q, m, second));
        self.effect(p, n, Some(first));
        self.effect(q, m, Some(second));
        self.put_down(first, q, m, &lifted.0, now);
        self.put_down(second, p, n, &lifted.1, now);
        self.leave(p, leaves, None);
        self.follow(first, lifted.0, orders.0);
        let relocation = self.relocation_at(first);
        self.follow(second, lifted.1, orders.1);
        self.reorder_link(first, orders.0);
        self.reorder_link(second, orders.1);
        Ok(Reply::Renamed(relocation))
    }
}
