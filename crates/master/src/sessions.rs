//! Clients' sessions: what they are told of changes, as it happens.
//!
//! Events go through one bounded channel. A client that reads too slowly loses some and is told to forget everything it
//! has cached; it never slows the master down.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_namespace::Effect;
use headpond_proto::v1::{InvalidatedEntry, Invalidation, WatchEvent, watch_event::Event};
use headpond_types::Ring;
use tokio::sync::broadcast::{self, error::RecvError};

/// Events kept for a slow client, each of at most a batch of a thousand entries.
const BACKLOG: usize = 1024;

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    events: broadcast::Sender<Arc<WatchEvent>>,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    next: u64,
    names: BTreeMap<u64, String>,
}

/// One client's session; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Arc<Sessions>,
    id: u64,
    events: broadcast::Receiver<Arc<WatchEvent>>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { events: broadcast::Sender::new(BACKLOG), clients: Mutex::default() }
    }

    /// Begins a session of the client called `name`. Everything that happens from now on reaches it.
    pub(crate) fn open(self: &Arc<Self>, name: String) -> Session {
        let events = self.events.subscribe();
        let mut clients = self.clients();
        let id = clients.next;
        clients.next += 1;
        clients.names.insert(id, name);
        drop(clients);
        Session { sessions: self.clone(), id, events }
    }

    /// How many sessions there are.
    pub(crate) fn count(&self) -> u64 {
        self.clients().names.len() as u64
    }

    /// Tells all of what a command changed. Snapshots at `as_of` or later show it.
    pub(crate) fn tell<'e>(&self, as_of: u64, effects: impl IntoIterator<Item = &'e Effect>) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let entries: Vec<_> = effects.into_iter().filter_map(invalidated).collect();
        if !entries.is_empty() {
            self.send(Event::Invalidation(Invalidation { entries, as_of }));
        }
    }

    /// Tells all of the new ring.
    pub(crate) fn tell_ring(&self, ring: &Ring) {
        self.send(Event::Ring(ring.clone().into()));
    }

    fn send(&self, event: Event) {
        // Fails when nobody listens, which is fine.
        let _ = self.events.send(Arc::new(WatchEvent { event: Some(event) }));
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// The next event, `reset` when some were lost; `None` when the master ends. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<WatchEvent> {
        match self.events.recv().await {
            Ok(event) => Some(Arc::unwrap_or_clone(event)),
            Err(RecvError::Lagged(lost)) => {
                let client = self.sessions.clients().names.get(&self.id).cloned();
                tracing::warn!(client, lost, "client reads its events too slowly and must drop what it has cached");
                // It goes on with what comes after the loss.
                self.events = self.events.resubscribe();
                Some(WatchEvent { event: Some(Event::Reset(true)) })
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.clients().names.remove(&self.id);
    }
}

fn invalidated(effect: &Effect) -> Option<InvalidatedEntry> {
    let (parent, name, old) = match effect {
        Effect::Entry { parent, name, old } => (parent, name, *old),
        Effect::Discovered { parent, name } => (parent, name, None),
        Effect::Mounts => return None,
    };
    let (parent, name) = (parent.0, name.as_bytes().to_vec().into());
    Some(InvalidatedEntry { parent, name, inode: old.map_or(0, |inode| inode.0) })
}

#[cfg(test)]
mod tests {
    use headpond_types::{Epoch, InodeId, Name};

    use super::*;

    fn changed(name: &str) -> Effect {
        Effect::Entry { parent: InodeId(5), name: Name::new(name).expect("a name"), old: Some(InodeId(7)) }
    }

    #[tokio::test]
    async fn a_session_hears_what_changed() {
        let sessions = Arc::new(Sessions::new());
        let mut session = sessions.open("mount@n1".to_owned());
        sessions.tell(9, &[changed("a"), Effect::Mounts]);
        let Some(Event::Invalidation(told)) = session.next().await.and_then(|event| event.event) else {
            panic!("an invalidation")
        };
        assert_eq!((told.entries.len(), told.as_of), (1, 9));
        assert_eq!((told.entries[0].parent, &told.entries[0].name[..], told.entries[0].inode), (5, &b"a"[..], 7));
        assert_eq!(sessions.count(), 1);
        drop(session);
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test]
    async fn a_slow_session_is_told_to_forget_everything() {
        let sessions = Arc::new(Sessions::new());
        let mut session = sessions.open("slow".to_owned());
        for _ in 0..=BACKLOG {
            sessions.tell(9, &[changed("a")]);
        }
        assert_eq!(session.next().await.and_then(|event| event.event), Some(Event::Reset(true)));
        sessions.tell_ring(&Ring { epoch: Epoch(3), members: Vec::new() });
        assert!(matches!(session.next().await.and_then(|event| event.event), Some(Event::Ring(_))));
    }
}
