//! Moves in a store whose listings show nothing of what lies below an object.

use std::sync::Arc;

use headpond_namespace::Durability;
use headpond_types::InodeId;
use headpond_ufs::{Fault, Memory, Op, UfsErrorKind};

use super::{
    INTERVAL, Rig,
    holders::{Bed, persistence},
    writing::keys_of,
};

/// Objects and markers, all of them empty but for what has `full` in its name; what has bytes cannot be copied.
async fn stuck(keys: &[&str]) -> (Rig, Memory) {
    let all = Memory::named(&format!("covered-{}", rand::random::<u64>()));
    let rig = Rig::with(Some(INTERVAL), &[], false, |_| Arc::new(all.clone().hiding())).await;
    for key in keys {
        rig.put(key, if key.contains("full") { "bytes" } else { "" }).await;
    }
    rig.come_later();
    rig.tree("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Transient));
    (rig, all)
}

/// Waits until all but so many moves have ended, and one has stopped.
async fn only(rig: &Rig, pending: u64) {
    let relocator = &rig.master.core.relocator;
    while relocator.pending() > pending || relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn settled(rig: &Rig) {
    rig.store.heal();
    let relocator = &rig.master.core.relocator;
    while relocator.pending() > 0 {
        relocator.retry_now();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_directory_is_whole_while_the_file_that_had_its_name_is_still_there() {
    let (rig, all) = stuck(&["d/e/", "d/e/g/", "full"]).await;
    let inode = rig.inode("/m/d/e").await;
    rig.exchange("/m/d", "/m/full").await.expect("exchanged");
    only(&rig, 2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["d", "full/", "full/e/", "full/e/g/"]);
    assert_eq!(rig.inode("/m/full/e").await, inode);
    settled(&rig).await;
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["d", "full/", "full/e/", "full/e/g/"]);
    assert_eq!(rig.inode("/m/full/e").await, inode);
    assert_eq!(keys_of(&all).await, ["d", "full/e/", "full/e/g/"]);
}

#[tokio::test]
async fn a_directory_leaves_nothing_below_the_file_that_has_its_name_by_then() {
    let (rig, all) = stuck(&["d/e/", "d/full", "f"]).await;
    rig.rename("/m/d", "/m/to").await.expect("renamed");
    rig.rename("/m/f", "/m/d").await.expect("renamed");
    only(&rig, 1).await;
    assert_eq!(keys_of(&all).await, ["d", "d/e/", "d/full"]);
    settled(&rig).await;
    assert_eq!(keys_of(&all).await, ["d", "to/e/", "to/full"]);
}

#[tokio::test]
async fn a_directory_leaves_nothing_below_a_file_that_took_the_name_of_one_in_it() {
    let (rig, all) = stuck(&["d/e/g/", "d/full", "f"]).await;
    rig.rename("/m/d", "/m/to").await.expect("renamed");
    rig.make_directory("/m/d").await.expect("made");
    rig.rename("/m/f", "/m/d/e").await.expect("renamed");
    only(&rig, 1).await;
    settled(&rig).await;
    assert_eq!(keys_of(&all).await, ["d/", "d/e", "to/", "to/e/g/", "to/full"]);
}

#[tokio::test]
async fn a_directory_that_is_removed_with_all_below_leaves_nothing_below_the_file_that_has_its_old_name() {
    let (rig, all) = stuck(&["d/e/g/", "d/full", "f"]).await;
    rig.rename("/m/d", "/m/to").await.expect("renamed");
    rig.rename("/m/f", "/m/d").await.expect("renamed");
    only(&rig, 1).await;
    rig.remove_tree("/m/to").await.expect("removed");
    settled(&rig).await;
    assert_eq!(keys_of(&all).await, ["d"]);
}

#[tokio::test]
async fn a_directory_is_whole_while_the_file_that_had_its_name_is_still_to_be_deleted() {
    let all = Memory::named(&format!("covered-{}", rand::random::<u64>()));
    let bed = Bed::over(persistence(Durability::Async), &["d"], |_| Arc::new(all.clone().hiding())).await;
    assert_eq!(bed.list("/m").await.expect("listed"), ["d"]);
    bed.holder.close();
    let (_, commit) = bed.hold("/m/_SUCCESS", "").await;
    bed.holder.lose(commit);
    bed.unlink("/m/d").await.expect("removed");
    bed.make_directory("/m/d").await.expect("made");
    let sub = bed.make_directory("/m/d/sub").await.expect("made").attr.expect("is there").inode;
    let (file, _) = bed.hold("/m/d/f", "bytes").await;
    bed.holder.open();
    let is_dirty = |inode: InodeId| bed.due(inode).is_some();
    while is_dirty(sub) || is_dirty(file) {
        tokio::task::yield_now().await;
    }
    let keys = keys_of(&all).await;
    assert!(["d", "d/f", "d/sub/"].iter().all(|key| keys.iter().any(|there| there == key)), "{keys:?}");
    for is_over in [false, true] {
        if is_over {
            bed.holder.hold(commit, "");
            bed.persisted().await;
            assert!(!keys_of(&all).await.contains(&"d".to_owned()));
        }
        bed.advance(INTERVAL);
        let mut tree = bed.tree("/m").await.expect("listed");
        tree.sort_unstable();
        assert_eq!(tree, ["_SUCCESS", "d/", "d/f", "d/sub/"]);
        assert_eq!((bed.inode("/m/d/f").await, bed.inode("/m/d/sub").await), (file, sub));
    }
}
