//! Room at the worker, which is asked for before it is used.

use std::sync::Arc;

use bytes::Bytes;
use headpond_client::FileWriter;
use headpond_types::ErrorKind;

use crate::{
    fakes::{Cluster, FakeSocket},
    writing::{create, until, write},
};

async fn bounded(cluster: &Cluster) -> Arc<FileWriter> {
    cluster.master.state().writing.copies = 1;
    create(cluster, "f").await
}

/// What was asked for so far.
fn asked(cluster: &Cluster) -> Vec<u64> {
    cluster.workers[0].state().staging.reserved.iter().map(|(bytes, _)| *bytes).collect()
}

#[tokio::test]
async fn room_is_asked_for_before_it_is_used_and_ahead() {
    let cluster = Cluster::start(1).await;
    let writer = bounded(&cluster).await;
    cluster.workers[0].state().staging.ahead = 10;
    write(&writer, 0, "12345").await;
    write(&writer, 5, "1234567890").await;
    assert_eq!(asked(&cluster), [5], "what was given ahead is free");
    write(&writer, 15, "x").await;
    assert_eq!(asked(&cluster), [5, 16]);
    // What is written again takes up nothing more, and what is far off no more than its bytes.
    write(&writer, 0, "12345").await;
    write(&writer, 1 << 20, "far off").await;
    write(&writer, (1 << 20) + 6, "xyz").await;
    assert_eq!(asked(&cluster), [5, 16]);
    // What lies before the end of a file with holes may.
    write(&writer, 100, "in a hole").await;
    assert_eq!(asked(&cluster), [5, 16, 16 + 7 + 3 + 9]);
    writer.set_length(3).await.expect("cut");
    write(&writer, 3, "1234567890").await;
    assert_eq!(asked(&cluster).len(), 3);
    // As long as the file at most.
    writer.set_length(20).await.expect("longer");
    for _ in 0..10 {
        write(&writer, 0, "1234567890").await;
    }
    assert_eq!(asked(&cluster).len(), 3);
}

#[tokio::test]
async fn what_is_stored_at_once_asks_for_no_room() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "12345").await;
    assert!(asked(&cluster).is_empty());
}

#[tokio::test]
async fn what_a_local_worker_offers_is_used_first() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = FakeSocket::listen(folder.path());
    socket.state().room = 8;
    let cluster = Cluster::local(folder.path()).await;
    let writer = bounded(&cluster).await;
    write(&writer, 0, "12345").await;
    write(&writer, 5, "678").await;
    assert!(asked(&cluster).is_empty());
    assert!(!writer.try_write_at(8, b"9"), "there is no room yet");
    cluster.workers[0].state().staging.files.insert(1, Vec::new());
    write(&writer, 8, "9").await;
    assert_eq!(asked(&cluster), [9]);
    assert_eq!(writer.read_at(0, 100).await.expect("read"), "123456789");
}

#[tokio::test]
async fn who_waits_for_room_keeps_nobody_from_storing_what_there_is() {
    let cluster = Cluster::start(1).await;
    let writer = bounded(&cluster).await;
    write(&writer, 0, "12345").await;
    cluster.workers[0].state().staging.full = vec![ErrorKind::Busy; 10_000];
    let going_on = async {
        until(|| asked(&cluster).len() > 3).await;
        assert_eq!(writer.persist(false).await.expect("stored").size, 5);
        assert_eq!(writer.read_at(0, 10).await.expect("read"), "12345");
        let mut worker = cluster.workers[0].state();
        let waited = |question: usize| worker.staging.reserved[question].1;
        assert!(!waited(1) && waited(3), "it is told how long it waits");
        worker.staging.full.clear();
    };
    let (appended, ()) = tokio::join!(writer.append(Bytes::from_static(b"678")), going_on);
    assert_eq!(appended.expect("in the end"), 5);

    cluster.workers[0].state().staging.full = vec![ErrorKind::ResourceExhausted];
    let error = writer.append(Bytes::from_static(b"9")).await.expect_err("no space");
    assert_eq!((error.kind(), writer.length()), (ErrorKind::ResourceExhausted, 8));
    write(&writer, 8, "9").await;
    assert_eq!(writer.persist(true).await.expect("stored").size, 9);
}

#[tokio::test]
async fn a_file_that_may_not_wait_for_the_store_is_written_through() {
    let cluster = Cluster::start(1).await;
    let writer = bounded(&cluster).await;
    cluster.workers[0].state().staging.most = 8;
    write(&writer, 0, "12345678").await;
    // An earlier version waits for the store, for a moment.
    cluster.master.state().writing.stays_later = vec![ErrorKind::Busy];
    write(&writer, 8, "9").await;
    assert_eq!((asked(&cluster), cluster.master.calls("write_through")), (vec![8], 2));
    write(&writer, 9, "and more than that").await;
    assert_eq!(cluster.master.calls("write_through"), 2, "nobody counts it any more");
    assert_eq!(writer.persist(true).await.expect("stored").size, 27);
    assert_eq!(cluster.master.state().writing.commits.len(), 1);
    assert_eq!(cluster.workers[0].state().staging.orders, [(true, None)], "no worker is to hold it");
}

#[tokio::test]
async fn a_file_that_is_not_to_be_stored_and_does_not_fit_is_told_so() {
    let cluster = Cluster::start(1).await;
    let writer = bounded(&cluster).await;
    cluster.workers[0].state().staging.most = 8;
    cluster.master.state().writing.stays_later = vec![ErrorKind::NotSupported];
    write(&writer, 0, "12345678").await;
    let error = writer.append(Bytes::from_static(b"9")).await.expect_err("no space");
    assert_eq!((error.kind(), writer.length()), (ErrorKind::ResourceExhausted, 8));
    assert!(error.to_string().contains("worker.dirty_limit"), "{error}");
    assert_eq!(writer.persist(true).await.expect("kept").size, 8);
}
