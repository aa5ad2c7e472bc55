//! The same behind objects that are still on their way to where they were renamed.

use headpond_namespace::Durability;
use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::Bed;

impl Bed {
    /// No object is copied until [`Bed::moves_go_on`].
    fn moves_stop(&self) {
        self.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Transient));
    }

    async fn moves_go_on(&self) {
        self.store.heal();
        while self.master.core.relocator.pending() > 0 {
            self.master.core.relocator.retry_now();
            tokio::task::yield_now().await;
        }
        self.persisted().await;
    }
}

#[tokio::test]
async fn directories_change_names_although_one_move_waits_for_the_other() {
    let bed = Bed::new(Durability::Async, &["a/f", "b/g"]).await;
    bed.tree("/m").await.expect("listed");
    bed.moves_stop();
    for (from, to) in [("/m/a", "/m/t"), ("/m/b", "/m/a"), ("/m/t", "/m/b")] {
        bed.rename(from, to).await.expect("does not wait");
    }
    bed.moves_go_on().await;
    assert_eq!(bed.keys().await, ["a/g", "b/f"]);
    assert_eq!(bed.tree("/m").await.expect("listed"), ["a/", "b/", "a/g", "b/f"]);
}

#[tokio::test]
async fn what_is_held_where_others_still_lie_is_put_aside_and_moved() {
    let bed = Bed::new(Durability::Async, &["a/f"]).await;
    bed.tree("/m").await.expect("listed");
    bed.moves_stop();
    bed.rename("/m/a", "/m/b").await.expect("renamed");
    bed.make_directory("/m/a").await.expect("made");
    let (held, _) = bed.hold("/m/a/f", "new").await;
    bed.hold("/m/_SUCCESS", "").await;
    while bed.due(held).is_some() {
        tokio::task::yield_now().await;
    }
    assert!(bed.keys().await.contains(&format!(".headpond/displaced/{held}")));
    assert_eq!(bed.tree("/m").await.expect("listed"), ["_SUCCESS", "a/", "b/", "a/f", "b/f"]);
    bed.hold("/m/plain", "waits for nothing").await;
    while !bed.keys().await.contains(&"plain".to_owned()) {
        tokio::task::yield_now().await;
    }
    assert!(!bed.keys().await.contains(&"_SUCCESS".to_owned()), "nothing of before is where readers look");
    bed.moves_go_on().await;
    let keys = bed.keys().await;
    assert_eq!(keys.iter().filter(|key| !key.ends_with('/')).collect::<Vec<_>>(), ["_SUCCESS", "a/f", "b/f", "plain"]);
    assert_eq!((bed.object("a/f").await, bed.object("b/f").await), ("new".to_owned(), "a/f".to_owned()));
}

#[tokio::test]
async fn a_commit_between_two_renames_of_a_directory_comes_after_its_files() {
    let bed = Bed::new(Durability::Async, &["a/f"]).await;
    bed.tree("/m").await.expect("listed");
    bed.moves_stop();
    bed.rename("/m/a", "/m/b").await.expect("renamed");
    bed.hold("/m/_SUCCESS", "").await;
    bed.rename("/m/b", "/m/c").await.expect("renamed on");
    bed.hold("/m/plain", "waits for nothing").await;
    while !bed.keys().await.contains(&"plain".to_owned()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.keys().await, ["a/f", "plain"]);
    bed.moves_go_on().await;
    assert_eq!(bed.keys().await, ["_SUCCESS", "c/f", "plain"]);
}

#[tokio::test]
async fn what_was_removed_makes_way_for_what_a_commit_before_it_waits_for() {
    let bed = Bed::new(Durability::Async, &["x", "y"]).await;
    bed.tree("/m").await.expect("listed");
    bed.moves_stop();
    bed.rename("/m/x", "/m/z").await.expect("renamed");
    bed.hold("/m/_SUCCESS", "").await;
    bed.unlink("/m/y").await.expect("removed");
    bed.rename("/m/z", "/m/y").await.expect("renamed on");
    bed.moves_go_on().await;
    assert_eq!(
        (bed.keys().await, bed.object("y").await),
        (vec!["_SUCCESS".to_owned(), "y".to_owned()], "x".to_owned())
    );
}

#[tokio::test]
async fn a_directory_that_was_renamed_before_the_one_around_it_holds_nothing_up() {
    let bed = Bed::new(Durability::Async, &["a/d/f", "b/g"]).await;
    bed.tree("/m").await.expect("listed");
    bed.holder.close();
    bed.hold("/m/first", "first").await;
    bed.rename("/m/a/d", "/m/a/e").await.expect("renamed");
    bed.rename("/m/b", "/m/c").await.expect("renamed");
    bed.rename("/m/a", "/m/d").await.expect("renamed");
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["c/g", "d/", "d/e/f", "first"]);
}
