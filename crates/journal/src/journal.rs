//! The journal: opening, proposing, checkpoints and shutdown.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_runtime::{Shutdown, Tasks};
use headpond_types::Result;
use openraft::{ServerState, SnapshotPolicy};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    applier::{Applier, applied_log_id},
    blocking::blocking,
    config::JournalConfig,
    error::JournalError,
    home::Home,
    log::Log,
    machine::StateMachine,
    network::NoNetwork,
    packer::{Packer, Proposal, Why, write},
    raft::{Batch, LogId, Node, Raft, position},
    status::{JournalStatus, Progress},
    store::LogStore,
};

/// Bytes of commands that may be on their way; more wait outside.
const QUEUE_BYTES: usize = 16 << 20;
/// Commands that may be in the packer's queue.
const QUEUE: usize = 8192;
/// Bytes of one command.
const COMMAND_BYTES: usize = 8 << 20;

/// How long opening waits for the only voter to elect itself, which takes two syncs.
const ELECTION: Duration = Duration::from_secs(30);

/// The journal of a state machine: a Raft log of commands with one voter.
///
/// Drop it only after [`Journal::shutdown`]; otherwise its directory stays in use until its tasks have noticed.
pub struct Journal<M: StateMachine> {
    raft: Raft<M>,
    machine: Arc<M>,
    log: Arc<Log>,
    progress: Arc<Progress>,
    room: Arc<Semaphore>,
    /// `None` once shutdown began.
    proposals: Mutex<Option<mpsc::Sender<Proposal<M>>>>,
    tasks: Tasks,
    /// Of Raft and the packer.
    home: Home,
}

impl<M: StateMachine> Journal<M> {
    /// Opens the journal in `config.dir`, brings `machine` up to the last acknowledged command, and leads. Must be called inside a
    /// tokio runtime. Not cancel-safe.
    ///
    /// # Errors
    /// `busy` when the directory is used by another process, `unavailable` when it cannot be read or written; `not_supported` when a later
    /// release wrote it; `corrupt` when its files are damaged or do not belong to the machine's tables; what the machine answers.
    pub async fn open(config: JournalConfig, machine: Arc<M>) -> Result<Self> {
        let opening = config.clone();
        let (log, state) = blocking(move || Log::open(&opening)).await?;
        let log = Arc::new(log);
        let home = Home::start().map_err(JournalError::io("starting the thread of", &config.dir))?;
        let store = LogStore::new(Arc::clone(&log), &state);
        let progress = Arc::new(Progress::default());
        let applied = applied_log_id(&*machine)?;
        let started = async {
            check_fit(applied, store.bounds())?;
            let applier =
                Applier::new(Arc::clone(&machine), store.clone(), applied, state.membership, Arc::clone(&progress));
            let why = Why { log: Arc::clone(&log), progress: Arc::clone(&progress) };
            let settings = config.clone();
            home.run(async move { start(&settings, store, applier, &why).await }).await
        };
        let raft = match started.await {
            Ok(raft) => raft,
            Err(error) => {
                // The first error says more than what closing could add.
                drop(close(&log).await);
                return Err(error.into());
            }
        };
        let tasks = Tasks::new(Shutdown::new());
        let (sender, proposals) = mpsc::channel(QUEUE);
        let packer = Packer {
            raft: raft.clone(),
            proposals,
            entry_bytes: config.entry_bytes,
            entries_in_flight: config.entries_in_flight,
            why: Why { log: Arc::clone(&log), progress: Arc::clone(&progress) },
        };
        home.spawn(tasks.track(packer.run()));
        let keeper = Keeper {
            raft: raft.clone(),
            machine: Arc::clone(&machine),
            log: Arc::clone(&log),
            progress: Arc::clone(&progress),
        };
        tasks.spawn_until_shutdown(keeper.run(config.durable_interval, config.checkpoint_bytes));
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        Ok(Self { raft, machine, log, progress, room, proposals: Mutex::new(Some(sender)), tasks, home })
    }

    /// Proposes a command and waits until it is durable and applied. Waits for room when too many are on their way.
    ///
    /// Cancelled, the command may be applied or not.
    ///
    /// # Errors
    /// `invalid_argument` for a command of more than 8 MiB; `unavailable` when the journal stopped, by itself or by
    /// [`Journal::shutdown`]. In the latter case the command may be applied after the next start, or not.
    pub async fn propose(&self, command: M::Command) -> Result<M::Outcome> {
        let encoded = postcard::to_allocvec(&command).map_err(JournalError::from)?;
        if encoded.len() > COMMAND_BYTES {
            return Err(JournalError::TooLarge { bytes: encoded.len(), limit: COMMAND_BYTES }.into());
        }
        let weight = u32::try_from(encoded.len()).expect("commands are bounded far below 4 GiB");
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await.expect("the semaphore is never closed");
        let (answer, answered) = oneshot::channel();
        let sender = self.proposals().clone().ok_or_else(|| self.stopped())?;
        let sent = sender.send(Proposal { command, encoded, answer, room }).await;
        sent.map_err(|_| self.stopped())?;
        answered.await.map_err(|_| self.stopped())?
    }

