//! Writing files.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future;
use headpond_client::{AttrChange, Client, ClientConfig, FileWriter, NewFile};
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::{ErrorKind, InodeId, Name, RenameMode, Timestamp};

use crate::fakes::{Cluster, FakeSocket, bytes, config, file};

const ROOT: InodeId = InodeId::ROOT;
const OLD: u64 = 5_000_001;
const NEW: NewFile = NewFile { mode: 0o644, uid: 1, gid: 2, exclusive: false, truncate: false };

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) async fn create(cluster: &Cluster, text: &str) -> Arc<FileWriter> {
    cluster.client.create(ROOT, &name(text), NEW).await.expect("created")
}

pub(crate) async fn write(writer: &FileWriter, offset: u64, text: &'static str) {
    writer.write_at(offset, Bytes::from_static(text.as_bytes())).await.expect("written");
}

pub(crate) fn stored(cluster: &Cluster) -> Vec<Vec<u8>> {
    cluster.workers.iter().flat_map(|worker| worker.state().staging.stored.clone()).collect()
}

/// Waits for what happens in the background.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it happens soon");
}

#[tokio::test]
async fn a_written_file_is_a_version_once_it_was_persisted() {
    let folder = tempfile::tempdir().expect("a directory");
    for local in [false, true] {
        let socket = FakeSocket::listen(folder.path());
        let cluster = if local { Cluster::local(folder.path()).await } else { Cluster::start(2).await };
        let writer = create(&cluster, "f").await;
        let inode = writer.inode();
        assert!(writer.is_dirty() && writer.length() == 0);
        write(&writer, 0, "hello ").await;
        assert_eq!(writer.append(Bytes::from_static(b"world")).await.expect("appended"), 6);
        write(&writer, 14, "end").await;
        assert_eq!((writer.length(), writer.attr().size), (17, 17));
        assert_eq!(writer.read_at(3, 100).await.expect("read"), "lo world\0\0\0end");
        assert!(writer.read_at(17, 1).await.expect("the end").is_empty());
        writer.set_length(5).await.expect("cut");
        let cut = writer.attr().mtime;
        let attr = writer.persist(true).await.expect("persisted");
        assert_eq!((attr.size, attr.mtime, attr.version.as_str()), (5, cut, "stored-1"));
        assert_eq!(stored(&cluster), [b"hello"]);
        assert!(!writer.is_dirty());
        assert_eq!(cluster.client.cached_attr(inode).expect("in memory").attr, Some(attr));
        writer.persist(true).await.expect("nothing to do");
        assert_eq!((stored(&cluster).len(), cluster.master.calls("prepare")), (1, 1));
        assert_eq!(socket.state().stages, usize::from(local));

        let content = writer.attr().content;
        drop(writer);
        assert!(cluster.client.writer(inode).is_none());
        let ended =
            || cluster.workers.iter().flat_map(|worker| worker.state().staging.ended.clone()).collect::<Vec<_>>();
        until(|| ended() == [(1, content)] && cluster.master.ended() == [1]).await;
    }
}

#[tokio::test]
async fn large_writes_go_in_pieces_and_come_back() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    writer.write_at(3, bytes(0..OLD).into()).await.expect("written");
    assert!(writer.read_at(3, 6_000_000).await.expect("read") == bytes(0..OLD));
    assert!(cluster.workers[0].state().staging.calls.len() >= 10);
}

#[tokio::test]
async fn one_client_has_one_writer_of_a_file() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, 0));
    cluster.client.lookup(ROOT, &name("f")).await.expect("found");
    let open = || cluster.client.open_writer(InodeId(7), false);
    let (first, second) = future::join(open(), open()).await;
    let (first, second) = (first.expect("opened"), second.expect("opened"));
    assert!(Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&first, &create(&cluster, "f").await));
    assert_eq!((cluster.master.calls("open_for_writing"), cluster.master.calls("create")), (1, 0));
    drop((first, second));
    until(|| cluster.master.ended() == [1]).await;
    open().await.expect("opened anew");
    assert_eq!(cluster.master.calls("open_for_writing"), 2);
}

