//! Write leases, and keeping them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, Result};
use prost::Message as _;
use tokio::time::{Instant, sleep_until};

use super::FileWriter;
use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// After a renewal that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the master means what it offered with a lease: workers may have come since.
const OFFER: Duration = Duration::from_secs(5);

/// The right to write a file's next version.
pub(crate) struct Lease {
    pub(super) id: u64,
    /// A signed `StagingGrant`: a bearer's token, never shown.
    staging: Mutex<v1::SignedGrant>,
    /// A signed `PersistGrant` for the next persist, if that is soon.
    pub(super) offered: Mutex<Option<(v1::SignedGrant, Instant)>>,
    /// The worker bounds what may be staged, unless it is written through.
    pub(super) is_bounded: bool,
    /// How long it lasts without being renewed.
    pub(super) term: Duration,
}

impl TryFrom<v1::WriteLease> for Lease {
    type Error = Error;

    fn try_from(lease: v1::WriteLease) -> Result<Self> {
        let v1::WriteLease { id, term_ms, staging, persist } = lease;
        let offered = Mutex::new(persist.map(|grant| (grant, Instant::now())));
        let staging = staging.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the master gave a write lease without the right to stage bytes")
        })?;
        let grant = v1::StagingGrant::decode(&staging.grant[..]).map_err(|error| {
            Error::new(ErrorKind::Internal, "the master's right to stage bytes cannot be read").with_source(error)
        })?;
        let staging = Mutex::new(staging);
        Ok(Self { id, staging, is_bounded: grant.later > 0, offered, term: Duration::from_millis(term_ms) })
    }
}

impl Lease {
    /// The right to stage bytes.
    pub(super) fn staging(&self) -> v1::SignedGrant {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The right to stage bytes without a bound, which are stored before they are acknowledged.
    pub(super) fn write_through(&self, staging: v1::SignedGrant) {
        *self.staging.lock().unwrap_or_else(PoisonError::into_inner) = staging;
        // It is one to have them held by workers.
        drop(self.take_offer());
    }

    /// The right to the next persist is had in advance.
    pub(super) fn offer(&self, grant: v1::SignedGrant) {
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = Some((grant, Instant::now()));
    }

    /// The right to the next persist, once.
    pub(super) fn take_offer(&self) -> Option<v1::SignedGrant> {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).take();
        offered.filter(|(_, since)| since.elapsed() < OFFER).map(|(grant, _)| grant)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).field("term", &self.term).finish_non_exhaustive()
    }
}

/// Keeps all leases of the client's writers, three times a term, until the client ends. A lease that the master does not know any more, since it
/// was started anew, is taken back, or else lost for its writer; a master that cannot be reached decides nothing.
pub(crate) async fn renew(shared: Arc<Shared>) {
    let writers = &shared.writers;
    let mut due = Instant::now() + writers.term() / 3;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            () = writers.begun() => {
                due = due.min(Instant::now() + writers.term() / 3);
                continue;
            }
        }
        let renewed = renew_once(&shared).await;
        let pause = writers.term() / 3;
        due = Instant::now() + if renewed { pause } else { pause.min(AGAIN) };
        for writer in writers.all() {
            writer.keep_staged().await;
        }
    }
}

async fn renew_once(shared: &Shared) -> bool {
    let writers = shared.writers.all();
    if writers.is_empty() {
        return true;
    }
    let leases: Vec<_> = writers.iter().map(|writer| writer.lease().id).collect();
    let call = |channel| {
        let request = v1::RenewLeasesRequest { leases: leases.clone() };
        async move { master::writing(channel).renew_leases(request).await }
    };
    match shared.masters.call("renewing of write leases", Retry::No, call).await {
        Ok(v1::RenewLeasesResponse { lost, term_ms }) => {
            shared.writers.set_term(Duration::from_millis(term_ms));
            let mut all_decided = true;
            for writer in writers.iter().filter(|writer| lost.contains(&writer.lease().id)) {
                all_decided &= writer.reclaim().await.is_some();
            }
            all_decided
        }
        Err(failed) => {
            tracing::debug!(error = %failed.error, "write leases could not be renewed");
            false
        }
    }
}

impl FileWriter {
    /// Takes back a lease that the master does not know any more: whether it did so (`false`: it was not lost, or is now for good). `None` when the
    /// master decided nothing.
    pub(super) async fn reclaim(&self) -> Option<bool> {
        let mut reclaims = self.reclaims.lock().await;
        let version = self.lock().attr.version.clone();
        let request = v1::ReclaimLeaseRequest { staging: Some(self.lease().staging()), version };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).reclaim_lease(request).await }
        };
        match self.shared.masters.call("taking a write lease back", Retry::Yes, call).await.map_err(Error::from) {
            Ok(v1::ReclaimLeaseResponse { held, .. }) => {
                *reclaims += u64::from(!held);
                Some(!held)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) => None,
            Err(error) => {
                tracing::debug!(%error, inode = %self.inode(), "a write lease cannot be taken back");
                self.lose_lease();
                Some(false)
            }
        }
    }
}
