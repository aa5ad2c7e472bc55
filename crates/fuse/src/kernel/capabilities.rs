//! What is agreed with the kernel when a mount starts.

use fuser::{InitFlags, KernelConfig};
use tracing::debug;

use super::{passthrough::Passthrough, session::SessionOptions};

/// Requests of readahead that may be under way at once, and from when on the kernel holds back.
const MAX_BACKGROUND: u16 = 128;
const CONGESTION: u16 = 96;

/// What is used where the kernel offers it. Never the writeback cache: with it the kernel refuses every backing file.
/// Neither extended setxattr nor io_uring: fuser 0.18 cannot speak them.
const WANTED: InitFlags = InitFlags::FUSE_PARALLEL_DIROPS
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_ATOMIC_O_TRUNC)
    .union(InitFlags::FUSE_EXPLICIT_INVAL_DATA)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2)
    .union(InitFlags::FUSE_ABORT_ERROR)
    .union(InitFlags::FUSE_ALLOW_IDMAP);

/// Agrees on what this mount needs.
pub(super) fn negotiate(config: &mut KernelConfig, options: &SessionOptions, passthrough: &Passthrough) {
    let offered = config.capabilities();
    let mut wanted = WANTED & offered;
    if options.dataset {
        passthrough.refuse("a dataset mount opens files without asking".to_owned());
    } else if !options.passthrough {
        passthrough.refuse("it is switched off".to_owned());
    } else if !offered.contains(InitFlags::FUSE_PASSTHROUGH) {
        passthrough.refuse("the kernel has none (Linux 6.9 is the first)".to_owned());
    } else if config.set_max_stack_depth(options.stack_depth).is_ok() {
        wanted |= InitFlags::FUSE_PASSTHROUGH;
    }
    let agreed = config
        .add_capabilities(wanted)
        .and(config.set_max_background(MAX_BACKGROUND).map_err(|_| wanted))
        .and(config.set_congestion_threshold(CONGESTION).map_err(|_| wanted));
    debug!(?offered, ?wanted, ?agreed, abi = %config.kernel_abi(), "capabilities of the FUSE mount");
}
