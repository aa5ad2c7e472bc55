//! Making the kernel doubt names that changed.
//!
//! A doubted name keeps its place (open directories, working directories and mounts below stay): the kernel asks for it
//! once more at its next use. It waits for the name's directory for that, see [`crate::guard`]: a thread of its own does it, only
//! while a guard watches. Without one, and for what does not fit into the bounded queue, the validity of what the kernel holds runs out.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use headpond_types::Name;
use rustix::io::{Errno, writev};
use tracing::{debug, info, warn};

use super::invalidation::{WAITING, fits};
use crate::{
    guard::{Guard, GuardCommand},
    metrics::Metrics,
};

/// `FUSE_NOTIFY_INVAL_ENTRY` and `FUSE_EXPIRE_ONLY` of linux/fuse.h. Before Linux 6.2 the flag is not looked at and the name is dropped.
const INVAL_ENTRY: i32 = 3;
const EXPIRE_ONLY: u32 = 1;

/// The way to the thread, which ends when this is dropped or the mount is gone.
#[derive(Debug)]
pub(super) struct Names(SyncSender<(u64, Name)>);

impl Names {
    /// Starts the thread, which starts the guard.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(device: OwnedFd, guard: GuardCommand, metrics: Metrics) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        thread::Builder::new()
            .name("headpond-names".to_owned())
            .spawn(move || tell(&waiting, &device, &guard, &metrics))?;
        Ok(Self(queue))
    }

    /// Queues a name. Never waits; answers whether there was room.
    pub(super) fn doubt(&self, directory: u64, name: &Name) -> bool {
        fits(&self.0, (directory, name.clone()))
    }
}

fn tell(waiting: &Receiver<(u64, Name)>, device: &OwnedFd, command: &GuardCommand, metrics: &Metrics) {
    let mut guard = match Guard::start(command) {
        Ok(guard) => guard,
        Err(error) => {
            info!(%error, "no guard for the mount: changed names are seen when their validity ends");
            return;
        }
    };
    for (directory, name) in waiting {
        if !guard.watches() {
            warn!("the guard of the mount is gone: changed names are seen when their validity ends");
            return;
        }
        metrics.names_doubted.inc();
        match expire(device, directory, &name) {
            // The kernel does not know the name.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::NODEV) => return,
            Err(error) => debug!(directory, %name, %error, "the kernel did not take a notice"),
        }
    }
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
