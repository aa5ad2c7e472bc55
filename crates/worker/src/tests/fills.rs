//! Each byte once, from the right place, and no more than asked for.

use std::time::Duration;

use headpond_proto::v1::{self, FreeRequest, LoadRequest, Origin, PresenceRequest, Range, ReadRequest};
use headpond_types::{BLOCK_SIZE, Epoch, ErrorKind, Member, Ring, WorkerId};

use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;

use super::{
    lake::Mood,
    pond::{MIB, Pond, TestWorker, part, read_all},
};
use crate::WorkerConfig;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_cold_readers_cost_the_store_one_read() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 40 * MIB + 77);
    let grant = pond.grant("big");
    pond.lake.set(Mood::Holds);
    let readers = (0..16).map(|_| worker.read(&grant, 0..u64::MAX));
    let release = async {
        pond.lake.asked(5).await;
        pond.lake.set(Mood::Serves);
    };
    let (read, ()) = tokio::join!(futures::future::join_all(readers), release);
    assert!(read.into_iter().all(|read| read.expect("read") == body));
    assert_eq!(pond.lake.sent(), body.len() as u64);
    assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("warm"), body);
    assert_eq!(pond.lake.sent(), body.len() as u64, "warm reads ask nothing");
}

#[tokio::test]
async fn a_read_in_the_middle_fetches_its_pages_alone() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 64 * MIB);
    let range = 30 * MIB + 500..31 * MIB + 500;
    let read = worker.read(&pond.grant("big"), range.clone()).await.expect("read");
    assert_eq!(read, part(&body, &range));
    let mut gets = pond.lake.gets();
    gets.sort_by_key(|get| get.start);
    // Side by side: the second page of a connection would come a page later.
    assert_eq!(gets, [30 * MIB..31 * MIB, 31 * MIB..32 * MIB]);
}

#[tokio::test]
async fn a_long_read_begins_with_one_page_and_goes_on_in_segments() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 20 * MIB);
    assert_eq!(worker.read(&pond.grant("big"), 0..u64::MAX).await.expect("read"), body);
    let mut gets = pond.lake.gets();
    gets.sort_by_key(|range| range.start);
    assert_eq!(gets, [0..MIB, MIB..8 * MIB, 8 * MIB..16 * MIB, 16 * MIB..20 * MIB]);
}

#[tokio::test]
async fn at_most_sixteen_segments_are_fetched_ahead_of_a_reader() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    pond.lake.put("big", "1", 140 * MIB);
    pond.lake.set(Mood::Holds);
    let grant = pond.grant("big");
    let request =
        ReadRequest { grant: Some(grant), ranges: vec![Range { start: 0, end: u64::MAX }], ..ReadRequest::default() };
    let reading = tokio::time::timeout(std::time::Duration::from_secs(5), read_all(worker.client.clone(), request));
    let asked = pond.lake.asked(17);
    tokio::select! {
        _ = reading => panic!("nothing was served"),
        () = asked => {}
    }
    assert_eq!(pond.lake.sent(), 128 * MIB);
    pond.lake.set(Mood::Serves);
}

#[tokio::test]
async fn vectored_reads_come_in_the_order_asked_and_readahead_comes_behind() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 12 * MIB);
    let ranges = [9 * MIB..9 * MIB + 5, 0..3, 2 * MIB - 1..2 * MIB + 1, 4..4];
    let request = ReadRequest {
        grant: Some(pond.grant("big")),
        ranges: ranges.iter().cloned().map(Into::into).collect(),
        origin: Origin::Client.into(),
        readahead: Some(Range { start: 4 * MIB, end: 6 * MIB }),
    };
    let expected: Vec<u8> = ranges.into_iter().flat_map(|range| part(&body, &range).to_vec()).collect();
    assert_eq!(read_all(worker.client.clone(), request).await.expect("read"), expected);
    pond.lake.asked(4).await;
    assert!(pond.lake.gets().contains(&(4 * MIB..6 * MIB)), "{:?}", pond.lake.gets());
}

