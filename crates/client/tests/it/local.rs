//! Reading through the worker of the client's node.

use std::{path::Path, sync::Arc, time::Duration};

use futures::TryStreamExt;
use headpond_client::ClientConfig;
use headpond_types::{ErrorKind, InodeId, PAGE_SIZE};

use crate::fakes::{Behaviour, Cluster, FakeSocket, bytes, config, file};

const BIG: u64 = 4 * PAGE_SIZE + 5;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

async fn start(path: &Path) -> (FakeSocket, Cluster) {
    let socket = FakeSocket::listen(path);
    let cluster = Cluster::local(path).await;
    cluster.master.put(1, "a", file(7, BIG));
    cluster.master.put(1, "small", file(8, 100));
    (socket, cluster)
}

#[tokio::test]
async fn a_complete_content_is_read_from_its_descriptor() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    socket.state().complete = true;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let local = open.local().expect("lent");
    assert!(local.is_complete());
    assert_eq!(local.file().metadata().expect("a file").len(), BIG);
    assert_eq!(open.read_at(3, 2_000_000).await.expect("read"), bytes(3..2_000_003));
    let mut buffer = vec![0; 100];
    let read = open.try_read_at(BIG - 10, &mut buffer).expect("at once");
    assert_eq!(buffer[..read], bytes(BIG - 10..BIG));
    assert!(socket.state().ensures.is_empty());
    assert_eq!(cluster.workers[0].reads(), 0);
}

/// A FUSE thread reads so; one that waited for a disk that hangs would be lost for everything else.
#[tokio::test]
async fn what_must_come_from_the_disk_is_not_waited_for() {
    // Not in a temporary directory, which may have no disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (socket, cluster) = start(folder.path()).await;
    socket.state().complete = true;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let local = open.local().expect("lent");
    let mut buffer = vec![0; 100];
    open.try_read_at(5, &mut buffer).expect("it was just written");
    assert_eq!(buffer, bytes(5..105));
    let tells = rustix::io::preadv2(
        local.file(),
        &mut [std::io::IoSliceMut::new(&mut [0])],
        0,
        rustix::io::ReadWriteFlags::NOWAIT,
    );
    if tells == Err(rustix::io::Errno::OPNOTSUPP) {
        return;
    }
    rustix::fs::fsync(local.file()).expect("written");
    rustix::fs::fadvise(local.file(), 0, None, rustix::fs::Advice::DontNeed).expect("dropped from memory");
    assert_eq!(open.try_read_at(5, &mut buffer), None);
    assert_eq!(open.read_at(5, 100).await.expect("read"), bytes(5..105));
}

#[tokio::test]
async fn a_small_content_comes_complete() {
    let folder = folder();
    let (_socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(8)).await.expect("opened");
    assert!(open.local().expect("lent").is_complete());
}

#[tokio::test]
async fn a_partial_content_is_asked_for_once() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let mut buffer = vec![0; 10];
    assert!(open.try_read_at(PAGE_SIZE + 5, &mut buffer).is_none());
    assert_eq!(open.read_at(PAGE_SIZE + 5, 10).await.expect("read"), bytes(PAGE_SIZE + 5..PAGE_SIZE + 15));
    assert_eq!(open.read_at(PAGE_SIZE, 1000).await.expect("read"), bytes(PAGE_SIZE..PAGE_SIZE + 1000));
    open.try_read_at(2 * PAGE_SIZE - 10, &mut buffer).expect("at once");
    assert_eq!(buffer, bytes(2 * PAGE_SIZE - 10..2 * PAGE_SIZE));
    let ensures: Vec<_> = socket.state().ensures.iter().flat_map(|ensure| ensure.ranges.clone()).collect();
    assert_eq!(ensures, [(PAGE_SIZE..2 * PAGE_SIZE).into()]);
    assert!(open.try_read_at(2 * PAGE_SIZE, &mut buffer).is_none());
}

#[tokio::test]
async fn a_content_that_others_completed_is_complete_at_the_next_open() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(cluster.client.cached_open(InodeId(7)).is_none());
    assert!(!open.local().expect("lent").is_complete());
    socket.state().complete = true;
    let again = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(Arc::ptr_eq(&open, &again) && open.local().expect("lent").is_complete());
    assert!(cluster.client.cached_open(InodeId(7)).is_some());
}

