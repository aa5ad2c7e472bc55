//! Lending: an open descriptor of the content's file, for another process or the kernel to read.

use std::{fs::File, ops::Deref, sync::Arc, sync::atomic::Ordering};

use headpond_types::{ByteRange, page_range, pages_of};
use rustix::fs::OFlags;

use super::Content;
use crate::{error::Result, index::Record, policy::count_use_of_content, shared::lock};

/// A lent content with its file.
#[derive(Debug)]
pub struct Loan {
    hold: Hold,
    file: File,
}

/// Keeps a lent content as it is: while it lives no present page is taken away; the content may be dropped as a whole, which open
/// descriptors survive. It needs no descriptor itself.
///
/// Dropping the last one of a content that was asked back, or dropped meanwhile, does IO (an unlink, freed blocks).
#[derive(Debug)]
pub struct Hold(Arc<Content>);

impl Content {
    /// Lends the content. Does IO. The file is as long as the content; what is not present reads as zeros, so a borrower reads
    /// only what [`Hold::present`] names, or all of it if [`Hold::complete`]. Lending is not a use: call [`Content::touch`] on each open.
    pub fn lend(self: &Arc<Self>) -> Result<Loan> {
        let place = self.begin()?;
        if !self.is_one_unit() && !self.lent_noted.load(Ordering::Acquire) {
            self.lent.store(true, Ordering::Release);
            self.dir.append(Record::Lent { slot: place.slot })?;
            self.lent_noted.store(true, Ordering::Release);
        }
        let mut state = lock(&self.state);
        if self.is_gone() {
            return Err(self.absent(0));
        }
        state.loans += 1;
        drop(state);
        let hold = Hold(Arc::clone(self));
        let file = self.open(OFlags::RDONLY)?;
        Ok(Loan { hold, file })
    }

    pub(crate) fn is_lent(&self) -> bool {
        lock(&self.state).loans > 0
    }

    /// Notes that a lent content is wanted back; true the first time since it was last touched.
    pub(crate) fn mark_recalled(&self) -> bool {
        let mut state = lock(&self.state);
        let news = state.loans > 0 && !state.recalled;
        state.recalled |= news;
        news
    }

    fn give_back(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        state.loans -= 1;
        let last = state.loans == 0;
        let recalled = last && std::mem::take(&mut state.recalled);
        let retire = self.retires(&mut state);
        drop(state);
        self.dir.released();
        if retire {
            self.retire();
        } else if recalled {
            self.leave(true);
        } else if last && self.uses.load(Ordering::Relaxed) == 0 && self.is_complete() {
            // Kernel reads left no trace: what was lent until now passes for used once.
            count_use_of_content(&self.uses);
        }
    }
}

impl Loan {
    /// The content's file, open for reading only.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The file for the borrower, and what keeps it as it is until he gives it back.
    #[must_use]
    pub fn split(self) -> (Hold, File) {
        (self.hold, self.file)
    }
}

impl Deref for Loan {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

impl Hold {
    /// The content.
    #[must_use]
    pub const fn content(&self) -> &Arc<Content> {
        &self.0
    }

    /// Whether the content was dropped meanwhile: what is present can still be read, nothing is added any more, and the disk space comes
    /// free when the last such loan ends.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.0.is_gone()
    }

    /// Whether every byte may be read: all pages are present and verified. Once true it stays true for this loan.
    #[must_use]
    pub fn complete(&self) -> bool {
        let content = &self.0;
        content.present_pages() == content.page_count() && content.is_verified()
    }

    /// The parts of `range` that may be read: their pages are present and verified. They stay so for this loan. A page that is
    /// present but not yet verified is left out; [`Content::verify_pages`] settles it.
    #[must_use]
    pub fn present(&self, range: &ByteRange) -> Vec<ByteRange> {
        let content = &self.0;
        let runs = content.runs(pages_of(range), Content::is_word_verified);
        let bytes = |page: u64| page_range(page, content.length);
        runs.into_iter()
            .map(|run| bytes(run.start).start.max(range.start)..bytes(run.end - 1).end.min(range.end))
            .collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
