//! Making the kernel doubt names that changed.
//!
//! A doubted name keeps its place (open directories, working directories and mounts below stay): the kernel asks for it
//! once more at its next use. It waits for the name's directory for that, see [`crate::guard`]: threads of their own do it, only
//! while a guard watches. Without one, and for what does not fit into the bounded queue, the validity of what the kernel holds runs out.
//!
//! Whoever changes a name here holds its directory until the change is answered, for which others have to hear of it, whose own changes may wait for
//! us to hear. So the names of a directory wait for each other, and those of different directories do not.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, IoSlice},
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use headpond_client::Awaited;
use headpond_types::Name;
use rustix::io::{Errno, writev};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::invalidation::WAITING;
use crate::{
    guard::{Guard, GuardCommand},
    metrics::Metrics,
};

/// `FUSE_NOTIFY_INVAL_ENTRY` and `FUSE_EXPIRE_ONLY` of linux/fuse.h. Before Linux 6.2 the flag is not looked at and the name is dropped.
const INVAL_ENTRY: i32 = 3;
const EXPIRE_ONLY: u32 = 1;

/// Directories that can be waited for at the same time.
const THREADS: usize = 8;

/// A name that the kernel is to doubt.
#[derive(Debug)]
pub(super) struct Doubt {
    /// Node of its directory.
    pub(super) directory: u64,
    pub(super) name: Name,
    /// Once more after so long, unless zero: see [`crate::fs::Unrest`].
    pub(super) again: Duration,
    /// Held until the kernel has taken it.
    pub(super) awaited: Awaited,
}

/// The start of the guard, which waits for [`Guarding::begin`]. Dropped, there will be none.
#[derive(Debug)]
pub(super) struct Guarding {
    begin: oneshot::Sender<()>,
    begun: oneshot::Receiver<()>,
}

impl Guarding {
    /// Starts the guard; returns when the kernel knows who may use the mount, as the guard has looked at it. Until then the kernel takes the root
    /// for a directory that nobody may enter, and an answer that comes while it is told of a change there it does not believe: who came first would
    /// be refused. Nobody in this process can look, as a killed process ends only when nothing in it waits for itself.
    pub(super) async fn begin(self) {
        if self.begin.send(()).is_ok() {
            drop(self.begun.await);
        }
    }
}

/// The way to the threads, which end when this is dropped or the mount is gone.
#[derive(Debug)]
pub(super) struct Names(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    device: OwnedFd,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: HashMap<u64, Vec<Doubt>>,
    /// Directories with waiting names that no thread is at, in order.
    free: VecDeque<u64>,
    /// Directories that a thread is at.
    taken: HashSet<u64>,
    names: usize,
    /// Nothing is told any more.
    ended: bool,
    guard: Option<Guard>,
}

