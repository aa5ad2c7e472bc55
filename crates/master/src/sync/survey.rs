//! Which directories are worth listing because single names in them are asked for.
//!
//! A name in a directory that was never listed, or has become too large to be listed for one name, costs two requests to the store
//! and a command. Somebody who asks for several names there is likely to ask for more, so the directory is listed
//! in the background, unless that turns out to take many pages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use headpond_types::InodeId;
use moka::sync::Cache;

/// Names asked for alone from which on the directory is listed: twice as many requests as a listing of as many pages takes.
const FROM: u32 = 8;

/// Entries after which a survey is given up: 16 pages, what the questions that led to it have cost.
pub(crate) const LIMIT: u64 = 16_000;

/// A directory that was given up is not tried again for so long.
const REST: Duration = Duration::from_mins(10);

/// Directories counted, about 100 bytes each. One that falls out is counted from the start.
const DIRECTORIES: u64 = 20_000;

/// Counts names asked for alone, per directory.
#[derive(Debug)]
pub(crate) struct Surveys {
    asked: Cache<InodeId, Arc<AtomicU32>>,
}

impl Surveys {
    pub(crate) fn new() -> Self {
        Self { asked: Cache::builder().max_capacity(DIRECTORIES).time_to_live(REST).build() }
    }

    /// A name in `dir` was asked for alone: whether `dir` is to be listed now.
    pub(crate) fn is_due(&self, dir: InodeId) -> bool {
        let asked = self.asked.get_with(dir, Arc::default);
        asked.fetch_add(1, Ordering::Relaxed) + 1 == FROM
    }

    /// The survey of `dir` came to its end: when it is outdated, the next may begin.
    pub(crate) fn completed(&self, dir: InodeId) {
        self.asked.invalidate(&dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_due_once_until_its_survey_is_complete() {
        let surveys = Surveys::new();
        let due = |dir| (0..100).filter(|_| surveys.is_due(InodeId(dir))).count();
        assert!((1..FROM).all(|_| !surveys.is_due(InodeId(5))));
        assert!(surveys.is_due(InodeId(5)));
        assert_eq!((due(5), due(6)), (0, 1));
        surveys.completed(InodeId(5));
        assert_eq!(due(5), 1);
    }
}
