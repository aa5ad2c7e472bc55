//! Many threads on one small store: whatever a read gives is right.

use std::{
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

use headpond_store::{PageStore, StoreError};
use headpond_types::{PAGE_SIZE, page_count, page_range};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{id, page_bytes, store};

const CONTENTS: u64 = 6;

fn length(n: u64) -> u64 {
    [PAGE_SIZE, 2 * PAGE_SIZE + 77, 9 * PAGE_SIZE, 12 * PAGE_SIZE + 5, 30, 20 * PAGE_SIZE][usize::try_from(n).unwrap()]
}

fn work(store: &PageStore, pages: &[Vec<Vec<u8>>], seed: u64, reads: &AtomicU64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..1500 {
        let n = rng.random_range(0..CONTENTS);
        let page = rng.random_range(0..page_count(length(n)));
        let bytes = &pages[usize::try_from(n).unwrap()][usize::try_from(page).unwrap()];
        let range = page_range(page, length(n));
        let content = store.content(id(n), length(n)).unwrap();
        match rng.random_range(0..20) {
            0 => drop(store.free(id(n))),
            1 => drop(store.scrub_step(PAGE_SIZE)),
            2..5 => match content.lend() {
                Ok(loan) => {
                    for present in loan.present(&range) {
                        let mut buffer = vec![0; bytes.len()];
                        loan.file().read_exact_at(&mut buffer, present.start).unwrap();
                        assert!(buffer == *bytes, "content {n} page {page} under a loan");
                    }
                }
                Err(StoreError::Absent { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            5..13 => match content.page_writer(page) {
                Ok(mut writer) => {
                    let cut = rng.random_range(0..=bytes.len());
                    writer.write(&bytes[..cut]).unwrap();
                    if rng.random_bool(0.8) {
                        writer.write(&bytes[cut..]).unwrap();
                        match writer.commit() {
                            Ok(()) | Err(StoreError::Absent { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                Err(StoreError::Absent { .. } | StoreError::AlreadyPresent { .. } | StoreError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            _ => {
                let from = rng.random_range(range.start..range.end);
                let to = rng.random_range(from..=range.end);
                match content.read(from..to) {
                    Ok(read) => {
                        let at = |offset| usize::try_from(offset - range.start).unwrap();
                        assert!(read == bytes[at(from)..at(to)], "content {n} page {page}");
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(StoreError::Absent { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn threads_that_write_read_lend_free_and_evict_never_see_wrong_bytes() {
    let seed: u64 = std::env::var("HEADPOND_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("seed {seed}; the order of threads is not in it");
    let pages: Vec<Vec<Vec<u8>>> = (0..CONTENTS)
        .map(|n| (0..page_count(length(n))).map(|page| page_bytes(id(n), length(n), page)).collect())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 16);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, pages, reads) = (&store, &pages, &reads);
            scope.spawn(move || work(store, pages, seed.wrapping_add(thread), reads));
        }
    });
    assert!(reads.into_inner() > 100);
    assert_eq!(store.counters().corrupt_pages.load(Ordering::Relaxed), 0);
    assert_eq!(store.counters().failed_dirs.load(Ordering::Relaxed), 0);
    let usage = store.usage();
    assert!(usage.used_bytes() <= usage.capacity_bytes());
    store.free_all();
    let usage = store.usage();
    assert_eq!((usage.used_bytes(), usage.pages(), usage.contents()), (0, 0, 0), "all accounts return to zero");
}
