//! Comparing a snapshot of the namespace with the model.

use headpond_types::{InodeId, MountId};

use super::model::{Kind, Model};
use crate::{Listed, Location, ObservedKind, Snapshot};

impl Model {
    /// Whether a snapshot shows exactly this.
    pub(super) fn check(&self, snapshot: &Snapshot) {
        for id in 1..self.next {
            let inode = InodeId(id);
            let attr = snapshot.attr(inode).expect("reads");
            let Some(node) = self.nodes.get(&id) else {
                assert_eq!(attr, None, "{id} is gone");
                assert_eq!(snapshot.path(inode).expect("reads"), None);
                assert_eq!(snapshot.location(inode).expect("reads"), None);
                assert_eq!(snapshot.list(inode, None, 9).expect("reads"), []);
                continue;
            };
            let attr = attr.unwrap_or_else(|| panic!("{id} is missing: {node:?}"));
            let mount = self.mount_of(id).expect("is there");
            assert_eq!((attr.inode, attr.parent, attr.mount), (inode, InodeId(node.parent), MountId(mount)));
            let path = self.path(id);
            assert_eq!(snapshot.path(inode).expect("reads"), Some(path.clone()));
            let location = self.mounts.get(&mount).map(|(_, found)| Location {
                mount: MountId(mount),
                names: path.names()[found.path.names().len()..].to_vec(),
                key: snapshot.location(inode).expect("reads").expect("is there").key,
            });
            assert_eq!(snapshot.location(inode).expect("reads"), location);
            let listed = snapshot.listed(inode).expect("reads");
            let list = snapshot.list(inode, None, usize::MAX).expect("reads");
            match &node.kind {
                Kind::File(ObservedKind::File { size, mtime, version, content }) => {
                    assert_eq!((attr.size, attr.mtime, &attr.version), (*size, *mtime, version));
                    assert_eq!(attr.content, Some(*content));
                    assert_eq!((listed, list), (None, vec![]));
                }
                Kind::File(ObservedKind::Directory) => panic!("a file is no directory"),
                Kind::Directory { children, listed: known, mtime, .. } => {
                    assert_eq!((attr.mtime, attr.content), (*mtime, None));
                    let entries = children.len() as u64;
                    assert_eq!(listed, known.map(|(at, skipped)| Listed { at, entries, skipped }));
                    let names: Vec<_> = list.iter().map(|(name, attr)| (name.clone(), attr.inode.0)).collect();
                    assert_eq!(names, children.clone().into_iter().collect::<Vec<_>>());
                    for (name, attr) in list {
                        assert_eq!(snapshot.lookup(inode, &name).expect("reads").as_ref(), Some(&attr));
                        assert_eq!(snapshot.attr(attr.inode).expect("reads"), Some(attr));
                    }
                }
            }
        }
        let mounts: Vec<_> = self.mounts.values().map(|(_, mount)| mount.clone()).collect();
        assert_eq!(snapshot.mounts().expect("reads"), mounts);
    }
}