#[tokio::test]
async fn what_was_not_changed_is_not_persisted_and_costs_no_worker_anything() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, OLD));
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    assert!(!writer.is_dirty());
    assert_eq!(writer.read_at(5, 10).await.expect("read"), bytes(5..15));
    writer.set_length(OLD).await.expect("as it is");
    writer.persist(true).await.expect("nothing to do");
    drop(writer);
    until(|| cluster.master.ended() == [1]).await;
    assert_eq!((cluster.master.calls("prepare"), cluster.workers[0].state().staging.calls.len()), (0, 0));
}

#[tokio::test]
async fn the_old_version_is_brought_over_before_the_first_change() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, OLD));
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    write(&writer, 10, "new").await;
    let mut expected = bytes(0..OLD);
    expected[10..13].copy_from_slice(b"new");
    assert!(writer.read_at(0, 6_000_000).await.expect("read") == expected);
    writer.persist(true).await.expect("persisted");
    assert!(stored(&cluster) == [expected]);
}

#[tokio::test]
async fn of_a_file_that_is_cut_only_what_stays_is_brought_over() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, OLD));
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    writer.set_length(100).await.expect("cut");
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster), [bytes(0..100)]);
    drop(writer);
    until(|| cluster.master.ended().len() == 1).await;

    let reads = cluster.workers[0].reads();
    let writer = cluster.client.open_writer(InodeId(7), true).await.expect("opened");
    assert!(writer.is_dirty() && writer.length() == 0);
    write(&writer, 0, "x").await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster)[1], b"x");
    assert_eq!(cluster.workers[0].reads(), reads);
}

#[tokio::test]
async fn what_is_written_after_a_persist_began_is_left_for_the_next() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    writer.set_length(100 << 20).await.expect("longer than what is held still");
    let flowing = cluster.workers[0].state().staging.flowing.clone();
    flowing.send_replace(false);
    let change = async {
        until(|| stored(&cluster).len() == 1).await;
        write(&writer, 0, "late").await;
        flowing.send_replace(true);
    };
    let (persisted, second, ()) = future::join3(writer.persist(true), writer.persist(true), change).await;
    persisted.expect("persisted");
    second.expect("persisted after the first");
    assert!(!writer.is_dirty());
    let stored = stored(&cluster);
    assert_eq!((stored.len(), &stored[0][..4], &stored[1][..4]), (2, &[0; 4][..], &b"late"[..]));
}

#[tokio::test]
async fn a_short_file_is_stored_in_one_state() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "first").await;
    let flowing = cluster.workers[0].state().staging.flowing.clone();
    flowing.send_replace(false);
    let change = async {
        until(|| stored(&cluster).len() == 1).await;
        let mut writing = Box::pin(writer.append(Bytes::from_static(b"second")));
        assert!(futures::poll!(&mut writing).is_pending());
        flowing.send_replace(true);
        writing.await.expect("written");
    };
    future::join(writer.persist(true), change).await.0.expect("persisted");
    assert!(writer.is_dirty());
    assert_eq!(writer.length(), 11);
    drop(writer);
    until(|| !cluster.workers[0].state().staging.ended.is_empty()).await;
    assert_eq!(cluster.workers[0].state().staging.ended, [(1, None)], "what is staged is not what was stored");
}

#[tokio::test]
async fn what_the_store_has_need_not_be_sent_unless_it_changes_meanwhile() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, OLD));
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    let heads = || cluster.workers[0].state().staging.heads.clone();
    writer.append(Bytes::from_static(b"more")).await.expect("appended");
    writer.persist(false).await.expect("persisted");
    assert_eq!(heads(), [vec![OLD]]);

    writer.append(Bytes::from_static(b"more")).await.expect("appended");
    let flowing = cluster.workers[0].state().staging.flowing.clone();
    flowing.send_replace(false);
    let change = async {
        until(|| stored(&cluster).len() == 2).await;
        write(&writer, 5, "late").await;
        flowing.send_replace(true);
    };
    future::join(writer.persist(false), change).await.0.expect("persisted");
    assert!(!writer.is_dirty());
    assert_eq!(heads(), [vec![OLD], vec![OLD, OLD + 4], vec![]], "of what changed all is sent");
    let (stored, commits) = (stored(&cluster), cluster.master.state().writing.commits.len());
    assert_eq!((stored.len(), commits, &stored[2][5..9]), (3, 2, &b"late"[..]));
}

