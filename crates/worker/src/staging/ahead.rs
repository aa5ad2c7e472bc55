//! Sending ahead: the beginning of a file that is written from front to end goes to the under store while the rest is still being written.
//!
//! The client knows what was written; it tells how far the bytes are final in the present *round*. A change of bytes told to be final ends the round, as
//! each persist does, and what was sent in it is used by the persist of that very round or not at all. So what arrives late, or after a
//! restart of the client's call, can do no harm. Whether bytes were sent ahead decides how long a persist takes, never what it stores.

use std::sync::Arc;

use headpond_types::{Error, ErrorKind, Result};
use headpond_ufs::Label;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Stager,
    buffers::Buffers,
    origin::Origin,
    parts::{PART, Parts, Reach, Sender, part_size},
    table::Staged,
    upload::Target,
};

/// An upload of a file's beginning. Dropped, it is aborted in the background.
#[derive(Debug)]
pub(super) struct Ahead {
    target: Target,
    reach: watch::Sender<Reach>,
    sending: AbortOnDropHandle<Result<Parts>>,
}

/// The rounds of a staged file.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// All up to this one are over.
    over: u64,
    /// What is sent ahead, and in which round.
    now: Option<(u64, Ahead)>,
}

impl Rounds {
    /// Sends what lies before `up_to` and was not sent in the round yet. The first such call of a round throws away what was sent before.
    ///
    /// # Errors
    /// `Stale` when the round is over; why nothing more can be sent ahead.
    pub(super) fn tell(
        &mut self,
        (stager, staged): (&Arc<Stager>, &Arc<Staged>),
        (target, label): (Target, Label),
        round: u64,
        up_to: u64,
    ) -> Result<()> {
        let latest = self.now.as_ref().map_or(0, |(latest, _)| *latest);
        if round <= self.over || round < latest {
            let message = format!("round {round} of what is sent ahead to {target} is over");
            return Err(Error::new(ErrorKind::Stale, message));
        }
        match &self.now {
            Some((latest, ahead)) if *latest == round && ahead.target == target => ahead.reach(up_to),
            _ => {
                let (stager, staged) = (Arc::clone(stager), Arc::clone(staged));
                self.now = Some((round, Ahead::begin(stager, staged, (target, label), up_to)));
                Ok(())
            }
        }
    }

    /// Ends the rounds up to `round`; what was sent ahead in that one.
    pub(super) fn take(&mut self, round: u64) -> Option<Ahead> {
        self.over = self.over.max(round);
        let (of, ahead) = self.now.take_if(|(of, _)| *of <= round)?;
        (of == round).then_some(ahead)
    }

    /// Ends all rounds.
    pub(super) fn end(&mut self) {
        drop(self.take(u64::MAX));
    }
}

impl Ahead {
    fn begin(stager: Arc<Stager>, staged: Arc<Staged>, (target, label): (Target, Label), up_to: u64) -> Self {
        let (reach, reached) = watch::channel(Reach { up_to, is_whole: false });
        let tasks = stager.tasks.clone();
        let to = target.clone();
        let sending = tasks.spawn(async move { send(&stager, &staged, (&to, label), reached).await });
        Self { target, reach, sending: AbortOnDropHandle::new(sending) }
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// # Errors
    /// `Unavailable` when sending has failed.
    fn reach(&self, up_to: u64) -> Result<()> {
        if self.sending.is_finished() {
            let message = format!("nothing more can be sent ahead to {}", self.target);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        self.reach.send_modify(|reach| reach.up_to = reach.up_to.max(up_to));
        Ok(())
    }

    /// Sends the rest of a file of `length` bytes. `None` when the file has to be sent anew: shorter than what was to be sent, or sending failed.
    pub(super) async fn finish(self, length: u64) -> Option<Parts> {
        let Self { target, reach, sending } = self;
        if reach.borrow().up_to > length {
            return None;
        }
        reach.send_replace(Reach { up_to: length, is_whole: true });
        let sent = sending
            .await
            .unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "sending a file ahead").with_source(error)));
        sent.inspect_err(|error| {
            tracing::debug!(error = error as &dyn std::error::Error, %target, "what was sent ahead is sent again");
        })
        .ok()
    }
}

async fn send(
    stager: &Stager,
    staged: &Arc<Staged>,
    (target, label): (&Target, Label),
    reach: watch::Receiver<Reach>,
) -> Result<Parts> {
    let store = stager.cluster.mounts.store(target.mount).await?;
    let capabilities = store.capabilities();
    if capabilities.min_part_size == 0 {
        return Err(Error::new(ErrorKind::NotSupported, format!("{target} cannot be stored in parts")));
    }
    let part = part_size(PART, capabilities);
    let origin = Origin::Staged(Arc::clone(staged), None);
    let buffers = Buffers::default();
    Sender { stager, origin: &origin, store: &store, target, buffers }.send(part, reach, label).await
}
