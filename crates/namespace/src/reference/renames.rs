//! What the model does with renames.

use headpond_types::{InodeId, Name, Timestamp};

use super::{
    changes::Changed,
    model::{Kind, Model},
};
use crate::{Due, Left, ObservedKind, Refusal, Relocation, Reply};

/// Whether what is replaced is left, what is left besides, and when the marker is due.
pub(super) type After<'a> = (bool, &'a [Left], Option<Due>);

impl Model {
    pub(super) fn rename(
        &mut self,
        from: &(InodeId, Name),
        to: &(InodeId, Name),
        no_replace: bool,
        (order, (later, leaves, marker)): ((bool, bool), After<'_>),
        now: Timestamp,
    ) -> Changed {
        let ((p, n), (q, m)) = ((from.0.0, &from.1), (to.0.0, &to.1));
        let mounts = (self.changeable(p, n)?, self.changeable(q, m)?);
        let source = self.child(p, n).ok_or_else(|| Refusal::NoEntry(n.clone()))?;
        let target = self.child(q, m);
        if no_replace && target.is_some() {
            return Err(Refusal::Exists(m.clone()));
        }
        if target.is_some_and(|target| self.target(target) == self.target(source)) {
            return Ok(Reply::Renamed(None));
        }
        if self.keeps(source) {
            return Err(Refusal::Fixed(n.clone()));
        }
        if mounts.0 != mounts.1 {
            return Err(Refusal::CrossMount(n.clone(), m.clone()));
        }
        if self.upwards(q).contains(&source) {
            return Err(Refusal::IntoItself(n.clone()));
        }
        if let Some(target) = target {
            if self.keeps(target) {
                return Err(Refusal::Fixed(m.clone()));
            }
            if self.is_directory(target) && !self.is_directory(source) {
                return Err(Refusal::IsDirectory(m.clone()));
            }
            if !self.is_directory(target) && self.is_directory(source) {
                return Err(Refusal::NoDirectory(m.clone()));
            }
            if self.has_children(target) {
                return Err(Refusal::NotEmpty(m.clone()));
            }
        }
        if self.is_reserved(q, m) {
            return Err(Refusal::Reserved(m.clone()));
        }
        let linked = target.filter(|target| !self.aliases(*target).is_empty());
        if let Some(linked) = linked {
            self.promote(q, m, linked, now);
        }
        let target = target.filter(|_| linked.is_none());
        Ok(Reply::Renamed(self.do_rename((p, n), source, (q, m), target, (order, (later, leaves, marker)), now)))
    }

    /// Renames what may be renamed; answers the relocation.
    pub(super) fn do_rename(
        &mut self,
        (p, n): (u64, &Name),
        source: u64,
        (q, m): (u64, &Name),
        target: Option<u64>,
        (order, (later, leaves, marker)): ((bool, bool), After<'_>),
        now: Timestamp,
    ) -> Option<u64> {
        let mut is_seen_to = target.is_some_and(|target| self.take_place(source, target, order.0));
        let is_directory = self.is_directory(source);
        let takes = !is_directory && self.nodes[&source].dirty.is_some() || self.has_object(source);
        if let Some(target) = target.filter(|_| (later || is_directory) && !takes) {
            self.leave_object(target);
            is_seen_to = true;
        }
        let is_unpersisted = !self.has_object(source);
        let lifted = self.lift(p, n, source);
        self.effect(p, n, Some(source));
        let mut object = None;
        match target {
            Some(target) => {
                if let Kind::File(ObservedKind::File { version, .. }) = &self.nodes[&target].kind
                    && !version.is_empty()
                    && !is_seen_to
                {
                    object = Some((self.key(target), version.clone()));
                }
                self.take_out(q, m, target);
            }
            None => self.effect(q, m, None),
        }
        self.children(p).remove(n);
        self.modify(p, now);
        self.put_down(source, q, m, &lifted, now);
        self.leave(p, leaves, marker);
        self.follow(source, lifted, order);
        let new_path = self.path_key(source);
        if let Some(object) = object {
            if self.relocation_at(source).is_some() && object.0 == new_path {
                self.amend(source, |relocation| relocation.replaced.push(object));
            } else if !(is_unpersisted && object.0 == new_path) {
                let target = target.expect("had it");
                if self.relocations.values().any(|relocation| relocation.inode.0 == target) {
                    self.amend(target, |relocation| {
                        relocation.add_place(object.0.clone());
                        relocation.replaced.push(object);
                    });
                } else {
                    let mount = self.mount_of(q).expect("is there");
                    self.relocate_in(mount, target, vec![object.0.clone()], Some(object));
                }
            }
        }
        let relocation = self.relocation_at(source);
        self.reorder_link(source, order);
        relocation
    }

    /// Where relocations of what it lies in may have put what is below a directory.
    pub(super) fn places_around(&self, parent: u64, name: &Name) -> Vec<Vec<u8>> {
        let (mut around, mut tail) = (Vec::new(), [name.as_bytes(), b"/"].concat());
        for above in self.within_mount(parent) {
            let relocation = self.relocation_at(above).map(|id| &self.relocations[&id]);
            around.extend(relocation.into_iter().flat_map(Relocation::places).map(|place| [place, &tail].concat()));
            tail = [self.nodes[&above].name.as_ref().expect("has a name").as_bytes(), b"/", &tail].concat();
        }
        around
    }
}
