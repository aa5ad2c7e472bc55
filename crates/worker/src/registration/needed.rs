//! Asking the master which of the contents that no store need have are still needed.
//!
//! Only an answer makes a content one that may be evicted; without one it is kept, however long that takes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use headpond_proto::{
    status,
    v1::{KeepDirtyRequest, KeepDirtyResponse, registry_service_client::RegistryServiceClient},
};
use headpond_types::{ContentId, Error, ErrorKind, Result};
use tokio::{sync::Notify, time::sleep};
use tonic::transport::Channel;

use super::{Membership, Registration};
use crate::{cache::Cache, staging::Room};

/// Contents asked about at once.
const AT_ONCE: usize = 10_000;

/// Pause between two questions while there is something to ask.
const PAUSE: Duration = Duration::from_secs(10);

/// How long after a content was stored it is asked about: the master journals it in between, and others are stored meanwhile.
const STORED: Duration = Duration::from_millis(500);

/// Pause between two questions while a writer waits for room: what was written anew or removed need not be kept.
const PRESSED: Duration = Duration::from_secs(1);

/// Asks one master, as one registration.
pub(super) struct Needed {
    client: RegistryServiceClient<Channel>,
    worker: u32,
    epoch: u64,
    cache: Arc<Cache>,
    stored: Arc<Notify>,
    room: Arc<Room>,
    deadline: Duration,
}

impl Needed {
    pub(super) fn new(registration: &Registration, membership: &Membership) -> Self {
        Self {
            client: membership.client.clone(),
            worker: membership.joined.worker,
            epoch: membership.joined.epoch,
            cache: Arc::clone(&registration.cache),
            stored: Arc::clone(&registration.stored),
            room: Arc::clone(&registration.room),
            deadline: registration.deadlines.master,
        }
    }

    /// Asks at once, and then again and again. Never ends.
    pub(super) async fn ask(&self) -> Infallible {
        loop {
            let dirty = self.cache.store().dirty();
            let mut is_due = Some(false);
            for contents in dirty.chunks(AT_ONCE) {
                match self.ask_for(contents).await {
                    Ok((clean, any_due)) => {
                        let is_less = !clean.is_empty();
                        self.cache.set_clean(clean).await;
                        if is_less {
                            self.room.freed();
                        }
                        is_due = is_due.map(|due| due || any_due);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot ask which contents are needed, keeping all");
                        is_due = None;
                    }
                }
            }
            if let Some(is_due) = is_due {
                self.room.told(is_due);
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.stored.notified() => sleep(STORED).await,
                () = self.room.pressed() => sleep(PRESSED).await,
            }
        }
    }

    /// Those of `contents` that are not needed, and whether any other is to be persisted.
    async fn ask_for(&self, contents: &[ContentId]) -> Result<(Vec<ContentId>, bool)> {
        let what = "ask which contents are needed";
        let contents_of_request = contents.iter().copied().map(Into::into).collect();
        let request = KeepDirtyRequest { worker: self.worker, epoch: self.epoch, contents: contents_of_request };
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(self.deadline, client.keep_dirty(request)).await;
        let answer = answer.map_err(|_| Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no answer")))?;
        let KeepDirtyResponse { keep, due } = answer.map_err(|status| status::to_error(&status, what))?.into_inner();
        if keep.len() != contents.len() || due.len() != contents.len() {
            return Err(Error::new(ErrorKind::Internal, format!("{what}: an answer to something else")));
        }
        let any_due = keep.iter().zip(due).any(|(keep, due)| *keep && due);
        let clean = contents.iter().zip(keep).filter_map(|(content, keep)| (!keep).then_some(*content));
        Ok((clean.collect(), any_due))
    }
}
