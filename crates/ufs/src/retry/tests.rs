use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use tokio::time::Instant;

use super::*;
use crate::{Fault, Faulty, ListRequest, Memory, ObjectMeta, Precondition};

/// A store in memory under faults under retries, with the object `k` of 3 MiB and a bit.
async fn store(name: &str) -> (Retry, Faulty, Key, Bytes, ObjectMeta) {
    let faulty = Faulty::new(Arc::new(Memory::named(name)), 1);
    let retry = Retry::new(Arc::new(faulty.clone()), RetryPolicy::default());
    let body = Bytes::from((0..=250).cycle().take(3_000_007).collect::<Vec<u8>>());
    let key = Key::from("k");
    let meta = retry.put(&key, body.clone(), &Precondition::None).await.expect("no fault yet");
    (retry, faulty, key, body, meta)
}

async fn read(store: &Retry, key: &Key, range: ByteRange, version: &str) -> Result<Bytes, UfsError> {
    let whole = BytesMut::new();
    let body = store.get(key, range, version).await?;
    let read = body.try_fold(whole, async |mut whole, chunk| {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    Ok(read.await?.freeze())
}

#[tokio::test(start_paused = true)]
async fn a_body_is_resumed_where_it_broke_off() {
    let (store, faulty, key, body, meta) = store("resume").await;
    let faults = [
        Fault::BreakBody(1_000_000),
        Fault::CutBody(7),
        Fault::Error(UfsErrorKind::SlowDown),
        Fault::HangBody(1_500_000),
        Fault::BreakBody(0),
    ];
    faulty.script(Op::Get, faults.map(Some));
    assert_eq!(read(&store, &key, 1..3_000_000, &meta.version).await.expect("resumed"), body.slice(1..3_000_000));
    assert_eq!(faulty.scripted(Op::Get), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_never_mixes_versions() {
    let (store, faulty, key, body, meta) = store("versions").await;
    faulty.script(Op::Get, [Some(Fault::BreakBody(10))]);
    let mut stream = store.get(&key, 0..meta.size, &meta.version).await.expect("a body");
    assert_eq!(stream.try_next().await.expect("the first bytes"), Some(body.slice(..10)));
    store.put(&key, Bytes::from(vec![1; body.len()]), &Precondition::None).await.expect("a put");
    let error = stream.try_next().await.expect_err("another version");
    assert_eq!(error.kind(), UfsErrorKind::Changed);
    assert!(stream.try_next().await.expect("the end").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_costs_the_deadline_and_no_more() {
    let (store, faulty, key, _, meta) = store("hang").await;
    faulty.chance(None, 1.0, Fault::Hang);
    let begun = Instant::now();
    for result in [
        store.list(&ListRequest::default()).await.map(|_| ()),
        store.get(&key, 0..1, &meta.version).await.map(|_| ()),
        store.delete(&key, &Precondition::None).await,
    ] {
        let error = result.expect_err("a hang");
        assert_eq!(error.kind(), UfsErrorKind::DeadlineExceeded, "{error}");
    }
    let each = begun.elapsed() / 3;
    assert!((Duration::from_secs(10)..=Duration::from_secs(20)).contains(&each), "{each:?}");

    faulty.heal();
    faulty.chance(None, 1.0, Fault::HangBody(3));
    let begun = Instant::now();
    let error = read(&store, &key, 0..4, &meta.version).await;
    assert_eq!(error.expect("four bytes in two tries").len(), 4);
    faulty.heal();
    faulty.chance(None, 1.0, Fault::HangBody(0));
    assert_eq!(
        read(&store, &key, 0..4, &meta.version).await.map_err(|error| error.kind()),
        Err(UfsErrorKind::DeadlineExceeded)
    );
    assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_the_store_asks_for_is_kept() {
    let (store, faulty, key, ..) = store("pause").await;
    faulty.script(Op::Head, [Some(Fault::SlowDown(Duration::from_secs(7)))]);
    let begun = Instant::now();
    store.head(&key).await.expect("the second try");
    assert!(begun.elapsed() >= Duration::from_secs(7));

    // One that would end behind the deadline is cut, so that a store that comes back soon is found.
    faulty.script(Op::Head, [Some(Fault::SlowDown(Duration::from_secs(60)))]);
    let begun = Instant::now();
    store.head(&key).await.expect("the second try");
    assert_eq!(begun.elapsed().as_secs(), 5);

    faulty.chance(Some(Op::Head), 1.0, Fault::SlowDown(Duration::from_secs(60)));
    let error = store.head(&key).await.expect_err("an outage");
    assert_eq!((error.kind(), error.retry_after()), (UfsErrorKind::SlowDown, Some(Duration::from_secs(60))));
    assert!(error.to_string().ends_with("; gave up after 4 tries in 15.0 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_slow_down_ends_at_the_deadline_with_its_own_kind() {
    let (store, faulty, key, ..) = store("outage").await;
    faulty.chance(Some(Op::Head), 1.0, Fault::Error(UfsErrorKind::SlowDown));
    let begun = Instant::now();
    let error = store.head(&key).await.expect_err("an outage");
    assert_eq!(error.kind(), UfsErrorKind::SlowDown);
    assert!((Duration::from_secs(10)..=Duration::from_secs(20)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_the_store_told_is_not_lost_in_silence() {
    let (store, faulty, key, ..) = store("told").await;
    faulty.script(Op::Head, [Some(Fault::Error(UfsErrorKind::SlowDown))]);
    faulty.chance(Some(Op::Head), 1.0, Fault::Hang);
    let error = store.head(&key).await.expect_err("silence after one answer");
    assert_eq!(error.kind(), UfsErrorKind::SlowDown, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_succeed_is_not_repeated() {
    let (store, faulty, key, ..) = store("final").await;
    for kind in [UfsErrorKind::NotFound, UfsErrorKind::Refused, UfsErrorKind::Invalid, UfsErrorKind::NoSuchStore] {
        faulty.script(Op::Head, [Some(Fault::Error(kind)), Some(Fault::Latency(Duration::from_secs(1)))]);
        assert_eq!(store.head(&key).await.expect_err("a fault").kind(), kind);
        assert_eq!(faulty.scripted(Op::Head), 1, "{kind:?} was tried again");
        faulty.heal();
    }
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_whose_answer_was_lost_is_not_repeated() {
    let (store, faulty, ..) = store("conditional").await;
    let key = Key::from("new");
    faulty.script(Op::Put, [Some(Fault::LostAnswer)]);
    let error = store.put(&key, "x".into(), &Precondition::Absent).await.expect_err("the answer was lost");
    // Tried again it would say that the key exists, as if somebody else had made it.
    assert_eq!(error.kind(), UfsErrorKind::Transient);
    let present = store.head(&key).await.expect("it was carried out");

    faulty.script(Op::Put, [Some(Fault::Hang)]);
    let matches = Precondition::Matches(present.version);
    let error = store.put(&key, "y".into(), &matches).await.expect_err("no answer");
    assert_eq!(error.kind(), UfsErrorKind::DeadlineExceeded);
    assert!(error.to_string().ends_with("; it may have been carried out"), "{error}");

    faulty.script(Op::Put, [Some(Fault::Error(UfsErrorKind::SlowDown))]);
    store.put(&key, "y".into(), &matches).await.expect("SlowDown was not carried out, so it is tried again");
    faulty.script(Op::Put, [Some(Fault::LostAnswer)]);
    store.put(&key, "z".into(), &Precondition::None).await.expect("without a condition it is tried again");
}

#[test]
fn pauses_grow_to_a_bound_and_are_random_below_it() {
    let policy = RetryPolicy::default();
    for (failed, bound) in [(1, 50), (2, 100), (3, 200), (8, 5000), (100, 5000)] {
        let pauses: Vec<Duration> = (0..200).map(|_| policy.pause(failed, None, policy.deadline)).collect();
        let most = Duration::from_millis(bound);
        assert!(pauses.iter().all(|pause| *pause <= most), "{failed}");
        assert!(
            pauses.iter().any(|pause| *pause > most / 2) && pauses.iter().any(|pause| *pause < most / 2),
            "{failed}"
        );
    }
}
