//! Directories that are removed with all below.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use headpond_namespace::Durability;
use headpond_runtime::{Clock, SystemClock};
use headpond_types::{ErrorKind, InodeId};
use headpond_ufs::{Fault, ListRequest, Local, Op, UfsErrorKind, UnderStore};

use super::{INTERVAL, Rig, holders::Bed, writing::request};
use crate::{
    access::Caller,
    write::{Change, Removal},
};

/// The keys of a directory `dir` with `count` files in two directories.
fn directory(dir: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{dir}/{}/k{n:05}", n % 2)).collect()
}

async fn rig(keys: &[String], others: &[&str]) -> Rig {
    let keys: Vec<_> = keys.iter().map(String::as_str).chain(others.iter().copied()).collect();
    let rig = Rig::writable(&keys).await;
    rig.come_later();
    rig
}

impl Rig {
    /// Has what the store refuses tried a few times, and whatever else there is to do.
    async fn try_on(&self) {
        for _ in 0..20 {
            self.master.core.relocator.retry_now();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until no objects are to be moved or deleted, whatever stops that at first.
    async fn settled(&self) {
        let relocator = &self.master.core.relocator;
        while relocator.pending() > 0 || !relocator.littered().expect("reads").is_empty() {
            relocator.retry_now();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_directory_goes_at_once_and_its_objects_follow() {
    for is_listed in [false, true] {
        let rig = rig(&directory("d", 1500), &["d/none/", "e", "da", "d.x/f"]).await;
        if is_listed {
            rig.tree("/m").await.expect("listed");
        } else {
            rig.inode("/m/d/1/k00001").await;
        }
        rig.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Transient));
        let inode = rig.inode("/m/d").await;
        let removal = rig.removal("/m/d", true).await;
        let position = rig.writing().remove_tree(removal.clone()).await.expect("removed");
        assert!(rig.writing().remove_tree(removal).await.expect("repeated") >= position);
        assert_eq!(rig.find("/m/d").await.expect("asked"), None);
        assert_eq!(rig.master.core.lookups.attr(inode, false).await.expect_err("is gone").kind(), ErrorKind::Stale);
        rig.advance(INTERVAL);
        assert_eq!(rig.list("/m").await.expect("listed"), ["d.x/", "da", "e"], "masked");
        rig.store.heal();
        rig.settled().await;
        assert_eq!(rig.keys().await, ["d.x/f", "da", "e"]);
        rig.advance(INTERVAL);
        assert_eq!(rig.list("/m").await.expect("listed"), ["d.x/", "da", "e"]);
        assert_eq!(rig.remove_tree("/m/d").await.expect_err("is gone").kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_new_directory_of_that_name_keeps_what_is_in_it() {
    let rig = rig(&directory("d", 40), &["d/f", "z/f"]).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.remove_tree("/m/d").await.expect("removed");
    rig.make_directory("/m/d").await.expect("made again");
    rig.make_directory("/m/d/0").await.expect("made again");
    // The very bytes that were there.
    rig.write("/m/d/f", "d/f").await;
    rig.write("/m/d/0/k00000", "d/0/k00000").await;
    rig.rename("/m/z", "/m/d/1").await.expect("renamed to where others are");
    rig.advance(INTERVAL);
    let expected = ["0/", "1/", "f", "0/k00000", "1/f"];
    assert_eq!(rig.tree("/m/d").await.expect("listed"), expected);
    rig.try_on().await;
    rig.store.heal();
    rig.settled().await;
    assert_eq!(rig.tree("/m/d").await.expect("listed"), expected);
    let mut keys = rig.keys().await;
    keys.retain(|key| !key.ends_with('/'));
    assert_eq!(keys, ["d/0/k00000", "d/1/f", "d/f"]);
    assert_eq!((rig.object("d/f").await, rig.object("d/1/f").await), ("d/f".to_owned(), "z/f".to_owned()));
}

#[tokio::test]
async fn what_comes_or_changes_outside_later_stays() {
    let rig = Rig::writable(&["d/known", "d/same", "d/u/old", "d/u/x", "listed/f"]).await;
    rig.tree("/m/listed").await.expect("listed");
    rig.list("/m/d").await.expect("listed");
    // What is in the store is as old as the removal, and that in `u` nobody has seen.
    let ahead = SystemClock.now().0 - rig.clock.now().0;
    rig.advance(Duration::from_nanos(ahead.cast_unsigned()));
    rig.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.put("d/known", "of somebody else").await;
    rig.put("listed/new", "of somebody else").await;
    rig.remove_tree("/m/d").await.expect("removed");
    rig.remove_tree("/m/listed").await.expect("removed");
    rig.put("d/u/new", "of somebody else").await;
    rig.store.heal();
    rig.settled().await;
    // Nothing that was not known is old enough.
    assert_eq!(rig.keys().await, ["d/known", "d/u/new", "d/u/old", "d/u/x", "listed/new"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed").len(), 8, "and is shown");
    rig.come_later();
    rig.remove_tree("/m/d").await.expect("removed");
    rig.settled().await;
    assert_eq!(rig.keys().await, ["listed/new"]);
}

#[tokio::test]
async fn what_was_renamed_out_of_it_stays() {
    let rig = rig(&directory("d/sub", 30), &["d/f", "d/g/h", "d/deep/er/x", "d/deep/er/none/"]).await;
    rig.inode("/m/d/f").await;
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.rename("/m/d/f", "/m/f").await.expect("renamed");
    rig.rename("/m/d/sub", "/m/kept").await.expect("renamed, and never listed");
    rig.rename("/m/d/deep/er", "/m/er").await.expect("renamed, and never listed");
    // The first has stopped, for which the others wait, and is not tried again while the rest goes.
    while rig.master.core.relocator.problems().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.remove_tree("/m/d").await.expect("removed");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.store.heal();
    rig.settled().await;
    let mut expected = directory("kept", 30);
    expected.extend(["er/none/", "er/x", "f"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(rig.keys().await, expected);
    assert_eq!(rig.list("/m").await.expect("listed"), ["er/", "f", "kept/"]);
}

#[tokio::test]
async fn what_was_renamed_into_it_and_is_on_its_way_goes_with_it() {
    let rig = rig(&directory("old", 30), &["f", "d/x"]).await;
    rig.inode("/m/old/1/k00001").await;
    rig.store.chance(Some(Op::Copy), 0.5, Fault::Error(UfsErrorKind::Transient));
    rig.rename("/m/old", "/m/d/new").await.expect("renamed");
    rig.rename("/m/f", "/m/d/f").await.expect("renamed");
    rig.try_on().await;
    rig.remove_tree("/m/d").await.expect("removed");
    rig.make_directory("/m/old").await.expect("its first place is free again");
    rig.write("/m/old/f", "new").await;
    rig.store.heal();
    rig.settled().await;
    let mut keys = rig.keys().await;
    keys.retain(|key| key != "old/");
    assert_eq!(keys, ["old/f"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["old/", "old/f"]);
}

#[tokio::test]
async fn a_file_with_a_name_elsewhere_lives_on() {
    let rig = Bed::new(Durability::Through, &["d/first", "d/gone", "keep"]).await;
    rig.come_later();
    let (first, keep) = (rig.inode("/m/d/first").await, rig.inode("/m/keep").await);
    rig.link("/m/d/first", "/m/other").await;
    rig.link("/m/keep", "/m/d/alias").await;
    rig.link("/m/d/gone", "/m/d/gone-too").await;
    rig.remove_tree("/m/d").await.expect("removed");
    rig.settled().await;
    let shown = |path: &'static str| {
        let rig = &rig;
        async move { rig.find(path).await.expect("asked").map(|attr| (attr.inode, attr.nlink)) }
    };
    assert_eq!((shown("/m/other").await, shown("/m/keep").await), (Some((first, 1)), Some((keep, 1))));
    rig.persisted().await;
    assert_eq!(rig.keys().await, ["keep", "other"]);
    assert_eq!(rig.object("other").await, "d/first");
}

#[tokio::test]
async fn who_may_not_empty_a_directory_below_removes_nothing() {
    let rig = rig(&[], &["d/a/x", "d/b/y"]).await;
    rig.tree("/m").await.expect("listed");
    let user = |uid| Some(Caller::from(headpond_proto::v1::Caller { uid, gids: vec![] }));
    let set = async |path: &str, mode| {
        let change = headpond_namespace::AttrChange { mode: Some(mode), ..Default::default() };
        let inode: InodeId = rig.inode(path).await;
        let change = Change { inode, change, caller: None, request: request() };
        rig.writing().set_attr(change, None).await.expect("changed");
    };
    for path in ["/m", "/m/d", "/m/d/a"] {
        set(path, 0o777).await;
    }
    set("/m/d/b", 0o755).await;
    let removal = Removal { caller: user(5), ..rig.removal("/m/d", true).await };
    let error = rig.writing().remove_tree(removal.clone()).await.expect_err("may not");
    assert!(error.kind() == ErrorKind::PermissionDenied && error.message().contains("/m/d/b"), "{error}");
    assert_eq!(rig.tree("/m").await.expect("listed").len(), 5);
    set("/m/d/b", 0o777).await;
    rig.writing().remove_tree(Removal { request: request(), ..removal }).await.expect("may");
    rig.settled().await;
    assert_eq!(rig.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_and_a_mount_point_are_refused() {
    let rig = rig(&[], &["d/x", "f"]).await;
    assert_eq!(rig.remove_tree("/m/f").await.expect_err("a file").kind(), ErrorKind::NotADirectory);
    let error = rig.remove_tree("/m").await.expect_err("a mount point");
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "outside all mounts: {error}");
    let mut mount = rig.mount();
    mount.path = "/m/d/e/n".parse().expect("a path");
    rig.master.ensure_mount(mount).await.expect("mounted");
    let error = rig.remove_tree("/m/d").await.expect_err("a mount below");
    assert!(error.kind() == ErrorKind::Busy && error.message().contains("/m/d/e/n"), "{error}");
    assert_eq!(rig.keys().await, ["d/x", "f"]);
}

#[tokio::test]
async fn files_on_their_way_go_with_their_directory_and_do_not_arrive() {
    let bed = Bed::new(Durability::Async, &["d/x", "d/y"]).await;
    bed.come_later();
    bed.tree("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/before", "1").await;
    bed.hold("/m/_SUCCESS", "").await;
    bed.make_directory("/m/d/new").await.expect("made");
    bed.make_directory("/m/out").await.expect("made");
    let (f, _) = bed.hold("/m/d/f", "on its way").await;
    bed.hold("/m/d/new/g", "behind").await;
    bed.hold("/m/d/x", "another version").await;
    bed.link("/m/d/f", "/m/kept").await;
    bed.remove_tree("/m/d").await.expect("waits for nobody");
    bed.hold("/m/out/_SUCCESS", "").await;
    assert_eq!(bed.list("/m").await.expect("listed"), ["_SUCCESS", "before", "kept", "out/"]);
    assert_eq!(bed.inode("/m/kept").await, f);
    let store = bed.store.clone();
    let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let sees = seen.clone();
    bed.holder.observe(Box::new(move || {
        let (store, sees) = (store.clone(), sees.clone());
        Box::pin(async move {
            let page = store.list(&ListRequest::default()).await.expect("listed");
            let keys = page.entries.iter().map(|listed| listed.key().to_string()).collect();
            sees.lock().expect("not poisoned").push(keys);
        })
    }));
    let mut keys = bed.keys().await;
    keys.retain(|key| !key.ends_with('/'));
    assert_eq!(keys, ["d/x", "d/y"], "nothing goes before the commit file is there");
    bed.holder.open();
    bed.persisted().await;
    bed.settled().await;
    let mut keys = bed.keys().await;
    keys.retain(|key| key != "out/");
    assert_eq!(keys, ["_SUCCESS", "before", "kept", "out/_SUCCESS"]);
    assert_eq!(bed.object("kept").await, "on its way");
    let has = |keys: &[String], key: &str| keys.iter().any(|known| known == key);
    for keys in seen.lock().expect("not poisoned").iter() {
        let is_removed = !has(keys, "d/y");
        assert!(!is_removed || has(keys, "_SUCCESS"), "deleted before what came before: {keys:?}");
        assert!(!has(keys, "out/_SUCCESS") || is_removed, "seen before what came before: {keys:?}");
    }
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["_SUCCESS", "before", "kept", "out/"]);
}

#[tokio::test]
async fn a_file_that_is_being_stored_is_waited_for() {
    let rig = rig(&[], &["d/x"]).await;
    let lease = rig.create("/m/d/f").await.expect("made").lease.expect("a file");
    let other = rig.create("/m/d/g").await.expect("made").lease.expect("a file");
    let grant = rig.persist_grant(lease).await.expect("granted");
    let removal = rig.removal("/m/d", true).await;
    let commit = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let meta = rig.store_staged(&grant, "bytes").await.expect("stored");
        rig.commit(&grant, &meta, request()).await.expect("committed");
    };
    let (removed, ()) = tokio::join!(rig.writing().remove_tree(removal), commit);
    removed.expect("removed");
    rig.settled().await;
    assert_eq!(rig.keys().await, Vec::<String>::new());
    for lease in [lease, other] {
        assert_eq!(rig.persist_grant(lease).await.expect_err("is gone").kind(), ErrorKind::Stale);
    }
}

#[tokio::test]
async fn a_directory_of_a_file_system_goes_with_all_that_was_there() {
    let root = tempfile::tempdir().expect("a directory");
    let local = Local::open(root.path()).await.expect("opened");
    let rig = Rig::with(Some(INTERVAL), &["d/a", "d/b/c/e", "x"], false, |_| Arc::new(local)).await;
    rig.make_directory("/m/d/b/empty").await.expect("made");
    rig.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.remove_tree("/m/d").await.expect("removed");
    // As old as can be.
    rig.put("d/b/late", "moved here").await;
    let late = std::fs::File::options().write(true).open(root.path().join("d/b/late")).expect("opens");
    late.set_modified(std::time::UNIX_EPOCH).expect("set");
    rig.store.heal();
    rig.settled().await;
    assert_eq!(rig.keys().await, ["d/", "d/b/", "d/b/late", "x"]);
    // What was seen before the removal ended counts for nothing, and that may be now.
    while rig.find("/m/d").await.expect("asked").is_none() {
        rig.advance(INTERVAL);
        tokio::task::yield_now().await;
    }
    rig.remove_tree("/m/d").await.expect("removed");
    rig.settled().await;
    assert!(!root.path().join("d").exists() && root.path().join("x").exists());
}
