//! The bound on bytes that no store has: a writer that outruns the store waits here.
//!
//! What counts is what dirty contents have, and what staged files have set aside whose mount persists later. Clients set it aside before they stage
//! ([`Room::reserve`]), so nothing that was staged waits for room: making it durable, storing it, ending it. Copies of what is staged at other workers
//! count as they come, and wait for nothing either: what they belong to is counted, and waits, where it is written.
//!
//! * All mounts share the bound, and each has a part that no other fills ([`Account`]): a store that is down stops the writers of its own mount only.
//! * Who waits longest on a mount comes first there, and nobody of that mount passes him by.
//! * Room comes from contents that are persisted and files that end. While some of what fills the bound is to be persisted, writers wait; where
//!   nothing is, as far as the master knows, they are told soon that there is no space: first who has nothing that would come free, then one after the
//!   other, the latest first, as the file that he gives up is room for the others.

mod account;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use headpond_store::PageStore;
use headpond_types::{Error, ErrorKind, MountId, Result};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

pub(crate) use self::account::Dirty;
use self::account::{Account, Bound, Ticket};
use crate::cluster::Cluster;

/// How long one call waits; who asks again keeps his place.
const HOLD: Duration = Duration::from_secs(20);

/// Nothing that makes room for so long, although nothing is to be persisted: none will come. Who waits waits this long at least, in which the master is
/// asked what is not needed any more; and so long it takes until a file that was given up is room.
const STUCK: Duration = Duration::from_secs(30);
const LEAST: Duration = Duration::from_secs(5);

/// Pause between two looks at what nobody tells of: contents that a lost directory had.
const LOOK: Duration = Duration::from_secs(1);

/// Most that is set aside ahead of what is asked for, and of what nobody has asked for yet.
const AHEAD: u64 = 64 << 20;
const FIRST: u64 = 1 << 20;

/// The bound of one worker.
#[derive(Debug)]
pub(crate) struct Room {
    limit: u64,
    /// How long a writer waits while nothing comes free.
    patience: Duration,
    store: Arc<PageStore>,
    cluster: Arc<Cluster>,
    /// A leaf lock.
    account: Mutex<Account>,
    /// Somebody may go on.
    changed: Notify,
    /// Somebody waits: what is not needed any more should be looked for.
    pressed: Notify,
}

/// Gives a place in the line up when dropped.
struct Waiting<'a> {
    room: &'a Room,
    mount: MountId,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.room.account().share(self.mount).line.remove(&self.ticket);
        self.room.changed.notify_waiters();
    }
}

impl Room {
    /// At most `limit` bytes, shared by the mounts of `cluster`; a writer waits for `patience` while nothing comes free.
    pub(crate) fn new(limit: u64, patience: Duration, store: Arc<PageStore>, cluster: Arc<Cluster>) -> Self {
        let account = Mutex::default();
        Self { limit, patience, store, cluster, account, changed: Notify::new(), pressed: Notify::new() }
    }

    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// What is set aside for staged files.
    pub(crate) fn reserved(&self) -> u64 {
        self.account().reserved()
    }

