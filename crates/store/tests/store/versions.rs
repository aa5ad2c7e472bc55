//! What staged files were when they were made durable, while they are changed in place.

use std::{collections::VecDeque, fs::read_dir, os::unix::fs::FileExt as _, path::Path};

use headpond_store::{Held, PageStore, Staging};
use headpond_types::ContentId;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::support::{id, store};

/// Contents that a staged file stands for at most.
const CLAIMS: usize = 4;

fn version(staging: &Staging, id: ContentId) -> Option<Vec<u8>> {
    let whole = staging.read_version(id, 0, usize::MAX, Vec::new()).unwrap();
    let behind = staging.read_version(id, 3, 40, b"xy".to_vec()).unwrap();
    if let (Some(whole), Some(behind)) = (&whole, &behind) {
        assert_eq!(behind[2..], whole[whole.len().min(3)..whole.len().min(43)]);
    }
    whole
}

fn content(store: &PageStore, id: ContentId) -> Vec<u8> {
    let content = store.find(id).unwrap_or_else(|| panic!("{id} is lost"));
    assert!(content.is_complete() && content.is_dirty());
    content.read(0..u64::MAX).unwrap().to_vec()
}

/// Names in `staged`.
fn staged(dir: &Path) -> usize {
    read_dir(dir.join("staged")).unwrap().count()
}

#[test]
fn what_was_made_durable_stays_as_it_was_while_the_file_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let staging = store.stage().unwrap();
    staging.write_at(0, b"the first version").unwrap();
    staging.make_durable(id(1), 17).unwrap();
    assert_eq!(staged(dir.path()), 1);
    staging.write_at(17, b", and more").unwrap();
    assert_eq!(staged(dir.path()), 1, "what grows needs nothing kept");
    staging.write_at(4, b"SECOND").unwrap();
    staging.write_at(6, b"c").unwrap();
    staging.make_durable(id(2), 27).unwrap();
    staging.set_len(5).unwrap();
    staging.set_len(30).unwrap();
    staging.write_at(2, b"?").unwrap();
    assert_eq!(version(&staging, id(1)).unwrap(), b"the first version");
    assert_eq!(version(&staging, id(2)).unwrap(), b"the SEcONDversion, and more");
    assert_eq!(version(&staging, id(3)), None);
    assert_eq!(&staging.read_at(0, 100).unwrap()[..], b"th? S\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

    // Through a descriptor, before the version is made durable, and after.
    let file = staging.descriptor().unwrap();
    staging.keep(Some((id(3), 30)), &(0..2)).unwrap();
    file.write_all_at(b"AB", 0).unwrap();
    staging.make_durable(id(3), 30).unwrap();
    staging.keep(Some((id(3), 30)), &(1..3)).unwrap();
    file.write_all_at(b"CD", 1).unwrap();
    assert!(version(&staging, id(3)).unwrap().starts_with(b"th? S\0"));
    assert!(staging.read_at(0, 4).unwrap().starts_with(b"ACD "));
    drop(file);

    store.adopt_dirty(staging, None).unwrap();
    assert_eq!(content(&store, id(1)), b"the first version");
    assert_eq!(content(&store, id(2)), b"the SEcONDversion, and more");
    assert!(content(&store, id(3)).starts_with(b"th? S\0"));
    assert_eq!(staged(dir.path()), 0);
}

#[test]
fn what_nobody_needs_leaves_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 2000);
    let staging = store.stage().unwrap();
    staging.write_at(0, &vec![0; 1 << 20]).unwrap();
    let used = |store: &PageStore| store.usage().used_bytes() >> 20;
    for n in 0..200_u8 {
        staging.make_durable(id(n.into()), 1 << 20).unwrap();
        staging.write_at(0, &vec![n; 1 << 20]).unwrap();
    }
    assert!(staged(dir.path()) <= 3 && used(&store) < 140, "{} files, {} MiB", staged(dir.path()), used(&store));
    // Four versions between which nothing was changed in place need nothing.
    for n in 200..204 {
        staging.make_durable(id(n), 1 << 20).unwrap();
    }
    assert_eq!((staged(dir.path()), used(&store)), (1, 1));
    staging.write_at(0, b"x").unwrap();
    assert_eq!(staged(dir.path()), 2);
    drop(staging);
    assert_eq!(staged(dir.path()), 2, "it was made durable");
    drop(store);
    let store = crate::support::store(dir.path(), 2000);
    assert_eq!(content(&store, id(203)), vec![199; 1 << 20]);
    assert_eq!(staged(dir.path()), 0);
}

