//! Moves whose places meet, one at a time: what the random sequences of `moves` found.

use std::{sync::Arc, time::Duration};

use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{
    INTERVAL, Rig,
    plain::{Late, Plain},
};
use crate::walk::WalkOptions;

const FAILS: Fault = Fault::Error(UfsErrorKind::Transient);

/// Waits until a move has stopped.
async fn stopped(rig: &Rig) {
    while rig.master.core.relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Has those that stopped tried again, until all is moved.
async fn settled(rig: &Rig) {
    rig.store.heal();
    while rig.master.core.relocator.pending() > 0 {
        rig.master.core.relocator.retry_now();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_directory_keeps_its_marker_when_the_one_that_had_its_place_goes() {
    let rig = Rig::writable(&["x"]).await;
    rig.put("b/", "").await;
    rig.put("d/", "").await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Delete), 1.0, FAILS);
    rig.rename("/m/b", "/m/c").await.expect("renamed");
    stopped(&rig).await;
    rig.store.heal();
    rig.rename("/m/d", "/m/b").await.expect("renamed");
    while rig.master.core.relocator.pending() > 1 {
        tokio::task::yield_now().await;
    }
    rig.remove_directory("/m/c").await.expect("removed");
    settled(&rig).await;
    assert_eq!(rig.keys().await, ["b/", "x"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["b/", "x"]);
}

#[tokio::test]
async fn directories_that_follow_each_other_have_a_marker_each() {
    let rig = Rig::writable(&["x"]).await;
    rig.store.chance(Some(Op::Copy), 1.0, FAILS);
    for n in 0..3 {
        rig.make_directory("/m/job").await.expect("made");
        rig.write("/m/job/f", &format!("{n}")).await;
        rig.rename("/m/job", &format!("/m/g{n}")).await.expect("renamed");
    }
    settled(&rig).await;
    assert_eq!(rig.keys().await, ["g0/", "g0/f", "g1/", "g1/f", "g2/", "g2/f", "x"]);
}

#[tokio::test]
async fn a_directory_removed_in_one_that_moves_leaves_no_marker() {
    let rig = Rig::writable(&["a/e/", "a/f"]).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, FAILS);
    rig.rename("/m/a", "/m/b").await.expect("renamed");
    stopped(&rig).await;
    rig.make_directory("/m/b/g").await.expect("made");
    rig.remove_directory("/m/b/e").await.expect("removed");
    rig.remove_directory("/m/b/g").await.expect("removed");
    settled(&rig).await;
    assert_eq!(rig.keys().await, ["b/f"]);
}

#[tokio::test]
async fn a_directory_that_was_never_listed_is_whole_when_another_moved_away_around_it() {
    let rig = Rig::writable(&["a/a/x", "a/y"]).await;
    rig.inode("/m/a/a").await;
    rig.store.chance(Some(Op::Copy), 1.0, FAILS);
    rig.rename("/m/a", "/m/b").await.expect("renamed");
    rig.rename("/m/b/a", "/m/a").await.expect("renamed");
    assert_eq!(rig.tree("/m").await.expect("listed"), ["a/", "b/", "a/x", "b/y"]);
    settled(&rig).await;
    assert_eq!(rig.keys().await, ["a/x", "b/", "b/y"]);
}

#[tokio::test]
async fn a_directory_is_shown_that_holds_only_what_has_not_come_yet() {
    let rig = Rig::writable(&["d/x", "f"]).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, FAILS);
    rig.rename("/m/f", "/m/d/f").await.expect("renamed");
    rig.delete("d/x").await;
    rig.advance(INTERVAL);
    assert_eq!(rig.list("/m").await.expect("listed"), ["d/"]);
    assert_eq!(rig.list("/m/d").await.expect("listed"), ["f"]);
    settled(&rig).await;
    assert_eq!(rig.keys().await, ["d/f"]);
}

/// A listing that saw the store before a move ended, and is merged after it.
async fn listed_before_the_end(keys: &[&str], from: &str, to: &str, outside: impl AsyncFn(&Rig)) -> Rig {
    let late = Arc::new(Late::default());
    let rig = Rig::with(Some(INTERVAL), keys, false, |inner| Plain::late(inner, &late)).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, FAILS);
    rig.rename(from, to).await.expect("renamed");
    stopped(&rig).await;
    rig.store.heal();
    outside(&rig).await;
    rig.advance(Duration::from_millis(1));
    late.arm();
    let listing = async {
        let options = WalkOptions { refresh: true, recursive: true, ..WalkOptions::default() };
        rig.walk("/m", options).await.expect("listed")
    };
    let end = async {
        late.answered().await;
        rig.advance(Duration::from_millis(1));
        settled(&rig).await;
        late.release();
    };
    futures::join!(listing, end);
    rig
}

#[tokio::test]
async fn a_directory_stays_that_a_listing_saw_before_its_only_file_came() {
    let gone = async |rig: &Rig| rig.delete("d/x").await;
    let rig = listed_before_the_end(&["d/x", "f"], "/m/f", "/m/d/f", gone).await;
    let d = rig.inode("/m/d").await;
    assert_eq!(rig.keys().await, ["d/f"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["d/", "d/f"]);
    assert_eq!(rig.inode("/m/d").await, d);
    assert!(rig.find("/m/d/f").await.expect("asked").is_some());
}

#[tokio::test]
async fn a_listing_from_before_brings_no_replaced_version_back() {
    let rig = listed_before_the_end(&["f", "g"], "/m/f", "/m/g", async |_| {}).await;
    assert_eq!(rig.tree("/m").await.expect("listed"), ["g"]);
    assert_eq!(rig.find("/m/g").await.expect("asked").expect("is there").size, 1);
    rig.rename("/m/g", "/m/h").await.expect("renamed");
    settled(&rig).await;
    assert_eq!((rig.keys().await, rig.object("h").await), (vec!["h".to_owned()], "f".to_owned()));
}
