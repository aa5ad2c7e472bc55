//! Stretches of files that hold nothing.

use headpond_client::Stretch;
use headpond_types::InodeId;

use crate::{
    fakes::{Cluster, FakeSocket, bytes, file},
    writing::create,
};

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

#[tokio::test]
async fn holes_are_found_where_the_staged_file_is_on_this_node() {
    const HOLE: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("a directory");
    for local in [false, true] {
        let _socket = FakeSocket::listen(folder.path());
        let cluster = if local { Cluster::local(folder.path()).await } else { Cluster::start(1).await };
        let writer = create(&cluster, "f").await;
        let next = async |offset, what| writer.next_stretch(offset, what).await.expect("found");
        assert_eq!((next(0, Stretch::Data).await, next(0, Stretch::Hole).await), (None, None), "it is empty");
        writer.write_at(HOLE, vec![1; 4096].into()).await.expect("written");
        writer.set_length(3 * HOLE).await.expect("longer");
        let (length, data) = (3 * HOLE, HOLE + 4096);
        let expected = if local {
            [Some(HOLE), Some(0), Some(data), None]
        } else {
            [Some(0), Some(length), Some(length), Some(2 * HOLE)]
        };
        let found = [
            next(0, Stretch::Data).await,
            next(0, Stretch::Hole).await,
            next(HOLE, Stretch::Hole).await,
            next(2 * HOLE, Stretch::Data).await,
        ];
        assert_eq!(found, expected, "local: {local}");
        assert_eq!((next(length, Stretch::Data).await, next(length, Stretch::Hole).await), (None, None));
    }
}

#[tokio::test]
async fn a_version_that_is_not_changed_yet_is_all_data() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, OLD));
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    assert_eq!(writer.next_stretch(5, Stretch::Data).await.expect("found"), Some(5));
    assert_eq!(writer.next_stretch(5, Stretch::Hole).await.expect("found"), Some(OLD));
    assert!(cluster.workers[0].state().staging.calls.is_empty());
}
