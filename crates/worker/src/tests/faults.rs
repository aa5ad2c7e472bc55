//! What goes wrong in the under store and in the cache, and what a reader sees of it.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use headpond_types::ErrorKind;
use headpond_ufs::UfsErrorKind;
use tokio::time::Instant;

use super::{
    lake::{Lake, Mood},
    pond::{MIB, Pond, lone_reader, part},
};
use crate::fill::Route;

/// The cache file of a content that is `length` long.
pub(super) fn cache_file(dir: &Path, length: u64) -> PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let about = entry.metadata().expect("still there");
            if about.is_dir() {
                folders.push(entry.path());
            } else if about.len() == length {
                return entry.path();
            }
        }
    }
    panic!("no file of {length} bytes in the cache");
}

/// Changes a byte behind the worker's back.
pub(super) fn flip_byte(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the cache file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[!byte[0]], at).expect("written");
}

/// Takes the cache directory away. By its name first: a worker that registers anew, as one that was starved of time does, writes what it
/// learnt into the directory, and would fill it while it is emptied.
fn lose_cache(dir: &Path) {
    let lost = dir.join("lost");
    fs::rename(dir.join("cache"), &lost).expect("renamed");
    fs::remove_dir_all(lost).expect("removed");
}

#[tokio::test]
async fn a_version_that_is_gone_is_stale_and_never_mixed() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let first = pond.lake.put("a", "1", 3 * MIB);
    let old = pond.grant("a");
    assert_eq!(worker.read(&old, 0..MIB).await.expect("read"), part(&first, &(0..MIB)));
    let second = pond.lake.put("a", "2", 3 * MIB);
    assert_eq!(worker.read(&old, 0..3 * MIB).await.expect_err("replaced").kind(), ErrorKind::Stale);
    assert_eq!(worker.read(&old, 0..MIB).await.expect("what is cached stays"), part(&first, &(0..MIB)));
    let new = pond.grant("a");
    assert_eq!(worker.read(&new, 0..3 * MIB).await.expect("read"), second);
    pond.lake.remove("a");
    let error = worker.read(&old, MIB..3 * MIB).await.expect_err("removed");
    assert_eq!(error.kind(), ErrorKind::Stale);
    assert!(error.to_string().contains("a of mount 1"), "{error}");
}

#[tokio::test]
async fn a_failed_fetch_is_told_to_everybody_and_remembered_by_nobody() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("a", "1", 2 * MIB);
    let grant = pond.grant("a");
    for (kind, told) in [
        (UfsErrorKind::Refused, ErrorKind::StoreRefused),
        (UfsErrorKind::SlowDown, ErrorKind::Unavailable),
        (UfsErrorKind::DeadlineExceeded, ErrorKind::DeadlineExceeded),
    ] {
        pond.lake.set(Mood::Holds);
        let before = pond.lake.gets().len();
        let readers = futures::future::join_all((0..4).map(|_| worker.read(&grant, 0..MIB)));
        let fail = async {
            pond.lake.asked(before + 1).await;
            pond.lake.set(Mood::Fails(kind));
        };
        let (read, ()) = tokio::join!(readers, fail);
        assert!(read.into_iter().all(|read| read.expect_err("fails").kind() == told));
    }
    pond.lake.set(Mood::Serves);
    assert_eq!(worker.read(&grant, 0..2 * MIB).await.expect("read"), body);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_taken_up_where_it_ended() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("a", "1", 8 * MIB);
    pond.lake.set(Mood::BreaksAfter(5 << 19));
    assert_eq!(worker.read(&pond.grant("a"), 0..8 * MIB).await.expect("read"), body);
    let mut gets = pond.lake.gets();
    gets.sort_by_key(|range| range.start);
    assert_eq!(gets, [0..MIB, MIB..8 * MIB, 3 * MIB..8 * MIB, 5 * MIB..8 * MIB, 7 * MIB..8 * MIB]);
    pond.lake.put("b", "1", 8 * MIB);
    pond.lake.set(Mood::BreaksAfter(1000));
    let error = worker.read(&pond.grant("b"), 0..8 * MIB).await.expect_err("no progress");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_corrupt_page_is_fetched_again() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("a", "1", 3 * MIB + 7);
    let grant = pond.grant("a");
    assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("cold"), body);
    flip_byte(&cache_file(worker.dir.path(), 3 * MIB + 7), MIB + 17);
    assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("mended"), body);
    assert_eq!(pond.lake.gets().last(), Some(&(MIB..2 * MIB)));
    let sent = pond.lake.sent();
    assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("warm"), body);
    assert_eq!(pond.lake.sent(), sent);
}

