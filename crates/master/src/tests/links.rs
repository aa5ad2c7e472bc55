//! Hard links: what clients see, and the objects that follow.

use std::sync::Arc;

use headpond_namespace::Durability;
use headpond_types::{ErrorKind, InodeId, Result};

use super::{
    INTERVAL,
    holders::{Bed, persistence},
    plain::{Late, Plain},
    writing::{OWNER, request},
};
use crate::{
    access::Caller,
    lookup::Answer,
    persist::Resolution,
    write::{Linking, Removal},
};

impl Bed {
    async fn link_as(&self, target: &str, path: &str, caller: Option<Caller>) -> Result<Answer> {
        let inode = self.inode(target).await;
        let (parent, name) = self.place(path).await;
        self.writing().link(Linking { inode, parent, name, caller, request: request() }).await
    }

    pub(super) async fn link(&self, target: &str, path: &str) {
        self.link_as(target, path, None).await.expect("linked");
    }

    /// The inode at a path, and how many names it has.
    async fn seen(&self, path: &str) -> Option<(InodeId, u32)> {
        self.find(path).await.expect("asked").map(|attr| (attr.inode, attr.nlink))
    }

    async fn has_problem(&self) {
        while self.master.core.persister.list_problems().expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

fn caller(uid: u32) -> Caller {
    Caller::from(headpond_proto::v1::Caller { uid, gids: vec![uid] })
}

#[tokio::test]
async fn every_name_has_an_object_with_the_last_bytes() {
    let bed = Bed::new(Durability::Through, &["f"]).await;
    bed.link("/m/f", "/m/g").await;
    let f = bed.inode("/m/f").await;
    assert_eq!((bed.seen("/m/f").await, bed.seen("/m/g").await), (Some((f, 2)), Some((f, 2))));
    assert_eq!(bed.list("/m").await.expect("listed"), ["f", "g"]);
    bed.persisted().await;
    assert_eq!((bed.keys().await, bed.object("g").await), (vec!["f".to_owned(), "g".to_owned()], "f".to_owned()));
    assert_eq!(bed.write("/m/g", "through the other name").await, f);
    bed.persisted().await;
    for key in ["f", "g"] {
        assert_eq!(bed.object(key).await, "through the other name");
    }
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["f", "g"]);
    let bed = bed.restart().await;
    assert_eq!((bed.seen("/m/f").await, bed.seen("/m/g").await), (Some((f, 2)), Some((f, 2))));
}

#[tokio::test]
async fn the_last_name_takes_the_inode_along() {
    for durability in [Durability::Through, Durability::Async] {
        let bed = Bed::new(durability, &["f"]).await;
        for path in ["/m/g", "/m/h"] {
            bed.link("/m/f", path).await;
        }
        let f = bed.inode("/m/f").await;
        bed.persisted().await;
        let removed = bed.writing().remove(bed.removal("/m/f", false).await).await.expect("removed");
        assert_eq!(removed.1, 2, "two names are left");
        bed.persisted().await;
        assert_eq!(bed.keys().await, ["g", "h"]);
        assert_eq!((bed.seen("/m/g").await, bed.seen("/m/h").await), (Some((f, 2)), Some((f, 2))));
        bed.unlink("/m/h").await.expect("removed");
        bed.persisted().await;
        assert_eq!((bed.keys().await, bed.seen("/m/g").await), (vec!["g".to_owned()], Some((f, 1))));
        bed.unlink("/m/g").await.expect("removed");
        bed.persisted().await;
        assert_eq!(bed.keys().await, [""; 0]);
    }
}

#[tokio::test]
async fn what_cannot_be_linked_is_refused() {
    let bed = Bed::new(Durability::Through, &["f", "g", "d/x"]).await;
    let refused = async |target, path, caller| bed.link_as(target, path, caller).await.expect_err(path).kind();
    assert_eq!(refused("/m/f", "/m/g", None).await, ErrorKind::AlreadyExists);
    assert_eq!(refused("/m/d", "/m/e", None).await, ErrorKind::IsADirectory);
    let stranger = || Some(caller(99));
    assert_eq!(refused("/m/f", "/m/d/f", stranger()).await, ErrorKind::PermissionDenied);
    assert_eq!(bed.keys().await, ["d/x", "f", "g"]);
}

#[tokio::test]
async fn a_sticky_directory_keeps_the_names_of_others_files() {
    let bed = Bed::new(Durability::Through, &[]).await;
    bed.write("/m/f", "body").await;
    let made = bed.make_directory("/m/tmp").await.expect("made").attr.expect("is there").inode;
    let change = headpond_namespace::AttrChange { mode: Some(0o1777), ..Default::default() };
    let change = crate::write::Change { inode: made, change, caller: None, request: request() };
    bed.writing().set_attr(change, None).await.expect("changed");
    bed.link("/m/f", "/m/tmp/f").await;
    let removal = bed.removal("/m/tmp/f", false).await;
    let by = |uid| Removal { caller: Some(caller(uid)), request: request(), ..removal.clone() };
    let error = bed.writing().remove(by(OWNER.uid + 1)).await.expect_err("it is another's");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    bed.writing().remove(by(OWNER.uid)).await.expect("its owner may");
}

#[tokio::test]
async fn what_somebody_put_under_the_name_stays_until_somebody_decides() {
    for resolution in [Resolution::Overwrite, Resolution::Skip] {
        let bed = Bed::new(Durability::Through, &["f"]).await;
        let _names = bed.list("/m").await.expect("listed");
        bed.put("g", "theirs").await;
        bed.link("/m/f", "/m/g").await;
        bed.has_problem().await;
        let persister = &bed.master.core.persister;
        let path = || "/m/g".parse().expect("a path");
        let error = persister.resolve(path(), Resolution::Divert).await.expect_err("its bytes are those of another");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(bed.object("g").await, "theirs");
        persister.resolve(path(), resolution).await.expect("resolved");
        bed.persisted().await;
        let (body, links) = if resolution == Resolution::Skip { ("theirs", 1) } else { ("f", 2) };
        assert_eq!((bed.object("g").await, bed.object("f").await), (body.to_owned(), "f".to_owned()));
        bed.advance(INTERVAL);
        let found = bed.find("/m/g").await.expect("asked").expect("is there");
        assert_eq!((found.size, found.nlink), (body.len() as u64, links), "{resolution:?}");
    }
}

#[tokio::test]
async fn a_link_waits_for_what_is_on_its_way() {
    let bed = Bed::new(Durability::Async, &[]).await;
    bed.holder.close();
    bed.hold("/m/f", "one").await;
    bed.link("/m/f", "/m/g").await;
    bed.hold("/m/g", "two").await;
    bed.holder.open();
    bed.persisted().await;
    for key in ["f", "g"] {
        assert_eq!(bed.object(key).await, "two");
    }
    assert!(!bed.holder.puts().contains(&"g".to_owned()), "it is copied: {:?}", bed.holder.puts());
}

#[tokio::test]
async fn a_link_under_a_removed_name_comes_behind_what_the_removal_waits_for() {
    let bed = Bed::new(Durability::Async, &["f", "g"]).await;
    bed.list("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/plain", "").await;
    bed.hold("/m/_SUCCESS", "").await;
    bed.unlink("/m/f").await.expect("removed");
    bed.link("/m/g", "/m/f").await;
    bed.link("/m/g", "/m/h").await;
    // That one is in nobody's way, and is looked at after the other.
    while !bed.keys().await.contains(&"h".to_owned()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.object("f").await, "f");
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(
        (bed.object("f").await, bed.holder.puts()),
        ("g".to_owned(), vec!["plain".to_owned(), "_SUCCESS".to_owned()])
    );
}

#[tokio::test]
async fn a_commit_file_that_is_linked_into_place_comes_last() {
    let bed = Bed::new(Durability::Deferred, &[]).await;
    bed.make_directory("/m/_temporary").await.expect("made");
    bed.make_directory("/m/_log").await.expect("made");
    bed.holder.close();
    bed.hold("/m/part", "part").await;
    bed.hold("/m/_temporary/1", "commit").await;
    bed.link("/m/_temporary/1", "/m/_log/1").await;
    bed.unlink("/m/_temporary/1").await.expect("removed");
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.holder.puts(), ["part", "_log/1"], "each is put once, in order");
    assert_eq!(bed.object("_log/1").await, "commit");
}

