//! Hard links: further names of files. The namespace alone changes; an object under the new name follows by [`crate::persist`].
//!
//! How many names an inode has changes only under its *lock of links*, which is taken last, with the locks on names held. So who removes a name, or
//! renames over one, knows until it is done whether the inode goes with it, and which objects are whose.

use std::sync::Arc;

use headpond_namespace::{Command, Due, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, RequestId, Result};

use super::{
    Locked, NameGuard, Writing,
    entries::{exists, names_of},
};
use crate::{
    access::Caller,
    catalog::unexpected,
    lookup::{Answer, describe},
    mount::LiveMount,
    sync::stale,
};

/// A further name that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Linking {
    pub(crate) inode: InodeId,
    pub(crate) parent: InodeId,
    pub(crate) name: Name,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: RequestId,
}

/// An inode whose name is to be changed or removed, as clients know it.
#[derive(Debug)]
pub(super) struct Named {
    /// The inode, which may have its own name elsewhere.
    pub(super) attr: Attr,
    /// How many names it has besides this one.
    pub(super) others: u32,
    /// It is under its own name, and has others: the inode moves to one of those.
    pub(super) moves: bool,
}

impl Writing {
    /// Gives an inode a further name.
    ///
    /// # Errors
    /// `AlreadyExists`, `IsADirectory`, `CrossMount`, `ReadOnly`, `PermissionDenied`, `ResourceExhausted` for more names than one file can have; `Stale` when the inode
    /// is gone; those of lookup.
    pub(crate) async fn link(self: &Arc<Self>, linking: Linking) -> Result<Answer> {
        let this = self.clone();
        self.run_once(linking.request, async move { this.do_link(&linking).await }).await
    }

    async fn do_link(&self, linking: &Linking) -> Result<Answer> {
        let Linking { inode, parent, name, caller, request } = linking;
        if let Some(Reply::Inode(inode)) = self.answered(*request)? {
            self.tell_again(*request, &[(*parent, name.clone())], &[inode], Locked::Names)?;
            return self.answer(inode);
        }
        let caller = caller.as_ref();
        if let Some(caller) = caller {
            caller.require_way(&self.catalog.snapshot()?, *inode)?;
        }
        self.lookups.attr(*inode, false).await?;
        self.lookups.lookup(*parent, name, caller, false).await?;
        let place = (*parent, name.clone());
        let _guards = loop {
            let own = self.own_place(*inode)?;
            let guards = self.names.lock_all(vec![own.clone(), place.clone()]).await;
            if self.own_place(*inode)? == own {
                break guards;
            }
        };
        let _lock = self.lock_links([*inode]).await;
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(*inode)?.ok_or_else(|| stale(*inode))?;
        if attr.kind == FileKind::Directory {
            let message = format!("{} is a directory, which has one name only", describe(&snapshot, *inode));
            return Err(Error::new(ErrorKind::IsADirectory, message));
        }
        let mount = self.writable(&snapshot, &attr)?;
        if snapshot.lookup(*parent, name)?.is_some() {
            return Err(exists(&snapshot, *parent, name));
        }
        let above = self.directory(&snapshot, *parent, caller)?;
        if above.mount.mount.id != mount.mount.id {
            let (one, other) = (&mount.mount.path, &above.mount.mount.path);
            let message = format!("a file of mount {one} cannot have a name in mount {other}: copy instead");
            return Err(Error::new(ErrorKind::CrossMount, message));
        }
        let names = names_of(&snapshot, *parent, name)?;
        drop(snapshot);
        if attr.kind == FileKind::File {
            mount.require_key(&names, false).await?;
        }
        let due = mount.policy.due(&names).unwrap_or(Due::Now);
        let barrier = attr.kind == FileKind::File && mount.policy.is_barrier(&names);
        let (request, now) = (*request, self.clock.now());
        let command = Command::Link { request, inode: *inode, parent: *parent, name: name.clone(), due, barrier, now };
        match self.change(&[place], command).await? {
            Reply::Inode(inode) => self.answer(inode),
            other => Err(unexpected(&other)),
        }
    }

    /// The name that an inode has itself.
    fn own_place(&self, inode: InodeId) -> Result<super::Place> {
        let snapshot = self.catalog.snapshot()?;
        let (attr, path) = (snapshot.attr(inode)?, snapshot.path(inode)?);
        let name = path.and_then(|path| path.names().last().cloned());
        attr.zip(name).map(|(attr, name)| (attr.parent, name)).ok_or_else(|| stale(inode))
    }

    /// Keeps the names of inodes from becoming more or less. Taken after all locks on names.
    pub(super) async fn lock_links(&self, inodes: impl IntoIterator<Item = InodeId>) -> Vec<NameGuard> {
        let lock = Name::new("links").expect("a legal name");
        // No directory has the id of a file.
        self.names.lock_all(inodes.into_iter().map(|inode| (inode, lock.clone())).collect()).await
    }

    /// The inodes behind what names lead to, of which there may be other names: those whose links are to be locked.
    pub(super) fn linked(snapshot: &Snapshot, found: &[&Attr]) -> Result<Vec<InodeId>> {
        let mut linked = Vec::new();
        for attr in found {
            let target = snapshot.target(attr.inode)?;
            linked.extend(target.or_else(|| is_linked(attr).then_some(attr.inode)));
        }
        Ok(linked)
    }

    /// What a name leads to, as clients know it.
    pub(super) fn named(snapshot: &Snapshot, found: &Attr) -> Result<Named> {
        let is_alias = snapshot.target(found.inode)?.is_some();
        let attr = snapshot.shown(found.clone())?.ok_or_else(|| stale(found.inode))?;
        let others = if attr.kind == FileKind::Directory { 0 } else { attr.nlink.saturating_sub(1) };
        Ok(Named { attr, others, moves: others > 0 && !is_alias })
    }

    /// What a directory that is removed while its store is looked at waits for: objects in it that are nobody's since a file there moved to another of
    /// its names.
    pub(super) fn awaits_deletions(
        &self,
        snapshot: &Snapshot,
        mount: &LiveMount,
        attr: &Attr,
        is_later: bool,
    ) -> Result<Option<String>> {
        if attr.kind != FileKind::Directory || is_later {
            return Ok(None);
        }
        let key = snapshot.location(attr.inode)?.ok_or_else(|| stale(attr.inode))?.key;
        let awaits = snapshot.has_orphans_below(mount.mount.id, &[&key[..], b"/"].concat())?;
        let path = describe(snapshot, attr.inode);
        Ok(awaits.then(|| format!("objects of files that were in {path} are still to be deleted: try again later")))
    }

    /// What an inode that moves to the place of another of its names waits for: nothing of it is to be put just then.
    pub(super) fn is_any_being_put(&self, snapshot: &Snapshot, attr: &Attr) -> Result<Option<String>> {
        if !is_linked(attr) {
            return Ok(None);
        }
        for alias in snapshot.aliases(attr.inode)? {
            let Some(alias) = snapshot.attr(alias)? else { continue };
            if let Some(way) = self.is_being_put(snapshot, &alias)? {
                return Ok(Some(way));
            }
        }
        Ok(None)
    }
}

/// Whether an inode has more than one name.
fn is_linked(attr: &Attr) -> bool {
    attr.kind != FileKind::Directory && attr.nlink > 1
}
