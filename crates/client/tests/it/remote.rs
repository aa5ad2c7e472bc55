//! Reading from workers over the network.

use std::time::Duration;

use futures::TryStreamExt;
use headpond_client::ClientConfig;
use headpond_types::{Attr, BLOCK_SIZE, ContentId, ErrorKind, InodeId};

use crate::fakes::{Behaviour, Cluster, bytes, config, directory, file};

#[tokio::test]
async fn bytes_come_from_the_blocks_owner() {
    let cluster = Cluster::start(3).await;
    let attr = file(7, 100_000);
    cluster.master.put(1, "a", attr.clone());
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    assert_eq!(open.length(), 100_000);
    assert!(open.local().is_none());
    assert_eq!(open.read_at(5, 50_000).await.expect("read"), bytes(5..50_005));
    assert_eq!(open.read_at(99_990, 50).await.expect("read"), bytes(99_990..100_000));
    assert!(open.read_at(100_000, 50).await.expect("past the end").is_empty());
    assert_eq!(cluster.owner(&attr).await.reads(), 2);
    let reads: usize = cluster.workers.iter().map(|worker| worker.state().reads.len()).sum();
    assert_eq!(reads, 2);
}

#[tokio::test]
async fn a_range_over_two_blocks_asks_both_owners() {
    let cluster = Cluster::start(3).await;
    let attr = file(7, 2 * BLOCK_SIZE);
    cluster.master.put(1, "a", attr.clone());
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let read = open.read_at(BLOCK_SIZE - 10, 20).await.expect("read");
    assert_eq!(read, bytes(BLOCK_SIZE - 10..BLOCK_SIZE + 10));
    let ring = cluster.client.ring().await.expect("a ring");
    for (block, piece) in [(0, BLOCK_SIZE - 10..BLOCK_SIZE), (1, BLOCK_SIZE..BLOCK_SIZE + 10)] {
        let owner = ring.owner(open.content(), block).expect("a worker").id.0 as usize - 1;
        let asked = cluster.workers[owner].state();
        assert!(asked.reads.iter().any(|read| read.ranges == [piece.clone().into()]), "{:?}", asked.reads);
    }
}

#[tokio::test]
async fn the_next_on_the_ring_takes_over() {
    for behaviour in [Behaviour::Fail(ErrorKind::Unavailable), Behaviour::Cut, Behaviour::Misplace] {
        let cluster = Cluster::start(3).await;
        let attr = file(7, 100_000);
        cluster.master.put(1, "a", attr.clone());
        let open = cluster.client.open(InodeId(7)).await.expect("opened");
        cluster.owner(&attr).await.behave(behaviour);
        assert_eq!(open.read_at(0, 100_000).await.expect("read"), bytes(0..100_000), "{behaviour:?}");
        assert_eq!(cluster.owner(&attr).await.reads(), 1);
        assert_eq!(open.read_at(3, 10).await.expect("read"), bytes(3..13));
        assert_eq!(cluster.owner(&attr).await.reads(), 1, "who failed is not asked again at once");
    }
}

#[tokio::test]
async fn a_worker_that_hangs_is_left_for_another() {
    let short = ClientConfig { read_timeout: Duration::from_secs(1), ..config() };
    let cluster = Cluster::build(2, None, short).await;
    let attr = file(7, 100_000);
    cluster.master.put(1, "a", attr.clone());
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.owner(&attr).await.behave(Behaviour::Hang);
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));

    cluster.workers.iter().for_each(|worker| worker.behave(Behaviour::Hang));
    let error = open.read_at(0, 10).await.expect_err("all hang");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_worker_that_recovers_within_the_deadline_is_waited_for() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.workers[0].behave(Behaviour::FailOnce(ErrorKind::Unavailable));
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    assert_eq!(cluster.workers[0].reads(), 2);
}

#[tokio::test]
async fn without_workers_the_error_says_so() {
    let short = ClientConfig { read_timeout: Duration::from_millis(200), ..config() };
    let cluster = Cluster::build(0, None, short).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let error = open.read_at(0, 10).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no worker is live"), "{error}");
}

