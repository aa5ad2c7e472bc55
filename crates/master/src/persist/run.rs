//! The task that persists what is dirty of one mount, some at a time, as its line lets it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use headpond_namespace::Command;
use headpond_types::{InodeId, MountId};
use tokio::time::{Instant, sleep_until};

use super::{
    Persister,
    backlog::MountLine,
    begin::{Begun, Task},
    line::{Line, Moves},
};

/// Things of one mount that are persisted at the same time.
const AT_ONCE: usize = 32;

/// What was in somebody's way is looked at again after so long.
const SOON: Duration = Duration::from_millis(50);

/// The task ends when nothing was left for so long.
const IDLE: Duration = Duration::from_secs(60);

/// A mount's task. Takes itself off the list of those that run.
pub(super) struct Run {
    pub(super) persister: Arc<Persister>,
    pub(super) mount: MountId,
    pub(super) line: Arc<MountLine>,
    /// When what rests is tried again.
    resting: BTreeSet<(Instant, InodeId)>,
    /// Keys at which something is being put or deleted.
    pub(super) keys: HashMap<Vec<u8>, InodeId>,
    /// Trees that are walked, or were.
    trees: BTreeMap<u64, Walk>,
    /// How often a marker has made way for what is put into its directory.
    pub(super) made_way: HashMap<InodeId, u32>,
    /// Files that are not due, and further names of them are.
    pub(super) lagging: BTreeSet<InodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    UnderWay,
    Done,
    Failed(Instant),
}

/// What came to its end.
pub(super) enum Ended {
    /// Something was persisted, or is to be tried again at that time. `None`: not before somebody decides.
    Put {
        inode: InodeId,
        key: Option<Vec<u8>>,
        again: Option<Again>,
    },
    Walked {
        number: u64,
        done: bool,
    },
}

/// When something that is not persisted yet is tried again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    At(Instant),
    /// When somebody has decided.
    Asked,
}

impl Run {
    pub(super) fn new(persister: Arc<Persister>, mount: MountId, line: Arc<MountLine>) -> Self {
        // A task before this one may have broken off.
        line.lock().reset();
        Self {
            persister,
            mount,
            line,
            resting: BTreeSet::new(),
            keys: HashMap::new(),
            trees: BTreeMap::new(),
            made_way: HashMap::new(),
            lagging: BTreeSet::new(),
        }
    }

