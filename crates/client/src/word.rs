//! What a client says in its session: what it, and the caches above it, have carried out.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, stream};
use headpond_proto::v1::WatchRequest;
use tokio::sync::Notify;

/// What is to be said in one session.
#[derive(Debug, Default)]
pub(crate) struct Words {
    next: Mutex<WatchRequest>,
    ended: AtomicBool,
    news: Notify,
}

/// Ends what is said when dropped: until then the connection keeps a session whose events nobody takes any more.
#[derive(Debug, Default)]
pub(crate) struct Speaker(pub(crate) Arc<Words>);

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.news.notify_one();
    }
}

impl Words {
    /// What is said when there is something to say, until the speaker goes.
    pub(crate) fn stream(self: Arc<Self>, first: WatchRequest) -> impl Stream<Item = WatchRequest> + Send + 'static {
        stream::unfold((self, Some(first)), |(words, first)| async move {
            if let Some(first) = first {
                return Some((first, (words, None)));
            }
            loop {
                if words.ended.load(Ordering::SeqCst) {
                    return None;
                }
                let next = std::mem::take(&mut *words.lock());
                if next != WatchRequest::default() {
                    return Some((next, (words, None)));
                }
                words.news.notified().await;
            }
        })
    }

    /// Others cache on top of the client.
    pub(crate) fn cached_above(&self) {
        self.lock().cached_above = true;
        self.news.notify_one();
    }

    /// The session goes on.
    pub(crate) fn are_heard(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    /// Nothing is believed any more.
    pub(crate) fn leave(&self) {
        self.lock().leave = true;
        self.news.notify_one();
    }

    fn taken(&self, ticket: u64) {
        self.lock().taken.push(ticket);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, WatchRequest> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody may wait until all that is asked for by an event is carried out: until the last clone of this is dropped.
///
/// Who cannot carry it out [withholds](Self::withhold) it, and the wait goes on until what is cached is not valid any more. All are equal: this is no
/// part of what happened.
#[derive(Clone, Default)]
pub struct Awaited(Option<Arc<Ticket>>);

struct Ticket {
    words: Arc<Words>,
    ticket: u64,
    withheld: AtomicBool,
}

impl Awaited {
    /// With the ticket of an invalidation; 0: nobody waits.
    pub(crate) fn new(words: &Arc<Words>, ticket: u64) -> Self {
        let words = Arc::clone(words);
        Self((ticket != 0).then(|| Arc::new(Ticket { words, ticket, withheld: AtomicBool::new(false) })))
    }

    /// Whether somebody waits.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// It cannot be carried out.
    pub fn withhold(&self) {
        if let Some(ticket) = &self.0 {
            ticket.withheld.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !*self.withheld.get_mut() {
            self.words.taken(self.ticket);
        }
    }
}

impl PartialEq for Awaited {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Awaited {}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Awaited").field(&self.0.as_ref().map(|ticket| ticket.ticket)).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_ticket_is_taken_when_its_last_holder_lets_go() {
        let speaker = Speaker::default();
        let words = Arc::clone(&speaker.0);
        let mut said = std::pin::pin!(Arc::clone(&words).stream(WatchRequest::default()));
        said.next().await.expect("the first");
        let first = Awaited::new(&words, 1);
        let (second, again) = (Awaited::new(&words, 2), first.clone());
        drop(first);
        drop(second);
        assert_eq!(said.next().await.expect("goes on").taken, [2]);
        drop(Awaited::new(&words, 0));
        let withheld = Awaited::new(&words, 3);
        withheld.withhold();
        drop(withheld);
        drop(again);
        words.cached_above();
        let last = said.next().await.expect("goes on");
        assert_eq!((last.taken, last.cached_above), (vec![1], true));
        drop(speaker);
        assert_eq!(said.next().await, None);
    }
}
