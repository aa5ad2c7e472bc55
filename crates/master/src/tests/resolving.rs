//! What cannot be persisted, and what others wait for meanwhile.

use std::time::Duration;

use headpond_namespace::{Due, Durability};
use headpond_proto::{
    status,
    v1::{
        KeepDirtyRequest, ListProblemsRequest, PendingRequest, PersistState, Resolution as Wanted,
        ResolveProblemRequest, admin_service_client::AdminServiceClient,
        registry_service_client::RegistryServiceClient, writing_service_client::WritingServiceClient,
    },
};
use headpond_types::{ContentId, ErrorKind};

use super::{holders::Bed, services::channel};

impl Bed {
    /// A file that was changed here and outside, and a commit file behind it.
    async fn conflict() -> Self {
        let bed = Self::new(Durability::Async, &["f"]).await;
        bed.holder.close();
        bed.hold("/m/f", "ours").await;
        bed.hold("/m/_SUCCESS", "").await;
        bed.put("f", "theirs").await;
        bed.holder.open();
        while bed.master.core.persister.list_problems().expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
        bed
    }
}

#[tokio::test]
async fn a_conflict_holds_its_line_until_somebody_decides() {
    let bed = Bed::conflict().await;
    let mut client = AdminServiceClient::new(channel(&bed).await);
    let listed = client.list_problems(ListProblemsRequest {}).await.expect("listed").into_inner().problems;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].conflict && listed[0].held_up == 1 && listed[0].path == "/m/f", "{listed:?}");
    assert_eq!((bed.object("f").await, bed.keys().await), ("theirs".to_owned(), vec!["f".to_owned()]));
    let (path, resolution) = ("/m/f".into(), Wanted::Retry.into());
    client.resolve_problem(ResolveProblemRequest { path, resolution, ..Default::default() }).await.expect("asked");
    while bed.master.core.persister.list_problems().expect("reads").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.object("f").await, "theirs");
    let (path, resolution) = ("/m/f".into(), Wanted::Overwrite.into());
    let asked = ResolveProblemRequest { path, resolution, ..Default::default() };
    client.resolve_problem(asked.clone()).await.expect("resolved");
    bed.persisted().await;
    assert_eq!((bed.object("f").await, bed.keys().await), ("ours".to_owned(), vec!["_SUCCESS".into(), "f".into()]));
    let none = client.resolve_problem(asked).await.expect_err("no problem is left");
    assert_eq!(status::to_error(&none, "call").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_skipped_is_what_the_store_has() {
    let bed = Bed::conflict().await;
    let mut client = AdminServiceClient::new(channel(&bed).await);
    let (path, resolution) = ("/m/f".into(), Wanted::Skip.into());
    client.resolve_problem(ResolveProblemRequest { path, resolution, ..Default::default() }).await.expect("resolved");
    bed.persisted().await;
    assert_eq!((bed.object("f").await, bed.keys().await), ("theirs".to_owned(), vec!["_SUCCESS".into(), "f".into()]));
    let attr = bed.find("/m/f").await.expect("asked").expect("is there");
    assert!(attr.size == 6 && !attr.dirty, "{attr:?}");
}

#[tokio::test]
async fn what_is_diverted_is_both() {
    let bed = Bed::conflict().await;
    let mut client = AdminServiceClient::new(channel(&bed).await);
    let (path, resolution) = ("/m/f".into(), Wanted::Divert.into());
    let request = ResolveProblemRequest { path, resolution, ..Default::default() };
    let diverted = client.resolve_problem(request).await.expect("resolved").into_inner().diverted;
    bed.persisted().await;
    let other = String::from_utf8(diverted.to_vec()).expect("text");
    let key = other.strip_prefix("/m/").expect("beside");
    assert!(key.starts_with("f.headpond-conflict-"), "{key}");
    assert_eq!((bed.object("f").await, bed.object(key).await), ("theirs".to_owned(), "ours".to_owned()));
    assert_eq!(bed.find("/m/f").await.expect("asked").expect("is there").size, 6);
}

#[tokio::test]
async fn what_was_deleted_outside_is_put_again() {
    let bed = Bed::new(Durability::Async, &["f"]).await;
    bed.holder.close();
    bed.hold("/m/f", "ours").await;
    bed.delete("f").await;
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.object("f").await, "ours");
}

#[tokio::test]
async fn what_is_put_outside_at_a_new_name_is_not_replaced() {
    let bed = Bed::new(Durability::Async, &["f"]).await;
    bed.holder.close();
    bed.hold("/m/new", "ours").await;
    bed.put("new", "theirs").await;
    bed.holder.open();
    while bed.master.core.persister.list_problems().expect("reads").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.object("new").await, "theirs");
    // Removed here, theirs is what there is.
    bed.unlink("/m/new").await.expect("removed");
    bed.persisted().await;
    assert_eq!(bed.object("new").await, "theirs");
}

#[tokio::test]
async fn deletions_wait_for_barriers() {
    let bed = Bed::new(Durability::Async, &["old", "other"]).await;
    bed.list("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/plain", "x").await;
    bed.unlink("/m/other").await.expect("removed");
    while bed.keys().await != ["old"] {
        // Nothing but a plain file is before it.
        tokio::task::yield_now().await;
    }
    bed.hold("/m/_SUCCESS", "").await;
    bed.unlink("/m/old").await.expect("removed");
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(bed.keys().await, ["old"], "a barrier is before it");
    }
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["_SUCCESS", "plain"]);
}

