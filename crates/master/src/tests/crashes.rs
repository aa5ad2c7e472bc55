//! A master that ends at any named point, and one that takes up after it. Needs the feature `failpoints`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use headpond_namespace::Durability;
use headpond_types::ErrorKind;

use super::{INTERVAL, Rig, holders::Bed, writing::request};

/// A point at which this thread panics, once; other tests go through it.
struct Crash {
    point: &'static str,
    happened: Arc<AtomicBool>,
}

impl Crash {
    /// At the pass number `pass` (from 1) through `point`.
    fn at(point: &'static str, pass: u32) -> Self {
        let happened = Arc::new(AtomicBool::new(false));
        let (here, passes, happens) = (thread::current().id(), AtomicU32::new(0), happened.clone());
        fail::cfg_callback(point, move || {
            if thread::current().id() == here && passes.fetch_add(1, Ordering::SeqCst) + 1 == pass {
                happens.store(true, Ordering::SeqCst);
                panic!("a crash that is meant");
            }
        })
        .expect("a point");
        Self { point, happened }
    }

    fn has_happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }
}

impl Drop for Crash {
    fn drop(&mut self) {
        fail::remove(self.point);
    }
}

/// Points are one process's: one test at a time sets them.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const JOURNAL: [&str; 2] = ["write::journal", "write::journalled"];

