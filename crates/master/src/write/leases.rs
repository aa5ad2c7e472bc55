//! Write leases: who may write the next version of a file. One holder at a time, for a term that the holder renews.
//!
//! Leases are in memory only: after a restart of the master all are lost, and writers learn so when they renew. While a lease has a
//! *persist* under way, which is from the grant for it to its commit or the end of the lease, the file's object may be replaced by the store at
//! any moment, so nobody moves or removes it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_types::{ContentId, Error, ErrorKind, InodeId, RequestId, Result};
use tokio::{sync::watch, time::Instant};

/// What a holder was last allowed to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Persist {
    /// What the bytes are called.
    pub(crate) content: ContentId,
    /// Key relative to the mount's prefix; `None`: workers are to hold the bytes.
    pub(crate) key: Option<Vec<u8>>,
}

/// The leases.
#[derive(Debug)]
pub(crate) struct Leases {
    term: Duration,
    /// Never held across an await.
    state: Mutex<State>,
    /// Counts leases and persists that ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    leases: HashMap<u64, Lease>,
    holders: HashMap<InodeId, u64>,
}

#[derive(Debug)]
struct Lease {
    inode: InodeId,
    /// The request that it answers; the same again gets it again. None of one that was reclaimed.
    request: Option<RequestId>,
    expires: Instant,
    persist: Option<Persist>,
    /// What the holder may have workers hold without asking again. Nobody waits for that: a commit of it takes the file as it is by then.
    offered: Option<ContentId>,
    /// The number below which all is to be in the store before this file is.
    after: Option<u64>,
    /// What is written is persisted before it is acknowledged, whatever the mount says.
    is_through: bool,
}

