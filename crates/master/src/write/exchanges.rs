//! Exchanging two names: one command, and the objects of both follow, as after two renames.

use fail::fail_point;
use headpond_namespace::{Command, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, FileKind, Name, Result};

use super::{
    Locked, Place, Try, Writing,
    entries::{Directory, absent, being_written, names_of},
    renames::{Renaming, require_movable},
};
use crate::{access::Caller, catalog::unexpected};

/// A name and what it leads to.
struct End {
    place: Place,
    dir: Directory,
    attr: Attr,
}

impl Writing {
    pub(super) async fn try_exchange(&self, renaming: &Renaming, number: u64) -> Result<Try<(u64, u32)>> {
        let Renaming { from, to, caller, request, .. } = renaming;
        if matches!(self.answered(*request)?, Some(Reply::Renamed(_))) {
            self.tell_again(*request, &[from.clone(), to.clone()], &[], Locked::Names)?;
            return Ok(Try::Done((self.position()?, 0)));
        }
        let (one, other) = futures::future::join(
            self.lookups.lookup(from.0, &from.1, caller.as_ref(), false),
            self.lookups.lookup(to.0, &to.1, caller.as_ref(), false),
        )
        .await;
        one?;
        other?;
        let _guards = self.names.lock_all(vec![from.clone(), to.clone()]).await;
        let snapshot = self.catalog.snapshot()?;
        let ends = [self.end_of(&snapshot, from, caller.as_ref())?, self.end_of(&snapshot, to, caller.as_ref())?];
        let _links = self.lock_links(Self::linked(&snapshot, &[&ends[0].attr, &ends[1].attr])?).await;
        let snapshot = self.catalog.snapshot()?;
        let ends = [self.end_of(&snapshot, from, caller.as_ref())?, self.end_of(&snapshot, to, caller.as_ref())?];
        if !self.may_exchange(&snapshot, &ends, caller.as_ref())? {
            return Ok(Try::Done((snapshot.position(), 0)));
        }
        if let Some(end) = ends.iter().find(|end| self.leases.is_persisting(end.attr.inode)) {
            return Ok(Try::Wait(being_written(&snapshot, end.attr.inode)));
        }
        let mount = &ends[0].dir.mount;
        let [one, other] = [names_of(&snapshot, from.0, &from.1)?, names_of(&snapshot, to.0, &to.1)?];
        let due = |names: &[Name]| mount.policy.due(names);
        let inodes = ends.each_ref().map(|end| end.attr.inode);
        // What they were to replace goes, as where they are renamed.
        let is_later = due(&one).is_some() && due(&other).is_some();
        let mut replacing = Vec::new();
        for end in &ends {
            replacing.extend(self.replacing_within(&snapshot, &end.attr)?);
        }
        if !is_later
            && !replacing.is_empty()
            && let Some(way) = self.keeps_objects(&snapshot, mount, number)?
        {
            return Ok(Try::Wait(way));
        }
        drop(snapshot);
        for (end, new) in ends.iter().zip([&other, &one]) {
            if matches!(end.attr.kind, FileKind::File | FileKind::Directory) {
                mount.require_key(new, end.attr.kind == FileKind::Directory).await?;
            }
        }
        let mut leaves = Vec::new();
        for inode in &replacing {
            if is_later {
                leaves.extend(self.left_in_place_of(*inode));
            } else {
                self.delete_replaced(mount, *inode).await?;
            }
        }
        fail_point!("exchange::begun");
        let released = |old: &[Name], new: &[Name]| mount.policy.releases(old, new);
        let barrier = |moved: &Attr, new: &[Name]| moved.kind == FileKind::File && mount.policy.is_barrier(new);
        let command = Command::Exchange {
            request: *request,
            one: from.clone(),
            other: to.clone(),
            released: (released(&one, &other), released(&other, &one)),
            barriers: (barrier(&ends[0].attr, &other), barrier(&ends[1].attr, &one)),
            leaves,
            now: self.clock.now(),
        };
        match self.change(&[from.clone(), to.clone()], command).await? {
            Reply::Renamed(_) => {}
            other => return Err(unexpected(&other)),
        }
        if is_later {
            replacing.into_iter().for_each(|inode| self.replaced.forget(inode));
        }
        self.note_moved(&inodes, &ends.each_ref().map(|end| &end.attr));
        self.relocator.kick(mount.mount.id);
        Ok(Try::Done((self.position()?, 0)))
    }

    fn end_of(&self, snapshot: &Snapshot, place: &Place, caller: Option<&Caller>) -> Result<End> {
        let attr = snapshot.lookup(place.0, &place.1)?.ok_or_else(|| absent(snapshot, place.0, &place.1))?;
        Ok(End { place: place.clone(), dir: self.directory(snapshot, place.0, caller)?, attr })
    }

    /// Checks that the caller may exchange what both names lead to; `false` when that is the same already.
    fn may_exchange(&self, snapshot: &Snapshot, ends: &[End; 2], caller: Option<&Caller>) -> Result<bool> {
        let [one, other] = ends;
        for end in ends {
            self.refuse_fixed(snapshot, end.attr.inode)?;
        }
        if one.dir.mount.mount.id != other.dir.mount.mount.id {
            let (name, one, other) = (&one.place.1, &one.dir.mount.mount.path, &other.dir.mount.mount.path);
            let message = format!("{name} cannot be exchanged between mounts {one} and {other}: copy instead");
            return Err(Error::new(ErrorKind::CrossMount, message));
        }
        let mut shown = Vec::new();
        for end in ends {
            let attr = Self::named(snapshot, &end.attr)?.attr;
            end.dir.require_owner(snapshot, &attr, caller)?;
            shown.push(attr.inode);
        }
        if shown[0] == shown[1] {
            return Ok(false);
        }
        for (end, to) in [(one, &other.place), (other, &one.place)] {
            require_movable(snapshot, &end.attr, (end.place.0, to.0), caller)?;
        }
        Ok(true)
    }
}
