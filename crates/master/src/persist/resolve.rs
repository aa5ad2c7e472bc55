//! What an operator decides of something that cannot be persisted.

use std::sync::Arc;

use headpond_namespace::{Command, Dirty};
use headpond_proto::v1::PersistGrant;
use headpond_types::{Attr, ContentId, Error, ErrorKind, InodeId, MountId, NsPath, Result};

use super::{Persister, Problem};
use crate::{
    mount::{LiveMount, path_key},
    sync::stale,
};

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// It is tried again now.
    Retry,
    /// What the store has is replaced.
    Overwrite,
    /// What was written is given up.
    Skip,
    /// It is persisted under another name, and given up under its own.
    Divert,
}

/// A problem with where it is.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) path: NsPath,
    pub(crate) problem: Problem,
    /// How many wait for it.
    pub(crate) held_up: u64,
}

impl Persister {
    /// All that cannot be persisted at present.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn list_problems(&self) -> Result<Vec<Located>> {
        let lines: Vec<_> = self.backlog.mounts().into_iter().filter_map(|mount| self.backlog.line(mount)).collect();
        let current = self.problems.current(|inode| lines.iter().any(|line| line.lock().get(inode).is_some()));
        let mut located = Vec::with_capacity(current.len());
        for (inode, problem) in current {
            let Some(path) = self.path_of(inode)? else { continue };
            let held_up = lines.iter().map(|line| line.lock().held_up_by(inode)).sum();
            located.push(Located { path, problem, held_up });
        }
        located.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(located)
    }

    /// Decides what becomes of what cannot be persisted at `path`; gives the path under which it was persisted instead, if so.
    ///
    /// # Errors
    /// `NotFound` when there is no problem there, `Busy` while it is tried, `InvalidArgument` for a directory that is to be replaced or diverted;
    /// those of store, workers and journal.
    pub(crate) async fn resolve(self: &Arc<Self>, path: NsPath, resolution: Resolution) -> Result<Option<NsPath>> {
        let this = self.clone();
        let done = self.tasks.spawn(async move { this.do_resolve(&path, resolution).await }).await;
        done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "it broke off").with_source(error)))
    }

    async fn do_resolve(&self, path: &NsPath, resolution: Resolution) -> Result<Option<NsPath>> {
        let none = || Error::new(ErrorKind::NotFound, format!("{path} has no problem: see `headpond admin problems`"));
        let snapshot = self.catalog.snapshot()?;
        let mut at = snapshot.attr(InodeId::ROOT)?;
        for name in path.names() {
            at = at.map(|at| snapshot.lookup(at.inode, name)).transpose()?.flatten();
        }
        let Some(attr) = at.filter(|attr| self.problems.get(attr.inode).is_some()) else {
            let left = self.left_at(&snapshot, path)?.filter(|left| self.problems.get(left.inode).is_some());
            drop(snapshot);
            return self.resolve_left(path, left.ok_or_else(none)?, resolution).await.map(|()| None);
        };
        if resolution == Resolution::Divert && snapshot.target(attr.inode)?.is_some() {
            let message =
                format!("{path} is a further name of a file that is in the store: overwrite what is there, or skip it");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let dirty = snapshot.dirty(attr.inode)?.ok_or_else(none)?;
        drop(snapshot);
        if self.backlog.is_at_work(dirty.mount, attr.inode) {
            return Err(Error::new(ErrorKind::Busy, format!("{path} is being persisted just now: look again")));
        }
        let mount = self.mount(dirty.mount)?;
        let (inode, number) = (attr.inode, dirty.number);
        let diverted = match resolution {
            Resolution::Retry => None,
            Resolution::Overwrite => {
                let key = mount.object_key(&self.key(&attr, &dirty)?);
                let store = mount.store().await?;
                let there = mount.ask("find", &key, store.head(&key)).await?;
                let version = there.map(|meta| meta.version);
                self.catalog.propose(Command::Overwrite { inode, number, version }).await?;
                None
            }
            Resolution::Skip => {
                self.give_up(&attr, path, number).await?;
                None
            }
            Resolution::Divert => {
                let content = attr.content.ok_or_else(|| {
                    Error::new(ErrorKind::InvalidArgument, format!("{path} is no file: it can be skipped or retried"))
                })?;
                let other = beside(path, content)?;
                self.put_beside(&mount, &other, (content, &attr), &dirty).await?;
                self.give_up(&attr, path, number).await?;
                Some(other)
            }
        };
        self.decided(dirty.mount, inode, path, resolution);
        Ok(diverted)
    }

    /// Goes on with what was decided.
    pub(super) fn decided(&self, mount: MountId, inode: InodeId, path: &NsPath, resolution: Resolution) {
        self.problems.forget(inode);
        if let Some(line) = self.backlog.line(mount) {
            line.lock().wake(inode);
            line.woken.notify_one();
        }
        tracing::info!(%path, ?resolution, "what could not be persisted was decided");
    }

    /// Where the object of a file is, or is to be.
    fn key(&self, attr: &Attr, dirty: &Dirty) -> Result<Vec<u8>> {
        let location = self.catalog.snapshot()?.location(attr.inode)?.ok_or_else(|| stale(attr.inode))?;
        Ok(match &dirty.key {
            Some(key) => key.clone(),
            None if attr.version.is_empty() => path_key(&location.names),
            None => location.key,
        })
    }

    async fn put_beside(
        &self,
        mount: &LiveMount,
        path: &NsPath,
        (content, attr): (ContentId, &Attr),
        dirty: &Dirty,
    ) -> Result<()> {
        let names = &path.names()[mount.mount.path.names().len()..];
        let key = mount.object_key(&path_key(names));
        let sign = || {
            self.grants.persist(PersistGrant {
                mount: mount.mount.id.0,
                key: key.0.clone(),
                content: Some(content.into()),
                mode: Some(attr.mode),
                mtime_ns: Some(attr.mtime.0),
                ..PersistGrant::default()
            })
        };
        match self.holders.persist(&dirty.holders, sign).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Stale => {
                let store = mount.store().await?;
                let there = mount.ask("find", &key, store.head(&key)).await?;
                // It was put there by an earlier try.
                if there.is_some_and(|meta| meta.content == Some(content)) { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets what was written; the file is what the store has.
    async fn give_up(&self, attr: &Attr, path: &NsPath, number: u64) -> Result<()> {
        self.catalog.propose(Command::DropDirty { inode: attr.inode, number }).await?;
        self.leases.end_of(attr.inode);
        let Some(name) = path.names().last() else { return Ok(()) };
        // Its next reader asks the store.
        self.engine.freshness().entry_changed(attr.parent, name, self.clock.now());
        Ok(())
    }
}

/// The name under which a content is put that has no place under its own.
///
/// # Errors
/// `InvalidArgument` when that is too long.
pub(crate) fn beside(path: &NsPath, content: ContentId) -> Result<NsPath> {
    let text = format!(".headpond-conflict-{:08x}", content.halves().0 >> 32);
    NsPath::parse([&path.to_bytes()[..], text.as_bytes()].concat())
        .map_err(|error| Error::new(ErrorKind::InvalidArgument, format!("{path}: {error}")))
}
