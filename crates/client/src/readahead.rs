//! What a sequential reader will want next.
//!
//! A reader that has read `run` bytes without a gap is expected to read on; up to four times that is kept ready in front of
//! it, at most a set bound. So a reader that stops has cost at most four times what it read, and one that goes on has 128 MiB
//! under way after 32 MiB: 16 requests of 8 MiB at the under store. Nothing is fetched ahead for runs up to 2 MiB: that is as
//! far as the kernel's own readahead goes for a single read of 1 MiB, and such a read must not fetch more than it wants.
//!
//! A file may have several readers at once, and the kernel reorders its readahead: a few streams are followed, each with the
//! reads that came early.

use headpond_types::ByteRange;

/// Streams followed per file.
const STREAMS: usize = 8;

/// How far in front of a stream a read may come early, or behind it late, and still belong to it.
const REORDER: u64 = 16 << 20;

/// Early reads remembered per stream.
const EARLY: usize = 32;

/// Runs up to this long have nothing read ahead.
const MIN_RUN: u64 = 2 << 20;

/// Bytes ahead per byte of the run.
const RATIO: u64 = 4;

/// Least that is asked for at once, unless it is the end of the file.
const MIN_REQUEST: u64 = 1 << 20;

/// Watches the reads of one content.
#[derive(Debug)]
pub(crate) struct Readahead {
    length: u64,
    max: u64,
    /// Most recently used last.
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    start: u64,
    /// Everything from `start` to here was read.
    front: u64,
    /// Read ranges beyond the front, not touching it.
    early: Vec<ByteRange>,
    /// Everything from the front to here was asked for.
    requested: u64,
}

impl Readahead {
    /// For a content of `length` bytes, with at most `max` bytes ahead; 0 for none.
    pub(crate) const fn new(length: u64, max: u64) -> Self {
        Self { length, max, streams: Vec::new() }
    }

    /// Notes a read and says what to ask for, if it is time to.
    pub(crate) fn observe(&mut self, read: &ByteRange) -> Option<ByteRange> {
        if self.max == 0 || read.is_empty() {
            return None;
        }
        let index = self.stream_of(read);
        let stream = match index {
            Some(index) => self.streams.remove(index),
            None => {
                if self.streams.len() == STREAMS {
                    self.streams.remove(0);
                }
                Stream { start: read.start, front: read.start, early: Vec::new(), requested: read.start }
            }
        };
        self.streams.push(stream);
        let stream = self.streams.last_mut()?;
        if stream.advance(read) { stream.next(self.length, self.max) } else { None }
    }

    /// The stream that `read` continues, or else the one that it is near to.
    fn stream_of(&self, read: &ByteRange) -> Option<usize> {
        let continues =
            |stream: &Stream| stream.start <= read.start && read.start <= stream.front && stream.front < read.end;
        let is_near = |stream: &Stream| read.start < stream.front + REORDER && stream.front < read.start + REORDER;
        self.streams.iter().rposition(continues).or_else(|| self.streams.iter().rposition(is_near))
    }
}

impl Stream {
    /// Takes a read in; whether the front has moved.
    fn advance(&mut self, read: &ByteRange) -> bool {
        if read.start > self.front {
            if self.early.len() == EARLY {
                self.early.remove(0);
            }
            self.early.push(read.clone());
            return false;
        }
        if read.end <= self.front {
            return false;
        }
        self.front = read.end;
        while let Some(index) = self.early.iter().position(|early| early.start <= self.front) {
            self.front = self.early.swap_remove(index).end.max(self.front);
        }
        true
    }

    /// What to ask for. A quarter of the window must have been used up since the last time.
    fn next(&mut self, length: u64, max: u64) -> Option<ByteRange> {
        let run = self.front - self.start;
        if run <= MIN_RUN {
            return None;
        }
        let window = run.saturating_mul(RATIO).min(max);
        let start = self.requested.max(self.front);
        let end = self.front.saturating_add(window).min(length);
        let is_due =
            start - self.front < window - window / 4 && (end.saturating_sub(start) >= MIN_REQUEST || end == length);
        if !is_due || start >= end {
            return None;
        }
        self.requested = end;
        Some(start..end)
    }
}

#[cfg(test)]
mod tests;
