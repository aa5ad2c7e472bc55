//! Removing names where the mount persists later: nobody waits, and the store follows in its turn.

use std::time::Duration;

use headpond_namespace::{Durability, Snapshot};
use headpond_proto::v1::{Resolution as Wanted, ResolveProblemRequest, admin_service_client::AdminServiceClient};
use headpond_types::{ErrorKind, InodeId};
use headpond_ufs::{Fault, UfsErrorKind};
use tokio::time::timeout;

use super::{INTERVAL, holders::Bed, services::channel};

/// What is done without waiting takes less.
const SOON: Duration = Duration::from_secs(2);

impl Bed {
    fn snapshot(&self) -> Snapshot {
        self.master.core.catalog.snapshot().expect("reads")
    }

    /// Waits until `inode` is being put.
    async fn at_work(&self, inode: InodeId) {
        while !self.master.core.backlog.is_at_work(self.mount().id, inode) {
            tokio::task::yield_now().await;
        }
        // It is the worker that waits, not the journal.
        while self.snapshot().dirty(inode).expect("reads").is_some_and(|dirty| dirty.key.is_none()) {
            tokio::task::yield_now().await;
        }
    }

    async fn quickly<T>(&self, change: impl Future<Output = headpond_types::Result<T>>) -> T {
        timeout(SOON, change).await.expect("waits for nobody").expect("done")
    }

    async fn problem(&self) {
        while self.master.core.persister.list_problems().expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_file_on_its_way_is_removed_at_once_and_does_not_arrive() {
    let bed = Bed::new(Durability::Async, &[]).await;
    bed.holder.close();
    let (f, _) = bed.hold("/m/f", "gone").await;
    let (g, _) = bed.hold("/m/g", "replaced").await;
    bed.hold("/m/h", "kept").await;
    bed.at_work(f).await;
    bed.at_work(g).await;
    bed.quickly(bed.unlink("/m/f")).await;
    bed.quickly(bed.rename("/m/h", "/m/g")).await;
    assert_eq!(bed.list("/m").await.expect("listed"), ["g"]);
    bed.holder.open();
    bed.persisted().await;
    assert_eq!((bed.keys().await, bed.object("g").await), (vec!["g".to_owned()], "kept".to_owned()));
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["g"]);
}

#[tokio::test]
async fn removals_wait_for_no_barrier_and_are_followed_behind_it() {
    let bed = Bed::new(Durability::Async, &["d/x", "d/y", "f", "g"]).await;
    assert_eq!(bed.list("/m/d").await.expect("listed"), ["x", "y"]);
    bed.holder.close();
    bed.hold("/m/_SUCCESS", "").await;
    bed.quickly(bed.unlink("/m/f")).await;
    bed.quickly(bed.unlink("/m/d/x")).await;
    bed.quickly(bed.unlink("/m/d/y")).await;
    bed.quickly(bed.remove_directory("/m/d")).await;
    bed.hold("/m/h", "new").await;
    bed.quickly(bed.rename("/m/h", "/m/g")).await;
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["_SUCCESS", "g"]);
    let mut keys = bed.keys().await;
    keys.retain(|key| key != "d/");
    assert_eq!(keys, ["d/x", "d/y", "f", "g"], "nothing goes before the commit file is there");
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["_SUCCESS", "g"]);
    assert_eq!(bed.object("g").await, "new");
}

#[tokio::test]
async fn names_go_while_the_store_is_away() {
    let bed = Bed::new(Durability::Async, &["d/x", "e/x", "f", "g", "h"]).await;
    for dir in ["/m", "/m/d", "/m/e"] {
        bed.list(dir).await.expect("listed");
    }
    bed.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Transient));
    bed.quickly(bed.unlink("/m/f")).await;
    bed.quickly(bed.unlink("/m/d/x")).await;
    bed.quickly(bed.rename("/m/h", "/m/g")).await;
    bed.quickly(bed.unlink("/m/e/x")).await;
    bed.quickly(bed.remove_directory("/m/e")).await;
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["d/", "g"]);
    bed.store.heal();
    bed.put("other", "x").await;
    bed.master.core.relocator.retry_now();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["d/", "g", "other"]);
    assert_eq!(bed.object("g").await, "h");
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["d/", "g", "other"]);
}

#[tokio::test]
async fn what_is_made_under_the_name_replaces_what_was_to_go() {
    let bed = Bed::new(Durability::Async, &["f", "g", "h"]).await;
    bed.holder.close();
    bed.hold("/m/_SUCCESS", "").await;
    for path in ["/m/f", "/m/g"] {
        bed.quickly(bed.unlink(path)).await;
    }
    bed.hold("/m/f", "new").await;
    bed.quickly(bed.rename("/m/h", "/m/g")).await;
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["_SUCCESS", "f", "g"]);
    assert_eq!((bed.object("f").await, bed.object("g").await), ("new".to_owned(), "h".to_owned()));
}

