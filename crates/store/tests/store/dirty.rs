//! Bytes that are nowhere else: made durable while they are staged, and kept until somebody says that they are needed no longer.

use std::{
    fs::{OpenOptions, read_dir, remove_file},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
};

use headpond_store::{PageStore, Staging};
use headpond_types::{ContentId, PAGE_SIZE, page_count};

use crate::support::{fill_all, flip_byte, id, numbers_of_killed, page_bytes, store};

/// Set in the environment of the process that is to die.
const DIR: &str = "HEADPOND_TEST_DIRTY_DIR";

/// The bytes that content `n` of `length` has in these tests.
fn body(n: u64, length: u64) -> Vec<u8> {
    (0..page_count(length)).flat_map(|page| page_bytes(id(n), length, page)).collect()
}

/// A staged file that was made durable as content `n`.
fn durable(store: &PageStore, n: u64, length: u64) -> Staging {
    let staging = store.stage().unwrap();
    staging.write_at(0, &body(n, length)).unwrap();
    staging.make_durable(id(n), length).unwrap();
    staging
}

fn has(store: &PageStore, id: ContentId, bytes: &[u8]) -> bool {
    let content = store.find(id).unwrap_or_else(|| panic!("{id} is lost"));
    assert!(content.is_complete());
    content.read(0..u64::MAX).unwrap() == bytes
}

fn dirty(store: &PageStore) -> Vec<ContentId> {
    let mut dirty = store.dirty();
    dirty.sort();
    assert_eq!(dirty.iter().map(|(_, length)| length).sum::<u64>(), store.dirty_bytes());
    let dirty: Vec<_> = dirty.into_iter().map(|(id, _)| id).collect();
    assert_eq!(dirty.len() as u64, store.usage().dirty_contents());
    assert!(dirty.iter().all(|id| store.find(*id).unwrap().is_dirty()));
    dirty
}

fn sorted<const N: usize>(mut ids: [ContentId; N]) -> [ContentId; N] {
    ids.sort();
    ids
}

/// As if the process had been killed: nothing is tidied up but the lock.
fn killed(store: PageStore, staged: impl IntoIterator<Item = Staging>) {
    staged.into_iter().for_each(std::mem::forget);
    drop(store);
}

#[test]
fn what_is_dirty_is_neither_evicted_nor_freed_until_it_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 16);
    let lengths = [3, 3 * PAGE_SIZE + 1, 9 * PAGE_SIZE];
    for (n, length) in (1..).zip(lengths) {
        store.adopt_dirty(durable(&store, n, length), Some(id(n))).unwrap();
    }
    let all = lengths.iter().sum::<u64>();
    assert_eq!((store.usage().dirty_bytes(), store.usage().dirty_contents()), (all, 3));
    for n in 10..40 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
    assert_eq!((store.free(id(2)), store.find(id(2)).unwrap().is_dirty()), (0, true));
    let clean = store.usage().contents() - 3;
    assert!((1..=4).contains(&clean), "{clean}");
    store.free_all();
    for (n, length) in (1..).zip(lengths) {
        assert!(has(&store, id(n), &body(n, length)));
    }
    assert_eq!(store.usage().contents(), 3);

    for (n, length) in (1..).zip(lengths) {
        store.set_clean(id(n));
        assert!(has(&store, id(n), &body(n, length)), "it is cached");
    }
    assert_eq!((store.usage().dirty_bytes(), dirty(&store)), (0, vec![]));
    for n in 10..40 {
        fill_all(&store.content(id(n), PAGE_SIZE).unwrap());
    }
    assert!(
        (1..4).all(|n| store.find(id(n)).is_none_or(|content| !content.is_complete())),
        "as any other it is evicted"
    );
    store.free_all();
    assert_eq!(store.usage().used_bytes(), 0);
}

#[test]
fn what_is_durable_survives_a_crash_staged_or_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let lengths = [0, 5, 2 * PAGE_SIZE, 11 * PAGE_SIZE + 9];
    for round in 0..3 {
        let store = store(dir.path(), 64);
        if round == 0 {
            let mut staged: Vec<_> = (1..).zip(lengths).map(|(n, length)| durable(&store, n, length)).collect();
            for n in [3, 1] {
                store.adopt_dirty(staged.remove(n - 1), Some(id(n as u64))).unwrap();
            }
            staged[1].write_at(11 * PAGE_SIZE + 9, b"not acknowledged").unwrap();
            staged.push(store.stage().unwrap());
            killed(store, staged);
            continue;
        }
        assert_eq!(dirty(&store), sorted([id(1), id(2), id(3), id(4)]));
        for (n, length) in (1..).zip(lengths) {
            assert!(has(&store, id(n), &body(n, length)), "content {n} in round {round}");
            assert!(store.find(id(n)).unwrap().lend().unwrap().complete());
        }
        assert_eq!(read_dir(dir.path().join("staged")).unwrap().count(), 0);
        killed(store, []);
        if round == 1 {
            // The files say enough.
            remove_file(dir.path().join("index")).unwrap();
        }
    }
}

#[test]
fn what_became_clean_is_clean_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    for n in 1..4 {
        first.adopt_dirty(durable(&first, n, 100), None).unwrap();
    }
    first.set_clean(id(2));
    first.set_clean(id(9));
    killed(first, []);
    let second = store(dir.path(), 64);
    assert_eq!(dirty(&second), sorted([id(1), id(3)]));
    assert!(has(&second, id(2), &body(2, 100)));
    assert!(second.free(id(2)) > 0);
}