#[tokio::test]
async fn a_directory_that_loses_its_last_name_can_go() {
    for durability in [Durability::Through, Durability::Async] {
        let bed = Bed::new(durability, &["f"]).await;
        bed.make_directory("/m/d").await.expect("made");
        bed.rename("/m/f", "/m/d/f").await.expect("renamed");
        bed.link("/m/d/f", "/m/g").await;
        bed.persisted().await;
        bed.unlink("/m/d/f").await.expect("removed");
        bed.remove_directory("/m/d").await.expect("it is empty");
        bed.persisted().await;
        assert_eq!(bed.keys().await, ["g"], "{durability:?}");
    }
}

/// A file `f` of which the copy for its further name `g` is made, and not answered yet.
async fn copied_and_not_answered(durability: Durability) -> (Bed, Arc<Late>, InodeId) {
    let late = Arc::new(Late::default());
    let bed = Bed::over(persistence(durability), &["f", "other"], |store| Plain::late(store, &late)).await;
    bed.list("/m").await.expect("listed");
    late.arm_copies();
    bed.link("/m/f", "/m/g").await;
    late.answered().await;
    let f = bed.inode("/m/f").await;
    (bed, late, f)
}

#[tokio::test]
async fn a_first_name_is_taken_while_another_gets_its_object_and_that_is_not_copied_again() {
    for durability in [Durability::Through, Durability::Async] {
        for is_replaced in [false, true] {
            let (bed, late, f) = copied_and_not_answered(durability).await;
            if is_replaced {
                bed.rename("/m/other", "/m/f").await.expect("nothing is waited for");
            } else {
                let removal = bed.removal("/m/f", false).await;
                let answers = [removal.clone(), removal].map(|removal| bed.writing().remove(removal));
                let [first, again] = answers;
                assert_eq!(first.await.expect("nothing is waited for").1, 1, "a name is left");
                again.await.expect("it was answered before");
            }
            assert_eq!(bed.seen("/m/g").await, Some((f, 1)));
            assert_eq!(bed.list("/m").await.expect("listed"), if is_replaced { ["f", "g"] } else { ["g", "other"] });
            late.release();
            bed.persisted().await;
            assert_eq!((bed.object("g").await, late.copies_to("g")), ("f".to_owned(), 1), "{durability:?}");
            assert_eq!(bed.keys().await, if is_replaced { ["f", "g"] } else { ["g", "other"] });
            let bed = bed.restart().await;
            bed.advance(INTERVAL);
            assert_eq!(bed.seen("/m/g").await, Some((f, 1)));
            let found = bed.find("/m/f").await.expect("asked").map(|attr| attr.inode);
            assert!(found != Some(f) && found.is_some() == is_replaced, "{found:?}");
        }
    }
}

