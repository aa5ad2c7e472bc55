use bytes::Bytes;
use futures::TryStreamExt;

use super::*;
use crate::{Fault, Faulty, Memory, Precondition};

#[tokio::test]
async fn every_end_of_a_request_is_counted_once() {
    let faulty = Faulty::new(Arc::new(Memory::named("metered")), 1);
    let counters = Arc::new(Counters::default());
    let store = Metered::new(Arc::new(faulty.clone()), Arc::clone(&counters));
    let key = Key::from("k");
    let meta = store.put(&key, Bytes::from_static(b"0123456789"), &Precondition::None).await.expect("a put");
    let get = async || store.get(&key, 0..10, &meta.version).await;

    let whole: Vec<Bytes> = get().await.expect("a body").try_collect().await.expect("its bytes");
    assert_eq!(whole.concat(), b"0123456789");
    drop(get().await.expect("a body that nobody reads"));
    faulty.script(
        Op::Get,
        [Some(Fault::BreakBody(4)), Some(Fault::CutBody(3)), Some(Fault::Error(UfsErrorKind::Refused))],
    );
    for _ in 0..2 {
        let mut body = get().await.expect("a body");
        while body.try_next().await.is_ok_and(|chunk| chunk.is_some()) {}
    }
    assert!(get().await.is_err());
    store.head(&Key::from("none")).await.expect_err("no such key");

    let count = |op, outcome| counters.requests(op, outcome);
    assert_eq!(count(Op::Put, Outcome::Ok), 1);
    assert_eq!(count(Op::Get, Outcome::Ok), 1);
    assert_eq!(count(Op::Get, Outcome::Abandoned), 1);
    assert_eq!(count(Op::Get, Outcome::Failed(UfsErrorKind::Transient)), 1);
    assert_eq!(count(Op::Get, Outcome::Failed(UfsErrorKind::Protocol)), 1);
    assert_eq!(count(Op::Get, Outcome::Failed(UfsErrorKind::Refused)), 1);
    assert_eq!(count(Op::Head, Outcome::Failed(UfsErrorKind::NotFound)), 1);
    assert_eq!(counters.total(Op::Get), 5);
    assert_eq!(counters.in_flight.load(Relaxed), 0);
    assert_eq!(counters.bytes_sent.load(Relaxed), 10);
    assert_eq!(counters.bytes_received.load(Relaxed), 10 + 4 + 3);
}

#[test]
fn outcomes_and_operations_index_their_counters() {
    let indices: Vec<usize> = Outcome::all().map(Outcome::index).collect();
    let mut sorted = indices.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..indices.len()).collect::<Vec<_>>());
    assert!(Op::ALL.iter().enumerate().all(|(index, op)| *op as usize == index));
}
