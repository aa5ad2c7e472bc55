//! Files that are written: staged, stored under their condition whatever the store does, and kept.

use std::{os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use headpond_proto::{
    status,
    v1::{PersistResponse, StageRequest},
};
use headpond_types::{ContentId, ErrorKind};
use headpond_ufs::{Fault, ObjectMeta, Op, UfsErrorKind};

use super::{
    lake::Lake,
    local::LocalClient,
    pond::MIB,
    yard::{Yard, page_of},
};

fn same(answer: &PersistResponse, meta: &ObjectMeta) {
    assert_eq!((answer.size, answer.mtime_ns, &answer.version), (meta.size, meta.mtime.0, &meta.version));
}

#[tokio::test]
async fn what_is_staged_over_grpc_becomes_an_object() {
    let yard = Yard::new("grpc").await;
    yard.stage(1, 0, "hello ").await.expect("staged");
    yard.stage_as(1, 10, "world", true).await.expect("staged");
    assert_eq!(yard.staged(1, 4, 100).await.expect("read"), Bytes::from_static(b"o \0\0\0\0world"));
    yard.resize(1, 12).await.expect("resized");
    assert_eq!(yard.persist(1, "k", None, 11).await.expect_err("another length").kind(), ErrorKind::InvalidArgument);
    let answer = yard.persist(1, "k", None, 12).await.expect("stored");
    assert_eq!(yard.object("k").await, b"hello \0\0\0\0wo");
    same(&answer, &yard.head("k").await.expect("there"));
    yard.end(1, Some(ContentId(1))).await;
    assert_eq!(yard.files(), 0);
    assert_eq!(yard.staged(1, 0, 1).await.expect_err("ended").kind(), ErrorKind::Stale);
    assert_eq!(yard.stage_as(1, 0, "x", true).await.expect_err("ended").kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn what_a_local_client_wrote_is_stored_and_stays_warm() {
    let yard = Yard::new("warm").await;
    let mut local = LocalClient::of(&yard.worker).await;
    let file = local.stage(&yard.grant(1)).await.expect("a descriptor");
    let body: Vec<u8> = [page_of(1), page_of(2), b"tail".to_vec()].concat();
    file.write_all_at(&body, 0).expect("written");
    let stored = yard.persist(1, "k", None, body.len() as u64).await.expect("stored");
    assert!(yard.object("k").await == body);
    drop(file);
    yard.end(1, Some(ContentId(1))).await;

    yard.close_store();
    let grant = yard.pond.master.content(ContentId(1), "k", &stored.version, stored.size);
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("warm") == body);
    let (lent, _) = local.lend(&grant, 0).await.expect("lent");
    assert!(lent.complete, "the kernel may read it at once");
}

#[tokio::test]
async fn what_was_written_after_it_was_stored_is_not_kept() {
    let yard = Yard::new("written-after").await;
    let mut local = LocalClient::of(&yard.worker).await;
    let file = local.stage(&yard.grant(1)).await.expect("a descriptor");
    file.write_all_at(b"stored", 0).expect("written");
    yard.persist(1, "k", None, 6).await.expect("stored");
    file.write_all_at(b"S", 0).expect("written");
    yard.end(1, Some(ContentId(1))).await;
    assert!(yard.worker.running.reader.cache.store().find(ContentId(1)).is_none());
    assert_eq!(yard.worker.running.status().usage.used_bytes(), 0);
}

#[tokio::test]
async fn a_staged_file_goes_with_its_connection() {
    let yard = Yard::new("session").await;
    let mut local = LocalClient::of(&yard.worker).await;
    let file = local.stage(&yard.grant(1)).await.expect("a descriptor");
    file.write_all_at(b"bytes", 0).expect("written");
    yard.stage(2, 0, "over gRPC").await.expect("staged");
    assert_eq!(yard.files(), 2);
    drop(local);
    while yard.files() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(yard.persist(1, "k", None, 5).await.expect_err("its client is gone").kind(), ErrorKind::Stale);
    assert!(yard.head("k").await.is_none());
    yard.persist(2, "k", None, 9).await.expect("the other one stays");
}

#[tokio::test]
async fn a_file_that_came_back_to_a_new_connection_stays() {
    let yard = Yard::new("reconnected").await;
    let mut old = LocalClient::of(&yard.worker).await;
    old.stage(&yard.grant(1)).await.expect("a descriptor").write_all_at(b"bytes", 0).expect("written");
    old.stage(&yard.grant(2)).await.expect("another file");
    let mut new = LocalClient::of(&yard.worker).await;
    new.stage(&yard.grant(1)).await.expect("the same file");
    drop(old);
    while yard.files() > 1 {
        tokio::task::yield_now().await;
    }
    yard.persist(1, "k", None, 5).await.expect("stored");
}

#[tokio::test]
async fn nobody_elses_object_is_overwritten_nor_taken_for_ours() {
    let yard = Yard::new("conflict").await;
    let theirs = yard.put("k", "same").await;
    yard.stage(1, 0, "same").await.expect("staged");
    for replaces in [None, Some("an older version")] {
        let error = yard.persist(1, "k", replaces, 4).await.expect_err("another version");
        assert_eq!(error.kind(), ErrorKind::Stale);
        assert!(error.to_string().contains("k of mount 1 was changed by somebody else"), "{error}");
    }
    assert_eq!(yard.head("k").await, Some(theirs.clone()));
    let error = yard.persist(1, "gone", Some("a version"), 4).await.expect_err("nothing there");
    assert_eq!(error.kind(), ErrorKind::Stale);
    yard.persist(1, "k", Some(&theirs.version), 4).await.expect("the version that is there");
}

#[tokio::test]
async fn a_refusal_of_the_store_is_told_as_one() {
    let yard = Yard::new("refused").await;
    yard.stage(1, 0, "x").await.expect("staged");
    yard.close_store();
    let error = yard.persist(1, "k", None, 1).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    assert!(error.to_string().contains("cannot store k of mount 1"), "{error}");
    yard.store.heal();
    yard.persist(1, "k", None, 1).await.expect("a failure is not what is repeated");
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_object() {
    let yard = Yard::new("lost-answer").await;
    yard.stage(1, 0, "ours").await.expect("staged");
    yard.store.script(Op::Put, [Some(Fault::LostAnswer)]);
    let answer = yard.persist(1, "k", None, 4).await.expect("it was carried out");
    same(&answer, &yard.head("k").await.expect("there"));

    // The same for a replacement, whose repetition meets its own result.
    yard.stage(1, 0, "news").await.expect("staged");
    yard.store.script(Op::Put, [Some(Fault::LostAnswer)]);
    let grant = yard.pond.master.persist(1, "k", Some(&answer.version), ContentId(2));
    let replaced = yard.persist_with(grant, 4).await.expect("it was carried out");
    same(&replaced, &yard.head("k").await.expect("there"));
    assert_eq!(yard.object("k").await, b"news");
}

#[tokio::test]
async fn after_a_lost_answer_the_object_of_somebody_else_is_still_his() {
    let yard = Yard::new("lost-to-others").await;
    yard.stage(1, 0, "ours").await.expect("staged");
    yard.put("k", "his!").await;
    // Whether it was carried out is not known here, and it was not.
    yard.store.script(Op::Put, [Some(Fault::Error(UfsErrorKind::Transient))]);
    assert_eq!(yard.persist(1, "k", None, 4).await.expect_err("his").kind(), ErrorKind::Stale);
    assert_eq!(yard.object("k").await, b"his!");
}

#[tokio::test]
async fn what_a_failed_persist_left_in_the_store_is_replaced_by_the_next() {
    let yard = Yard::new("left").await;
    yard.stage(1, 0, "first").await.expect("staged");
    yard.store.script(Op::Put, [Some(Fault::LostAnswer)]);
    yard.store.script(Op::Put, [Some(Fault::Error(UfsErrorKind::Refused))]);
    yard.store.script(Op::Head, [Some(Fault::Error(UfsErrorKind::Refused))]);
    assert_eq!(yard.persist(1, "k", None, 5).await.expect_err("refused").kind(), ErrorKind::StoreRefused);
    assert_eq!(yard.object("k").await, b"first");
    yard.stage(1, 0, "other bytes").await.expect("staged");
    let answer = yard.persist(1, "k", None, 11).await.expect("what is there is ours");
    assert_eq!(yard.object("k").await, b"other bytes");

    // Stored, and never committed: the master still says that there is nothing.
    yard.stage(1, 0, "third").await.expect("staged");
    let grant = yard.pond.master.persist(1, "k", None, ContentId(3));
    let third = yard.persist_with(grant, 11).await.expect("what is there is ours");
    assert_ne!(answer.version, third.version);
    assert_eq!(yard.object("k").await, b"third bytes");
}

#[tokio::test]
async fn a_grant_is_answered_once_and_then_the_same() {
    let yard = Yard::new("repeated").await;
    yard.stage(1, 0, "bytes").await.expect("staged");
    let grant = yard.pond.master.persist(1, "k", None, ContentId(1));
    let answers = futures::future::join_all((0..4).map(|_| yard.persist_with(grant.clone(), 5))).await;
    let first = answers[0].as_ref().expect("stored").clone();
    yard.close_store();
    yard.stage(1, 5, "more").await.expect("staged");
    assert!(answers.into_iter().all(|answer| answer.expect("stored") == first));
    assert_eq!(yard.persist_with(grant.clone(), 5).await.expect("the same"), first);
    let error = yard.persist_with(grant.clone(), 9).await.expect_err("other bytes under one content id");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    yard.store.heal();
    let second = yard.persist(1, "k", Some(&first.version), 9).await.expect("stored");
    assert_eq!(yard.persist_with(grant, 5).await.expect("a repetition that comes late"), first);
    same(&second, &yard.head("k").await.expect("there"));
}

#[tokio::test]
async fn a_long_file_goes_in_parts_and_stays_warm() {
    let yard = Yard::new("parts").await;
    let mut body = yard.stage_mib(1, 35).await;
    yard.stage_as(1, 35 * MIB, "tail", true).await.expect("staged");
    body.extend(b"tail");
    let stored = yard.persist(1, "long", None, body.len() as u64).await.expect("stored");
    assert!(yard.object("long").await == body);
    yard.end(1, Some(ContentId(1))).await;
    assert_eq!(yard.uploads(), 0);
    yard.close_store();
    let grant = yard.pond.master.content(ContentId(1), "long", &stored.version, stored.size);
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("warm") == body);
}

#[tokio::test]
async fn an_upload_that_fails_is_aborted_and_one_that_succeeded_is_not() {
    let yard = Yard::new("aborted").await;
    yard.stage_mib(1, 33).await;
    yard.store.script(Op::PutPart, [None, Some(Fault::Error(UfsErrorKind::Refused))]);
    // The abort fails at first.
    yard.store.script(Op::AbortMultipart, [Some(Fault::Error(UfsErrorKind::Transient))]);
    let error = yard.persist(1, "k", None, 33 * MIB).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    yard.until_aborted("k", "upload-1").await;
    while yard.uploads() > 0 {
        tokio::task::yield_now().await;
    }

    yard.store.script(Op::CompleteMultipart, [Some(Fault::LostAnswer)]);
    let stored = yard.persist(1, "k", None, 33 * MIB).await.expect("it was carried out");
    same(&stored, &yard.head("k").await.expect("there"));

    let theirs = yard.put("taken", "theirs").await;
    assert_eq!(yard.persist(1, "taken", None, 33 * MIB).await.expect_err("taken").kind(), ErrorKind::Stale);
    assert_eq!(yard.head("taken").await, Some(theirs));
    yard.until_aborted("taken", "upload-3").await;
}

#[tokio::test]
async fn empty_files_are_stored() {
    let yard = Yard::new("empty").await;
    yard.resize(1, 0).await.expect("made");
    yard.store.script(Op::Put, [Some(Fault::LostAnswer)]);
    let stored = yard.persist(1, "k", None, 0).await.expect("stored");
    same(&stored, &yard.head("k").await.expect("there"));
    yard.end(1, Some(ContentId(1))).await;
}

#[tokio::test]
async fn a_store_without_conditions_is_looked_at_before() {
    let lake = Lake::new();
    let yard = Yard::over(Arc::<Lake>::clone(&lake)).await;
    lake.put("k", "theirs", 10);
    // Without multipart uploads, too.
    yard.stage_mib(1, 17).await;
    assert_eq!(yard.persist(1, "k", None, 17 * MIB).await.expect_err("taken").kind(), ErrorKind::Stale);
    assert_eq!(yard.persist(1, "k", Some("old"), 17 * MIB).await.expect_err("another").kind(), ErrorKind::Stale);
    assert_eq!(yard.head("k").await.expect("there").version, "theirs");
    yard.store.script(Op::Put, [Some(Fault::LostAnswer)]);
    let stored = yard.persist(1, "k", Some("theirs"), 17 * MIB).await.expect("the version that is there");
    same(&stored, &yard.head("k").await.expect("there"));
}

#[tokio::test]
async fn only_the_right_grants_are_taken() {
    let yard = Yard::new("grants").await;
    let persist = yard.pond.master.persist(1, "k", None, ContentId(1));
    let request = StageRequest { grant: Some(persist), ..StageRequest::default() };
    let refused = yard.client.clone().stage(request).await.expect_err("of another kind");
    assert_eq!(status::to_error(&refused, "stage").kind(), ErrorKind::PermissionDenied);
    let error = yard.persist_with(yard.grant(1), 0).await.expect_err("of another kind");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let much = vec![0; (4 << 20) + 1];
    assert_eq!(yard.stage(1, 0, much).await.expect_err("too much").kind(), ErrorKind::InvalidArgument);
    assert_eq!(yard.persist(1, "k", None, 0).await.expect_err("nothing staged").kind(), ErrorKind::Stale);
    assert_eq!(yard.stage(1, u64::MAX - 1, "x").await.expect_err("too far").kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn who_reads_before_the_writer_ended_gets_what_was_stored_and_nothing_later() {
    let yard = Yard::new("read-early").await;
    let body = yard.stage_mib(1, 3).await;
    let stored = yard.persist(1, "k", None, 3 * MIB).await.expect("stored");
    let grant = yard.pond.master.content(ContentId(1), "k", &stored.version, stored.size);
    // The middle is written again, and not stored: that page must come from the store.
    yard.stage_as(1, MIB + 5, "later", true).await.expect("staged");
    yard.store.chance(Some(Op::Get), 1.0, Fault::Error(UfsErrorKind::Refused));
    assert_eq!(yard.worker.read(&grant, 0..MIB).await.expect("from the staged file"), body[..1 << 20]);
    assert_eq!(yard.worker.read(&grant, 2 * MIB..3 * MIB).await.expect("from the staged file"), body[2 << 20..]);
    assert!(yard.worker.read(&grant, MIB..2 * MIB).await.is_err());
    yard.store.heal();
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("from the store") == body);
    yard.end(1, None).await;
}

#[tokio::test]
async fn what_a_reader_has_begun_is_whole_once_the_writer_ends() {
    let yard = Yard::new("read-part").await;
    let body = yard.stage_mib(1, 20).await;
    let stored = yard.persist(1, "k", None, 20 * MIB).await.expect("stored");
    let grant = yard.pond.master.content(ContentId(1), "k", &stored.version, stored.size);
    let mut local = LocalClient::of(&yard.worker).await;
    let (lent, _) = local.lend(&grant, 0).await.expect("lent");
    assert!(!lent.complete);
    local.ensure(lent.lease, 7 * MIB..8 * MIB).await.expect("from the staged file");
    yard.end(1, Some(ContentId(1))).await;
    yard.close_store();
    let (lent, _) = local.lend(&grant, 0).await.expect("lent");
    assert!(lent.complete);
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("warm") == body);
}
