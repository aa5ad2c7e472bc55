//! Stores that fail: errors are errors, what is known is served and said to be old, nothing vanishes.

use std::time::Duration;

use futures::StreamExt as _;
use headpond_types::ErrorKind;
use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{INTERVAL, Rig, name, shown};
use crate::{lookup::STALE_VALIDITY, sync::Scope, walk::WalkOptions};

#[tokio::test]
async fn while_a_store_fails_known_names_are_served_and_unknown_ones_refused() {
    for (fault, kind) in [
        (UfsErrorKind::SlowDown, ErrorKind::Unavailable),
        (UfsErrorKind::Transient, ErrorKind::Unavailable),
        (UfsErrorKind::DeadlineExceeded, ErrorKind::DeadlineExceeded),
        (UfsErrorKind::Refused, ErrorKind::StoreRefused),
        (UfsErrorKind::NoSuchStore, ErrorKind::StoreRefused),
    ] {
        let rig = Rig::new(&["d/x", "f"]).await;
        let known = rig.find("/m/f").await.expect("asked");
        assert_eq!(rig.list("/m/d").await.expect("listed"), ["x"]);
        rig.advance(INTERVAL);
        rig.store.chance(None, 1.0, Fault::Error(fault));

        let dir = rig.inode("/m").await;
        let error = rig.find("/m/unknown").await.expect_err("cannot be asked");
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains("/m") && error.message().contains("unknown"), "{error}");
        let answer = rig.master.core.lookups.lookup(dir, &name("f"), None, false).await.expect("known");
        assert_eq!((&answer.attr, answer.valid), (&known, STALE_VALIDITY));
        assert_eq!(rig.list("/m/d").await.expect("known"), ["x"]);
        assert!(rig.stale_answers() >= 2);
        let refreshed = rig.master.core.lookups.lookup(dir, &name("f"), None, true).await;
        assert_eq!(refreshed.expect_err("wants no old answer").kind(), kind);
        let problems = rig.status().await;
        assert!(problems.len() == 1 && problems[0].contains("mount /m"), "{problems:?}");

        rig.put_after_healing("unknown").await;
        assert!(rig.find("/m/unknown").await.expect("never cached as absent").is_some());
        assert!(rig.status().await.is_empty());
        assert_eq!(rig.find("/m/f").await.expect("asked"), known);
    }
}

#[tokio::test]
async fn the_listing_that_finds_the_outage_is_answered_with_what_was_known() {
    let keys: Vec<_> = (0..2500).map(|n| format!("d/{n:05}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let dir = rig.inode("/m/d").await;
    let core = &rig.master.core;
    let mount = core.mounts.table().get(rig.mount().id).expect("mounted").clone();
    for recursive in [false, true] {
        let options = WalkOptions { recursive, ..WalkOptions::default() };
        let known = rig.walk("/m/d", options.clone()).await.expect("listed");
        tokio::time::pause();
        // The first page is not answered; the second is not, before anything of the first is taken; after it was.
        for (pages, taken) in [(0, false), (1, false), (1, true)] {
            rig.advance(INTERVAL);
            let listings = rig.listings();
            rig.store.script(Op::List, std::iter::repeat_n(None, pages).chain([Some(Fault::Hang)]));
            let mut walk = Box::pin(core.lookups.walk(dir, options.clone()).await.expect("begins"));
            let mut names = Vec::new();
            if !taken {
                let (scope, bounds) = (Scope { dir, recursive }, core.mounts.bounds(&mount));
                let run = core.engine.listing(&mount, scope, bounds, core.clock.now()).await.expect("joined");
                assert_eq!(run.landed().await.expect_err("hangs").kind(), ErrorKind::DeadlineExceeded);
            }
            let end = loop {
                match walk.next().await {
                    Some(Ok(page)) => names.extend(page.entries.iter().map(|(name, attr)| shown(name, attr))),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            };
            assert_eq!(rig.listings(), listings + 1);
            if taken {
                // What was known is not to be mixed with what is new.
                assert_eq!(end.expect_err("a part was taken").kind(), ErrorKind::DeadlineExceeded);
                assert!(!names.is_empty() && names.len() < known.len());
            } else {
                end.expect("what is known");
                assert_eq!(names, known);
            }
            rig.find("/m/unknown").await.expect("answers again");
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_name_is_absent_only_when_both_questions_say_so() {
    let rig = Rig::new(&["d/x", "f"]).await;
    let failing = Fault::Error(UfsErrorKind::Transient);
    rig.store.chance(Some(Op::List), 1.0, failing);
    assert_eq!(rig.find("/m/none").await.expect_err("may be a directory").kind(), ErrorKind::Unavailable);
    assert_eq!(rig.find("/m/f").await.expect_err("may be a directory, too").kind(), ErrorKind::Unavailable);
    rig.store.heal();
    rig.store.chance(Some(Op::Head), 1.0, failing);
    assert_eq!(rig.find("/m/none").await.expect_err("may be a file").kind(), ErrorKind::Unavailable);
    assert!(rig.find("/m/d").await.expect("has keys below it").is_some());
}

#[tokio::test]
async fn one_waits_for_a_store_that_hangs_and_the_others_do_not() {
    let rig = Rig::new(&["f", "g"]).await;
    let dir = rig.inode("/m").await;
    assert_eq!(rig.list("/m").await.expect("listed"), ["f", "g"]);
    rig.advance(INTERVAL);
    rig.store.chance(None, 1.0, Fault::Hang);
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let lookups = &rig.master.core.lookups;
    assert!(lookups.lookup(dir, &name("f"), None, false).await.expect("known").attr.is_some());
    let waited = begin.elapsed();
    let deadline = crate::MasterConfig::default().store_deadline;
    assert!(waited >= deadline && waited < deadline + Duration::from_secs(1), "{waited:?}");
    for text in ["f", "g", "f", "g"] {
        assert!(lookups.lookup(dir, &name(text), None, false).await.expect("known").attr.is_some());
    }
    assert_eq!(begin.elapsed(), waited);
    // Nor do those who list, while what they leave behind tries the store.
    for _ in 0..3 {
        rig.advance(INTERVAL);
        tokio::time::advance(Duration::from_secs(1)).await;
        let begin = tokio::time::Instant::now();
        assert_eq!(rig.list("/m").await.expect("known"), ["f", "g"]);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

#[tokio::test]
async fn a_store_that_was_down_is_noticed_in_the_background() {
    let rig = Rig::new(&["f"]).await;
    let dir = rig.inode("/m").await;
    rig.inode("/m/f").await;
    rig.advance(INTERVAL);
    rig.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Transient));
    let lookups = &rig.master.core.lookups;
    lookups.lookup(dir, &name("f"), None, false).await.expect("known");
    rig.store.heal();
    rig.put("f", "changed").await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    // Answered at once with what is known; the question that it leaves behind finds the change.
    let known = lookups.lookup(dir, &name("f"), None, false).await.expect("known").attr.expect("exists");
    assert_eq!(known.size, 1);
    while !rig.status().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let changed = lookups.lookup(dir, &name("f"), None, false).await.expect("asked").attr.expect("exists");
    assert_eq!(changed.size, 7);
}

impl Rig {
    async fn put_after_healing(&self, key: &str) {
        self.store.heal();
        self.put(key, "x").await;
    }
}
