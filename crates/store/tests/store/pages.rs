//! The life of pages through the public API.

use std::{
    io::{IoSlice, Read},
    sync::atomic::Ordering,
};

use headpond_store::{Content, DirConfig, PageStore, StoreConfig, StoreError};
use headpond_types::{ContentId, PAGE_SIZE, page_len};
use std::sync::Arc;

use crate::support::{bytes_of, fill, fill_all, id, open, store};

#[test]
fn a_page_is_there_only_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 3 * PAGE_SIZE + 5).unwrap();
    assert!(matches!(content.read(0..1), Err(StoreError::Absent { page: 0, .. })));

    let mut writer = content.page_writer(3).unwrap();
    writer.write(&bytes_of(&content, 3)[..2]).unwrap();
    assert_eq!(writer.remaining(), 3);
    assert_eq!(content.missing(0..9), vec![0..4]);
    writer.write(&bytes_of(&content, 3)[2..]).unwrap();
    assert!(matches!(writer.write(b"x"), Err(StoreError::PageLength { .. })));
    writer.commit().unwrap();
    assert_eq!(content.missing(0..9), vec![0..3]);
    assert_eq!(content.read(3 * PAGE_SIZE + 1..u64::MAX).unwrap(), bytes_of(&content, 3)[1..]);
    assert!(matches!(content.page_writer(3), Err(StoreError::AlreadyPresent { .. })));
    assert!(matches!(content.page_writer(4), Err(StoreError::PageLength { .. })));

    fill(&content, 1);
    assert_eq!(content.missing(0..4), vec![0..1, 2..3]);
    assert!(!content.is_complete());
    fill(&content, 0);
    fill(&content, 2);
    assert!(content.is_complete() && content.is_verified());
    let whole: Vec<u8> = (0..4).flat_map(|page| bytes_of(&content, page)).collect();
    assert_eq!(content.read(0..u64::MAX).unwrap(), whole);
    let odd = PAGE_SIZE - 3..2 * PAGE_SIZE + 7;
    assert_eq!(
        content.read(odd.clone()).unwrap(),
        whole[usize::try_from(odd.start).unwrap()..usize::try_from(odd.end).unwrap()]
    );
}

#[test]
fn a_page_comes_in_as_many_parts_as_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 2 * PAGE_SIZE).unwrap();
    let bytes = bytes_of(&content, 1);
    // More than one system call takes, some of them empty.
    let parts: Vec<_> = bytes.chunks(500).flat_map(|part| [IoSlice::new(&[]), IoSlice::new(part)]).collect();
    let mut writer = content.page_writer(1).unwrap();
    writer.write_vectored(&parts[..7]).unwrap();
    assert_eq!(writer.remaining(), PAGE_SIZE - 1500);
    assert!(matches!(writer.write_vectored(&parts), Err(StoreError::PageLength { .. })));
    writer.write_vectored(&parts[7..]).unwrap();
    writer.commit().unwrap();
    assert_eq!(content.read(PAGE_SIZE..u64::MAX).unwrap(), bytes);
    content.verify().unwrap();
}

#[test]
fn a_writer_dropped_or_short_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 2 * PAGE_SIZE).unwrap();
    let mut writer = content.page_writer(0).unwrap();
    writer.write(&[7; 4096]).unwrap();
    assert!(matches!(writer.commit(), Err(StoreError::PageLength { got: 4096, .. })));
    assert_eq!((store.usage().pages(), store.usage().used_bytes()), (0, 0));
    fill(&content, 0);
    assert_eq!(content.read(0..PAGE_SIZE).unwrap(), bytes_of(&content, 0));
}

