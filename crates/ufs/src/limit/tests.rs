use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};

use super::*;
use crate::{Counters, Fault, Faulty, Memory, Metered, Op, Precondition};

async fn object(name: &str, size: usize) -> (Arc<dyn UnderStore>, Key, String) {
    let memory = Memory::named(name);
    let key = Key::from("k");
    let meta = memory.put(&key, Bytes::from(vec![7; size]), &Precondition::None).await.expect("a put");
    (Arc::new(memory), key, meta.version)
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_allowed_are_under_way() {
    let (memory, key, _) = object("limit-requests", 1).await;
    let counters = Arc::new(Counters::default());
    let faulty = Faulty::new(memory, 1);
    faulty.chance(None, 1.0, Fault::Latency(Duration::from_secs(1)));
    let limit = Limit::new(Arc::new(Metered::new(Arc::new(faulty), Arc::clone(&counters))), 3, None);
    let begun = Instant::now();
    let (most, heads) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            counters.in_flight.load(std::sync::atomic::Ordering::Relaxed)
        },
        join_all((0..9).map(|_| limit.head(&key)))
    );
    assert!(heads.iter().all(Result::is_ok));
    assert_eq!(most, 3);
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_holds_its_permit_until_it_is_read_or_dropped() {
    let (memory, key, version) = object("limit-body", 3 << 20).await;
    let limit = Limit::new(memory, 1, None);
    let waits = async || tokio::time::timeout(Duration::from_secs(1), limit.head(&key)).await.is_err();

    let mut body = limit.get(&key, 0..3 << 20, &version).await.expect("a body");
    assert!(waits().await, "no byte was read");
    body.try_next().await.expect("the first chunk");
    assert!(waits().await, "only a part was read");
    while body.try_next().await.expect("a chunk").is_some() {}
    assert!(!waits().await, "all was read, though the stream is still held");

    let unread = limit.get(&key, 0..1, &version).await.expect("a body");
    assert!(waits().await);
    drop(unread);
    assert!(!waits().await);
}

#[tokio::test(start_paused = true)]
async fn the_permit_comes_back_after_an_error() {
    let (memory, key, version) = object("limit-error", 10).await;
    let faulty = Faulty::new(memory, 1);
    let limit = Limit::new(Arc::new(faulty.clone()), 1, None);
    faulty.script(Op::Get, [Some(Fault::BreakBody(3))]);
    let mut body = limit.get(&key, 0..10, &version).await.expect("a body");
    while body.try_next().await.is_ok_and(|chunk| chunk.is_some()) {}
    limit.head(&key).await.expect("a free permit");
}

#[tokio::test(start_paused = true)]
async fn bandwidth_is_bounded_over_all_requests() {
    let (memory, key, version) = object("limit-rate", 4 << 20).await;
    let limit = Limit::new(memory, 64, NonZeroU64::new(1 << 20));
    let begun = Instant::now();
    let bodies = (0..2).map(|_| async {
        let body = limit.get(&key, 0..4 << 20, &version).await.expect("a body");
        body.try_for_each(|_| async { Ok(()) }).await.expect("all bytes");
    });
    join_all(bodies).await;
    // 8 MiB at 1 MiB/s; the last chunk of 1 MiB passes when those before it are paid for.
    let spent = begun.elapsed();
    assert!((Duration::from_millis(6800)..Duration::from_millis(7200)).contains(&spent), "{spent:?}");
}
