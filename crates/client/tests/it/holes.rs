//! Stretches of files that are made zeros.

use headpond_types::InodeId;

use crate::fakes::{Cluster, FakeSocket, bytes, file};

const OLD: u64 = 5_000_001;

#[tokio::test]
async fn a_hole_reads_as_zeros_and_ends_with_the_file() {
    let folder = tempfile::tempdir().expect("a directory");
    for local in [false, true] {
        let _socket = FakeSocket::listen(folder.path());
        let cluster = if local { Cluster::local(folder.path()).await } else { Cluster::start(1).await };
        cluster.master.put(1, "f", file(7, OLD));
        let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
        writer.zero(OLD, 10).await.expect("nothing to do");
        assert!(!writer.is_dirty());
        writer.zero(1_000, 2_500_000).await.expect("made");
        writer.zero(OLD - 1, u64::MAX).await.expect("made");
        let mut expected = bytes(0..OLD);
        expected[1_000..2_501_000].fill(0);
        expected[5_000_000] = 0;
        assert_eq!(writer.length(), OLD);
        assert!(writer.read_at(0, 6_000_000).await.expect("read") == expected, "local: {local}");
        assert!(writer.is_dirty());
        writer.persist(true).await.expect("persisted");
        let stored: Vec<_> = cluster.workers.iter().flat_map(|worker| worker.state().staging.stored.clone()).collect();
        assert!(stored == [expected], "local: {local}");
    }
}
