//! What the model does with what is dirty and renamed: whose place it takes, and when it is due.

use super::model::{Kind, Model};
use crate::{Due, ObservedKind};

impl Model {
    /// A dirty file without an object takes the place of another's, or leaves it to be deleted. Whether it is such a file.
    pub(super) fn take_place(&mut self, source: u64, target: u64, released: bool) -> bool {
        let Some(dirty) = self.nodes[&source].dirty.clone() else { return false };
        if self.has_object(source) || self.is_directory(source) {
            return false;
        }
        if !self.has_object(target) {
            return true;
        }
        let (key, place) = (self.key(target), self.path_key(target));
        let is_due = dirty.due == Due::Now || dirty.due == Due::WhenRenamed && released;
        let version = match &self.nodes[&target].kind {
            Kind::File(ObservedKind::File { version, .. }) => {
                Some(version.clone()).filter(|version| !version.is_empty())
            }
            _ => None,
        };
        if !is_due || key != place {
            if version.is_some() {
                self.orphan_at(dirty.mount, key, version, (vec![], vec![]));
            }
            return true;
        }
        let (mut put, mut replaces) = (vec![], version);
        if let Some(known) = self.dirty(target).filter(|known| known.key.as_ref() == Some(&key)) {
            known.key = None;
            put = std::mem::take(&mut known.put);
            replaces = replaces.or(known.replaces.take());
        }
        let dirty = self.dirty(source).expect("is there");
        (dirty.key, dirty.put, dirty.replaces) = (Some(key), put, replaces);
        true
    }

    /// What a rename changes in the order.
    pub(super) fn renumber(&mut self, id: u64, (released, barrier): (bool, bool)) {
        let next = self.next;
        if self.is_directory(id) {
            let tree = self.holds_unstored(id);
            if released && (tree || self.nodes[&id].dirty.is_some()) {
                let fresh = self.fresh(id, Due::Now);
                let node = self.nodes.get_mut(&id).expect("is there");
                let dirty = node.dirty.get_or_insert(fresh);
                (dirty.number, dirty.due, dirty.barrier, dirty.tree) = (next, Due::Now, true, tree);
                dirty.since = next;
            }
            return;
        }
        let Some(dirty) = self.dirty(id) else { return };
        if released && dirty.due == Due::WhenRenamed {
            (dirty.number, dirty.since, dirty.due, dirty.barrier) = (next, next, Due::Now, barrier);
        } else if barrier && dirty.due == Due::Now {
            (dirty.number, dirty.barrier) = (next, true);
        } else {
            return;
        }
        self.next += 1;
    }
}