    /// Writers that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.account().waiting()
    }

    /// The most that one file of a mount can have set aside.
    pub(super) fn most(&self, mount: MountId) -> u64 {
        self.bound().most(mount)
    }

    /// Sets `more` bytes aside for a file of `mount` that has `held`, as soon as there is room, and some beyond if there is plenty: how many. Who asks has
    /// waited for `waited` before. Cancel-safe.
    ///
    /// # Errors
    /// `Busy` when there was no room in time: ask again; `ResourceExhausted` when none will come.
    pub(super) async fn reserve(&self, mount: MountId, (held, more): (u64, u64), waited: Duration) -> Result<u64> {
        let total = held.saturating_add(more);
        let now = Instant::now();
        let waiting = self.enter(mount, now.checked_sub(waited).unwrap_or(now), held);
        let ahead = total.clamp(FIRST, AHEAD).min(self.limit / 16);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(taken) = self.try_take(&waiting, more, ahead) {
                return Ok(taken);
            }
            self.pressed.notify_one();
            self.check(&waiting)?;
            tokio::select! {
                () = changed => {}
                () = sleep(LOOK) => {}
                () = sleep_until(now + HOLD) => {
                    let message = format!("no room below the {} bytes that may wait for the store yet: try again", self.limit);
                    return Err(Error::new(ErrorKind::Busy, message));
                }
            }
        }
    }

    /// Sets bytes aside of which it is not known yet whether they are wanted, if nobody of the mount waits: how many.
    pub(super) fn offer(&self, mount: MountId) -> u64 {
        let bound = self.bound();
        let mut account = self.account();
        let free = account.free(mount, &bound);
        let share = account.share(mount);
        if !share.line.is_empty() {
            return 0;
        }
        let offered = FIRST.min(self.limit / 64).min(free / 4);
        share.reserved += offered;
        offered
    }

    /// Counts bytes that were staged without having been set aside.
    pub(super) fn count(&self, mount: MountId, bytes: u64) {
        self.account().share(mount).reserved += bytes;
    }

    /// Gives back what was set aside for a file that has ended.
    pub(super) fn give_back(&self, mount: MountId, bytes: u64) {
        let mut account = self.account();
        let share = account.share(mount);
        share.reserved -= bytes;
        share.go_on();
        drop(account);
        self.changed.notify_waiters();
    }

    /// Waits until somebody waits for room. One waiter.
    pub(crate) async fn pressed(&self) {
        self.pressed.notified().await;
    }

    /// What the master says of the dirty contents, by mount, and whether any of no mount yet `is_coming`.
    pub(crate) fn told(&self, dirty: &HashMap<MountId, Dirty>, is_coming: bool) {
        let bound = self.bound();
        self.account().told(dirty, is_coming, &bound, Instant::now() + STUCK);
        self.changed.notify_waiters();
    }

    fn enter(&self, mount: MountId, since: Instant, held: u64) -> Waiting<'_> {
        let mut account = self.account();
        let ticket = (since, account.next_number());
        account.share(mount).line.insert(ticket, held);
        drop(account);
        Waiting { room: self, mount, ticket }
    }

    fn try_take(&self, Waiting { mount, ticket, .. }: &Waiting<'_>, bytes: u64, ahead: u64) -> Option<u64> {
        let bound = self.bound();
        let mut account = self.account();
        let free = account.free(*mount, &bound);
        let share = account.share(*mount);
        if share.line.first_key_value().map(|(first, _)| first) != Some(ticket) || bytes > free {
            return None;
        }
        let taken = bytes + ahead.min((free - bytes) / 4);
        share.reserved += taken;
        share.go_on();
        drop(account);
        Some(taken)
    }

    /// # Errors
    /// `ResourceExhausted` when no room will come.
    fn check(&self, Waiting { mount, ticket, .. }: &Waiting<'_>) -> Result<()> {
        let (since, _) = *ticket;
        let now = Instant::now();
        let mut account = self.account();
        let share = account.share(*mount);
        let is_stuck = now >= since + LEAST && share.stuck.is_some_and(|stuck| stuck <= now);
        let message = if is_stuck && share.gives_up_first(ticket) {
            // What he gives up, if he does, is waited for before the next is told.
            if share.line.get(ticket).is_some_and(|held| *held > 0) {
                share.stuck = Some(now + LEAST);
            }
            format!(
                "the {} bytes that may wait for the store are taken, and nothing that this mount could have them from is to be persisted now, as what \
                 is scratch, deferred or still open: remove some, persist them with `headpond fs persist`, or raise worker.dirty_limit",
                self.limit
            )
        } else if now >= share.waits_since(since) + self.patience {
            format!(
                "the {} bytes that may wait for the store are taken, and it took nothing of this mount within {} s: `headpond admin problems` says why, \
                 worker.dirty_limit bounds them",
                self.limit,
                self.patience.as_secs()
            )
        } else {
            return Ok(());
        };
        let is_news = !std::mem::replace(&mut share.is_told, true);
        drop(account);
        if is_news {
            tracing::warn!(%mount, dirty = self.store.dirty_bytes(), "writers are told that there is no space: {message}");
        }
        Err(Error::new(ErrorKind::ResourceExhausted, message))
    }

    fn bound(&self) -> Bound {
        Bound { limit: self.limit, dirty: self.store.dirty_bytes(), mounts: self.cluster.mounts.persisting_later() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests;
