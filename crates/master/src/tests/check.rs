//! What a check tells.

use headpond_namespace::Durability;
use headpond_ufs::{Fault, Key, Op, UfsErrorKind, UnderStore};
use tokio::sync::mpsc;

use super::{Rig, holders::Bed};
use crate::check::{Check, Kind, Progress, Sums};

impl Rig {
    /// Kinds and paths of what a check of `path` finds, and its sums.
    async fn check(&self, path: &str) -> (Vec<(Kind, String)>, Sums) {
        let (tell, mut told) = mpsc::channel(1);
        let check = Check::new(self.master.core.clone(), path.parse().expect("a path"), tell);
        self.tasks_of_tests.spawn(check.run());
        let (mut found, mut last) = (Vec::new(), Progress::default());
        while let Some(progress) = told.recv().await {
            last = progress.expect("no error");
            let findings = last.findings.iter();
            found.extend(findings.map(|finding| (finding.kind, String::from_utf8_lossy(&finding.path).into_owned())));
        }
        assert!(last.done && last.sums.findings == found.len() as u64, "{last:?}");
        (found, last.sums)
    }
}

fn at(kind: Kind, path: &str) -> (Kind, String) {
    (kind, path.to_owned())
}

#[tokio::test]
async fn names_and_keys_are_compared_in_whatever_order_they_stand() {
    let keys = ["a-b/x", "a-b/y", "a-c", "a/b/c", "a/d", "a0", "b!/a", "b", "b-/-/a", "c./a", "c.d", "c/", "d/e/f/g"];
    let rig = Rig::writable(&keys).await;
    rig.tree("/m").await.expect("listed");
    let (found, sums) = rig.check("/m").await;
    assert_eq!((found, sums.files, sums.objects, sums.directories), (vec![], 12, 13, 11));
    rig.delete("a/b/c").await;
    rig.delete("b").await;
    rig.delete("c/").await;
    rig.put("a-c", "other").await;
    rig.put("c.a", "new").await;
    rig.put("a/d/e", "no path, where a/d is a file").await;
    rig.put("d//x", "no path").await;
    rig.put("d/e/f/h/", "").await;
    let (found, sums) = rig.check("/").await;
    let expected = [
        at(Kind::OtherObject, "/m/a-c"),
        at(Kind::MissingObject, "/m/a/b/c"),
        at(Kind::MissingObject, "/m/b"),
        at(Kind::UnknownObject, "/m/c.a"),
        at(Kind::MissingMarker, "/m/c/"),
        at(Kind::LeftMarker, "/m/d/e/f/h/"),
    ];
    assert_eq!((found, sums.hidden), (expected.to_vec(), 2));
    let (found, _) = rig.check("/m/a").await;
    assert_eq!(found, [at(Kind::MissingObject, "/m/a/b/c")]);
}

#[tokio::test]
async fn a_store_that_cannot_be_listed_is_told_and_nothing_is_found() {
    let rig = Rig::writable(&["a"]).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::List), 1.0, Fault::Error(UfsErrorKind::Refused));
    let (found, sums) = rig.check("/").await;
    assert!(found.is_empty() && sums.unseen.len() == 1 && sums.unseen[0].contains("mount /m"), "{sums:?}");
}

#[tokio::test]
async fn what_follows_a_rename_is_no_finding() {
    let rig = Rig::writable(&["old/a", "old/b/c", "f"]).await;
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Refused));
    rig.store.chance(Some(Op::CopyPart), 1.0, Fault::Error(UfsErrorKind::Refused));
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.rename("/m/f", "/m/g").await.expect("renamed");
    let (found, sums) = rig.check("/m").await;
    assert_eq!(found, []);
    assert!(sums.moving >= 3, "{sums:?}");
}

