//! One pass over a directory, streamed: what the kernel is given as it asks with growing offsets.
//!
//! Offset 0 stands before `.`, 1 before `..`, `n + 2` before entry `n` of the listing. The kernel may go back to anything within its
//! last question (what did not fit its caller's buffer) and that is still here; further back, or after an error, the listing
//! is asked for again from a name remembered nearby. So a pass holds about a page of entries, whatever the directory has.

use std::{collections::VecDeque, fmt, ops::ControlFlow, sync::Arc};

use futures::{StreamExt as _, stream::BoxStream};
use headpond_client::{ListEntry, ListPage};
use headpond_types::{Attr, Error, ErrorKind, Name, Result};
use tokio::time::Instant;

/// Entries before the listing's own.
const DOTS: u64 = 2;

/// What is handed out at one offset.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// `.`
    This,
    /// `..`
    Above,
    /// An entry, and until when it may be believed.
    Entry(&'a [u8], &'a Arc<Attr>, Instant),
}

/// Takes an item and the offset after it; breaks when there is no room for it.
pub(crate) trait Fill: FnMut(Item<'_>, u64) -> ControlFlow<()> {}
impl<F: FnMut(Item<'_>, u64) -> ControlFlow<()>> Fill for F {}

/// Starts the listing after a name.
pub(super) trait Begin: FnMut(Option<Name>) -> BoxStream<'static, Result<ListPage>> {}
impl<F: FnMut(Option<Name>) -> BoxStream<'static, Result<ListPage>>> Begin for F {}

/// The state of a pass.
#[derive(Default)]
pub(super) struct Lister {
    stream: Option<BoxStream<'static, Result<ListPage>>>,
    /// Entries received and not yet left behind.
    window: VecDeque<(ListEntry, Instant)>,
    /// Index in the listing of the window's first entry.
    first: u64,
    /// The last entry received.
    last: Option<Name>,
    /// For each page received: the index of its first entry and the name before it.
    marks: Vec<(u64, Option<Name>)>,
    /// The listing was received to its end.
    ended: bool,
    /// The listing was received in one go; only then all of it has one validity.
    whole: bool,
    valid_until: Option<Instant>,
}

impl fmt::Debug for Lister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lister")
            .field("first", &self.first)
            .field("window", &self.window.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Lister {
    /// Hands out what is here from `offset` on. `false`: nothing was handed out and more must be [`received`](Self::receive)
    /// first; `true` with nothing handed out is the end.
    pub(super) fn hand_out(&mut self, offset: u64, fill: &mut impl Fill) -> bool {
        let index = offset.saturating_sub(DOTS);
        if index < self.first {
            return false;
        }
        let mut given = false;
        if offset == 0 {
            if fill(Item::This, 1).is_break() {
                return true;
            }
            given = true;
        }
        if offset <= 1 {
            if fill(Item::Above, DOTS).is_break() {
                return true;
            }
            given = true;
        }
        self.leave_behind(index);
        let mut at = self.first;
        for (entry, valid_until) in &self.window {
            at += 1;
            if at <= index {
                continue;
            }
            if fill(Item::Entry(&entry.name, &entry.attr, *valid_until), at + DOTS).is_break() {
                return true;
            }
            given = true;
        }
        given || self.ended
    }

    /// Receives until the entry at `offset` is here or the listing has ended. Cancel-safe.
    ///
    /// # Errors
    /// Of the listing; the next call tries again from where it broke.
    pub(super) async fn receive(&mut self, offset: u64, begin: &mut impl Begin) -> Result<()> {
        let index = offset.saturating_sub(DOTS);
        if offset == 0 && (self.stream.is_some() || self.ended) || index < self.first {
            self.go_back(index);
        }
        while !self.ended && index >= self.received() {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    self.whole = self.received() == 0;
                    self.stream.insert(begin(self.last.clone()))
                }
            };
            match stream.next().await {
                Some(Ok(page)) => self.take(page)?,
                Some(Err(error)) => {
                    self.stream = None;
                    return Err(error);
                }
                None => {
                    self.stream = None;
                    self.ended = true;
                }
            }
            self.leave_behind(index);
        }
        Ok(())
    }

    /// Until when the listing is valid, once all of it was received in one go.
    pub(super) fn whole_until(&self) -> Option<Instant> {
        if self.ended && self.whole { self.valid_until } else { None }
    }

    fn received(&self) -> u64 {
        self.first + self.window.len() as u64
    }

    fn take(&mut self, page: ListPage) -> Result<()> {
        self.marks.push((self.received(), self.last.clone()));
        if let Some(last) = page.entries.last() {
            self.last =
                Some(Name::new(&last.name).map_err(|error| {
                    Error::new(ErrorKind::Internal, format!("a listing has {:?}: {error}", last.name))
                })?);
        }
        self.valid_until = Some(self.valid_until.map_or(page.valid_until, |until| until.min(page.valid_until)));
        self.window.extend(page.entries.into_iter().map(|entry| (entry, page.valid_until)));
        Ok(())
    }

    /// Drops entries before `index`, which the kernel does not come back to.
    fn leave_behind(&mut self, index: u64) {
        let behind = index.saturating_sub(self.first).min(self.window.len() as u64);
        #[expect(clippy::cast_possible_truncation, reason = "at most the window's length")]
        self.window.drain(..behind as usize);
        self.first += behind;
    }

    /// Stands at the last mark at or before `index`, with nothing received after it.
    fn go_back(&mut self, index: u64) {
        let keep = if index == 0 { 0 } else { self.marks.partition_point(|(mark, _)| *mark <= index) };
        self.marks.truncate(keep);
        let (first, last) = self.marks.pop().unwrap_or_default();
        let marks = std::mem::take(&mut self.marks);
        *self = Self { first, last, marks, ..Self::default() };
    }
}

#[cfg(test)]
mod tests;
