//! Files whose beginning is that of the version that they replace.

use headpond_proto::{
    status,
    v1::{Head, PersistDirtyRequest, PersistRequest, PersistResponse},
};
use headpond_types::{ContentId, ErrorKind, Result};
use headpond_ufs::{Fault, Key, Op, Precondition, UfsErrorKind};

use super::{
    pond::MIB,
    yard::{Yard, page_of},
};

const OLD: ContentId = ContentId(70);
/// Pages of the old version, of which all are the beginning of the new one.
const PAGES: u64 = 20;
const LENGTH: u64 = 24 * MIB + 9;

/// A yard with an object of [`PAGES`] pages, and its version.
async fn yard(name: &str) -> (Yard, String) {
    let yard = Yard::new(&format!("heads-{name}")).await;
    let body: Vec<u8> = (0..PAGES).flat_map(page_of).collect();
    let meta = yard.sound.put(&Key::from("k"), body.into(), &Precondition::None).await.expect("put");
    (yard, meta.version)
}

/// What the file of lease 1 has to become.
fn expected() -> Vec<u8> {
    let mut body: Vec<u8> = (0..PAGES).chain(90..).take(25).flat_map(page_of).collect();
    body.truncate(usize::try_from(LENGTH).expect("small"));
    body
}

impl Yard {
    pub(super) async fn stage_all(&self, lease: u64, body: &[u8]) {
        for (index, data) in (0..).zip(body.chunks(4 << 20)) {
            self.stage_as(lease, index * (4 << 20), data.to_vec(), index > 0).await.expect("staged");
        }
    }

    /// Persists lease `lease` over `version`, which is `replaced`, saying that it begins with all of [`OLD`].
    async fn persist_over(&self, lease: u64, version: &str, replaced: ContentId) -> Result<PersistResponse> {
        let grant = Some(self.pond.master.persist_over(lease, "k", version, replaced));
        let heads = vec![
            Head { content: Some(ContentId(71).into()), length: 3, original: None },
            Head { content: Some(OLD.into()), length: PAGES * MIB, original: None },
        ];
        let request = PersistRequest { grant, length: LENGTH, heads, ..PersistRequest::default() };
        let answer = self.client.clone().persist(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    }

    pub(super) async fn must_have_no_notes(&self) {
        while self.uploads() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(self.sound.uploads(None).await.expect("listed").uploads.is_empty(), "an upload is left");
    }
}

#[tokio::test]
async fn a_head_is_copied_and_what_comes_behind_it_is_sent() {
    let (yard, version) = yard("copied").await;
    yard.stage_all(1, &expected()).await;
    // One part of 16 MiB at most is behind it: a second one would be refused.
    yard.store.script(Op::PutPart, [None, Some(Fault::Error(UfsErrorKind::Refused))]);
    let stored = yard.persist_over(1, &version, OLD).await.expect("stored");
    assert!(yard.object("k").await == expected());
    assert_eq!(yard.store.scripted(Op::PutPart), 1);
    yard.must_have_no_notes().await;

    // Its checksums are those of the whole file.
    yard.end(1, Some(ContentId(1))).await;
    yard.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Refused));
    let grant = yard.pond.master.content(ContentId(1), "k", &stored.version, stored.size);
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("warm") == expected());
}

#[tokio::test]
async fn the_head_of_another_version_than_the_one_that_is_replaced_is_sent() {
    let (yard, version) = yard("another").await;
    yard.stage_all(1, &expected()).await;
    yard.store.script(Op::CopyPart, [Some(Fault::Error(UfsErrorKind::Refused))]);
    yard.persist_over(1, &version, ContentId(72)).await.expect("stored");
    assert!(yard.object("k").await == expected());
    assert_eq!(yard.store.scripted(Op::CopyPart), 1, "nothing was copied");
}