#[tokio::test]
async fn bytes_that_are_nowhere_are_found() {
    let bed = Bed::new(Durability::Async, &["there", "d/there"]).await;
    bed.tree("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/kept", "kept").await;
    let (_, content) = bed.hold("/m/d/lost", "lost").await;
    let (found, sums) = bed.check("/m").await;
    assert_eq!((found, sums.pending), (vec![], 2));
    bed.holder.lose(content);
    let (found, _) = bed.check("/m").await;
    assert_eq!(found, [at(Kind::LostContent, "/m/d/lost")]);
    let (found, _) = bed.check("/m/kept").await;
    assert_eq!(found, []);
    bed.holder.hold(content, "lost");
    let core = &bed.master.core;
    let (worker, epoch) = core.workers.all().first().map(|(worker, _)| (worker.member.id, worker.epoch)).expect("one");
    core.workers.leave(worker, epoch).expect("registered");
    let (found, _) = bed.check("/m/d").await;
    assert_eq!(found, [at(Kind::LostContent, "/m/d/lost")], "its only worker is away");
}

#[tokio::test]
async fn the_object_of_each_name_of_a_file_is_compared() {
    let bed = Bed::new(Durability::Async, &["f"]).await;
    bed.tree("/m").await.expect("listed");
    for path in ["/m/g", "/m/h"] {
        bed.link("/m/f", path).await;
    }
    bed.persisted().await;
    let (found, sums) = bed.check("/m").await;
    assert_eq!((found, sums.files, sums.objects, sums.moving), (vec![], 3, 3, 0));
    bed.delete("g").await;
    bed.put("h", "other").await;
    let (found, _) = bed.check("/m").await;
    assert_eq!(found, [at(Kind::MissingObject, "/m/g"), at(Kind::OtherObject, "/m/h")]);
}

#[tokio::test]
async fn a_name_that_waits_for_its_object_lacks_no_bytes() {
    let bed = Bed::new(Durability::Async, &["f"]).await;
    bed.tree("/m").await.expect("listed");
    bed.link("/m/f", "/m/g").await;
    bed.persisted().await;
    bed.holder.close();
    bed.hold("/m/f", "newer").await;
    bed.hold("/m/new", "new").await;
    bed.link("/m/new", "/m/also").await;
    let (found, sums) = bed.check("/m").await;
    assert_eq!((found, sums.pending), (vec![], 4));
    bed.delete("g").await;
    let (found, _) = bed.check("/m").await;
    assert_eq!(found, [at(Kind::MissingObject, "/m/g")]);
}

#[tokio::test]
async fn the_older_object_of_what_is_to_be_persisted_is_compared() {
    let bed = Bed::new(Durability::Async, &["gone", "kept", "other"]).await;
    bed.tree("/m").await.expect("listed");
    bed.holder.close();
    for path in ["/m/gone", "/m/kept", "/m/other", "/m/new"] {
        bed.hold(path, "newer").await;
    }
    let (found, sums) = bed.check("/m").await;
    assert_eq!((found, sums.pending), (vec![], 4));
    bed.delete("gone").await;
    bed.put("other", "somebody's").await;
    let (found, sums) = bed.check("/m").await;
    assert_eq!(found, [at(Kind::MissingObject, "/m/gone"), at(Kind::OtherObject, "/m/other")]);
    assert_eq!(sums.pending, 2);
}

#[tokio::test]
async fn uploads_are_told_apart() {
    let bed = Bed::new(Durability::Async, &[]).await;
    let abandoned = bed.master.core.relocator.abandoned.clone();
    let mut noted = Vec::new();
    for key in ["ours", "theirs", "left", "moved"] {
        let key = Key::from(key.to_owned());
        let upload = bed.store.create_multipart(&key).await.expect("begun");
        if key.as_bytes() == b"ours" || key.as_bytes() == b"moved" {
            noted.push(abandoned.note(bed.mount().id, &key, &upload).await);
        }
    }
    bed.store.chance(Some(Op::AbortMultipart), 1.0, Fault::Error(UfsErrorKind::Refused));
    drop(noted.pop());
    let (mut found, sums) = bed.check("/m").await;
    found.sort_unstable_by(|one, other| one.1.cmp(&other.1));
    assert_eq!(found, [at(Kind::LeftUpload, "/m/left"), at(Kind::LeftUpload, "/m/moved")]);
    assert_eq!((sums.uploads_under_way, sums.uploads_of_others), (1, 1));
}