#[tokio::test]
async fn a_rename_ends_well_wherever_the_master_ends() {
    let _turn = TURN.lock().await;
    const FILES: usize = 40;
    let points = [
        ("rename::begun", 1),
        (JOURNAL[0], 1),
        (JOURNAL[1], 1),
        ("relocate::copied", 1),
        ("relocate::copied", 30),
        ("relocate::journal", 1),
        ("relocate::noted", 1),
        ("relocate::deleted", 1),
        ("relocate::deleted", 30),
        ("relocate::marker", 1),
        ("relocate::end", 1),
        ("relocate::ended", 1),
    ];
    for (point, pass) in points {
        let keys: Vec<_> = (0..FILES).map(|n| format!("old/{}/k{n:03}", n % 3)).collect();
        let rig = Rig::writable(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
        rig.put("old/empty/", "").await;
        let crash = Crash::at(point, pass);
        let renaming = rig.renaming("/m/old", "/m/new").await;
        let renamed = rig.writing().rename(renaming.clone()).await;
        assert_eq!(renamed.is_err(), crash.has_happened(), "{point}");
        while !crash.has_happened() {
            tokio::task::yield_now().await;
        }
        drop(crash);
        let rig = rig.restart(Some(INTERVAL)).await;
        rig.writing().rename(renaming).await.expect("repeated");
        assert_eq!(rig.list("/m").await.expect("listed"), ["new/"], "{point}");
        assert_eq!(rig.tree("/m/new").await.expect("listed").len(), FILES + 4, "{point}");
        rig.relocated().await;
        let mut expected: Vec<_> = keys.iter().map(|key| key.replace("old", "new")).collect();
        expected.push("new/empty/".to_owned());
        expected.sort_unstable();
        assert_eq!(rig.keys().await, expected, "{point}");
        rig.advance(INTERVAL);
        assert_eq!(rig.tree("/m").await.expect("listed").len(), FILES + 5, "{point}");
    }
}

#[tokio::test]
async fn a_directory_goes_with_all_below_wherever_the_master_ends() {
    let _turn = TURN.lock().await;
    let points = [
        ("remove-tree::begun", 1),
        (JOURNAL[0], 1),
        (JOURNAL[1], 1),
        ("removal::deleted", 1),
        ("removal::deleted", 30),
        ("removal::deleted", 50),
        ("removal::journal", 1),
        ("removal::journalled", 1),
        ("relocate::end", 1),
        ("relocate::ended", 1),
    ];
    for (point, pass) in points {
        let mut keys: Vec<_> = (0..60).map(|n| format!("old/{}/k{n:03}", n % 3)).collect();
        keys.push("other".to_owned());
        let rig = Rig::writable(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
        rig.come_later();
        rig.put("old/empty/", "").await;
        // Half of them are known.
        rig.list("/m/old/0").await.expect("listed");
        rig.list("/m/old/1").await.expect("listed");
        let crash = Crash::at(point, pass);
        let removal = rig.removal("/m/old", true).await;
        let removed = rig.writing().remove_tree(removal.clone()).await;
        assert!(removed.is_ok() || crash.has_happened(), "{point}");
        while !crash.has_happened() {
            tokio::task::yield_now().await;
        }
        drop(crash);
        let rig = rig.restart(Some(INTERVAL)).await;
        rig.writing().remove_tree(removal).await.expect("repeated");
        assert_eq!(rig.list("/m").await.expect("listed"), ["other"], "{point}");
        rig.make_directory("/m/old").await.expect("made");
        rig.write("/m/old/k", "new").await;
        rig.relocated().await;
        assert_eq!(rig.keys().await, ["old/", "old/k", "other"], "{point} {pass}");
        rig.advance(INTERVAL);
        assert_eq!(rig.tree("/m").await.expect("listed"), ["old/", "other", "old/k"], "{point} {pass}");
    }
}

#[tokio::test]
async fn removals_and_directories_end_well_wherever_the_master_ends() {
    let _turn = TURN.lock().await;
    for point in ["remove::stored", JOURNAL[0], JOURNAL[1]] {
        let rig = Rig::writable(&["d/f", "g"]).await;
        rig.tree("/m").await.expect("listed");
        let removal = rig.removal("/m/d/f", false).await;
        let crash = Crash::at(point, 1);
        rig.writing().remove(removal.clone()).await.expect_err("broke off");
        assert!(crash.has_happened());
        drop(crash);
        let rig = rig.restart(Some(INTERVAL)).await;
        rig.writing().remove(removal).await.expect("repeated");
        rig.advance(INTERVAL);
        assert_eq!(
            (rig.tree("/m").await.expect("listed"), rig.keys().await),
            (vec!["d/".into(), "g".into()], vec!["d/".into(), "g".into()])
        );
    }
    for point in ["mkdir::stored", JOURNAL[0], JOURNAL[1]] {
        let rig = Rig::writable(&["g"]).await;
        rig.tree("/m").await.expect("listed");
        let new = rig.new_entry("/m/d", request()).await;
        let crash = Crash::at(point, 1);
        rig.writing().make_directory(new.clone()).await.expect_err("broke off");
        drop(crash);
        let rig = rig.restart(Some(INTERVAL)).await;
        rig.writing().make_directory(new).await.expect("repeated");
        rig.advance(INTERVAL);
        assert_eq!(rig.tree("/m").await.expect("listed"), ["d/", "g"]);
    }
}

#[tokio::test]
async fn a_commit_counts_or_is_found_by_sync_wherever_the_master_ends() {
    let _turn = TURN.lock().await;
    for (point, counts) in [("commit::stored", false), (JOURNAL[0], false), (JOURNAL[1], true)] {
        let rig = Rig::writable(&["g"]).await;
        let lease = rig.create("/m/f").await.expect("made").lease.expect("a file");
        let grant = rig.persist_grant(lease).await.expect("granted");
        let meta = rig.store_staged(&grant, "bytes").await.expect("stored");
        let (crash, id) = (Crash::at(point, 1), request());
        rig.commit(&grant, &meta, id).await.expect_err("broke off");
        drop(crash);
        let rig = rig.restart(Some(INTERVAL)).await;
        match rig.commit(&grant, &meta, id).await {
            Ok(answer) => assert!(counts && answer.attr.is_some_and(|attr| attr.size == 5)),
            Err(error) => assert!(!counts && error.kind() == ErrorKind::Stale, "{error}"),
        }
        rig.writing().discard_unheld(rig.writing().left_by_others()).await;
        rig.advance(INTERVAL);
        assert_eq!(rig.list("/m").await.expect("listed"), ["f", "g"]);
        assert_eq!(rig.find("/m/f").await.expect("asked").expect("is there").size, 5);
    }
}

#[tokio::test]
async fn what_workers_hold_is_stored_in_order_wherever_the_master_ends() {
    let _turn = TURN.lock().await;
    let points = ["persist::begin", "persist::begun", "persist::stored", "persist::ended"];
    let passes = points.into_iter().flat_map(|point| [1, 2, 3, 4].map(|pass| (point, pass)));
    for (point, pass) in passes.chain([("persist::due", 1)]) {
        let bed = Bed::new(Durability::Deferred, &["old", "moved"]).await;
        bed.list("/m").await.expect("listed");
        bed.holder.close();
        bed.make_directory("/m/_temporary").await.expect("made");
        bed.make_directory("/m/_temporary/t").await.expect("made");
        bed.hold("/m/_temporary/t/f", "f").await;
        bed.hold("/m/_temporary/t/_SUCCESS", "").await;
        bed.hold("/m/first", "first").await;
        let crash = Crash::at(point, pass);
        bed.hold("/m/_SUCCESS", "").await;
        bed.hold("/m/old", "new").await;
        bed.rename("/m/_temporary/t", "/m/out").await.expect("renamed");
        bed.hold("/m/last", "last").await;
        bed.holder.open();
        while !crash.has_happened() {
            tokio::task::yield_now().await;
        }
        drop(crash);
        // Renamed and removed before anything is known to be there.
        let bed = bed.restart().await;
        bed.rename("/m/last", "/m/renamed").await.expect("renamed");
        bed.persisted().await;
        bed.relocated().await;
        let mut keys = bed.keys().await;
        // Needless once the files are there, but nobody waits for those for long.
        keys.retain(|key| key != "out/");
        assert_eq!(keys, ["_SUCCESS", "first", "moved", "old", "out/_SUCCESS", "out/f", "renamed"], "{point} {pass}");
        assert_eq!((bed.object("old").await, bed.object("renamed").await), ("new".to_owned(), "last".to_owned()));
        let mut puts = bed.holder.puts();
        puts.dedup();
        let at = |key: &str| puts.iter().position(|put| put == key).unwrap_or_else(|| panic!("{key} of {puts:?}"));
        assert!(at("first") < at("_SUCCESS") && at("_SUCCESS") < at("old"), "{point} {pass}: {puts:?}");
        assert!(at("old") < at("out/f") && at("out/f") < at("out/_SUCCESS"), "{point} {pass}: {puts:?}");
        bed.advance(INTERVAL);
        let tree = bed.tree("/m").await.expect("listed");
        assert_eq!(tree.len(), 9, "{point} {pass}: {tree:?}");
    }
}

#[tokio::test]
async fn a_commit_of_what_workers_hold_counts_or_not_wherever_the_master_ends() {
    let _turn = TURN.lock().await;
    for (point, counts) in [("commit::held", false), (JOURNAL[0], false), (JOURNAL[1], true)] {
        let bed = Bed::new(Durability::Async, &["g"]).await;
        let lease = bed.create("/m/f").await.expect("made").lease.expect("a file");
        let grant = bed.copies_grant(lease).await.expect("granted");
        let crash = Crash::at(point, 1);
        bed.commit_held(&grant, "bytes").await.expect_err("broke off");
        drop(crash);
        let bed = bed.restart().await;
        bed.writing().discard_unheld(bed.writing().left_by_others()).await;
        bed.persisted().await;
        let expected: &[&str] = if counts { &["f", "g"] } else { &["g"] };
        assert_eq!(bed.list("/m").await.expect("listed"), expected, "{point}");
        assert_eq!(bed.keys().await, expected, "{point}");
    }
}