#[tokio::test]
async fn what_cannot_be_copied_is_sent() {
    let faults = [
        (Op::CopyPart, Fault::Error(UfsErrorKind::Refused)),
        (Op::CopyPart, Fault::Error(UfsErrorKind::Unsupported)),
        (Op::CopyPart, Fault::Error(UfsErrorKind::Changed)),
        (Op::CopyPart, Fault::Error(UfsErrorKind::NotFound)),
        (Op::CopyPart, Fault::LostAnswer),
        (Op::PutPart, Fault::Error(UfsErrorKind::Transient)),
        (Op::CompleteMultipart, Fault::Error(UfsErrorKind::Invalid)),
    ];
    for (number, (op, fault)) in faults.into_iter().enumerate() {
        let (yard, version) = yard(&format!("sent-{number}")).await;
        yard.stage_all(1, &expected()).await;
        yard.store.script(op, [Some(fault)]);
        yard.persist_over(1, &version, OLD).await.expect("stored");
        assert!(yard.object("k").await == expected(), "{op} {fault:?}");
        assert_eq!(yard.store.scripted(op), 0, "{op} {fault:?}");
        yard.must_have_no_notes().await;
    }
}

#[tokio::test]
async fn an_object_that_was_replaced_stays() {
    let (yard, version) = yard("replaced").await;
    yard.stage_all(1, &expected()).await;
    let another = yard.put("k", "another's").await;
    assert_eq!(yard.persist_over(1, &version, OLD).await.expect_err("replaced").kind(), ErrorKind::Stale);
    assert_eq!(yard.head("k").await.expect("there").version, another.version);
    yard.must_have_no_notes().await;
    // The same where it comes when all was copied.
    let (yard, version) = yard_with_a_late_change().await;
    assert_eq!(yard.persist_over(1, &version, OLD).await.expect_err("refused").kind(), ErrorKind::Stale);
    yard.must_have_no_notes().await;
}

/// One whose store says that the condition does not hold, when the object is to be made.
async fn yard_with_a_late_change() -> (Yard, String) {
    let (yard, version) = yard("late").await;
    yard.stage_all(1, &expected()).await;
    yard.store.script(Op::CompleteMultipart, [Some(Fault::Error(UfsErrorKind::Precondition))]);
    (yard, version)
}

/// The first content that is made durable, and the next.
const C1: ContentId = ContentId(101);
const C2: ContentId = ContentId(102);

impl Yard {
    /// Makes all `length` bytes of lease 1 durable, which begin with those of other contents.
    async fn keep_behind(&self, content: ContentId, length: u64, heads: &[(ContentId, u64)]) {
        let head = |(content, length): &(ContentId, u64)| Head {
            content: Some((*content).into()),
            length: *length,
            original: None,
        };
        let request = PersistRequest {
            grant: Some(self.pond.master.copies(1, content, 1, &[])),
            length,
            staging: Some(self.grant(1)),
            heads: heads.iter().map(head).collect(),
            ..PersistRequest::default()
        };
        self.client.clone().persist(request).await.expect("durable");
    }

