//! Opening what an earlier run left, damaged or not.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use headpond_store::{DirConfig, PageStore, StoreConfig, StoreError};
use headpond_types::PAGE_SIZE;

use crate::support::{bytes_of, fill, fill_all, flip, id, store};

const RECORD: u64 = 40;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every page that the store claims has the right bytes; how many there are.
fn check_claims(store: &PageStore, ids: std::ops::Range<u64>) -> u64 {
    let mut pages = 0;
    for content in ids.filter_map(|n| store.find(id(n))) {
        content.verify().unwrap();
        let count = headpond_types::page_count(content.length());
        for page in (0..count).filter(|page| content.is_present(*page)) {
            let range = headpond_types::page_range(page, content.length());
            assert_eq!(content.read(range).unwrap(), bytes_of(&content, page));
            pages += 1;
        }
    }
    assert_eq!(store.usage().pages(), pages);
    pages
}

#[test]
fn an_index_torn_at_any_byte_costs_only_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let index = dir.path().join("index");
    // After each step: bytes of index, pages present.
    let mut steps = vec![(0, 0)];
    for n in 0..6 {
        fill(&first.content(id(n), 10 + n).unwrap(), 0);
        steps.push((fs::metadata(&index).unwrap().len(), n + 1));
    }
    drop(first);
    let whole = fs::metadata(&index).unwrap().len();
    assert_eq!(whole, RECORD * 13);
    for cut in 0..=whole {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        OpenOptions::new().write(true).open(copied.path().join("index")).unwrap().set_len(cut).unwrap();
        let store = store(copied.path(), 64);
        let expected = steps.iter().rfind(|(bytes, _)| *bytes <= cut).unwrap().1;
        assert_eq!(check_claims(&store, 0..6), expected, "cut at {cut}");
        // And it goes on from there.
        for n in 0..7 {
            let content = store.content(id(n), 10 + n).unwrap();
            if !content.is_complete() {
                fill(&content, 0);
            }
        }
        drop(store);
        let again = crate::support::store(copied.path(), 64);
        assert_eq!(check_claims(&again, 0..7), 7, "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_anywhere_in_the_index_never_makes_a_wrong_claim() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    for n in 0..4 {
        fill(&first.content(id(n), 10 + n).unwrap(), 0);
    }
    first.free(id(1));
    fill(&first.content(id(5), PAGE_SIZE + 10).unwrap(), 1);
    drop(first);
    let whole = fs::metadata(dir.path().join("index")).unwrap().len();
    for at in 0..whole {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let index = OpenOptions::new().read(true).write(true).open(copied.path().join("index")).unwrap();
        flip(&index, at);
        let store = store(copied.path(), 64);
        let pages = check_claims(&store, 0..6);
        assert!(pages < 4, "a record is lost, and those after it");
        assert!(store.find(id(1)).is_none());
        // What is appended next must not bring the records behind the damage back.
        fill(&store.content(id(6), 10).unwrap(), 0);
        drop(store);
        assert_eq!(check_claims(&crate::support::store(copied.path(), 64), 0..7), pages + 1);
    }
}

#[test]
fn a_directory_of_a_newer_release_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(&store(dir.path(), 64).content(id(1), 10).unwrap(), 0);
    let index = OpenOptions::new().read(true).write(true).open(dir.path().join("index")).unwrap();
    let mut header = [0; 40];
    index.read_exact_at(&mut header, 0).unwrap();
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..36]);
    header[36..].copy_from_slice(&crc.to_le_bytes());
    index.write_all_at(&header, 0).unwrap();
    let config = StoreConfig { dirs: vec![DirConfig { path: dir.path().to_owned(), capacity_bytes: 1 << 20 }] };
    let error = PageStore::open(config).unwrap_err();
    assert_eq!(error.kind(), headpond_types::ErrorKind::NotSupported);
    assert!(error.to_string().contains("newer release (layout 9"), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("pages")).unwrap().count(), 1, "nothing was removed");
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_after_the_store_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let content = first.content(id(1), 10).unwrap();
    fill(&content, 0);
    let config = StoreConfig { dirs: vec![DirConfig { path: dir.path().to_owned(), capacity_bytes: 1 << 20 }] };
    let error = PageStore::open(config.clone()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    let second = PageStore::open(config).unwrap();
    assert!(matches!(content.read(0..1), Err(StoreError::DirFailed { .. })), "the old store is closed");
    assert!(second.find(id(1)).unwrap().is_complete());
    let error = PageStore::open(StoreConfig::default()).unwrap_err();
    assert!(error.to_string().contains("none configured"), "{error}");
}

