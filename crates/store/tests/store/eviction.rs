//! What leaves when room is needed, and what must not.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
};

use headpond_store::{Content, PageStore, StoreError};
use headpond_types::PAGE_SIZE;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::support::{bytes_of, fill, fill_all, fill_with, id, page_bytes, store, try_fill};

const PAGE: usize = 1 << 20;

/// A store of `capacity` MiB, with a content of `pages` pages that are still to be filled.
fn with_content(capacity: u64, pages: u64) -> (TempDir, PageStore, Arc<Content>) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), capacity);
    let content = store.content(id(1), pages * PAGE_SIZE).unwrap();
    (dir, store, content)
}

/// `file` holds all `pages` pages of the content of [`with_content`].
fn assert_holds(file: &File, pages: u64) {
    let mut page = vec![0; PAGE];
    for n in 0..pages {
        file.read_exact_at(&mut page, n * PAGE_SIZE).unwrap();
        assert_eq!(page, page_bytes(id(1), pages * PAGE_SIZE, n), "page {n}");
    }
}

/// Reads the page as a client would, filling it first if it is missing; whether it was there.
fn read_through(content: &Arc<Content>, page: u64, bytes: &[u8]) -> bool {
    let start = page * PAGE_SIZE;
    let hit = content.is_present(page);
    if !hit {
        fill_with(content, page, bytes);
    }
    for piece in 0..4 {
        let at = start + piece * PAGE_SIZE / 4;
        content.read(at..at + PAGE_SIZE / 4).unwrap();
    }
    hit
}

#[test]
fn a_scan_of_ten_times_the_capacity_leaves_the_hot_set_in_place() {
    const CAPACITY: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), CAPACITY);
    let bytes = vec![0x5a; PAGE];
    // 30 % of the capacity: pages of a large content, and small contents.
    let large = store.content(id(1), 12 * PAGE_SIZE).unwrap();
    let hot = |n: u64| if n < 12 { (Arc::clone(&large), n) } else { (store.content(id(n), PAGE_SIZE).unwrap(), 0) };
    for n in (0..18).chain(0..18) {
        let (content, page) = hot(n);
        read_through(&content, page, &bytes);
    }

    let mut rng = StdRng::seed_from_u64(1);
    let scanned = store.content(id(1000), 10 * CAPACITY * PAGE_SIZE).unwrap();
    let (mut reads, mut hits) = (0, 0);
    for page in 0..10 * CAPACITY {
        scanned.touch();
        assert!(!read_through(&scanned, page, &bytes), "a scan finds nothing");
        let (content, page) = hot(rng.random_range(0..18));
        reads += 1;
        hits += u32::from(read_through(&content, page, &bytes));
    }
    assert!(f64::from(hits) > 0.9 * f64::from(reads), "{hits} of {reads}");
    let usage = store.usage();
    assert!(usage.used_bytes() <= CAPACITY << 20 && usage.pages() > CAPACITY - 10, "{usage:?}");
    assert_eq!(store.counters().evicted_bytes.load(Ordering::Relaxed) % 4096, 0);
}

#[test]
fn what_comes_back_soon_stays() {
    let (_dir, _store, content) = with_content(20, 100);
    let bytes = vec![1; PAGE];
    for page in 0..21 {
        fill_with(&content, page, &bytes);
    }
    assert!(!content.is_present(0), "the oldest left");
    fill_with(&content, 0, &bytes);
    for page in 21..60 {
        fill_with(&content, page, &bytes);
    }
    assert!(content.is_present(0), "back from the ghost queue, it entered the main queue");
    assert!(!content.is_present(10));
}

#[test]
fn a_second_use_keeps_what_a_first_does_not() {
    let (_dir, _store, content) = with_content(20, 100);
    let bytes = vec![1; PAGE];
    for page in 0..60 {
        read_through(&content, page, &bytes);
        if page == 3 {
            read_through(&content, page, &bytes);
        }
    }
    assert!(content.is_present(3) && !content.is_present(2) && !content.is_present(4));
}

#[test]
fn evicting_pages_frees_blocks_and_keeps_the_rest() {
    let (dir, store, content) = with_content(10, 30);
    fill_all(&content);
    let blocks =
        std::os::unix::fs::MetadataExt::blocks(&crate::support::file_of(dir.path(), &content).metadata().unwrap());
    assert!(blocks * 512 <= 11 * PAGE_SIZE, "{blocks} blocks");
    assert_eq!(store.usage().used_bytes(), 10 * PAGE_SIZE);
    for page in (0..30).filter(|page| content.is_present(*page)) {
        assert_eq!(content.read(page * PAGE_SIZE..(page + 1) * PAGE_SIZE).unwrap(), bytes_of(&content, page));
    }
}

