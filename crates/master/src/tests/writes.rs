//! Files and directories made, written and removed through the master.

use std::{sync::Arc, time::Duration};

use headpond_proto::{
    status,
    v1::{
        self, CreateRequest, MakeDirectoryRequest, OpenForWritingRequest, RemoveRequest,
        writing_service_client::WritingServiceClient,
    },
};
use headpond_types::{ErrorKind, FileKind, RequestId};
use headpond_ufs::{Fault, Key, Op, Precondition, UfsErrorKind, UnderStore};
use tokio::time::Instant;

use super::{
    INTERVAL, Rig,
    plain::{Late, Plain},
    services::channel,
    writing::request,
};
use crate::{
    walk::WalkOptions,
    write::{NewEntry, PATIENCE},
};

#[tokio::test]
async fn a_file_is_visible_when_made_and_stored_when_committed() {
    let rig = Rig::writable(&["d/x"]).await;
    let opened = rig.create("/m/d/new").await.expect("made");
    let made = opened.answer.attr.expect("is there");
    assert_eq!((made.size, made.mode, made.uid, made.gid, &made.version[..]), (0, 0o640, 7, 8, ""));
    assert_eq!(rig.list("/m/d").await.expect("listed"), ["new", "x"]);
    let lease = opened.lease.expect("a file");
    let answer = rig.persist(lease, "bytes").await.expect("committed");
    let stored = answer.attr.expect("is there");
    assert_eq!((stored.inode, stored.size, stored.mode), (made.inode, 5, 0o640));
    assert_eq!(rig.find("/m/d/new").await.expect("asked"), Some(stored.clone()));
    assert_eq!(rig.object("d/new").await, "bytes");

    let again = rig.persist_grant(lease).await.expect("granted");
    assert_eq!(again.replaces.as_deref(), Some(&stored.version[..]));
    assert_eq!((again.replaced.map(Into::into), again.mode), (stored.content, Some(0o640)));
    let meta = rig.store_staged(&again, "more bytes").await.expect("stored");
    rig.commit(&again, &meta, request()).await.expect("committed");
    rig.writing().end(lease).await.expect("ended");
    rig.advance(INTERVAL);
    let listed = rig.find("/m/d/new").await.expect("asked").expect("is there");
    assert_eq!((listed.inode, listed.size, listed.content), (made.inode, 10, again.content.map(Into::into)));
}