#[tokio::test]
async fn a_version_that_went_is_stale_and_the_next_open_sees_the_new_one() {
    let cluster = Cluster::start(2).await;
    let attr = file(7, 100);
    cluster.master.put(1, "a", attr.clone());
    let name = headpond_types::Name::new("a").expect("a name");
    cluster.client.lookup(InodeId::ROOT, &name).await.expect("found");
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.owner(&attr).await.behave(Behaviour::Fail(ErrorKind::Stale));
    cluster.master.state().replacements.insert(7, Some(file(8, 200)));

    let error = open.read_at(0, 10).await.expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Stale);
    let others: usize = cluster.workers.iter().map(super::fakes::FakeWorker::reads).sum();
    assert_eq!(others, 1, "no other worker would do better");
    assert!(cluster.client.cached_open(InodeId(7)).is_none());
    assert!(cluster.client.cached_lookup(InodeId::ROOT, b"a").is_none());

    // The master believed the old entry to be fresh; the client knew better and had the under store asked.
    assert_eq!(cluster.master.calls("open refresh=true"), 1);
    let found = cluster.client.lookup(InodeId::ROOT, &name).await.expect("found");
    assert_eq!(found.attr.expect("there").inode, InodeId(8));
    assert_eq!(cluster.client.open(InodeId(8)).await.expect("opened").length(), 200);
}

#[tokio::test]
async fn an_open_by_the_old_inode_is_stale_too() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.workers[0].behave(Behaviour::Fail(ErrorKind::Stale));
    cluster.master.state().replacements.insert(7, Some(file(8, 200)));
    open.read_at(0, 10).await.expect_err("replaced");
    let error = cluster.client.open(InodeId(7)).await.expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn a_refused_grant_is_renewed_once() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.workers[0].behave(Behaviour::FailOnce(ErrorKind::PermissionDenied));
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    assert_eq!(cluster.master.calls("open"), 2);

    cluster.workers[0].behave(Behaviour::Fail(ErrorKind::PermissionDenied));
    let error = open.read_at(0, 10).await.expect_err("refused again");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(cluster.master.calls("open"), 3);
}

#[tokio::test]
async fn what_was_persisted_or_moved_meanwhile_is_read_with_another_grant() {
    for dirty in [true, false] {
        let cluster = Cluster::start(1).await;
        cluster.master.put(1, "a", Attr { dirty, ..file(7, 100) });
        let open = cluster.client.open(InodeId(7)).await.expect("opened");
        cluster.workers[0].behave(Behaviour::FailOnce(ErrorKind::Stale));
        assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
        assert_eq!(cluster.master.calls("open"), 2);

        let open = cluster.client.open(InodeId(7)).await.expect("opened");
        let asked = cluster.master.calls("open");
        cluster.workers[0].behave(Behaviour::Fail(ErrorKind::Stale));
        let error = open.read_at(0, 10).await.expect_err("stale with any grant");
        assert_eq!(error.kind(), ErrorKind::Stale);
        assert_eq!(cluster.master.calls("open") - asked, 3, "an object is not moved for ever");
    }
}

#[tokio::test]
async fn a_grant_for_other_bytes_is_not_used() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.master.put(1, "a", Attr { content: Some(ContentId(99)), ..file(7, 100) });
    cluster.workers[0].behave(Behaviour::FailOnce(ErrorKind::PermissionDenied));
    let error = open.read_at(0, 10).await.expect_err("another version");
    assert_eq!(error.kind(), ErrorKind::Stale);
    assert_eq!(cluster.workers[0].reads(), 1, "nobody is asked for the new version's bytes");
}

#[tokio::test]
async fn a_grant_is_renewed_at_half_of_its_life_and_used_until_its_end() {
    let cluster = Cluster::start(1).await;
    cluster.master.state().grant_valid_ms = 0;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.master.state().grant_valid_ms = 3_600_000;
    for _ in 0..2 {
        assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    }
    assert_eq!(cluster.master.calls("open"), 2);
}