#[tokio::test]
async fn a_renamed_directory_waits_for_what_was_written_before() {
    let bed = Bed::new(Durability::Async, &["d/x", "d/y"]).await;
    bed.tree("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/before", "x").await;
    bed.rename("/m/d", "/m/e").await.expect("renamed");
    bed.hold("/m/_SUCCESS", "").await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(bed.keys().await, ["d/x", "d/y"]);
    }
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["_SUCCESS", "before", "e/x", "e/y"]);
    assert_eq!(bed.holder.puts(), ["before", "_SUCCESS"]);
}

#[tokio::test]
async fn workers_keep_what_files_have_and_what_is_about_to_be_committed() {
    let bed = Bed::new(Durability::Async, &[]).await;
    bed.holder.close();
    let (inode, held) = bed.hold("/m/f", "f").await;
    let lease = bed.create("/m/g").await.expect("made").lease.expect("a file");
    let grant = bed.copies_grant(lease).await.expect("granted");
    let staged = ContentId::from(grant.content.expect("set"));
    let mut client = RegistryServiceClient::new(channel(&bed).await);
    let epoch = bed.master.core.workers.all()[0].0.epoch.0;
    let contents: Vec<_> = [held, staged, ContentId(7)].into_iter().map(Into::into).collect();
    let request = KeepDirtyRequest { worker: bed.holder.id().0, epoch, contents, pressed: false };
    let answer = client.keep_dirty(request.clone()).await.expect("answered").into_inner();
    assert_eq!((answer.keep, answer.due), (vec![true, true, false], vec![true, true, false]));
    // The second is of no mount yet.
    assert_eq!((answer.mounts[0] > 0, &answer.mounts[1..]), (true, &[0, 0][..]));
    let stranger = client.keep_dirty(KeepDirtyRequest { epoch: epoch - 1, ..request.clone() }).await;
    assert_eq!(status::to_error(&stranger.expect_err("fenced"), "call").kind(), ErrorKind::Fenced);
    let again = bed.hold("/m/f", "again").await.1;
    assert!(bed.due(inode) == Some(Due::Now) && again != held);
    bed.commit_held(&grant, "g").await.expect("committed");
    let kept = client.keep_dirty(request.clone()).await.expect("answered").into_inner().keep;
    assert_eq!(kept, [false, true, false]);
    bed.holder.open();
    bed.persisted().await;
    let kept = client.keep_dirty(request).await.expect("answered").into_inner().keep;
    assert_eq!(kept, [false; 3]);
}

#[tokio::test]
async fn what_waits_for_another_name_is_kept_and_not_due() {
    let bed = Bed::new(Durability::Deferred, &[]).await;
    bed.make_directory("/m/_temporary").await.expect("made");
    let held = bed.hold("/m/_temporary/t", "123").await.1;
    let epoch = bed.master.core.workers.all()[0].0.epoch.0;
    let request = KeepDirtyRequest { worker: bed.holder.id().0, epoch, contents: vec![held.into()], pressed: false };
    let mut client = RegistryServiceClient::new(channel(&bed).await);
    let answer = client.keep_dirty(request).await.expect("answered").into_inner();
    assert_eq!((answer.keep, answer.due), (vec![true], vec![false]));
}

#[tokio::test]
async fn what_is_pending_is_told_with_what_it_waits_for() {
    let bed = Bed::new(Durability::Deferred, &[]).await;
    bed.make_directory("/m/d").await.expect("made");
    bed.make_directory("/m/_temporary").await.expect("made");
    bed.persisted().await;
    bed.holder.close();
    bed.hold("/m/d/f", "12345").await;
    bed.hold("/m/_temporary/t", "123").await;
    bed.hold("/m/_SUCCESS", "").await;
    let mut client = WritingServiceClient::new(channel(&bed).await);
    let mut pending = async |path: &'static str, up_to| {
        let request = PendingRequest { path: path.into(), up_to, ..Default::default() };
        client.pending(request).await.expect("answered").into_inner()
    };
    while !pending("/m", 0).await.dirty.iter().any(|dirty| dirty.state() == PersistState::Persisting) {
        tokio::task::yield_now().await;
    }
    let all = pending("/m", 0).await;
    assert_eq!((all.due, all.due_bytes, all.not_due, all.not_due_bytes), (2, 5, 2, 3));
    let states: Vec<_> = all.dirty.iter().map(|dirty| (&dirty.path[..], dirty.state())).collect();
    let expected = [
        (&b"/m/d/f"[..], PersistState::Persisting),
        (b"/m/_SUCCESS", PersistState::Waiting),
        (b"/m/_temporary", PersistState::Deferred),
        (b"/m/_temporary/t", PersistState::Deferred),
    ];
    assert_eq!(states, expected);
    assert!(all.dirty[1].reason.contains("/m/d/f") && all.dirty[1].barrier, "{:?}", all.dirty[1]);
    assert_eq!(all.dirty[0].holders.len(), 1);
    let below = pending("/m/d", 0).await;
    assert_eq!((below.due, below.not_due, below.dirty.len()), (1, 0, 1));
    bed.hold("/m/later", "x").await;
    let until = pending("/m", all.now).await;
    assert_eq!((until.due, until.dirty.len()), (2, 4));
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(pending("/m", 0).await.due, 0);
}

#[tokio::test]
async fn a_mount_is_not_removed_before_its_changes_are_stored() {
    let bed = Bed::new(Durability::Async, &[]).await;
    bed.holder.close();
    bed.hold("/m/f", "f").await;
    let remove = || bed.master.core.mounting.remove(super::writing::request(), "/m".parse().expect("a path"));
    assert_eq!(remove().await.expect_err("something is due").kind(), ErrorKind::Busy);
    bed.holder.open();
    bed.persisted().await;
    remove().await.expect("removed");
}
