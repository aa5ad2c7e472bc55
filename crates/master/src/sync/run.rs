//! One listing of a directory or of all below it: asks the store page by page and merges each page while the store
//! prepares the next.

mod delimited;
mod flat;
mod pages;

use std::{collections::HashSet, sync::Arc};

use headpond_namespace::{Command, Observed, Snapshot};
use headpond_types::{Error, ErrorKind, InodeId, MountId, Name, Result, Timestamp};
use headpond_ufs::{Key, UnderStore};

use super::{engine::SyncEngine, first_page::FirstPage, flight::Flight, name_order::OutOfOrder, progress::Progress};
use crate::{mount::LiveMount, mounts::MountTable};

/// What a run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The directory at the top.
    pub(crate) dir: InodeId,
    /// All below it, too.
    pub(crate) recursive: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is listed and merged.
    Complete,
    /// There was more than it was to list.
    GivenUp,
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct Run {
    engine: Arc<SyncEngine>,
    mount: Arc<LiveMount>,
    store: Arc<dyn UnderStore>,
    mounts: Arc<MountTable>,
    scope: Scope,
    /// The relocation that the top lies in.
    relocation: Option<u64>,
    /// Somebody may read along.
    is_read: bool,
    flight: Arc<Flight<Progress>>,
    /// No earlier than the flight.
    began: Timestamp,
}

impl Run {
    /// Lists and merges, from `began` on; entries are readable in the namespace as [`Progress`] tells. Of one directory the page
    /// `first` may be there already, asked for when the flight began, and it is given up when there are more than about `limit` entries.
    ///
    /// # Errors
    /// Those of store and journal. Nothing of a directory that was not listed to its end is forgotten.
    pub(crate) async fn perform(
        engine: Arc<SyncEngine>,
        mount: Arc<LiveMount>,
        scope: Scope,
        flight: Arc<Flight<Progress>>,
        began: Timestamp,
        first: Option<FirstPage>,
        limit: Option<u64>,
    ) -> Result<Outcome> {
        let store = mount.store().await?.clone();
        let location = engine.snapshot()?.location(scope.dir)?;
        let location = location.filter(|location| location.mount == mount.mount.id).ok_or_else(|| stale(scope.dir))?;
        let prefix = mount.directory_key(&location.key);
        let first = first.filter(|first| first.prefix == prefix).map(|first| first.page);
        let relocation = engine.snapshot()?.relocation_of(scope.dir)?;
        let mounts = engine.mounts().table();
        let run = Self { engine, mount, store, mounts, scope, relocation, is_read: limit.is_none(), flight, began };
        if scope.recursive {
            run.list_tree(scope.dir, prefix).await.map(|()| Outcome::Complete)
        } else {
            run.list_directory(scope.dir, prefix, first, limit.unwrap_or(u64::MAX)).await
        }
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.flight.state
    }

    pub(crate) const fn began(&self) -> Timestamp {
        self.began
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.engine.snapshot()
    }

    pub(crate) fn mount_id(&self) -> MountId {
        self.mount.mount.id
    }

    /// Inodes that are not the store's to change.
    pub(crate) fn fixed(&self) -> &HashSet<InodeId> {
        self.mounts.fixed()
    }

    /// Whether objects of `dir` are, since a rename, elsewhere than this run lists them: another listing shows it.
    pub(crate) fn is_apart(&self, dir: InodeId) -> Result<bool> {
        Ok(self.snapshot()?.relocation_of(dir)? != self.relocation)
    }

    /// Whether `inode` is being moved since a rename: what the store shows under its name is not to be believed.
    pub(crate) fn is_moving(&self, inode: InodeId) -> Result<bool> {
        Ok(self.snapshot()?.relocation_of(inode)?.is_some())
    }

    /// Whether the objects of `dir` were moved since the run began, so that it may have seen them halfway.
    pub(crate) fn is_overtaken(&self, dir: InodeId) -> Result<bool> {
        self.engine.freshness().moved_since(&self.snapshot()?, dir, self.began())
    }

    /// Whether the entry was checked alone, or changed by a client, since the run began.
    pub(crate) fn was_checked(&self, dir: InodeId, name: &Name) -> bool {
        self.engine.freshness().is_newer(dir, name, self.began())
    }

    pub(crate) async fn propose(&self, command: Command) -> Result<()> {
        self.engine.propose(command).await
    }

    pub(crate) async fn upsert(&self, dir: InodeId, entries: Vec<Observed>) -> Result<()> {
        let own = self.is_read.then_some(self.scope);
        self.engine.propose_listed(own, dir, Command::Upsert { dir, entries, at: self.began() }).await
    }

    /// Notes that all entries of `dir` are merged.
    pub(crate) async fn mark_listed(&self, dir: InodeId, prefix: &[u8], skipped: u64) -> Result<()> {
        if self.is_overtaken(dir)? {
            return Ok(());
        }
        self.engine.note_skipped(&self.mount, dir, prefix, skipped);
        self.propose(Command::MarkListed { dir, at: self.began(), skipped }).await?;
        self.engine.freshness().directory_listed(dir, self.began());
        Ok(())
    }

    /// Whether the store has anything under the prefix `key`, which ends in `/`.
    pub(crate) async fn is_directory(&self, key: Vec<u8>) -> Result<bool> {
        self.engine.is_directory(&self.mount, &self.store, Key::from(key)).await
    }

    fn ordered(&self) -> bool {
        self.store.capabilities().ordered_listing
    }

    fn out_of_order(&self, error: OutOfOrder) -> Error {
        let (mount, uri) = (&self.mount.mount.path, &self.mount.mount.uri);
        Error::new(ErrorKind::NotSupported, format!("mount {mount}: cannot use the listing of {uri}"))
            .with_source(error)
    }
}

/// The error for an inode that is no longer in the tree.
pub(crate) fn stale(inode: InodeId) -> Error {
    Error::new(ErrorKind::Stale, format!("inode {inode} is gone or was replaced: look its name up again"))
}