#[tokio::test]
async fn load_presence_and_free_tell_what_is_cached() {
    let pond = Pond::start().await;
    let mut worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 9 * MIB + 9);
    let (_, _, content) = pond.lake.describe("big");
    let load = LoadRequest { grant: Some(pond.grant("big")), ranges: vec![Range { start: 8 * MIB, end: u64::MAX }] };
    let mut progress = worker.client.load(load).await.expect("accepted").into_inner();
    let mut last = None;
    while let Some(report) = progress.message().await.expect("loads") {
        last = Some(report);
    }
    assert_eq!(last.map(|report| (report.done, report.total)), Some((MIB + 9, MIB + 9)));
    let presence = PresenceRequest { contents: vec![content.into(), headpond_types::ContentId(1).into()] };
    let cached = worker.client.presence(presence.clone()).await.expect("answers").into_inner().cached_bytes;
    assert_eq!(cached, [MIB + 9, 0]);
    let freed = worker.client.free(FreeRequest { grants: vec![pond.grant("big")] }).await.expect("frees").into_inner();
    assert_eq!((freed.contents, freed.bytes), (1, MIB + 4096), "in blocks of the disk");
    let cached = worker.client.presence(presence).await.expect("answers").into_inner().cached_bytes;
    assert_eq!(cached, [0, 0]);
    let mut registry = Registry::default();
    worker.running.register_metrics(&mut registry);
    let mut metrics = String::new();
    encode(&mut metrics, &registry).expect("text");
    let filled = format!("worker_filled_bytes_total{{source=\"under_store\"}} {}\n", MIB + 9);
    assert!(metrics.contains(&filled) && metrics.contains("cache_contents 0\n"), "{metrics}");
    assert_eq!(worker.read(&pond.grant("big"), 0..u64::MAX).await.expect("read"), body);
}

#[tokio::test]
async fn only_who_may_read_a_content_may_have_it_freed() {
    let pond = Pond::start().await;
    let mut worker = pond.worker().await;
    pond.lake.put("a", "1", 10);
    worker.read(&pond.grant("a"), 0..10).await.expect("cold");
    let mut forged = pond.grant("a");
    forged.signature = vec![0; 64].into();
    let refused = worker.client.free(FreeRequest { grants: vec![forged] }).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let garbage = v1::SignedGrant { grant: vec![7; 7].into(), ..v1::SignedGrant::default() };
    worker.client.free(FreeRequest { grants: vec![garbage] }).await.expect_err("refused");
    worker.read(&pond.grant("a"), 0..10).await.expect("warm");
    assert_eq!(pond.lake.gets().len(), 1);
    let freed = worker.client.free(FreeRequest { grants: vec![pond.grant("a")] }).await.expect("freed").into_inner();
    assert_eq!(freed.contents, 1);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    pond.lake.put("a", "1", 10);
    let refused = async |request| read_all(worker.client.clone(), request).await.expect_err("refused").kind();
    let backwards = ReadRequest {
        grant: Some(pond.grant("a")),
        ranges: vec![Range { start: 2, end: 1 }],
        ..ReadRequest::default()
    };
    assert_eq!(refused(backwards).await, ErrorKind::InvalidArgument);
    assert_eq!(refused(ReadRequest::default()).await, ErrorKind::InvalidArgument);
    let mut forged = pond.grant("a");
    forged.signature = vec![0; 64].into();
    assert_eq!(worker.read(&forged, 0..1).await.expect_err("refused").kind(), ErrorKind::PermissionDenied);
    assert!(worker.read(&pond.grant("a"), 100..200).await.expect("past the end").is_empty());
}

/// An object of several blocks, and which of two workers owns the first.
async fn two_workers(pond: &Pond) -> (TestWorker, TestWorker) {
    let (first, second) = (pond.worker().await, pond.worker().await);
    pond.master.until_ring_is_known().await;
    (first, second)
}

