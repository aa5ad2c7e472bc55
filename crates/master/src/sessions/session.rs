//! One client's session.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_proto::v1::{WatchEvent, watch_event::Event};
use tokio::{sync::Notify, time::Instant};

use super::{Sessions, holdings::Holdings, settling::Settling};

/// Events kept for a slow client, each of at most a batch of a thousand entries.
pub(super) const BACKLOG: usize = 1024;

/// What the master knows of a session.
#[derive(Debug)]
pub(super) struct State {
    pub(super) id: u64,
    pub(super) name: String,
    /// Held for a few instructions; no other lock is taken inside but that of a [`Settling`], and of what has ended.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    events: VecDeque<Arc<WatchEvent>>,
    /// Some events are lost, and the client is to hear that.
    lost: bool,
    /// Nothing is sent any more.
    pub(super) closed: bool,
    /// The client has gone, without having said that nothing is believed any more. What happens is kept for it.
    pub(super) departed: bool,
    /// Whose stream it is: that of the client's last connection.
    pub(super) attachment: Attachment,
    /// The journal may know of it, and that answers are valid for so long.
    pub(super) recorded: Option<Duration>,
    /// The journal does not know that, so nothing is believed.
    pub(super) unrecorded: bool,
    /// Others believe what the client was told, session or not.
    pub(super) cached_above: bool,
    pub(super) holdings: Holdings,
    tickets: u64,
    pub(super) untaken: BTreeMap<u64, Untaken>,
}

/// What a client has not carried out.
#[derive(Debug)]
pub(super) struct Untaken {
    pub(super) settling: Arc<Settling>,
    pub(super) event: Arc<WatchEvent>,
}

/// A connection of a session: wakes whoever passes its events on.
#[derive(Clone, Debug, Default)]
pub(super) struct Attachment(Arc<Notify>);

impl Attachment {
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl State {
    pub(super) fn new(id: u64, name: String) -> Self {
        Self { id, name, inner: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, inner: &mut Inner, event: Arc<WatchEvent>) {
        if inner.closed {
            return;
        }
        if inner.events.len() < BACKLOG {
            inner.events.push_back(event);
        } else {
            inner.events.clear();
            inner.lost = true;
        }
        inner.attachment.0.notify_one();
    }

    /// The client goes on with the session, on another connection, and has nothing left of what it was told itself. `None`: the session is closed.
    pub(super) fn attach(&self, cached_above: bool) -> Option<Attachment> {
        let mut inner = self.lock();
        if inner.closed {
            return None;
        }
        inner.departed = false;
        let last = std::mem::take(&mut inner.attachment);
        last.0.notify_one();
        inner.cached_above |= cached_above;
        if !inner.cached_above {
            inner.holdings = Holdings::default();
        }
        // Whatever of it went into the last connection. Also who believes nothing any more has to say that he is there.
        let again: Vec<_> = inner.untaken.values().map(|untaken| Arc::clone(&untaken.event)).collect();
        inner.events.retain(|event| matches!(&event.event, Some(Event::Invalidation(told)) if told.ticket == 0));
        inner.events.extend(again);
        Some(inner.attachment.clone())
    }

    /// Nobody waits for it any more, and it ends.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let untaken = std::mem::take(&mut inner.untaken);
        inner.attachment.0.notify_one();
        drop(inner);
        untaken.into_values().for_each(|untaken| untaken.settling.settle(self.id));
    }

    /// The client has carried out what `ticket` was given with.
    fn take(&self, ticket: u64) {
        let untaken = self.lock().untaken.remove(&ticket);
        if let Some(untaken) = untaken {
            untaken.settling.settle(self.id);
        }
    }
}

impl Inner {
    /// The number of another ticket.
    pub(super) const fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }
}

/// One client's session; the client is gone when this is dropped, unless it has gone on with the session since.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) sessions: Arc<Sessions>,
    pub(super) state: Arc<State>,
    pub(super) attachment: Attachment,
    /// It is one that was there before.
    pub(super) resumes: bool,
}

/// What a client tells of its session. Clones are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    sessions: Arc<Sessions>,
    state: Arc<State>,
}

impl Session {
    /// Names the session in the client's calls.
    pub(crate) fn id(&self) -> u64 {
        self.state.id
    }

    /// How much later than it is made a change may be answered.
    pub(crate) fn patience(&self) -> Duration {
        self.sessions.lease
    }

    /// It goes on with what was told in it before.
    pub(crate) const fn resumes(&self) -> bool {
        self.resumes
    }

    /// For what the client has to say.
    pub(crate) fn listener(&self) -> Listener {
        Listener { sessions: self.sessions.clone(), state: self.state.clone() }
    }

    /// The next event, `reset` when some were lost; `None` when the session was closed, or goes on elsewhere. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            {
                let mut inner = self.state.lock();
                if inner.closed || !inner.attachment.is(&self.attachment) {
                    return None;
                }
                if std::mem::take(&mut inner.lost) {
                    let client = &self.state.name;
                    tracing::warn!(client, "client reads its events too slowly and must drop what it has cached");
                    return Some(WatchEvent { event: Some(Event::Reset(true)) });
                }
                if let Some(event) = inner.events.pop_front() {
                    return Some(Arc::unwrap_or_clone(event));
                }
            }
            self.attachment.0.notified().await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.depart(&self.state, Some(&self.attachment));
    }
}

impl Listener {
    /// Caches above the client go on to believe what they were told when the session breaks.
    pub(crate) fn has_caches_above(&self) {
        self.state.lock().cached_above = true;
    }

    /// The client's caches may believe anything that an earlier session was told.
    pub(crate) fn resumes(&self) {
        let lease = self.sessions.lease;
        self.state.lock().holdings.add_all(Instant::now(), lease);
    }

    /// The client, and what caches above it, have carried out what these tickets were given with.
    pub(crate) fn take(&self, tickets: &[u64]) {
        tickets.iter().for_each(|ticket| self.state.take(*ticket));
    }

    /// The client believes nothing any more.
    pub(crate) fn leave(&self) {
        self.sessions.close(self.state.id);
    }
}
