//! The session with the masters: ring and invalidations, as they happen.
//!
//! Order matters: the cache forgets before anybody is told, so who hears of a change and asks again gets the new state.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use headpond_proto::v1::{self, watch_event};
use headpond_runtime::Shutdown;
use headpond_types::{Error, ErrorKind, InodeId, Name, Result, Ring};
use tokio::{
    sync::{broadcast, watch},
    time::{sleep, timeout},
};
use tonic::Streaming;

use crate::{
    Event,
    backoff::Backoff,
    master::{self, Retry, is_refusal},
    shared::Shared,
    word::{Awaited, Speaker, Words},
};

/// Events kept for a receiver that lags.
const EVENTS: usize = 1024;

/// How long the master may take to hear that the client leaves. One that does not is no worse off than with a client that is killed.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the session last said.
#[derive(Debug)]
pub(crate) struct Session {
    ring: watch::Sender<Option<Arc<Ring>>>,
    events: broadcast::Sender<Event>,
    /// Somebody has asked for events: they cache what they are told.
    cached_above: AtomicBool,
    /// They have let go of it.
    let_go: AtomicBool,
    /// What is to be said in the session that is live.
    words: Mutex<Option<Arc<Words>>>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            ring: watch::Sender::new(None),
            events: broadcast::channel(EVENTS).0,
            cached_above: AtomicBool::new(false),
            let_go: AtomicBool::new(false),
            words: Mutex::new(None),
        }
    }

    /// The ring, waiting up to `patience` for the first.
    pub(crate) async fn ring(&self, patience: Duration) -> Result<Arc<Ring>> {
        if let Some(ring) = self.known_ring() {
            return Ok(ring);
        }
        let mut ring = self.ring.subscribe();
        let first = timeout(patience, ring.wait_for(Option::is_some)).await;
        let ring = first.ok().and_then(Result::ok).and_then(|ring| ring.clone());
        ring.ok_or_else(|| {
            let message = "the live workers are not known, since no master has answered yet: check `masters`";
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    pub(crate) fn known_ring(&self) -> Option<Arc<Ring>> {
        self.ring.borrow().clone()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        let events = self.events.subscribe();
        self.cached_above.store(true, Ordering::SeqCst);
        if let Some(words) = &*self.words() {
            words.cached_above();
        }
        events
    }

    pub(crate) fn let_go(&self) {
        self.let_go.store(true, Ordering::SeqCst);
    }

    /// Says that nothing is believed any more; whether there was something to say, and a session to say it in.
    fn say_leave(&self) -> bool {
        if !self.let_go.load(Ordering::SeqCst) {
            return false;
        }
        let words = self.words();
        let live = words.as_ref().filter(|words| words.are_heard());
        live.inspect(|words| words.leave()).is_some()
    }

    /// The beginning of what is said in a new session, or in the `last` one again.
    fn introduction(&self, client: String, last: Option<u64>) -> (Speaker, v1::WatchRequest) {
        let speaker = Speaker::default();
        *self.words() = Some(Arc::clone(&speaker.0));
        let cached_above = self.cached_above.load(Ordering::SeqCst);
        let (resumed, resumes) = (last.is_some() && cached_above, last.unwrap_or_default());
        (speaker, v1::WatchRequest { client, cached_above, resumed, resumes, ..v1::WatchRequest::default() })
    }

    fn words(&self) -> MutexGuard<'_, Option<Arc<Words>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        if self.events.len() + 1 >= EVENTS
            && let Event::Entry { awaited, .. } = &event
        {
            // It, or another, may be lost unseen.
            awaited.withhold();
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

/// Keeps a session until the client ends, which `stop` tells: then until the master ends it.
pub(crate) async fn run(shared: Arc<Shared>, stop: Shutdown) {
    let mut backoff = new_backoff();
    let mut refused = None;
    let mut last = None;
    loop {
        match begin(&shared, last).await {
            Ok(Begun { first, stream, speaker }) => {
                backoff = new_backoff();
                last = last.or(Some(0));
                if let Some(watch_event::Event::Session(session)) = &first.event {
                    last = Some(session.id);
                    // Before anything that is asked may be believed.
                    shared.masters.session.begin(session.id, Duration::from_millis(session.patience_ms));
                }
                shared.cache.begin_session();
                shared.masters.reach.set_in_session(true);
                let error = follow(&shared, first, stream, &speaker.0).await;
                if stop.has_begun() {
                    // What ends with the client is no news.
                    return;
                }
                shared.masters.reach.set_in_session(false);
                shared.cache.end_session();
                shared.session.tell(Event::Reset);
                tracing::warn!(%error, "the session with the master broke: cached metadata is revalidated");
            }
            Err(failed) => {
                let error = failed.error.to_string();
                if is_refusal(&failed.error) && refused.as_ref() != Some(&error) {
                    tracing::error!(error, "the master will not have this client, trying on");
                    refused = Some(error);
                } else {
                    tracing::debug!(error, "no session with a master");
                }
            }
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            () = shared.masters.reach.recovered() => {}
        }
    }
}

/// Ends the session that `running` keeps, so that no change of another client waits for this one.
pub(crate) async fn leave(shared: &Shared, running: impl Future<Output = ()>) {
    if shared.session.say_leave() && timeout(GOODBYE, running).await.is_err() {
        tracing::debug!("the master did not hear that this client leaves");
    }
}

fn new_backoff() -> Backoff {
    // In a long outage it is the session that finds out: a call that probes may take longer than a probe's patience for
    // reasons of its own. An attempt costs a refused connection.
    Backoff::new(Duration::from_millis(50), Duration::from_millis(500))
}

/// A session whose first event is here: only then does the master hear of this client.
struct Begun {
    first: v1::WatchEvent,
    stream: Streaming<v1::WatchEvent>,
    speaker: Speaker,
}

/// Opens the stream and waits for its first event.
async fn begin(shared: &Shared, last: Option<u64>) -> Result<Begun, master::CallError> {
    let client = format!("{} at {}", shared.config.name, shared.config.node);
    let watch = async |channel| {
        let (speaker, introduction) = shared.session.introduction(client.clone(), last);
        let request = Arc::clone(&speaker.0).stream(introduction);
        let mut stream = master::namespace(channel).watch(request).await?.into_inner();
        let first = stream.message().await?;
        let first = first.ok_or_else(|| tonic::Status::unavailable("the stream of events ended at once"))?;
        Ok(tonic::Response::new(Begun { first, stream, speaker }))
    };
    shared.masters.call("watch", Retry::Session, watch).await
}

/// Applies events until the stream breaks; answers why.
async fn follow(
    shared: &Shared,
    first: v1::WatchEvent,
    mut stream: Streaming<v1::WatchEvent>,
    words: &Arc<Words>,
) -> Error {
    apply(shared, first, words);
    loop {
        match stream.message().await {
            Ok(Some(event)) => apply(shared, event, words),
            Ok(None) => return Error::new(ErrorKind::Unavailable, "the master ended the stream of events"),
            Err(status) => return headpond_proto::status::to_error(&status, "watch"),
        }
    }
}

fn apply(shared: &Shared, event: v1::WatchEvent, words: &Arc<Words>) {
    match event.event {
        Some(watch_event::Event::Ring(ring)) => {
            let ring = Arc::new(Ring::from(ring));
            shared.workers.retain(&ring);
            shared.session.ring.send_replace(Some(ring));
        }
        Some(watch_event::Event::Invalidation(invalidation)) => {
            let as_of = invalidation.as_of;
            let awaited = Awaited::new(words, invalidation.ticket);
            for entry in invalidation.entries {
                let parent = InodeId(entry.parent);
                // What is no name cannot have been looked up by it; then the whole listing counts as changed.
                let name = Name::new(&entry.name).ok();
                let old = (entry.inode != 0).then_some(InodeId(entry.inode));
                match old {
                    Some(inode) if entry.same => shared.cache.outdate(as_of, inode),
                    _ => shared.cache.invalidate(as_of, parent, name.as_ref(), old),
                }
                shared.session.tell(Event::Entry {
                    parent,
                    name,
                    old,
                    own: invalidation.own,
                    same: entry.same,
                    awaited: awaited.clone(),
                });
            }
        }
        Some(watch_event::Event::Reset(_)) => {
            shared.cache.reset();
            shared.session.tell(Event::Reset);
        }
        Some(watch_event::Event::Session(_)) => {}
        None => tracing::debug!("an event of a newer master was passed over"),
    }
}
