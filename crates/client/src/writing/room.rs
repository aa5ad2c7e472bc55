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
use crate::shared::Shared;

/// How long the worker has one call wait.
const HOLD: Duration = Duration::from_secs(20);

/// Pause before it is asked again.
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
            match staged.reserve(&self.shared, wanted, waiting_since.elapsed()).await {
                Ok(granted) => self.lock().room.grant(granted),
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
}

impl Staged {
    /// Has the worker set room aside for `bytes` in all, for who has `waited` before: for how many there is.
    ///
    /// # Errors
    /// `Busy` when there was none in time: ask again; `ResourceExhausted` when none will come; as of [`Staged::write`] else.
    async fn reserve(&self, shared: &Shared, bytes: u64, waited: Duration) -> Result<u64> {
        let service = shared.workers.staging(self.member())?;
        let request = v1::ReserveRequest {
            grant: Some(self.grant.clone()),
            bytes,
            continues: self.is_begun(),
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = call_worker(self.member(), "making room", HOLD + self.patience(), || {
            let (mut service, request) = (service.clone(), request.clone());
            async move { service.reserve(request).await }
        })
        .await?;
        if answer.bytes < bytes {
            let message = format!("worker {} set aside less than was asked for", self.member().address);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(answer.bytes)
    }
}
