//! The bound on bytes that no store has: a writer that outruns the store waits here.
//!
//! What counts is what dirty contents have, and what staged files have set aside whose mount persists later. Clients set it aside before they stage
//! ([`Room::reserve`]), so nothing that was staged waits for room: making it durable, storing it, ending it. Copies of what is staged at other workers
//! count as they come, and wait for nothing either: what they belong to is counted, and waits, where it is written.
//!
//! * Who waits longest comes first, and nobody passes him by.
//! * Room comes from contents that are persisted and files that end. While some of what fills the bound is to be persisted, writers wait; where
//!   nothing is, as far as the master knows, they are told soon that there is no space.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use headpond_store::PageStore;
use headpond_types::{Error, ErrorKind, Result};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

/// How long one call waits; who asks again keeps his place.
const HOLD: Duration = Duration::from_secs(20);

/// Nothing that makes room for so long, although nothing is to be persisted: none will come. Who waits waits this long at least, in which the master is
/// asked what is not needed any more.
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
    /// A leaf lock, but for what the store takes to count.
    account: Mutex<Account>,
    /// Somebody may go on.
    changed: Notify,
    /// Somebody waits: what is not needed any more should be looked for.
    pressed: Notify,
}

/// Who waits: since when, and a number.
type Ticket = (Instant, u64);

#[derive(Debug)]
struct Account {
    /// Set aside for staged files.
    reserved: u64,
    line: BTreeSet<Ticket>,
    next: u64,
    /// When something came free last.
    freed: Instant,
    /// Since when nothing that fills the bound is to be persisted.
    stuck: Option<Instant>,
    /// Somebody was told that no room will come, since something came free last.
    is_told: bool,
}

/// Gives a place in the line up when dropped.
struct Waiting<'a> {
    room: &'a Room,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.room.account().line.remove(&self.ticket);
        self.room.changed.notify_waiters();
    }
}

impl Room {
    /// At most `limit` bytes; a writer waits for `patience` while nothing comes free.
    pub(crate) fn new(limit: u64, patience: Duration, store: Arc<PageStore>) -> Self {
        let account =
            Account { reserved: 0, line: BTreeSet::new(), next: 0, freed: Instant::now(), stuck: None, is_told: false };
        Self { limit, patience, store, account: Mutex::new(account), changed: Notify::new(), pressed: Notify::new() }
    }

    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// What is set aside for staged files.
    pub(crate) fn reserved(&self) -> u64 {
        self.account().reserved
    }

    /// Writers that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.account().line.len()
    }

    /// Sets `more` bytes aside for a file that has `held`, as soon as there is room, and some beyond if there is plenty: how many. Who asks has waited
    /// for `waited` before. Cancel-safe.
    ///
    /// # Errors
    /// `Busy` when there was no room in time: ask again; `ResourceExhausted` when none will come.
    pub(super) async fn reserve(&self, held: u64, more: u64, waited: Duration) -> Result<u64> {
        let total = held.saturating_add(more);
        if total > self.limit {
            let message = format!(
                "a file of {total} bytes does not fit below the {} bytes that may wait for the store: raise worker.dirty_limit, or have the file \
                 persisted `through`",
                self.limit
            );
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        let now = Instant::now();
        let waiting = self.enter(now.checked_sub(waited).unwrap_or(now));
        let ahead = total.clamp(FIRST, AHEAD).min(self.limit / 16);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(taken) = self.try_take(waiting.ticket, more, ahead) {
                return Ok(taken);
            }
            self.pressed.notify_one();
            self.check(waiting.ticket)?;
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

    /// Sets bytes aside of which it is not known yet whether they are wanted, if nobody waits: how many.
    pub(super) fn offer(&self) -> u64 {
        let mut account = self.account();
        if !account.line.is_empty() {
            return 0;
        }
        let offered = FIRST.min(self.limit / 64).min(self.free(&account) / 4);
        account.reserved += offered;
        offered
    }

    /// Counts bytes that were staged without having been set aside.
    pub(super) fn count(&self, bytes: u64) {
        self.account().reserved += bytes;
    }

    /// Gives back what was set aside for a file that has ended.
    pub(super) fn give_back(&self, bytes: u64) {
        self.account().reserved -= bytes;
        self.freed();
    }

    /// Contents are not dirty any more, or files have ended.
    pub(crate) fn freed(&self) {
        let mut account = self.account();
        (account.freed, account.stuck, account.is_told) = (Instant::now(), None, false);
        drop(account);
        self.changed.notify_waiters();
    }

    /// Waits until somebody waits for room. One waiter.
    pub(crate) async fn pressed(&self) {
        self.pressed.notified().await;
    }

    /// What is known of the dirty contents: whether any of them `is_due`.
    pub(crate) fn told(&self, is_due: bool) {
        let mut account = self.account();
        account.stuck = (!is_due).then(|| account.stuck.unwrap_or_else(Instant::now));
    }

    fn enter(&self, since: Instant) -> Waiting<'_> {
        let mut account = self.account();
        account.next += 1;
        let ticket = (since, account.next);
        account.line.insert(ticket);
        drop(account);
        Waiting { room: self, ticket }
    }

    fn try_take(&self, ticket: Ticket, bytes: u64, ahead: u64) -> Option<u64> {
        let mut account = self.account();
        let free = self.free(&account);
        if account.line.first() != Some(&ticket) || bytes > free {
            return None;
        }
        let taken = bytes + ahead.min((free - bytes) / 4);
        account.reserved += taken;
        drop(account);
        Some(taken)
    }

    /// # Errors
    /// `ResourceExhausted` when no room will come.
    fn check(&self, (since, _): Ticket) -> Result<()> {
        let mut account = self.account();
        let idle = since.max(account.freed).elapsed();
        let is_stuck = since.elapsed() >= LEAST && account.stuck.is_some_and(|stuck| stuck.elapsed() >= STUCK);
        let limit = self.limit;
        let message = if is_stuck {
            format!(
                "{limit} bytes wait for the store and none of them is to be persisted now, as what is scratch, deferred or still open: remove some, \
                 persist them with `headpond fs persist`, or raise worker.dirty_limit"
            )
        } else if idle >= self.patience {
            format!(
                "{limit} bytes wait for the store, which took nothing within {} s: `headpond admin problems` says why, worker.dirty_limit bounds them",
                self.patience.as_secs()
            )
        } else {
            return Ok(());
        };
        let is_news = !std::mem::replace(&mut account.is_told, true);
        drop(account);
        if is_news {
            tracing::warn!(dirty = self.store.dirty_bytes(), "writers are told that there is no space: {message}");
        }
        Err(Error::new(ErrorKind::ResourceExhausted, message))
    }

    fn free(&self, account: &Account) -> u64 {
        self.limit.saturating_sub(account.reserved.saturating_add(self.store.dirty_bytes()))
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests;
