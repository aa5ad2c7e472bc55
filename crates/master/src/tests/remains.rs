//! What removed mounts leave behind.

use std::time::Duration;

use headpond_types::RequestId;

use super::Rig;

/// More rows than two steps clear away.
const FILES: usize = 9_000;

#[tokio::test]
async fn the_rows_of_a_removed_mount_go_away_by_themselves_in_steps() {
    let keys: Vec<_> = (0..FILES).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(rig.tree("/m").await.expect("listed").len(), FILES + 7);
    let core = &rig.master.core;
    let inodes = || core.catalog.snapshot().expect("a snapshot").counts().expect("counted").inodes;
    assert!(inodes() > FILES as u64);

    core.mounting.remove(RequestId(1), "/m".parse().expect("a path")).await.expect("removed");
    let gone = async {
        // Each step is counted a moment after it is seen.
        while core.catalog.snapshot().expect("a snapshot").has_remains() || core.metrics.sweeps.get() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("swept, in steps none of which takes long");
    assert!(inodes() <= 2, "{} inodes are left", inodes());
}
