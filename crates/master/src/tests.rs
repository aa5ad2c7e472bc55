//! The master as a whole, over a store in memory with injected faults and a clock that stands still.

mod check;
mod covered;
#[cfg(feature = "failpoints")]
mod crashes;
mod exchanges;
mod holders;
mod keys;
mod large;
mod lengths;
mod links;
mod lookups;
mod markers;
mod moves;
mod nodes;
mod notices;
mod order;
mod outages;
mod overlaps;
mod permissions;
mod persists;
mod plain;
mod relocations;
mod remains;
mod removals;
mod repeats;
mod resolving;
mod resolving_moves;
mod services;
mod sessions;
mod strangers;
mod trees;
mod uploads;
mod walks;
mod writes;
mod writing;
mod xattrs;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use headpond_namespace::Mount;
use headpond_runtime::{ManualClock, Shutdown, Tasks};
use headpond_types::{Attr, InodeId, Name, NsPath, Result, Timestamp};
use headpond_ufs::{Faulty, Key, Memory, Precondition, StoreUri, UfsError, UnderStore};
use tempfile::TempDir;

use crate::{Master, MasterConfig, RunningMaster, connect::Connect, metrics::Metrics, walk::WalkOptions};

/// Sync interval of a rig's mount.
const INTERVAL: Duration = Duration::from_secs(30);

/// A master with one mount, `/m`, of a store of its own.
struct Rig {
    clock: Arc<ManualClock>,
    store: Faulty,
    master: RunningMaster,
    tasks: Tasks,
    /// Of what is no part of the master and outlives it.
    tasks_of_tests: Tasks,
    state: TempDir,
}

#[derive(Debug)]
struct OneStore(Faulty);

#[async_trait]
impl Connect for OneStore {
    async fn connect(&self, _: &Mount, _: &StoreUri) -> Result<Arc<dyn UnderStore>, UfsError> {
        Ok(Arc::new(self.0.clone()))
    }
}

impl Rig {
    /// With the keys `keys` in the store.
    async fn new(keys: &[&str]) -> Self {
        Self::with_interval(Some(INTERVAL), keys).await
    }

    /// The same, with a mount that takes changes.
    async fn writable(keys: &[&str]) -> Self {
        Self::with(Some(INTERVAL), keys, false, |store| store).await
    }

    async fn with_interval(interval: Option<Duration>, keys: &[&str]) -> Self {
        Self::with(interval, keys, true, |store| store).await
    }

    /// With a store as `around` makes it of one in memory.
    async fn with(
        interval: Option<Duration>,
        keys: &[&str],
        read_only: bool,
        around: impl FnOnce(Arc<dyn UnderStore>) -> Arc<dyn UnderStore>,
    ) -> Self {
        Self::with_mount(interval, keys, around, |mount| mount.read_only = read_only).await
    }

    /// The same, with a mount that `change` has changed from the defaults.
    async fn with_mount(
        interval: Option<Duration>,
        keys: &[&str],
        around: impl FnOnce(Arc<dyn UnderStore>) -> Arc<dyn UnderStore>,
        change: impl FnOnce(&mut Mount),
    ) -> Self {
        static STORES: AtomicU32 = AtomicU32::new(0);
        let name = format!("master-{}", STORES.fetch_add(1, Ordering::SeqCst));
        let store = Faulty::new(around(Arc::new(Memory::named(&name))), 1);
        for key in keys {
            put_into(&store, key, key).await;
        }
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000_000_000)));
        let state = tempfile::tempdir().expect("a directory");
        let (master, tasks) = start(&state, &store, &clock, interval).await;
        let mut mount = master.default_mount("/m".parse().expect("a path"), format!("memory://{name}"));
        change(&mut mount);
        master.ensure_mount(mount).await.expect("mounted");
        Self { clock, store, master, tasks, tasks_of_tests: Tasks::new(Shutdown::new()), state }
    }

    /// Ends the master and starts it again on the same state.
    async fn restart(self, interval: Option<Duration>) -> Self {
        let Self { clock, store, master, tasks, tasks_of_tests, state } = self;
        assert!(tasks.drain(Duration::from_secs(10)).await);
        master.stopped().await.expect("clean end");
        let (master, tasks) = start(&state, &store, &clock, interval).await;
        Self { clock, store, master, tasks, tasks_of_tests, state }
    }

    async fn put(&self, key: &str, body: &str) {
        put_into(&self.store, key, body).await;
    }

    async fn delete(&self, key: &str) {
        self.store.delete(&Key::from(key.to_owned()), &Precondition::None).await.expect("deleted");
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn mount(&self) -> Mount {
        self.master.mounts().into_iter().next().expect("one mount")
    }

    async fn find(&self, path: &str) -> Result<Option<Attr>> {
        let path: NsPath = path.parse().expect("a path");
        Ok(self.master.core.lookups.resolve(&path, None, false).await?.attr)
    }

    async fn inode(&self, path: &str) -> InodeId {
        self.find(path).await.expect("found").unwrap_or_else(|| panic!("{path} exists")).inode
    }

    /// Names in a directory, a slash behind those of directories.
    async fn list(&self, path: &str) -> Result<Vec<String>> {
        self.walk(path, WalkOptions::default()).await
    }

    async fn tree(&self, path: &str) -> Result<Vec<String>> {
        self.walk(path, WalkOptions { recursive: true, ..WalkOptions::default() }).await
    }

    async fn walk(&self, path: &str, options: WalkOptions) -> Result<Vec<String>> {
        let dir = self.inode(path).await;
        let pages: Vec<_> = self.master.core.lookups.walk(dir, options).await?.try_collect().await?;
        let entries = pages.into_iter().flat_map(|page| page.entries);
        Ok(entries.map(|(name, attr)| shown(&name, &attr)).collect())
    }

    /// Listings begun at the store so far.
    fn listings(&self) -> u64 {
        self.master.core.metrics.sync.listings.get()
    }

    /// Single names asked for at the store so far.
    fn checks(&self) -> u64 {
        self.master.core.metrics.sync.checks.get()
    }

    fn stale_answers(&self) -> u64 {
        self.master.core.metrics.sync.stale_answers.get()
    }

    async fn status(&self) -> Vec<String> {
        self.master.core.mounts.table().problems()
    }
}

async fn start(
    state: &TempDir,
    store: &Faulty,
    clock: &Arc<ManualClock>,
    sync_interval: Option<Duration>,
) -> (RunningMaster, Tasks) {
    let tasks = Tasks::new(Shutdown::new());
    let config = MasterConfig {
        bind: "127.0.0.1:0".to_owned(),
        state_dir: state.path().to_owned(),
        sync_interval,
        persist_delay: Duration::ZERO,
        // Tests of workers say themselves when one is lost.
        worker_lost_after: Duration::from_secs(3600),
        ..MasterConfig::default()
    };
    let connect = Arc::new(OneStore(store.clone()));
    let master =
        Master::start_with(config, connect, Metrics::default(), clock.clone(), tasks.clone()).await.expect("starts");
    (master, tasks)
}

async fn put_into(store: &Faulty, key: &str, body: &str) {
    let body = Bytes::copy_from_slice(body.as_bytes());
    store.put(&Key::from(key.to_owned()), body, &Precondition::None).await.expect("stored");
}

fn shown(name: &[u8], attr: &Attr) -> String {
    let slash = if attr.kind == headpond_types::FileKind::Directory { "/" } else { "" };
    format!("{}{slash}", String::from_utf8_lossy(name))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}
