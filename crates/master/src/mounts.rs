//! The mount table as the master works with it: the namespace's, with a store behind each mount.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use headpond_namespace::{Mount, Snapshot};
use headpond_types::{InodeId, MountId, NsPath, Result};

use crate::{connect::Connect, mount::LiveMount, sync::Bounds};

/// The current [`MountTable`].
#[derive(Debug)]
pub(crate) struct Mounts {
    /// Replaced as a whole, never held across an await.
    table: RwLock<Arc<MountTable>>,
    connect: Arc<dyn Connect>,
    deadline: Duration,
    lease: Duration,
}

/// All mounts at one state of the namespace.
#[derive(Debug, Default)]
pub(crate) struct MountTable {
    /// Grows with every change, also across restarts.
    pub(crate) version: u64,
    by_id: HashMap<MountId, Arc<LiveMount>>,
    /// Mount points and the directories above them: in the tree whatever a store says.
    fixed: HashSet<InodeId>,
}

impl Mounts {
    /// No mounts, stores as `connect` makes them; requests to stores get `deadline`, answers of the namespace hold at most for `lease`.
    pub(crate) fn new(connect: Arc<dyn Connect>, deadline: Duration, lease: Duration) -> Self {
        Self { table: RwLock::default(), connect, deadline, lease }
    }

    pub(crate) fn table(&self) -> Arc<MountTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what the namespace has; mounts that did not change keep their store and their health.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(crate) fn reload(&self, snapshot: &Snapshot, version: u64) -> Result<()> {
        let before = self.table();
        let mut table = MountTable { version, by_id: HashMap::new(), fixed: HashSet::from([InodeId::ROOT]) };
        for mount in snapshot.mounts()? {
            let Some(root) = snapshot.mount_root(mount.id)? else { continue };
            table.fix(snapshot, &mount.path)?;
            let kept = before.by_id.get(&mount.id).filter(|kept| kept.mount == mount && kept.root == root);
            let live = match kept {
                Some(kept) => kept.clone(),
                None => match self.live(mount.clone(), root) {
                    Ok(live) => Arc::new(live),
                    Err(error) => {
                        tracing::error!(mount = %mount.path, %error, "mount cannot be served");
                        continue;
                    }
                },
            };
            table.by_id.insert(mount.id, live);
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }

    /// A mount at work, not in the table.
    ///
    /// # Errors
    /// `InvalidArgument` for a URI that this release cannot read.
    pub(crate) fn live(&self, mount: Mount, root: InodeId) -> Result<LiveMount> {
        LiveMount::new(mount, root, self.connect.clone(), self.deadline)
    }

    /// How long answers of `mount` hold.
    pub(crate) fn bounds(&self, mount: &LiveMount) -> Bounds {
        Bounds { sync_interval: mount.mount.sync_interval_ms.map(Duration::from_millis), lease: self.lease }
    }

    /// How long answers hold that depend on no store.
    pub(crate) const fn lease(&self) -> Duration {
        self.lease
    }
}

impl MountTable {
    pub(crate) fn get(&self, mount: MountId) -> Option<&Arc<LiveMount>> {
        self.by_id.get(&mount)
    }

    /// Whether `inode` stays whatever a store says.
    pub(crate) fn is_fixed(&self, inode: InodeId) -> bool {
        self.fixed.contains(&inode)
    }

    pub(crate) const fn fixed(&self) -> &HashSet<InodeId> {
        &self.fixed
    }

    /// In order of their paths.
    pub(crate) fn mounts(&self) -> Vec<&Mount> {
        let mut mounts: Vec<_> = self.by_id.values().map(|live| &live.mount).collect();
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        mounts
    }

    /// What is wrong with which mount.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.by_id.values().filter_map(|live| live.health.problem()).collect();
        problems.sort();
        problems
    }

    fn fix(&mut self, snapshot: &Snapshot, path: &NsPath) -> Result<()> {
        let mut dir = InodeId::ROOT;
        for name in path.names() {
            let Some(attr) = snapshot.lookup(dir, name)? else { break };
            dir = attr.inode;
            self.fixed.insert(dir);
        }
        Ok(())
    }
}
