//! Freshness of names and inodes.

use std::time::Duration;

use headpond_types::{ErrorKind, FileKind, InodeId};
use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{INTERVAL, Rig, name};
use crate::access::Caller;

const LITTLE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_name_is_found_as_file_as_directory_or_not_at_all() {
    let rig = Rig::new(&["d/x", "f", "marked/", "name-1", "name-2", "name/y"]).await;
    let kind = |attr: Option<headpond_types::Attr>| attr.map(|attr| attr.kind);
    assert_eq!(kind(rig.find("/m/f").await.expect("asked")), Some(FileKind::File));
    assert_eq!(kind(rig.find("/m/d").await.expect("asked")), Some(FileKind::Directory));
    assert_eq!(kind(rig.find("/m/d/x").await.expect("asked")), Some(FileKind::File));
    assert_eq!(kind(rig.find("/m/marked").await.expect("asked")), Some(FileKind::Directory));
    assert_eq!(kind(rig.find("/m/name").await.expect("asked")), Some(FileKind::Directory));
    assert_eq!(kind(rig.find("/m/nam").await.expect("asked")), None);
    assert_eq!(kind(rig.find("/m/absent/deeper").await.expect("asked")), None);
    assert_eq!(rig.find("/m/f/x").await.expect_err("through a file").kind(), ErrorKind::NotADirectory);
    assert_eq!(rig.listings(), 0);
}

