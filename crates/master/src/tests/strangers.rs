//! Markers that somebody else puts where objects are moved away from.

use std::time::Duration;

use bytes::Bytes;
use headpond_ufs::{Fault, Key, Op, Precondition, UfsErrorKind, UnderStore};

use super::{INTERVAL, Rig, plain::Plain};
use crate::write::marker_mark;

impl Rig {
    /// A marker that we made once.
    async fn put_our_marker(&self, key: &str) {
        let key = Key::from(key.to_owned());
        let label = Some(marker_mark(&key)).into();
        self.store.put_as(&key, Bytes::new(), &Precondition::None, label).await.expect("stored");
    }

    /// Waits until this is the tree, whatever the order. A listing at the very moment at which a relocation ended counts for nothing.
    async fn come_to_show(&self, tree: &[&str]) {
        let mut expected = tree.to_vec();
        expected.sort_unstable();
        let mut shown = Vec::new();
        for _ in 0..100 {
            self.advance(INTERVAL);
            shown = self.tree("/m").await.expect("listed");
            shown.sort_unstable();
            if shown == expected {
                return;
            }
        }
        assert_eq!(shown, expected);
    }

    /// Waits until what stopped is over.
    async fn over(&self) {
        let relocator = &self.master.core.relocator;
        let over = async {
            while relocator.pending() > 0 || !relocator.littered().expect("readable").is_empty() {
                relocator.retry_now();
                tokio::task::yield_now().await;
            }
        };
        let over = tokio::time::timeout(Duration::from_secs(20), over).await;
        over.unwrap_or_else(|_| panic!("{:?}", relocator.problems()));
    }
}

/// A directory that is renamed to `new`, and nothing is moved yet.
async fn moving() -> Rig {
    let rig = Rig::with(Some(INTERVAL), &["old/a", "old/sub/b", "old/was/"], false, Plain::in_parts).await;
    rig.tree("/m").await.expect("listed");
    rig.put("old/was/", "").await;
    rig.make_directory("/m/old/made").await.expect("made");
    rig.store.chance(Some(Op::CreateMultipart), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig
}

#[tokio::test]
async fn a_marker_of_somebody_else_stays_where_objects_were_moved_away_from() {
    let rig = moving().await;
    rig.put("old/theirs/", "").await;
    rig.put("old/sub/deeper/", "").await;
    rig.put_our_marker("old/ours/").await;
    rig.store.heal();
    rig.over().await;
    let mut keys = rig.keys().await;
    keys.retain(|key| key.starts_with("old"));
    assert_eq!(keys, ["old/sub/deeper/", "old/theirs/"]);
    let [old, new] = [["", "sub/", "sub/deeper/", "theirs/"], ["", "made/", "sub/", "was/"]];
    let mut tree: Vec<_> = old.iter().map(|name| format!("old/{name}")).collect();
    tree.extend(new.iter().map(|name| format!("new/{name}")));
    tree.extend(["new/a", "new/sub/b"].map(str::to_owned));
    rig.come_to_show(&tree.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_marker_of_somebody_else_stays_where_a_directory_was_removed_while_it_moved() {
    let rig = moving().await;
    rig.put("old/theirs/", "").await;
    rig.put_our_marker("old/ours/").await;
    rig.unlink("/m/new/a").await.expect("removed");
    rig.unlink("/m/new/sub/b").await.expect("removed");
    for dir in ["sub", "was", "made"] {
        rig.remove_directory(&format!("/m/new/{dir}")).await.expect("removed");
    }
    rig.remove_directory("/m/new").await.expect("removed");
    rig.store.heal();
    rig.over().await;
    assert_eq!(rig.keys().await, ["old/theirs/"]);
    rig.come_to_show(&["old/", "old/theirs/"]).await;
}
