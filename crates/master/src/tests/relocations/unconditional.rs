//! In stores that take no condition on copies and deletions, where what was asked for may be done late.

use std::{sync::Arc, time::Duration};

use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{
    super::{
        INTERVAL, Rig,
        plain::{Late, Plain},
    },
    directory, refs, retried,
};
use crate::relocate::LATE;

#[tokio::test]
async fn short_objects_pass_through_where_a_copy_takes_no_condition() {
    let late = Arc::default();
    let rig = Rig::with(Some(INTERVAL), &["s", "empty"], false, |inner| Plain::through(inner, &late)).await;
    rig.put("empty", "").await;
    rig.store.chance(Some(Op::CreateMultipart), 1.0, Fault::Error(UfsErrorKind::Unsupported));
    for (from, to) in [("s", "t"), ("empty", "void")] {
        rig.rename(&format!("/m/{from}"), &format!("/m/{to}")).await.expect("renamed");
    }
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["t", "void"]);
    assert_eq!((rig.object("t").await, rig.object("void").await), ("s".into(), "".into()));
    // What lies there meanwhile is not overwritten.
    rig.store.chance(Some(Op::Get), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.rename("/m/t", "/m/taken").await.expect("renamed");
    rig.put("taken", "another's").await;
    rig.store.heal();
    rig.store.chance(Some(Op::CreateMultipart), 1.0, Fault::Error(UfsErrorKind::Unsupported));
    let relocator = &rig.master.core.relocator;
    while !relocator.problems().iter().any(|problem| problem.contains("there is an object at")) {
        relocator.retry_now();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rig.object("taken").await, "another's");
    assert_eq!(rig.keys().await, ["t", "taken", "void"]);
}

/// Like MinIO, with these keys, all listed.
async fn minio_like(keys: &[String]) -> (Rig, Arc<Late>) {
    let late = Arc::new(Late::default());
    let rig = Rig::with(Some(INTERVAL), &refs(keys), false, |inner| Plain::through(inner, &late)).await;
    rig.come_later();
    rig.tree("/m").await.expect("listed");
    (rig, late)
}

#[tokio::test]
async fn sources_are_deleted_together_where_a_deletion_takes_no_condition() {
    let keys = directory("old", 300);
    let (rig, _) = minio_like(&keys).await;
    // Of others, in between.
    let others: Vec<_> = (0..20).map(|n| format!("old/1/k{:05}+", 10 * n)).collect();
    for key in &others {
        rig.put(key, "of somebody else").await;
    }
    rig.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Refused));
    rig.store.chance(Some(Op::Head), 0.2, Fault::Latency(Duration::from_millis(1)));
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    while rig.keys().await.iter().any(|key| key.starts_with("old/") && !others.contains(key)) {
        let problems = rig.master.core.relocator.problems();
        assert!(problems.is_empty(), "{problems:?}");
        tokio::task::yield_now().await;
    }
    rig.store.heal();
    retried(&rig).await;
    let mut expected: Vec<_> = directory("new", 300).into_iter().chain(others).collect();
    expected.sort_unstable();
    let mut keys = rig.keys().await;
    keys.retain(|key| !key.ends_with('/'));
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn what_a_store_does_not_delete_together_is_deleted_one_by_one() {
    for fault in [UfsErrorKind::Unsupported, UfsErrorKind::Invalid] {
        let (rig, _) = minio_like(&directory("old", 40)).await;
        rig.store.chance(Some(Op::DeleteAll), 1.0, Fault::Error(fault));
        rig.rename("/m/old", "/m/new").await.expect("renamed");
        rig.relocated().await;
        let mut expected = directory("new", 40);
        expected.sort_unstable();
        let mut keys = rig.keys().await;
        keys.retain(|key| !key.ends_with('/'));
        assert_eq!(keys, expected, "{fault:?}");
    }
}

#[tokio::test]
async fn what_was_seen_too_long_ago_is_looked_at_again() {
    let (rig, late) = minio_like(&directory("d", 40)).await;
    late.arm();
    rig.remove_tree("/m/d").await.expect("removed");
    // The page shows it as it was.
    late.answered().await;
    rig.put("d/0/k00004", "changed outside").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    late.release();
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["d/0/k00004"]);
    assert_eq!(rig.object("d/0/k00004").await, "changed outside");
}

#[tokio::test]
async fn a_deletion_of_many_that_nobody_heard_of_is_done_again() {
    let (rig, _) = minio_like(&directory("old", 40)).await;
    rig.put("old/0/k00004", "changed outside").await;
    rig.store.script(Op::DeleteAll, [None, Some(Fault::LostAnswer), Some(Fault::Error(UfsErrorKind::SlowDown))]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    retried(&rig).await;
    let mut expected = directory("new", 40);
    expected.sort_unstable();
    let mut keys = rig.keys().await;
    keys.retain(|key| !key.ends_with('/'));
    assert_eq!(keys, expected);
    assert_eq!(rig.object("new/0/k00004").await, "changed outside");
    assert_eq!(rig.store.scripted(Op::DeleteAll), 0);
}

/// What is done to the file `/m/new/f` when a master has gone that put its copy.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Removed,
    RemovedWithAll,
    RenamedOn,
    Written,
    MadeAnew,
    MadeAnewAndRemoved,
}

