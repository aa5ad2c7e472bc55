//! One content with the right to read it, shared by all ways of reading it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_proto::v1;
use headpond_types::{Attr, ContentId, Error, ErrorKind, InodeId, Result};

use tokio::time::Instant;

use crate::{grant::Grant, opening, shared::Shared};

/// How long readers go on with a grant that could not be renewed before they try again.
const RENEW_PAUSE: Duration = Duration::from_secs(10);

/// What is read, and by what right.
pub(crate) struct Source {
    pub(crate) shared: Arc<Shared>,
    pub(crate) attr: Arc<Attr>,
    pub(crate) content: ContentId,
    /// Not held across an await.
    held: Mutex<Held>,
}

struct Held {
    grant: Arc<Grant>,
    /// Before this no reader tries to renew the grant while it is accepted.
    renew_at: Instant,
}

impl Source {
    pub(crate) fn new(shared: Arc<Shared>, attr: Arc<Attr>, content: ContentId, grant: Arc<Grant>) -> Self {
        Self { shared, attr, content, held: Mutex::new(Held { grant, renew_at: Instant::now() }) }
    }

    pub(crate) fn length(&self) -> u64 {
        self.attr.size
    }

    /// A grant that will be accepted for a while, renewed if it must be. While that fails the old one goes on as long as it is
    /// accepted: the file may have been replaced, or no master be reachable.
    pub(crate) async fn grant(&self) -> Result<v1::SignedGrant> {
        let held = {
            let mut held = self.lock();
            let now = Instant::now();
            let may_wait = held.grant.is_accepted() && (now < held.renew_at || self.shared.masters.reach.is_lost());
            if held.grant.is_fresh() || may_wait {
                return Ok(held.grant.signed());
            }
            held.renew_at = now + RENEW_PAUSE;
            Arc::clone(&held.grant)
        };
        match self.renew().await {
            Err(_) if held.is_accepted() => Ok(held.signed()),
            renewed => renewed,
        }
    }

    /// A new grant for the same content.
    ///
    /// # Errors
    /// `Stale` when the inode has another content by now.
    pub(crate) async fn renew(&self) -> Result<v1::SignedGrant> {
        if let Some(kept) = self.shared.grants.get(&self.content).filter(|kept| kept.is_fresh()) {
            self.hold(Arc::clone(&kept));
            return Ok(kept.signed());
        }
        let (attr, grant) = opening::ask(&self.shared, self.attr.inode).await?;
        if attr.content != Some(self.content) {
            let message = format!("inode {} was replaced while it was open: open it again", self.inode());
            return Err(Error::new(ErrorKind::Stale, message));
        }
        self.hold(Arc::clone(&grant));
        Ok(grant.signed())
    }

    /// The grant was refused: the next is asked for anew.
    pub(crate) fn drop_grant(&self) {
        self.shared.grants.invalidate(&self.content);
    }

    /// Takes note of an error that reading met.
    pub(crate) fn note(&self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Stale | ErrorKind::NotFound) {
            self.shared.forget_stale(self.inode(), self.content);
        }
    }

    pub(crate) fn hold(&self, grant: Arc<Grant>) {
        self.lock().grant = grant;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(&self) -> InodeId {
        self.attr.inode
    }
}

impl fmt::Debug for Source {
    /// Without the shared state, which has all open files in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("content", &self.content).field("inode", &self.inode()).finish_non_exhaustive()
    }
}
