//! Processes killed with SIGKILL while they fill the store.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

use headpond_store::StoreError;
use headpond_types::{PAGE_SIZE, page_count, page_range};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{bytes_of, id, page_bytes, store};

/// Set in the environment of the process that is to die: directory and capacity.
const DIR: &str = "HEADPOND_TEST_CRASH_DIR";
const CAPACITY: &str = "HEADPOND_TEST_CRASH_MIB";
const CONTENTS: u64 = 12;

fn length(n: u64) -> u64 {
    if n.is_multiple_of(3) { 1 + n * 1000 } else { n * 3 * PAGE_SIZE + 17 }
}

/// Fills, evicts and frees until it is killed, and says which pages it committed.
#[test]
fn victim() {
    let (Ok(dir), Ok(capacity)) = (std::env::var(DIR), std::env::var(CAPACITY)) else {
        // Only the other test starts it as such.
        return;
    };
    let capacity = capacity.parse().unwrap();
    let store = store(Path::new(&dir), capacity);
    let out = Mutex::new(std::io::stderr());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, out) = (&store, &out);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(rand::random::<u64>() + thread);
                let missing = |n| store.find(id(n)).is_none_or(|content| !content.is_complete());
                while (0..CONTENTS).any(missing) {
                    let n = rng.random_range(0..CONTENTS);
                    let page = rng.random_range(0..page_count(length(n)));
                    let content = store.content(id(n), length(n)).unwrap();
                    if capacity < 1000 && rng.random_ratio(1, 50) {
                        store.free(id(n));
                    }
                    let mut writer = match content.page_writer(page) {
                        Ok(writer) => writer,
                        Err(
                            StoreError::AlreadyPresent { .. } | StoreError::Absent { .. } | StoreError::Full { .. },
                        ) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    for chunk in page_bytes(id(n), length(n), page).chunks(100_000) {
                        writer.write(chunk).unwrap();
                    }
                    if writer.commit().is_ok() {
                        writeln!(out.lock().unwrap(), "committed {n} {page}").unwrap();
                    }
                }
            });
        }
    });
    writeln!(out.lock().unwrap(), "complete").unwrap();
    loop {
        std::thread::park();
    }
}

/// Lets a victim run until it committed `pages` or there are no more, kills it, and gives what it said.
fn run_and_kill(dir: &Path, capacity_mib: u64, pages: usize) -> BTreeSet<(u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::victim", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(CAPACITY, capacity_mib.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut committed = BTreeSet::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut note = |line: String| {
        let mut words = line.split(' ');
        if words.next() == Some("committed") {
            let mut number = || words.next().and_then(|word| word.parse().ok());
            if let (Some(n), Some(page)) = (number(), number()) {
                committed.insert((n, page));
            }
        } else {
            assert!(!line.contains("panicked"), "{line}");
        }
    };
    lines.by_ref().take(pages).take_while(|line| line != "complete").for_each(&mut note);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    lines.for_each(&mut note);
    committed
}

/// Opens what is left and compares every claimed page.
fn claims(dir: &Path, capacity_mib: u64) -> BTreeSet<(u64, u64)> {
    let store = store(dir, capacity_mib);
    let mut claimed = BTreeSet::new();
    for n in 0..CONTENTS {
        let Some(content) = store.find(id(n)) else { continue };
        for page in (0..page_count(length(n))).filter(|page| content.is_present(*page)) {
            let bytes = content.read(page_range(page, length(n))).unwrap();
            assert!(bytes == bytes_of(&content, page), "content {n} page {page}");
            claimed.insert((n, page));
        }
    }
    assert_eq!(store.usage().pages(), claimed.len() as u64);
    claimed
}

#[test]
fn killed_at_any_time_it_claims_every_committed_page_and_no_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut committed = BTreeSet::new();
    for round in 0..8 {
        committed.append(&mut run_and_kill(dir.path(), 2000, 5 + round * 3));
        let claimed = claims(dir.path(), 2000);
        assert!(claimed.is_superset(&committed), "lost: {:?}", committed.difference(&claimed));
        // A page may be committed and its process killed before it could say so.
        committed = claimed;
    }
    assert!(committed.len() > 50);
}

#[test]
fn killed_while_it_evicts_and_frees_it_claims_no_wrong_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..8 {
        run_and_kill(dir.path(), 20, 60 + round * 7);
        assert!(!claims(dir.path(), 20).is_empty());
    }
}
