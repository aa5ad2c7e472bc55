//! Requests that were never answered: the store may carry them out later, also those of a master before this one.
//!
//! An upload can be aborted, so that it becomes no object any more. A PUT cannot, nor a deletion without a condition: after a look that finds nothing there may
//! be an object, and what was put after a deletion seemed to be over may be deleted. So nothing is moved or deleted in a mount before the time is over in
//! which a store carries out what it took:
//!
//! * from the start of a master on, where one before it left objects that are to be moved or deleted;
//! * from a failure on that says nothing of what was done.
//!
//! Until then all keys in question are known as nobody's, in the journal: those of copies since before they were made, those of sources since the copies were
//! journalled, and those of what is removed with its directory as long as that is to be moved or deleted. No new file is put there
//! ([`first_key`](crate::write::first_key)), no listing is believed there, and whoever removes, renames or writes a file meanwhile does that where its
//! object is known to be, which is none of these keys. So the look that comes after finds what came late, and deletes it if it is nobody's. Then the same
//! master, or one that starts once more, may go on as if all had been answered.
//!
//! The time costs nothing where nothing is left at a start and all is answered.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_namespace::Snapshot;
use headpond_types::{ErrorKind, MountId, Result};
use headpond_ufs::Capabilities;
use tokio::time::{Instant, sleep_until};

use super::Relocator;

/// How much later a store may carry out what was asked of it by who is gone, or waits no more.
pub(crate) const LATE: Duration = Duration::from_secs(5);

/// The mounts in whose stores something may still be carried out, and until when.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// Never held across an await.
    until: Mutex<BTreeMap<MountId, Instant>>,
}

/// A request under way; dropped, it has no answer.
#[derive(Debug)]
pub(super) struct Asked<'u> {
    unanswered: &'u Unanswered,
    mount: Option<MountId>,
}

impl Unanswered {
    /// At the start of a master that has done nothing yet: what one before it may have asked for.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn at_start(snapshot: &Snapshot) -> Result<Self> {
        let until = Instant::now() + LATE;
        let mut mounts: BTreeMap<_, _> =
            snapshot.relocations()?.into_iter().map(|relocation| (relocation.mount, until)).collect();
        for mount in snapshot.mounts()? {
            if !snapshot.left_objects(mount.id)?.is_empty() {
                mounts.insert(mount.id, until);
            }
        }
        Ok(Self { until: Mutex::new(mounts) })
    }

    /// Something is about to be asked of the store of `mount`.
    pub(super) const fn ask(&self, mount: MountId) -> Asked<'_> {
        Asked { unanswered: self, mount: Some(mount) }
    }

    fn note(&self, mount: MountId) {
        self.all().insert(mount, Instant::now() + LATE);
    }

    /// When nothing is carried out any more that was asked of the store of `mount` by now; `None`: it is so already.
    fn until(&self, mount: MountId) -> Option<Instant> {
        let mut all = self.all();
        let until = *all.get(&mount)?;
        if until <= Instant::now() {
            all.remove(&mount);
            return None;
        }
        Some(until)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<MountId, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// Hands on how it went. A failure may be none.
    pub(super) fn answered<T>(mut self, answer: Result<T>) -> Result<T> {
        let is_refused = |kind| {
            use ErrorKind::{InvalidArgument, NameTooLong, NotSupported, StoreRefused};
            matches!(kind, StoreRefused | NotSupported | InvalidArgument | NameTooLong)
        };
        if answer.as_ref().is_ok() || answer.as_ref().is_err_and(|error| is_refused(error.kind())) {
            self.mount = None;
        }
        answer
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(mount) = self.mount.take() {
            self.unanswered.note(mount);
        }
    }
}

impl Relocator {
    /// Waits until the store of `mount` carries out nothing any more that it was asked for and has not answered.
    ///
    /// # Errors
    /// When there is no store.
    pub(super) async fn settle(&self, mount: MountId) -> Result<()> {
        while let Some(until) = self.unanswered.until(mount) {
            if !may_be_late(self.store(mount).await?.capabilities()) {
                break;
            }
            sleep_until(until).await;
        }
        Ok(())
    }
}

/// Whether a store is asked for anything that does not end with who asked, and is not given up before it is done again: the drivers that take every
/// condition do what they are asked for within this process.
fn may_be_late(can: &Capabilities) -> bool {
    can.copy_through.is_some() || !can.conditional_delete
}

#[cfg(test)]
mod tests {
    use headpond_types::Error;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_has_no_answer_is_waited_for() {
        let unanswered = Unanswered { until: Mutex::default() };
        let (one, other) = (MountId(1), MountId(2));
        unanswered.ask(one).answered(Ok(())).expect("answered");
        let refused = Err::<(), _>(Error::new(ErrorKind::StoreRefused, "no"));
        unanswered.ask(one).answered(refused).expect_err("refused");
        assert_eq!(unanswered.until(one), None);
        drop(unanswered.ask(one));
        tokio::time::advance(LATE / 2).await;
        let failed = Err::<(), _>(Error::new(ErrorKind::Unavailable, "no answer"));
        unanswered.ask(one).answered(failed).expect_err("failed");
        assert_eq!(unanswered.until(one), Some(Instant::now() + LATE), "the last counts");
        assert_eq!(unanswered.until(other), None);
        tokio::time::advance(LATE).await;
        assert_eq!(unanswered.until(one), None);
    }
}
