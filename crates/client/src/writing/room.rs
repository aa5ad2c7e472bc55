//! Room at the worker for what is staged, which is asked for before it is written, where the bytes are acknowledged before a store has them.
//!
//! Bytes are counted, not offsets: a hole takes none. What lies in a file that has holes counts whenever it is written, up to the file's length.

use std::time::Duration;

use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, Result};
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep},
};

use super::{
    FileWriter,
    copying::Copied,
    staged::{Staged, call_worker},
    state::State,
};
use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// How long the worker has one call wait.
const HOLD: Duration = Duration::from_secs(20);

/// How long an earlier version of a file that is to be written through may wait for the store.
const PATIENCE: Duration = Duration::from_mins(10);

/// Pause before it is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// Pause before the worker is asked again.
const PAUSE: Duration = Duration::from_millis(10);

/// What a staged file takes up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes that it may; `None`: nobody counts them.
    granted: Option<u64>,
    /// Bytes that it does, or fewer.
    used: u64,
    /// Not all before its end was written.
    has_holes: bool,
}

impl Room {
    pub(super) const fn new(is_bounded: bool) -> Self {
        Self { granted: if is_bounded { Some(0) } else { None }, used: 0, has_holes: false }
    }

    /// Of another staged file, which takes up nothing yet.
    pub(super) const fn anew(self) -> Self {
        Self::new(self.granted.is_some())
    }

    /// Nobody counts them any more.
    const fn unbound(&mut self) {
        self.granted = None;
    }

    fn grant(&mut self, bytes: u64) {
        self.granted = self.granted.map(|granted| granted.max(bytes));
    }

    /// Whether nothing need be asked for to use so much.
    pub(super) fn has(&self, bytes: u64) -> bool {
        self.granted.is_none_or(|granted| bytes <= granted)
    }

    /// Some of the file may take up nothing any more.
    pub(super) const fn make_hole(&mut self) {
        self.has_holes = true;
    }

    /// What is staged takes up so much now; `has_holes` when some of the file may never have been written.
    pub(super) const fn take(&mut self, bytes: u64, has_holes: bool) {
        self.used = bytes;
        self.has_holes = bytes > 0 && (self.has_holes || has_holes);
    }
}

impl State {
    /// What is used when all that a change needs of the old version was brought over.
    pub(super) fn used(&self) -> u64 {
        self.room.used.max(self.origin.as_ref().map_or(0, |origin| origin.size))
    }

    /// What is used at most after bytes are written from `offset` to `end`.
    pub(super) fn used_after(&self, offset: u64, end: u64) -> u64 {
        let length = self.attr.size;
        let behind = end.saturating_sub(offset.max(length));
        let inside = if self.room.has_holes { end.min(length).saturating_sub(offset) } else { 0 };
        (self.used() + behind + inside).min(length.max(end))
    }
}

impl FileWriter {
    /// Lets nobody else change the file, once there is room for as much as `needed` tells. What is waited for meanwhile holds up nobody else, nor a persist.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub(super) async fn begin_change(&self, needed: impl Fn(&State) -> u64) -> Result<MutexGuard<'_, Copied>> {
        let waiting_since = Instant::now();
        loop {
            let changing = self.changing.lock().await;
            let wanted = {
                let state = self.lock();
                state.check()?;
                let needed = needed(&state);
                (!state.room.has(needed)).then_some(needed)
            };
            let Some(wanted) = wanted else { return Ok(changing) };
            drop(changing);
            let staged = self.staged().await?;
            let offered = staged.offered();
            if wanted <= offered {
                self.lock().room.grant(offered);
                continue;
            }
            match staged.reserve(&self.shared, &staged.grant, wanted, waiting_since.elapsed()).await {
                Ok(granted) if granted >= wanted => self.lock().room.grant(granted),
                Ok(most) => self.write_through(&staged, (wanted, most), waiting_since).await?,
                Err(error) if error.kind() == ErrorKind::Busy => sleep(PAUSE).await,
                // Another has taken its place.
                Err(_) if !self.staged.has(&staged) => {}
                Err(error) => {
                    self.note(&error);
                    return Err(error);
                }
            }
        }
    }

    /// A file that does not fit into what may wait for the store is persisted before what is written is acknowledged, and needs no room then.
    ///
    /// # Errors
    /// `ResourceExhausted` when it is not to be persisted under its name, or is not after a while; those of the master.
    async fn write_through(&self, staged: &Staged, (bytes, most): (u64, u64), waiting_since: Instant) -> Result<()> {
        let call = |channel| {
            let request = v1::WriteThroughRequest { lease: self.lease().id };
            async move { master::writing(channel).write_through(request).await }
        };
        let answer = self.shared.masters.call("writing a large file through", Retry::Yes, call).await;
        match answer.map_err(Error::from) {
            Ok(v1::WriteThroughResponse { grant }) => {
                let grant = grant.unwrap_or_default();
                self.lease().write_through(grant.clone());
                self.lock().room.unbound();
                self.ahead.resume();
                // What was set aside for it is given back. Who else has its place by now has learnt of it.
                if let Err(error) = staged.reserve(&self.shared, &grant, 0, Duration::ZERO).await {
                    tracing::debug!(%error, "the room of a file that is written through is given back when it ends");
                }
                Ok(())
            }
            // An earlier version waits for the store.
            Err(error) if error.kind() == ErrorKind::Busy && waiting_since.elapsed() < PATIENCE => {
                sleep(LOOK).await;
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotSupported) => {
                let message = format!(
                    "a file of {bytes} bytes does not fit into the {most} bytes of its mount that may wait for the store: raise worker.dirty_limit, or \
                     have the file persisted `through`"
                );
                let error = Error::new(ErrorKind::ResourceExhausted, message).with_source(error);
                tracing::warn!(%error, inode = %self.inode(), "a writer is told that there is no space");
                Err(error)
            }
            Err(error) => {
                self.note(&error);
                Err(error)
            }
        }
    }
}

impl Staged {
    /// Has the worker set room aside for `bytes` in all, for who has `waited` before: for how many there is, or, if those are fewer, how many a file
    /// may have at most.
    ///
    /// # Errors
    /// `Busy` when there was none in time: ask again; `ResourceExhausted` when none will come; as of [`Staged::write`] else.
    async fn reserve(&self, shared: &Shared, grant: &v1::SignedGrant, bytes: u64, waited: Duration) -> Result<u64> {
        let service = shared.workers.staging(self.member())?;
        let request = v1::ReserveRequest {
            grant: Some(grant.clone()),
            bytes,
            continues: self.is_begun(),
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = call_worker(self.member(), "making room", HOLD + self.patience(), || {
            let (mut service, request) = (service.clone(), request.clone());
            async move { service.reserve(request).await }
        })
        .await?;
        Ok(answer.bytes)
    }
}