#[test]
fn what_is_written_again_as_it_is_needs_nothing_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 64);
    let staging = store.stage().unwrap();
    let mut body: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    staging.write_at(0, &body).unwrap();
    staging.make_durable(id(1), body.len() as u64).unwrap();
    body.extend(b"appended");
    staging.write_at(0, &body).unwrap();
    assert_eq!((staging.len().unwrap(), staged(dir.path())), (body.len() as u64, 1));
    let first = version(&staging, id(1)).unwrap();
    body[5000] ^= 1;
    staging.write_at(0, &body).unwrap();
    let kept = dir.path().join("staged").read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(kept.min().unwrap() < 100, "one byte is kept");
    assert_eq!(version(&staging, id(1)).unwrap(), first);
    assert_eq!(&staging.read_at(0, body.len()).unwrap()[..], body);
}

/// A version, its bytes, and who reads it.
type Known = (u64, Vec<u8>, Option<Held>);

/// Changes a staged file at random, and what it has to be along with it.
fn change(staging: &Staging, now: &mut Vec<u8>, rng: &mut StdRng) {
    let offset = rng.random_range(0..=now.len() + 20);
    match rng.random_range(0..10) {
        0 => {
            staging.set_len(offset as u64).unwrap();
            now.resize(offset, 0);
        }
        way => {
            let bytes: Vec<u8> = (0..rng.random_range(1..60)).map(|_| rng.random()).collect();
            let end = offset + bytes.len();
            if way < 5 {
                staging.write_at(offset as u64, &bytes).unwrap();
            } else {
                staging.keep(None, &(offset as u64..end as u64)).unwrap();
                staging.descriptor().unwrap().write_all_at(&bytes, offset as u64).unwrap();
            }
            now.resize(now.len().max(end), 0);
            now[offset..end].copy_from_slice(&bytes);
        }
    }
}

#[test]
fn versions_are_those_of_a_plain_model() {
    let seed = std::env::var("HEADPOND_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("HEADPOND_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..40_u64 {
        let dir = tempfile::tempdir().unwrap();
        let first = store(dir.path(), 64);
        let (staging, mut now) = (first.stage().unwrap(), Vec::new());
        let mut known: VecDeque<Known> = VecDeque::new();
        for n in 0..rng.random_range(1..60) {
            for _ in 0..rng.random_range(0..5) {
                change(&staging, &mut now, &mut rng);
            }
            staging.make_durable(id(n), now.len() as u64).unwrap();
            let held = rng.random_bool(0.2).then(|| staging.hold(id(n)).unwrap());
            known.push_back((n, now.clone(), held));
            let old = known.len().saturating_sub(CLAIMS);
            for (_, _, held) in known.iter_mut().take(old) {
                *held = held.take().filter(|_| rng.random_bool(0.8));
            }
            let mut age = known.len();
            known.retain(|(_, _, held)| {
                age -= 1;
                age < CLAIMS || held.is_some()
            });
            for (n, bytes, _) in &known {
                assert!(version(&staging, id(*n)).as_ref() == Some(bytes), "version {n} in round {round}");
            }
        }
        for _ in 0..rng.random_range(0..5) {
            change(&staging, &mut now, &mut rng);
        }
        let durable = staging.durable();
        let mut stores = None;
        let last = known.back().expect("at least one").0;
        let only = if round % 3 == 0 { Some(last) } else { None };
        if round % 2 == 0 {
            first.adopt_dirty(staging, only.map(id)).unwrap();
            stores = Some(first);
        } else {
            // As if the process had been killed.
            std::mem::forget(staging);
            drop(first);
        }
        let after = stores.unwrap_or_else(|| store(dir.path(), 64));
        let is_whole = round % 2 == 1 || only.is_none();
        for (n, bytes, _) in known.iter().filter(|(n, ..)| durable.contains(&id(*n))) {
            if is_whole || *n == last {
                assert!(content(&after, id(*n)) == *bytes, "content {n} after round {round}");
            }
        }
        assert_eq!(staged(dir.path()), 0);
    }
}
