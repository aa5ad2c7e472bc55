//! Listings: streaming, sharing, merging by difference.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use headpond_types::{ErrorKind, InodeId};
use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{INTERVAL, Rig, name, shown};
use crate::{sync::Scope, walk::WalkOptions};

#[tokio::test]
async fn a_listing_shows_what_the_store_holds_and_follows_its_changes() {
    let rig = Rig::new(&["a", "b/1", "b/2", "c"]).await;
    assert_eq!(rig.list("/m").await.expect("listed"), ["a", "b/", "c"]);
    let (a, b, c) = (rig.inode("/m/a").await, rig.inode("/m/b").await, rig.inode("/m/c").await);
    rig.put("c", "changed").await;
    rig.put("d", "new").await;
    rig.delete("a").await;
    assert_eq!(rig.list("/m").await.expect("fresh"), ["a", "b/", "c"]);
    assert_eq!(rig.listings(), 1);
    rig.advance(INTERVAL);
    assert_eq!(rig.list("/m").await.expect("listed"), ["b/", "c", "d"]);
    assert_eq!(rig.listings(), 2);
    assert_eq!(rig.inode("/m/b").await, b);
    assert_ne!(rig.inode("/m/c").await, c);
    assert_eq!(rig.master.core.lookups.attr(a, false).await.expect_err("gone").kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn empty_stores_and_directories_are_listed() {
    let rig = Rig::new(&[]).await;
    assert_eq!(rig.list("/m").await.expect("listed"), [""; 0]);
    assert_eq!(rig.tree("/m").await.expect("listed"), [""; 0]);
    rig.put("d/", "").await;
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["d/"]);
    assert_eq!(rig.list("/m/d").await.expect("listed"), [""; 0]);
}

#[tokio::test]
async fn concurrent_first_listings_cost_one() {
    let keys: Vec<_> = (0..3500).map(|n| format!("part-{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let lists = futures::future::join_all((0..8).map(|_| rig.list("/m"))).await;
    for listed in lists {
        assert_eq!(listed.expect("listed"), keys);
    }
    assert_eq!(rig.listings(), 1);
}

#[tokio::test]
async fn a_directory_looked_up_and_then_listed_costs_one_request_a_page() {
    let keys: Vec<_> = (0..2500).map(|n| format!("d/k{n:05}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    for (interval, pause, requests) in [
        (Some(INTERVAL), Duration::ZERO, 3),
        (Some(INTERVAL), Duration::from_secs(3), 4),
        (Some(Duration::from_secs(1)), Duration::from_secs(1), 4),
        (None, Duration::ZERO, 3),
    ] {
        let rig = Rig::with_interval(interval, &keys).await;
        rig.store.script(Op::List, [None; 10]);
        rig.inode("/m/d").await;
        rig.put("d/a", "new").await;
        rig.advance(pause);
        let listed = rig.list("/m/d").await.expect("listed");
        assert_eq!(10 - rig.store.scripted(Op::List), requests);
        assert_eq!(listed.len(), if pause.is_zero() { 2500 } else { 2501 });
    }
}

#[tokio::test]
async fn who_wants_the_store_asked_is_shown_no_page_from_before() {
    let keys: Vec<_> = (0..1500).map(|n| format!("d/k{n:05}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    for interval in [Duration::ZERO, INTERVAL] {
        let rig = Rig::with_interval(Some(interval), &keys).await;
        let dir = rig.inode("/m/d").await;
        rig.put("d/a", "new").await;
        rig.advance(Duration::from_millis(1));
        let options = WalkOptions { refresh: !interval.is_zero(), ..WalkOptions::default() };
        let walk = rig.master.core.lookups.walk(dir, options).await.expect("begins");
        let pages: Vec<_> = walk.try_collect().await.expect("listed");
        assert_eq!(pages.iter().map(|page| page.entries.len()).sum::<usize>(), 1501);
    }
}

#[tokio::test]
async fn entries_come_before_the_listing_is_complete() {
    let keys: Vec<_> = (0..3000).map(|n| format!("part-{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // The second page is never answered; the question whether `part` is a directory comes after it.
    rig.store.script(Op::List, [None, Some(Fault::Hang)]);
    let dir = rig.inode("/m").await;
    let walk = rig.master.core.lookups.walk(dir, WalkOptions::default()).await.expect("begins");
    let mut walk = std::pin::pin!(walk);
    let mut seen = Vec::new();
    while seen.is_empty() {
        let page = walk.next().await.expect("more").expect("a page");
        seen.extend(page.entries.into_iter().map(|(name, attr)| shown(&name, &attr)));
    }
    assert_eq!(seen[0], keys[0]);
}

#[tokio::test]
async fn what_holds_the_first_entries_back_is_asked_before_the_second_page() {
    let keys: Vec<_> = (0..2000).map(|n| format!("d/part-{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let dir = rig.inode("/m/d").await;
    // Whether `part` is a directory is answered, the second page never.
    rig.store.script(Op::List, [None, Some(Fault::Hang)]);
    let walk = rig.master.core.lookups.walk(dir, WalkOptions::default()).await.expect("begins");
    let mut walk = std::pin::pin!(walk);
    let first = walk.next().await.expect("more").expect("a page");
    assert_eq!(first.entries.first().map(|(name, attr)| shown(name, attr)).as_deref(), Some("part-00000"));
}

#[tokio::test]
async fn a_page_that_fails_in_the_middle_removes_nothing() {
    let keys: Vec<_> = (0..2500).map(|n| format!("k{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(rig.list("/m").await.expect("listed").len(), 2500);
    rig.delete("k00000").await;
    rig.delete("k02400").await;
    rig.advance(INTERVAL);
    rig.store.script(Op::List, [None, Some(Fault::Error(UfsErrorKind::Transient))]);
    let dir = rig.inode("/m").await;
    let core = &rig.master.core;
    let mount = core.mounts.table().get(rig.mount().id).expect("mounted").clone();
    let (scope, bounds) = (Scope { dir, recursive: false }, core.mounts.bounds(&mount));
    let run = core.engine.listing(&mount, scope, bounds, core.clock.now()).await.expect("begins");
    let error = run.landed().await.expect_err("the second page failed");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("/m"), "{error}");
    assert_eq!(rig.store.scripted(Op::List), 0);
    let snapshot = core.catalog.snapshot().expect("readable");
    for key in ["k00000", "k02400"] {
        assert!(snapshot.lookup(dir, &name(key)).expect("readable").is_some(), "{key} was forgotten");
    }
    rig.store.heal();
    let refresh = WalkOptions { refresh: true, ..WalkOptions::default() };
    assert_eq!(rig.walk("/m", refresh).await.expect("listed").len(), 2498);
}

#[tokio::test]
async fn a_recursive_listing_asks_once_and_marks_all_below() {
    let rig = Rig::new(&["a/b/1", "a/b/2", "a/c/", "a-x/3", "d", "a//bad"]).await;
    let all = ["a/", "a-x/", "d", "a/b/", "a/c/", "a/b/1", "a/b/2", "a-x/3"];
    let mut listed = rig.tree("/m").await.expect("listed");
    listed.sort_unstable();
    let mut expected = all.to_vec();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(rig.listings(), 1);
    assert_eq!(rig.list("/m/a/b").await.expect("known"), ["1", "2"]);
    assert_eq!(rig.list("/m/a/c").await.expect("known"), [""; 0]);
    assert_eq!(rig.tree("/m/a").await.expect("known").len(), 4);
    assert_eq!((rig.listings(), rig.checks()), (1, 0));

    rig.delete("a/b/1").await;
    rig.put("a/b/9/new", "x").await;
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m/a/b").await.expect("listed"), ["2", "9/", "9/new"]);
}

#[tokio::test]
async fn parents_come_before_what_lies_below_them() {
    let rig = Rig::new(&["a/b/c/1", "a/b-2/1", "z/1"]).await;
    let listed = rig.tree("/m").await.expect("listed");
    for entry in &listed {
        let path = entry.trim_end_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            let parent = listed.iter().position(|other| *other == format!("{parent}/")).expect("listed");
            assert!(parent < listed.iter().position(|other| other == entry).expect("itself"));
        }
    }
    assert_eq!(listed.len(), 8);
}

#[tokio::test]
async fn paging_goes_on_behind_a_name() {
    let rig = Rig::new(&["a", "b", "c", "d"]).await;
    let page = |after: &str, limit| WalkOptions {
        start_after: (!after.is_empty()).then(|| name(after)),
        limit: Some(limit),
        ..WalkOptions::default()
    };
    assert_eq!(rig.walk("/m", page("", 2)).await.expect("listed"), ["a", "b"]);
    assert_eq!(rig.walk("/m", page("b", 2)).await.expect("listed"), ["c", "d"]);
    assert_eq!(rig.walk("/m", page("d", 2)).await.expect("listed"), [""; 0]);
    assert_eq!(rig.listings(), 1);
}

#[tokio::test]
async fn the_first_page_names_the_directory_and_the_last_what_was_skipped() {
    let rig = Rig::new(&["d//x", "d/ok", "d/y/../z"]).await;
    let dir = rig.inode("/m/d").await;
    let walk = rig.master.core.lookups.walk(dir, WalkOptions::default()).await.expect("begins");
    let pages: Vec<_> = walk.try_collect().await.expect("listed");
    assert_eq!(pages.first().and_then(|page| page.directory.as_ref()).map(|attr| attr.inode), Some(dir));
    assert_eq!(pages.last().map(|page| page.skipped), Some(1));
    assert_eq!(pages.last().map(|page| page.valid), Some(INTERVAL));
}

#[tokio::test]
async fn restart_keeps_the_namespace() {
    let rig = Rig::new(&["a", "d/x"]).await;
    rig.tree("/m").await.expect("listed");
    let before = [rig.inode("/m/a").await, rig.inode("/m/d/x").await];
    let cluster = rig.master.core.cluster;
    let rig = rig.restart(Some(INTERVAL)).await;
    assert_eq!([rig.inode("/m/a").await, rig.inode("/m/d/x").await], before);
    assert_eq!(rig.list("/m").await.expect("known"), ["a", "d/"]);
    assert_eq!((rig.listings(), rig.checks()), (0, 0));
    assert_eq!(rig.master.core.cluster, cluster);
}

#[tokio::test]
async fn an_entry_found_during_a_listing_is_not_forgotten_by_it() {
    let keys: Vec<_> = (0..1500).map(|n| format!("k{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    rig.list("/m").await.expect("listed");
    rig.delete("k00700").await;
    rig.advance(INTERVAL);
    rig.store.script(Op::List, [None, Some(Fault::Latency(Duration::from_secs(2)))]);
    let dir = rig.inode("/m").await;
    let listing = rig.list("/m");
    let meanwhile = async {
        // The first page, without the name, is merged when the second is asked for.
        while rig.store.scripted(Op::List) > 0 {
            tokio::task::yield_now().await;
        }
        rig.put("k00700", "k00700").await;
        rig.advance(Duration::from_secs(1));
        rig.master.core.lookups.lookup(dir, &name("k00700"), None, true).await
    };
    let (listed, checked) = futures::join!(listing, meanwhile);
    listed.expect("listed");
    assert!(checked.expect("asked").attr.is_some());
    assert!(rig.find("/m/k00700").await.expect("known").is_some());
}

#[tokio::test]
async fn a_hundred_thousand_keys_are_listed() {
    let keys: Vec<_> = (0..100_000).map(|n| format!("part-{n:06}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let dir: InodeId = rig.inode("/m").await;
    for run in ["cold", "again"] {
        let begin = tokio::time::Instant::now();
        let walk = rig.master.core.lookups.walk(dir, WalkOptions::default()).await.expect("begins");
        let mut walk = std::pin::pin!(walk);
        let (mut count, mut first) = (0, None);
        while let Some(page) = walk.next().await {
            count += page.expect("listed").entries.len();
            first = first.or_else(|| (count > 0).then(|| begin.elapsed()));
        }
        assert_eq!(count, keys.len());
        println!("100,000 keys {run}: first entry {first:?}, all {:?}", begin.elapsed());
    }
}