#[tokio::test]
async fn a_store_that_hangs_does_not_hold_up_writers() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    let flowing = cluster.workers[0].state().staging.flowing.clone();
    flowing.send_replace(false);
    let change = async {
        until(|| stored(&cluster).len() == 1).await;
        write(&writer, 0, "meanwhile").await;
        flowing.send_replace(true);
    };
    future::join(writer.persist(true), change).await.0.expect("persisted");
    assert!(writer.is_dirty());
}

#[tokio::test]
async fn an_error_of_the_store_leaves_the_bytes_for_another_try() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    cluster.workers[0].state().staging.failures = vec![ErrorKind::Stale, ErrorKind::StoreRefused];
    assert_eq!(writer.persist(true).await.expect_err("refused").kind(), ErrorKind::StoreRefused);
    assert_eq!(writer.persist(true).await.expect_err("another version").kind(), ErrorKind::Stale);
    assert!(writer.is_dirty());
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster), [b"bytes"]);
}

#[tokio::test]
async fn a_worker_that_is_away_for_a_moment_is_asked_again() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    cluster.workers[0].state().staging.failures = vec![ErrorKind::Unavailable; 3];
    writer.persist(true).await.expect("in the end");
    assert_eq!(cluster.master.calls("prepare"), 1);
}

#[tokio::test]
async fn a_commit_that_was_not_answered_is_made_before_anything_else() {
    let short = ClientConfig { metadata_timeout: Duration::from_millis(300), ..config() };
    let cluster = Cluster::build(1, None, short).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "first").await;
    let flowing = cluster.workers[0].state().staging.flowing.clone();
    flowing.send_replace(false);
    let fail = async {
        until(|| stored(&cluster).len() == 1).await;
        cluster.master.state().failures = vec![ErrorKind::Unavailable; 1000];
        flowing.send_replace(true);
    };
    let (persisted, ()) = future::join(writer.persist(true), fail).await;
    assert_eq!(persisted.expect_err("no answer").kind(), ErrorKind::Unavailable);
    assert!(writer.is_dirty());
    cluster.master.state().failures.clear();
    let ids = cluster.master.state().request_ids.clone();
    write(&writer, 0, "again").await;
    writer.persist(true).await.expect("persisted");
    let (calls, now) = (cluster.master.calls("commit"), cluster.master.state().request_ids.clone());
    assert!(calls > 3, "{calls} commits");
    assert!(ids[1..].iter().all(|id| *id == ids[1]), "one change, however often it was asked for");
    assert_eq!(now[ids.len()..].first(), Some(&ids[1]));
    assert_ne!(now.last(), Some(&ids[1]));
    assert_eq!(stored(&cluster), [b"first", b"again"]);
}

#[tokio::test]
async fn without_a_place_on_this_node_a_file_is_written_over_the_network() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = FakeSocket::listen(folder.path());
    socket.state().refuse_staging = Some(ErrorKind::ResourceExhausted);
    let cluster = Cluster::local(folder.path()).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster), [b"bytes"]);
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_kept_alive_is_not_lost() {
    let cluster = Cluster::start(1).await;
    cluster.master.set_term(Duration::from_millis(30));
    let writer = create(&cluster, "f").await;
    write(&writer, 0, "bytes").await;
    // The worker has cut it, and the writer has not heard of that yet.
    cluster.workers[0].state().staging.files.values_mut().for_each(Vec::clear);
    let asked = || cluster.workers[0].state().staging.calls.iter().filter(|call| **call == "read").count();
    until(|| asked() > 2).await;
    writer.set_length(0).await.expect("cut");
    write(&writer, 0, "more").await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(stored(&cluster), [b"more"]);
}

