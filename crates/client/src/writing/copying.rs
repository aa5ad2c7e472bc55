//! Staging the old version of a file before its first change.

use std::sync::Arc;

use headpond_types::{Attr, Error, ErrorKind, Result};

use super::FileWriter;
use crate::{OpenFile, opening};

/// Bytes read and staged at a time.
const PIECE: u64 = 4 << 20;

/// Longest version that is staged before its file loses its name.
const KEPT: u64 = 64 << 20;

/// How much of the old version is staged, from its beginning. A copy that was cut short goes on there.
#[derive(Debug, Default)]
pub(super) struct Copied(u64);

impl FileWriter {
    /// Stages the old version, or of one that is longer its first `enough` bytes, unless that was done. Reads go on to be
    /// answered from it until the change is made.
    pub(super) async fn bring_over(&self, copied: &mut Copied, enough: u64) -> Result<()> {
        let origin = {
            let state = self.lock();
            state.check()?;
            match &state.origin {
                Some(origin) => Arc::clone(origin),
                None => return Ok(()),
            }
        };
        let enough = enough.min(origin.size);
        if copied.0 < enough {
            let (file, staged) = (self.origin(Arc::clone(&origin)).await?, self.staged().await?);
            while copied.0 < enough {
                let length = usize::try_from((enough - copied.0).min(PIECE)).unwrap_or(usize::MAX);
                let piece = file.read_at(copied.0, length).await?;
                if piece.is_empty() {
                    let message = format!("the old version of inode {} ends before its length", origin.inode);
                    return Err(Error::new(ErrorKind::Internal, message));
                }
                let length = piece.len() as u64;
                staged.write(copied.0, piece).await.inspect_err(|error| self.note(error))?;
                copied.0 += length;
            }
        }
        Ok(())
    }

    /// Stages the old version although it was not changed, if it is no longer than [`KEPT`]: the file is about to lose its name, and with it what
    /// it had in the under store.
    pub(super) async fn keep_old(&self) {
        let mut copied = self.changing.lock().await;
        if self.lock().origin.as_ref().is_none_or(|origin| origin.size > KEPT) {
            return;
        }
        match self.bring_over(&mut copied, u64::MAX).await {
            Ok(()) => {
                let mut state = self.lock();
                let used = state.used();
                state.room.take(used, false);
                state.origin = None;
            }
            Err(error) => tracing::debug!(%error, "who has a removed file open may not be able to go on"),
        }
    }

    /// The old version, to be read.
    ///
    /// # Errors
    /// `Stale` when it was replaced from outside.
    pub(super) async fn origin(&self, origin: Arc<Attr>) -> Result<Arc<OpenFile>> {
        let file = opening::open(&self.shared, origin.inode).await?;
        if file.attr().content == origin.content {
            return Ok(file);
        }
        let message = format!("inode {} was replaced while it was opened for writing: open it again", origin.inode);
        Err(Error::new(ErrorKind::Stale, message))
    }
}
