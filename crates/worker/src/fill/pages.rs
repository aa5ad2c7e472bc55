//! The pages of ranges, in order, with fills running ahead of whoever takes them.

use std::{collections::VecDeque, iter::Zip, ops::Range, sync::Arc, vec};

use headpond_types::{ByteRange, PAGE_SIZE, pages_of};

use super::{Filler, Job, flight::Ticket, headway::Priority};

/// Segments claimed at once for a reader: of 8 MiB each, they keep 16 requests under way.
const SEGMENTS_AHEAD: usize = 16;

/// The same while pages pass through memory because the cache cannot keep them.
const SEGMENTS_IN_MEMORY: usize = 2;

/// Ranges of at least so many pages begin with a request for one page.
const LEAD_FROM: u64 = 2;

/// One page of a reader's ranges.
#[derive(Debug)]
pub(crate) struct Step {
    /// The page.
    pub(crate) page: u64,
    /// The bytes wanted of it, as offsets in the content; never empty.
    pub(crate) bytes: ByteRange,
    /// How to get it.
    pub(crate) ticket: Ticket,
}

/// A part of a range that lies in one segment, claimed.
#[derive(Debug)]
struct Claimed {
    bytes: ByteRange,
    pages: Zip<Range<u64>, vec::IntoIter<Ticket>>,
}

/// Iterates over the pages of ranges and claims ahead of them. Never waits; claims no further while nobody
/// iterates.
#[derive(Debug)]
pub(crate) struct Pages {
    filler: Arc<Filler>,
    job: Job,
    ranges: VecDeque<ByteRange>,
    claimed: VecDeque<Claimed>,
    lead: bool,
}

impl Pages {
    /// The pages of `ranges`, as far as they lie inside the content. The first of them are claimed at once.
    pub(crate) fn new(filler: Arc<Filler>, job: Job, ranges: Vec<ByteRange>) -> Self {
        let ranges = ranges.into_iter().map(|range| job.grant.clamp(range)).filter(|range| !range.is_empty()).collect();
        let mut pages = Self { filler, job, ranges, claimed: VecDeque::new(), lead: true };
        pages.claim_ahead();
        pages
    }

    fn claim_ahead(&mut self) {
        let segment = self.filler.segment_pages() * PAGE_SIZE;
        let in_memory = self.job.content.is_none() || !self.filler.is_keeping();
        let ahead = if in_memory { SEGMENTS_IN_MEMORY } else { SEGMENTS_AHEAD };
        while self.claimed.len() < ahead
            && let Some(range) = self.ranges.front_mut()
        {
            let cut = (range.start / segment + 1).saturating_mul(segment).min(range.end);
            let bytes = std::mem::replace(&mut range.start, cut)..cut;
            if range.is_empty() {
                self.ranges.pop_front();
            }
            let pages = pages_of(&bytes);
            let lead = std::mem::take(&mut self.lead) && pages.end - pages.start >= LEAD_FROM;
            let tickets = self.filler.claim(&self.job, pages.clone(), Priority::Now, lead);
            self.claimed.push_back(Claimed { bytes, pages: pages.zip(tickets) });
        }
    }
}

impl Iterator for Pages {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            self.claim_ahead();
            let claimed = self.claimed.front_mut()?;
            let Some((page, ticket)) = claimed.pages.next() else {
                self.claimed.pop_front();
                continue;
            };
            let start = (page * PAGE_SIZE).max(claimed.bytes.start);
            let end = ((page + 1) * PAGE_SIZE).min(claimed.bytes.end);
            return Some(Step { page, bytes: start..end, ticket });
        }
    }
}
