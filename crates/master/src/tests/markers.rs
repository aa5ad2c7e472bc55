//! Markers of directories that others have taken the names of, before the store had anything of those.

use std::sync::Arc;

use headpond_namespace::Durability;
use headpond_types::InodeId;
use headpond_ufs::{Fault, Op, UfsErrorKind};

use super::{
    INTERVAL,
    holders::{Bed, persistence},
    plain::{Late, Plain},
};

/// With these markers in the store.
async fn bed(durability: Durability, markers: &[&str]) -> Bed {
    let bed = Bed::new(durability, &[]).await;
    for marker in markers {
        bed.put(marker, "").await;
    }
    assert_eq!(bed.shown().await, markers);
    bed
}

impl Bed {
    /// What a listing of everything shows when all of it is asked for anew.
    async fn shown(&self) -> Vec<String> {
        self.advance(INTERVAL);
        let mut shown = self.tree("/m").await.expect("listed");
        shown.sort_unstable();
        shown
    }

    /// Waits until a directory has its marker, or until that was begun and something else was waited for as long as it takes.
    async fn marker_comes(&self, dir: InodeId) {
        let dirty = || self.master.core.catalog.snapshot().and_then(|snapshot| snapshot.dirty(dir)).expect("reads");
        while dirty().is_some_and(|dirty| dirty.key.is_none()) {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_marker_is_not_left_to_a_directory_that_goes_before_it_has_one() {
    for is_renamed in [false, true] {
        let bed = bed(Durability::Scratch, &["d/", "d/sub/"]).await;
        bed.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Transient));
        bed.rename("/m/d", "/m/to").await.expect("renamed");
        bed.make_directory("/m/d").await.expect("made");
        bed.make_directory("/m/d/sub").await.expect("made");
        bed.store.heal();
        bed.master.core.relocator.retry_now();
        bed.persisted().await;
        let expected = if is_renamed {
            bed.rename("/m/d", "/m/new").await.expect("renamed");
            vec!["new/", "new/sub/", "to/", "to/sub/"]
        } else {
            bed.remove_directory("/m/d/sub").await.expect("removed");
            bed.remove_directory("/m/d").await.expect("removed");
            vec!["to/", "to/sub/"]
        };
        bed.persisted().await;
        assert_eq!(bed.keys().await, ["to/", "to/sub/"]);
        assert_eq!(bed.shown().await, expected);
    }
}

#[tokio::test]
async fn a_marker_of_what_was_removed_with_all_below_is_not_left_to_a_directory_that_goes_before_it_has_one() {
    let bed = bed(Durability::Scratch, &["d/", "d/sub/"]).await;
    bed.store.chance(Some(Op::Delete), 1.0, Fault::Error(UfsErrorKind::Transient));
    bed.remove_tree("/m/d").await.expect("removed");
    bed.make_directory("/m/d").await.expect("made");
    bed.make_directory("/m/d/sub").await.expect("made");
    bed.store.heal();
    bed.master.core.relocator.retry_now();
    bed.persisted().await;
    bed.rename("/m/d", "/m/new").await.expect("renamed");
    bed.persisted().await;
    assert_eq!(bed.keys().await, [""; 0]);
    assert_eq!(bed.shown().await, ["new/", "new/sub/"]);
}

#[tokio::test]
async fn a_marker_is_not_left_to_a_directory_that_replaced_its_own_and_goes_on() {
    for is_removed in [false, true] {
        let bed = bed(Durability::Scratch, &["d/"]).await;
        bed.make_directory("/m/new").await.expect("made");
        bed.rename("/m/new", "/m/d").await.expect("renamed onto the other");
        let expected = if is_removed {
            bed.remove_directory("/m/d").await.expect("removed");
            vec![]
        } else {
            bed.rename("/m/d", "/m/new").await.expect("renamed on");
            vec!["new/"]
        };
        bed.persisted().await;
        assert_eq!(bed.keys().await, [""; 0]);
        assert_eq!(bed.shown().await, expected);
    }
}

#[tokio::test]
async fn a_directory_that_replaced_another_has_a_marker_in_the_end() {
    let bed = bed(Durability::Async, &["d/"]).await;
    bed.make_directory("/m/new").await.expect("made");
    bed.rename("/m/new", "/m/d").await.expect("renamed onto the other");
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["d/"]);
    assert_eq!(bed.shown().await, ["d/"]);
}

#[tokio::test]
async fn a_marker_that_comes_while_a_relocation_looks_for_what_is_left_is_not_left() {
    let late = Arc::new(Late::default());
    let bed = Bed::over(persistence(Durability::Async), &["d/f"], |store| Plain::late(store, &late)).await;
    assert_eq!(bed.shown().await, ["d/", "d/f"]);
    late.arm();
    bed.rename("/m/d", "/m/to").await.expect("renamed");
    // It looked, and found nothing.
    late.answered().await;
    let sub = bed.make_directory("/m/to/sub").await.expect("made").attr.expect("is there").inode;
    bed.marker_comes(sub).await;
    late.release();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["to/f", "to/sub/"]);
    assert_eq!(bed.shown().await, ["to/", "to/f", "to/sub/"]);
}