#[test]
fn of_two_writers_of_a_page_either_may_finish_first_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 2 * PAGE_SIZE).unwrap();
    for (page, first_commits) in [(0, true), (1, false)] {
        let bytes = bytes_of(&content, page);
        let (mut a, mut b) = (content.page_writer(page).unwrap(), content.page_writer(page).unwrap());
        a.write(&bytes[..100_000]).unwrap();
        b.write(&bytes).unwrap();
        if first_commits {
            b.commit().unwrap();
            // The slower one brings garbage: it must not reach the page.
            a.write(&vec![0xff; bytes.len() - 100_000]).unwrap();
            a.commit().unwrap();
        } else {
            drop(a);
            b.commit().unwrap();
        }
        assert_eq!(content.read(page * PAGE_SIZE + 5..page * PAGE_SIZE + 10).unwrap(), bytes[5..10]);
        assert_eq!(content.read(page * PAGE_SIZE..(page + 1) * PAGE_SIZE).unwrap(), bytes);
    }
    assert_eq!(store.usage().used_bytes(), 2 * PAGE_SIZE);
}

#[test]
fn pages_survive_reopening_and_are_unverified_until_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let content = first.content(id(1), 20 * PAGE_SIZE + 9).unwrap();
    for page in [0, 7, 8, 20] {
        fill(&content, page);
    }
    fill_all(&first.content(id(2), 10).unwrap());
    let usage = first.usage();
    drop((content, first));

    let second = store(dir.path(), 64);
    assert_eq!(second.usage(), usage);
    let content = second.find(id(1)).unwrap();
    assert_eq!(content.missing(0..21), vec![1..7, 9..20]);
    assert!(!content.is_verified());
    assert_eq!(content.read(8 * PAGE_SIZE + 3..8 * PAGE_SIZE + 5).unwrap(), bytes_of(&content, 8)[3..5]);
    content.verify().unwrap();
    assert!(content.is_verified());
    assert!(second.find(id(3)).is_none());
    assert!(matches!(second.content(id(1), 4), Err(StoreError::LengthMismatch { .. })));
}

#[test]
fn freeing_gives_the_bytes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 3 * PAGE_SIZE).unwrap();
    fill_all(&content);
    assert_eq!(store.free(id(1)), 3 * PAGE_SIZE);
    assert!(store.find(id(1)).is_none());
    assert!(matches!(content.read(0..1), Err(StoreError::Absent { .. })));
    assert!(matches!(content.page_writer(0), Err(StoreError::Absent { .. })));
    let again = store.content(id(1), 3 * PAGE_SIZE).unwrap();
    assert_eq!(again.missing(0..3), vec![0..3]);
    fill_all(&again);
    fill_all(&store.content(id(2), 5).unwrap());
    assert_eq!(store.free_all(), 3 * PAGE_SIZE + 4096);
    let usage = store.usage();
    assert_eq!((usage.used_bytes(), usage.pages(), usage.contents()), (0, 0, 0));
}

#[test]
fn a_loan_is_a_plain_file_that_survives_freeing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 2 * PAGE_SIZE + 5).unwrap();
    fill(&content, 1);
    let loan = content.lend().unwrap();
    assert!(!loan.complete());
    assert_eq!(loan.present(&(3..PAGE_SIZE + 3)), vec![PAGE_SIZE..PAGE_SIZE + 3]);
    fill(&content, 0);
    fill(&content, 2);
    assert!(loan.complete());
    let used = store.usage().used_bytes();
    store.free(id(1));
    assert_eq!(store.usage().used_bytes(), used, "the blocks are still occupied");
    let mut whole = Vec::new();
    loan.file().read_to_end(&mut whole).unwrap();
    assert_eq!(whole, (0..3).flat_map(|page| bytes_of(&content, page)).collect::<Vec<_>>());
    drop(loan);
    assert_eq!(store.usage().used_bytes(), 0);
}

#[test]
fn a_corrupt_page_is_dropped_counted_and_refilled() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 3 * PAGE_SIZE).unwrap();
    fill_all(&content);
    crate::support::flip_byte(dir.path(), &content, PAGE_SIZE + 77);
    assert!(matches!(content.read(0..3 * PAGE_SIZE), Err(StoreError::Corrupt { page: 1, .. })));
    assert_eq!(store.counters().corrupt_pages.load(Ordering::Relaxed), 1);
    assert_eq!(content.missing(0..3), vec![1..2]);
    fill(&content, 1);
    assert_eq!(content.read(PAGE_SIZE..2 * PAGE_SIZE).unwrap(), bytes_of(&content, 1));
}

