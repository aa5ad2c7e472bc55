//! Wrappers are stores and pass the suite, with faults that they must hide as well.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc, time::Duration};

use futures::{TryStreamExt, future::join_all};
use headpond_ufs::{
    Counters, Fault, Faulty, Key, Limit, Memory, Metered, NoCredentials, Op, Outcome, Precondition, Retry, RetryPolicy,
    StoreUri, UfsErrorKind, UnderStore, connect, connect_metered,
};

use super::cases;

fn memory(name: &str) -> Arc<dyn UnderStore> {
    Arc::new(Memory::named(name))
}

#[tokio::test]
async fn retry_conforms() {
    cases::run(Arc::new(Retry::new(memory("retry"), RetryPolicy::default()))).await;
}

#[tokio::test(start_paused = true)]
async fn limit_conforms() {
    cases::run(Arc::new(Limit::new(memory("limit"), 1, NonZeroU64::new(10 << 20)))).await;
}

#[tokio::test]
async fn metered_conforms() {
    let counters = Arc::new(Counters::default());
    cases::run(Arc::new(Metered::new(memory("metered"), Arc::clone(&counters)))).await;
    assert_ne!(counters.requests(Op::List, Outcome::Ok), 0);
    assert_eq!(counters.in_flight.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn faulty_without_faults_conforms() {
    cases::run(Arc::new(Faulty::new(memory("faulty"), 1))).await;
}

/// Faults after which a request may be repeated never show through retries, whatever they meet.
#[tokio::test(start_paused = true)]
async fn retry_over_faults_conforms() {
    for seed in 0..10 {
        println!("seed {seed}");
        let faulty = Faulty::new(memory(&format!("faults-{seed}")), seed);
        for op in [Op::List, Op::Head, Op::Get, Op::PutPart, Op::CopyPart, Op::CreateMultipart, Op::AbortMultipart] {
            faulty.chance(Some(op), 0.1, Fault::Error(UfsErrorKind::Transient));
            faulty.chance(Some(op), 0.05, Fault::LostAnswer);
            faulty.chance(Some(op), 0.02, Fault::Hang);
        }
        faulty.chance(None, 0.1, Fault::SlowDown(Duration::from_millis(300)));
        faulty.chance(None, 0.1, Fault::Latency(Duration::from_secs(2)));
        for after in [0, 3, 1 << 20, 3_000_000] {
            faulty.chance(Some(Op::Get), 0.1, Fault::BreakBody(after));
            faulty.chance(Some(Op::Get), 0.1, Fault::CutBody(after));
            faulty.chance(Some(Op::Get), 0.02, Fault::HangBody(after));
        }
        let patient = RetryPolicy { deadline: Duration::from_secs(600), ..RetryPolicy::default() };
        cases::run(Arc::new(Retry::new(Arc::new(faulty), patient))).await;
    }
}

#[tokio::test]
async fn a_connected_store_conforms_and_counts() {
    let counters = Arc::new(Counters::default());
    let uri = StoreUri::parse("memory://connected").unwrap();
    let store = connect_metered(&uri, &BTreeMap::new(), &NoCredentials, Arc::clone(&counters)).await.unwrap();
    cases::run(store).await;
    assert_ne!(counters.requests(Op::Get, Outcome::Ok), 0);
}

/// Many readers of a narrow store wait for each other longer than any try may take; that is no fault of the store.
#[tokio::test(start_paused = true)]
async fn waiting_for_bandwidth_reads_nothing_twice() {
    let counters = Arc::new(Counters::default());
    let uri = StoreUri::parse("memory://narrow").unwrap();
    let options = BTreeMap::from([("max_bytes_per_second".to_owned(), (64 << 10).to_string())]);
    let store = connect_metered(&uri, &options, &NoCredentials, Arc::clone(&counters)).await.unwrap();
    let key = Key::from("k");
    let meta = store.put(&key, vec![1; 1 << 20].into(), &Precondition::None).await.unwrap();
    let readers = (0..8).map(|_| async {
        let body = store.get(&key, 0..meta.size, &meta.version).await.expect("a body");
        body.try_fold(0, async |sum, chunk| Ok(sum + chunk.len())).await.expect("its bytes")
    });
    assert_eq!(join_all(readers).await, [1 << 20; 8]);
    assert_eq!(counters.total(Op::Get), 8);
}

#[tokio::test]
async fn bad_options_are_named() {
    for (uri, name, value, said) in [
        ("memory://m", "region", "x", "memory://m has no option \"region\": use one of max_requests"),
        ("memory://m", "max_requests", "many", "option max_requests of memory://m is \"many\": give a number"),
        ("memory://m", "deadline_seconds", "0", "give a number of seconds from 1"),
        ("s3://b/p", "regoin", "x", "s3://b/p/ has no option \"regoin\": use one of endpoint, region"),
        ("s3://b", "path_style", "yes", "give true or false"),
        ("s3://b", "endpoint", "localhost:9000", "give a URL like https://host:port"),
        ("s3://b", "endpoint", "http://user:hush@host", "give a URL like https://host:port"),
        ("s3://b", "credentials", "nobody", "no credentials are called \"nobody\""),
        ("file:///no/such/directory", "", "", "directory /no/such/directory does not exist; create or mount it"),
    ] {
        let options = [(name, value)].into_iter().filter(|(name, _)| !name.is_empty());
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let error = connect(&StoreUri::parse(uri).unwrap(), &options, &NoCredentials).await.expect_err(said);
        let kind = if name.is_empty() { UfsErrorKind::NoSuchStore } else { UfsErrorKind::Invalid };
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
