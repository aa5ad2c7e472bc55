//! What workers are told of files while they are being written.

use std::sync::Arc;

use bytes::Bytes;
use headpond_client::FileWriter;

use crate::{
    fakes::{Cluster, FakeSocket},
    writing::{create, until},
};

const MIB: u64 = 1 << 20;

/// Writes the MiB from `from` to `to`, one at a time, as a mount does.
async fn write(writer: &FileWriter, from: u64, to: u64) {
    let piece = Bytes::from(vec![7; 1 << 20]);
    for at in from..to {
        if !writer.try_write_at(at * MIB, &piece) {
            writer.write_at(at * MIB, piece.clone()).await.expect("written");
        }
    }
}

/// Rounds and ends, in MiB, of what was to be sent ahead.
fn told(cluster: &Cluster) -> Vec<(u64, u64)> {
    let state = cluster.workers[0].state();
    state.staging.uploads.iter().map(|(_, round, up_to)| (*round, up_to / MIB)).collect()
}

fn rounds(cluster: &Cluster) -> Vec<u64> {
    cluster.workers[0].state().staging.rounds.clone()
}

/// Writes the first 32 MiB and waits until the worker knows.
async fn begin(cluster: &Cluster, writer: &Arc<FileWriter>) {
    write(writer, 0, 31).await;
    assert!(told(cluster).is_empty(), "short files are not sent ahead");
    write(writer, 31, 32).await;
    until(|| told(cluster) == [(1, 32)]).await;
}

#[tokio::test]
async fn the_worker_is_told_of_each_step_of_a_file_written_from_front_to_end() {
    let folder = tempfile::tempdir().expect("a directory");
    for local in [false, true] {
        let _socket = FakeSocket::listen(folder.path());
        let cluster = if local { Cluster::local(folder.path()).await } else { Cluster::start(1).await };
        let writer = create(&cluster, "f").await;
        begin(&cluster, &writer).await;
        write(&writer, 32, 48).await;
        until(|| told(&cluster) == [(1, 32), (1, 48)]).await;
        write(&writer, 48, 60).await;
        writer.persist(true).await.expect("persisted");
        assert_eq!((told(&cluster).len(), rounds(&cluster)), (2, vec![1]));
        assert_eq!(cluster.master.calls("prepare_upload"), 1);
    }
}

#[tokio::test]
async fn a_change_of_what_was_told_ends_the_round() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    begin(&cluster, &writer).await;
    // Behind it: what was told is still right, and more is not told.
    write(&writer, 40, 60).await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(rounds(&cluster), [1]);
    writer.set_length(0).await.expect("cut");
    write(&writer, 0, 32).await;
    until(|| told(&cluster) == [(1, 32), (2, 32)]).await;
    write(&writer, 31, 32).await;
    writer.persist(true).await.expect("persisted");
    assert_eq!(rounds(&cluster), [1, 3]);
    writer.set_length(0).await.expect("cut");
    write(&writer, 0, 32).await;
    until(|| told(&cluster).last() == Some(&(4, 32))).await;
    writer.zero(5, 1).await.expect("a hole");
    writer.persist(true).await.expect("persisted");
    assert_eq!(rounds(&cluster), [1, 3, 5]);
    assert_eq!(cluster.master.calls("prepare_upload"), 3, "the file may have another name by then");
}

#[tokio::test]
async fn a_cut_below_what_was_told_ends_the_round_and_one_above_does_not() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    begin(&cluster, &writer).await;
    writer.set_length(100 * MIB).await.expect("longer");
    writer.set_length(32 * MIB).await.expect("cut");
    writer.persist(true).await.expect("persisted");
    writer.set_length(16 * MIB).await.expect("cut");
    write(&writer, 16, 48).await;
    until(|| told(&cluster) == [(1, 32), (2, 48)]).await;
    writer.set_length(47 * MIB).await.expect("cut");
    writer.persist(true).await.expect("persisted");
    assert_eq!(rounds(&cluster), [1, 3]);
}

#[tokio::test]
async fn a_file_that_was_persisted_is_sent_ahead_anew_when_as_much_was_added() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    // As a shell does with the descriptor that it redirects.
    writer.persist(true).await.expect("persisted");
    write(&writer, 0, 32).await;
    until(|| told(&cluster) == [(2, 32)]).await;
    writer.persist(true).await.expect("persisted");
    write(&writer, 32, 63).await;
    writer.persist(true).await.expect("persisted");
    write(&writer, 63, 125).await;
    assert_eq!(told(&cluster), [(2, 32)], "what the store has it can copy");
    write(&writer, 125, 126).await;
    until(|| told(&cluster) == [(2, 32), (4, 126)]).await;
    assert_eq!(rounds(&cluster), [1, 2, 3]);
}

#[tokio::test]
async fn what_is_not_written_from_its_front_is_not_sent_ahead() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    write(&writer, 1, 2).await;
    write(&writer, 0, 64).await;
    writer.persist(true).await.expect("persisted");
    assert_eq!((told(&cluster), cluster.master.calls("prepare_upload")), (vec![], 0));
}

#[tokio::test]
async fn a_worker_that_sends_nothing_ahead_is_told_no_more_and_stores_the_file() {
    let cluster = Cluster::start(1).await;
    cluster.workers[0].state().staging.refuses_uploads = true;
    let writer = create(&cluster, "f").await;
    begin(&cluster, &writer).await;
    write(&writer, 32, 96).await;
    writer.persist(true).await.expect("persisted");
    assert_eq!((told(&cluster), rounds(&cluster)), (vec![(1, 32)], vec![1]));
}
