//! Files that begin as another file does, from which they were copied.

use headpond_proto::{
    status,
    v1::{Head, PersistDirtyRequest, PersistRequest, PersistResponse, SignedGrant},
};
use headpond_types::{ContentId, Result};
use headpond_ufs::{Fault, Key, Op, Precondition, UfsErrorKind};

use super::{
    pond::MIB,
    yard::{Yard, page_of},
};

const ORIGINAL: ContentId = ContentId(70);
/// What it is copied to, and that again when more was written behind it.
const COPY: ContentId = ContentId(101);
const LONGER: ContentId = ContentId(102);
const LENGTH: u64 = 40 * MIB + 9;

fn expected() -> Vec<u8> {
    let mut body: Vec<u8> = (0..41).flat_map(page_of).collect();
    body.truncate(usize::try_from(LENGTH).expect("small"));
    body
}

/// A yard with an object `from` whose bytes lease 1 has staged, too, and the right to read it.
async fn yard(name: &str) -> (Yard, SignedGrant) {
    let yard = Yard::new(&format!("originals-{name}")).await;
    let meta = yard.sound.put(&Key::from("from"), expected().into(), &Precondition::None).await.expect("put");
    yard.stage_all(1, &expected()).await;
    let grant = yard.pond.master.content(ORIGINAL, "from", &meta.version, LENGTH);
    (yard, grant)
}

fn head(original: &SignedGrant, length: u64) -> Vec<Head> {
    vec![Head { content: Some(ORIGINAL.into()), length, original: Some(original.clone()) }]
}

impl Yard {
    /// Stores lease 1 as `k`, where nothing is.
    async fn store_copy(&self, content: ContentId, heads: Vec<Head>, length: u64) -> Result<PersistResponse> {
        let grant = Some(self.pond.master.persist(1, "k", None, content));
        let request = PersistRequest { grant, length, heads, ..PersistRequest::default() };
        let answer = self.client.clone().persist(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::to_error(&status, "persist"))
    }

    /// Makes lease 1 durable as `content`.
    async fn keep_copy(&self, content: ContentId, heads: Vec<Head>, length: u64) {
        let grant = Some(self.pond.master.copies(1, content, 1, &[]));
        let request =
            PersistRequest { grant, length, staging: Some(self.grant(1)), heads, ..PersistRequest::default() };
        self.client.clone().persist(request).await.expect("durable");
    }

    /// Stores as `k` what was made durable.
    async fn store_copy_later(&self, content: ContentId) {
        let grant = Some(self.pond.master.later("k", content, &[]));
        self.client.clone().persist_dirty(PersistDirtyRequest { grant }).await.expect("stored");
    }

    /// From now on nothing fails, and the requests are counted that send and that copy a part.
    fn count(&self) {
        self.store.heal();
        [Op::PutPart, Op::CopyPart].into_iter().for_each(|op| self.store.script(op, [None; 10]));
    }

    /// How many there were.
    fn counted(&self) -> [usize; 2] {
        [Op::PutPart, Op::CopyPart].map(|op| 10 - self.store.scripted(op))
    }
}

#[tokio::test]
async fn what_was_copied_is_copied_by_the_store_and_what_comes_behind_it_is_sent() {
    let (yard, original) = yard("whole").await;
    yard.count();
    let stored = yard.store_copy(COPY, head(&original, LENGTH), LENGTH).await.expect("stored");
    assert_eq!((yard.counted(), stored.copied), ([0, 1], LENGTH));
    assert!(yard.object("k").await == expected());
    yard.must_have_no_notes().await;
    // Its checksums are those of the whole file.
    yard.end(1, Some(COPY)).await;
    yard.store.chance(None, 1.0, Fault::Error(UfsErrorKind::Refused));
    let grant = yard.pond.master.content(COPY, "k", &stored.version, stored.size);
    assert!(yard.worker.read(&grant, 0..u64::MAX).await.expect("warm") == expected());

    let (yard, original) = self::yard("part").await;
    yard.stage_as(1, 20 * MIB, "changed", true).await.expect("staged");
    yard.count();
    yard.store_copy(COPY, head(&original, 20 * MIB), LENGTH).await.expect("stored");
    assert_eq!(yard.counted(), [2, 1]);
    let mut changed = expected();
    changed[20 << 20..][..7].copy_from_slice(b"changed");
    assert!(yard.object("k").await == changed);
    yard.must_have_no_notes().await;
}

