//! What somebody else put where a rename is to move an object, and what an operator decides about it.

use std::{sync::Arc, time::Duration};

use headpond_proto::{
    status,
    v1::{
        ListProblemsRequest, Problem, Resolution as Wanted, ResolveProblemRequest, ResolveProblemResponse,
        admin_service_client::AdminServiceClient,
    },
};
use headpond_types::{Error, ErrorKind};
use headpond_ufs::{Fault, Op, UfsErrorKind, UnderStore};
use tonic::transport::Channel;

use super::{INTERVAL, Rig, plain::Plain, services::channel, writing::request};
use crate::write::Linking;

/// A master with an operator.
struct Moving {
    rig: Rig,
    admin: AdminServiceClient<Channel>,
}

impl Moving {
    /// `old/a`, `old/b` and `old/c` are renamed to `new`, and somebody else has put `new/b`.
    async fn blocked(around: impl FnOnce(Arc<dyn UnderStore>) -> Arc<dyn UnderStore>) -> Self {
        let rig = Rig::with(Some(INTERVAL), &["old/a", "old/b", "old/c"], false, around).await;
        rig.tree("/m").await.expect("listed");
        rig.put("new/b", "of somebody else").await;
        rig.rename("/m/old", "/m/new").await.expect("renamed");
        let mut moving = Self::of(rig).await;
        moving.told("/m/new/b").await;
        moving
    }

    async fn of(rig: Rig) -> Self {
        let admin = AdminServiceClient::new(channel(&rig).await);
        Self { rig, admin }
    }

    async fn restart(self) -> Self {
        Self::of(self.rig.restart(Some(INTERVAL)).await).await
    }

    async fn problems(&mut self) -> Vec<Problem> {
        self.admin.list_problems(ListProblemsRequest {}).await.expect("listed").into_inner().problems
    }

