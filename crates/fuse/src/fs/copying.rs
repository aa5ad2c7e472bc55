//! Copying from one open file to another, without the bytes leaving this process. The under store is not sent what it has, where that is copied to the same
//! place of another file.

use headpond_types::Result;
use tracing::debug;

use super::{FileSystem, READER, Source, SourceWriter};

/// Bytes read and written at a time.
const PIECE: u64 = 4 << 20;

/// Most bytes of one request: whoever asked can be interrupted in between, and asks for the rest.
const MOST: u64 = 256 << 20;

/// A place in an open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    pub(crate) node: u64,
    pub(crate) handle: u64,
    pub(crate) offset: u64,
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// Whether the bytes that the kernel reads through a handle can be had here.
    pub(crate) fn may_copy_from(&self, from: Spot) -> bool {
        from.handle != READER || !self.opens.is_read_as_another(from.node)
    }

    /// Copies up to `length` bytes between places that do not overlap: how many. Fewer when they are too many for one request, at the end of the
    /// file, and after an error, which comes again with the rest.
    ///
    /// # Errors
    /// When nothing was copied.
    pub(crate) async fn copy(&self, from: Spot, to: Spot, length: u64) -> Result<u32> {
        let writer = self.writer(to.handle)?;
        let length = length.min(MOST);
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from((length - done).min(PIECE)).unwrap_or(usize::MAX);
            let copied = async {
                let at = to.offset.saturating_add(done);
                let (piece, file) =
                    self.read_of(from.node, from.handle, from.offset.saturating_add(done), wanted).await?;
                let copied = piece.len() as u64;
                match file.filter(|_| from.offset == to.offset) {
                    Some(file) => writer.write_copied(at, piece, &file).await?,
                    None => writer.write_at(at, piece).await?,
                }
                Ok(copied)
            };
            match copied.await {
                Ok(0) => break,
                Ok(copied) => done += copied,
                Err(error) if done == 0 => return Err(error),
                Err(error) => {
                    debug!(%error, "a copy ends early");
                    break;
                }
            }
        }
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }
}
