//! Clients' sessions: what they are told of changes, as it happens, and what they may believe.
//!
//! A change that a client makes is answered when every other session that may believe what it makes wrong has heard of it, or when that would not
//! be believed any more. Nobody is waited for who was told nothing: `holdings` knows that of each session, `settling` is a change that waits.
//! A session that does not hear in time has nothing left to believe, and is closed: the next change does not wait for it.
//!
//! An answer never slips past a change. Either the session is noted as believing it before the change is told, which then waits for the
//! session; or the note is made later and finds that the change was told, and the answer gets no validity. (The client itself passes over answers that are
//! older than what it was told.)
//!
//! Who has a session is journalled when it begins and when it ends, but not what is believed in it: the next master counts each as believing everything,
//! until its client goes on with it or its answers are not valid any more. What happens meanwhile is kept for it, as for a client that lost its connection:
//! it is told when the client is back, and only then is it taken. Parts of the master's own process end with it, and are not journalled.
//!
//! Events of a session wait in a bounded queue. A client that reads too slowly loses some and is told to forget everything it has cached; it slows
//! nobody down but who waits for it.

mod holdings;
mod records;
mod session;
mod settling;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use headpond_namespace::{ClientSession, Effect};
use headpond_proto::v1::{InvalidatedEntry, Invalidation, WatchEvent, watch_event::Event};
use headpond_types::{InodeId, RequestId, Result, Ring};
use tokio::time::Instant;

use records::Ended;
pub(crate) use records::{forget, record};
use session::{Attachment, State, Untaken};
pub(crate) use session::{Listener, Session};
pub(crate) use settling::Settling;
use settling::Waiting;

/// Slots of positions of directories. Those that share one cost each other an answer's validity around a change.
const SLOTS: usize = 4096;

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Longest validity of any answer.
    lease: Duration,
    /// Locked before the state of a session.
    all: RwLock<BTreeMap<u64, Arc<State>>>,
    requests: Mutex<Requests>,
    /// Position of the last change that clients made, per slot of a directory.
    changes: Box<[AtomicU64]>,
    /// Sessions that the journal knows and that have ended.
    ended: Ended,
}

#[derive(Debug, Default)]
struct Requests {
    /// Requests whose callers wait.
    callers: HashMap<RequestId, Request>,
    waiting: Waiting,
}

#[derive(Debug)]
struct Request {
    author: Option<u64>,
    /// Calls with the same request.
    calls: usize,
    settling: Option<Arc<Settling>>,
}

/// What is known of a change beside its effects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Whose callers wait.
    pub(crate) request: RequestId,
    /// What the author's kernel has locked until it is answered.
    pub(crate) locks: Locks,
    /// Names lead to the same inodes as before.
    pub(crate) in_place: bool,
}

/// Inodes among the effects of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locks {
    /// None.
    Nothing,
    /// Those that are changed themselves.
    Inodes,
    /// Those that are changed, and the directories.
    Names,
}

/// A request that is being served; dropped, its caller waits for nothing.
#[derive(Debug)]
struct Serving<'a> {
    sessions: &'a Sessions,
    request: RequestId,
}

impl Sessions {
    /// Answers are valid for `lease` at most.
    pub(crate) fn new(lease: Duration) -> Self {
        let changes = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { lease, all: RwLock::default(), requests: Mutex::default(), changes, ended: Ended::default() }
    }

    /// Sessions that the journal knows from an earlier master: from now on it is kept for them what happens.
    pub(crate) fn recall(&self, known: impl IntoIterator<Item = (u64, ClientSession)>) {
        let now = Instant::now();
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        for (id, ClientSession { client, valid_ms }) in known {
            let (state, valid) = (State::new(id, client), Duration::from_millis(valid_ms));
            let mut inner = state.lock();
            inner.departed = true;
            inner.recorded = Some(valid);
            inner.holdings.add_all(now, valid);
            drop(inner);
            all.insert(id, Arc::new(state));
        }
    }

    /// Begins a session of the client called `name`, or goes on with the one that it `resumes`, if there is one. Everything that happens from now on reaches
    /// it, and what has happened since that one broke. Above the client others cache if it says so.
    pub(crate) fn open(self: &Arc<Self>, name: String, resumes: Option<u64>, cached_above: bool) -> Session {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let broken = resumes.and_then(|id| all.get(&id).cloned());
        if let Some(state) = broken
            && let Some(attachment) = state.attach(cached_above)
        {
            return Session { sessions: self.clone(), state, attachment, resumes: true };
        }
        let state = Arc::new(State::new(rand::random_range(1..=u64::MAX), name));
        let attachment = state.lock().attachment.clone();
        state.lock().cached_above = cached_above;
        all.insert(state.id, state.clone());
        Session { sessions: self.clone(), state, attachment, resumes: false }
    }

