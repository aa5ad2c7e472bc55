//! What a sequential reader will want next.
//!
//! A reader that has read `run` bytes without a gap is expected to read on; up to four times that is kept ready in front of
//! it, at most a set bound. So a reader that stops has cost at most four times what it read, and one that goes on has 256 MiB
//! in front of it after 64 MiB: 32 requests of 8 MiB at the under store. About half of them are under way at any time: a
//! reader takes bytes in order, and what lies in front of it has come before what lies behind. Nothing is fetched ahead for
//! runs up to 2 MiB: that is as far as the kernel's own readahead goes for a single read of 1 MiB, and such a read must not
//! fetch more than it wants.
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

/// Runs up to so long have pieces of so many bytes asked for, each of which becomes one request at the under store. Short
/// ones at first, so that a reader that has just begun gets many connections, and 8 MiB in the end: more requests than
/// needed cost the store and us a processor.
const PIECES: [(u64, u64); 3] = [(8 << 20, 2 << 20), (32 << 20, 4 << 20), (u64::MAX, 8 << 20)];

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

    /// Notes a read and says what to ask for by now, piece by piece.
    pub(crate) fn observe(&mut self, read: &ByteRange) -> Vec<ByteRange> {
        if self.max == 0 || read.is_empty() {
            return Vec::new();
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
        let Some(stream) = self.streams.last_mut() else { return Vec::new() };
        if stream.advance(read) { stream.next(self.length, self.max) } else { Vec::new() }
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

    /// What to ask for: what fits into the window in whole pieces, and the rest of the content.
    fn next(&mut self, length: u64, max: u64) -> Vec<ByteRange> {
        let run = self.front - self.start;
        if run <= MIN_RUN {
            return Vec::new();
        }
        let piece = PIECES.iter().find(|(longest, _)| run <= *longest).map_or(u64::MAX, |(_, piece)| *piece);
        let piece = piece.min(1 << max.ilog2());
        let limit = self.front.saturating_add(run.saturating_mul(RATIO).min(max)).min(length);
        let mut pieces = Vec::new();
        let mut start = self.requested.max(self.front);
        loop {
            // Pieces end where pieces of that size end in the content: so do the requests of workers.
            let end = ((start / piece + 1) * piece).min(length);
            if start >= end || end > limit {
                return pieces;
            }
            self.requested = end;
            pieces.push(start..end);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests;
