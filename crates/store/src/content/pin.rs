//! Pins: ranges of pages that somebody reads, writes or takes away right now.

use std::{ops::Range, sync::Arc};

use super::{Content, State};
use crate::{error::Result, shared::lock};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PinKind {
    Read,
    Write,
    /// The page is no longer present; its bytes are going. Nobody may begin to write it.
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    start: u32,
    end: u32,
    kind: PinKind,
}

/// A pin; taken off when dropped.
#[derive(Debug)]
pub(super) struct Pinned {
    content: Arc<Content>,
    pin: Pin,
}

impl State {
    pub(super) fn is_pinned(&self, page: u32) -> bool {
        self.pins.iter().any(|pin| pin.covers(page))
    }

    pub(super) fn pins_of(&self, page: u32, kind: PinKind) -> usize {
        self.pins.iter().filter(|pin| pin.kind == kind && pin.covers(page)).count()
    }

    /// Nobody uses the content.
    pub(super) fn is_idle(&self) -> bool {
        self.pins.is_empty() && self.loans == 0 && !self.creating
    }
}

impl Pin {
    const fn covers(&self, page: u32) -> bool {
        self.start <= page && page < self.end
    }
}

impl Pinned {
    /// Adds a pin under a lock that the caller holds.
    pub(super) fn add(content: &Arc<Content>, state: &mut State, pages: Range<u32>, kind: PinKind) -> Self {
        let pin = Pin { start: pages.start, end: pages.end, kind };
        state.pins.push(pin);
        Self { content: Arc::clone(content), pin }
    }

    /// Keeps `pages` from being taken away. Fails with `Absent` naming the first that is not present.
    pub(super) fn read(content: &Arc<Content>, pages: Range<u32>) -> Result<Self> {
        content.dir.check()?;
        let mut state = lock(&content.state);
        if content.is_gone() {
            return Err(content.absent(pages.start.into()));
        }
        match pages.clone().find(|page| !content.table.is_present(*page)) {
            Some(page) => Err(content.absent(page.into())),
            None => Ok(Self::add(content, &mut state, pages, PinKind::Read)),
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = lock(&self.content.state);
        if let Some(at) = state.pins.iter().position(|pin| *pin == self.pin) {
            state.pins.swap_remove(at);
        }
        if state.pins.is_empty() && state.pins.capacity() > 4 {
            state.pins = Vec::new();
        }
        let retire = self.content.retires(&mut state);
        drop(state);
        match self.pin.kind {
            PinKind::Remove => self.content.settled.notify_all(),
            PinKind::Read => self.content.dir.released(),
            PinKind::Write => {}
        }
        if retire {
            self.content.retire();
        }
    }
}
