//! What the model does with what the under store was seen to hold.

use headpond_types::{InodeId, Name, Timestamp};

use super::model::{Kind, Model, directory};
use crate::{Effect, Observed, ObservedKind, own::Own};

impl Model {
    /// Whether the name leads to something else than before.
    pub(super) fn upsert(&mut self, dir: u64, observed: &Observed, at: Timestamp) -> bool {
        let name = &observed.name;
        let is_directory = matches!(observed.object, ObservedKind::Directory);
        let old = self.child(dir, name);
        let relocates = self.relocation_of(dir).is_some();
        let is_listed = matches!(self.nodes[&dir].kind, Kind::Directory { listed: Some(_), .. });
        if self.is_masked(dir, name) || self.is_nobodys(dir, observed) || relocates && (old.is_some() || is_listed) {
            return false;
        }
        let mut own = Own::default();
        let mut replaced = None;
        if let Some(mut old) = old {
            let was_directory = self.is_directory(old);
            if was_directory && is_directory {
                if self.keeps(old) {
                    self.set_made(old, false);
                }
                return false;
            }
            if self.is_unsettled(old) {
                return false;
            }
            if self.keeps(old) {
                self.set_made(old, true);
                return false;
            }
            let node = self.nodes.get_mut(&old).expect("is there");
            if let (Kind::File(known), new @ ObservedKind::File { .. }) = (&mut node.kind, &observed.object) {
                if let Some(seen) = merged(known, new, node.own.mtime) {
                    if *known != seen {
                        *known = seen;
                        self.effect(dir, name, None);
                    }
                    return false;
                }
                own = Own { ctime: None, atime: None, mtime: false, ..node.own };
            }
            old = self.outlive(old);
            replaced = Some(old);
            self.remove(old);
        }
        let old = replaced;
        let kind = if is_directory { directory(false, at) } else { Kind::File(observed.object.clone()) };
        let new = self.insert(dir, name, kind);
        self.nodes.get_mut(&new).expect("is there").own = own;
        let unlisted = matches!(self.nodes[&dir].kind, Kind::Directory { listed: None, .. });
        if old.is_none() && unlisted {
            self.effects.push(Effect::Discovered { parent: InodeId(dir), name: name.clone() });
        } else {
            self.effect(dir, name, old);
        }
        true
    }

    pub(super) fn forget(&mut self, dir: u64, name: &Name, inode: u64) {
        if self.relocation_of(dir).is_some() || self.is_covered(dir) || self.is_masked(dir, name) {
            return;
        }
        match self.child(dir, name) {
            Some(found) if found == inode && self.is_unsettled(found) => {}
            Some(found) if found == inode && self.keeps(found) => self.set_made(found, true),
            Some(found) if found == inode => {
                let found = self.outlive(found);
                self.remove(found);
                self.effect(dir, name, Some(found));
            }
            _ => {}
        }
    }
}

/// A file after the under store was seen to have `new`; nothing if that is another version.
fn merged(known: &ObservedKind, new: &ObservedKind, own_mtime: bool) -> Option<ObservedKind> {
    let (
        ObservedKind::File { size, mtime, version, content },
        ObservedKind::File { size: new_size, mtime: new_mtime, version: new_version, content: new_content },
    ) = (known, new)
    else {
        return None;
    };
    let mtime = if own_mtime { *mtime } else { *new_mtime };
    let is_same = (size, version) == (new_size, new_version) || content == new_content;
    is_same.then(|| ObservedKind::File { size: *new_size, mtime, version: new_version.clone(), content: *content })
}
