//! What of relocations does not go on, and what an operator decides about it.
//!
//! What somebody else put where a file's object belongs is in its way: a conflict, and the file has that problem. The relocation is tried again all the
//! same, so it goes on by itself when that is taken away. Whatever is decided is journalled: what is to be replaced, in the version that was seen, with the
//! relocation; that the file gives way, as a new version of it; and another name of it by a rename, which is not done here.
//!
//! What the store refuses, or what fails, is a problem of what was renamed, and can only be tried again.

use std::sync::Arc;

use headpond_namespace::{Command, Relocation, Snapshot, Version};
use headpond_types::{Attr, ContentId, Error, ErrorKind, InodeId, MountId, Name, NsPath, Result, Timestamp};
use tokio::time::Instant;

use super::{Relocator, conflicts::Conflict};
use crate::{mount::path_key, persist::Resolution};

/// Something of a relocation that does not go on.
#[derive(Clone, Debug)]
pub(crate) struct Stuck {
    pub(crate) path: NsPath,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    pub(crate) conflict: bool,
    pub(crate) mount: MountId,
    /// The place of the relocation in the order of changes: who comes after it may wait for it.
    pub(crate) place: u64,
}

/// What is left to do when it was decided.
#[derive(Debug)]
pub(crate) enum Decided {
    /// Nothing.
    Done,
    /// The file is to have another name.
    Divert {
        /// The directory that it is in.
        parent: InodeId,
        /// Its name.
        name: Name,
        /// What it is.
        content: ContentId,
        /// What goes on then.
        relocation: Box<Relocation>,
    },
}

/// A file with what is in its way.
struct Blocked {
    attr: Attr,
    name: Name,
    relocation: Relocation,
    conflict: Conflict,
}

