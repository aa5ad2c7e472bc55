//! Stretches of a file that hold nothing, or are to.

use std::sync::Arc;

use bytes::Bytes;
use headpond_types::Result;

use super::{FileWriter, ahead::Changed, staged::Staged, state::State};

/// Zeros that are written where no hole can be made.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// What a stretch of a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Bytes that were written, zeros or not.
    Data,
    /// Nothing, which reads as zeros. The end of a file counts as one.
    Hole,
}

impl Stretch {
    /// Where from `offset` on the next such stretch begins in a file of `length` bytes that is all data; `None` behind its end.
    #[must_use]
    pub fn next_in_data(self, offset: u64, length: u64) -> Option<u64> {
        (offset < length).then_some(match self {
            Self::Data => offset,
            Self::Hole => length,
        })
    }
}

impl FileWriter {
    /// Where from `offset` on the next such stretch begins; `None`: there is none before the end, or `offset` lies behind it. Holes are known of
    /// what is staged on this node; elsewhere all is data.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn next_stretch(&self, offset: u64, what: Stretch) -> Result<Option<u64>> {
        let (is_old, length) = {
            let state = self.lock();
            state.check()?;
            (state.origin.is_some(), state.attr.size)
        };
        if offset >= length || is_old {
            return Ok(what.next_in_data(offset, length));
        }
        match self.staged().await?.local() {
            Some(file) => Ok(match file.next_stretch(offset, what).await? {
                // What was written behind the end is no part of the file.
                Some(next) if next < length => Some(next),
                Some(_) | None => (what == Stretch::Hole).then_some(length),
            }),
            None => Ok(what.next_in_data(offset, length)),
        }
    }

    /// Makes `length` bytes from `offset` zeros, as far as the file reaches: its length stays. On this node they take no room on the disk then.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let end_in = |state: &State| offset.saturating_add(length).min(state.attr.size);
        let mut copied = self.begin_change(|state| state.used_after(offset, end_in(state))).await?;
        let end = end_in(&self.lock());
        if offset >= end {
            return self.lock().check();
        }
        self.bring_over(&mut copied, u64::MAX).await?;
        let zero = async move |staged: Arc<Staged>| staged.zero(offset, end).await;
        self.change(zero, Changed::Written { offset, end }, None).await?;
        self.lock().room.make_hole();
        Ok(())
    }
}

impl Staged {
    /// Makes the bytes from `offset` to `end` zeros, which all lie before the end.
    ///
    /// # Errors
    /// As of [`Staged::write`].
    async fn zero(&self, offset: u64, end: u64) -> Result<()> {
        if let Some(file) = self.local() {
            file.keep(&(offset..end), self.patience()).await?;
            if file.punch(offset, end - offset).await? {
                return Ok(());
            }
        }
        let mut at = offset;
        while at < end {
            let zeros = Bytes::from_static(&ZEROS);
            let piece = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
            self.write(at, zeros.slice(..piece)).await?;
            at += piece as u64;
        }
        Ok(())
    }
}