#[tokio::test]
async fn a_content_read_as_a_whole_is_complete() {
    let folder = folder();
    let (_socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    open.read_at(0, 5 << 20).await.expect("read");
    assert!(open.local().expect("lent").is_complete());
}

#[tokio::test]
async fn a_sequential_reader_has_more_made_ready() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    cluster.master.put(1, "long", file(9, 64 << 20));
    let open = cluster.client.open(InodeId(9)).await.expect("opened");
    for page in 0..3 {
        open.read_at(page * PAGE_SIZE, 1 << 20).await.expect("read");
    }
    let ahead: Vec<_> = socket.state().ensures.iter().filter_map(|ensure| ensure.readahead).collect();
    let pieces = [3, 4, 6, 8, 10, 12, 14].map(|mib| mib << 20);
    assert_eq!(ahead, pieces.windows(2).map(|ends| (ends[0]..ends[1]).into()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_descriptor_goes_back_when_nobody_has_it_open() {
    let folder = folder();
    let socket = FakeSocket::listen(folder.path());
    let config = ClientConfig { open_files: 0, ..config() };
    let cluster = Cluster::build(1, Some(folder.path()), config).await;
    cluster.master.put(1, "a", file(7, BIG));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let local = open.local().expect("lent");
    drop(open);
    assert!(socket.state().returned.is_empty());
    drop(local);
    socket.until(|state| state.returned == [1]).await;
}

#[tokio::test]
async fn a_recalled_content_goes_with_its_last_reader() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    socket.state().complete = true;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(cluster.client.cached_open(InodeId(7)).is_some());
    socket.recall(vec![1]);
    // The next open does not find it: it asks for a loan of its own.
    while cluster.client.cached_open(InodeId(7)).is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(open.read_at(0, 10).await.expect("still lent"), bytes(0..10));
    let again = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(!Arc::ptr_eq(&open, &again));
    assert_eq!(socket.state().lends, 2);
    assert!(socket.state().returned.is_empty());
    drop(open);
    socket.until(|state| state.returned == [1]).await;
}

#[tokio::test]
async fn a_dropped_content_goes_back_at_once_and_the_next_read_asks_for_it_anew() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    socket.state().complete = true;
    let (idle, open) = (InodeId(8), cluster.client.open(InodeId(7)).await.expect("opened"));
    drop(cluster.client.open(idle).await.expect("opened"));
    let kernel = open.local().expect("lent");
    socket.drop_lent(vec![1, 2]);
    // Nobody reads the one, the other is in the kernel's hands.
    socket.until(|state| state.returned == [2]).await;
    assert!(kernel.is_complete() && open.local().is_none());
    drop(kernel);
    socket.until(|state| state.returned == [2, 1]).await;
    while open.local().is_none() {
        assert_eq!(open.read_at(5, 10).await.expect("read"), bytes(5..15));
    }
    assert_eq!(socket.state().lends, 3);
}

#[tokio::test]
async fn a_broken_socket_is_read_around_and_comes_back() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    open.read_at(0, 10).await.expect("read");
    drop(socket);
    while open.local().is_some() {
        tokio::task::yield_now().await;
    }
    let mut buffer = [0; 10];
    assert!(open.try_read_at(0, &mut buffer).is_none(), "whoever starts next may punch holes");
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    assert_eq!(cluster.workers[0].reads(), 1);

    let socket = FakeSocket::listen(folder.path());
    while open.local().is_none() {
        assert_eq!(open.read_at(5, 10).await.expect("read"), bytes(5..15));
    }
    assert_eq!(socket.state().lends, 1);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_on_its_socket_is_read_around() {
    let folder = folder();
    let socket = FakeSocket::listen(folder.path());
    let short = ClientConfig { read_timeout: Duration::from_secs(1), ..config() };
    let cluster = Cluster::build(1, Some(folder.path()), short).await;
    cluster.master.put(1, "a", file(7, BIG));
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    socket.state().hang_ensuring = true;
    let read = tokio::time::timeout(Duration::from_secs(30), open.read_at(0, 10)).await;
    assert_eq!(read.expect("not for ever").expect("read"), bytes(0..10));
    assert_eq!(cluster.workers[0].reads(), 1);
}

#[tokio::test]
async fn what_cannot_be_lent_is_read_over_the_network() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    socket.state().refuse_lending = Some(ErrorKind::ResourceExhausted);
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    assert!(open.local().is_none());
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    assert_eq!(cluster.workers[0].reads(), 1);
}

#[tokio::test]
async fn what_cannot_be_cached_is_read_over_the_network() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    socket.state().refuse_ensuring = Some(ErrorKind::ResourceExhausted);
    assert_eq!(open.read_at(0, 10).await.expect("read"), bytes(0..10));
    assert_eq!(cluster.workers[0].reads(), 1);
}

#[tokio::test]
async fn a_stale_content_is_stale_here_too() {
    let folder = folder();
    let (socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    socket.state().refuse_ensuring = Some(ErrorKind::Stale);
    cluster.master.state().replacements.insert(7, Some(file(8, 200)));
    cluster.workers[0].behave(Behaviour::Hang);
    let error = open.read_at(0, 10).await.expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Stale);
    assert!(cluster.client.cached_open(InodeId(7)).is_none());

    socket.state().refuse_lending = Some(ErrorKind::Stale);
    let error = cluster.client.open(InodeId(7)).await.expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Stale);
}

#[tokio::test]
async fn a_stream_reads_the_descriptor() {
    let folder = folder();
    let (_socket, cluster) = start(folder.path()).await;
    let open = cluster.client.open(InodeId(7)).await.expect("opened");
    let chunks: Vec<_> = open.read_stream(7..BIG).try_collect().await.expect("read");
    let whole: Vec<u8> = chunks.into_iter().flatten().collect();
    assert!(whole == bytes(7..BIG), "other bytes");
    let ranges = open.read_ranges(&[0..5, BIG - 5..BIG]).await.expect("read");
    assert_eq!(ranges, [bytes(0..5), bytes(BIG - 5..BIG)]);
    assert_eq!(cluster.workers[0].reads(), 0);
}

#[tokio::test]
async fn the_socket_of_another_node_is_not_used() {
    let folder = folder();
    let socket = FakeSocket::listen(folder.path());
    for config in
        [ClientConfig { node: "elsewhere".to_owned(), ..config() }, ClientConfig { prefer_local: false, ..config() }]
    {
        let cluster = Cluster::build(1, Some(folder.path()), config).await;
        cluster.master.put(1, "a", file(7, BIG));
        let open = cluster.client.open(InodeId(7)).await.expect("opened");
        assert!(open.local().is_none());
    }
    assert_eq!(socket.state().lends, 0);
}