#[test]
fn a_store_of_one_page_goes_through_a_content_page_by_page() {
    let (_dir, store, content) = with_content(1, 30);
    for page in 0..30 {
        fill(&content, page);
        assert_eq!(content.read(page * PAGE_SIZE..page * PAGE_SIZE + 9).unwrap(), bytes_of(&content, page)[..9]);
    }
    assert_eq!(store.usage().pages(), 1);
}

#[test]
fn a_lent_content_is_recalled_not_punched_and_leaves_whole_when_it_comes_back() {
    let (_dir, store, lent) = with_content(20, 12);
    let mut recalls = store.recalls();
    fill_all(&lent);
    let loan = lent.lend().unwrap();
    assert!(loan.complete());

    let other = store.content(id(2), 100 * PAGE_SIZE).unwrap();
    fill_all(&other);
    assert_eq!(recalls.try_recv().unwrap(), id(1));
    assert!(recalls.try_recv().is_err(), "asked for once");
    assert!(loan.complete());
    assert_holds(loan.file(), 12);
    drop(loan);
    assert!(store.find(id(1)).is_none());
    assert!(store.usage().used_bytes() <= 8 * PAGE_SIZE);
}

#[test]
fn a_recalled_content_that_is_used_again_stays() {
    let (_dir, store, lent) = with_content(20, 12);
    let mut recalls = store.recalls();
    fill_all(&lent);
    let loan = lent.lend().unwrap();
    fill_all(&store.content(id(2), 100 * PAGE_SIZE).unwrap());
    assert_eq!(recalls.try_recv().unwrap(), id(1));
    lent.touch();
    drop(loan);
    assert!(store.find(id(1)).unwrap().is_complete());
}

#[test]
fn with_everything_lent_or_being_written_a_write_is_refused_and_nothing_is_harmed() {
    let (_dir, store, lent) = with_content(12, 10);
    fill_all(&lent);
    let loan = lent.lend().unwrap();
    let other = store.content(id(2), 10 * PAGE_SIZE).unwrap();
    let writers = [other.page_writer(0).unwrap(), other.page_writer(1).unwrap()];
    for _ in 0..3 {
        assert!(matches!(other.page_writer(2), Err(StoreError::Full { .. })));
    }
    for mut writer in writers {
        writer.write(&bytes_of(&other, writer.page())).unwrap();
        writer.commit().unwrap();
    }
    // The pages that were being written are done: now one of them may go.
    fill(&other, 2);
    assert!(loan.complete());
    drop(loan);
    for page in 3..10 {
        fill(&other, page);
    }
    assert!(matches!(try_fill(&store.content(id(3), 1).unwrap(), 0), Ok(())));
    assert!(store.usage().used_bytes() <= 12 * PAGE_SIZE);
}

#[test]
fn a_write_that_stood_in_its_own_way_does_not_block_others() {
    let (_dir, store, unit) = with_content(2, 3);
    fill(&unit, 0);
    fill(&unit, 1);
    assert!(matches!(unit.page_writer(2), Err(StoreError::Full { .. })), "the unit itself is all there is to evict");
    fill(&store.content(id(2), PAGE_SIZE).unwrap(), 0);
    assert!(store.find(id(1)).is_none());
}

#[test]
fn a_smaller_capacity_at_open_evicts_the_excess() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 40);
    fill_all(&first.content(id(1), 30 * PAGE_SIZE).unwrap());
    drop(first);
    let second = store(dir.path(), 10);
    assert_eq!(second.usage().used_bytes(), 10 * PAGE_SIZE);
    let content = second.find(id(1)).unwrap();
    content.verify().unwrap();
    assert_eq!(content.missing(0..30).iter().map(|run| run.end - run.start).sum::<u64>(), 20);
}

#[test]
fn what_an_earlier_process_lent_is_never_punched() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 30);
    let content = first.content(id(1), 20 * PAGE_SIZE).unwrap();
    fill_all(&content);
    let loan = content.lend().unwrap();
    drop(first);

    let second = store(dir.path(), 19);
    assert!(second.find(id(1)).is_none(), "it left as a whole");
    assert_eq!(second.usage().used_bytes(), 0);
    assert_holds(loan.file(), 20);
}
