//! What this worker knows of its cluster: itself, the other workers, the mounts and the key of grants.

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicU64, Ordering},
};

use headpond_proto::v1;
use headpond_types::{ContentId, Member, Ring, WorkerId};
use tokio::sync::Notify;

use crate::{
    grants::Grants,
    mounts::{Connect, Mounts},
    rings::Rings,
};

/// In place of an id, which has 32 bits.
const NOT_REGISTERED: u64 = u64::MAX;

/// The cluster as the master last described it. Short locks, none held across another.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Checks what clients show.
    pub(crate) grants: Grants,
    /// Leads to the under stores.
    pub(crate) mounts: Mounts,
    /// Wakes the registration for a heartbeat now.
    pub(crate) refresh: Arc<Notify>,
    rings: RwLock<Rings>,
    me: AtomicU64,
}

impl Cluster {
    /// Knows nothing yet.
    pub(crate) fn new(connect: Arc<dyn Connect>) -> Self {
        let refresh = Arc::new(Notify::new());
        Self {
            grants: Grants::new(),
            mounts: Mounts::new(connect, Arc::clone(&refresh)),
            refresh,
            rings: RwLock::default(),
            me: AtomicU64::new(NOT_REGISTERED),
        }
    }

    /// Takes over what a master answered to a registration.
    pub(crate) fn join(&self, joined: &v1::RegisterResponse) {
        self.me.store(joined.worker.into(), Ordering::Relaxed);
        self.grants.set_key(joined.grant_key.to_vec(), joined.cluster);
        self.mounts.set(&joined.mounts, joined.mounts_version);
        let ring = joined.ring.clone().unwrap_or_default().into();
        self.rings.write().expect("no panic while held").join(ring, WorkerId(joined.worker));
    }

    /// Takes over a changed ring.
    pub(crate) fn set_ring(&self, ring: v1::Ring) {
        self.rings.write().expect("no panic while held").set(ring.into());
    }

    /// The ring as last heard of.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(self.rings.read().expect("no panic while held").current())
    }

    /// This worker's id; `None` before it was first registered.
    pub(crate) fn me(&self) -> Option<WorkerId> {
        u32::try_from(self.me.load(Ordering::Relaxed)).ok().map(WorkerId)
    }

    /// Who is to be asked for a block that this worker lacks: its owner, or `None` when that is this worker itself.
    pub(crate) fn owner(&self, content: ContentId, block: u64) -> Option<Member> {
        let me = self.me()?;
        self.ring().owner(content, block).filter(|owner| owner.id != me).cloned()
    }

    /// Who owned a block of this worker until lately, and may still have its pages.
    pub(crate) fn previous_owner(&self, content: ContentId, block: u64) -> Option<Member> {
        self.rings.read().expect("no panic while held").previous_owner(content, block, self.me()?)
    }

    /// `worker` did not answer when it was asked for what it owned before.
    pub(crate) fn give_up(&self, worker: WorkerId) {
        self.rings.write().expect("no panic while held").give_up(worker);
    }
}
