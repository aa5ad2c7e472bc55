//! Files whose beginning is sent to the under store while they are being written.

use std::sync::Arc;

use headpond_proto::{
    status,
    v1::{PersistRequest, PersistResponse, SignedGrant, UploadRequest},
};
use headpond_types::{ContentId, ErrorKind, Result};
use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{
    pond::MIB,
    yard::{Yard, page_of},
};

/// What was sent ahead here: two parts.
const SENT: u64 = 32 * MIB;

impl Yard {
    async fn upload(&self, grant: SignedGrant, up_to: u64, round: u64) -> Result<()> {
        let answer = self.client.clone().upload(UploadRequest { grant: Some(grant), up_to, round }).await;
        answer.map(drop).map_err(|status| status::to_error(&status, "upload"))
    }

    /// Persists lease 1 under `key`, which ends `round`.
    async fn persist_round(&self, key: &str, length: u64, round: u64) -> Result<PersistResponse> {
        let grant = Some(self.pond.master.persist(1, key, None, ContentId(u128::from(round) + 1)));
        let answer =
            self.client.clone().persist(PersistRequest { grant, length, round, ..PersistRequest::default() }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    }

    /// Waits until so many of the answers that the store has been given for parts are left.
    async fn until_left(&self, answers: usize) {
        while self.store.scripted(Op::PutPart) > answers {
            tokio::task::yield_now().await;
        }
    }

    /// Stages 40 MiB for lease 1 and sends two parts of them ahead to `k` in the first round; the store takes no more than `parts` parts in all.
    async fn send_ahead(&self, parts: usize) -> Vec<u8> {
        let answers = (0..parts).map(|_| None).chain((0..64).map(|_| Some(Fault::Error(UfsErrorKind::Refused))));
        self.store.script(Op::PutPart, answers);
        let body = self.stage_mib(1, 40).await;
        self.upload(self.pond.master.upload(1, "k"), SENT + 5, 1).await.expect("told");
        self.until_left(64 + parts - 2).await;
        body
    }

    async fn until_nothing_is_noted(&self) {
        while self.uploads() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_was_sent_ahead_is_not_sent_again() {
    let yard = Yard::new("ahead").await;
    let body = yard.send_ahead(3).await;
    assert!(yard.head("k").await.is_none(), "nothing is stored yet");
    let stored = yard.persist_round("k", 40 * MIB, 1).await.expect("the tail is one part");
    assert!(yard.object("k").await == body);
    assert_eq!(yard.store.scripted(Op::PutPart), 64);
    assert_eq!(yard.uploads(), 0);

    // Its checksums are those of the whole file.
    yard.end(1, Some(ContentId(2))).await;
    yard.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Refused));
    let grant = yard.pond.master.content(ContentId(2), "k", &stored.version, stored.size);
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("warm") == body);
}

#[tokio::test]
async fn a_file_of_whole_parts_has_no_empty_one() {
    let yard = Yard::new("ahead-whole").await;
    let body = yard.stage_mib(1, 32).await;
    yard.store.script(Op::PutPart, [None, None, Some(Fault::Error(UfsErrorKind::Refused))]);
    yard.upload(yard.pond.master.upload(1, "k"), SENT, 1).await.expect("told");
    yard.persist_round("k", SENT, 1).await.expect("stored");
    assert!(yard.object("k").await == body);
    assert_eq!(yard.store.scripted(Op::PutPart), 1);
}