impl Names {
    /// Starts the threads, one of which starts the guard when it is told to.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(device: OwnedFd, command: GuardCommand, metrics: Metrics) -> io::Result<(Self, Guarding)> {
        let shared = Arc::new(Shared { queue: Mutex::default(), news: Condvar::new(), device, metrics });
        let names = Self(Arc::clone(&shared));
        let ((begin, told), (started, begun)) = (oneshot::channel(), oneshot::channel());
        thread::Builder::new().name("headpond-names".to_owned()).spawn(move || {
            if told.blocking_recv().is_err() {
                return shared.end();
            }
            let guard = Guard::start(&command);
            let _nobody_waits = started.send(());
            match guard {
                Ok(guard) => shared.begin(guard),
                Err(error) => {
                    info!(%error, "no guard for the mount: changed names are seen when their validity ends");
                    shared.end();
                }
            }
        })?;
        Ok((names, Guarding { begin, begun }))
    }

    /// Queues a name. Never waits; answers whether there was room.
    pub(super) fn doubt(&self, doubt: Doubt) -> bool {
        let mut queue = self.0.lock();
        if queue.ended {
            return true;
        }
        if queue.names >= WAITING {
            doubt.awaited.withhold();
            return false;
        }
        queue.add(doubt);
        drop(queue);
        self.0.news.notify_one();
        true
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Queue {
    fn add(&mut self, doubt: Doubt) {
        let directory = doubt.directory;
        self.names += 1;
        let doubts = self.waiting.entry(directory).or_default();
        doubts.push(doubt);
        if doubts.len() == 1 && !self.taken.contains(&directory) {
            self.free.push_back(directory);
        }
    }

    /// All names of a directory that no thread is at.
    fn take(&mut self) -> Option<Vec<Doubt>> {
        let directory = self.free.pop_front()?;
        let doubts = self.waiting.remove(&directory)?;
        self.taken.insert(directory);
        self.names -= doubts.len();
        Some(doubts)
    }

    fn done(&mut self, directory: u64) {
        self.taken.remove(&directory);
        if self.waiting.contains_key(&directory) {
            self.free.push_back(directory);
        }
    }
}

impl Shared {
    fn begin(self: Arc<Self>, guard: Guard) {
        self.lock().guard = Some(guard);
        for _ in 1..THREADS {
            let shared = Arc::clone(&self);
            let started = thread::Builder::new().name("headpond-names".to_owned()).spawn(move || shared.tell_all());
            if let Err(error) = started {
                debug!(%error, "fewer threads for changed names");
            }
        }
        self.tell_all();
    }

    /// Nothing waits any more, and nobody.
    fn end(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        let left = std::mem::take(&mut queue.waiting);
        queue.free.clear();
        queue.names = 0;
        drop(queue);
        self.news.notify_all();
        drop(left);
    }

    fn tell_all(&self) {
        while let Some(doubts) = self.next() {
            let Some(directory) = doubts.first().map(|doubt| doubt.directory) else { continue };
            if !self.tell(doubts) {
                return self.end();
            }
            self.lock().done(directory);
            self.news.notify_one();
        }
    }

    /// The next directory's names; `None` at the end.
    fn next(&self) -> Option<Vec<Doubt>> {
        let mut queue = self.lock();
        loop {
            if queue.ended {
                return None;
            }
            if let Some(doubts) = queue.take() {
                if queue.guard.as_mut().is_some_and(Guard::watches) {
                    return Some(doubts);
                }
                drop(queue);
                warn!("the guard of the mount is gone: changed names are seen when their validity ends");
                self.end();
                return None;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Answers whether the mount is still there.
    fn tell(&self, doubts: Vec<Doubt>) -> bool {
        let again = doubts.iter().map(|doubt| doubt.again).max().unwrap_or_default();
        let (late, at_once): (Vec<_>, Vec<_>) = doubts.into_iter().partition(|doubt| !doubt.again.is_zero());
        for doubt in late.iter().chain(&at_once) {
            if !self.expire(doubt) {
                return false;
            }
        }
        drop(at_once);
        if late.is_empty() {
            return true;
        }
        pause(again);
        late.iter().all(|doubt| self.expire(doubt))
    }

    fn expire(&self, doubt: &Doubt) -> bool {
        let Doubt { directory, name, .. } = doubt;
        self.metrics.names_doubted.inc();
        match expire(&self.device, *directory, name) {
            // The kernel does not know the name.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => true,
            Err(Errno::NODEV) => false,
            Err(error) => {
                debug!(directory, %name, %error, "the kernel did not take a notice");
                true
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No operation under the lock leaves the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which no task waits for")]
fn pause(time: Duration) {
    thread::sleep(time);
}

/// Writes the notice: `struct fuse_out_header`, `struct fuse_notify_inval_entry_out` and the name, of linux/fuse.h.
fn expire(device: &OwnedFd, directory: u64, name: &Name) -> Result<(), Errno> {
    let name = name.as_bytes();
    let length = u32::try_from(16 + 16 + name.len() + 1).map_err(|_| Errno::NAMETOOLONG)?;
    let mut head = [0; 32];
    head[..4].copy_from_slice(&length.to_ne_bytes());
    head[4..8].copy_from_slice(&INVAL_ENTRY.to_ne_bytes());
    head[16..24].copy_from_slice(&directory.to_ne_bytes());
    head[24..28].copy_from_slice(&(length - 33).to_ne_bytes());
    head[28..].copy_from_slice(&EXPIRE_ONLY.to_ne_bytes());
    writev(device, &[IoSlice::new(&head), IoSlice::new(name), IoSlice::new(&[0])]).map(drop)
}
