//! Writers whose lease, worker or socket is lost, or comes back.

use std::time::Duration;

use bytes::Bytes;
use headpond_types::ErrorKind;

use crate::{
    fakes::{Cluster, FakeSocket},
    writing::{create, stored, until, write},
};

#[tokio::test]
async fn a_master_that_starts_anew_takes_no_file_from_its_writer() {
    let cluster = Cluster::start(1).await;
    cluster.master.set_term(Duration::from_millis(30));
    let writer = create(&cluster, "renewed").await;
    write(&writer, 0, "before").await;
    cluster.master.forget_leases();
    let renewals = cluster.master.calls("renew");
    until(|| cluster.master.calls("renew") > renewals + 2).await;
    write(&writer, 6, " and after").await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster), [b"before and after"]);

    cluster.master.set_term(Duration::from_mins(10));
    let writer = create(&cluster, "not renewed").await;
    write(&writer, 0, "bytes").await;
    cluster.master.forget_leases();
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster).last().map(Vec::as_slice), Some(&b"bytes"[..]));
}

#[tokio::test]
async fn a_file_is_stored_once_more_when_the_master_started_anew_meanwhile() {
    let cluster = Cluster::start(1).await;
    cluster.master.set_term(Duration::from_millis(30));
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    let flowing = cluster.workers[0].state().staging.flowing.clone();
    flowing.send_replace(false);
    let master_is_restarted = async {
        until(|| !stored(&cluster).is_empty()).await;
        cluster.master.forget_leases();
        // Both the renewal that finds the lease lost and the one after it.
        let renewals = cluster.master.calls("renew");
        until(|| cluster.master.calls("renew") > renewals + 2).await;
        flowing.send_replace(true);
    };
    let (persisted, ()) = tokio::join!(writer.persist(true), master_is_restarted);
    persisted.expect("persisted");
    assert_eq!(stored(&cluster), [b"bytes", b"bytes"]);
}

#[tokio::test]
async fn a_lost_lease_is_the_end_of_its_writer() {
    let cluster = Cluster::start(1).await;
    cluster.master.set_term(Duration::from_millis(30));
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    until(|| cluster.master.calls("renew") > 2).await;
    write(&writer, 5, " more").await;
    cluster.master.lose_leases();
    until(|| cluster.client.writer(writer.inode()).is_none()).await;
    let written = writer.write_at(0, Bytes::from_static(b"x")).await.expect_err("lost");
    let persisted = writer.persist(true).await.expect_err("lost");
    assert_eq!((written.kind(), persisted.kind()), (ErrorKind::Stale, ErrorKind::Stale));
    assert_eq!(writer.read_at(0, 1).await.expect_err("lost").kind(), ErrorKind::Stale);
    assert!(stored(&cluster).is_empty());

    let anew = cluster.client.open_writer(writer.inode(), false).await.expect("opened anew");
    write(&anew, 0, "anew").await;
    drop(writer);
    anew.persist(true).await.expect("persisted");
    assert!(cluster.client.writer(anew.inode()).is_some(), "the old writer took nothing with it");
}

#[tokio::test]
async fn a_worker_that_forgot_the_bytes_is_the_end_of_the_writer() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    cluster.workers[0].state().staging.files.clear();
    let written = writer.write_at(5, Bytes::from_static(b"behind a hole")).await.expect_err("lost");
    assert_eq!(written.kind(), ErrorKind::Stale);
    assert_eq!(writer.persist(true).await.expect_err("lost").kind(), ErrorKind::Stale);
    assert!(cluster.client.writer(writer.inode()).is_none());
}

#[tokio::test]
async fn a_broken_socket_is_the_end_of_what_was_written_through_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = FakeSocket::listen(folder.path());
    let cluster = Cluster::local(folder.path()).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    let mut read = [0; 10];
    assert_eq!(writer.try_read_at(1, &mut read), Some(4));
    drop(socket);
    until(|| cluster.client.writer(writer.inode()).is_none()).await;
    assert!(!writer.try_write_at(0, b"x") && writer.try_read_at(0, &mut read).is_none());
    assert_eq!(writer.persist(true).await.expect_err("lost").kind(), ErrorKind::Unavailable);
    assert_eq!(writer.write_at(0, Bytes::from_static(b"x")).await.expect_err("lost").kind(), ErrorKind::Unavailable);
    assert!(stored(&cluster).is_empty());
}
