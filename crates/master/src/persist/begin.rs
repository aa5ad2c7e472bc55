//! What is to be done for each thing that may go, and noting that before any of it is done: from then on there may be an object.

use std::sync::Arc;

use fail::fail_point;
use headpond_namespace::{Command, Dirty, Due, Location, PersistBegun, Snapshot};
use headpond_types::{Attr, ContentId, FileKind, InodeId, Result, WorkerId};

use super::{Persister, left::Orphan, links::Copying, run::Run};
use crate::{
    mount::LiveMount,
    write::{NameGuard, first_key},
};

/// How often a marker makes way for files that would make it needless.
const MAKES_WAY: u32 = 10;

/// Entries of a directory that are looked at for such files.
const LOOKED_AT: usize = 64;

/// Something that was chosen; no task: something is in its way.
pub(super) struct Begun {
    pub(super) inode: InodeId,
    pub(super) task: Option<Task>,
}

/// What is to be done at the store, in a mount.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) mount: Arc<LiveMount>,
    pub(super) inode: InodeId,
    pub(super) number: u64,
    /// Relative to the mount's prefix.
    pub(super) key: Vec<u8>,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    File(Upload),
    /// A further name of a file.
    Copy(Copying),
    /// The marker of a directory.
    Marker,
    /// An object that is nobody's, if it is this version or one of these contents.
    Orphan(Orphan),
}

/// A file that workers hold.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) content: ContentId,
    pub(super) holders: Vec<WorkerId>,
    /// The version that it replaces; `None`: there must be no object.
    pub(super) replaces: Option<String>,
    /// What may have been put there before.
    pub(super) earlier: Vec<ContentId>,
    /// What is nobody's under its key, and is replaced: inode and number.
    pub(super) orphan: Option<(InodeId, u64)>,
}

/// Where something stands among what is due. What is to be deleted at its key goes before it if that stands before it, since barriers between them
/// do; otherwise it is replaced, since they wait for what replaces it.
const fn place(dirty: &Dirty) -> u64 {
    if dirty.barrier { dirty.number } else { dirty.since }
}

impl Task {
    /// What must not be done twice at a time. Of a marker without its `/`.
    pub(super) fn key(&self) -> &[u8] {
        bare(&self.key)
    }
}

fn bare(key: &[u8]) -> &[u8] {
    key.strip_suffix(b"/").unwrap_or(key)
}

/// What is to be done for one, and what has to be journalled before.
pub(super) struct Plan {
    pub(super) task: Task,
    pub(super) begun: Option<PersistBegun>,
    /// Until that is journalled nobody renames it.
    pub(super) guard: Option<NameGuard>,
}

/// A file, or a further name of one, that nobody renames meanwhile.
pub(super) struct Locked {
    guard: NameGuard,
    pub(super) snapshot: Snapshot,
    attr: Attr,
    dirty: Dirty,
    location: Location,
}

impl Run {
    /// Sees what is to be done for each of `chosen`, and journals what begins with it, all at once.
    pub(super) async fn begin(&mut self, chosen: Vec<InodeId>) -> Vec<Begun> {
        let mut plans = Vec::with_capacity(chosen.len());
        let mut begun = Vec::new();
        for inode in chosen {
            match self.plan(inode) {
                Ok(Some(plan)) => {
                    // Of two with one key the second waits.
                    self.keys.insert(plan.task.key().to_vec(), inode);
                    plans.push(plan);
                }
                Ok(None) => begun.push(Begun { inode, task: None }),
                Err(error) => {
                    tracing::warn!(%inode, %error, "cannot see how it is to be persisted");
                    begun.push(Begun { inode, task: None });
                }
            }
        }
        self.make_targets_due().await;
        let files: Vec<_> = plans.iter_mut().filter_map(|plan| plan.begun.take()).collect();
        if !files.is_empty() {
            fail_point!("persist::begin");
            if let Err(error) = self.persister.catalog.propose(Command::BeginPersist { files }).await {
                tracing::warn!(%error, "cannot journal what is about to be persisted");
                for Plan { task, .. } in plans {
                    self.keys.remove(task.key());
                    begun.push(Begun { inode: task.inode, task: None });
                }
                return begun;
            }
            fail_point!("persist::begun");
        }
        for Plan { task, guard, .. } in plans {
            drop(guard);
            let holds = self.has_begun(&task).unwrap_or_else(|error| {
                tracing::warn!(inode = %task.inode, %error, "cannot see whether it may be persisted");
                false
            });
            if !holds {
                self.keys.remove(task.key());
            }
            begun.push(Begun { inode: task.inode, task: holds.then_some(task) });
        }
        begun
    }

