//! Random operations against a plain model, with reopening in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use headpond_store::{Content, Loan, PageStore, PageWriter, StoreError};
use headpond_types::{PAGE_SIZE, page_count, page_range};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{id, page_bytes, store};

/// Lengths of the contents in play: empty, tiny, one unit, many units with an odd end.
const LENGTHS: [u64; 6] = [0, 10, PAGE_SIZE, 3 * PAGE_SIZE + 1, 10 * PAGE_SIZE, 19 * PAGE_SIZE + 4097];

struct World<'a> {
    path: &'a Path,
    capacity_mib: u64,
    store: PageStore,
    /// Pages committed and not freed since: what may be present, and must be if there is room for everything.
    filled: BTreeMap<u64, BTreeSet<u64>>,
    writers: Vec<(u64, u64, PageWriter)>,
    loans: Vec<(u64, Loan, BTreeSet<u64>)>,
}

impl World<'_> {
    fn content(&self, n: u64) -> Arc<Content> {
        self.store.content(id(n), length(n)).unwrap()
    }

    fn is_roomy(&self) -> bool {
        self.capacity_mib > 1000
    }

    fn step(&mut self, rng: &mut StdRng) {
        let n = rng.random_range(0..LENGTHS.len() as u64);
        let page = rng.random_range(0..page_count(length(n)).max(1));
        match rng.random_range(0..100) {
            0..40 => self.write(n, page, rng),
            40..65 => self.read(n, rng),
            65..70 => self.content(n).touch(),
            70..76 => self.free(n),
            76..84 => self.lend(n),
            84..90 if !self.loans.is_empty() => drop(self.loans.swap_remove(rng.random_range(0..self.loans.len()))),
            90..94 if !self.writers.is_empty() => {
                drop(self.writers.swap_remove(rng.random_range(0..self.writers.len())))
            }
            94..96 => drop(self.store.scrub_step(4 * PAGE_SIZE)),
            96 => self.reopen(),
            _ => {}
        }
        self.check();
    }

    fn write(&mut self, n: u64, page: u64, rng: &mut StdRng) {
        if page_count(length(n)) == 0 {
            return;
        }
        match self.content(n).page_writer(page) {
            Ok(writer) => self.writers.push((n, page, writer)),
            Err(StoreError::AlreadyPresent { .. }) => assert!(self.filled[&n].contains(&page)),
            Err(StoreError::Full { .. }) => assert!(!self.is_roomy()),
            Err(error) => panic!("{error}"),
        }
        if rng.random_bool(0.3) || self.writers.is_empty() {
            return;
        }
        let (n, page, mut writer) = self.writers.swap_remove(rng.random_range(0..self.writers.len()));
        let bytes = page_bytes(id(n), length(n), page);
        for chunk in bytes.chunks(rng.random_range(200_000..2_000_000)) {
            writer.write(chunk).unwrap();
        }
        match writer.commit() {
            Ok(()) => drop(self.filled.entry(n).or_default().insert(page)),
            // The writer is of a content that was freed since.
            Err(StoreError::Absent { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&self, n: u64, rng: &mut StdRng) {
        let a = rng.random_range(0..=length(n));
        let range = a..(a + rng.random_range(0..3 * PAGE_SIZE)).min(length(n));
        match self.content(n).read(range.clone()) {
            Ok(bytes) => assert_eq!(bytes, expected(n, range.start, range.end)),
            Err(StoreError::Absent { page, .. }) => {
                assert!(!self.is_roomy() || !self.filled.get(&n).is_some_and(|pages| pages.contains(&page)));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn free(&mut self, n: u64) {
        self.store.free(id(n));
        self.filled.remove(&n);
    }

    fn lend(&mut self, n: u64) {
        let content = self.content(n);
        let loan = content.lend().unwrap();
        let pages =
            loan.present(&(0..length(n))).into_iter().flat_map(|range| headpond_types::pages_of(&range)).collect();
        self.loans.push((n, loan, pages));
    }

    /// As if the process had died: writers and loans are not given back first.
    fn reopen(&mut self) {
        let loans = std::mem::take(&mut self.loans);
        let writers = std::mem::take(&mut self.writers);
        // The directory must be let go before it can be opened again; a store of nothing takes the place meanwhile.
        let nowhere = tempfile::tempdir().unwrap();
        drop(std::mem::replace(&mut self.store, store(nowhere.path(), 1)));
        self.store = store(self.path, self.capacity_mib);
        drop((writers, loans));
    }

    fn check(&mut self) {
        let mut pages = 0;
        for n in 0..LENGTHS.len() as u64 {
            let Some(content) = self.store.find(id(n)) else {
                assert!(!self.is_roomy() || self.filled.get(&n).is_none_or(BTreeSet::is_empty), "content {n} is lost");
                continue;
            };
            let present: BTreeSet<u64> = (0..page_count(length(n))).filter(|page| content.is_present(*page)).collect();
            let missing: u64 = content.missing(0..u64::MAX).iter().map(|run| run.end - run.start).sum();
            assert_eq!(missing + present.len() as u64, page_count(length(n)));
            assert_eq!(content.is_complete(), missing == 0);
            let filled = self.filled.entry(n).or_default();
            assert!(present.is_subset(filled));
            if self.capacity_mib > 1000 {
                assert_eq!(present, *filled);
            }
            pages += present.len() as u64;
        }
        let usage = self.store.usage();
        assert!(usage.used_bytes() <= usage.capacity_bytes(), "{usage:?}");
        // Contents that were freed while lent or being written still count.
        assert!(
            usage.pages() >= pages && (!self.loans.is_empty() || !self.writers.is_empty() || usage.pages() == pages),
            "{usage:?}, found {pages}"
        );
        if self.loans.is_empty() && self.writers.is_empty() && pages == 0 {
            assert_eq!(usage.used_bytes(), 0);
        }
        for (n, loan, pages) in &self.loans {
            for page in pages {
                let range = page_range(*page, length(*n));
                let mut first = [0; 8];
                let at = &mut first[..usize::try_from((range.end - range.start).min(8)).unwrap()];
                loan.file().read_exact_at(at, range.start).unwrap();
                assert_eq!(*at, expected(*n, range.start, range.start + at.len() as u64), "page {page} under a loan");
            }
        }
    }
}

fn length(n: u64) -> u64 {
    LENGTHS[usize::try_from(n).unwrap()]
}

fn expected(n: u64, start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for page in headpond_types::pages_of(&(start..end)) {
        let range = page_range(page, length(n));
        let of_page = page_bytes(id(n), length(n), page);
        let from = usize::try_from(start.max(range.start) - range.start).unwrap();
        let to = usize::try_from(end.min(range.end) - range.start).unwrap();
        bytes.extend_from_slice(&of_page[from..to]);
    }
    bytes
}

fn run(capacity_mib: u64, steps: usize) {
    let seed = std::env::var("HEADPOND_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("replay with HEADPOND_TEST_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World {
        path: dir.path(),
        capacity_mib,
        store: store(dir.path(), capacity_mib),
        filled: BTreeMap::new(),
        writers: Vec::new(),
        loans: Vec::new(),
    };
    for _ in 0..steps {
        world.step(&mut rng);
    }
}

#[test]
fn with_room_for_all_what_was_committed_is_there() {
    run(2000, 1500);
}

#[test]
fn with_little_room_what_is_there_was_committed() {
    run(12, 1500);
}
