//! Files that are acknowledged before any store has them: made durable, read from here, kept over restarts, and stored later.

use std::{os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use headpond_proto::{
    status,
    v1::{
        Head, PersistDirtyRequest, PersistRequest, PersistResponse, ResizeStagedRequest, SettleDirtyRequest,
        SignedGrant, StageRequest,
    },
};
use headpond_types::{ContentId, ErrorKind, Result};
use headpond_ufs::{Fault, Op, Precondition};

use super::{
    local::LocalClient,
    pond::{MIB, TestWorker},
    yard::{Yard, client},
};

const C1: ContentId = ContentId(101);
const C2: ContentId = ContentId(102);
const C3: ContentId = ContentId(103);

impl Yard {
    async fn keep(&self, lease: u64, content: ContentId, length: u64) -> Result<PersistResponse> {
        let grant = self.pond.master.copies(lease, content, 1, &[]);
        let request = PersistRequest {
            grant: Some(grant),
            length,
            closing: true,
            staging: Some(self.pond.master.staging(lease)),
            ..PersistRequest::default()
        };
        let answer = self.client.clone().persist(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    }

    async fn store_later(&self, key: &str, content: ContentId, earlier: &[ContentId]) -> Result<PersistResponse> {
        let grant = Some(self.pond.master.later(key, content, earlier));
        let answer = self.client.clone().persist_dirty(PersistDirtyRequest { grant }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist dirty"))
    }

    fn dirty(&self, content: ContentId, length: u64) -> SignedGrant {
        self.pond.master.dirty(content, length, &[self.worker.running.advertised()])
    }

    /// Ends the worker and starts it anew over the same directory.
    async fn restart(self) -> Self {
        let Self { pond, worker, store, sound, client: _ } = self;
        let dir = worker.stop().await;
        let worker = pond.worker_on(Arc::new(store.clone()), dir).await;
        let client = client(&worker);
        Self { pond, worker, client, store, sound }
    }
}

fn held(worker: &TestWorker) -> Vec<ContentId> {
    worker.running.reader.cache.store().dirty().into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn what_is_acknowledged_is_read_from_here_and_kept_while_no_store_has_it() {
    let yard = Yard::new("later-kept").await;
    yard.stage_as(1, 0, "acknowledged", false).await.expect("staged");
    let answer = yard.keep(1, C1, 12).await.expect("durable");
    assert_eq!((answer.size, answer.version.as_str(), answer.holders), (12, "", vec![1]));
    assert_eq!(yard.keep(1, C2, 13).await.expect_err("another length").kind(), ErrorKind::InvalidArgument);
    let grant = yard.dirty(C1, 12);
    assert_eq!(yard.worker.read(&grant, 0..100).await.expect("read while it is staged"), b"acknowledged");
    yard.end(1, Some(C1)).await;
    assert_eq!(held(&yard.worker), [C1]);
    assert_eq!(yard.worker.read(&grant, 3..7).await.expect("read after"), b"nowl");
    assert_eq!(yard.store.scripted(Op::Put), 0);

    let yard = yard.restart().await;
    assert_eq!(held(&yard.worker), [C1]);
    assert_eq!(yard.worker.read(&yard.dirty(C1, 12), 0..12).await.expect("after a restart"), b"acknowledged");
}

#[tokio::test]
async fn a_client_that_vanishes_loses_nothing_that_was_acknowledged() {
    let yard = Yard::new("later-vanished").await;
    let mut local = LocalClient::of(&yard.worker).await;
    let file = local.stage(&yard.pond.master.staging(1)).await.expect("staged");
    file.write_all_at(b"first", 0).expect("written");
    yard.keep(1, C1, 5).await.expect("durable");
    local.keep(&yard.grant(1), (C1, 5), 0..5).await.expect("kept");
    file.write_all_at(b"second", 0).expect("written");
    yard.keep(1, C2, 6).await.expect("durable");
    file.write_all_at(b"not acknowledged", 6).expect("written");
    local.keep(&yard.grant(1), (C2, 6), 2..3).await.expect("kept");
    file.write_all_at(b"?", 2).expect("written");
    let other = local.stage(&yard.pond.master.staging(2)).await.expect("staged");
    other.write_all_at(b"never", 0).expect("written");
    drop(local);
    while held(&yard.worker).len() < 2 {
        tokio::task::yield_now().await;
    }
    // Which of the two is committed is not known here.
    assert_eq!(yard.worker.read(&yard.dirty(C1, 5), 0..5).await.expect("the first"), b"first");
    assert_eq!(yard.worker.read(&yard.dirty(C2, 6), 0..6).await.expect("the second"), b"second");
}

#[tokio::test]
async fn what_was_staged_when_the_worker_ended_is_there_again() {
    let yard = Yard::new("later-staged").await;
    let body = bytes::Bytes::from(vec![7; 3 * usize::try_from(MIB).expect("few") + 5]);
    let length = body.len() as u64;
    yard.stage_as(1, 0, body.clone(), false).await.expect("staged");
    yard.keep(1, C1, length).await.expect("durable");
    let yard = yard.restart().await;
    assert_eq!(yard.worker.read(&yard.dirty(C1, length), 0..length).await.expect("read"), body);
    assert_eq!(yard.stage_as(1, 0, "x", true).await.expect_err("lost").kind(), ErrorKind::Stale);
    let stored = yard.store_later("k", C1, &[]).await.expect("stored");
    assert_eq!(stored.size, length);
    assert_eq!(yard.sound.head(&"k".into()).await.expect("there").content, Some(C1));
}

#[tokio::test]
async fn it_is_stored_from_the_staged_file_and_from_the_cache_alike() {
    let yard = Yard::new("later-stored").await;
    yard.stage_as(1, 0, "one", false).await.expect("staged");
    yard.keep(1, C1, 3).await.expect("durable");
    let first = yard.store_later("k", C1, &[]).await.expect("from the staged file");
    let again = yard.store_later("k", C1, &[]).await.expect("it is there already");
    assert_eq!((first.size, &first.version), (3, &again.version));
    yard.end(1, Some(C1)).await;
    let moved = yard.store_later("other", C1, &[]).await.expect("from the cache");
    assert_eq!(moved.size, 3);
    let error = yard.store_later("k", C2, &[]).await.expect_err("nobody has it");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_changed_in_place_is_read_and_stored_as_it_was_acknowledged() {
    let yard = Yard::new("later-in-place").await;
    yard.stage_as(1, 0, "acknowledged", false).await.expect("staged");
    yard.keep(1, C1, 12).await.expect("durable");
    yard.stage_as(1, 2, "??", true).await.expect("staged");
    // Before it is stored, while it is, and behind the next one.
    yard.store.script(Op::Put, [Some(Fault::Latency(Duration::from_millis(300)))]);
    let change = async {
        while yard.store.scripted(Op::Put) > 0 {
            tokio::task::yield_now().await;
        }
        yard.stage_as(1, 4, "!!", true).await.expect("staged");
        yard.keep(1, C2, 12).await.expect("durable");
        yard.stage_as(1, 0, "neither", true).await.expect("staged");
    };
    tokio::join!(async { yard.store_later("k", C1, &[]).await.expect("stored") }, change);
    assert_eq!(yard.object("k").await, b"acknowledged");
    assert_eq!(yard.worker.read(&yard.dirty(C1, 12), 0..100).await.expect("read"), b"acknowledged");
    assert_eq!(yard.worker.read(&yard.dirty(C2, 12), 0..100).await.expect("read"), b"ac??!!ledged");
    yard.store_later("other", C2, &[]).await.expect("stored");
    assert_eq!(yard.object("other").await, b"ac??!!ledged");

    // Its end, by who knows what it is, brings back what was acknowledged; so does that of the process.
    yard.end(1, Some(C2)).await;
    assert_eq!(yard.worker.read(&yard.dirty(C2, 12), 0..100).await.expect("read"), b"ac??!!ledged");
    yard.stage_as(2, 0, "acknowledged", false).await.expect("staged");
    yard.keep(2, C3, 12).await.expect("durable");
    yard.resize(2, 3).await.expect("cut");
    yard.stage_as(2, 0, "neither", true).await.expect("staged");
    let yard = yard.restart().await;
    assert_eq!(yard.worker.read(&yard.dirty(C3, 12), 0..100).await.expect("read"), b"acknowledged");
    yard.store_later("last", C3, &[]).await.expect("stored");
    assert_eq!(yard.object("last").await, b"acknowledged");
}

#[tokio::test]
async fn what_is_changed_before_it_is_durable_is_none_of_it() {
    let yard = Yard::new("later-named").await;
    yard.stage_as(1, 0, "first", false).await.expect("staged");
    let version = |content: ContentId, length| Some(Head { content: Some(content.into()), length, original: None });
    let request = StageRequest {
        grant: Some(yard.grant(1)),
        offset: 3,
        data: "and more"[..].into(),
        continues: true,
        version: version(C1, 5),
    };
    yard.client.clone().stage(request).await.expect("staged");
    let (grant, continues) = (Some(yard.grant(1)), true);
    let request = ResizeStagedRequest { grant, length: 2, continues, version: version(C1, 5) };
    yard.client.clone().resize_staged(request).await.expect("cut");
    yard.keep(1, C1, 5).await.expect("durable");
    assert_eq!(yard.worker.read(&yard.dirty(C1, 5), 0..9).await.expect("read"), b"first");
    yard.keep(1, C2, 2).await.expect("durable");
    yard.store_later("k", C1, &[]).await.expect("stored");
    assert_eq!(yard.object("k").await, b"first");
    assert_eq!(yard.worker.read(&yard.dirty(C2, 2), 0..9).await.expect("read"), b"fi");
}

#[tokio::test]
async fn parts_are_all_of_the_version_that_was_acknowledged() {
    let yard = Yard::new("later-parts").await;
    let body = yard.stage_mib(1, 80).await;
    yard.keep(1, C1, 80 * MIB).await.expect("durable");
    // The four parts that go at once are under way; the fifth is read behind that.
    yard.store.script(Op::PutPart, [Some(Fault::Latency(Duration::from_millis(500))); 4]);
    let mut local = LocalClient::of(&yard.worker).await;
    let file = local.stage(&yard.grant(1)).await.expect("staged");
    let change = async {
        while yard.store.scripted(Op::PutPart) > 0 {
            tokio::task::yield_now().await;
        }
        for page in [0, 70, 79] {
            local.keep(&yard.grant(1), (C1, 80 * MIB), page * MIB..(page + 1) * MIB).await.expect("kept");
            file.write_all_at(b"neither", page * MIB + 5).expect("written");
        }
        yard.resize(1, 72 * MIB).await.expect("cut");
    };
    tokio::join!(async { yard.store_later("k", C1, &[]).await.expect("stored") }, change);
    assert!(yard.object("k").await == body, "the object has other bytes");
}

#[tokio::test]
async fn what_is_being_stored_may_be_closed_meanwhile() {
    let yard = Yard::new("later-closed").await;
    let body = yard.stage_mib(1, 80).await;
    yard.keep(1, C1, 80 * MIB).await.expect("durable");
    // The four parts that go at once are under way when the file ends; the fifth is read behind that.
    yard.store.script(Op::PutPart, [Some(Fault::Latency(Duration::from_millis(500))); 4]);
    let end = async {
        while yard.store.scripted(Op::PutPart) > 0 {
            tokio::task::yield_now().await;
        }
        yard.end(1, Some(C1)).await;
    };
    let (stored, ()) = tokio::join!(yard.store_later("k", C1, &[]), end);
    assert_eq!(stored.expect("stored at once").size, 80 * MIB);
    assert!(yard.object("k").await == body);
}

#[tokio::test]
async fn an_object_of_an_earlier_persist_is_replaced_and_one_of_somebody_else_stays() {
    let yard = Yard::new("later-earlier").await;
    for (lease, content, bytes) in [(1, C1, "one"), (2, C2, "two")] {
        yard.stage_as(lease, 0, bytes, false).await.expect("staged");
        yard.keep(lease, content, 3).await.expect("durable");
        yard.end(lease, Some(content)).await;
    }
    // Carried out by somebody who could not tell of it.
    yard.store.script(Op::Put, [Some(Fault::LostAnswer)]);
    yard.store_later("k", C1, &[]).await.expect("what is there is ours");
    let yard = yard.restart().await;
    yard.store_later("k", C2, &[C1]).await.expect("that was ours as well");
    assert_eq!(yard.sound.head(&"k".into()).await.expect("there").content, Some(C2));
    assert_eq!(yard.store_later("k", C1, &[]).await.expect_err("not ours").kind(), ErrorKind::Stale);
    yard.sound.put(&"k".into(), "two".into(), &Precondition::None).await.expect("somebody else");
    assert_eq!(yard.store_later("k", C2, &[C1]).await.expect_err("not ours").kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn what_the_master_needs_no_longer_is_cached_as_any_other() {
    let yard = Yard::new("later-needed").await;
    for (lease, content) in [(1, C1), (2, C2)] {
        yard.stage_as(lease, 0, "bytes", false).await.expect("staged");
        yard.keep(lease, content, 5).await.expect("durable");
        yard.end(lease, Some(content)).await;
    }
    yard.pond.master.registry.send_modify(|registry| registry.unneeded.push(C1));
    yard.store_later("k", C1, &[]).await.expect("stored");
    while held(&yard.worker).contains(&C1) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(held(&yard.worker), [C2]);
    assert_eq!(yard.worker.read(&yard.dirty(C1, 5), 0..5).await.expect("cached"), b"bytes");
    yard.pond.master.registry.send_modify(|registry| registry.unneeded.push(C2));
    let yard = yard.restart().await;
    while !held(&yard.worker).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn further_copies_are_on_other_workers_before_it_is_answered() {
    let yard = Yard::new("later-copies").await;
    let other = yard.pond.worker_on(Arc::new(yard.store.clone()), tempfile::tempdir().expect("a directory")).await;
    let (nobody, second) = ("127.0.0.1:1".to_owned(), other.running.advertised().to_owned());
    let keep = async |content, length: usize, holders: &[&str]| {
        let request = PersistRequest {
            grant: Some(yard.pond.master.copies(1, content, 2, holders)),
            length: length as u64,
            staging: Some(yard.pond.master.staging(1)),
            ..PersistRequest::default()
        };
        let answer = yard.client.clone().persist(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    };
    let mut body = vec![7; 2 * usize::try_from(MIB).expect("few") + 5];
    yard.stage_as(1, 0, body.clone(), false).await.expect("staged");
    let error = keep(ContentId(100), body.len(), &[&nobody]).await.expect_err("nobody else");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("1 of 2 workers"), "{error}");
    assert_eq!(keep(C1, body.len(), &[&nobody, &second]).await.expect("two have it").holders, [1, 2]);
    body.extend(b"more");
    body[3] = 1;
    yard.stage_as(1, 0, body.clone(), true).await.expect("staged");
    assert_eq!(keep(C2, body.len(), &[&nobody, &second]).await.expect("two have it").holders, [1, 2]);
    body.truncate(100);
    yard.resize(1, 100).await.expect("cut");
    let third = ContentId(103);
    assert_eq!(keep(third, body.len(), &[&second]).await.expect("two have it").holders, [1, 2]);
    yard.end(1, Some(third)).await;
    while held(&other) != [third] {
        tokio::task::yield_now().await;
    }
    assert_eq!(held(&yard.worker), [third]);
    let grant = yard.pond.master.dirty(third, 100, &[&second]);
    assert_eq!(other.read(&grant, 0..100).await.expect("read"), body);
}

#[tokio::test]
async fn others_read_it_from_its_holders_and_never_from_the_store() {
    let yard = Yard::new("later-holders").await;
    let other = yard.pond.worker_on(Arc::new(yard.store.clone()), tempfile::tempdir().expect("a directory")).await;
    let body =
        bytes::Bytes::from((0..3 * MIB + 5).map(|at| u8::try_from(at % 251).expect("small")).collect::<Vec<_>>());
    let length = body.len() as u64;
    yard.stage_as(1, 0, body.clone(), false).await.expect("staged");
    yard.keep(1, C1, length).await.expect("durable");
    let holder = yard.worker.running.advertised().to_owned();
    let nobody = "127.0.0.1:1";
    let grant = yard.pond.master.dirty(C1, length, &[nobody, &holder]);
    assert_eq!(other.read(&grant, 0..length).await.expect("from the staged file"), body);

    yard.stage_as(2, 0, "second", false).await.expect("staged");
    yard.keep(2, C2, 6).await.expect("durable");
    yard.end(2, Some(C2)).await;
    let grant = yard.pond.master.dirty(C2, 6, &[&holder]);
    assert_eq!(other.read(&grant, 0..6).await.expect("from the cache"), b"second");

    let unknown = ContentId(7);
    let released = yard.pond.master.dirty(unknown, 6, &[&holder]);
    for worker in [&other, &yard.worker] {
        assert_eq!(worker.read(&released, 0..6).await.expect_err("nobody has it").kind(), ErrorKind::Stale);
    }
    let gone = yard.pond.master.dirty(unknown, 6, &[nobody]);
    let error = other.read(&gone, 0..6).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(nobody), "{error}");
}

#[tokio::test]
async fn who_asks_whether_it_is_being_stored_is_answered_when_it_is_not() {
    let yard = Yard::new("later-settled").await;
    yard.stage_as(1, 0, "bytes", false).await.expect("staged");
    yard.keep(1, C1, 5).await.expect("durable");
    yard.store.script(Op::Put, [Some(Fault::Latency(std::time::Duration::from_millis(300)))]);
    {
        // Who asked for it hangs up; it goes on.
        let mut stored = std::pin::pin!(yard.store_later("k", C1, &[]));
        while yard.store.scripted(Op::Put) > 0 {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(5), &mut stored).await;
        }
    }
    let settle = async |key| {
        let grant = Some(yard.pond.master.later(key, C1, &[]));
        yard.client.clone().settle_dirty(SettleDirtyRequest { grant }).await.expect("settled");
    };
    settle("other").await;
    assert!(yard.sound.head(&"k".into()).await.is_err(), "another key is not waited for");
    settle("k").await;
    assert_eq!(yard.sound.head(&"k".into()).await.expect("stored").content, Some(C1));
}