/// The store carries the PUT out when the next master has had time for all that it does at once.
async fn put_late(meanwhile: Meanwhile, restarts: usize) {
    let late = Arc::new(Late::default());
    let keys = ["old/f", "old/g"];
    let mut rig = Rig::with(Some(INTERVAL), &keys, false, |inner| Plain::through(inner, &late)).await;
    rig.come_later();
    rig.tree("/m").await.expect("listed");
    late.hold("new/f");
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    while !late.holds() {
        tokio::task::yield_now().await;
    }
    for _ in 0..restarts {
        rig = rig.restart(Some(INTERVAL)).await;
        rig.inode("/m/new/f").await;
    }
    let expected: &[_] = match meanwhile {
        Meanwhile::Nothing => &["new/f", "new/g"],
        Meanwhile::Removed => {
            rig.unlink("/m/new/f").await.expect("removed");
            &["new/g"]
        }
        Meanwhile::RemovedWithAll => {
            rig.remove_tree("/m/new").await.expect("removed");
            &[]
        }
        Meanwhile::RenamedOn => {
            rig.rename("/m/new/f", "/m/h").await.expect("renamed");
            &["h", "new/g"]
        }
        Meanwhile::Written => {
            rig.write("/m/new/f", "newer").await;
            &["new/f", "new/g"]
        }
        Meanwhile::MadeAnew | Meanwhile::MadeAnewAndRemoved => {
            rig.unlink("/m/new/f").await.expect("removed");
            rig.write("/m/new/f", "newer").await;
            if matches!(meanwhile, Meanwhile::MadeAnew) {
                &["new/f", "new/g"]
            } else {
                rig.unlink("/m/new/f").await.expect("removed");
                &["new/g"]
            }
        }
    };
    let _ = tokio::time::timeout(LATE / 2, rig.relocated()).await;
    // Where it finds the file's own object it does nothing.
    let _ = late.do_held(&rig.store).await;
    let quiet = async {
        rig.relocated().await;
        while !rig.master.core.relocator.littered().expect("readable").is_empty() {
            rig.master.core.relocator.retry_now();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(3 * LATE, quiet).await.unwrap_or_else(|_| panic!("{meanwhile:?}: not over"));
    let mut keys = rig.keys().await;
    keys.retain(|key| !key.ends_with('/'));
    assert_eq!(keys, expected, "{meanwhile:?}");
    rig.advance(INTERVAL);
    let mut tree = rig.tree("/m").await.expect("listed");
    tree.retain(|path| !path.ends_with('/'));
    tree.sort_unstable();
    assert_eq!(tree, expected, "{meanwhile:?}");
    if matches!(meanwhile, Meanwhile::Written | Meanwhile::MadeAnew) {
        assert_eq!(rig.object("new/f").await, "newer", "{meanwhile:?}");
    }
}

#[tokio::test]
async fn what_a_killed_master_put_may_come_late() {
    use Meanwhile::{MadeAnew, MadeAnewAndRemoved, Nothing, Removed, RemovedWithAll, RenamedOn, Written};
    let all = [Nothing, Removed, RemovedWithAll, RenamedOn, Written, MadeAnew, MadeAnewAndRemoved];
    let once = all.into_iter().map(|meanwhile| put_late(meanwhile, 1));
    let twice = [Removed, MadeAnewAndRemoved].into_iter().map(|meanwhile| put_late(meanwhile, 2));
    futures::future::join_all(once.chain(twice)).await;
}

#[tokio::test]
async fn what_had_no_answer_may_come_late() {
    let late = Arc::default();
    let rig = Rig::with(Some(INTERVAL), &["old/f"], false, |inner| Plain::through(inner, &late)).await;
    rig.tree("/m").await.expect("listed");
    rig.store.script(Op::Copy, [Some(Fault::Error(UfsErrorKind::Transient))]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    while rig.master.core.relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.unlink("/m/new/f").await.expect("removed");
    let _ = tokio::time::timeout(LATE / 2, retried(&rig)).await;
    // The request that failed is carried out after all.
    rig.put("new/f", "old/f").await;
    retried(&rig).await;
    assert_eq!(rig.keys().await, ["new/"]);
}

#[tokio::test]
async fn a_restart_costs_no_time_where_nothing_is_left() {
    let late = Arc::default();
    let rig = Rig::with(Some(INTERVAL), &["old/f"], false, |inner| Plain::through(inner, &late)).await;
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.relocated().await;
    let rig = rig.restart(Some(INTERVAL)).await;
    rig.rename("/m/new", "/m/newer").await.expect("renamed");
    tokio::time::timeout(LATE / 2, rig.relocated()).await.expect("at once");
    assert_eq!(rig.keys().await, ["newer/f"]);
}