#[tokio::test]
async fn bytes_that_changed_after_they_were_sent_are_stored_as_they_are() {
    let yard = Yard::new("ahead-changed").await;
    let mut body = yard.send_ahead(5).await;
    yard.stage_as(1, 7, "changed", true).await.expect("staged");
    body[7..14].copy_from_slice(b"changed");
    yard.persist_round("k", 40 * MIB, 2).await.expect("stored");
    assert!(yard.object("k").await == body);
    assert_eq!(yard.store.scripted(Op::PutPart), 64, "sent as a whole");
    yard.until_aborted("k", "upload-1").await;
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn a_file_that_was_cut_is_stored_as_it_is() {
    let yard = Yard::new("ahead-cut").await;
    let mut body = yard.send_ahead(4).await;
    yard.resize(1, 20 * MIB).await.expect("cut");
    body.truncate(20 << 20);
    yard.persist_round("k", 20 * MIB, 2).await.expect("stored");
    assert!(yard.object("k").await == body);
    yard.until_aborted("k", "upload-1").await;

    // The same if the client did not notice.
    yard.upload(yard.pond.master.upload(1, "l"), 21 * MIB, 3).await.expect("told");
    yard.store.heal();
    yard.persist_round("l", 20 * MIB, 3).await.expect("stored");
    assert!(yard.object("l").await == body);
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn a_file_that_got_another_key_is_sent_there() {
    let yard = Yard::new("ahead-renamed").await;
    let body = yard.send_ahead(5).await;
    yard.persist_round("renamed", 40 * MIB, 1).await.expect("stored");
    assert!(yard.object("renamed").await == body);
    assert!(yard.head("k").await.is_none());
    yard.until_aborted("k", "upload-1").await;
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn sending_ahead_that_fails_fails_nothing_else() {
    let yard = Yard::new("ahead-fails").await;
    let body = yard.send_ahead(2).await;
    let grant = || yard.pond.master.upload(1, "k");
    yard.upload(grant(), 40 * MIB, 1).await.expect("told");
    yard.persist_round("k", 40 * MIB, 1).await.expect_err("the store refuses");
    yard.until_aborted("k", "upload-1").await;
    yard.store.heal();
    yard.store.script(Op::PutPart, [Some(Fault::Error(UfsErrorKind::Refused))]);
    yard.upload(grant(), SENT, 2).await.expect("told");
    while yard.upload(grant(), SENT, 2).await.is_ok() {
        tokio::task::yield_now().await;
    }
    yard.store.heal();
    yard.persist_round("k", 40 * MIB, 2).await.expect("stored anew");
    assert!(yard.object("k").await == body);
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn what_comes_late_from_a_round_that_is_over_is_refused() {
    let yard = Yard::new("ahead-late").await;
    let body = yard.stage_mib(1, 40).await;
    let late = |round| yard.upload(yard.pond.master.upload(1, "k"), SENT, round);
    yard.persist_round("k", 40 * MIB, 2).await.expect("stored");
    assert!(yard.object("k").await == body);
    for round in [1, 2] {
        assert_eq!(late(round).await.expect_err("over").kind(), ErrorKind::Stale);
    }
    late(4).await.expect("told");
    assert_eq!(late(3).await.expect_err("over").kind(), ErrorKind::Stale);
    yard.end(1, None).await;
    assert_eq!(late(5).await.expect_err("ended").kind(), ErrorKind::Stale);
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn nobody_elses_object_is_overwritten_by_what_was_sent_ahead() {
    let yard = Yard::new("ahead-conflict").await;
    yard.send_ahead(3).await;
    let theirs = yard.put("k", "theirs").await;
    assert_eq!(yard.persist_round("k", 40 * MIB, 1).await.expect_err("taken").kind(), ErrorKind::Stale);
    assert_eq!(yard.head("k").await, Some(theirs));
    yard.until_aborted("k", "upload-1").await;
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn the_end_of_a_staged_file_aborts_what_was_sent_ahead() {
    let yard = Yard::new("ahead-ended").await;
    yard.send_ahead(2).await;
    yard.end(1, None).await;
    yard.until_aborted("k", "upload-1").await;
    yard.until_nothing_is_noted().await;
    assert_eq!(yard.worker.running.status().usage.used_bytes(), 0);
}

#[tokio::test]
async fn a_restarted_worker_aborts_what_was_sent_ahead() {
    let yard = Yard::new("ahead-restart").await;
    yard.send_ahead(2).await;
    let Yard { pond, worker, client, store, sound } = yard;
    drop(client);
    let dir = worker.stop().await;
    let worker = pond.worker_on(Arc::new(store.clone()), dir).await;
    let client = super::yard::client(&worker);
    let yard = Yard { pond, worker, client, store, sound };
    yard.until_aborted("k", "upload-1").await;
    yard.until_nothing_is_noted().await;
}

#[tokio::test]
async fn only_a_grant_to_send_ahead_is_taken() {
    let yard = Yard::new("ahead-grants").await;
    yard.stage_as(1, 0, page_of(1), false).await.expect("staged");
    let other = yard.pond.master.persist(1, "k", None, ContentId(1));
    assert_eq!(yard.upload(other, MIB, 1).await.expect_err("of another kind").kind(), ErrorKind::PermissionDenied);
    let nowhere = yard.pond.master.upload(2, "k");
    assert_eq!(yard.upload(nowhere, MIB, 1).await.expect_err("nothing staged").kind(), ErrorKind::Stale);
}