    /// Forgets clients that are gone and of which nothing is believed any more.
    fn tidy(&self) {
        let now = Instant::now();
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, state| {
            let inner = state.lock();
            let stays = !inner.departed || inner.holdings.end(now).is_some();
            if !stays {
                self.ended.note(state.id, &inner);
            }
            stays
        });
    }

    /// How many sessions there are.
    pub(crate) fn count(&self) -> u64 {
        self.states().iter().filter(|state| !state.lock().departed).count() as u64
    }

    /// Session `id` is told something of `dirs` that holds for `valid`, as of position `as_of`. Answers whether it may believe that.
    pub(crate) fn may_believe(
        &self,
        id: u64,
        dirs: impl IntoIterator<Item = InodeId>,
        as_of: u64,
        valid: Duration,
    ) -> bool {
        let Some(state) = self.get(id) else { return false };
        let now = Instant::now();
        let mut inner = state.lock();
        if inner.closed || inner.departed || inner.unrecorded {
            return false;
        }
        let mut current = true;
        for dir in dirs {
            inner.holdings.add(dir, now, valid);
            current &= self.change_of(dir).load(Ordering::SeqCst) <= as_of;
        }
        current
    }

    /// Tells all of what a command changed, which nobody waits for. Snapshots at `as_of` or later show it.
    pub(crate) fn tell<'e>(&self, as_of: u64, effects: impl IntoIterator<Item = &'e Effect>) {
        let entries: Vec<_> = effects.into_iter().filter_map(invalidated).collect();
        if !entries.is_empty() {
            self.send(Event::Invalidation(Invalidation { entries, as_of, ticket: 0, own: false }));
        }
    }

    /// Tells all of what a client's `change` has done. Whoever serves its request can wait until those have heard who may believe otherwise.
    pub(crate) fn tell_change(&self, as_of: u64, effects: &[Effect], change: Change) {
        let entries: Vec<_> = effects.iter().filter_map(invalidated).collect();
        let mut dirs: Vec<_> = entries.iter().map(|entry| InodeId(entry.parent)).collect();
        dirs.sort();
        dirs.dedup();
        let inodes = entries.iter().map(|entry| InodeId(entry.inode)).filter(|inode| inode.0 != 0);
        let locked = match change.locks {
            Locks::Nothing => Vec::new(),
            Locks::Inodes => inodes.collect(),
            Locks::Names => inodes.chain(dirs.iter().copied()).collect(),
        };
        for dir in &dirs {
            self.change_of(*dir).fetch_max(as_of, Ordering::SeqCst);
        }
        let mut requests = self.requests();
        let request = requests.callers.get(&change.request);
        let author = request.and_then(|request| request.author);
        let now = Instant::now();
        let settling = Arc::new(Settling::new(author, locked, dirs.clone(), now));
        let invalidation = Invalidation { entries, as_of, ticket: 0, own: false };
        let plain = Arc::new(WatchEvent { event: Some(Event::Invalidation(invalidation.clone())) });
        for state in self.states() {
            let mut inner = state.lock();
            if Some(state.id) == author {
                let mut own = Invalidation { own: true, ..invalidation.clone() };
                own.entries.iter_mut().for_each(|entry| entry.same = change.in_place);
                state.send(&mut inner, Arc::new(WatchEvent { event: Some(Event::Invalidation(own)) }));
                continue;
            }
            let believes = dirs.iter().any(|dir| inner.holdings.has(*dir, now));
            let end = inner.holdings.end(now).filter(|_| believes && request.is_some());
            let Some(end) = end else {
                state.send(&mut inner, plain.clone());
                continue;
            };
            // It may go on to be told things that it believes, but not these.
            settling.add(state.id, end.min(now + self.lease.max(inner.recorded.unwrap_or_default())));
            let ticket = inner.next_ticket();
            let invalidation = Invalidation { ticket, ..invalidation.clone() };
            let event = Arc::new(WatchEvent { event: Some(Event::Invalidation(invalidation)) });
            inner.untaken.insert(ticket, Untaken { settling: Arc::clone(&settling), event: Arc::clone(&event) });
            state.send(&mut inner, event);
        }
        if settling.is_settled() {
            return;
        }
        requests.waiting.add(&settling);
        if let Some(request) = requests.callers.get_mut(&change.request) {
            request.settling = Some(settling);
        }
    }

    /// The same of a change that an earlier call of the request has made, unless a call that goes on has told of it.
    pub(crate) fn tell_again(&self, as_of: u64, effects: &[Effect], change: Change) {
        let is_told = self.requests().callers.get(&change.request).is_some_and(|request| request.settling.is_some());
        if !is_told {
            self.tell_change(as_of, effects, change);
        }
    }

    /// Tells all of the new ring.
    pub(crate) fn tell_ring(&self, ring: &Ring) {
        self.send(Event::Ring(ring.clone().into()));
    }

    /// Makes the change that `request` of session `author` asks for, and waits until all others have heard of it.
    ///
    /// # Errors
    /// Those of `change`.
    pub(crate) async fn settle<T>(
        &self,
        request: RequestId,
        author: Option<u64>,
        change: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let serving = self.serve(request, author);
        let done = change.await?;
        serving.settled().await;
        Ok(done)
    }

    /// The request of session `author` is about to be served.
    fn serve(&self, request: RequestId, author: Option<u64>) -> Serving<'_> {
        let mut requests = self.requests();
        let serving = requests.callers.entry(request).or_insert(Request { author, calls: 0, settling: None });
        serving.calls += 1;
        Serving { sessions: self, request }
    }

    /// Nobody waits for session `id` any more, and its stream ends.
    fn close(&self, id: u64) {
        let state = self.all.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(state) = state {
            self.ended.note(id, &state.lock());
            state.close();
        }
    }

    /// The client of a session is gone, for now, if this is still its connection. What caches above it still believe is waited for.
    fn depart(&self, state: &State, connection: Option<&Attachment>) {
        // Nobody goes on with it before it is known what becomes of it.
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let mut inner = state.lock();
        if connection.is_some_and(|connection| !connection.is(&inner.attachment)) {
            return;
        }
        inner.departed = true;
        if inner.cached_above && inner.holdings.end(Instant::now()).is_some() {
            return;
        }
        if all.remove(&state.id).is_some() {
            self.ended.note(state.id, &inner);
        }
        drop(inner);
        drop(all);
        state.close();
    }

    /// A session has not heard of a change in time. What it was told since is waited for, which for a client that is dead is nothing.
    fn expire(&self, id: u64, waited: Duration) {
        let Some(state) = self.get(id) else { return };
        let (client, waited_ms) = (&state.name, waited.as_millis());
        tracing::warn!(client, waited_ms, "a client did not hear of a change in time: its session is closed");
        state.close();
        self.depart(&state, None);
    }

    fn send(&self, event: Event) {
        let event = Arc::new(WatchEvent { event: Some(event) });
        for state in self.states() {
            state.send(&mut state.lock(), event.clone());
        }
    }

    fn get(&self, id: u64) -> Option<Arc<State>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn states(&self) -> Vec<Arc<State>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_of(&self, dir: InodeId) -> &AtomicU64 {
        // Ids are given in order: neighbours do not share a slot.
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than `SLOTS`")]
        let slot = (dir.0 % SLOTS as u64) as usize;
        &self.changes[slot]
    }
}

impl Serving<'_> {
    /// Waits until everybody has heard of what was changed; closes the sessions of those who do not hear in time. Cancel-safe.
    async fn settled(self) {
        let settling = self.sessions.requests().callers.get(&self.request).and_then(|request| request.settling.clone());
        let Some(settling) = settling else { return };
        while let Err(late) = settling.settled().await {
            for id in late {
                self.sessions.expire(id, settling.began.elapsed());
                settling.settle(id);
            }
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let mut requests = self.sessions.requests();
        if let Some(request) = requests.callers.get_mut(&self.request) {
            request.calls -= 1;
            if request.calls == 0 {
                requests.callers.remove(&self.request);
            }
        }
    }
}

fn invalidated(effect: &Effect) -> Option<InvalidatedEntry> {
    let (parent, name, old) = match effect {
        Effect::Entry { parent, name, old } => (parent, name, *old),
        Effect::Discovered { parent, name } => (parent, name, None),
        Effect::Mounts => return None,
    };
    let (parent, name) = (parent.0, name.as_bytes().to_vec().into());
    Some(InvalidatedEntry { parent, name, inode: old.map_or(0, |inode| inode.0), same: false })
}

#[cfg(test)]
mod tests;
