//! Moves in a store whose listings show nothing of what lies below an object.

use std::sync::Arc;

use headpond_ufs::{Fault, Memory, Op, UfsErrorKind};

use super::{INTERVAL, Rig, writing::keys_of};

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