    /// Whether the journal says that what is to be done may leave an object: not if a directory above was renamed just before. A marker waits while
    /// a relocation looks for what is left where it is to be put: either that finds in the journal that it was begun, or is found here to look.
    fn has_begun(&self, task: &Task) -> Result<bool> {
        let Persister { catalog, relocator, .. } = &*self.persister;
        let begun = catalog.snapshot()?.dirty(task.inode)?;
        let has_begun = begun.is_some_and(|dirty| dirty.number == task.number && dirty.key.as_ref() == Some(&task.key));
        Ok(has_begun && !(matches!(task.what, What::Marker) && relocator.ends_around(task.inode)?))
    }

    /// `None` when something is in its way, or it is not what it was.
    fn plan(&mut self, inode: InodeId) -> Result<Option<Plan>> {
        let mounts = self.persister.mounts.table();
        let Some(mount) = mounts.get(self.mount).cloned() else { return Ok(None) };
        let snapshot = self.persister.catalog.snapshot()?;
        let Some(dirty) = snapshot.dirty(inode)?.filter(|dirty| dirty.due == Due::Now) else {
            self.persister.backlog.note(&[inode]);
            return Ok(None);
        };
        if dirty.is_orphan() {
            return self.plan_orphan(&snapshot, mount, dirty);
        }
        let Some(attr) = snapshot.attr(inode)? else { return Ok(None) };
        if attr.kind == FileKind::Directory {
            self.plan_marker(mount, &attr, dirty)
        } else if let Some(target) = snapshot.target(inode)? {
            self.plan_copy(mount, &attr, target)
        } else {
            self.plan_file(mount, &attr)
        }
    }

    fn plan_orphan(&self, snapshot: &Snapshot, mount: Arc<LiveMount>, dirty: Dirty) -> Result<Option<Plan>> {
        let Dirty { inode, number, key: Some(key), replaces: version, put, holders, .. } = dirty else {
            return Ok(None);
        };
        // A directory of a store that has some goes when it is empty.
        if self.keys.contains_key(bare(&key)) || key.ends_with(b"/") && snapshot.has_orphans_below(self.mount, &key)? {
            return Ok(None);
        }
        let task = Task { mount, inode, number, key, what: What::Orphan(Orphan { version, put, holders }) };
        Ok(Some(Plan { task, begun: None, guard: None }))
    }

    fn plan_marker(&mut self, mount: Arc<LiveMount>, attr: &Attr, dirty: Dirty) -> Result<Option<Plan>> {
        let inode = attr.inode;
        let Some(guard) = self.try_lock(attr)? else { return Ok(None) };
        let snapshot = self.persister.catalog.snapshot()?;
        let Some(location) = snapshot.location(inode)? else { return Ok(None) };
        // Inside of what is relocated it begins where that is, and moves along.
        let key = dirty.key.clone().unwrap_or(location.key);
        let orphan = snapshot.orphan_at(self.mount, &[&key[..], b"/"].concat())?;
        let is_left = orphan.is_some_and(|orphan| orphan.number < place(&dirty));
        if self.keys.contains_key(&key) || is_left || self.makes_way(&snapshot, inode, dirty.number)? {
            return Ok(None);
        }
        let known = snapshot.dirty(inode)?.filter(|known| known.number == dirty.number && known.marker);
        if known.is_none() {
            self.persister.backlog.note(&[inode]);
            return Ok(None);
        }
        let begun =
            dirty.key.is_none().then(|| PersistBegun { inode, number: dirty.number, key: key.clone(), content: None });
        let task = Task { mount, inode, number: dirty.number, key, what: What::Marker };
        Ok(Some(Plan { task, begun, guard: Some(guard) }))
    }

