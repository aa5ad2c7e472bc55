//! Stretches of a file that are to hold nothing.

use bytes::Bytes;
use headpond_types::Result;

use super::{FileWriter, ahead::Changed, staged::Staged};

/// Zeros that are written where no hole can be made.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl FileWriter {
    /// Makes `length` bytes from `offset` zeros, as far as the file reaches: its length stays. On this node they take no room on the disk then.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let mut copied = self.changing.lock().await;
        let end = offset.saturating_add(length).min(self.length());
        if offset >= end {
            return self.lock().check();
        }
        self.bring_over(&mut copied, u64::MAX).await?;
        self.change(|staged| staged.zero(offset, end), None, Changed::Written { offset, end }).await
    }
}

impl Staged {
    /// Makes the bytes from `offset` to `end` zeros, which all lie before the end.
    ///
    /// # Errors
    /// As of [`Staged::write`].
    async fn zero(&self, offset: u64, end: u64) -> Result<()> {
        if let Some(file) = self.local()
            && file.punch(offset, end - offset).await?
        {
            return Ok(());
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
