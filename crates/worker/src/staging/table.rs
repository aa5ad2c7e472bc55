//! The staged files of this worker, by write lease.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use headpond_store::{Staging, StoreError};
use headpond_types::{ContentId, MountId, Result};
use tokio::{sync::watch, task::spawn_blocking, time::Instant};

use super::{ahead::Rounds, lost, mirrors::Mirrors, persist::Asked, sent::Sent};

/// A staged file and what became of its bytes so far.
#[derive(Debug)]
pub(crate) struct Staged {
    lease: u64,
    inode: u64,
    /// `None` once it was ended. Read-locked by each use, where blocking is allowed; so whoever takes it out knows that nobody writes.
    file: RwLock<Option<Staging>>,
    state: Mutex<State>,
    /// Held by whoever stores the bytes: one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Whether it was ended and what it became is known.
    finished: watch::Sender<bool>,
}

/// Held for a few instructions.
#[derive(Debug)]
struct State {
    /// The connection that has a descriptor, if one has.
    session: Option<u64>,
    used: Instant,
    /// The last persists that were asked for.
    asked: Asked,
    /// What of this file the store may hold.
    sent: Sent,
    /// Contents that readers find here, the latest last.
    shown: Vec<ContentId>,
    /// What is being sent before it is known what becomes of it.
    rounds: Rounds,
    /// Who else has its bytes.
    mirrors: Mirrors,
    /// The mount in whose share of the bound on dirty bytes it counts, if it does.
    later: Option<MountId>,
    /// Bytes set aside for it; `None` once it was ended.
    room: Option<u64>,
    /// Bytes that came over the network.
    received: u64,
}

impl Staged {
    pub(super) fn new(lease: u64, inode: u64, later: Option<MountId>, file: Staging) -> Self {
        let state = State {
            session: None,
            used: Instant::now(),
            asked: Asked::default(),
            sent: Sent::default(),
            shown: Vec::new(),
            rounds: Rounds::default(),
            mirrors: Mirrors::new(),
            later,
            room: Some(0),
            received: 0,
        };
        Self {
            lease,
            inode,
            file: RwLock::new(Some(file)),
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            finished: watch::Sender::new(false),
        }
    }

    pub(super) const fn lease(&self) -> u64 {
        self.lease
    }

    pub(super) const fn inode(&self) -> u64 {
        self.inode
    }

    /// The mount in whose share of the bound on dirty bytes it counts, if it does.
    pub(super) fn later(&self) -> Option<MountId> {
        self.state().later
    }

    /// It does not count any more: the mount that it counted in, and what was set aside there.
    pub(super) fn count_no_more(&self) -> Option<(MountId, u64)> {
        let mut state = self.state();
        let mount = state.later.take()?;
        Some((mount, state.room.as_mut().map(std::mem::take).unwrap_or_default()))
    }

    /// Bytes set aside for it; `None` once it was ended.
    pub(super) fn room(&self) -> Option<u64> {
        self.state().room
    }

    /// So many more are; whether it still counts, and was not ended.
    pub(super) fn add_room(&self, bytes: u64) -> bool {
        let mut state = self.state();
        let counts = state.later.is_some();
        let room = state.room.as_mut().filter(|_| counts).map(|room| *room += bytes);
        room.is_some()
    }

    /// Nothing is set aside for it any more; what was.
    pub(super) fn take_room(&self) -> u64 {
        self.state().room.take().unwrap_or_default()
    }

    /// Notes that `bytes` came over the network, after which the file has `length`: how many were not set aside, which are from now on.
    pub(super) fn receive(&self, bytes: u64, length: u64) -> u64 {
        let mut state = self.state();
        state.received += bytes;
        let has = state.received.min(length);
        let counts = state.later.is_some();
        state.room.as_mut().filter(|_| counts).map_or(0, |room| {
            let surplus = has.saturating_sub(*room);
            *room += surplus;
            surplus
        })
    }

    pub(super) fn session(&self) -> Option<u64> {
        self.state().session
    }

    pub(super) fn bind(&self, session: u64) {
        self.state().session = Some(session);
    }

    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    /// Whether it belongs to no connection, nothing was asked about it for `time`, and nothing is being stored.
    pub(super) fn is_unused(&self, time: Duration) -> bool {
        let state = self.state();
        state.session.is_none() && state.used.elapsed() >= time && self.turn.try_lock().is_ok()
    }