#[tokio::test]
async fn without_its_directory_a_worker_serves_through_memory_and_counts_it() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("a", "1", 20 * MIB + 7);
    let grant = pond.grant("a");
    assert_eq!(worker.read(&grant, 0..2 * MIB).await.expect("cold"), part(&body, &(0..2 * MIB)));
    lose_cache(worker.dir.path());
    for _ in 0..3 {
        assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("read"), body);
    }
    assert!(worker.faults() > 0);
}

#[tokio::test]
async fn concurrent_readers_share_what_the_cache_cannot_keep() {
    let pond = Pond::start().await;
    let worker = pond
        .worker_in(tempfile::tempdir().expect("a directory"), |config| {
            config.dirs[0].capacity = 2 * MIB;
            config.socket = None;
        })
        .await;
    lose_cache(worker.dir.path());
    let body = pond.lake.put("a", "1", 6 * MIB);
    let grant = pond.grant("a");
    pond.lake.set(Mood::Holds);
    let readers = futures::future::join_all((0..8).map(|_| worker.read(&grant, 0..u64::MAX)));
    let release = async {
        pond.lake.asked(2).await;
        pond.master.until_heard_of_all().await;
        pond.lake.set(Mood::Serves);
    };
    let (read, ()) = tokio::join!(readers, release);
    assert!(read.into_iter().all(|read| read.expect("read") == body));
    assert_eq!(pond.lake.sent(), 6 * MIB);
}

#[tokio::test]
async fn a_full_cache_evicts_and_serves_what_is_larger_than_itself() {
    let pond = Pond::start().await;
    let worker =
        pond.worker_in(tempfile::tempdir().expect("a directory"), |config| config.dirs[0].capacity = 8 * MIB).await;
    let body = pond.lake.put("a", "1", 40 * MIB);
    for _ in 0..2 {
        assert_eq!(worker.read(&pond.grant("a"), 0..u64::MAX).await.expect("read"), body);
    }
    assert!(worker.running.status().usage.used_bytes() <= 8 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_in_an_error_within_the_deadlines() {
    let lake = Lake::new();
    lake.put("a", "1", 20 * MIB);
    let dir = tempfile::tempdir().expect("a directory");
    let (reader, grant) = lone_reader(&lake, "a", dir.path()).await;
    let job = || reader.job(Some(&grant), Route::ViaOwner).expect("granted");
    lake.set(Mood::Holds);
    let begun = Instant::now();
    let mut read = Box::pin(reader.read(job(), vec![0..u64::MAX]));
    let error = read.next().await.expect("an item").expect_err("it hangs");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(begun.elapsed().as_secs(), reader.deadlines.under_store.as_secs());
    let error = reader.ensure(&job(), vec![0..MIB, 4 * MIB..5 * MIB]).await.expect_err("it hangs");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(reader.filler.in_flight(), 0, "nothing is left behind");
    lake.set(Mood::Serves);
    reader.ensure(&job(), vec![0..20 * MIB]).await.expect("it answers again");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_but_sends_is_waited_for() {
    let lake = Lake::new();
    let body = lake.put("a", "1", 8 * MIB);
    let dir = tempfile::tempdir().expect("a directory");
    let (reader, grant) = lone_reader(&lake, "a", dir.path()).await;
    lake.set(Mood::Trickles(Duration::from_secs(15)));
    let job = reader.job(Some(&grant), Route::ViaOwner).expect("granted");
    let read: Vec<_> = reader.read(job, vec![0..8 * MIB]).try_collect().await.expect("every part comes in time");
    assert_eq!(read.iter().flat_map(|chunk| chunk.data.to_vec()).collect::<Vec<_>>(), body);
}
