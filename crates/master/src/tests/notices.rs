//! What somebody else did to our objects, when nothing is left to be decided: it is told until it is dismissed.

use std::time::Duration;

use headpond_namespace::Durability;
use headpond_proto::{
    status,
    v1::{
        ListProblemsRequest, Problem, Resolution as Wanted, ResolveProblemRequest,
        admin_service_client::AdminServiceClient,
    },
};
use headpond_types::ErrorKind;
use headpond_ufs::{Fault, Op};
use tonic::transport::Channel;

use super::{INTERVAL, Rig, holders::Bed, plain::Plain, services::channel};

async fn problems(admin: &mut AdminServiceClient<Channel>) -> Vec<Problem> {
    admin.list_problems(ListProblemsRequest {}).await.expect("listed").into_inner().problems
}

async fn decide(admin: &mut AdminServiceClient<Channel>, path: &'static str, wanted: Wanted) -> Result<(), ErrorKind> {
    let asked = ResolveProblemRequest { path: path.into(), resolution: wanted.into(), ..Default::default() };
    let answer = admin.resolve_problem(asked).await;
    answer.map(|_| ()).map_err(|refused| status::to_error(&refused, "call").kind())
}

#[tokio::test]
async fn what_was_deleted_outside_and_is_put_again_is_told_until_it_is_dismissed() {
    let bed = Bed::new(Durability::Async, &["f", "g"]).await;
    let mut admin = AdminServiceClient::new(channel(&bed).await);
    bed.holder.close();
    bed.hold("/m/f", "ours").await;
    bed.hold("/m/g", "ours").await;
    bed.delete("f").await;
    bed.holder.open();
    bed.persisted().await;
    assert_eq!((bed.object("f").await, bed.object("g").await), ("ours".to_owned(), "ours".to_owned()));
    let told = problems(&mut admin).await;
    assert!(told.len() == 1 && told[0].path == "/m/f" && !told[0].conflict && told[0].held_up == 0, "{told:?}");
    assert!(told[0].reason.contains("deleted outside") && told[0].since_ns == bed.master.core.clock.now().0);
    for wanted in [Wanted::Retry, Wanted::Overwrite, Wanted::Divert] {
        assert_eq!(decide(&mut admin, "/m/f", wanted).await, Err(ErrorKind::InvalidArgument));
    }
    decide(&mut admin, "/m/f", Wanted::Skip).await.expect("dismissed");
    assert_eq!((problems(&mut admin).await, bed.object("f").await), (vec![], "ours".to_owned()));
    assert_eq!(decide(&mut admin, "/m/f", Wanted::Skip).await, Err(ErrorKind::NotFound));
}

#[tokio::test]
async fn what_was_changed_or_deleted_between_copy_and_deletion_is_told() {
    let rig = Rig::with(Some(INTERVAL), &["old/a", "old/b", "old/c"], false, Plain::in_parts).await;
    rig.tree("/m").await.expect("listed");
    rig.store.script(Op::Delete, [Some(Fault::Latency(Duration::from_millis(300))); 3]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    while rig.store.scripted(Op::Delete) > 0 {
        tokio::task::yield_now().await;
    }
    rig.put("old/b", "changed outside").await;
    rig.delete("old/c").await;
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["new/a", "new/b", "new/c", "old/b"]);
    assert_eq!((rig.object("old/b").await, rig.object("new/b").await), ("changed outside".into(), "old/b".into()));
    let mut admin = AdminServiceClient::new(channel(&rig).await);
    let mut told = problems(&mut admin).await;
    told.sort_by(|one, other| one.path.cmp(&other.path));
    let told: Vec<_> = told.iter().map(|told| (&told.path[..], &told.reason[..])).collect();
    let [(b, changed), (c, deleted)] = told[..] else { panic!("{told:?}") };
    assert!(b == b"/m/old/b" && changed.contains("changed outside") && changed.contains("stays"), "{changed}");
    assert!(c == b"/m/old/c" && deleted.contains("deleted outside"), "{deleted}");
    rig.advance(INTERVAL);
    assert_eq!(rig.find("/m/old/b").await.expect("asked").expect("is shown").size, 15);
}
