//! Files that are written, and what becomes of them.

use std::{fs::read_dir, io::Write as _, os::unix::fs::FileExt as _, path::Path, sync::atomic::Ordering};

use headpond_store::{PageStore, Staging, StoreError, checksums};
use headpond_types::{PAGE_SIZE, page_count, page_range};

use crate::support::{bytes_of, fill, fill_all, id, numbers_of_killed, page_bytes, store};

/// Set in the environment of the process that is to die.
const DIR: &str = "HEADPOND_TEST_STAGING_DIR";

/// The bytes that content `n` of `length` has in these tests.
fn body(n: u64, length: u64) -> Vec<u8> {
    (0..page_count(length)).flat_map(|page| page_bytes(id(n), length, page)).collect()
}

fn staged(store: &PageStore, bytes: &[u8]) -> Staging {
    let staging = store.stage().unwrap();
    for (index, chunk) in (0..).zip(bytes.chunks(700_000)) {
        staging.write_at(index * 700_000, chunk).unwrap();
    }
    staging
}

fn staged_files(dir: &Path) -> usize {
    read_dir(dir.join("staged")).unwrap().count()
}

fn used(store: &PageStore) -> u64 {
    store.usage().used_bytes()
}

#[test]
fn what_is_staged_is_read_back_and_counted_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let staging = store.stage().unwrap();
    staging.write_at(3 * PAGE_SIZE, b"behind a hole").unwrap();
    staging.write_at(0, b"start").unwrap();
    assert_eq!(staging.len().unwrap(), 3 * PAGE_SIZE + 13);
    assert_eq!(&staging.read_at(0, 8).unwrap()[..], b"start\0\0\0");
    assert_eq!(&staging.read_at(3 * PAGE_SIZE + 7, 100).unwrap()[..], b"a hole");
    assert!(staging.read_at(u64::MAX, 1).unwrap().is_empty());
    assert_eq!(used(&store), 8192, "holes cost nothing");
    staging.set_len(4).unwrap();
    assert_eq!((staging.len().unwrap(), used(&store)), (4, 4096));
    assert!(matches!(staging.write_at(u64::MAX, b"x"), Err(StoreError::Full { .. })));
    assert!(matches!(staging.set_len(u64::MAX), Err(StoreError::Full { .. })));

    let file = staging.descriptor().unwrap();
    file.write_all_at(&[7; 100_000], 4).unwrap();
    assert_eq!(used(&store), 4096, "nobody has looked");
    staging.account().unwrap();
    assert_eq!(used(&store), 102_400);
    assert_eq!(&staging.read_at(0, 6).unwrap()[..], b"star\x07\x07");
    drop(staging);
    assert_eq!((used(&store), staged_files(dir.path())), (0, 0));
    file.write_all_at(b"into nothing", 0).unwrap();
    assert!(store.usage().dirs[0].problem.is_none(), "requests that make no sense break no disk");
}

#[test]
fn an_adopted_file_is_a_complete_content_and_stays_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let lengths = [1, PAGE_SIZE, 3 * PAGE_SIZE + 17, 20 * PAGE_SIZE];
    for (n, length) in (1..).zip(lengths) {
        let bytes = body(n, length);
        store.adopt(staged(&store, &bytes), id(n), &checksums(&bytes)).unwrap();
        let content = store.find(id(n)).unwrap();
        assert!(content.is_complete() && content.is_verified());
        assert!(content.read(0..length).unwrap() == bytes);
        assert!(content.lend().unwrap().complete());
    }
    store.adopt(store.stage().unwrap(), id(9), &[]).unwrap();
    assert_eq!(staged_files(dir.path()), 0);
    let before = store.usage();
    let on_disk = lengths.map(|length| length.next_multiple_of(4096)).iter().sum::<u64>();
    assert_eq!((before.used_bytes(), before.contents(), before.pages()), (on_disk, 4, 26));

    drop(store);
    let store = crate::support::store(dir.path(), 64);
    assert_eq!(store.usage(), before);
    for (n, length) in (1..).zip(lengths) {
        let content = store.find(id(n)).unwrap();
        assert!(content.is_complete());
        assert!(content.read(0..length).unwrap() == body(n, length));
        store.free(id(n));
    }
    assert_eq!((used(&store), store.usage().contents()), (0, 0));
}