    /// Whether files in a directory are about to be put, which make its marker needless. Not for long: others may wait for it.
    fn makes_way(&mut self, snapshot: &Snapshot, dir: InodeId, number: u64) -> Result<bool> {
        let times = self.made_way.entry(dir).or_default();
        if *times == MAKES_WAY {
            return Ok(false);
        }
        let below = snapshot.list(dir, None, LOOKED_AT)?;
        let line = self.line.lock();
        let goes = below.iter().any(|(_, attr)| line.is_about_to_go(attr.inode, number));
        let makes_way = goes || line.is_being_walked(dir);
        *times += u32::from(makes_way);
        Ok(makes_way)
    }

    fn plan_file(&self, mount: Arc<LiveMount>, attr: &Attr) -> Result<Option<Plan>> {
        let Some(mut locked) = self.lock(attr)? else { return Ok(None) };
        let is_storing = self.persister.leases.is_storing(attr.inode);
        let Some(content) = locked.attr.content.filter(|_| !is_storing) else { return Ok(None) };
        let holders = std::mem::take(&mut locked.dirty.holders);
        self.plan_object(mount, locked, (content, holders), What::File)
    }

    /// Puts `content` where something is to be put, as `what` says, unless something is in its way there.
    pub(super) fn plan_object(
        &self,
        mount: Arc<LiveMount>,
        locked: Locked,
        (content, holders): (ContentId, Vec<WorkerId>),
        what: impl FnOnce(Upload) -> What,
    ) -> Result<Option<Plan>> {
        let Locked { guard, snapshot, attr, dirty, location } = locked;
        let persisted = !attr.version.is_empty();
        let key = match &dirty.key {
            Some(key) => key.clone(),
            None if persisted => location.key,
            None => first_key(&snapshot, &attr, &location)?,
        };
        if self.keys.contains_key(&key) {
            return Ok(None);
        }
        let orphan = snapshot.orphan_at(self.mount, &key)?;
        if orphan.as_ref().is_some_and(|orphan| orphan.number < place(&dirty)) {
            return Ok(None);
        }
        let is_begun = dirty.key.is_some() && dirty.put.last() == Some(&content);
        let (inode, number) = (attr.inode, dirty.number);
        let begun = (!is_begun).then(|| PersistBegun { inode, number, key: key.clone(), content: Some(content) });
        let replaces = if persisted { Some(attr.version) } else { dirty.replaces };
        let mut upload = Upload { content, holders, replaces, earlier: dirty.put, orphan: None };
        if let Some(orphan) = orphan {
            upload.orphan = Some((orphan.inode, orphan.number));
            upload.replaces = upload.replaces.or(orphan.replaces);
            upload.earlier.splice(0..0, orphan.put);
        }
        let task = Task { mount, inode, number, key, what: what(upload) };
        Ok(Some(Plan { task, begun, guard: Some(guard) }))
    }

    /// What is dirty of an inode, under the lock on its name.
    pub(super) fn lock(&self, attr: &Attr) -> Result<Option<Locked>> {
        let Some(guard) = self.try_lock(attr)? else { return Ok(None) };
        let snapshot = self.persister.catalog.snapshot()?;
        let (attr, dirty) = (snapshot.attr(attr.inode)?, snapshot.dirty(attr.inode)?);
        let (Some(attr), Some(dirty)) = (attr, dirty) else { return Ok(None) };
        let Some(location) = snapshot.location(attr.inode)? else { return Ok(None) };
        Ok(Some(Locked { guard, snapshot, attr, dirty, location }))
    }

    /// The lock on the name of an inode, unless somebody has it, or the inode another name by now.
    fn try_lock(&self, attr: &Attr) -> Result<Option<NameGuard>> {
        let name = |snapshot: &Snapshot| -> Result<_> {
            let path = snapshot.path(attr.inode)?;
            Ok(path.and_then(|path| path.names().last().cloned()))
        };
        let Some(before) = name(&self.persister.catalog.snapshot()?)? else { return Ok(None) };
        let Some(guard) = self.persister.names.try_lock(attr.parent, &before) else { return Ok(None) };
        let snapshot = self.persister.catalog.snapshot()?;
        let same = snapshot.lookup(attr.parent, &before)?.is_some_and(|now| now.inode == attr.inode);
        Ok(same.then_some(guard))
    }
}