impl Relocator {
    /// All that does not go on at present, in order of the paths.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn list_problems(&self) -> Result<Vec<Stuck>> {
        let snapshot = self.catalog.snapshot()?;
        let mut stuck = Vec::new();
        for (file, _) in self.progress.conflicts.list() {
            let Some(Blocked { relocation, conflict, .. }) = self.blocked(&snapshot, file)? else {
                self.progress.conflicts.forget(file);
                continue;
            };
            let Some(path) = snapshot.path(file)? else { continue };
            let (mount, place) = (relocation.mount, relocation.since);
            let reason = in_the_way(&conflict.key);
            stuck.push(Stuck { path, reason, since: conflict.since, conflict: true, mount, place });
        }
        for relocation in snapshot.relocations()? {
            let (mount, place) = (relocation.mount, relocation.since);
            let Some((reason, since)) = self.progress.failure(relocation.id) else { continue };
            let Some(path) = self.path_of(&snapshot, &relocation)? else { continue };
            stuck.push(Stuck { path, reason, since, conflict: false, mount, place });
        }
        stuck.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(stuck)
    }

    /// Decides what becomes of what does not go on at `path`; `None`: there is nothing of the kind.
    ///
    /// # Errors
    /// `Busy` while newer bytes of the file are on their way, `InvalidArgument` for what the decision would not help; those of store and journal.
    pub(crate) async fn resolve(self: &Arc<Self>, path: &NsPath, resolution: Resolution) -> Result<Option<Decided>> {
        let (this, path) = (self.clone(), path.clone());
        let done = self.tasks.spawn(async move { this.do_resolve(&path, resolution).await }).await;
        done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "it broke off").with_source(error)))
    }

    async fn do_resolve(self: &Arc<Self>, path: &NsPath, resolution: Resolution) -> Result<Option<Decided>> {
        let snapshot = self.catalog.snapshot()?;
        let Some(blocked) = self.blocked_at(&snapshot, path)? else {
            let mut failed = None;
            for relocation in snapshot.relocations()? {
                if self.progress.failure(relocation.id).is_some()
                    && self.path_of(&snapshot, &relocation)?.as_ref() == Some(path)
                {
                    failed = Some(relocation);
                }
            }
            let Some(relocation) = failed else { return Ok(None) };
            if resolution != Resolution::Retry {
                let message = format!("nothing is in the way of {path}, it could not be moved: it can be retried");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            self.try_again(&relocation);
            return Ok(Some(Decided::Done));
        };
        drop(snapshot);
        let Blocked { attr, name, relocation, conflict } = blocked;
        match resolution {
            Resolution::Retry => {}
            Resolution::Overwrite => {
                let (id, Conflict { key, version, .. }) = (relocation.id, conflict);
                self.catalog.propose(Command::Replace { relocation: id, key, version }).await?;
                if self.current(id)?.is_none() {
                    return Err(changes(path));
                }
                self.progress.conflicts.forget(attr.inode);
            }
            Resolution::Skip => self.give_way(path, &attr, &name, &conflict).await?,
            Resolution::Divert => {
                let content = attr.content.ok_or_else(|| changes(path))?;
                let relocation = Box::new(relocation);
                return Ok(Some(Decided::Divert { parent: attr.parent, name, content, relocation }));
            }
        }
        tracing::info!(%path, ?resolution, "what could not be moved was decided");
        self.try_again(&relocation);
        Ok(Some(Decided::Done))
    }

    /// Has a relocation that stopped tried again at once.
    pub(crate) fn try_again(self: &Arc<Self>, relocation: &Relocation) {
        let mut state = self.progress.state();
        state.again.insert(relocation.id);
        if let Some(stopped) = state.stopped.get_mut(&relocation.id) {
            stopped.retry_at = Instant::now();
        }
        drop(state);
        self.kick(relocation.mount);
    }

    /// The file is what is in its way, and its own object is deleted.
    async fn give_way(&self, path: &NsPath, attr: &Attr, name: &Name, conflict: &Conflict) -> Result<()> {
        let file = attr.inode;
        let _guard = self.names.lock(attr.parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        let now = self.blocked(&snapshot, file)?.filter(|now| now.conflict.key == conflict.key && now.name == *name);
        let Some(Blocked { attr, relocation, .. }) = now else { return Err(changes(path)) };
        if attr.nlink > 1 || snapshot.target(file)?.is_some() {
            let message = format!(
                "{path} is one of several names of a file, which would all be what is in the way of this one: overwrite that, \
                 divert this name, or remove it"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        drop(snapshot);
        if attr.dirty || self.is_being_put(relocation.mount, file) {
            let message =
                format!("newer bytes of {path} are on their way to the store: look again when they are there");
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let mount = self.mounts.table().get(relocation.mount).cloned();
        let mount = mount.ok_or_else(|| Error::new(ErrorKind::Unavailable, "its mount cannot be served"))?;
        let (store, key) = (mount.store().await?, mount.object_key(&conflict.key));
        // Nothing is in the way any more: it is moved there.
        let Some(meta) = mount.ask("find", &key, store.head(&key)).await? else { return Ok(()) };
        let content = ContentId::of_object(store.identity(), key.as_bytes(), &meta.version, meta.size);
        let version = Version { size: meta.size, mtime: meta.mtime, version: meta.version, content };
        let (from, key) = (attr.version.clone(), conflict.key.clone());
        self.catalog.propose(Command::Yield { inode: file, from, key, version }).await?;
        self.leases.end_of(file);
        self.engine.freshness().entry_changed(attr.parent, name, self.clock.now());
        self.progress.conflicts.forget(file);
        Ok(())
    }

    fn blocked_at(&self, snapshot: &Snapshot, path: &NsPath) -> Result<Option<Blocked>> {
        let mut at = snapshot.attr(InodeId::ROOT)?;
        for name in path.names() {
            at = at.map(|at| snapshot.lookup(at.inode, name)).transpose()?.flatten();
        }
        at.map_or(Ok(None), |attr| self.blocked(snapshot, attr.inode))
    }

    /// What is in the way of `file`, if it still is to go where that was found.
    fn blocked(&self, snapshot: &Snapshot, file: InodeId) -> Result<Option<Blocked>> {
        let Some(conflict) = self.progress.conflicts.get(file) else { return Ok(None) };
        let (Some(attr), Some(location)) = (snapshot.attr(file)?, snapshot.location(file)?) else { return Ok(None) };
        let (Some(id), Some(name)) = (snapshot.relocation_of(file)?, location.names.last().cloned()) else {
            return Ok(None);
        };
        let relocation = snapshot.relocations()?.into_iter().find(|relocation| relocation.id == id);
        let stands = path_key(&location.names) == conflict.key && location.key != conflict.key;
        Ok(relocation.filter(|_| stands).map(|relocation| Blocked { attr, name, relocation, conflict }))
    }

    /// Where what was renamed is; where it was, if it is gone.
    fn path_of(&self, snapshot: &Snapshot, relocation: &Relocation) -> Result<Option<NsPath>> {
        if let Some(path) = snapshot.path(relocation.inode)? {
            return Ok(Some(path));
        }
        let Some(mount) = self.mounts.table().get(relocation.mount).cloned() else { return Ok(None) };
        let from = relocation.from.strip_suffix(b"/").unwrap_or(&relocation.from);
        Ok(NsPath::parse([&mount.mount.path.to_bytes()[..], b"/", from].concat()).ok())
    }
}

/// What is said of the object that is in a file's way at `key`.
pub(super) fn in_the_way(key: &[u8]) -> String {
    format!(
        "there is an object at {:?} that was not put there by this rename: move or delete it, or what was renamed, or decide which of \
         the two is to be there",
        String::from_utf8_lossy(key)
    )
}

fn changes(path: &NsPath) -> Error {
    Error::new(ErrorKind::Busy, format!("{path} is being changed just now: look again"))
}