#[tokio::test]
async fn what_is_made_under_the_name_comes_behind_what_the_removal_waits_for() {
    let bed = Bed::new(Durability::Async, &["f"]).await;
    bed.list("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/plain", "").await;
    bed.hold("/m/_SUCCESS", "").await;
    bed.quickly(bed.unlink("/m/f")).await;
    bed.hold("/m/f", "new").await;
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.holder.puts(), ["plain", "_SUCCESS", "f"]);
}

#[tokio::test]
async fn a_master_after_this_one_goes_on_with_it() {
    let bed = Bed::new(Durability::Async, &["d/x", "f"]).await;
    bed.list("/m/d").await.expect("listed");
    bed.holder.close();
    let (late, _) = bed.hold("/m/late", "gone").await;
    bed.hold("/m/_SUCCESS", "").await;
    bed.at_work(late).await;
    for path in ["/m/f", "/m/d/x", "/m/late"] {
        bed.quickly(bed.unlink(path)).await;
    }
    bed.quickly(bed.remove_directory("/m/d")).await;
    let bed = bed.restart().await;
    assert_eq!(bed.list("/m").await.expect("listed"), ["_SUCCESS"]);
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["_SUCCESS"]);
}

#[tokio::test]
async fn what_somebody_else_put_there_stays_until_an_operator_decides() {
    for (resolution, keys) in [(Wanted::Skip, vec!["_SUCCESS", "f"]), (Wanted::Overwrite, vec!["_SUCCESS"])] {
        let bed = Bed::new(Durability::Async, &["f"]).await;
        bed.list("/m").await.expect("listed");
        bed.put("f", "theirs").await;
        bed.quickly(bed.unlink("/m/f")).await;
        bed.problem().await;
        let problems = bed.master.core.persister.list_problems().expect("reads");
        assert!(problems[0].problem.conflict && problems[0].path.to_string() == "/m/f", "{problems:?}");
        assert_eq!(bed.object("f").await, "theirs");
        assert!(bed.find("/m/f").await.expect("asked").is_none());
        bed.hold("/m/_SUCCESS", "").await;
        let mut client = AdminServiceClient::new(channel(&bed).await);
        let resolve = |resolution: Wanted| ResolveProblemRequest {
            path: "/m/f".into(),
            resolution: resolution.into(),
            ..Default::default()
        };
        let refused = client.resolve_problem(resolve(Wanted::Divert)).await.expect_err("nothing to divert");
        assert_eq!(headpond_proto::status::to_error(&refused, "call").kind(), ErrorKind::InvalidArgument);
        client.resolve_problem(resolve(resolution)).await.expect("resolved");
        bed.persisted().await;
        assert_eq!(bed.keys().await, keys);
        bed.advance(INTERVAL);
        assert_eq!(bed.list("/m").await.expect("listed"), keys);
    }
}

#[tokio::test]
async fn a_directory_that_loses_its_last_entry_is_marked_later() {
    let bed = Bed::new(Durability::Async, &["d/x", "e/y"]).await;
    for dir in ["/m", "/m/d", "/m/e"] {
        bed.list(dir).await.expect("listed");
    }
    bed.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Transient));
    bed.quickly(bed.unlink("/m/d/x")).await;
    bed.quickly(bed.rename("/m/e/y", "/m/y")).await;
    bed.store.heal();
    bed.put("z", "x").await;
    bed.master.core.relocator.retry_now();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["d/", "e/", "y", "z"]);
}

#[tokio::test]
async fn a_worker_that_is_there_again_is_asked_at_once() {
    let bed = Bed::new(Durability::Async, &[]).await;
    let core = &bed.master.core;
    let epoch = core.workers.all()[0].0.epoch;
    core.workers.leave(bed.holder.id(), epoch).expect("left");
    bed.hold("/m/f", "bytes").await;
    bed.problem().await;
    let (inode, _) = core.persister.problems.current(|_| true).remove(0);
    // The next pause is longer than the test waits.
    for _ in 0..5 {
        core.persister.problems.failed(inode, "before".to_owned(), false, core.clock.now());
    }
    while core.persister.problems.get(inode).expect("is left").reason == "before" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bed.holder.register(&bed, "w1").await;
    timeout(SOON, bed.persisted()).await.expect("does not rest on");
    assert_eq!(bed.object("f").await, "bytes");
}

#[tokio::test]
async fn through_mounts_remove_from_the_store_first() {
    let bed = Bed::new(Durability::Through, &["d/x", "f"]).await;
    bed.unlink("/m/f").await.expect("removed");
    assert_eq!(bed.keys().await, ["d/x"]);
    bed.unlink("/m/d/x").await.expect("removed");
    assert_eq!(bed.keys().await, ["d/"]);
    bed.remove_directory("/m/d").await.expect("removed");
    assert!(bed.keys().await.is_empty() && bed.is_persisted());
}