#[test]
fn an_adopted_file_is_evicted_as_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 32);
    for n in 0..20 {
        // As a whole, and page by page.
        let length = if n % 2 == 0 { 3 * PAGE_SIZE } else { 10 * PAGE_SIZE };
        let bytes = body(n, length);
        store.adopt(staged(&store, &bytes), id(n), &checksums(&bytes)).unwrap();
        assert!(used(&store) <= 32 << 20);
    }
    assert!(store.counters().evicted_pages.load(Ordering::Relaxed) >= 80);
    assert!(store.usage().pages() >= 16);
}

#[test]
fn holes_of_an_adopted_file_are_pages_of_zeros_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 16);
    let staging = store.stage().unwrap();
    staging.set_len(4 * PAGE_SIZE).unwrap();
    let zeros = vec![0; usize::try_from(4 * PAGE_SIZE).unwrap()];
    store.adopt(staging, id(1), &checksums(&zeros)).unwrap();
    assert_eq!(used(&store), 4 * PAGE_SIZE);
    assert!(store.find(id(1)).unwrap().read(0..4 * PAGE_SIZE).unwrap() == zeros);
    let large = store.stage().unwrap();
    large.set_len(17 * PAGE_SIZE).unwrap();
    let one = checksums(&zeros)[0];
    assert!(matches!(store.adopt(large, id(2), &[one; 17]), Err(StoreError::Full { .. })));
    assert!(store.find(id(2)).is_none());
    assert_eq!(staged_files(dir.path()), 0);
}

#[test]
fn other_bytes_than_the_content_has_are_not_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let bytes = body(1, 3 * PAGE_SIZE);
    let good = checksums(&bytes);
    let staging = staged(&store, &bytes);
    staging.write_at(2 * PAGE_SIZE + 5, b"x").unwrap();
    let refused = store.adopt(staging, id(1), &good);
    assert!(matches!(refused, Err(StoreError::Corrupt { page: 2, .. })), "{refused:?}");
    for wrong in [&good[..2], &[&good[..], &[1]].concat()] {
        assert!(matches!(store.adopt(staged(&store, &bytes), id(1), wrong), Err(StoreError::Corrupt { .. })));
    }
    assert!(store.find(id(1)).is_none());
    assert_eq!((used(&store), staged_files(dir.path())), (0, 0));
}

#[test]
fn what_is_cached_in_part_makes_way_and_what_is_complete_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let bytes = body(1, 2 * PAGE_SIZE);
    let part = store.content(id(1), 2 * PAGE_SIZE).unwrap();
    fill(&part, 0);
    let (loan, writer) = (part.lend().unwrap(), part.page_writer(1).unwrap());
    store.adopt(staged(&store, &bytes), id(1), &checksums(&bytes)).unwrap();
    let whole = store.find(id(1)).unwrap();
    assert!(whole.is_complete() && loan.is_dropped());
    assert!(matches!(part.read(0..1), Err(StoreError::Absent { .. })));
    drop((loan, writer));
    assert_eq!((used(&store), store.usage().contents()), (2 * PAGE_SIZE, 1));

    let loan = whole.lend().unwrap();
    store.adopt(staged(&store, &bytes), id(1), &checksums(&bytes)).unwrap();
    assert!(loan.complete() && !loan.is_dropped());
    assert_eq!((used(&store), staged_files(dir.path())), (2 * PAGE_SIZE, 0));
}