#[tokio::test]
async fn a_copy_for_a_name_that_is_the_files_own_by_now_is_given_up_when_that_changes() {
    for durability in [Durability::Through, Durability::Async] {
        for change in ["removed", "renamed", "written", "linked", "in-a-tree"] {
            let (bed, late, f) = copied_and_not_answered(durability).await;
            bed.unlink("/m/f").await.expect("nothing is waited for");
            let expected: &[(&str, &str)] = match change {
                "removed" => {
                    bed.unlink("/m/g").await.expect("removed");
                    &[]
                }
                "renamed" => {
                    bed.rename("/m/g", "/m/h").await.expect("renamed");
                    &[("h", "f")]
                }
                "written" => {
                    let (same, _) = if durability == Durability::Through {
                        (bed.write("/m/g", "anew").await, ())
                    } else {
                        (bed.hold("/m/g", "anew").await.0, ())
                    };
                    assert_eq!(same, f);
                    &[("g", "anew")]
                }
                "linked" => {
                    bed.link("/m/g", "/m/h").await;
                    &[("g", "f"), ("h", "f")]
                }
                _ => {
                    bed.unlink("/m/g").await.expect("removed");
                    bed.make_directory("/m/g").await.expect("made");
                    bed.rename("/m/other", "/m/g/x").await.expect("renamed");
                    &[("g/x", "other")]
                }
            };
            late.release();
            bed.persisted().await;
            let mut found = Vec::new();
            for key in bed.keys().await.into_iter().filter(|key| key != "other" && !key.ends_with('/')) {
                found.push((key.clone(), bed.object(&key).await));
            }
            let expected: Vec<_> = expected.iter().map(|(key, body)| ((*key).to_owned(), (*body).to_owned())).collect();
            assert_eq!(found, expected, "{durability:?}, {change}");
        }
    }
}

#[tokio::test]
async fn what_a_master_copied_and_did_not_live_to_note_is_not_left() {
    for is_removed in [false, true] {
        let (bed, _late, f) = copied_and_not_answered(Durability::Through).await;
        bed.unlink("/m/f").await.expect("nothing is waited for");
        let bed = bed.restart().await;
        if is_removed {
            bed.unlink("/m/g").await.expect("removed");
        } else {
            assert_eq!(bed.seen("/m/g").await, Some((f, 1)));
        }
        bed.persisted().await;
        assert_eq!(bed.keys().await, if is_removed { vec!["other"] } else { vec!["g", "other"] });
        if !is_removed {
            assert_eq!(bed.object("g").await, "f");
        }
    }
}
