//! Renaming: one command, and the objects follow.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, RenameMode, RequestId, Result};

use super::{
    Locked, Place, Try, Writing,
    entries::{Directory, absent, being_written, exists, names_of},
    replaced::OldObject,
};
use crate::{
    access::{Caller, WRITE},
    catalog::unexpected,
    lookup::describe,
    mount::path_key,
    sync::is_unpersisted,
};

/// A rename that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Renaming {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) mode: RenameMode,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: RequestId,
}

/// The two ends, with both names locked.
struct Ends {
    from: (Directory, Attr),
    to: (Directory, Option<Attr>),
}

impl Writing {
    /// Renames within a mount; gives the position of the journal that shows it, and how many names are left to what was replaced. Visible at once; objects are moved in the background.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` with [`RenameMode::NoReplace`], `NotADirectory`, `IsADirectory`, `NotEmpty`, `CrossMount`, `ReadOnly`, `PermissionDenied`; `Busy`
    /// for mount points and while objects in the way are stored; those of lookup and store.
    pub(crate) async fn rename(self: &Arc<Self>, renaming: Renaming) -> Result<(u64, u32)> {
        let this = self.clone();
        let number = self.catalog.snapshot()?.number();
        let request = renaming.request;
        let work = async move {
            match renaming.mode {
                RenameMode::Exchange => this.persevere(|| Box::pin(this.try_exchange(&renaming, number))).await,
                _ => this.persevere(|| Box::pin(this.try_rename(&renaming, number))).await,
            }
        };
        self.run_once(request, work).await
    }