#[test]
fn clean_contents_make_room_for_staged_bytes_and_staged_bytes_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 16);
    for n in 0..16 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
    let bytes = body(1, 12 * PAGE_SIZE);
    let staging = staged(&store, &bytes);
    assert!(used(&store) <= 16 << 20);
    assert!(store.usage().contents() <= 4);
    for n in 20..40 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
    assert!(staging.read_at(0, bytes.len()).unwrap() == bytes);

    let more = store.stage().unwrap();
    let full = (0..10).find_map(|page| more.write_at(page * PAGE_SIZE, &bytes[..1 << 20]).err());
    assert!(matches!(full, Some(StoreError::Full { .. })), "{full:?}");
    assert!(staging.read_at(0, bytes.len()).unwrap() == bytes);
    drop((staging, more));
    assert_eq!(used(&store), store.usage().pages() * PAGE_SIZE);
    for n in 40..56 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
}

#[test]
fn what_clients_write_through_descriptors_evicts_when_it_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 16);
    for n in 0..16 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
    let staging = store.stage().unwrap();
    let file = staging.descriptor().unwrap();
    file.write_all_at(&body(1, 10 * PAGE_SIZE), 0).unwrap();
    staging.account().unwrap();
    assert!(used(&store) <= 16 << 20);
    file.write_all_at(&body(1, 10 * PAGE_SIZE), 10 * PAGE_SIZE).unwrap();
    assert!(matches!(staging.account(), Err(StoreError::Full { .. })));
    assert_eq!(used(&store), 20 << 20, "what is there counts, room or not");
}

#[test]
fn what_an_earlier_process_staged_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    // As if it had been killed: nothing is tidied up.
    std::mem::forget(staged(&store, &body(1, PAGE_SIZE)));
    assert_eq!(staged_files(dir.path()), 1);
    drop(store);
    let store = crate::support::store(dir.path(), 64);
    assert_eq!((used(&store), staged_files(dir.path())), (0, 0));
}

#[test]
fn a_file_staged_in_a_directory_that_was_closed_touches_nothing_of_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let old = store(dir.path(), 64);
    let (left, adopted) = (staged(&old, &body(1, PAGE_SIZE)), staged(&old, &body(2, PAGE_SIZE)));
    drop(old);
    let store = crate::support::store(dir.path(), 64);
    let ours = staged(&store, &body(3, PAGE_SIZE));
    let refused = store.adopt(adopted, id(2), &checksums(&body(2, PAGE_SIZE)));
    assert!(matches!(refused, Err(StoreError::DirFailed { .. })), "{refused:?}");
    drop(left);
    store.adopt(ours, id(3), &checksums(&body(3, PAGE_SIZE))).unwrap();
    let content = store.find(id(3)).unwrap();
    assert_eq!(content.read(0..PAGE_SIZE).unwrap(), bytes_of(&content, 0));
}

const fn length(n: u64) -> u64 {
    1 + n * 37 * PAGE_SIZE / 10
}

/// Stages and adopts until it is killed, and says what it adopted.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(DIR) else {
        // Only the next test starts it as such.
        return;
    };
    let store = store(Path::new(&dir), 2000);
    let mut out = std::io::stderr();
    for n in (0..200).filter(|n| store.find(id(*n)).is_none()).collect::<Vec<_>>() {
        let bytes = body(n, length(n % 9));
        store.adopt(staged(&store, &bytes), id(n), &checksums(&bytes)).unwrap();
        writeln!(out, "adopted {n}").unwrap();
    }
}

#[test]
fn killed_at_any_time_it_has_what_it_adopted_and_no_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut adopted = Vec::new();
    for round in 0..8 {
        adopted.extend(numbers_of_killed("staging::victim", (DIR, dir.path()), "adopted ", 2 + round));
        let store = store(dir.path(), 2000);
        assert_eq!(staged_files(dir.path()), 0);
        for n in 0..200 {
            let Some(content) = store.find(id(n)) else { continue };
            for page in (0..page_count(content.length())).filter(|page| content.is_present(*page)) {
                let bytes = content.read(page_range(page, content.length())).unwrap();
                assert!(bytes == bytes_of(&content, page), "content {n} page {page}");
            }
        }
        let is_whole = |n: &u64| store.find(id(*n)).is_some_and(|content| content.is_complete());
        assert!(adopted.iter().all(is_whole), "{adopted:?}");
    }
    assert!(adopted.len() >= 30);
}
