//! Which workers live, and the ring of them.
//!
//! A worker is in the ring from its registration until it leaves, falls silent, or registers anew. Each registration has
//! an epoch; a heartbeat with another one is refused, so that of two processes with one identity only the later counts.
//! Epochs of registrations and of the ring come from one counter above the master's term: they grow across restarts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_types::{Epoch, Error, ErrorKind, Member, MountId, Result, Ring, WorkerId};
use headpond_ufs::{Key, UploadMark};
use tokio::{sync::Notify, time::Instant};

use crate::sessions::Sessions;

/// A worker that has been silent for so long is no longer shown.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

const MIB: u64 = 1 << 20;

/// The workers of the cluster.
#[derive(Debug)]
pub(crate) struct Workers {
    lost_after: Duration,
    sessions: Arc<Sessions>,
    /// Never held across an await; the sessions' lock may be taken inside.
    state: Mutex<State>,
    /// Tells that a worker registered.
    pub(crate) registered: Notify,
}

#[derive(Debug)]
struct State {
    last_epoch: u64,
    ring: Arc<Ring>,
    workers: BTreeMap<WorkerId, Worker>,
}

/// A worker as it registered and as it last reported.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// How clients reach it.
    pub(crate) member: Member,
    /// Its registration.
    pub(crate) epoch: Epoch,
    /// In the ring.
    pub(crate) live: bool,
    /// What it last said.
    pub(crate) report: Report,
    heard: Instant,
}

/// What a worker says of itself in a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Bytes its cache may hold.
    pub(crate) capacity: u64,
    /// Bytes it holds.
    pub(crate) used: u64,
    /// Pages it holds.
    pub(crate) pages: u64,
    /// Contents of which it holds pages.
    pub(crate) contents: u64,
    /// Cache directories that failed, each with its reason.
    pub(crate) problems: Vec<String>,
    /// Multipart uploads that it has begun and not ended.
    pub(crate) uploads: Vec<(MountId, UploadMark)>,
}

impl Workers {
    /// No workers yet, in the master's `term`.
    pub(crate) fn new(term: u64, lost_after: Duration, sessions: Arc<Sessions>) -> Self {
        let first = term << 32;
        let ring = Arc::new(Ring { epoch: Epoch(first), members: Vec::new() });
        let state = Mutex::new(State { last_epoch: first, ring, workers: BTreeMap::new() });
        Self { lost_after, sessions, state, registered: Notify::new() }
    }

    /// The next epoch: larger than any before, in this or an earlier term.
    pub(crate) fn next_epoch(&self) -> Epoch {
        self.state().next_epoch()
    }

    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.state().ring.clone()
    }

    /// Puts a worker into the ring and gives the epoch of its registration.
    pub(crate) fn register(&self, member: Member, capacity: u64) -> Epoch {
        let mut state = self.state();
        let epoch = state.next_epoch();
        let report = Report { capacity, ..Report::default() };
        let member = Member { weight: weight(capacity), ..member };
        tracing::info!(worker = %member.id, address = member.address, node = member.node, %epoch, "worker registered");
        state.workers.insert(member.id, Worker { member, epoch, live: true, report, heard: Instant::now() });
        self.publish(&mut state);
        self.registered.notify_one();
        epoch
    }

    /// Takes note of a heartbeat.
    ///
    /// # Errors
    /// `Fenced` when the worker is not registered with that epoch or was given up: it must register again.
    pub(crate) fn heartbeat(&self, id: WorkerId, epoch: Epoch, report: Report) -> Result<()> {
        let mut state = self.state();
        let worker = state.registered(id, epoch)?;
        worker.heard = Instant::now();
        worker.member.weight = weight(report.capacity);
        worker.report = report;
        self.publish(&mut state);
        Ok(())
    }

    /// Takes a worker off the ring at its own wish.
    ///
    /// # Errors
    /// `Fenced` as for a heartbeat.
    pub(crate) fn leave(&self, id: WorkerId, epoch: Epoch) -> Result<()> {
        let mut state = self.state();
        state.registered(id, epoch)?;
        state.workers.remove(&id);
        tracing::info!(worker = %id, "worker left");
        self.publish(&mut state);
        Ok(())
    }

    /// Takes those off the ring that have been silent for too long.
    pub(crate) fn expire(&self) {
        let mut state = self.state();
        for worker in state.workers.values_mut().filter(|worker| worker.live) {
            if worker.heard.elapsed() >= self.lost_after {
                worker.live = false;
                let (id, address) = (worker.member.id, &worker.member.address);
                tracing::warn!(worker = %id, address, silent = ?worker.heard.elapsed(), "worker lost: no heartbeat");
            }
        }
        state.workers.retain(|_, worker| worker.heard.elapsed() < FORGOTTEN_AFTER);
        self.publish(&mut state);
    }

    /// The addresses of those of `ids` that are live, in their order.
    pub(crate) fn addresses(&self, ids: &[WorkerId]) -> Vec<(WorkerId, String)> {
        let state = self.state();
        let live = |id: &WorkerId| state.workers.get(id).filter(|worker| worker.live);
        ids.iter().filter_map(|id| live(id).map(|worker| (*id, worker.member.address.clone()))).collect()
    }

    /// Uploads to a key that workers had begun which are lost, or beside whom `instead` has stored what is there: a worker that has died is known to be
    /// lost some time later. Nobody is given them a second time.
    pub(crate) fn take_uploads(&self, mount: MountId, key: &Key, instead: Option<WorkerId>) -> Vec<UploadMark> {
        let mut state = self.state();
        let is_over = |worker: &&mut Worker| !worker.live || instead.is_some_and(|instead| instead != worker.member.id);
        let lost = state.workers.values_mut().filter(is_over);
        let of_key = |(of, mark): &mut (MountId, UploadMark)| *of == mount && mark.key == *key;
        lost.flat_map(|worker| worker.report.uploads.extract_if(.., of_key)).map(|(_, mark)| mark).collect()
    }

    /// # Errors
    /// `Fenced` when the worker is not registered with that epoch or was given up: it must register again.
    pub(crate) fn require(&self, id: WorkerId, epoch: Epoch) -> Result<()> {
        self.state().registered(id, epoch).map(|_| ())
    }

    /// All workers that registered in this term and did not leave, each with the time since it was last heard.
    pub(crate) fn all(&self) -> Vec<(Worker, Duration)> {
        self.state().workers.values().map(|worker| (worker.clone(), worker.heard.elapsed())).collect()
    }

    /// A worker is lost, as if it had been silent for too long.
    #[cfg(test)]
    pub(crate) fn lose(&self, id: WorkerId) {
        let mut state = self.state();
        state.workers.get_mut(&id).expect("registered").live = false;
        self.publish(&mut state);
    }

    /// Makes the ring match the live workers and tells sessions if it did not.
    fn publish(&self, state: &mut State) {
        let live = state.workers.values().filter(|worker| worker.live).map(|worker| &worker.member);
        if live.clone().eq(&state.ring.members) {
            return;
        }
        let members = live.cloned().collect();
        state.ring = Arc::new(Ring { epoch: state.next_epoch(), members });
        self.sessions.tell_ring(&state.ring);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        Epoch(self.last_epoch)
    }

    fn registered(&mut self, id: WorkerId, epoch: Epoch) -> Result<&mut Worker> {
        let worker = self.workers.get_mut(&id).filter(|worker| worker.live && worker.epoch == epoch);
        worker.ok_or_else(|| {
            Error::new(ErrorKind::Fenced, format!("worker {id} has no registration of epoch {epoch}: register again"))
        })
    }
}

