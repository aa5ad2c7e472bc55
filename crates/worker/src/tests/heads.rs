//! Files whose beginning is that of the version that they replace.

use headpond_proto::{
    status,
    v1::{Head, PersistRequest, PersistResponse},
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
    async fn stage_all(&self, lease: u64, body: &[u8]) {
        for (index, data) in (0..).zip(body.chunks(4 << 20)) {
            self.stage_as(lease, index * (4 << 20), data.to_vec(), index > 0).await.expect("staged");
        }
    }

    /// Persists lease `lease` over `version`, which is `replaced`, saying that it begins with all of [`OLD`].
    async fn persist_over(&self, lease: u64, version: &str, replaced: ContentId) -> Result<PersistResponse> {
        let grant = Some(self.pond.master.persist_over(lease, "k", version, replaced));
        let heads = vec![
            Head { content: Some(ContentId(71).into()), length: 3 },
            Head { content: Some(OLD.into()), length: PAGES * MIB },
        ];
        let request = PersistRequest { grant, length: LENGTH, heads, ..PersistRequest::default() };
        let answer = self.client.clone().persist(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    }

    async fn must_have_no_notes(&self) {
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
