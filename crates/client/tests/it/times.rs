//! Modification times of what is being written.

use bytes::Bytes;
use futures::future;
use headpond_client::AttrChange;
use headpond_types::Timestamp;

use crate::{
    fakes::Cluster,
    writing::{create, until},
};

#[tokio::test]
async fn a_time_that_is_set_before_the_persist_is_that_of_the_version() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    let set = |nanos| {
        let change = AttrChange { mtime: Some(Timestamp(nanos)), ..AttrChange::default() };
        cluster.client.set_attr(writer.inode(), change)
    };
    writer.write_at(0, Bytes::from_static(b"bytes")).await.expect("written");
    set(5).await.expect("set");
    assert_eq!((writer.attr().mtime, cluster.master.calls("setattr")), (Timestamp(5), 0));
    assert_eq!(writer.persist(true).await.expect("persisted").mtime, Timestamp(5));
    assert_eq!(cluster.client.attr(writer.inode()).await.expect("known").attr.expect("there").mtime, Timestamp(5));
    set(6).await.expect("set");
    assert_eq!((writer.attr().mtime, cluster.master.calls("setattr")), (Timestamp(6), 2));
    set(7).await.expect("set");
    writer.write_at(0, Bytes::from_static(b"since")).await.expect("written");
    let written = writer.attr().mtime;
    assert_ne!(written, Timestamp(7), "it was written since");
    assert_eq!(writer.persist(true).await.expect("persisted").mtime, written, "then, not when it was stored");
}

#[tokio::test]
async fn what_was_said_of_a_file_before_its_version_was_stored_is_not_believed_after_that() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    writer.write_at(0, Bytes::from_static(b"bytes")).await.expect("written");
    writer.persist(true).await.expect("persisted");
    let set = |change| cluster.client.set_attr(writer.inode(), change);
    set(AttrChange { mtime: Some(Timestamp(5)), ..AttrChange::default() }).await.expect("set");
    writer.write_at(0, Bytes::from_static(b"since")).await.expect("written");
    let written = writer.attr().mtime;
    cluster.master.holding_back.send_replace(true);
    let persist = async {
        until(|| cluster.master.calls("setattr") == 2).await;
        writer.persist(true).await.expect("persisted");
        cluster.master.holding_back.send_replace(false);
    };
    let (changed, ()) = future::join(set(AttrChange { mode: Some(0o600), ..AttrChange::default() }), persist).await;
    let changed = changed.expect("changed").attr.expect("there");
    assert_eq!((changed.mode, changed.mtime), (0o600, written));
    assert_eq!((writer.attr().mode, writer.attr().mtime), (0o600, written));
}

#[tokio::test]
async fn a_file_that_is_cut_to_its_length_is_modified_if_it_is_to_be_persisted() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    writer.write_at(0, Bytes::from_static(b"bytes")).await.expect("written");
    let change = AttrChange { mtime: Some(Timestamp(5)), ..AttrChange::default() };
    cluster.client.set_attr(writer.inode(), change).await.expect("set");
    writer.set_length(5).await.expect("as it is");
    let cut = writer.attr().mtime;
    assert_ne!(cut, Timestamp(5));
    assert_eq!(writer.persist(true).await.expect("persisted").mtime, cut, "not when it was stored");
    writer.set_length(5).await.expect("as it is");
    assert!(!writer.is_dirty(), "its bytes are as they were");
    assert_eq!((writer.attr().mtime, cluster.workers[0].state().staging.stored.len()), (cut, 1));
}

#[tokio::test]
async fn a_time_of_access_is_told_at_once_and_is_that_of_the_version() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    writer.write_at(0, Bytes::from_static(b"bytes")).await.expect("written");
    let change = AttrChange { mtime: Some(Timestamp(5)), atime: Some(Timestamp(4)), ..AttrChange::default() };
    let set = cluster.client.set_attr(writer.inode(), change).await.expect("set").attr.expect("there");
    assert_eq!((set.mtime, set.atime, cluster.master.calls("setattr")), (Timestamp(5), Some(Timestamp(4)), 1));
    let stored = writer.persist(true).await.expect("persisted");
    assert_eq!((stored.mtime, stored.atime), (Timestamp(5), Some(Timestamp(4))));
    writer.write_at(0, Bytes::from_static(b"since")).await.expect("written");
    assert_eq!(writer.attr().accessed(), Timestamp(4), "a write is no access");
}
