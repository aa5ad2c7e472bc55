//! Telling the kernel what it must no longer believe.
//!
//! An invalidation waits for kernel locks that requests under way hold, so it is never sent from where requests are answered:
//! a bounded queue leads to a thread of its own. What does not fit is counted and left to the validity of what the kernel holds.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
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

use crate::{fs::FileSystem, metrics::Metrics, source::Source};

/// Invalidations waiting at most: more than a burst of events that the client holds for us.
const WAITING: usize = 8192;

/// Events that are passed on together at most, so that a directory is told of once for all of them.
const TOGETHER: usize = 1024;

/// Of what the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Invalidation {
    /// A name in a directory, found or absent.
    Entry { parent: u64, name: Name },
    /// The listing and the attributes of a directory.
    Listing(u64),
    /// The attributes of an inode; its pages hold what it always held.
    Attributes(u64),
}

/// The way to the notifying thread, which ends when this is dropped or the mount is gone.
#[derive(Debug)]
pub(super) struct Invalidations {
    queue: SyncSender<Invalidation>,
    metrics: Metrics,
    overflowing: AtomicBool,
}

impl Invalidations {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(notifier: Notifier, metrics: Metrics) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        let sent = metrics.clone();
        thread::Builder::new().name("headpond-inval".to_owned()).spawn(move || notify(&waiting, &notifier, &sent))?;
        Ok(Self { queue, metrics, overflowing: AtomicBool::new(false) })
    }

    /// Queues what `events` make wrong in the kernel. Never waits.
    fn send<S: Source, B: Send + Sync + 'static>(&self, fs: &FileSystem<S, B>, events: &[Event]) {
        for invalidation in of_events(events, |inode| fs.node_of(inode)) {
            match self.queue.try_send(invalidation) {
                Ok(()) => self.overflowing.store(false, Ordering::Relaxed),
                Err(TrySendError::Full(_)) => {
                    self.metrics.invalidations_dropped.inc();
                    if !self.overflowing.swap(true, Ordering::Relaxed) {
                        warn!(WAITING, "invalidations come faster than the kernel takes them: some are dropped");
                    }
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// What `events` make wrong, each listing once. After a reset nothing can be named: the validity of what the kernel holds
/// has to run out.
fn of_events(events: &[Event], node_of: impl Fn(InodeId) -> Option<u64>) -> Vec<Invalidation> {
    let mut found = Vec::new();
    let mut listings = BTreeSet::new();
    for event in events {
        let Event::Entry { parent, name, old } = event else { continue };
        if let Some(node) = node_of(*parent) {
            found.extend(name.clone().map(|name| Invalidation::Entry { parent: node, name }));
            listings.insert(node);
        }
        found.extend(old.and_then(&node_of).map(Invalidation::Attributes));
    }
    found.extend(listings.into_iter().map(Invalidation::Listing));
    found
}

fn notify(waiting: &Receiver<Invalidation>, notifier: &Notifier, metrics: &Metrics) {
    for invalidation in waiting {
        let sent = match &invalidation {
            Invalidation::Entry { parent, name } => {
                notifier.inval_entry(INodeNo(*parent), OsStr::from_bytes(name.as_bytes()))
            }
            Invalidation::Listing(node) => notifier.inval_inode(INodeNo(*node), 0, 0),
            Invalidation::Attributes(node) => notifier.inval_inode(INodeNo(*node), -1, 0),
        };
        metrics.invalidations.inc();
        match sent {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
            Err(error) => debug!(?invalidation, %error, "the kernel did not take an invalidation"),
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
    fn events_name_their_entries_the_old_inodes_and_each_listing_once() {
        let name = Name::new("a").expect("a legal name");
        let node_of = |inode: InodeId| (inode.0 != 1).then_some(inode.0);
        let event = Event::Entry { parent: InodeId(5), name: Some(name.clone()), old: Some(InodeId(9)) };
        let entry = Invalidation::Entry { parent: 5, name };
        assert_eq!(
            of_events(&[event.clone(), event], node_of),
            [entry.clone(), Invalidation::Attributes(9), entry, Invalidation::Attributes(9), Invalidation::Listing(5)]
        );
        let whole = Event::Entry { parent: InodeId(5), name: None, old: None };
        assert_eq!(of_events(&[whole], node_of), [Invalidation::Listing(5)]);
        let above = Event::Entry { parent: InodeId(1), name: None, old: None };
        assert_eq!(of_events(&[above], node_of), []);
        assert_eq!(of_events(&[Event::Reset], node_of), []);
    }
}
