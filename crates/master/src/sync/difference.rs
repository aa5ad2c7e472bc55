//! What a listing changes: the entries that the namespace has, compared with those that the store was seen to hold.

use std::{cmp::Ordering, collections::HashSet, time::Duration};

use headpond_namespace::{Observed, ObservedKind, Snapshot};
use headpond_types::{Attr, FileKind, InodeId, MountId, Name, Result};

/// Changes that a stretch of a listing asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// To be told to the namespace.
    pub(crate) changed: Vec<Observed>,
    /// Known, and not seen.
    pub(crate) vanished: Vec<(Name, InodeId)>,
}

/// Compares what is `known` with what was `seen`; both cover the same stretch of a directory of `mount`, in order of
/// names. Entries of other mounts, those in `fixed` and what the store was never given are not the store's to change.
pub(crate) fn difference(
    mount: MountId,
    fixed: &HashSet<InodeId>,
    known: Vec<(Name, Attr)>,
    seen: Vec<(Name, ObservedKind)>,
) -> Difference {
    let mut difference = Difference::default();
    let mut known = known.into_iter().peekable();
    let mut seen = seen.into_iter().peekable();
    loop {
        let order = match (known.peek(), seen.peek()) {
            (None, None) => return difference,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((known, _)), Some((seen, _))) => known.cmp(seen),
        };
        let before = if order.is_le() { known.next() } else { None };
        let after = if order.is_ge() { seen.next() } else { None };
        let ours = |attr: &Attr| attr.mount != mount || fixed.contains(&attr.inode) || is_ahead(attr);
        if before.as_ref().is_some_and(|(_, attr)| ours(attr)) {
            continue;
        }
        match (before, after) {
            (Some((name, attr)), None) => difference.vanished.push((name, attr.inode)),
            (Some((_, attr)), Some((_, object))) if is_same(&attr, &object) => {}
            (_, Some((name, object))) => difference.changed.push(Observed { name, object }),
            (None, None) => {}
        }
    }
}

/// Whether the namespace says of an entry what the store says.
///
/// Versions, and not contents, are compared: what we wrote has a content id that was drawn. Times are compared to the second: stores give milliseconds in a listing and seconds elsewhere for the same object.
pub(crate) fn is_same(attr: &Attr, object: &ObservedKind) -> bool {
    match object {
        ObservedKind::Directory => attr.kind == FileKind::Directory,
        ObservedKind::File { size, mtime, version, .. } => {
            let apart = attr.mtime.saturating_since(*mtime).max(mtime.saturating_since(attr.mtime));
            let is_version = attr.kind == FileKind::File && attr.version == *version && attr.size == *size;
            is_version && (attr.own_mtime || apart < Duration::from_secs(1))
        }
    }
}

/// Whether no store holds anything of `attr`: a file that was not stored yet, or what none can hold.
pub(crate) const fn is_unpersisted(attr: &Attr) -> bool {
    !matches!(attr.kind, FileKind::Directory) && attr.version.is_empty()
}

/// Whether an inode stays although the store shows nothing of it: it is, or holds, what no store has, or not where its path says, or not yet
/// as it is.
pub(super) fn stays(snapshot: &Snapshot, attr: &Attr) -> Result<bool> {
    Ok(is_ahead(attr) || stays_inode(snapshot, attr.inode)?)
}

/// The same of one whose own attributes do not say so.
pub(super) fn stays_inode(snapshot: &Snapshot, inode: InodeId) -> Result<bool> {
    Ok(snapshot.stays(inode)? || snapshot.dirty(inode)?.is_some())
}

/// Whether the namespace knows better than the store what `attr` is: no store holds anything of it, or not yet what it is now.
pub(crate) const fn is_ahead(attr: &Attr) -> bool {
    attr.dirty || is_unpersisted(attr)
}

#[cfg(test)]
mod tests {
    use headpond_types::{ContentId, Timestamp};

    use super::*;

    fn known(inode: u64, content: u128) -> Attr {
        Attr {
            inode: InodeId(inode),
            parent: InodeId::ROOT,
            mount: MountId(1),
            kind: if content == 0 { FileKind::Directory } else { FileKind::File },
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 1,
            mtime: Timestamp(5_400_000_000),
            atime: None,
            own_mtime: false,
            has_xattrs: false,
            dirty: false,
            ctime: Timestamp(0),
            content: Some(ContentId(content)).filter(|content| content.0 != 0),
            version: content.to_string(),
        }
    }

    fn seen(content: u128) -> ObservedKind {
        let mtime = Timestamp(5_000_000_000);
        ObservedKind::File { size: 1, mtime, version: content.to_string(), content: ContentId(content) }
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = vec![
            (name("changed"), known(2, 2)),
            (name("dir"), known(3, 0)),
            (name("gone"), known(4, 4)),
            (name("same"), known(5, 5)),
            (name("turned"), known(6, 6)),
        ];
        let after = vec![
            (name("changed"), seen(22)),
            (name("dir"), ObservedKind::Directory),
            (name("new"), seen(7)),
            (name("same"), seen(5)),
            (name("turned"), ObservedKind::Directory),
        ];
        let found = difference(MountId(1), &HashSet::new(), before, after);
        let changed: Vec<_> = found.changed.iter().map(|entry| entry.name.to_string()).collect();
        assert_eq!(changed, ["changed", "new", "turned"]);
        assert_eq!(found.vanished, [(name("gone"), InodeId(4))]);
    }

    #[test]
    fn what_no_store_holds_is_left_alone() {
        let link = Attr { kind: FileKind::Symlink, version: String::new(), ..known(9, 0) };
        let before = vec![(name("link"), link)];
        assert_eq!(difference(MountId(1), &HashSet::new(), before.clone(), Vec::new()), Difference::default());
        let seen = vec![(name("link"), seen(1))];
        assert_eq!(difference(MountId(1), &HashSet::new(), before, seen), Difference::default());
    }

    #[test]
    fn mounts_and_the_way_to_them_are_left_alone() {
        let other = Attr { mount: MountId(2), ..known(9, 0) };
        let before = vec![(name("mounted"), other.clone()), (name("way"), known(8, 0))];
        let fixed = HashSet::from([InodeId(8)]);
        assert_eq!(difference(MountId(1), &fixed, before.clone(), Vec::new()), Difference::default());
        let hidden = vec![(name("mounted"), seen(1)), (name("way"), seen(2))];
        assert_eq!(difference(MountId(1), &fixed, before, hidden), Difference::default());
    }
}
