//! Telling the kernel what it must no longer believe.
//!
//! Of listings and names. To invalidate a listing the kernel waits for nothing that waits for us; names are told as
//! [`super::names`] says. Never of pages: those of a file that is being read would be waited for, and they never change. A new epoch
//! (Linux 6.16) waits for nothing, but takes down what others have mounted below.
//!
//! Bounded queues lead to threads of their own. What does not fit is counted and left to the validity of what the kernel holds.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use fuser::{INodeNo, Notifier};
use headpond_client::Event;
use headpond_types::{InodeId, Name};
use rustix::io::Errno;
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};
use tracing::{debug, warn};

use super::names::Names;
use crate::{fs::FileSystem, metrics::Metrics, source::Source};

/// Invalidations waiting in a queue at most: more than a burst of events that the client holds for us.
pub(super) const WAITING: usize = 8192;

/// Events that are passed on together at most, so that a directory is told of once for all of them.
const TOGETHER: usize = 1024;

/// The way to the notifying threads, which end when this is dropped or the mount is gone.
#[derive(Debug)]
pub(super) struct Invalidations {
    queue: SyncSender<u64>,
    names: Option<Names>,
    metrics: Metrics,
    overflowing: AtomicBool,
}

impl Invalidations {
    /// Starts the thread for listings. Without `names` the kernel is not told of them.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(notifier: Notifier, names: Option<Names>, metrics: Metrics) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        let sent = metrics.clone();
        thread::Builder::new().name("headpond-inval".to_owned()).spawn(move || notify(&waiting, &notifier, &sent))?;
        Ok(Self { queue, names, metrics, overflowing: AtomicBool::new(false) })
    }

    /// Queues what `events` make wrong in the kernel. Never waits.
    fn send<S: Source, B: Send + Sync + 'static>(&self, fs: &FileSystem<S, B>, events: &[Event]) {
        let node_of = |inode| fs.node_of(inode);
        if let Some(names) = &self.names {
            for (directory, name) in changed_names(events, node_of) {
                self.sent(names.doubt(directory, name));
            }
        }
        for listing in listings(events, node_of) {
            self.sent(fits(&self.queue, listing));
        }
    }

    fn sent(&self, fitted: bool) {
        if fitted {
            self.overflowing.store(false, Ordering::Relaxed);
            return;
        }
        self.metrics.invalidations_dropped.inc();
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            warn!(WAITING, "invalidations come faster than the kernel takes them: some are dropped");
        }
    }
}

/// Queues `what`, and answers whether there was room. Gone is the thread behind the queue when the kernel is not to be told any more:
/// that is no lack of room. Never waits.
pub(super) fn fits<T>(queue: &SyncSender<T>, what: T) -> bool {
    !matches!(queue.try_send(what), Err(TrySendError::Full(_)))
}

/// The nodes of the directories whose listings `events` make wrong, each once. After a reset nothing can be named: the validity
/// of what the kernel holds has to run out.
fn listings(events: &[Event], node_of: impl Fn(InodeId) -> Option<u64>) -> BTreeSet<u64> {
    let parent = |event: &Event| match event {
        Event::Entry { parent, .. } => node_of(*parent),
        Event::Reset => None,
    };
    events.iter().filter_map(parent).collect()
}

/// The names that `events` make wrong, with the nodes of their directories, each once.
fn changed_names(events: &[Event], node_of: impl Fn(InodeId) -> Option<u64>) -> BTreeSet<(u64, &Name)> {
    let name = |event| match event {
        &Event::Entry { parent, name: Some(ref name), .. } => Some((node_of(parent)?, name)),
        Event::Entry { name: None, .. } | Event::Reset => None,
    };
    events.iter().filter_map(name).collect()
}

fn notify(waiting: &Receiver<u64>, notifier: &Notifier, metrics: &Metrics) {
    for directory in waiting {
        let sent = notifier.inval_inode(INodeNo(directory), 0, 0);
        metrics.invalidations.inc();
        match sent {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
            Err(error) => debug!(directory, %error, "the kernel did not take an invalidation"),
        }
    }
}

/// Passes the source's events on, for as long as there are any.
pub(super) async fn follow<S: Source, B: Send + Sync + 'static>(
    fs: Arc<FileSystem<S, B>>,
    mut events: broadcast::Receiver<Event>,
    invalidations: Invalidations,
) {
    let mut together = Vec::new();
    loop {
        match events.recv().await {
            Ok(event) => together.push(event),
            Err(RecvError::Lagged(_)) => together.push(Event::Reset),
            Err(RecvError::Closed) => return,
        }
        while together.len() < TOGETHER {
            match events.try_recv() {
                Ok(event) => together.push(event),
                Err(TryRecvError::Lagged(_)) => together.push(Event::Reset),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        together.iter().for_each(|event| fs.apply(event));
        invalidations.send(&fs, &together);
        together.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_make_each_known_listing_and_name_wrong_once() {
        let name = Name::new("a").expect("a legal name");
        let node_of = |inode: InodeId| (inode.0 != 1).then_some(inode.0);
        let event = Event::Entry { parent: InodeId(5), name: Some(name.clone()), old: Some(InodeId(9)) };
        let whole = Event::Entry { parent: InodeId(7), name: None, old: None };
        let unknown = Event::Entry { parent: InodeId(1), name: None, old: None };
        let events = [event.clone(), whole, event, unknown, Event::Reset];
        assert_eq!(listings(&events, node_of), [5, 7].into());
        assert_eq!(changed_names(&events, node_of), [(5, &name)].into());
    }
}