    async fn try_rename(&self, renaming: &Renaming, number: u64) -> Result<Try<(u64, u32)>> {
        let Renaming { from, to, mode, caller, request } = renaming;
        if matches!(self.answered(*request)?, Some(Reply::Renamed(_))) {
            self.tell_again(*request, &[from.clone(), to.clone()], &[], Locked::Names)?;
            return Ok(Try::Done((self.position()?, 0)));
        }
        let (old, new) = futures::future::join(
            self.lookups.lookup(from.0, &from.1, caller.as_ref(), false),
            self.lookups.lookup(to.0, &to.1, caller.as_ref(), false),
        )
        .await;
        old?;
        new?;
        let _guards = self.names.lock_all(vec![from.clone(), to.clone()]).await;
        let snapshot = self.catalog.snapshot()?;
        let found = [snapshot.lookup(from.0, &from.1)?, snapshot.lookup(to.0, &to.1)?];
        let linked = Self::linked(&snapshot, &found.iter().flatten().collect::<Vec<_>>())?;
        let _links = self.lock_links(linked).await;
        let snapshot = self.catalog.snapshot()?;
        let Some(ends) = self.ends(&snapshot, renaming)? else { return Ok(Try::Done((snapshot.position(), 0))) };
        if let Some(way) = self.in_the_way(&snapshot, &ends, to)? {
            return Ok(Try::Wait(way));
        }
        let Ends { from: (from_dir, moved), to: (to_dir, replaced) } = ends;
        let (mount, new_path) = (&to_dir.mount, describe(&snapshot, to.0));
        let (old_names, new_names) = (names_of(&snapshot, from.0, &from.1)?, names_of(&snapshot, to.0, &to.1)?);
        let is_later = mount.policy.due(&new_names).is_some();
        let replaced_named = replaced.as_ref().map(|old| Self::named(&snapshot, old)).transpose()?;
        let links = replaced_named.as_ref().map_or(0, |named| named.others);
        let moves = replaced_named.is_some_and(|named| named.moves);
        let aliases = match &replaced {
            Some(old) if moves => snapshot.aliases(old.inode)?,
            _ => Vec::new(),
        };
        let mut deletes = self.replacing_within(&snapshot, &moved)?;
        deletes.extend(replaced.as_ref().map(|old| old.inode).filter(|inode| self.replaced.get(*inode).is_some()));
        if !is_later
            && !deletes.is_empty()
            && let Some(way) = self.keeps_objects(&snapshot, mount, number)?
        {
            return Ok(Try::Wait(way));
        }
        let new_key = path_key(&new_names);
        let replaced_key = match &replaced {
            Some(old) => snapshot.location(old.inode)?.map(|location| location.key),
            None => None,
        };
        if let Some(old) = &replaced
            && let Some(way) = self.awaits_deletions(&snapshot, mount, old, is_later)?
        {
            return Ok(Try::Wait(way));
        }
        drop(snapshot);
        if matches!(moved.kind, FileKind::File | FileKind::Directory) {
            mount.require_key(&new_names, moved.kind == FileKind::Directory).await?;
        }

        if let Some(old) = replaced.as_ref().filter(|old| old.kind == FileKind::Directory)
            && !if is_later {
                self.is_known_empty(mount, old.inode).await?
            } else {
                self.is_empty(mount, old.inode).await?
            }
        {
            return Err(Error::new(ErrorKind::NotEmpty, format!("{} in {new_path} is not empty", to.1)));
        }
        let (mut leaves, mut marker, mut kept) = (Vec::new(), None, None);
        if is_later {
            leaves.extend(deletes.iter().filter_map(|inode| self.left_in_place_of(*inode)));
            if from.0 != to.0 {
                marker = self.marker_of(mount, &from_dir.attr).await?;
            }
        } else {
            for inode in &deletes {
                self.delete_replaced(mount, *inode).await?;
            }
            if from.0 != to.0 {
                kept = self.keep(mount, &from_dir.attr, &from.1).await?;
            }
        }
        fail_point!("rename::begun");
        let no_replace = *mode == RenameMode::NoReplace;
        let (from, to, now) = (from.clone(), to.clone(), self.clock.now());
        let places = [from.clone(), to.clone()];
        let released = mount.policy.releases(&old_names, &new_names);
        let barrier = moved.kind == FileKind::File && mount.policy.is_barrier(&new_names);
        // Its first version takes the place of what it replaces; what will never have one does not wait for that.
        let stays = |old: &Attr| {
            let is_new = is_unpersisted(&moved) && !moved.dirty && (moved.kind == FileKind::File || !is_later);
            is_new && old.kind == FileKind::File && !is_unpersisted(old) && replaced_key.as_ref() == Some(&new_key)
        };
        let later = is_later && !replaced.as_ref().is_some_and(stays);
        let request = *request;
        let command = Command::Rename { request, from, to, no_replace, released, barrier, later, leaves, marker, now };
        match self.change(&places, command).await? {
            Reply::Renamed(_) => {}
            other => return Err(unexpected(&other)),
        }
        let ends: Vec<_> = [Some(moved.inode), replaced.as_ref().map(|old| old.inode)].into_iter().flatten().collect();
        self.note_moved(&ends, &[&moved]);
        // What was replaced has the place of one of these.
        self.catalog.backlog().note(&aliases);
        if is_later {
            deletes.into_iter().for_each(|inode| self.replaced.forget(inode));
        }
        if let Some(old) = replaced {
            if links == 0 {
                self.leases.end_of(old.inode);
            }
            if stays(&old) && !moves {
                let object = OldObject { key: new_key.clone(), version: old.version };
                self.replaced.note(moved.inode, object);
                if moved.kind != FileKind::File
                    && let Err(error) = self.delete_replaced(mount, moved.inode).await
                {
                    tracing::warn!(path = new_path, %error, "the object that a rename there replaced is still in the store");
                }
            }
        }
        self.follow(mount, kept).await;
        self.relocator.kick(to_dir.mount.mount.id);
        Ok(Try::Done((self.position()?, links)))
    }

    /// Has it looked at again where `inodes`, and what is below `moved`, are persisted.
    pub(super) fn note_moved(&self, inodes: &[InodeId], moved: &[&Attr]) {
        let backlog = self.catalog.backlog();
        if backlog.is_empty() {
            return;
        }
        backlog.note(inodes);
        if let Some(directory) = moved.iter().find(|attr| attr.kind == FileKind::Directory) {
            backlog.paths_changed(directory.mount);
        }
    }