    /// Waits until there is a problem with `path`, and with nothing else.
    async fn told(&mut self, path: &str) -> Problem {
        loop {
            let mut problems = self.problems().await;
            if let Some(problem) = problems.pop() {
                assert!(problem.path == path && problems.is_empty(), "{problem:?} {problems:?}");
                return problem;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn ask(&mut self, asked: &ResolveProblemRequest) -> Result<ResolveProblemResponse, Error> {
        let answer = self.admin.resolve_problem(asked.clone()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "call"))
    }

    async fn decide(&mut self, path: &'static str, wanted: Wanted) -> Result<ResolveProblemResponse, Error> {
        self.ask(&asked(path, wanted)).await
    }

    /// Waits until all objects are where they belong.
    async fn ended(&self) {
        let ended = async {
            while self.rig.master.core.relocator.pending() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let over = tokio::time::timeout(Duration::from_secs(20), ended).await;
        over.unwrap_or_else(|_| panic!("{:?}", self.rig.master.core.relocator.problems()));
    }

    async fn objects(&self) -> Vec<(String, String)> {
        let mut objects = Vec::new();
        for key in self.rig.keys().await {
            let body = self.rig.object(&key).await;
            objects.push((key, body));
        }
        objects
    }
}

fn asked(path: &'static str, wanted: Wanted) -> ResolveProblemRequest {
    ResolveProblemRequest {
        path: path.into(),
        resolution: wanted.into(),
        request_id: request().0.to_be_bytes().to_vec().into(),
    }
}

fn objects(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, body)| ((*key).to_owned(), (*body).to_owned())).collect()
}

/// A store made of another.
type Around = fn(Arc<dyn UnderStore>) -> Arc<dyn UnderStore>;

/// Stores that take all conditions, some, and few.
fn each_store() -> [Around; 3] {
    [|store| store, Plain::in_parts, |store| Plain::through(store, &Arc::default())]
}

#[tokio::test]
async fn an_object_in_the_way_of_one_file_is_its_problem_and_the_others_move() {
    let mut moving = Moving::blocked(|store| store).await;
    let problem = moving.told("/m/new/b").await;
    let since = moving.rig.master.core.clock.now().0;
    assert!(problem.conflict && problem.reason.contains("new/b") && problem.since_ns == since, "{problem:?}");
    while moving.rig.keys().await != ["new/a", "new/b", "new/c", "old/b"] {
        tokio::task::yield_now().await;
    }
    assert_eq!(moving.rig.object("new/b").await, "of somebody else");
    // It is as old as it is, however often it is tried.
    moving.rig.advance(Duration::from_secs(5));
    moving.decide("/m/new/b", Wanted::Retry).await.expect("tried again");
    assert_eq!(moving.told("/m/new/b").await.since_ns, since);
    for path in ["/m/new/a", "/m/new", "/m/none"] {
        let none = moving.decide(path, Wanted::Overwrite).await.expect_err("has none");
        assert_eq!(none.kind(), ErrorKind::NotFound, "{path}");
    }
}

#[tokio::test]
async fn what_is_told_to_be_tried_again_is_tried_at_once() {
    let mut moving = Moving::blocked(|store| store).await;
    // By itself it is tried every half minute by then.
    while moving.rig.master.core.metrics.write.relocation_failures.get() < 7 {
        moving.decide("/m/new/b", Wanted::Retry).await.expect("tried again");
    }
    moving.rig.delete("new/b").await;
    if let Err(error) = moving.decide("/m/new/b", Wanted::Retry).await {
        assert_eq!(error.kind(), ErrorKind::NotFound, "the last try was late, and came to the end: {error}");
    }
    moving.ended().await;
    assert_eq!(moving.objects().await, objects(&[("new/a", "old/a"), ("new/b", "old/b"), ("new/c", "old/c")]));
    assert_eq!(moving.problems().await, []);
}

#[tokio::test]
async fn what_is_overwritten_is_what_was_told() {
    for around in each_store() {
        let mut moving = Moving::blocked(around).await;
        moving.decide("/m/new/b", Wanted::Overwrite).await.expect("decided");
        moving.ended().await;
        assert_eq!(moving.objects().await, objects(&[("new/a", "old/a"), ("new/b", "old/b"), ("new/c", "old/c")]));
        assert_eq!(moving.problems().await, []);
        moving.rig.advance(INTERVAL);
        assert_eq!(moving.rig.find("/m/new/b").await.expect("asked").expect("is there").size, 5);
    }
}

#[tokio::test]
async fn what_came_after_the_decision_is_not_overwritten() {
    for around in each_store() {
        let mut moving = Moving::blocked(around).await;
        // Nothing is copied before there is another.
        for op in [Op::Copy, Op::CreateMultipart] {
            moving.rig.store.chance(Some(op), 1.0, Fault::Error(UfsErrorKind::Transient));
        }
        moving.decide("/m/new/b", Wanted::Overwrite).await.expect("decided");
        moving.rig.put("new/b", "newer and of somebody else").await;
        moving.rig.store.heal();
        while !moving.problems().await.iter().any(|problem| problem.path == "/m/new/b" && problem.conflict) {
            moving.rig.master.core.relocator.retry_now();
            tokio::task::yield_now().await;
        }
        assert_eq!(moving.rig.object("new/b").await, "newer and of somebody else");
        moving.decide("/m/new/b", Wanted::Overwrite).await.expect("decided about that, too");
        moving.ended().await;
        assert_eq!(moving.rig.object("new/b").await, "old/b");
    }
}

#[tokio::test]
async fn a_decision_outlives_the_master() {
    let mut moving = Moving::blocked(|store| store).await;
    moving.rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Transient));
    moving.decide("/m/new/b", Wanted::Overwrite).await.expect("decided");
    let moving = moving.restart().await;
    moving.rig.store.heal();
    while moving.rig.master.core.relocator.pending() > 0 {
        moving.rig.master.core.relocator.retry_now();
        tokio::task::yield_now().await;
    }
    assert_eq!(moving.rig.object("new/b").await, "old/b");
}

#[tokio::test]
async fn a_conflict_is_told_again_after_a_restart() {
    let mut moving = Moving::blocked(|store| store).await.restart().await;
    moving.told("/m/new/b").await;
    moving.decide("/m/new/b", Wanted::Skip).await.expect("decided");
    moving.ended().await;
    assert_eq!(moving.rig.object("new/b").await, "of somebody else");
}