    /// Persists until nothing was left for a while.
    pub(super) async fn work(mut self) {
        let persister = self.persister.clone();
        let mut jobs: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
        let mut moved = persister.relocator.watch();
        let mut idle_since = Instant::now();
        loop {
            moved.mark_unchanged();
            self.wake_rested();
            self.walk_trees(&mut jobs);
            self.put_what_may_go(&mut jobs).await;
            self.end_trees().await;
            persister.relocator.kick_if_cleared(self.mount);
            if !jobs.is_empty() || !self.line.lock().is_empty() {
                idle_since = Instant::now();
            }
            let until = idle_since + IDLE;
            let rested = self.resting.first().map(|(at, _)| *at);
            let next = rested.into_iter().chain(self.line.lock().ripens_at()).fold(until, Instant::min);
            tokio::select! {
                Some(ended) = jobs.next() => {
                    self.end(ended);
                    while let Some(Some(ended)) = jobs.next().now_or_never() {
                        self.end(ended);
                    }
                }
                () = self.line.woken.notified() => {}
                _ = moved.changed() => {}
                () = sleep_until(next) => {
                    if jobs.is_empty() && self.line.lock().is_empty() && Instant::now() >= until {
                        return;
                    }
                }
            }
        }
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        while let Some((_, inode)) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.resting.pop_first();
            self.line.lock().wake(inode);
        }
    }

    /// Relocations of the mount, as far as they matter to what waits.
    fn moves(&self, line: &Line) -> Option<Moves> {
        if !line.asks_for_moves() {
            return Some(Moves::default());
        }
        match self.persister.relocator.moves(self.mount) {
            Ok(moves) => Some(moves),
            Err(error) => {
                tracing::error!(%error, "cannot see which objects are to be moved: nothing is persisted meanwhile");
                None
            }
        }
    }

    async fn put_what_may_go(&mut self, jobs: &mut FuturesUnordered<BoxFuture<'static, Ended>>) {
        loop {
            let room = AT_ONCE.saturating_sub(jobs.len());
            let chosen = {
                // What left the line is among the relocations by then, if it was put elsewhere than its path says.
                let mut line = self.line.lock();
                let Some(moves) = self.moves(&line) else { return };
                line.choose(Instant::now(), moves, room)
            };
            if chosen.is_empty() {
                return;
            }
            for Begun { inode, task } in self.begin(chosen).await {
                match task {
                    Some(task) => {
                        let key = task.key().to_vec();
                        self.keys.insert(key.clone(), inode);
                        jobs.push(Self::perform(self.persister.clone(), self.line.clone(), inode, key, task).boxed());
                    }
                    None => {
                        let again = Some(Again::At(Instant::now() + SOON));
                        self.end(Ended::Put { inode, key: None, again });
                    }
                }
            }
        }
    }

    async fn perform(
        persister: Arc<Persister>,
        line: Arc<MountLine>,
        inode: InodeId,
        key: Vec<u8>,
        task: Task,
    ) -> Ended {
        let again = match persister.perform(task).await {
            Ok(pause) => {
                persister.problems.forget(inode);
                pause.map(|pause| Again::At(Instant::now() + pause))
            }
            Err(failure) => {
                // What became another meanwhile is not that problem any more.
                let is_left = line.lock().get(inode).is_some();
                is_left.then(|| persister.failed(inode, &failure))
            }
        };
        Ended::Put { inode, key: Some(key), again }
    }

    fn end(&mut self, ended: Ended) {
        match ended {
            Ended::Put { inode, key, again } => {
                if let Some(key) = key {
                    self.keys.remove(&key);
                    self.made_way.remove(&inode);
                }
                if let Some(Again::At(at)) = again {
                    self.resting.insert((at, inode));
                }
                self.persister.backlog.ended(&self.line, inode, again.is_some());
            }
            Ended::Walked { number, done } => {
                if done {
                    self.line.lock().walked(number);
                }
                let walk = if done { Walk::Done } else { Walk::Failed(Instant::now()) };
                self.trees.insert(number, walk);
            }
        }
    }

    /// Has the trees walked that were not yet.
    fn walk_trees(&mut self, jobs: &mut FuturesUnordered<BoxFuture<'static, Ended>>) {
        let trees: Vec<_> = self.line.lock().trees().collect();
        self.trees.retain(|number, _| trees.iter().any(|(known, _)| known == number));
        for (number, inode) in trees {
            let due = match self.trees.get(&number) {
                None => true,
                Some(Walk::Failed(at)) => at.elapsed() >= Duration::from_secs(1),
                Some(Walk::UnderWay | Walk::Done) => false,
            };
            if due {
                self.trees.insert(number, Walk::UnderWay);
                let persister = self.persister.clone();
                let walk = async move {
                    let walked = persister.make_tree_due(inode, number).await;
                    if let Err(error) = &walked {
                        tracing::warn!(%inode, %error, "cannot see what a rename released, trying again");
                    }
                    Ended::Walked { number, done: walked.is_ok() }
                };
                jobs.push(walk.boxed());
            }
        }
    }

    /// Ends trees of which all is persisted: until then their numbers say that they are trees.
    async fn end_trees(&self) {
        let ended: Vec<_> = {
            let line = self.line.lock();
            let walked = line.trees().filter(|(number, _)| self.trees.get(number) == Some(&Walk::Done));
            walked.filter(|(number, inode)| line.is_last_of_tree(*number, *inode)).collect()
        };
        for (number, inode) in ended {
            if let Err(error) = self.persister.catalog.propose(Command::EndTree { inode, number }).await {
                tracing::warn!(%inode, %error, "cannot note that all of a renamed directory is persisted");
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.persister.running().remove(&self.mount);
    }
}