#[test]
fn files_without_a_record_and_records_without_their_file_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let contents: Vec<_> = (0..4).map(|n| first.content(id(n), 10 + n).unwrap()).collect();
    contents.iter().for_each(fill_all);
    drop(first);
    let file = |n: usize| crate::support::file_of(dir.path(), &contents[n]);
    fs::remove_file(file(0)).unwrap();
    OpenOptions::new().write(true).open(file(1)).unwrap().set_len(3).unwrap();
    let stray = file(2).with_extension("77");
    fs::write(&stray, "stray").unwrap();
    let nameless = stray.with_file_name("hello");
    fs::write(&nameless, "stray").unwrap();
    let second = store(dir.path(), 64);
    assert_eq!(check_claims(&second, 0..4), 2);
    assert!(second.find(id(0)).is_none() && second.find(id(1)).is_none());
    assert!(!stray.exists() && !nameless.exists());
}

#[test]
fn a_page_whose_bytes_went_with_the_power_is_found_out_by_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let content = first.content(id(1), 10 * PAGE_SIZE).unwrap();
    fill_all(&content);
    drop(first);
    // The index reached the disk, the page did not.
    let file = OpenOptions::new().write(true).open(crate::support::file_of(dir.path(), &content)).unwrap();
    file.write_all_at(&[0; 1 << 20], 4 * PAGE_SIZE).unwrap();
    let second = store(dir.path(), 64);
    let content = second.find(id(1)).unwrap();
    assert!(content.lend().unwrap().present(&(0..content.length())).is_empty(), "nothing is trusted yet");
    assert!(matches!(content.read(4 * PAGE_SIZE + 9..4 * PAGE_SIZE + 10), Err(StoreError::Corrupt { page: 4, .. })));
}

#[test]
fn a_long_history_is_rewritten_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let kept = first.content(id(1_000_000), 20 * PAGE_SIZE).unwrap();
    for page in [3, 9] {
        fill(&kept, page);
    }
    let _loan = kept.lend().unwrap();
    for n in 0..4000 {
        fill(&first.content(id(n), 1).unwrap(), 0);
        if n >= 5 {
            first.free(id(n - 5));
        }
    }
    let usage = first.usage();
    drop((first, kept));
    assert!(fs::metadata(dir.path().join("index")).unwrap().len() < RECORD * 8000);
    let second = store(dir.path(), 64);
    assert_eq!(second.usage(), usage);
    assert!((3995..4000).all(|n| second.find(id(n)).is_some_and(|content| content.is_complete())));
    let kept = second.find(id(1_000_000)).unwrap();
    assert_eq!(kept.missing(0..20), vec![0..3, 4..9, 10..20]);
    kept.verify().unwrap();
}

#[test]
fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let store = store(&path, 64);
    let content = store.content(id(1), 10).unwrap();
    fill_all(&content);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = crate::support::file_of(&path, &content);
    assert_eq!((mode(&path), mode(&path.join("pages")), mode(file.parent().unwrap())), (0o700, 0o700, 0o700));
    assert_eq!((mode(&file), mode(&path.join("index")), mode(&path.join("lock"))), (0o600, 0o600, 0o600));
}