    async fn store_over(&self, content: ContentId, version: &str) -> Result<PersistResponse> {
        let grant = Some(self.pond.master.later_over("k", content, version));
        let answer = self.client.clone().persist_dirty(PersistDirtyRequest { grant }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist dirty"))
    }

    /// Stores a content over a version, of which so many parts are sent and so many copied.
    async fn must_store_over(&self, content: ContentId, version: &str, (sent, copied): (usize, usize)) -> String {
        let script = |op: Op| {
            self.store.script(op, [None; 10]);
            self.store.scripted(op)
        };
        let before = [script(Op::PutPart), script(Op::CopyPart)];
        let stored = self.store_over(content, version).await.expect("stored");
        let after = [self.store.scripted(Op::PutPart), self.store.scripted(Op::CopyPart)];
        assert_eq!((before[0] - after[0], before[1] - after[1]), (sent, copied), "parts sent and copied");
        self.must_have_no_notes().await;
        stored.version
    }
}

#[tokio::test]
async fn what_is_stored_later_begins_with_the_object_that_it_replaces() {
    let (yard, version) = yard("later").await;
    // One that was found in the store.
    let found = ContentId::of_object(yard.sound.identity(), b"k", &version, PAGES * MIB);
    yard.stage_all(1, &expected()).await;
    yard.keep_behind(C1, LENGTH, &[(found, PAGES * MIB)]).await;
    let first = yard.must_store_over(C1, &version, (1, 1)).await;
    assert!(yard.object("k").await == expected());

    // One that was put from here, behind versions that nobody stored. What is changed meanwhile is not part of it.
    for n in 0..9 {
        yard.stage_as(1, LENGTH + n, "x", true).await.expect("staged");
        let before = C1.0 + 100 + u128::from(n);
        let heads = [(if n == 0 { C1 } else { ContentId(before) }, LENGTH + n)];
        yard.keep_behind(ContentId(before + 1), LENGTH + n + 1, &heads).await;
    }
    yard.stage_as(1, 5, "neither", true).await.expect("staged");
    yard.stage_as(1, LENGTH, "neither", true).await.expect("staged");
    let second = yard.must_store_over(ContentId(C1.0 + 109), &first, (1, 1)).await;
    let appended = [&expected()[..], b"xxxxxxxxx"].concat();
    assert!(yard.object("k").await == appended);
    // And again when the file has ended.
    yard.keep_behind(C2, LENGTH + 9, &[(ContentId(C1.0 + 109), 5)]).await;
    yard.end(1, Some(C2)).await;
    yard.must_store_over(C2, &second, (2, 0)).await;
    let mut changed = appended;
    changed[5..12].copy_from_slice(b"neither");
    changed[expected().len()..][..7].copy_from_slice(b"neither");
    assert!(yard.object("k").await == changed);
}

#[tokio::test]
async fn of_what_is_not_sure_all_is_sent_later() {
    // What it is called is not known.
    let (sure, version) = yard("later-other").await;
    sure.stage_all(1, &expected()).await;
    sure.keep_behind(C1, LENGTH, &[(OLD, PAGES * MIB)]).await;
    sure.must_store_over(C1, &version, (2, 0)).await;
    assert!(sure.object("k").await == expected());

    // It was replaced since it was put from here, and somebody has decided that it is to be overwritten.
    let another: Vec<u8> = (200..220).flat_map(page_of).collect();
    let meta = sure.sound.put(&Key::from("k"), another.into(), &Precondition::None).await.expect("put");
    sure.stage_as(1, LENGTH, "more", true).await.expect("staged");
    sure.keep_behind(C2, LENGTH + 4, &[(C1, LENGTH)]).await;
    sure.must_store_over(C2, &meta.version, (2, 0)).await;
    assert!(sure.object("k").await == [&expected()[..], b"more"].concat());

    // It was replaced and nobody knows: that stays.
    let third = ContentId(C2.0 + 1);
    sure.stage_as(1, LENGTH + 4, "still", true).await.expect("staged");
    sure.keep_behind(third, LENGTH + 9, &[(C2, LENGTH + 4)]).await;
    let version = sure.head("k").await.expect("there").version;
    let meta = sure.put("k", "another's").await;
    assert_eq!(sure.store_over(third, &version).await.expect_err("replaced").kind(), ErrorKind::Stale);
    assert_eq!(sure.head("k").await.expect("there").version, meta.version);

    // It cannot be copied.
    let (yard, version) = yard("later-refused").await;
    let found = ContentId::of_object(yard.sound.identity(), b"k", &version, PAGES * MIB);
    yard.stage_all(1, &expected()).await;
    yard.keep_behind(C1, LENGTH, &[(found, PAGES * MIB)]).await;
    yard.store.script(Op::CopyPart, [Some(Fault::Error(UfsErrorKind::Refused))]);
    yard.store_over(C1, &version).await.expect("stored");
    assert!(yard.object("k").await == expected());
    yard.must_have_no_notes().await;
}
