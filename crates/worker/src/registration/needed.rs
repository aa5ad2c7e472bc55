//! Asking the master which of the contents that no store need have are still needed.
//!
//! Only an answer makes a content one that may be evicted; without one it is kept, however long that takes.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use headpond_proto::{
    status,
    v1::{KeepDirtyRequest, KeepDirtyResponse, registry_service_client::RegistryServiceClient},
};
use headpond_transport::Link;
use headpond_types::{ContentId, Error, ErrorKind, MountId, Result};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{Membership, Registration};
use crate::{
    cache::Cache,
    staging::{Dirty, Room},
};

/// Contents asked about at once.
const AT_ONCE: usize = 10_000;

/// Pause between two questions while there is something to ask.
const PAUSE: Duration = Duration::from_secs(10);

/// How long after a content was stored it is asked about: the master journals it in between, and others are stored meanwhile.
const STORED: Duration = Duration::from_millis(500);

/// Least time between two questions while a writer waits for room: what was written anew or removed need not be kept.
const PRESSED: Duration = Duration::from_secs(1);

/// The same while a writer waits for room.
const WANTED: Duration = Duration::from_millis(100);

/// What has to be kept.
#[derive(Debug, Default)]
struct Needs {
    mounts: HashMap<MountId, Dirty>,
    /// Some of no mount yet is about to be committed.
    is_coming: bool,
}

/// Asks one master, as one registration.
pub(super) struct Needed {
    client: RegistryServiceClient<Link>,
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
            let again = Instant::now() + PRESSED;
            match self.look().await {
                Ok(Needs { mounts, is_coming }) => self.room.told(&mounts, is_coming),
                Err(error) => tracing::debug!(%error, "cannot ask which contents are needed, keeping all"),
            }
            let pressed = async {
                self.room.pressed().await;
                sleep_until(again).await;
            };
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.stored.notified() => sleep(if self.room.waiting() > 0 { WANTED } else { STORED }).await,
                () = pressed => {}
            }
        }
    }

    /// What is needed of all that is dirty. What is not is so no more, also where there is no answer for the rest.
    async fn look(&self) -> Result<Needs> {
        let (dirty, mut needs) = (self.cache.store().dirty(), Needs::default());
        for contents in dirty.chunks(AT_ONCE) {
            let clean = self.ask_for(contents, &mut needs).await?;
            self.cache.set_clean(clean).await;
        }
        Ok(needs)
    }

    /// Those of `contents` that are not needed; what is of the others is added to `needs`.
    async fn ask_for(&self, contents: &[(ContentId, u64)], needs: &mut Needs) -> Result<Vec<ContentId>> {
        let what = "ask which contents are needed";
        let request = KeepDirtyRequest {
            worker: self.worker,
            epoch: self.epoch,
            contents: contents.iter().map(|(content, _)| (*content).into()).collect(),
            pressed: self.room.waiting() > 0,
        };
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(self.deadline, client.keep_dirty(request)).await;
        let answer = answer.map_err(|_| Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no answer")))?;
        let KeepDirtyResponse { keep, due, mounts } =
            answer.map_err(|status| status::to_error(&status, what))?.into_inner();
        if [keep.len(), due.len(), mounts.len()].iter().any(|answers| *answers != contents.len()) {
            return Err(Error::new(ErrorKind::Internal, format!("{what}: an answer to something else")));
        }
        let mut clean = Vec::new();
        for ((content, length), (keep, (is_due, mount))) in
            contents.iter().zip(keep.into_iter().zip(due.into_iter().zip(mounts)))
        {
            match (keep, mount) {
                (false, _) => clean.push(*content),
                (true, 0) => needs.is_coming |= is_due,
                (true, mount) => {
                    let dirty = needs.mounts.entry(MountId(mount)).or_default();
                    dirty.bytes += length;
                    dirty.is_due |= is_due;
                }
            }
        }
        Ok(clean)
    }
}