fn owner_of(pond: &Pond, key: &str, block: u64) -> WorkerId {
    let ring = pond.master.registry.borrow().ring.clone();
    let ring = Ring { epoch: Epoch(ring.epoch), members: ring.members.into_iter().map(Member::from).collect() };
    ring.owner(pond.lake.describe(key).2, block).expect("two members").id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_workers_fetch_each_page_once_through_its_owner() {
    let pond = Pond::start().await;
    let (one, two) = two_workers(&pond).await;
    let body = pond.lake.put("big", "1", 3 * BLOCK_SIZE);
    let grant = pond.grant("big");
    let (a, b) = tokio::join!(one.read(&grant, 0..u64::MAX), two.read(&grant, 0..u64::MAX));
    assert!(a.expect("read") == body && b.expect("read") == body);
    assert_eq!(pond.lake.sent(), body.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_joins_gets_what_is_cached_from_those_who_have_it() {
    let pond = Pond::start().await;
    let (one, two) = two_workers(&pond).await;
    let keys: Vec<_> = (0..24).map(|n| format!("f{n}")).collect();
    let bodies: Vec<_> = keys.iter().map(|key| pond.lake.put(key, "1", 3 * MIB + 5)).collect();
    // Cached by the owners alone, each half: the first pages of one in two.
    for (n, key) in keys.iter().enumerate() {
        let owner = if owner_of(&pond, key, 0) == WorkerId(1) { &one } else { &two };
        let end = if n % 2 == 0 { 2 * MIB } else { u64::MAX };
        owner.read(&pond.grant(key), 0..end).await.expect("cold");
    }
    let sent = pond.lake.sent();
    let three = pond.worker().await;
    pond.master.until_heard_of_all().await;
    let moved = keys.iter().filter(|key| owner_of(&pond, key, 0) == WorkerId(3)).count();
    assert!((1..keys.len()).contains(&moved), "{moved} moved");
    for (key, body) in keys.iter().zip(&bodies) {
        assert!(three.read(&pond.grant(key), 0..u64::MAX).await.expect("read") == *body, "{key}");
    }
    let rest = keys.len() as u64 / 2 * (MIB + 5);
    assert_eq!(pond.lake.sent() - sent, rest, "what was cached nowhere, once");

    // Nobody but the first two has it, and one of them is gone without a word: that costs its share, and no reader.
    let four = pond.worker().await;
    pond.master.until_heard_of_all().await;
    drop((two.stop().await, three.stop().await));
    for (key, body) in keys.iter().zip(&bodies) {
        assert!(four.read(&pond.grant(key), 0..u64::MAX).await.expect("read") == *body, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_full_of_requests_to_each_other_do_not_wait_for_ever() {
    let pond = Pond::start().await;
    let narrow = |config: &mut WorkerConfig| (config.max_request, config.max_in_flight) = (MIB, 4 * MIB);
    let one = pond.worker_in(tempfile::tempdir().expect("a directory"), narrow).await;
    let two = pond.worker_in(tempfile::tempdir().expect("a directory"), narrow).await;
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let bodies = keys.map(|key| pond.lake.put(key, "1", 8 * MIB));
    let grants = keys.map(|key| pond.grant(key));
    pond.lake.set(Mood::Holds);
    let reads =
        futures::future::join_all(grants.iter().flat_map(|grant| [&one, &two].map(|at| at.read(grant, 0..8 * MIB))));
    let release = async {
        pond.lake.asked(8).await;
        pond.lake.set(Mood::Serves);
    };
    let (read, ()) = tokio::join!(reads, release);
    for (read, body) in read.into_iter().zip(bodies.iter().flat_map(|body| [body, body])) {
        assert!(read.expect("read") == *body);
    }
    assert_eq!(pond.lake.sent(), 64 * MIB, "no page came around its owner");
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_given_up() {
    let pond = Pond::start().await;
    let worker = pond
        .worker_in(tempfile::tempdir().expect("a directory"), |config| {
            config.deadlines.peer = Duration::from_millis(100);
        })
        .await;
    let _silent = silent_owner(&pond).await;
    let body = pond.lake.put("a", "1", 20 * MIB);
    assert_eq!(owner_of(&pond, "a", 0), WorkerId(9));
    assert_eq!(worker.read(&pond.grant("a"), 0..u64::MAX).await.expect("read"), body);
    assert_eq!(pond.lake.sent(), 20 * MIB);
}

#[tokio::test]
async fn a_peer_does_not_wait_for_what_was_asked_of_another_peer() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let silent = silent_owner(&pond).await;
    let body = pond.lake.put("a", "1", MIB);
    let grant = pond.grant("a");
    let client = worker.read(&grant, 0..MIB);
    let peer = async {
        let _connection = silent.accept().await.expect("the owner is asked");
        worker.read_as(Origin::Peer, &grant, 0..MIB).await
    };
    tokio::select! {
        read = peer => assert_eq!(read.expect("read"), body),
        _ = client => panic!("the owner does not answer yet"),
    }
}

/// Puts a worker that owns everything and answers nothing into the ring.
async fn silent_owner(pond: &Pond) -> TcpListener {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    pond.master.registry.send_modify(|registry| {
        registry.ring.epoch += 1;
        registry.ring.members.push(v1::Member { id: 9, address, weight: 1_000_000, ..v1::Member::default() });
    });
    pond.master.until(|registry| registry.heartbeats.iter().any(|beat| beat.ring_epoch == registry.ring.epoch)).await;
    silent
}

#[tokio::test]
async fn shutdown_finishes_what_somebody_waits_for_and_nothing_else() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("a", "1", 20 * MIB);
    pond.lake.set(Mood::Holds);
    let request = ReadRequest {
        grant: Some(pond.grant("a")),
        ranges: vec![Range { start: 0, end: 2 * MIB }],
        readahead: Some(Range { start: 2 * MIB, end: 20 * MIB }),
        ..ReadRequest::default()
    };
    let reading = read_all(worker.client.clone(), request);
    let stopping = async {
        pond.lake.asked(4).await;
        worker.tasks.shutdown().begin();
        pond.master.until(|registry| registry.ring.members.is_empty()).await;
        pond.lake.set(Mood::Serves);
    };
    let (read, ()) = tokio::join!(reading, stopping);
    assert_eq!(read.expect("read"), part(&body, &(0..2 * MIB)));
    worker.stop().await;

    let worker = pond.worker().await;
    pond.lake.set(Mood::Holds);
    let asked = pond.lake.gets().len();
    let request = ReadRequest {
        grant: Some(pond.grant("a")),
        readahead: Some(Range { start: 0, end: 8 * MIB }),
        ..ReadRequest::default()
    };
    assert!(read_all(worker.client.clone(), request).await.expect("nothing was asked for").is_empty());
    pond.lake.asked(asked + 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn without_its_owner_a_block_comes_from_the_under_store() {
    let pond = Pond::start().await;
    let (one, two) = two_workers(&pond).await;
    let body = pond.lake.put("small", "1", 5 * MIB);
    let grant = pond.grant("small");
    let (owner, other) = if owner_of(&pond, "small", 0) == WorkerId(1) { (one, two) } else { (two, one) };
    // Gone without a word: the ring still names it.
    let ring = pond.master.registry.borrow().ring.clone();
    owner.stop().await;
    pond.master.registry.send_modify(|registry| {
        registry.ring = Ring::from(ring).into();
        registry.ring.epoch += 10;
    });
    pond.master.until(|registry| registry.heartbeats.iter().any(|beat| beat.ring_epoch == registry.ring.epoch)).await;
    assert_eq!(other.read(&grant, 0..u64::MAX).await.expect("read"), body);
    assert_eq!(pond.lake.sent(), body.len() as u64);
}

#[tokio::test]
async fn a_worker_taken_for_the_owner_by_mistake_does_not_ask_back() {
    let pond = Pond::start().await;
    let (one, two) = two_workers(&pond).await;
    let body = pond.lake.put("small", "1", 3 * MIB);
    let grant = pond.grant("small");
    let (owner, other) = if owner_of(&pond, "small", 0) == WorkerId(1) { (one, two) } else { (two, one) };
    let read = other.read_as(Origin::Peer, &grant, 0..u64::MAX).await.expect("read");
    assert_eq!(read, body);
    let free = FreeRequest { grants: vec![pond.grant("small")] };
    let freed = owner.client.clone().free(free).await.expect("answers").into_inner();
    assert_eq!(freed.bytes, 0, "the owner was not asked");
}