impl Leases {
    /// None yet; each will last for `term` unless it is renewed.
    pub(crate) fn new(term: Duration) -> Self {
        Self { term, state: Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// How long a lease lasts without being renewed.
    pub(crate) const fn term(&self) -> Duration {
        self.term
    }

    /// A lease of `inode`, or that which `request` got before; `None` while another holds one.
    pub(crate) fn acquire(&self, inode: InodeId, request: RequestId) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(id) = state.holders.get(&inode).copied() {
            let lease = state.leases.get_mut(&id)?;
            if lease.request == Some(request) {
                lease.expires = now + self.term;
                return Some(id);
            }
            return None;
        }
        let id = loop {
            let id = rand::random();
            if id != 0 && !state.leases.contains_key(&id) {
                break id;
            }
        };
        state.leases.insert(
            id,
            Lease {
                inode,
                request: Some(request),
                expires: now + self.term,
                persist: None,
                offered: None,
                after: None,
                is_through: false,
            },
        );
        state.holders.insert(inode, id);
        drop(state);
        Some(id)
    }

    /// Makes a lease that is lost valid again, with nothing being persisted; whether it was held all the time. `None` while another is held.
    pub(crate) fn reclaim(&self, id: u64, inode: InodeId) -> Option<bool> {
        let expires = Instant::now() + self.term;
        let mut state = self.state();
        match state.holders.get(&inode) {
            Some(holder) if *holder != id => None,
            Some(_) => {
                state.leases.get_mut(&id)?.expires = expires;
                Some(true)
            }
            None if state.leases.contains_key(&id) => None,
            None => {
                let lease = Lease {
                    inode,
                    request: None,
                    expires,
                    persist: None,
                    offered: None,
                    after: None,
                    is_through: false,
                };
                state.leases.insert(id, lease);
                state.holders.insert(inode, id);
                Some(false)
            }
        }
    }

    /// Keeps leases for another term; gives those that are lost.
    pub(crate) fn renew(&self, ids: &[u64]) -> Vec<u64> {
        let until = Instant::now() + self.term;
        let mut state = self.state();
        let mut lost = ids.to_vec();
        lost.retain(|id| match state.leases.get_mut(id) {
            Some(lease) => {
                lease.expires = until;
                false
            }
            None => true,
        });
        lost
    }

    /// The file of a lease.
    ///
    /// # Errors
    /// `Stale` when the lease is lost.
    pub(crate) fn inode(&self, id: u64) -> Result<InodeId> {
        self.state().leases.get(&id).map(|lease| lease.inode).ok_or_else(lost)
    }

    /// Whether somebody writes `inode`.
    pub(crate) fn is_held(&self, inode: InodeId) -> bool {
        self.state().holders.contains_key(&inode)
    }

    /// Begins a persist; an earlier one of the lease counts no more.
    ///
    /// # Errors
    /// As for [`Leases::inode`].
    pub(crate) fn begin_persist(&self, id: u64, persist: Persist) -> Result<()> {
        let mut state = self.state();
        let lease = state.leases.get_mut(&id).ok_or_else(lost)?;
        lease.persist = Some(persist);
        lease.offered = None;
        lease.after = None;
        lease.expires = lease.expires.max(Instant::now() + self.term);
        Ok(())
    }

    /// Has the holder's next persist need no [`Leases::begin_persist`], if none has begun; the same again for a repeated request.
    pub(crate) fn offer(&self, id: u64, content: ContentId) -> Option<ContentId> {
        let mut state = self.state();
        let lease = state.leases.get_mut(&id)?;
        if lease.persist.is_some() || lease.is_through {
            return None;
        }
        Some(*lease.offered.get_or_insert(content))
    }

    /// From now on what is written under a lease is persisted before it is acknowledged.
    ///
    /// # Errors
    /// As for [`Leases::inode`].
    pub(crate) fn write_through(&self, id: u64) -> Result<()> {
        let mut state = self.state();
        let lease = state.leases.get_mut(&id).ok_or_else(lost)?;
        lease.is_through = true;
        lease.offered = None;
        Ok(())
    }

    /// Whether it is.
    pub(crate) fn is_through(&self, id: u64) -> bool {
        self.state().leases.get(&id).is_some_and(|lease| lease.is_through)
    }

    /// The number below which all has to be in the store before the file of a lease is: that of its first try, which is `now`.
    ///
    /// # Errors
    /// As for [`Leases::inode`].
    pub(crate) fn comes_after(&self, id: u64, now: u64) -> Result<u64> {
        Ok(*self.state().leases.get_mut(&id).ok_or_else(lost)?.after.get_or_insert(now))
    }

    /// Whether a persist under way is to store an object of `inode`.
    pub(crate) fn is_storing(&self, inode: InodeId) -> bool {
        let state = self.state();
        let lease = state.holders.get(&inode).and_then(|id| state.leases.get(id));
        lease.and_then(|lease| lease.persist.as_ref()).is_some_and(|persist| persist.key.is_some())
    }

    /// Whether a persist under way is to have workers hold `content`.
    pub(crate) fn needs(&self, content: ContentId) -> bool {
        let state = self.state();
        let is_of = |lease: &Lease| {
            lease.persist.as_ref().is_some_and(|persist| persist.content == content) || lease.offered == Some(content)
        };
        state.leases.values().any(is_of)
    }

    /// The persist of a lease with its file, for a commit of `content`.
    ///
    /// # Errors
    /// As for [`Leases::inode`]; also when no persist is under way.
    pub(crate) fn persist(&self, id: u64, content: ContentId) -> Result<(InodeId, Persist)> {
        let state = self.state();
        let lease = state.leases.get(&id).ok_or_else(lost)?;
        if lease.offered == Some(content) {
            return Ok((lease.inode, Persist { content, key: None }));
        }
        let persist = lease.persist.clone().ok_or_else(|| {
            Error::new(ErrorKind::Stale, "nothing is being persisted under this write lease: persist again")
        })?;
        Ok((lease.inode, persist))
    }

    /// The persist `content` of a lease is over.
    pub(crate) fn end_persist(&self, id: u64, content: ContentId) {
        if let Some(lease) = self.state().leases.get_mut(&id) {
            lease.persist = lease.persist.take().filter(|persist| persist.content != content);
            lease.offered = lease.offered.filter(|offered| *offered != content);
        }
        self.tell();
    }

    /// Whether a persist of `inode` is under way.
    pub(crate) fn is_persisting(&self, inode: InodeId) -> bool {
        let state = self.state();
        let lease = state.holders.get(&inode).and_then(|id| state.leases.get(id));
        lease.is_some_and(|lease| lease.persist.is_some())
    }

    /// Whether something is being persisted at `key`, relative to its mount's prefix.
    pub(crate) fn is_persisting_at(&self, key: &[u8]) -> bool {
        let state = self.state();
        state
            .leases
            .values()
            .filter_map(|lease| lease.persist.as_ref())
            .any(|persist| persist.key.as_deref() == Some(key))
    }

    /// The files of which persists are under way.
    pub(crate) fn persisting(&self) -> Vec<InodeId> {
        let state = self.state();
        state.leases.values().filter(|lease| lease.persist.is_some()).map(|lease| lease.inode).collect()
    }

    /// Ends a lease; gives its file.
    pub(crate) fn end(&self, id: u64) -> Option<InodeId> {
        let inode = {
            let mut state = self.state();
            let lease = state.leases.remove(&id)?;
            state.holders.remove(&lease.inode);
            lease.inode
        };
        self.tell();
        Some(inode)
    }

    /// Ends the lease of a file that is gone.
    pub(crate) fn end_of(&self, inode: InodeId) {
        let id = self.state().holders.get(&inode).copied();
        if let Some(id) = id {
            self.end(id);
        }
    }

    /// Leases that were not renewed in time, as of `now`.
    pub(crate) fn expired(&self, now: Instant) -> Vec<u64> {
        let state = self.state();
        state.leases.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, _)| *id).collect()
    }

    /// The files that somebody may write.
    pub(crate) fn held(&self) -> Vec<InodeId> {
        self.state().holders.keys().copied().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.state().leases.len() as u64
    }

    /// Tells of every lease and persist that ends from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    fn tell(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost() -> Error {
    let message =
        "the write lease is lost: it was not renewed in time, the file was removed, or the master was restarted";
    Error::new(ErrorKind::Stale, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn one_holder_at_a_time_for_a_term() {
        let leases = Leases::new(TERM);
        let (file, first, second) = (InodeId(5), RequestId(1), RequestId(2));
        let id = leases.acquire(file, first).expect("free");
        assert_eq!(leases.acquire(file, first), Some(id), "the same request");
        assert_eq!(leases.acquire(file, second), None);
        tokio::time::advance(TERM / 2).await;
        assert_eq!(leases.renew(&[id, id + 1]), [id + 1]);
        tokio::time::advance(TERM / 2).await;
        assert!(leases.expired(Instant::now()).is_empty());
        tokio::time::advance(TERM / 2).await;
        assert_eq!(leases.expired(Instant::now()), [id]);
        assert_eq!(leases.end(id), Some(file));
        assert_eq!(leases.inode(id).expect_err("lost").kind(), ErrorKind::Stale);
        assert!(leases.acquire(file, second).is_some());
    }

    #[tokio::test]
    async fn what_is_offered_is_in_nobodys_way_and_counts_until_a_persist_begins() {
        let leases = Leases::new(TERM);
        let (file, offered) = (InodeId(5), ContentId(1));
        let id = leases.acquire(file, RequestId(1)).expect("free");
        assert_eq!(leases.offer(id, offered), Some(offered));
        assert_eq!(leases.offer(id, ContentId(2)), Some(offered), "the same for a repeated request");
        assert!(leases.needs(offered) && !leases.is_persisting(file));
        assert_eq!(leases.persist(id, offered).expect("offered"), (file, Persist { content: offered, key: None }));
        leases.begin_persist(id, Persist { content: ContentId(3), key: None }).expect("held");
        assert_ne!(leases.persist(id, offered).expect("another").1.content, offered);
        assert!(!leases.needs(offered) && leases.offer(id, offered).is_none());
    }

    #[tokio::test]
    async fn a_persist_ends_with_its_commit_or_its_lease() {
        let leases = Leases::new(TERM);
        let file = InodeId(5);
        let id = leases.acquire(file, RequestId(1)).expect("free");
        assert!(leases.persist(id, ContentId(1)).is_err() && !leases.is_persisting(file));
        let persist = |content| Persist { content: ContentId(content), key: Some(b"a".to_vec()) };
        leases.begin_persist(id, persist(1)).expect("held");
        leases.begin_persist(id, persist(2)).expect("held");
        leases.end_persist(id, ContentId(1));
        assert_eq!(leases.persist(id, ContentId(2)).expect("under way"), (file, persist(2)));
        leases.end_persist(id, ContentId(2));
        assert!(!leases.is_persisting(file));
        leases.begin_persist(id, persist(3)).expect("held");
        let mut ended = leases.watch();
        leases.end_of(file);
        assert!(ended.has_changed().expect("open") && leases.persisting().is_empty());
        ended.mark_unchanged();
    }
}
