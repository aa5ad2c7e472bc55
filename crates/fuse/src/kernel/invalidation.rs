//! Telling the kernel what it must no longer believe.
//!
//! Of listings, attributes and names. To invalidate a listing or attributes the kernel waits for nothing that waits for us; names are told as
//! [`super::names`] says. Never of pages: those of a file that is being read would be waited for; an open says whether they are of its version. A new epoch
//! (Linux 6.16) waits for nothing, but takes down what others have mounted below.
//!
//! Bounded queues lead to threads of their own. What does not fit is counted and left to the validity of what the kernel holds.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use fuser::{INodeNo, Notifier};
use headpond_client::{Awaited, Event};
use headpond_types::InodeId;
use rustix::io::Errno;
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};
use tracing::{debug, warn};

use super::names::{Doubt, Names};
use crate::{fs::FileSystem, metrics::Metrics, source::Source};

/// Invalidations waiting in a queue at most: more than a burst of events that the client holds for us.
pub(super) const WAITING: usize = 8192;

/// Events that are passed on together at most, so that a directory is told of once for all of them.
const TOGETHER: usize = 1024;

/// What the kernel is to forget of a node.
#[derive(Debug)]
struct Notice {
    node: u64,
    /// Of a directory, with its attributes; else the attributes alone, and no bytes.
    listing: bool,
    /// Held until the kernel has taken it.
    awaited: Vec<Awaited>,
}

/// The way to the notifying threads, which end when this is dropped or the mount is gone.
#[derive(Debug)]
pub(super) struct Invalidations {
    queue: SyncSender<Notice>,
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
        if let Some(names) = &self.names {
            for event in events {
                if let Some(doubt) = doubt(fs, event) {
                    self.sent(names.doubt(doubt));
                }
            }
        }
        for notice in notices(events, |inode| fs.nodes_of(inode)) {
            self.sent(fits(&self.queue, notice));
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

/// Queues `notice`, and answers whether there was room. Gone is the thread behind the queue when the kernel is not to be told any more:
/// that is no lack of room. Never waits.
fn fits(queue: &SyncSender<Notice>, notice: Notice) -> bool {
    match queue.try_send(notice) {
        Err(TrySendError::Full(notice)) => {
            notice.awaited.iter().for_each(Awaited::withhold);
            false
        }
        Ok(()) | Err(TrySendError::Disconnected(_)) => true,
    }
}

/// What `events` make wrong of nodes, each once. After a reset nothing can be named: the validity of what the kernel holds has to run out.
fn notices(events: &[Event], nodes_of: impl Fn(InodeId) -> Vec<u64>) -> Vec<Notice> {
    let mut nodes: BTreeMap<u64, Notice> = BTreeMap::new();
    for event in events {
        let Event::Entry { parent, old, same, awaited, .. } = event else { continue };
        let directory = (!same).then_some(*parent);
        for (inode, listing) in [(directory, true), (*old, false)] {
            for node in inode.map(&nodes_of).unwrap_or_default() {
                let notice = nodes.entry(node).or_insert_with(|| Notice { node, listing, awaited: Vec::new() });
                notice.listing |= listing;
                if awaited.is_awaited() {
                    notice.awaited.push(awaited.clone());
                }
            }
        }
    }
    nodes.into_values().collect()
}

/// The name that an event makes wrong. What was changed here the kernel has from the answer.
fn doubt<S: Source, B: Send + Sync + 'static>(fs: &FileSystem<S, B>, event: &Event) -> Option<Doubt> {
    let Event::Entry { parent, name: Some(name), own: false, awaited, .. } = event else { return None };
    let directory = fs.node_of(*parent)?;
    Some(Doubt { directory, name: name.clone(), again: fs.change(*parent, name), awaited: awaited.clone() })
}

fn notify(waiting: &Receiver<Notice>, notifier: &Notifier, metrics: &Metrics) {
    for Notice { node, listing, awaited } in waiting {
        let sent = notifier.inval_inode(INodeNo(node), if listing { 0 } else { -1 }, 0);
        metrics.invalidations.inc();
        drop(awaited);
        match sent {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
            Err(error) => debug!(node, %error, "the kernel did not take an invalidation"),
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
    use headpond_types::Name;

    use super::*;

    #[test]
    fn events_make_each_known_node_wrong_once() {
        let nodes_of = |inode: InodeId| (inode.0 != 1).then_some(inode.0).into_iter().collect();
        let event = |parent, name: Option<&str>, old| {
            let name = name.map(|name| Name::new(name).expect("a legal name"));
            Event::Entry { parent, name, old, own: false, same: false, awaited: Awaited::default() }
        };
        let (file, dir) = (InodeId(9), InodeId(5));
        let events = [
            event(dir, Some("a"), Some(file)),
            event(InodeId(7), None, Some(dir)),
            event(dir, Some("a"), Some(file)),
            event(InodeId(1), None, None),
            Event::Reset,
        ];
        let told = notices(&events, nodes_of);
        let told: Vec<_> = told.iter().map(|notice| (notice.node, notice.listing)).collect();
        assert_eq!(told, [(5, true), (7, true), (9, false)]);
    }
}