    /// Looks at or changes what was asked for.
    pub(super) fn with_asked<T>(&self, look: impl FnOnce(&mut Asked) -> T) -> T {
        look(&mut self.state().asked)
    }

    /// Looks at or changes what is known of the bytes that were sent.
    pub(super) fn with_sent<T>(&self, look: impl FnOnce(&mut Sent) -> T) -> T {
        look(&mut self.state().sent)
    }

    /// Looks at or changes what is sent ahead.
    pub(super) fn with_rounds<T>(&self, look: impl FnOnce(&mut Rounds) -> T) -> T {
        look(&mut self.state().rounds)
    }

    /// Looks at or changes who else has its bytes.
    pub(super) fn with_mirrors<T>(&self, look: impl FnOnce(&mut Mirrors) -> T) -> T {
        look(&mut self.state().mirrors)
    }

    /// Notes that readers find `content` here, beside the `others` latest; the answer is what they find no more.
    pub(super) fn show(&self, content: Option<ContentId>, others: usize) -> Vec<ContentId> {
        let mut state = self.state();
        state.shown.retain(|known| Some(*known) != content);
        let surplus = state.shown.len().saturating_sub(others);
        let hidden = state.shown.drain(..surplus).collect();
        state.shown.extend(content);
        hidden
    }

    /// Runs `work` on the file where it may block. Goes on to its end when dropped.
    ///
    /// # Errors
    /// `Stale` when the file was ended; what `work` answers else.
    pub(super) async fn on_file<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Staging) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T> {
        let staged = Arc::clone(self);
        let done = spawn_blocking(move || {
            let file = staged.file.read().unwrap_or_else(PoisonError::into_inner);
            file.as_ref().map(work)
        });
        let done = done.await.expect("work on a staged file does not panic");
        Ok(done.ok_or_else(|| lost(self.lease))??)
    }

    /// A descriptor of the file for another process.
    ///
    /// # Errors
    /// As of [`Staged::on_file`].
    pub(super) async fn descriptor(self: &Arc<Self>) -> Result<File> {
        // Without a switch to another thread while nobody is about to end the file.
        let now = self.file.try_read().ok().map(|file| file.as_ref().map(Staging::descriptor));
        match now {
            Some(file) => Ok(file.ok_or_else(|| lost(self.lease))??),
            None => self.on_file(Staging::descriptor).await,
        }
    }

    /// Takes the file out, when all uses have ended. Blocks.
    pub(crate) fn take(&self) -> Option<Staging> {
        self.file.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What became of the file is known, also to the page store.
    pub(super) fn finish(&self) {
        self.finished.send_replace(true);
    }

    /// Waits until what became of the file is known, which is soon after its end. Cancel-safe.
    pub(super) async fn finished(&self) {
        let known = self.finished.subscribe().wait_for(|finished| *finished).await.map(|_| ());
        known.expect("the sender is here");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

/// Staged files by lease. One short lock: it is taken once for up to 4 MiB.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<HashMap<u64, Arc<Staged>>>);

impl Table {
    pub(super) fn find(&self, lease: u64) -> Option<Arc<Staged>> {
        self.files().get(&lease).cloned()
    }

    /// The staged file of `lease`, which is `new` and `true` if there was none.
    pub(super) fn insert(&self, lease: u64, new: Staged) -> (Arc<Staged>, bool) {
        let mut files = self.files();
        if let Some(known) = files.get(&lease) {
            return (Arc::clone(known), false);
        }
        let staged = Arc::new(new);
        files.insert(lease, Arc::clone(&staged));
        drop(files);
        (staged, true)
    }

    pub(super) fn remove(&self, lease: u64) -> Option<Arc<Staged>> {
        self.files().remove(&lease)
    }

    pub(super) fn extract(&self, unwanted: impl Fn(&Staged) -> bool) -> Vec<Arc<Staged>> {
        self.files().extract_if(|_, staged| unwanted(staged)).map(|(_, staged)| staged).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Staged>> {
        self.files().values().cloned().collect()
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, Arc<Staged>>> {
        self.0.lock().expect("no panic while held")
    }
}