    /// Finds both ends and checks that the caller may; `None` when both are the same already.
    fn ends(&self, snapshot: &Snapshot, renaming: &Renaming) -> Result<Option<Ends>> {
        let Renaming { from, to, mode, caller, .. } = renaming;
        let caller = caller.as_ref();
        let moved = snapshot.lookup(from.0, &from.1)?.ok_or_else(|| absent(snapshot, from.0, &from.1))?;
        let replaced = snapshot.lookup(to.0, &to.1)?;
        let (from_dir, to_dir) = (self.directory(snapshot, from.0, caller)?, self.directory(snapshot, to.0, caller)?);
        if *mode == RenameMode::NoReplace && replaced.is_some() {
            return Err(exists(snapshot, to.0, &to.1));
        }
        self.refuse_fixed(snapshot, moved.inode)?;
        if from_dir.mount.mount.id != to_dir.mount.mount.id {
            let (old, new) = (&from_dir.mount.mount.path, &to_dir.mount.mount.path);
            let message = format!("{} cannot be renamed from mount {old} to mount {new}: copy instead", from.1);
            return Err(Error::new(ErrorKind::CrossMount, message));
        }
        let shown = Self::named(snapshot, &moved)?.attr;
        from_dir.require_owner(snapshot, &shown, caller)?;
        if let Some(old) = &replaced {
            let old_shown = Self::named(snapshot, old)?.attr;
            if old_shown.inode == shown.inode {
                return Ok(None);
            }
            self.refuse_fixed(snapshot, old.inode)?;
            to_dir.require_owner(snapshot, &old_shown, caller)?;
            match (moved.kind == FileKind::Directory, old.kind == FileKind::Directory) {
                (true, false) => {
                    let message = format!("{} is not a directory", describe(snapshot, old.inode));
                    return Err(Error::new(ErrorKind::NotADirectory, message));
                }
                (false, true) => {
                    let message = format!("{} is a directory", describe(snapshot, old.inode));
                    return Err(Error::new(ErrorKind::IsADirectory, message));
                }
                _ => {}
            }
        }
        require_movable(snapshot, &moved, (from.0, to.0), caller)?;
        Ok(Some(Ends { from: (from_dir, moved), to: (to_dir, replaced) }))
    }

    /// What has to end before.
    fn in_the_way(&self, snapshot: &Snapshot, ends: &Ends, to: &Place) -> Result<Option<String>> {
        let Ends { from: (_, moved), to: (to_dir, replaced) } = ends;
        for attr in [Some(moved), replaced.as_ref()].into_iter().flatten() {
            if self.leases.is_persisting(attr.inode) {
                return Ok(Some(being_written(snapshot, attr.inode)));
            }
        }
        if let Some(old) = replaced
            && !self.persists_later(snapshot, to_dir, &to.1)?
            && let Some(way) = self.is_being_put(snapshot, old)?
        {
            return Ok(Some(way));
        }
        Ok(None)
    }
}

/// Checks that what is moved from one directory to another may be there.
///
/// # Errors
/// `InvalidArgument` for a directory that would lie below itself; `PermissionDenied` for one that the caller may not write, since its `..` changes.
pub(super) fn require_movable(
    snapshot: &Snapshot,
    moved: &Attr,
    (from, to): (InodeId, InodeId),
    caller: Option<&Caller>,
) -> Result<()> {
    if moved.kind != FileKind::Directory {
        return Ok(());
    }
    if is_below(snapshot, to, moved.inode)? {
        let message = format!("{} cannot be moved below itself", describe(snapshot, moved.inode));
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    match caller.filter(|_| from != to) {
        Some(caller) => caller.require(moved, WRITE, || describe(snapshot, moved.inode)),
        None => Ok(()),
    }
}

/// Whether `inode` is `top` or lies below it.
pub(crate) fn is_below(snapshot: &Snapshot, inode: InodeId, top: InodeId) -> Result<bool> {
    let mut at = inode;
    loop {
        if at == top {
            return Ok(true);
        }
        match snapshot.attr(at)? {
            Some(attr) if attr.parent != at => at = attr.parent,
            _ => return Ok(false),
        }
    }
}