#[test]
fn a_file_stands_for_each_content_that_may_count_until_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let bytes = body(1, 4 * PAGE_SIZE);
    let at = |length: u64| &bytes[..usize::try_from(length).unwrap()];
    let staging = first.stage().unwrap();
    let lengths = [PAGE_SIZE + 5, 2 * PAGE_SIZE, 4 * PAGE_SIZE];
    let mut before = 0;
    for (n, length) in (1..).zip(lengths) {
        staging.write_at(before, &at(length)[usize::try_from(before).unwrap()..]).unwrap();
        staging.make_durable(id(n), length).unwrap();
        before = length;
    }
    assert_eq!(staging.durable(), [id(1), id(2), id(3)]);
    killed(first, [staging]);

    let second = store(dir.path(), 64);
    assert_eq!(dirty(&second), sorted([id(1), id(2), id(3)]));
    assert!((1..).zip(lengths).all(|(n, length)| has(&second, id(n), at(length))));
    second.set_clean(id(3));
    second.set_clean(id(1));
    assert!(second.find(id(3)).is_none(), "holes in it would be holes in the others");
    killed(second, []);

    let third = store(dir.path(), 64);
    assert_eq!(dirty(&third), [id(2)]);
    assert!(has(&third, id(2), at(lengths[1])));
    third.set_clean(id(2));
    third.free_all();
    assert_eq!((third.usage().used_bytes(), third.usage().contents()), (0, 0));
}

#[test]
fn the_content_that_is_known_to_count_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let twice = |n| {
        let staging = durable(&store, n, 10);
        staging.make_durable(id(n + 1), 10).unwrap();
        staging
    };
    store.adopt_dirty(twice(1), Some(id(2))).unwrap();
    assert_eq!(dirty(&store), [id(2)]);
    store.adopt_dirty(twice(3), Some(id(7))).unwrap();
    assert_eq!(dirty(&store), sorted([id(2), id(3), id(4)]), "of an unknown one nothing follows");
    // What the under store has, stands for nothing else.
    let bytes = body(5, 10);
    store.adopt(twice(5), id(8), &headpond_store::checksums(&bytes)).unwrap();
    assert_eq!(dirty(&store), sorted([id(2), id(3), id(4)]));
    assert!(has(&store, id(8), &bytes));
    store.adopt_dirty(store.stage().unwrap(), None).unwrap();
    drop(store);
    let store = crate::support::store(dir.path(), 64);
    assert_eq!(dirty(&store), sorted([id(2), id(3), id(4)]));
}

#[test]
fn what_readers_have_of_it_already_makes_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let staging = durable(&store, 1, 2 * PAGE_SIZE);
    fill_all(&store.content(id(1), 2 * PAGE_SIZE).unwrap());
    store.adopt_dirty(staging, Some(id(1))).unwrap();
    assert_eq!(dirty(&store), [id(1)]);
    assert!(has(&store, id(1), &body(1, 2 * PAGE_SIZE)));
    assert_eq!(store.usage().used_bytes(), 2 * PAGE_SIZE);
}

#[test]
fn wrong_bytes_are_told_and_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    first.adopt_dirty(durable(&first, 1, 2 * PAGE_SIZE), None).unwrap();
    let content = first.find(id(1)).unwrap();
    flip_byte(dir.path(), &content, PAGE_SIZE + 1);
    for _ in 0..2 {
        content.read(PAGE_SIZE..2 * PAGE_SIZE).unwrap_err();
        assert!(body(1, 2 * PAGE_SIZE).starts_with(&content.read(0..PAGE_SIZE).unwrap()));
    }
    assert!(content.is_complete() && content.is_dirty());
}

#[test]
fn a_descriptor_that_goes_on_writing_changes_what_is_recovered_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), 64);
    let staging = durable(&first, 1, 100);
    let file = staging.descriptor().unwrap();
    file.write_all_at(b"later", 0).unwrap();
    drop(staging);
    assert!(first.find(id(1)).is_none());
    drop(first);
    let second = store(dir.path(), 64);
    assert_eq!(&second.find(id(1)).unwrap().read(0..5).unwrap()[..], b"later");
    assert_eq!(dirty(&second), [id(1)]);
}

/// Stages, makes durable and adopts until it is killed, and says what is durable.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(DIR) else {
        // Only the next test starts it as such.
        return;
    };
    let store = store(Path::new(&dir), 2000);
    let mut out = std::io::stderr();
    for n in (0..400).filter(|n| store.find(id(*n)).is_none()).collect::<Vec<_>>() {
        let staging = durable(&store, n, length(n));
        writeln!(out, "durable {n}").unwrap();
        match n % 3 {
            0 => store.adopt_dirty(staging, None).unwrap(),
            1 => std::mem::forget(staging),
            _ => drop(staging),
        }
    }
}

const fn length(n: u64) -> u64 {
    n % 9 * 3 * PAGE_SIZE / 10
}

#[test]
fn killed_at_any_time_it_has_all_that_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Vec::new();
    for round in 0..6 {
        durable.extend(numbers_of_killed("dirty::victim", (DIR, dir.path()), "durable ", 4 + round));
        if round == 3 {
            // A torn log loses its last records.
            let index = OpenOptions::new().write(true).open(dir.path().join("index")).unwrap();
            index.set_len(index.metadata().unwrap().len() / 2).unwrap();
        }
        let store = store(dir.path(), 2000);
        for n in &durable {
            assert!(has(&store, id(*n), &body(*n, length(*n))), "content {n} in round {round}");
            assert!(store.find(id(*n)).unwrap().is_dirty());
        }
        drop(store);
    }
    assert!(durable.len() >= 30);
}
