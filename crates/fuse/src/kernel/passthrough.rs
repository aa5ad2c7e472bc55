//! Whether the kernel takes backing files, learnt once for the whole mount.

use std::{fs::File, io, os::fd::AsFd, sync::OnceLock};

use fuser::BackingId;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
};
use tracing::{debug, info};

/// `f_type` of overlayfs (linux/magic.h).
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// Passthrough of a mount: on until the kernel refuses it for a reason that will not go away.
#[derive(Debug, Default)]
pub(crate) struct Passthrough {
    refused: OnceLock<String>,
}

impl Passthrough {
    /// Why there is none; `None` while there is.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// Turns it off for the whole mount; only the first reason is kept and told.
    pub(super) fn refuse(&self, reason: String) {
        if self.refused.set(reason).is_ok()
            && let Some(reason) = self.refused.get()
        {
            info!(reason, "no passthrough: complete files are read through the daemon and the kernel's page cache");
        }
    }

    /// Offers the kernel a file that everybody could pass through, to hear of a refusal before the first open.
    pub(super) fn probe(&self, device: impl AsFd) {
        if self.refused().is_some() {
            return;
        }
        let tried = memfd_create("headpond-passthrough", MemfdFlags::CLOEXEC)
            .map_err(io::Error::from)
            .and_then(|probe| BackingId::create_raw(&device, probe));
        match tried {
            Ok(id) => close(device, id),
            Err(error) => self.refuse(reason(&error)),
        }
    }

    /// Registers `file` through `open_backing`; `None`: it is to be read through the daemon.
    pub(super) fn register(
        &self,
        file: &File,
        open_backing: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Option<BackingId> {
        if self.refused().is_some() {
            return None;
        }
        match open_backing(file) {
            Ok(id) => Some(id),
            Err(error) if is_lasting(&error) => {
                self.refuse(reason(&error));
                None
            }
            Err(error) => {
                debug!(%error, "a file could not be registered for passthrough");
                None
            }
        }
    }
}

/// How many levels of stacking the backing files need: those on overlayfs two, all others one.
pub(super) fn stack_depth(cache_dir: Option<&std::path::Path>) -> u32 {
    let overlay = cache_dir.and_then(|dir| rustix::fs::statfs(dir).ok()).is_some_and(|fs| fs.f_type == OVERLAYFS_MAGIC);
    if overlay { 2 } else { 1 }
}

fn is_lasting(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::PERM | Errno::LOOP | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY | Errno::INVAL))
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => "it needs root (CAP_SYS_ADMIN outside of any user namespace)".to_owned(),
        Some(Errno::LOOP) => {
            "the cache directory lies on overlayfs: put it on a volume, or name it as the mount's cache_dir".to_owned()
        }
        Some(Errno::NOTTY | Errno::NOSYS | Errno::OPNOTSUPP) => {
            "the kernel has none (Linux 6.9 is the first)".to_owned()
        }
        _ => format!("the kernel answered: {error}"),
    }
}

/// Takes a registration back.
fn close(device: impl AsFd, id: u32) {
    use rustix::ioctl::{Setter, ioctl, opcode};
    // _IOW(229, 2, uint32_t) of linux/fuse.h.
    const BACKING_CLOSE: rustix::ioctl::Opcode = opcode::write::<u32>(229, 2);
    // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE reads one u32 through its argument, which `Setter` passes.
    #[expect(unsafe_code, reason = "fuser closes only registrations made for a reply")]
    let closed = unsafe { ioctl(device, Setter::<BACKING_CLOSE, u32>::new(id)) };
    if let Err(error) = closed {
        debug!(%error, "the passthrough probe could not be taken back");
    }
}