#[tokio::test]
async fn what_is_skipped_gives_way_and_goes() {
    for around in each_store() {
        let mut moving = Moving::blocked(around).await;
        let skip = asked("/m/new/b", Wanted::Skip);
        moving.ask(&skip).await.expect("decided");
        assert_eq!(moving.rig.find("/m/new/b").await.expect("asked").expect("is there").size, 16, "theirs is shown");
        moving.ask(&skip).await.expect("the first answer");
        let none = moving.decide("/m/new/b", Wanted::Skip).await.expect_err("it is decided");
        assert_eq!(none.kind(), ErrorKind::NotFound);
        moving.ended().await;
        let left = [("new/a", "old/a"), ("new/b", "of somebody else"), ("new/c", "old/c")];
        assert_eq!(moving.objects().await, objects(&left));
        moving.rig.advance(INTERVAL);
        assert_eq!(moving.rig.tree("/m").await.expect("listed"), ["new/", "new/a", "new/b", "new/c"]);
    }
}

#[tokio::test]
async fn what_is_diverted_is_both() {
    for around in each_store() {
        let mut moving = Moving::blocked(around).await;
        let divert = asked("/m/new/b", Wanted::Divert);
        let diverted = moving.ask(&divert).await.expect("decided").diverted;
        let other = String::from_utf8(diverted.to_vec()).expect("text");
        assert!(other.starts_with("/m/new/b.headpond-conflict-"), "{other}");
        assert_eq!(moving.ask(&divert).await.expect("the first answer").diverted, other);
        assert_eq!(moving.rig.find(&other).await.expect("asked").expect("is there").size, 5);
        moving.ended().await;
        let key = other.strip_prefix("/m/").expect("in the mount");
        let both = [("new/a", "old/a"), ("new/b", "of somebody else"), (key, "old/b"), ("new/c", "old/c")];
        assert_eq!(moving.objects().await, objects(&both));
        moving.rig.advance(INTERVAL);
        assert_eq!(moving.rig.find("/m/new/b").await.expect("asked").expect("is there").size, 16);
        assert_eq!(moving.problems().await, []);
    }
}

#[tokio::test]
async fn a_file_that_was_renamed_by_itself_is_decided_about_as_well() {
    for (wanted, left) in [
        (Wanted::Overwrite, &[("g", "f")][..]),
        (Wanted::Skip, &[("g", "of somebody else")]),
        (Wanted::Retry, &[("f", "f"), ("g", "of somebody else")]),
    ] {
        let rig = Rig::writable(&["f"]).await;
        rig.tree("/m").await.expect("listed");
        rig.put("g", "of somebody else").await;
        rig.rename("/m/f", "/m/g").await.expect("renamed");
        let mut moving = Moving::of(rig).await;
        moving.told("/m/g").await;
        moving.decide("/m/g", wanted).await.expect("decided");
        if wanted == Wanted::Retry {
            moving.told("/m/g").await;
        } else {
            moving.ended().await;
        }
        assert_eq!(moving.objects().await, objects(left), "{wanted:?}");
    }
}

#[tokio::test]
async fn one_of_several_names_does_not_give_way() {
    let rig = Rig::writable(&["old/a", "old/b"]).await;
    rig.tree("/m").await.expect("listed");
    let (inode, (parent, name)) = (rig.inode("/m/old/b").await, rig.place("/m/l").await);
    rig.writing().link(Linking { inode, parent, name, caller: None, request: request() }).await.expect("linked");
    while rig.keys().await != ["l", "old/a", "old/b"] {
        tokio::task::yield_now().await;
    }
    rig.put("new/b", "of somebody else").await;
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    let mut moving = Moving::of(rig).await;
    moving.told("/m/new/b").await;
    let refused = moving.decide("/m/new/b", Wanted::Skip).await.expect_err("it has another name");
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    moving.decide("/m/new/b", Wanted::Divert).await.expect("decided");
    moving.ended().await;
    assert_eq!(moving.rig.object("new/b").await, "of somebody else");
}

#[tokio::test]
async fn what_the_store_refuses_can_only_be_tried_again() {
    let rig = Rig::writable(&["old/a"]).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Refused));
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    let mut moving = Moving::of(rig).await;
    let problem = moving.told("/m/new").await;
    assert!(!problem.conflict && problem.since_ns == moving.rig.master.core.clock.now().0, "{problem:?}");
    for wanted in [Wanted::Overwrite, Wanted::Skip, Wanted::Divert] {
        let refused = moving.decide("/m/new", wanted).await.expect_err("nothing is in its way");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    moving.rig.store.heal();
    moving.decide("/m/new", Wanted::Retry).await.expect("tried again");
    moving.ended().await;
    assert_eq!((moving.objects().await, moving.problems().await), (objects(&[("new/a", "old/a")]), vec![]));
}
