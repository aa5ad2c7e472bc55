//! Room for bytes that are not written yet, and holes.

use headpond_runtime::{Clock as _, SystemClock};
use headpond_types::{Error, ErrorKind, Result};

use super::{FileSystem, Source, SourceWriter};

/// What is to be done with a stretch of a file that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// Its bytes become zeros.
    pub(crate) zeros: bool,
    /// The file becomes long enough for it.
    pub(crate) extends: bool,
}

impl Allocation {
    /// What fallocate(2) calls `mode`; `None` for what there is not.
    pub(crate) const fn of(mode: i32) -> Option<Self> {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match mode {
            0 => Some(Self { zeros: false, extends: true }),
            // No room is set aside: that of the store has no bound that could be known.
            libc::FALLOC_FL_KEEP_SIZE => Some(Self { zeros: false, extends: false }),
            PUNCH | ZERO_KEEP => Some(Self { zeros: true, extends: false }),
            libc::FALLOC_FL_ZERO_RANGE => Some(Self { zeros: true, extends: true }),
            _ => None,
        }
    }
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// Makes room for `length` bytes from `offset`, or zeros of them.
    pub(crate) async fn allocate(&self, handle: u64, offset: u64, length: u64, what: Allocation) -> Result<()> {
        let end = offset.checked_add(length).filter(|end| i64::try_from(*end).is_ok()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, format!("no file reaches {length} bytes beyond {offset}"))
        })?;
        let writer = self.writer(handle)?;
        if what.zeros {
            writer.zero(offset, length).await?;
        }
        if what.extends && writer.attr().size < end {
            writer.set_length(end).await?;
        }
        // Also of what is not persisted yet: another time may have been set since it was written.
        self.set_modified(writer.attr().inode, SystemClock.now()).await
    }
}
