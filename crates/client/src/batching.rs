//! Lookups of concurrent callers in one call, which costs both sides a fraction of as many calls.
//!
//! A few lookups go out by themselves, so one caller after the other waits for nobody. What comes while they are under way
//! goes in batches: one at a time, each with all that gathered during the one before. The master answers a batch from its memory;
//! names that an under store has to be asked about come back unanswered, and their callers ask for them alone. So no caller waits for
//! the store of another.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use headpond_proto::v1::{self, lookup_result};
use headpond_types::{InodeId, Name};
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};

use crate::{
    Lookup,
    master::{self, Retry},
    metadata::attr_of,
    shared::Shared,
};

/// Lookups that go out by themselves at a time.
const ALONE: usize = 2;

/// Names in a batch at most: 50 KiB of request.
const BATCH: usize = 500;

/// How long a batch may take, which is answered from memory, before its callers ask alone.
const PATIENCE: Duration = Duration::from_secs(1);

/// The batches of one client.
#[derive(Debug)]
pub(crate) struct Batches {
    alone: Semaphore,
    /// Held for a few instructions.
    gathering: Mutex<Gathering>,
}

#[derive(Debug, Default)]
struct Gathering {
    /// A batch is under way; who gathers meanwhile goes with the next.
    under_way: bool,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    parent: InodeId,
    name: Bytes,
    /// Dropped: the caller has to ask alone.
    answer: oneshot::Sender<Lookup>,
}

/// How a lookup is to be made.
pub(crate) enum Way<'a> {
    /// By itself; the permit is to be held meanwhile.
    Alone(Option<SemaphorePermit<'a>>),
    /// It was made.
    Answered(Lookup),
}

impl Batches {
    pub(crate) fn new() -> Self {
        Self { alone: Semaphore::new(ALONE), gathering: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a lookup in a batch, unless it had better be made alone. Cancel-safe.
pub(crate) async fn lookup<'a>(shared: &'a Arc<Shared>, parent: InodeId, name: &Name) -> Way<'a> {
    if let Ok(permit) = shared.batches.alone.try_acquire() {
        return Way::Alone(Some(permit));
    }
    let (answer, answered) = oneshot::channel();
    let waiting = Waiting { parent, name: Bytes::copy_from_slice(name.as_bytes()), answer };
    let is_first = {
        let mut gathering = shared.batches.lock();
        gathering.waiting.push(waiting);
        !mem::replace(&mut gathering.under_way, true)
    };
    if is_first {
        let run = Run(Arc::clone(shared));
        // Not in this caller's future: dropping it must not end what others wait for.
        drop(shared.tasks.spawn(run.until_nobody_waits()));
    }
    match answered.await {
        Ok(found) => Way::Answered(found),
        Err(_) => Way::Alone(None),
    }
}

/// Batches one after the other until nobody waits. However it ends, whoever waits is sent away.
struct Run(Arc<Shared>);

impl Run {
    async fn until_nobody_waits(self) {
        loop {
            let batch = {
                let mut gathering = self.0.batches.lock();
                let rest = gathering.waiting.len().min(BATCH);
                let rest = gathering.waiting.split_off(rest);
                mem::replace(&mut gathering.waiting, rest)
            };
            if batch.is_empty() {
                // What came since finds the batches ended, or is sent away.
                return;
            }
            self.make(batch).await;
        }
    }

    async fn make(&self, batch: Vec<Waiting>) {
        let Self(shared) = self;
        let ticket = shared.cache.ticket();
        let lookups: Vec<_> = batch
            .iter()
            .map(|Waiting { parent, name, .. }| v1::LookupRequest {
                parent: parent.0,
                name: name.clone(),
                caller: shared.caller.clone(),
                refresh: false,
            })
            .collect();
        let call = |channel| {
            let request = v1::BatchLookupRequest { lookups: lookups.clone(), known_only: true };
            async move { master::namespace(channel).batch_lookup(request).await }
        };
        let answers = timeout(PATIENCE, shared.masters.call("lookup", Retry::No, call)).await;
        // Those who are told nothing learn by themselves what is wrong.
        let Ok(Ok(answers)) = answers else { return };
        for (waiting, result) in batch.into_iter().zip(answers.results) {
            let Some(lookup_result::Result::Found(found)) = result.result else { continue };
            let Ok(attr) = attr_of(found.attr) else { continue };
            let answered = ticket.answered(found.as_of, Duration::from_millis(found.valid_ms));
            let found = shared.cache.put_name(&answered, waiting.parent, &waiting.name, attr);
            // Whoever asked may have gone away.
            let _ = waiting.answer.send(found);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let sent_away = mem::take(&mut *self.0.batches.lock());
        drop(sent_away);
    }
}
