//! What a client's handles, open files and background tasks have in common.

use std::sync::{Arc, Weak};

use headpond_proto::v1;
use headpond_runtime::Tasks;
use headpond_transport::Transport;
use headpond_types::{ContentId, InodeId, Result, Ring};
use moka::sync::Cache;
use tokio::runtime::Handle;

use crate::{
    ClientConfig,
    batching::Batches,
    cache::MetaCache,
    caller,
    grant::Grant,
    local::{LocalWorkers, Place, Places},
    master::Masters,
    open_files::OpenFiles,
    session::Session,
    workers::Workers,
    writing::{Targets, Writers},
};

/// Grants kept beside the open files, about 400 bytes each: an open after the open file was dropped asks no master.
const GRANTS: u64 = 64 << 10;

/// State of one client.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ClientConfig,
    pub(crate) tasks: Tasks,
    /// Where tasks run. What the last handle leaves to do is begun by whichever thread drops it, which need not be of the runtime.
    pub(crate) runtime: Handle,
    /// For whom the masters check permissions.
    pub(crate) caller: Option<v1::Caller>,
    pub(crate) masters: Masters,
    pub(crate) cache: MetaCache,
    pub(crate) batches: Batches,
    pub(crate) session: Session,
    pub(crate) workers: Workers,
    pub(crate) local: LocalWorkers,
    pub(crate) grants: Cache<ContentId, Arc<Grant>>,
    /// Open files, so that the next open finds them. They hold this state in turn: emptied when the last client goes.
    pub(crate) open_files: OpenFiles,
    /// Files that are being written.
    pub(crate) writers: Writers,
    pub(crate) targets: Targets,
}

impl Shared {
    pub(crate) fn new(config: ClientConfig, tasks: Tasks) -> Result<Arc<Self>> {
        let transport = Transport::load(&config.tls, &config.neighbours, &tasks)?;
        let masters = Masters::new(&config, &transport)?;
        let caller = caller::of(transport.role());
        let places = Places::new();
        // One that is to be opened when all places are taken gets that of one that is only kept.
        let kept = config.open_files.min(places.free());
        Ok(Arc::new_cyclic(|this| {
            let this = Weak::clone(this);
            // The worker wants a content back: the next open must not find it, so that it goes with its last reader. One that the
            // worker has dropped goes now, also where a reader has it open.
            let on_recall = move |content: ContentId| {
                if let Some(shared) = Weak::<Self>::upgrade(&this)
                    && let Some(file) = shared.open_files.forget(content)
                {
                    file.let_go_if_not_lent();
                }
            };
            Self {
                caller,
                masters,
                cache: MetaCache::new(config.metadata_entries),
                batches: Batches::new(),
                session: Session::new(),
                workers: Workers::new(config.connect_timeout, transport),
                local: LocalWorkers::new(&config, tasks.clone(), places, Arc::new(on_recall)),
                grants: Cache::new(GRANTS),
                open_files: OpenFiles::new(kept, config.open_file_idle),
                writers: Writers::new(),
                targets: Targets::new(),
                config,
                tasks,
                runtime: Handle::current(),
            }
        }))
    }

    pub(crate) async fn ring(&self) -> Result<Arc<Ring>> {
        self.session.ring(self.config.metadata_timeout).await
    }

    /// A place for a file of a worker of this node; if none is free, that of an open file that nobody uses.
    pub(crate) fn place(&self) -> Option<Place> {
        self.local.place().or_else(|| {
            self.open_files.forget_idle();
            self.local.place()
        })
    }

    /// A worker says that the under store has another version of `content`: the next open of `inode` asks the under store.
    pub(crate) fn forget_stale(&self, inode: InodeId, content: ContentId) {
        self.cache.suspect(inode, content);
        self.grants.invalidate(&content);
        self.open_files.forget(content);
    }
}
