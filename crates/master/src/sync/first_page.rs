//! First pages of listings, kept from the moment a directory was found until it is listed.
//!
//! Whoever looks a directory up is likely to list it next, and to many stores the first page of a listing is the dearest: a
//! MinIO reads all names of the directory for it, however few keys are wanted. So whether a directory is there is asked as
//! for the first page of its listing, and the listing that follows goes on from that page.

use std::time::Duration;

use headpond_types::{InodeId, MountId, Timestamp};
use headpond_ufs::{Key, ListPage};
use moka::sync::Cache;

/// Entries kept in all, about 300 bytes each.
const ENTRIES: u64 = 10_000;

/// A listing goes on from a page for so long: whoever lists later is shown what the store holds then.
const SERVES: Duration = Duration::from_secs(2);

/// When the memory of a page that no listing took is given back.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// A first page, of a directory as its parent's store lists it.
#[derive(Clone, Debug)]
pub(crate) struct FirstPage {
    /// Whose store was asked.
    pub(crate) mount: MountId,
    /// The prefix that was listed.
    pub(crate) prefix: Key,
    /// When the asking began: the time of a listing that goes on from here.
    pub(crate) began: Timestamp,
    /// Of a delimited listing with pages of the store's own size.
    pub(crate) page: ListPage,
}

/// The pages, by their directories.
#[derive(Debug)]
pub(crate) struct FirstPages(Cache<InodeId, FirstPage>);

impl FirstPage {
    /// Whether a listing may go on from here at `now`.
    pub(crate) fn is_recent(&self, now: Timestamp) -> bool {
        self.began <= now && now.saturating_since(self.began) <= SERVES
    }
}

impl FirstPages {
    pub(crate) fn new() -> Self {
        let weight = |_: &InodeId, first: &FirstPage| u32::try_from(first.page.entries.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(ENTRIES).weigher(weight).time_to_live(KEPT_FOR).build())
    }

    pub(crate) fn keep(&self, dir: InodeId, first: FirstPage) {
        self.0.insert(dir, first);
    }

    /// Takes out the page of `dir`.
    pub(crate) fn take(&self, dir: InodeId) -> Option<FirstPage> {
        self.0.remove(&dir)
    }
}
