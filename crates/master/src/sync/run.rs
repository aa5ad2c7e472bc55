//! One listing of a directory or of all below it: asks the store page by page and merges each page while the store
//! prepares the next.

mod delimited;
mod flat;
mod pages;

use std::{collections::HashSet, sync::Arc};

use headpond_namespace::{Command, Observed, Snapshot};
use headpond_types::{Error, ErrorKind, InodeId, MountId, Name, Result, Timestamp};
use headpond_ufs::{Key, ListPage, UnderStore};

use super::{engine::SyncEngine, flight::Flight, name_order::OutOfOrder, progress::Progress};
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
    /// Somebody may read along.
    is_read: bool,
    flight: Arc<Flight<Progress>>,
}

impl Run {
    /// Lists and merges; entries are readable in the namespace as [`Progress`] tells. Of one directory the page
    /// `first` may be there already, asked for when the flight began, and it is given up when there are more than about `limit` entries.
    ///
    /// # Errors
    /// Those of store and journal. Nothing of a directory that was not listed to its end is forgotten.
    pub(crate) async fn perform(
        engine: Arc<SyncEngine>,
        mount: Arc<LiveMount>,
        scope: Scope,
        flight: Arc<Flight<Progress>>,
        first: Option<ListPage>,
        limit: Option<u64>,
    ) -> Result<Outcome> {
        let store = mount.store().await?.clone();
        let location = engine.snapshot()?.location(scope.dir)?;
        let location = location.filter(|location| location.mount == mount.mount.id).ok_or_else(|| stale(scope.dir))?;
        let prefix = mount.directory_key(&location.names);
        let mounts = engine.mounts().table();
        let run = Self { engine, mount, store, mounts, scope, is_read: limit.is_none(), flight };
        if scope.recursive {
            run.list_tree(scope.dir, prefix).await.map(|()| Outcome::Complete)
        } else {
            run.list_directory(scope.dir, prefix, first, limit.unwrap_or(u64::MAX)).await
        }
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.flight.state
    }

    pub(crate) fn began(&self) -> Timestamp {
        self.flight.began
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

    /// Whether the entry was checked alone since the run began.
    pub(crate) fn was_checked(&self, dir: InodeId, name: &Name) -> bool {
        self.engine.freshness().entry(dir, name).is_some_and(|checked| checked > self.began())
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
        let before = self.snapshot()?.listed(dir)?.map_or(0, |listed| listed.skipped);
        if skipped != before {
            self.engine.note_skipped(&self.mount, prefix, skipped, skipped.saturating_sub(before));
        }
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