/// A worker's share of the blocks: its capacity in MiB, at least 1.
fn weight(capacity: u64) -> u32 {
    u32::try_from(capacity / MIB).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST_AFTER: Duration = Duration::from_secs(5);

    fn workers() -> Workers {
        Workers::new(3, LOST_AFTER, Arc::new(Sessions::new(Duration::from_secs(30))))
    }

    fn member(id: u32) -> Member {
        Member {
            id: WorkerId(id),
            address: format!("10.0.0.{id}:7200"),
            socket: String::new(),
            node: format!("n{id}"),
            zone: String::new(),
            weight: 0,
        }
    }

    fn ids(ring: &Ring) -> Vec<u32> {
        ring.members.iter().map(|member| member.id.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_workers_leave_the_ring_and_must_register_again() {
        let workers = workers();
        let first = workers.register(member(1), 10 * MIB);
        let second = workers.register(member(2), 20 * MIB);
        assert!(first.0 > 3 << 32 && second > first);
        assert_eq!(workers.ring().members.iter().map(|member| member.weight).collect::<Vec<_>>(), [10, 20]);

        tokio::time::advance(LOST_AFTER / 2).await;
        workers.heartbeat(WorkerId(2), second, Report { capacity: 20 * MIB, ..Report::default() }).expect("registered");
        let before = workers.ring().epoch;
        tokio::time::advance(LOST_AFTER / 2).await;
        workers.expire();
        assert_eq!(ids(&workers.ring()), [2]);
        assert!(workers.ring().epoch > before);
        assert_eq!(workers.all().iter().map(|(worker, _)| worker.live).collect::<Vec<_>>(), [false, true]);

        let late = workers.heartbeat(WorkerId(1), first, Report::default()).expect_err("was given up");
        assert_eq!(late.kind(), ErrorKind::Fenced);
        workers.register(member(1), MIB);
        assert_eq!(ids(&workers.ring()), [1, 2]);
        assert_eq!(workers.leave(WorkerId(1), first).expect_err("older registration").kind(), ErrorKind::Fenced);
        workers.leave(WorkerId(2), second).expect("registered");
        assert_eq!(ids(&workers.ring()), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_of_who_is_lost_are_given_to_one() {
        let workers = workers();
        let mark = |key: &str| UploadMark { key: Key::from(key.to_owned()), upload: format!("of {key}") };
        let uploads = vec![(MountId(1), mark("a")), (MountId(1), mark("b")), (MountId(2), mark("a"))];
        let epoch = workers.register(member(1), MIB);
        workers.heartbeat(WorkerId(1), epoch, Report { uploads, ..Report::default() }).expect("registered");
        let take = |mount, key, instead| workers.take_uploads(MountId(mount), &mark(key).key, instead);
        assert_eq!(take(1, "a", Some(WorkerId(1))), [], "it goes on with them");
        assert_eq!(take(1, "a", None), [], "it goes on with them");
        assert_eq!(take(1, "b", Some(WorkerId(2))), [mark("b")]);
        workers.lose(WorkerId(1));
        assert_eq!(take(1, "a", None), [mark("a")]);
        assert_eq!(take(1, "a", None), []);
        assert_eq!(take(2, "a", Some(WorkerId(1))), [mark("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_without_news_leaves_the_ring_as_it_is() {
        let workers = workers();
        let epoch = workers.register(member(1), MIB);
        let ring = workers.ring();
        workers
            .heartbeat(WorkerId(1), epoch, Report { capacity: MIB, used: 7, ..Report::default() })
            .expect("registered");
        assert_eq!(workers.ring(), ring);
        workers.heartbeat(WorkerId(1), epoch, Report { capacity: 2 * MIB, ..Report::default() }).expect("registered");
        assert_eq!(workers.ring().members[0].weight, 2);
    }
}
