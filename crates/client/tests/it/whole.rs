//! Load, free, presence and sizes.

use headpond_client::{Freed, LoadOptions};
use headpond_types::{BLOCK_SIZE, ErrorKind, InodeId, NsPath};

use crate::fakes::{Behaviour, Cluster, directory, file};

fn root() -> NsPath {
    NsPath::root()
}

#[tokio::test]
async fn a_load_reaches_every_block_at_its_owner() {
    let cluster = Cluster::start(3).await;
    for inode in 10..20 {
        cluster.master.put(1, &inode.to_string(), file(inode, 3 * BLOCK_SIZE + inode));
    }
    cluster.master.put(1, "empty", file(30, 0));
    let options = LoadOptions { recursive: true, ..LoadOptions::default() };
    let mut reports = 0;
    let done = cluster.client.load(root(), options, |_| reports += 1).await.expect("loaded");
    let bytes = (10..20).map(|inode| 3 * BLOCK_SIZE + inode).sum();
    assert_eq!((done.files_total, done.files_done, done.files_failed), (11, 11, 0));
    assert_eq!((done.bytes_total, done.bytes_done), (bytes, bytes));
    assert!(done.listed && reports > 0);
    let loaded: Vec<_> = cluster.workers.iter().map(|worker| worker.state().loads.clone()).collect();
    assert_eq!(loaded.iter().flatten().count(), 40);
    assert!(loaded.iter().all(|loads| !loads.is_empty()), "all of them own something");
}

#[tokio::test]
async fn a_failed_worker_is_loaded_around() {
    let cluster = Cluster::start(3).await;
    let attr = file(10, BLOCK_SIZE);
    cluster.master.put(1, "a", attr.clone());
    cluster.owner(&attr).await.behave(Behaviour::Fail(ErrorKind::Unavailable));
    let done = cluster.client.load(InodeId(10), LoadOptions::default(), |_| ()).await.expect("loaded");
    assert_eq!((done.files_done, done.bytes_done), (1, BLOCK_SIZE));
}

#[tokio::test]
async fn a_file_that_fails_is_named_and_stops_no_other() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "a", file(10, 5));
    cluster.workers[0].behave(Behaviour::Fail(ErrorKind::StoreRefused));
    let options = LoadOptions { recursive: true, ..LoadOptions::default() };
    let done = cluster.client.load(root(), options, |_| ()).await.expect("reported");
    assert_eq!((done.files_failed, done.bytes_done), (1, 0));
    assert_eq!((done.failures[0].path.as_str(), done.failures[0].error.kind()), ("a", ErrorKind::StoreRefused));
}

#[tokio::test]
async fn a_directory_is_loaded_only_when_that_is_meant() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "d", directory(6));
    let error = cluster.client.load(InodeId(1), LoadOptions::default(), |_| ()).await.expect_err("a directory");
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    let absent = NsPath::parse("/absent").expect("a path");
    let error = cluster.client.load(absent, LoadOptions::default(), |_| ()).await.expect_err("absent");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_free_reaches_every_worker() {
    let cluster = Cluster::start(2).await;
    cluster.master.put(1, "a", file(10, 5));
    cluster.master.put(1, "b", file(11, 5));
    let freed = cluster.client.free(root(), true).await.expect("freed");
    assert_eq!(freed, Freed { contents: 4, bytes: 10 });
    assert!(cluster.workers.iter().all(|worker| worker.state().freed == 2));
}

#[tokio::test]
async fn presence_and_sizes_are_answered() {
    let cluster = Cluster::start(2).await;
    let contents = [file(10, 5), file(11, 5)].map(|attr| attr.content.expect("a file"));
    let presence = cluster.client.presence(&contents).await.expect("answered");
    assert_eq!(presence.len(), 2);
    for worker in presence {
        assert_eq!(worker.cached_bytes.expect("answered"), [1, 2]);
    }
    assert_eq!(cluster.client.stat_fs().await.expect("answered").cache_capacity, 3);
}