#[tokio::test]
async fn what_cannot_be_copied_is_sent() {
    let kinds = [UfsErrorKind::Refused, UfsErrorKind::Unsupported, UfsErrorKind::Changed, UfsErrorKind::NotFound];
    for kind in kinds {
        let (yard, original) = yard(&format!("sent-{kind:?}")).await;
        yard.store.script(Op::CopyPart, [Some(Fault::Error(kind))]);
        let stored = yard.store_copy(COPY, head(&original, LENGTH), LENGTH).await.expect("stored");
        assert_eq!((yard.store.scripted(Op::CopyPart), stored.copied), (0, 0), "{kind:?}");
        assert!(yard.object("k").await == expected(), "{kind:?}");
        yard.must_have_no_notes().await;
    }
    // It was replaced, or deleted, since it was read.
    for is_deleted in [false, true] {
        let (yard, original) = yard(&format!("gone-{is_deleted}")).await;
        if is_deleted {
            yard.sound.delete(&Key::from("from"), &Precondition::None).await.expect("deleted");
        } else {
            let another: Vec<u8> = (200..241).flat_map(page_of).collect();
            yard.sound.put(&Key::from("from"), another.into(), &Precondition::None).await.expect("put");
        }
        assert_eq!(yard.store_copy(COPY, head(&original, LENGTH), LENGTH).await.expect("stored").copied, 0);
        assert!(yard.object("k").await == expected());
        yard.must_have_no_notes().await;
    }
}

#[tokio::test]
async fn nothing_is_copied_that_the_file_may_not_be_made_of() {
    let (yard, original) = yard("refused").await;
    let as_changed =
        |change: &dyn Fn(&mut headpond_proto::v1::ContentGrant)| yard.pond.master.content_as(&original, change);
    let forged = {
        let other = as_changed(&|grant| grant.key = "secret".into());
        SignedGrant { grant: other.grant, ..original.clone() }
    };
    let refused = [
        ("forged", forged),
        ("expired", as_changed(&|grant| grant.expires_ns = 1)),
        ("of another mount", as_changed(&|grant| grant.mount = 2)),
        ("shorter", as_changed(&|grant| grant.length = 30 * MIB)),
        ("of another content", as_changed(&|grant| grant.content = Some(ContentId(71).into()))),
        ("of what no store has", yard.pond.master.dirty(ORIGINAL, LENGTH, &["127.0.0.1:1"])),
    ];
    yard.count();
    for (content, (why, original)) in (200..).map(ContentId).zip(&refused) {
        yard.store_copy(content, head(original, LENGTH), LENGTH).await.expect(why);
        assert_eq!(yard.counted()[1], 0, "{why}");
        yard.sound.delete(&Key::from("k"), &Precondition::None).await.expect("deleted");
        let later = ContentId(content.0 + 100);
        yard.keep_copy(later, head(original, LENGTH), LENGTH).await;
        yard.store_copy_later(later).await;
        assert_eq!(yard.counted()[1], 0, "{why}");
        assert!(yard.object("k").await == expected(), "{why}");
        yard.sound.delete(&Key::from("k"), &Precondition::None).await.expect("deleted");
    }
    yard.must_have_no_notes().await;
}

#[tokio::test]
async fn what_is_stored_later_is_copied_for_who_was_shown_to_read_the_original() {
    let (yard, original) = yard("later").await;
    yard.keep_copy(COPY, head(&original, LENGTH), LENGTH).await;
    // That the next version begins with it is said, and not that its writer may read the original.
    let end = "behind";
    yard.stage_as(1, LENGTH, end, true).await.expect("staged");
    let heads = vec![Head { content: Some(COPY.into()), length: LENGTH, original: None }];
    yard.keep_copy(LONGER, heads, LENGTH + 6).await;
    yard.count();
    yard.store_copy_later(LONGER).await;
    assert_eq!(yard.counted(), [3, 0]);
    assert!(yard.object("k").await == [&expected()[..], end.as_bytes()].concat());

    yard.sound.delete(&Key::from("k"), &Precondition::None).await.expect("deleted");
    yard.count();
    yard.store_copy_later(COPY).await;
    assert_eq!(yard.counted(), [0, 1]);
    assert!(yard.object("k").await == expected());
    yard.must_have_no_notes().await;
}