#[tokio::test]
async fn bytes_are_sent_ahead_to_where_they_would_be_stored_and_hold_up_nobody() {
    let rig = Rig::writable(&["old"]).await;
    let new = rig.create("/m/new").await.expect("made").lease.expect("a file");
    let old = rig.create("/m/old").await.expect("opened").lease.expect("a file");
    let (new_key, old_key) = (rig.upload_key(new).await.expect("granted"), rig.upload_key(old).await.expect("granted"));
    assert!(rig.writing().leases.persisting().is_empty());
    rig.rename("/m/new", "/m/renamed").await.expect("nothing is being persisted");
    let grant = rig.persist_grant(new).await.expect("granted");
    assert_ne!(grant.key, new_key);
    assert_eq!(rig.upload_key(new).await.expect("granted"), grant.key);
    assert_eq!(rig.persist_grant(old).await.expect("granted").key, old_key);
    rig.writing().end(old).await.expect("ended");
    assert_eq!(rig.upload_key(old).await.expect_err("ended").kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn a_commit_is_repeated_after_a_restart_and_without_its_lease() {
    let rig = Rig::writable(&[]).await;
    let (create, commit) = (request(), request());
    let new = rig.new_entry("/m/f", create).await;
    let opened = rig.writing().create(new.clone(), true).await.expect("made");
    let same = rig.writing().create(new.clone(), true).await.expect("repeated");
    assert_eq!(same.lease, opened.lease);
    let other = rig.writing().create(NewEntry { request: request(), ..new.clone() }, true).await;
    assert_eq!(other.expect_err("exists").kind(), ErrorKind::AlreadyExists);

    let grant = rig.persist_grant(opened.lease.expect("a file")).await.expect("granted");
    let meta = rig.store_staged(&grant, "bytes").await.expect("stored");
    let answer = rig.commit(&grant, &meta, commit).await.expect("committed");
    let rig = rig.restart(Some(INTERVAL)).await;
    let again = rig.commit(&grant, &meta, commit).await.expect("repeated");
    assert_eq!(again.attr, answer.attr);
    let late = rig.commit(&grant, &meta, request()).await.expect_err("the lease is lost");
    assert_eq!(late.kind(), ErrorKind::Stale);
    let same = rig.writing().create(new, true).await.expect("repeated");
    assert_eq!(same.answer.attr, answer.attr);
}

#[tokio::test]
async fn a_lease_that_a_restart_lost_is_had_back_for_its_grant() {
    let rig = Rig::writable(&["old"]).await;
    let new = rig.create("/m/new").await.expect("made");
    let old = rig.create("/m/old").await.expect("opened");
    let version = |opened: &crate::write::Opened| opened.answer.attr.as_ref().expect("is there").version.clone();
    let staging = |rig: &Rig, opened: &crate::write::Opened| {
        let inode = opened.answer.attr.as_ref().expect("is there").inode;
        rig.master.core.grants.staging(opened.lease.expect("a file"), inode, None)
    };
    let (new_grant, old_grant) = (staging(&rig, &new), staging(&rig, &old));
    assert!(rig.writing().reclaim(&new_grant, "").await.expect("held"));

    let rig = rig.restart(Some(INTERVAL)).await;
    assert!(!rig.writing().reclaim(&new_grant, "").await.expect("had back"));
    rig.persist(new.lease.expect("a file"), "bytes").await.expect("committed");
    assert_eq!(rig.object("new").await, "bytes");

    let stranger = headpond_proto::grant::GrantSigner::new(&[9; 32], rig.master.core.cluster).expect("32 bytes");
    let forged = stranger.sign_staging(v1::StagingGrant { lease: 1, inode: 2, ..v1::StagingGrant::default() });
    let refused = rig.writing().reclaim(&forged, "").await.expect_err("nobody signed it");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    // Somebody else writes it, and then has written it.
    let other = rig.create("/m/old").await.expect("opened").lease.expect("a file");
    let refused = rig.writing().reclaim(&old_grant, &version(&old)).await.expect_err("another writes it");
    assert_eq!(refused.kind(), ErrorKind::Busy);
    rig.persist(other, "by another").await.expect("committed");
    rig.writing().end(other).await.expect("ended");
    let refused = rig.writing().reclaim(&old_grant, &version(&old)).await.expect_err("another has written it");
    assert_eq!(refused.kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn what_is_removed_or_made_directories_is_answered_again_after_a_restart() {
    let rig = Rig::writable(&["f"]).await;
    let removal = rig.removal("/m/f", false).await;
    let new = rig.new_entry("/m/d", request()).await;
    rig.writing().remove(removal.clone()).await.expect("removed");
    let made = rig.writing().make_directory(new.clone()).await.expect("made").attr;
    let rig = rig.restart(Some(INTERVAL)).await;
    rig.writing().remove(removal.clone()).await.expect("repeated");
    assert_eq!(rig.writing().make_directory(new).await.expect("repeated").attr, made);
    let other = crate::write::Removal { request: request(), ..removal };
    assert_eq!(rig.writing().remove(other).await.expect_err("gone").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_comes_again_while_it_is_under_way_is_answered_once() {
    let rig = Rig::writable(&["f", "old/a"]).await;
    let slow = || Some(Fault::Latency(Duration::from_millis(50)));
    let writing = rig.writing();
    let new = rig.new_entry("/m/d", request()).await;
    rig.store.script(Op::Put, [slow(), slow()]);
    let (first, again) = tokio::join!(writing.make_directory(new.clone()), writing.make_directory(new));
    assert_eq!(first.expect("made").attr, again.expect("made once").attr);
    let removal = rig.removal("/m/f", false).await;
    rig.store.script(Op::Delete, [slow(), slow()]);
    let (first, again) = tokio::join!(writing.remove(removal.clone()), writing.remove(removal));
    assert!(first.is_ok() && again.is_ok(), "{first:?} {again:?}");
    let renaming = rig.renaming("/m/old", "/m/new").await;
    let (first, again) = tokio::join!(writing.rename(renaming.clone()), writing.rename(renaming));
    assert!(first.is_ok() && again.is_ok(), "{first:?} {again:?}");
    let new = rig.new_entry("/m/g", request()).await;
    let (first, again) = tokio::join!(writing.create(new.clone(), true), writing.create(new, true));
    assert_eq!(first.expect("made").lease, again.expect("made once").lease);
}

#[tokio::test]
async fn a_listing_that_began_before_undoes_nothing() {
    for recursive in [false, true] {
        let late = Arc::new(Late::default());
        let keys = ["d/changed", "d/kept", "d/removed", "d/sub/x", "d/was"];
        let rig = Rig::with(Some(INTERVAL), &keys, false, |inner| Plain::late(inner, &late)).await;
        rig.tree("/m/d").await.expect("listed");
        late.arm();
        let listing = async {
            let options = WalkOptions { refresh: true, recursive, ..WalkOptions::default() };
            rig.walk("/m/d", options).await.expect("listed");
        };
        let changes = async {
            late.answered().await;
            rig.advance(Duration::from_millis(1));
            rig.write("/m/d/new", "new").await;
            rig.write("/m/d/changed", "changed by us").await;
            rig.unlink("/m/d/removed").await.expect("removed");
            rig.unlink("/m/d/sub/x").await.expect("removed");
            rig.remove_directory("/m/d/sub").await.expect("removed");
            rig.create("/m/d/writing").await.expect("made");
            rig.make_directory("/m/d/dir").await.expect("made");
            rig.rename("/m/d/was", "/m/d/is").await.expect("renamed");
            rig.relocated().await;
            late.release();
        };
        futures::join!(listing, changes);
        let expected = ["changed", "dir/", "is", "kept", "new", "writing"];
        assert_eq!(rig.list("/m/d").await.expect("listed"), expected, "recursive: {recursive}");
        assert_eq!(rig.find("/m/d/changed").await.expect("asked").expect("is there").size, 13);
        rig.advance(INTERVAL);
        assert_eq!(rig.list("/m/d").await.expect("listed"), expected, "recursive: {recursive}");
    }
}

#[tokio::test]
async fn removing_deletes_what_was_seen_and_nothing_else() {
    let rig = Rig::writable(&["d/x", "d/y", "f"]).await;
    rig.tree("/m").await.expect("listed");
    rig.unlink("/m/d/x").await.expect("removed");
    assert_eq!(rig.keys().await, ["d/y", "f"]);
    rig.unlink("/m/d/y").await.expect("removed");
    assert_eq!(rig.keys().await, ["d/", "f"], "the directory stays");
    assert_eq!(rig.list("/m/d").await.expect("listed"), [""; 0]);
    rig.remove_directory("/m/d").await.expect("removed");
    assert_eq!(rig.keys().await, ["f"]);

    rig.put("f", "changed outside").await;
    assert_eq!(rig.unlink("/m/f").await.expect_err("another").kind(), ErrorKind::Stale);
    assert_eq!(rig.object("f").await, "changed outside");
    assert_eq!(rig.find("/m/f").await.expect("asked").expect("is there").size, 15);
    rig.unlink("/m/f").await.expect("removed");
    assert_eq!(rig.keys().await, [""; 0]);
    assert_eq!(rig.find("/m/f").await.expect("asked"), None);
}

#[tokio::test]
async fn who_removes_asks_the_store_whether_a_directory_is_empty() {
    let rig = Rig::writable(&["a/x"]).await;
    rig.make_directory("/m/d").await.expect("made");
    assert_eq!(rig.keys().await, ["a/x", "d/"]);
    rig.put("d/from-outside", "x").await;
    assert_eq!(rig.remove_directory("/m/d").await.expect_err("not empty").kind(), ErrorKind::NotEmpty);
    assert_eq!(rig.list("/m/d").await.expect("listed"), ["from-outside"]);
    rig.delete("d/from-outside").await;
    rig.create("/m/d/being-written").await.expect("made");
    assert_eq!(rig.remove_directory("/m/d").await.expect_err("not empty").kind(), ErrorKind::NotEmpty);
    rig.unlink("/m/d/being-written").await.expect("removed");
    rig.remove_directory("/m/d").await.expect("removed");
    assert_eq!(rig.keys().await, ["a/x"]);
    assert_eq!(rig.unlink("/m/a").await.expect_err("a directory").kind(), ErrorKind::IsADirectory);
    assert_eq!(rig.remove_directory("/m/a/x").await.expect_err("a file").kind(), ErrorKind::NotADirectory);
    assert_eq!(rig.remove_directory("/m").await.expect_err("outside").kind(), ErrorKind::ReadOnly);
}

#[tokio::test]
async fn a_store_step_that_fails_changes_nothing_and_can_be_repeated() {
    let rig = Rig::writable(&["f"]).await;
    rig.list("/m").await.expect("listed");
    for fault in [Fault::Error(UfsErrorKind::Transient), Fault::LostAnswer] {
        let (removal, new) = (rig.removal("/m/f", false).await, rig.new_entry("/m/d", request()).await);
        rig.store.script(Op::Put, [Some(fault)]);
        rig.writing().make_directory(new.clone()).await.expect_err("the store failed");
        assert!(rig.find("/m/d").await.expect("asked").is_none());
        rig.writing().make_directory(new).await.expect("made");
        rig.store.script(Op::Delete, [Some(fault)]);
        rig.writing().remove(removal.clone()).await.expect_err("the store failed");
        assert!(rig.find("/m/f").await.expect("asked").is_some());
        rig.writing().remove(removal).await.expect("removed");
        assert_eq!(rig.keys().await, ["d/"]);
        rig.remove_directory("/m/d").await.expect("removed");
        rig.write("/m/f", "again").await;
    }
}

#[tokio::test]
async fn a_marker_left_by_a_master_that_ended_is_taken_over_unless_more_is_there() {
    let rig = Rig::writable(&["a"]).await;
    rig.list("/m").await.expect("listed");
    rig.put("d/", "").await;
    rig.put("e/x", "x").await;
    rig.put("e/", "").await;
    rig.make_directory("/m/d").await.expect("made");
    assert_eq!(rig.make_directory("/m/e").await.expect_err("exists").kind(), ErrorKind::AlreadyExists);
    assert_eq!(rig.list("/m/e").await.expect("listed"), ["x"]);
}

#[tokio::test]
async fn one_client_writes_a_file_at_a_time() {
    let rig = Rig::writable(&["f"]).await;
    let inode = rig.inode("/m/f").await;
    let first = rig.writing().open(inode, None, RequestId(1), PATIENCE).await.expect("opened").lease.expect("a file");
    let again = rig.writing().open(inode, None, RequestId(1), PATIENCE).await.expect("repeated").lease;
    assert_eq!(again, Some(first));
    let second = rig.writing().open(inode, None, RequestId(2), PATIENCE);
    let end = async {
        tokio::task::yield_now().await;
        rig.writing().end(first).await.expect("ended");
    };
    let (second, ()) = futures::join!(second, end);
    let second = second.expect("waited").lease.expect("a file");
    assert_eq!(rig.persist_grant(first).await.expect_err("ended").kind(), ErrorKind::Stale);
    tokio::time::pause();
    let busy = rig.writing().open(inode, None, RequestId(3), PATIENCE).await.expect_err("held");
    assert_eq!(busy.kind(), ErrorKind::Busy);
    rig.writing().end(second).await.expect("ended");
}

#[tokio::test]
async fn who_waits_for_a_shorter_time_is_told_in_it_what_is_in_the_way() {
    let rig = Rig::writable(&["f"]).await;
    let inode = rig.inode("/m/f").await;
    rig.writing().open(inode, None, RequestId(1), PATIENCE).await.expect("opened");
    let mut client = WritingServiceClient::new(channel(&rig).await);
    let open = OpenForWritingRequest { inode: inode.0, request_id: vec![2; 16].into(), ..Default::default() };
    let mut asked = tonic::Request::new(open);
    asked.metadata_mut().insert("headpond-timeout", 400.into());
    let answer = tokio::time::timeout(PATIENCE / 2, client.open_for_writing(asked)).await.expect("waits no longer");
    let busy = status::to_error(&answer.expect_err("held"), "open");
    assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
}

#[tokio::test]
async fn a_writer_that_goes_away_loses_the_file_that_it_never_stored() {
    let rig = Rig::writable(&["f"]).await;
    let made = rig.create("/m/new").await.expect("made").lease.expect("a file");
    let kept = rig.create("/m/f").await.expect("opened").lease.expect("a file");
    let term = rig.writing().leases.term();
    rig.writing().end_expired(Instant::now() + term / 2).await;
    assert_eq!(rig.writing().leases.renew(&[made, kept]), [0; 0]);
    rig.writing().end_expired(Instant::now() + 2 * term).await;
    assert_eq!(rig.writing().leases.renew(&[made, kept]), [made, kept]);
    assert_eq!(rig.list("/m").await.expect("listed"), ["f"]);
    assert_eq!(rig.persist_grant(made).await.expect_err("lost").kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn after_a_restart_files_that_nobody_stores_are_discarded() {
    let rig = Rig::writable(&["f"]).await;
    rig.create("/m/left").await.expect("made");
    let (claimed, id) = (rig.new_entry("/m/claimed", RequestId(9)).await, RequestId(9));
    rig.writing().create(claimed.clone(), true).await.expect("made");
    let rig = rig.restart(Some(INTERVAL)).await;
    let left = rig.writing().left_by_others();
    assert_eq!(left.len(), 2);
    let lease = rig.writing().create(NewEntry { request: id, ..claimed }, true).await.expect("repeated").lease;
    rig.writing().discard_unheld(left).await;
    assert_eq!(rig.list("/m").await.expect("listed"), ["claimed", "f"]);
    rig.persist(lease.expect("a file"), "bytes").await.expect("committed");
}

#[tokio::test]
async fn what_is_being_stored_is_not_removed_or_renamed() {
    let rig = Rig::writable(&["f"]).await;
    let lease = rig.create("/m/f").await.expect("opened").lease.expect("a file");
    let grant = rig.persist_grant(lease).await.expect("granted");
    tokio::time::pause();
    assert_eq!(rig.unlink("/m/f").await.expect_err("being stored").kind(), ErrorKind::Busy);
    assert_eq!(rig.rename("/m/f", "/m/g").await.expect_err("being stored").kind(), ErrorKind::Busy);
    tokio::time::resume();
    let commit = async {
        tokio::task::yield_now().await;
        let meta = rig.store_staged(&grant, "bytes").await.expect("stored");
        rig.commit(&grant, &meta, request()).await.expect("committed");
    };
    let (removed, ()) = futures::join!(rig.unlink("/m/f"), commit);
    removed.expect("waited");
    assert_eq!(rig.keys().await, [""; 0]);
}

#[tokio::test]
async fn names_of_others_do_not_wait_for_a_store() {
    let rig = Rig::writable(&["a", "b"]).await;
    rig.list("/m").await.expect("listed");
    rig.store.script(Op::Delete, [Some(Fault::Hang)]);
    let hangs = rig.unlink("/m/a");
    let mut hangs = std::pin::pin!(hangs);
    while rig.store.scripted(Op::Delete) > 0 {
        tokio::select! {
            ended = &mut hangs => panic!("{ended:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    rig.unlink("/m/b").await.expect("removed");
    assert_eq!(rig.keys().await, ["a"]);
}

#[tokio::test]
async fn the_service_speaks_of_leases_and_grants() {
    let rig = Rig::writable(&["f"]).await;
    let parent = rig.inode("/m").await.0;
    let mut client = WritingServiceClient::new(channel(&rig).await);
    let create = CreateRequest { parent, name: "new".into(), mode: 0o644, ..Default::default() };
    let made = client.create(create.clone()).await.expect("made").into_inner();
    let lease = made.lease.expect("a file");
    assert!(lease.id != 0 && lease.term_ms == 30_000 && lease.staging.is_some());
    let directory = MakeDirectoryRequest { parent, name: "d".into(), mode: 0o755, ..Default::default() };
    let made = client.make_directory(directory).await.expect("made").into_inner().attr.expect("is there");
    assert_eq!(made.kind(), v1::FileKind::Directory);
    let exists = CreateRequest { name: "d".into(), ..create.clone() };
    let exists = client.create(exists).await.expect("answered").into_inner();
    assert!(exists.lease.is_none() && exists.attr.is_some_and(|attr| attr.inode == made.inode));
    let bad = CreateRequest { mode: 0o10_0644, ..create };
    let bad = client.create(bad).await.expect_err("a file type");
    assert_eq!(status::to_error(&bad, "call").kind(), ErrorKind::InvalidArgument);
    let remove = RemoveRequest { parent, name: "f".into(), ..Default::default() };
    let removed = client.remove(remove).await.expect("removed").into_inner();
    assert!(removed.as_of > 0 && rig.find("/m/f").await.expect("asked").is_none());
    let kept = client.renew_leases(v1::RenewLeasesRequest { leases: vec![lease.id, 5] }).await.expect("answered");
    assert_eq!(kept.into_inner().lost, [5]);
}

#[tokio::test]
async fn a_file_renamed_before_it_is_stored_replaces_the_object_of_another() {
    let rig = Rig::writable(&["f"]).await;
    let lease = rig.create("/m/tmp").await.expect("made").lease.expect("a file");
    rig.rename("/m/tmp", "/m/f").await.expect("renamed");
    rig.relocated().await;
    let attr = rig.find("/m/f").await.expect("asked").expect("is there");
    assert_eq!((attr.kind, attr.size), (FileKind::File, 0));
    rig.persist(lease, "new").await.expect("committed");
    assert_eq!((rig.object("f").await, rig.keys().await), ("new".to_owned(), vec!["f".to_owned()]));

    let lease = rig.create("/m/tmp").await.expect("made").lease.expect("a file");
    rig.rename("/m/tmp", "/m/f").await.expect("renamed");
    rig.rename("/m/f", "/m/g").await.expect("renamed on");
    assert_eq!(rig.keys().await, [""; 0], "what was replaced is gone");
    rig.persist(lease, "newer").await.expect("committed");
    assert_eq!(rig.keys().await, ["g"]);
    let there = rig.store.delete(&Key::from("g"), &Precondition::None).await;
    there.expect("deleted");
}