#[tokio::test]
async fn answers_hold_for_the_sync_interval_and_no_longer() {
    let rig = Rig::new(&["f"]).await;
    let dir = rig.inode("/m").await;
    let lookups = &rig.master.core.lookups;
    let first = lookups.lookup(dir, &name("f"), None, false).await.expect("asked");
    assert_eq!(first.valid, INTERVAL);
    assert_eq!(lookups.lookup(dir, &name("g"), None, false).await.expect("asked").valid, INTERVAL);
    assert_eq!(rig.checks(), 2);

    rig.put("f", "changed").await;
    rig.put("g", "new").await;
    rig.advance(INTERVAL - LITTLE);
    let held = lookups.lookup(dir, &name("f"), None, false).await.expect("known");
    assert_eq!((&held.attr, held.valid), (&first.attr, LITTLE));
    assert_eq!(lookups.lookup(dir, &name("g"), None, false).await.expect("known").attr, None);
    assert_eq!(rig.checks(), 2);

    rig.advance(LITTLE);
    let second = lookups.lookup(dir, &name("f"), None, false).await.expect("asked").attr.expect("exists");
    let first = first.attr.expect("existed");
    assert_eq!(second.size, 7);
    assert_ne!((second.inode, second.content), (first.inode, first.content));
    assert!(lookups.lookup(dir, &name("g"), None, false).await.expect("asked").attr.is_some());
    let gone = lookups.attr(first.inode, false).await.expect_err("replaced");
    assert_eq!(gone.kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn an_object_deleted_behind_our_back_is_gone_after_the_interval() {
    let rig = Rig::new(&["d/x", "f"]).await;
    let (file, below) = (rig.inode("/m/f").await, rig.inode("/m/d/x").await);
    rig.delete("f").await;
    rig.delete("d/x").await;
    assert!(rig.find("/m/f").await.expect("known").is_some());
    rig.advance(INTERVAL);
    assert_eq!(rig.find("/m/f").await.expect("asked"), None);
    assert_eq!(rig.find("/m/d").await.expect("asked"), None);
    for inode in [file, below] {
        assert_eq!(rig.master.core.lookups.attr(inode, false).await.expect_err("gone").kind(), ErrorKind::Stale);
    }
}

#[tokio::test]
async fn an_interval_of_zero_asks_at_every_use_and_promises_nothing() {
    let rig = Rig::with_interval(Some(Duration::ZERO), &["f"]).await;
    let dir = rig.inode("/m").await;
    let lookups = &rig.master.core.lookups;
    assert_eq!(lookups.lookup(dir, &name("f"), None, false).await.expect("asked").valid, Duration::ZERO);
    rig.put("f", "changed").await;
    let changed = lookups.lookup(dir, &name("f"), None, false).await.expect("asked").attr.expect("exists");
    assert_eq!(changed.size, 7);
    assert_eq!(rig.checks(), 2);
}

#[tokio::test]
async fn a_mount_that_is_never_checked_keeps_what_it_saw() {
    let rig = Rig::with_interval(None, &["d/f"]).await;
    let first = rig.find("/m/d/f").await.expect("asked");
    assert_eq!(rig.list("/m/d").await.expect("listed"), ["f"]);
    rig.put("d/f", "changed").await;
    rig.put("d/g", "new").await;
    rig.advance(Duration::from_secs(1_000_000));
    let rig = rig.restart(None).await;
    assert_eq!(rig.find("/m/d/f").await.expect("known"), first);
    assert_eq!(rig.find("/m/d/g").await.expect("known"), None);
    assert_eq!((rig.checks(), rig.listings()), (0, 0));
    let dir = rig.inode("/m/d").await;
    let refreshed = rig.master.core.lookups.lookup(dir, &name("f"), None, true).await.expect("asked");
    assert_eq!(refreshed.attr.map(|attr| attr.size), Some(7));
}

#[tokio::test]
async fn refresh_asks_although_the_answer_is_fresh() {
    let rig = Rig::new(&["f"]).await;
    let first = rig.inode("/m/f").await;
    rig.put("f", "changed").await;
    rig.advance(LITTLE);
    let gone = rig.master.core.lookups.attr(first, true).await.expect_err("replaced");
    assert_eq!(gone.kind(), ErrorKind::Stale);
    assert_ne!(rig.inode("/m/f").await, first);
}

#[tokio::test]
async fn a_small_directory_is_listed_again_for_one_name() {
    let rig = Rig::new(&["a", "b"]).await;
    rig.list("/m").await.expect("listed");
    rig.delete("a").await;
    rig.put("c", "new").await;
    rig.advance(INTERVAL);
    assert_eq!(rig.find("/m/a").await.expect("asked"), None);
    assert!(rig.find("/m/c").await.expect("known").is_some());
    assert_eq!((rig.listings(), rig.checks()), (2, 0));
}

/// Waits until `dir` is listed.
async fn listed(rig: &Rig, dir: InodeId) {
    while rig.master.core.catalog.snapshot().expect("readable").listed(dir).expect("readable").is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_directory_in_which_several_names_are_asked_for_is_listed() {
    let keys: Vec<_> = (0..100).map(|n| format!("d/{n:03}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let dir = rig.inode("/m/d").await;
    let before = rig.checks();
    for n in 0..8 {
        assert_eq!(rig.listings(), 0);
        assert!(rig.find(&format!("/m/d/{n:03}")).await.expect("asked").is_some());
    }
    listed(&rig, dir).await;
    for n in 0..100 {
        assert!(rig.find(&format!("/m/d/{n:03}")).await.expect("known").is_some());
        assert!(rig.find(&format!("/m/d/{n:03}-absent")).await.expect("known").is_none());
    }
    assert_eq!((rig.checks() - before, rig.listings()), (8, 1));
}

#[tokio::test]
async fn a_large_directory_is_given_up_and_left_alone() {
    let keys: Vec<_> = (0..18_000).map(|n| format!("d/{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let dir = rig.inode("/m/d").await;
    let before = rig.checks();
    for n in 0..50 {
        assert!(rig.find(&format!("/m/d/{:05}", 17_000 + n)).await.expect("asked").is_some());
    }
    let core = &rig.master.core;
    while core.metrics.sync.listed.get() < 16_000 {
        tokio::task::yield_now().await;
    }
    for n in 50..100 {
        assert!(rig.find(&format!("/m/d/{:05}", 17_000 + n)).await.expect("asked").is_some());
    }
    assert_eq!((rig.checks() - before, rig.listings(), core.metrics.sync.listed.get()), (100, 1, 16_000));
    assert!(core.catalog.snapshot().expect("readable").listed(dir).expect("readable").is_none());
}

#[tokio::test]
async fn many_who_ask_for_one_name_cost_one_question() {
    let rig = Rig::new(&["f"]).await;
    let dir = rig.inode("/m").await;
    let f = name("f");
    let asked = (0..50).map(|_| rig.master.core.lookups.lookup(dir, &f, None, false));
    for answer in futures::future::join_all(asked).await {
        assert!(answer.expect("asked").attr.is_some());
    }
    assert_eq!(rig.checks(), 1);
}

#[tokio::test]
async fn only_those_who_may_search_a_directory_look_names_up_in_it() {
    let rig = Rig::new(&["f"]).await;
    let mut mount = rig.mount();
    (mount.path, mount.uri, mount.dir_mode) = ("/closed".parse().expect("a path"), mount.uri + "/", 0o700);
    rig.master.ensure_mount(mount).await.expect("mounted");
    let dir = rig.inode("/closed").await;
    let lookups = &rig.master.core.lookups;
    let caller = |uid| Caller::from(headpond_proto::v1::Caller { uid, gids: vec![uid] });
    let refused = lookups.lookup(dir, &name("f"), Some(&caller(7)), false).await.expect_err("not its owner");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(refused.message().contains("/closed"), "{refused}");
    assert!(lookups.lookup(dir, &name("f"), Some(&caller(0)), false).await.expect("root").attr.is_some());
}

#[tokio::test]
async fn directories_above_mounts_need_no_store() {
    let rig = Rig::new(&["f"]).await;
    let mut mount = rig.mount();
    mount.path = "/m/way/to/inner".parse().expect("a path");
    rig.master.ensure_mount(mount).await.expect("mounted");
    rig.advance(INTERVAL);
    assert_eq!(rig.list("/").await.expect("no store"), ["m/"]);
    assert_eq!(rig.list("/m").await.expect("listed"), ["f", "way/"]);
    assert_eq!(rig.list("/m/way").await.expect("listed"), ["to/"]);
    assert_eq!(rig.list("/m/way/to/inner").await.expect("listed"), ["f"]);
    rig.advance(INTERVAL);
    assert!(rig.find("/m/way/to/inner/f").await.expect("asked").is_some());
    assert_eq!(rig.tree("/").await.expect("listed").len(), 6);
    let missing = rig.master.core.lookups.lookup(InodeId(999), &name("x"), None, false).await;
    assert_eq!(missing.expect_err("no such directory").kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn a_mount_that_would_hide_a_file_is_refused_also_if_nobody_has_seen_that_file() {
    let rig = Rig::new(&["a/f", "d/x"]).await;
    let mount_at = |path: &str| {
        let mut mount = rig.mount();
        (mount.path, mount.uri) = (path.parse().expect("a path"), mount.uri + "/");
        rig.master.ensure_mount(mount)
    };
    for path in ["/m/a/f", "/m/a/f/below"] {
        let refused = mount_at(path).await.expect_err("hides a file");
        assert_eq!(refused.kind(), ErrorKind::NotADirectory);
        assert!(refused.message().contains("/m/a/f"), "{refused}");
    }
    for path in ["/m/new/deeper", "/m/d"] {
        mount_at(path).await.expect("mounted");
    }
}

#[tokio::test]
async fn a_mount_below_another_comes_up_while_that_ones_store_is_down() {
    let rig = Rig::new(&["a/f"]).await;
    // The try-out of the new mount passes, the question about the way to it does not.
    rig.store.script(Op::List, [None, Some(Fault::Error(UfsErrorKind::Transient))]);
    let mut mount = rig.mount();
    (mount.path, mount.uri) = ("/m/a".parse().expect("a path"), mount.uri + "/");
    rig.master.ensure_mount(mount).await.expect("mounted");
    assert_eq!(rig.store.scripted(Op::List), 0);
}