#[tokio::test]
async fn a_file_that_lost_its_name_is_written_on_and_persisted_no_more() {
    let cluster = Cluster::start(1).await;
    cluster.master.set_term(Duration::from_millis(30));
    for rename in [false, true] {
        let writer = create(&cluster, "f").await;
        write(&writer, 0, "bytes").await;
        if rename {
            cluster.master.put(1, "g", file(8, 0));
            cluster.client.rename((ROOT, &name("g")), (ROOT, &name("f")), RenameMode::Replace).await.expect("renamed");
            cluster.master.lose_leases();
        } else {
            cluster.client.remove(ROOT, &name("f"), false).await.expect("removed");
        }
        let renewals = cluster.master.calls("renew");
        until(|| cluster.master.calls("renew") > renewals + 2).await;
        write(&writer, 5, " more").await;
        writer.persist(true).await.expect("nothing to do");
        assert_eq!(writer.read_at(0, 100).await.expect("read"), "bytes more");
        let change = AttrChange { mode: Some(0o600), mtime: Some(Timestamp(5)), ..AttrChange::default() };
        cluster.client.set_attr(writer.inode(), change).await.expect("nobody else has it");
        assert_eq!((writer.attr().nlink, writer.attr().mode, writer.attr().mtime), (0, 0o600, Timestamp(5)));
    }
    assert_eq!(cluster.master.calls("prepare"), 0);
}

#[tokio::test]
async fn the_old_version_of_a_file_that_loses_its_name_stays_with_its_writer() {
    let cluster = Cluster::start(1).await;
    cluster.master.put(1, "f", file(7, OLD));
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    cluster.client.remove(ROOT, &name("f"), false).await.expect("removed");
    assert_eq!(writer.read_at(5, 10).await.expect("read"), bytes(5..15));
    write(&writer, 0, "new").await;
    assert_eq!(writer.read_at(2, 3).await.expect("read"), [&b"w"[..], &bytes(3..5)].concat());
}

#[tokio::test]
async fn a_write_that_failed_half_way_is_cut_off_and_not_taken_for_what_was_stored() {
    let cluster = Cluster::start(1).await;
    for retried in [true, false] {
        let writer = create(&cluster, "f").await;
        write(&writer, 0, "bytes").await;
        writer.persist(true).await.expect("persisted");
        cluster.workers[0].state().staging.cut = vec![ErrorKind::ResourceExhausted];
        let failed = writer.append(Bytes::from_static(b" and more")).await.expect_err("the disk is full");
        assert_eq!((failed.kind(), writer.length()), (ErrorKind::ResourceExhausted, 5));
        if retried {
            write(&writer, 0, "B").await;
            writer.persist(true).await.expect("persisted");
            assert_eq!(stored(&cluster).last().expect("stored"), b"Bytes");
        }
        let content = writer.attr().content.filter(|_| retried);
        let ended = cluster.master.ended().len() + 1;
        drop(writer);
        until(|| cluster.workers[0].state().staging.ended.len() == ended).await;
        assert_eq!(cluster.workers[0].state().staging.ended[ended - 1].1, content);
        until(|| cluster.master.ended().len() == ended).await;
    }
}

#[tokio::test]
async fn the_end_of_a_client_waits_for_that_of_its_writers() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = FakeSocket::listen(folder.path());
    let mut cluster = Cluster::local(folder.path()).await;
    let writer = create(&cluster, "f").await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(socket.state().stages, 1);
    let content = writer.attr().content;
    drop(writer);
    cluster.client = Client::connect(ClientConfig::default(), Tasks::new(Shutdown::new())).expect("a client");
    assert!(cluster.tasks.drain(Duration::from_secs(10)).await);
    assert_eq!(cluster.workers[0].state().staging.ended, [(1, content)]);
    assert_eq!(cluster.master.ended(), [1]);
}

#[tokio::test]
async fn a_removal_that_failed_leaves_the_writer_as_it_was() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    cluster.master.state().failures = vec![ErrorKind::StoreRefused];
    cluster.client.remove(ROOT, &name("f"), false).await.expect_err("refused");
    assert_eq!((writer.attr().nlink, writer.is_dirty()), (1, true));
    writer.persist(true).await.expect("persisted");
}