#[test]
fn after_reopening_a_flipped_byte_is_seen_by_the_smallest_read_and_by_a_loan() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let content = first.content(id(1), 3 * PAGE_SIZE).unwrap();
    fill_all(&content);
    drop(first);
    crate::support::flip_byte(dir.path(), &content, PAGE_SIZE + 77);

    let second = store(dir.path(), 64);
    let content = second.find(id(1)).unwrap();
    assert!(!content.lend().unwrap().complete(), "nothing is verified yet");
    assert!(matches!(content.read(PAGE_SIZE..PAGE_SIZE + 1), Err(StoreError::Corrupt { page: 1, .. })));
    assert_eq!(content.missing(0..3), vec![1..2]);
    fill(&content, 1);
    content.verify().unwrap();
    assert!(content.lend().unwrap().complete());
}

#[test]
fn a_corrupt_page_of_a_lent_content_dooms_the_content_not_the_loan() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let content = store.content(id(1), 2 * PAGE_SIZE).unwrap();
    fill_all(&content);
    let loan = content.lend().unwrap();
    crate::support::flip_byte(dir.path(), &content, 9);
    assert_eq!(store.scrub_step(u64::MAX).corrupt, 1);
    assert!(store.find(id(1)).is_none());
    let fresh: Arc<Content> = store.content(id(1), 2 * PAGE_SIZE).unwrap();
    fill_all(&fresh);
    assert_eq!(fresh.read(0..PAGE_SIZE).unwrap(), bytes_of(&fresh, 0));
    let mut lent = Vec::new();
    loan.file().read_to_end(&mut lent).unwrap();
    assert_eq!(lent[usize::try_from(PAGE_SIZE).unwrap()..], bytes_of(&content, 1), "no hole under the loan");
}

#[test]
fn scrubbing_goes_round_in_bounded_steps() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    for n in 0..4 {
        fill_all(&store.content(id(n), 3 * PAGE_SIZE).unwrap());
    }
    let mut bytes = 0;
    loop {
        let step = store.scrub_step(2 * PAGE_SIZE);
        assert!(step.bytes <= 2 * PAGE_SIZE);
        bytes += step.bytes;
        if step.round_done {
            break;
        }
    }
    assert_eq!(bytes, 12 * PAGE_SIZE);
}

#[test]
fn contents_spread_over_directories_and_stay_where_they_are() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = StoreConfig {
        dirs: dirs.iter().map(|dir| DirConfig { path: dir.path().to_owned(), capacity_bytes: 64 << 20 }).collect(),
    };
    let first = PageStore::open(config.clone()).unwrap();
    for n in 0..64 {
        fill_all(&first.content(id(n), 1000).unwrap());
    }
    let usage = first.usage();
    assert!(usage.dirs.iter().all(|dir| dir.contents > 10), "{usage:?}");
    drop(first);
    let second = open(config).unwrap();
    assert_eq!(second.usage(), usage);
    assert!((0..64).all(|n| second.content(id(n), 1000).unwrap().is_complete()));
}

#[test]
fn an_empty_content_is_complete_and_can_be_lent() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1);
    let content = store.content(id(1), 0).unwrap();
    assert!(content.is_complete());
    assert!(content.read(0..10).unwrap().is_empty());
    assert!(content.lend().unwrap().complete());
    assert_eq!(page_len(0, 0), 0);
}

#[test]
fn the_id_is_what_finds_a_content() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 8);
    let content = store.content(ContentId(u128::MAX), 5).unwrap();
    fill_all(&content);
    assert!(store.find(ContentId(u128::MAX - 1)).is_none());
    assert!(Arc::ptr_eq(&store.find(ContentId(u128::MAX)).unwrap(), &content));
}
