//! The mount table of this worker, and its connections to under stores, made when they are first needed.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, RwLock},
    time::Duration,
};

use futures::future::BoxFuture;
use headpond_proto::v1::{Durability, Mount};
use headpond_types::{Error, ErrorKind, MountId, Result};
use headpond_ufs::UnderStore;
use tokio::sync::{Notify, OnceCell, watch};

/// How long a request waits for the master to tell of a mount that this worker does not know.
const REFRESH: Duration = Duration::from_secs(2);

/// Makes the connection to a mount's under store.
pub(crate) trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Checks the mount's options and connects.
    fn connect<'a>(&'a self, mount: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>>;
}

/// A mount and the connection to its store, which is made once; a failed attempt is repeated by the next request.
#[derive(Debug)]
struct Connected {
    mount: Mount,
    store: OnceCell<Arc<dyn UnderStore>>,
}

/// Under stores by mount.
#[derive(Debug)]
pub(crate) struct Mounts {
    table: RwLock<HashMap<MountId, Arc<Connected>>>,
    version: watch::Sender<u64>,
    /// Asks for a heartbeat now.
    refresh: Arc<Notify>,
    connect: Arc<dyn Connect>,
}

impl Mounts {
    /// No mounts yet. `refresh` is told when a mount is asked for that the table lacks.
    pub(crate) fn new(connect: Arc<dyn Connect>, refresh: Arc<Notify>) -> Self {
        Self { table: RwLock::default(), version: watch::Sender::new(0), refresh, connect }
    }

    /// Version of the table, as the master counts it.
    pub(crate) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// Replaces the table. Connections of mounts that did not change are kept.
    pub(crate) fn set(&self, mounts: &[Mount], version: u64) {
        let mut table = self.table.write().expect("no panic while held");
        let mut before = std::mem::take(&mut *table);
        for mount in mounts {
            let id = MountId(mount.id);
            let connected = before.remove(&id).filter(|connected| connected.mount == *mount);
            let fresh = || Arc::new(Connected { mount: mount.clone(), store: OnceCell::new() });
            table.insert(id, connected.unwrap_or_else(fresh));
        }
        drop(table);
        self.version.send_replace(version);
    }

    /// The under store of `mount`, connected. Waits up to two seconds for a mount that is not known. Cancel-safe.
    ///
    /// # Errors
    /// `Unavailable` when the mount stays unknown, else what connecting answered, naming the mount.
    pub(crate) async fn store(&self, mount: MountId) -> Result<Arc<dyn UnderStore>> {
        let connected = match self.find(mount) {
            Some(connected) => connected,
            None => self.wait_for(mount).await?,
        };
        let store = connected.store.get_or_try_init(|| self.connect.connect(&connected.mount)).await;
        store.cloned().map_err(|error| {
            let path = String::from_utf8_lossy(&connected.mount.path).into_owned();
            Error::new(error.kind(), format!("cannot connect to the under store of mount {path}")).with_source(error)
        })
    }

    /// The mounts of which something may be acknowledged before the under store has it.
    pub(crate) fn persisting_later(&self) -> Vec<MountId> {
        let through = i32::from(Durability::Through);
        let is_later = |mount: &Mount| {
            let of_rules = mount.rules.iter().map(|rule| rule.durability);
            !mount.read_only && of_rules.chain([mount.durability]).any(|durability| durability != through)
        };
        let table = self.table.read().expect("no panic while held");
        table.iter().filter(|(_, connected)| is_later(&connected.mount)).map(|(id, _)| *id).collect()
    }

    fn find(&self, mount: MountId) -> Option<Arc<Connected>> {
        self.table.read().expect("no panic while held").get(&mount).cloned()
    }

    async fn wait_for(&self, mount: MountId) -> Result<Arc<Connected>> {
        let mut changes = self.version.subscribe();
        self.refresh.notify_one();
        let found = tokio::time::timeout(REFRESH, async {
            loop {
                if let Some(connected) = self.find(mount) {
                    return Some(connected);
                }
                changes.changed().await.ok()?;
            }
        });
        found.await.ok().flatten().ok_or_else(|| {
            let message = format!("this worker does not know mount {mount} and no master told it: try again");
            Error::new(ErrorKind::Unavailable, message)
        })
    }
}