#[tokio::test]
async fn reads_of_an_open_file_need_no_master() {
    let mut cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.kill_master().await;
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    let again = cluster.client.open(InodeId(7)).await.expect("known");
    assert_eq!(again.read_at(5, 10).await.expect("read"), bytes(5..15));
}

#[tokio::test]
async fn a_valid_open_asks_nobody() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let first = cluster.client.open(InodeId(7)).await.expect("opened");
    let again = cluster.client.open(InodeId(7)).await.expect("opened");
    let cached = cluster.client.cached_open(InodeId(7)).expect("in memory");
    assert!(std::sync::Arc::ptr_eq(&first, &again) && std::sync::Arc::ptr_eq(&first, &cached));
    assert_eq!(cluster.master.calls("open"), 1);
}

#[tokio::test]
async fn expired_attributes_are_revalidated_by_the_open() {
    let cluster = Cluster::start(1).await;
    cluster.master.state().valid_ms = 0;
    cluster.master.put(1, "a", file(7, 100));
    let first = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(cluster.client.cached_open(InodeId(7)).is_none());
    let again = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    assert_eq!(cluster.master.calls(""), 2);
}

#[tokio::test]
async fn a_directory_cannot_be_read() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "d", directory(6));
    let error = cluster.client.open(InodeId(6)).await.expect_err("a directory");
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
}

#[tokio::test]
async fn near_ranges_are_one_request() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 10_000_000));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let ranges = [9_000_000..9_000_100, 50..60, 0..20, 9_999_999..20_000_000, 5..5];
    let read = open.read_ranges(&ranges).await.expect("read");
    assert_eq!(read.len(), 5);
    for (range, read) in ranges.into_iter().zip(read) {
        assert_eq!(read, bytes(range.start..range.end.min(10_000_000)));
    }
    assert_eq!(cluster.workers[0].reads(), 3);
}

#[tokio::test]
async fn a_stream_gives_every_byte_once_through_failures() {
    let cluster = Cluster::start(3).await;
    let length = BLOCK_SIZE + 3_000_000;
    let attr = file(7, length);
    cluster.master.put(1, "a", attr.clone());
    cluster.owner(&attr).await.behave(Behaviour::Cut);
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let start = BLOCK_SIZE - 1_000_000;
    let chunks: Vec<_> = open.read_stream(start..length + 5).try_collect().await.expect("read");
    let whole: Vec<u8> = chunks.into_iter().flatten().collect();
    assert!(whole == bytes(start..length), "other bytes");
}

#[tokio::test]
async fn a_stream_ends_with_its_first_error() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    cluster.workers[0].behave(Behaviour::Fail(ErrorKind::StoreRefused));
    let error = open.read_stream(0..100).try_collect::<Vec<_>>().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StoreRefused);
}

#[tokio::test]
async fn a_sequential_reader_has_more_made_ready() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 32 << 20));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    for index in 0..3 {
        open.read_at(index << 20, 1 << 20).await.expect("read");
    }
    // One of the pieces goes along with the read, the others apart.
    let ahead = || {
        let state = cluster.workers[0].state();
        let mut ahead: Vec<_> = state.reads.iter().filter_map(|read| read.readahead).collect();
        ahead.sort_by_key(|piece| piece.start);
        ahead.into_iter().map(|piece| (piece.start >> 20, piece.end >> 20)).collect::<Vec<_>>()
    };
    let all = [(3, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14)];
    let all_asked = async {
        while ahead() != all {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_asked).await.expect("in time");
}

#[tokio::test]
async fn nothing_that_is_shown_holds_a_grant() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(7, 100));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    open.read_at(0, 1).await.expect("read");
    let grant = cluster.workers[0].state().reads[0].grant.clone().expect("a grant");
    let shown = format!("{:?} {open:?}", cluster.client);
    assert!(!shown.contains("signature") && !shown.contains(&format!("{:?}", grant.signature)), "{shown}");
}