    /// How the journal is.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        JournalStatus { applied: self.progress.applied(), log_bytes: self.log.bytes(), stopped: self.why().known() }
    }

    /// Takes no more commands, answers those under way, makes the tables durable and closes the files. Again, it does nothing.
    /// Cancelled, call it again.
    ///
    /// # Errors
    /// When the journal had stopped by itself, or the tables cannot be made durable; everything acknowledged is in the log all
    /// the same.
    pub async fn shutdown(&self) -> Result<()> {
        self.proposals().take();
        self.tasks.drain(Duration::MAX).await;
        // The core ends in any case; it fails to say so only when it panicked, which was logged.
        drop(self.raft.shutdown().await);
        self.home.end();
        let machine = Arc::clone(&self.machine);
        let durable = blocking(move || machine.make_durable()).await;
        close(&self.log).await?;
        durable
    }

    fn proposals(&self) -> MutexGuard<'_, Option<mpsc::Sender<Proposal<M>>>> {
        self.proposals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why(&self) -> Why {
        Why { log: Arc::clone(&self.log), progress: Arc::clone(&self.progress) }
    }

    fn stopped(&self) -> JournalError {
        JournalError::Stopped { reason: self.why().known().unwrap_or_else(|| "it was shut down".to_owned()) }
    }
}

impl<M: StateMachine> Drop for Journal<M> {
    fn drop(&mut self) {
        self.tasks.shutdown().begin();
    }
}

impl<M: StateMachine> fmt::Debug for Journal<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Makes the tables durable now and then, and checkpoints that let old log go.
struct Keeper<M: StateMachine> {
    raft: Raft<M>,
    machine: Arc<M>,
    log: Arc<Log>,
    progress: Arc<Progress>,
}

impl<M: StateMachine> Keeper<M> {
    async fn run(self, interval: Duration, checkpoint_bytes: u64) {
        let mut durable = None;
        let mut after_checkpoint = 0;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let applied = self.progress.applied();
            if applied == durable || self.progress.stopped().is_some() {
                continue;
            }
            let bytes = self.log.bytes();
            if bytes >= after_checkpoint + checkpoint_bytes {
                // Fails when Raft has stopped, which its own error tells.
                drop(self.raft.trigger().snapshot().await);
                after_checkpoint = bytes;
            }
            let machine = Arc::clone(&self.machine);
            match blocking(move || machine.make_durable()).await {
                Ok(()) => durable = applied,
                Err(error) => self.progress.stop(&error),
            }
            after_checkpoint = after_checkpoint.min(self.log.bytes());
        }
    }
}

async fn close(log: &Arc<Log>) -> Result<(), JournalError> {
    let log = Arc::clone(log);
    blocking(move || log.close()).await
}

/// The tables and the log must overlap: the tables hold what was purged, and nothing that the log never had.
fn check_fit(applied: Option<LogId>, (purged, last): (Option<LogId>, Option<LogId>)) -> Result<(), JournalError> {
    if applied >= purged && applied <= last {
        return Ok(());
    }
    let position = |id: Option<LogId>| id.as_ref().map(position);
    Err(JournalError::Apart { tables: position(applied), purged: position(purged), last: position(last) })
}

/// Starts Raft and waits until it leads and everything in the log is applied.
async fn start<M: StateMachine>(
    config: &JournalConfig,
    store: LogStore<M>,
    applier: Applier<M>,
    why: &Why,
) -> Result<Raft<M>, JournalError> {
    let settings = openraft::Config {
        cluster_name: "headpond".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        max_payload_entries: 64,
        ..openraft::Config::default()
    };
    let raft = Raft::<M>::new(config.node, Arc::new(settings), NoNetwork, store, applier).await;
    let raft = raft.map_err(|error| why.stopped(&error))?;
    let led = async {
        if !raft.is_initialized().await.map_err(|error| why.stopped(&error))? {
            let voters = BTreeMap::from([(config.node, Node::default())]);
            raft.initialize(voters).await.map_err(|error| why.stopped(&error))?;
        }
        if raft.metrics().borrow().state != ServerState::Leader {
            raft.trigger().elect().await.map_err(|error| why.stopped(&error))?;
        }
        let wait = raft.wait(Some(ELECTION));
        wait.state(ServerState::Leader, "the only voter leads").await.map_err(|error| why.stopped(&error))?;
        // Applied after everything before it.
        let nothing = Batch::new(Vec::new(), &[])?;
        write(&raft, nothing, why).await
    };
    match led.await {
        Ok(_) => Ok(raft),
        Err(error) => {
            drop(raft.shutdown().await);
            Err(error)
        }
    }
}
