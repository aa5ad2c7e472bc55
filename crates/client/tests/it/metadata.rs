//! Names and attributes.

use std::time::Duration;

use headpond_client::{Awaited, Client, ClientConfig, Event, ListOptions, NewMount};
use headpond_proto::v1;
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::{ErrorKind, InodeId, Name, NsPath};

use futures::TryStreamExt;

use crate::fakes::{Cluster, config, directory, file};

const ROOT: InodeId = InodeId::ROOT;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn changed(name: Option<Name>, old: Option<InodeId>) -> Event {
    Event::Entry { parent: ROOT, name, old, own: false, same: false, awaited: Awaited::default() }
}

#[tokio::test]
async fn a_valid_answer_is_asked_for_once() {
    let cluster = Cluster::start(0).await;
    cluster.master.put(1, "a", file(7, 3));
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_none());
    for _ in 0..2 {
        let found = cluster.client.lookup(ROOT, &name("a")).await.expect("found");
        assert_eq!(found.attr.as_deref(), Some(&file(7, 3)));
        assert!(found.remaining() > Duration::from_secs(20));
    }
    assert_eq!(cluster.master.calls("lookup"), 1);
    let cached = cluster.client.cached_lookup(ROOT, b"a").expect("in memory");
    assert_eq!(cached.attr.as_deref(), Some(&file(7, 3)));
    cluster.client.attr(InodeId(7)).await.expect("found");
    cluster.client.resolve(&NsPath::parse("/a").expect("a path")).await.expect("found");
    assert_eq!(cluster.master.calls(""), 1);
}

#[tokio::test]
async fn an_absence_is_remembered_too() {
    let cluster = Cluster::start(0).await;
    for _ in 0..2 {
        assert!(cluster.client.lookup(ROOT, &name("a")).await.expect("answered").attr.is_none());
    }
    assert_eq!(cluster.master.calls("lookup"), 1);
    assert!(cluster.client.cached_lookup(ROOT, b"a").expect("in memory").attr.is_none());
}

#[tokio::test]
async fn concurrent_lookups_share_calls() {
    let cluster = Cluster::start(0).await;
    for inode in 10..110 {
        cluster.master.put(1, &inode.to_string(), file(inode, 3));
    }
    cluster.master.state().due.insert((1, b"70".to_vec()));
    let names: Vec<_> = (10..120).map(|inode| name(&inode.to_string())).collect();
    let lookups = names.iter().map(|name| cluster.client.lookup(ROOT, name));
    for (found, inode) in futures::future::join_all(lookups).await.into_iter().zip(10..) {
        let expected = (inode < 110).then_some(InodeId(inode));
        assert_eq!(found.expect("answered").attr.map(|attr| attr.inode), expected);
    }
    assert!(cluster.client.cached_lookup(ROOT, b"90").is_some_and(|found| found.attr.is_some()));
    let (alone, batches) = (cluster.master.calls("lookup"), cluster.master.calls("batch"));
    assert!(alone <= 3 && (1..=3).contains(&batches), "{alone} lookups and {batches} batches");
}

#[tokio::test]
async fn who_waits_for_a_batch_that_fails_asks_alone() {
    let cluster = Cluster::start(0).await;
    cluster.master.state().batches_fail = true;
    let names: Vec<_> = (10..30).map(|inode| name(&inode.to_string())).collect();
    let lookups = names.iter().map(|name| cluster.client.lookup(ROOT, name));
    for answer in futures::future::join_all(lookups).await {
        assert!(answer.expect("answered").attr.is_none());
    }
    assert_eq!(cluster.master.calls("lookup"), 20);
    assert!(cluster.master.calls("batch") > 0);
}

#[tokio::test]
async fn an_answer_without_validity_is_for_its_caller_only() {
    let cluster = Cluster::start(0).await;
    cluster.master.state().valid_ms = 0;
    cluster.master.put(1, "a", file(7, 3));
    for _ in 0..2 {
        cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    }
    assert_eq!(cluster.master.calls("lookup"), 2);
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_none());
}

#[tokio::test]
async fn a_change_is_told_after_it_was_forgotten() {
    let cluster = Cluster::start(0).await;
    let mut events = cluster.client.events();
    cluster.master.put(1, "a", file(7, 3));
    cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    cluster.master.put(1, "a", file(8, 4));
    cluster.master.invalidate(1, "a", 7);
    let expected = changed(Some(name("a")), Some(InodeId(7)));
    assert_eq!(events.recv().await.expect("an event"), expected);
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_none());
    assert!(cluster.client.cached_attr(InodeId(7)).is_none());
    let found = cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    assert_eq!(found.attr.expect("there").inode, InodeId(8));
}

#[tokio::test]
async fn what_is_discovered_by_being_asked_for_is_kept() {
    let mut cluster = Cluster::start(0).await;
    let mut events = cluster.client.events();
    cluster.master.state().undiscovered.insert((1, b"a".to_vec()), file(7, 3));
    let found = cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    assert!(found.is_valid());
    let expected = changed(Some(name("a")), None);
    assert_eq!(events.recv().await.expect("an event"), expected);
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_some(), "the answer had the change already");
    cluster.kill_master().await;
    let known = cluster.client.lookup(ROOT, &name("a")).await.expect("known");
    assert_eq!(known.attr.map(|attr| attr.inode), Some(InodeId(7)));
}

#[tokio::test]
async fn a_changed_listing_makes_every_name_in_it_uncertain() {
    let cluster = Cluster::start(0).await;
    let mut events = cluster.client.events();
    assert!(cluster.client.lookup(ROOT, &name("a")).await.expect("answered").attr.is_none());
    cluster.master.invalidate(1, "", 0);
    assert_eq!(events.recv().await.expect("an event"), changed(None, None));
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_none());
}

#[tokio::test]
async fn with_the_session_goes_the_belief() {
    let cluster = Cluster::start(0).await;
    let mut events = cluster.client.events();
    cluster.master.put(1, "a", file(7, 3));
    cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    cluster.master.break_sessions();
    assert_eq!(events.recv().await.expect("an event"), Event::Reset);
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_none());
    cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    assert_eq!(cluster.master.calls("lookup"), 2);
}

#[tokio::test]
async fn a_reset_within_a_session_does_the_same() {
    let cluster = Cluster::start(0).await;
    let mut events = cluster.client.events();
    assert!(cluster.client.lookup(ROOT, &name("a")).await.expect("answered").attr.is_none());
    cluster.master.send(v1::watch_event::Event::Reset(true));
    assert_eq!(events.recv().await.expect("an event"), Event::Reset);
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_none());
    cluster.client.lookup(ROOT, &name("a")).await.expect("answered");
    assert!(cluster.client.cached_lookup(ROOT, b"a").is_some());
}

#[tokio::test]
async fn a_listing_fills_the_memory() {
    let cluster = Cluster::start(0).await;
    for (entry, inode) in [("a", 7), ("b", 8)] {
        cluster.master.put(1, entry, file(inode, 3));
    }
    let pages: Vec<_> = cluster.client.list(ROOT, ListOptions::default()).try_collect().await.expect("listed");
    assert_eq!(pages.len(), 2);
    assert_eq!(pages[1].entries[0].name, "b");
    assert!(cluster.client.cached_lookup(ROOT, b"b").is_some());
    assert!(cluster.client.cached_attr(InodeId(8)).is_some());
    assert_eq!(cluster.master.calls("lookup"), 0);
}

#[tokio::test]
async fn without_any_master_known_files_stay_known() {
    let mut cluster = Cluster::start(0).await;
    cluster.master.put(1, "d", directory(6));
    cluster.master.put(6, "a", file(7, 3));
    let client = cluster.client.clone();
    client.lookup(ROOT, &name("d")).await.expect("found");
    client.lookup(InodeId(6), &name("a")).await.expect("found");
    assert!(client.lookup(InodeId(6), &name("absent")).await.expect("answered").attr.is_none());
    client.open(InodeId(7)).await.expect("opened");
    cluster.kill_master().await;

    assert!(client.cached_lookup(InodeId(6), b"a").is_none(), "it is known, not believed");
    let found = client.lookup(InodeId(6), &name("a")).await.expect("known");
    assert_eq!((found.attr.as_ref().map(|attr| attr.inode), found.is_valid()), (Some(InodeId(7)), false));
    client.resolve(&NsPath::parse("/d/a").expect("a path")).await.expect("known");
    client.attr(InodeId(7)).await.expect("known");
    client.open(InodeId(7)).await.expect("known");
}

#[tokio::test]
async fn without_any_master_what_is_not_known_is_an_error() {
    let short = ClientConfig { metadata_timeout: Duration::from_secs(1), ..config() };
    let mut cluster = Cluster::build(0, None, short).await;
    assert!(cluster.client.lookup(ROOT, &name("a")).await.expect("answered").attr.is_none());
    cluster.kill_master().await;
    let error = cluster.client.lookup(ROOT, &name("a")).await.expect_err("an absence is not used");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_outage_takes_one_deadline_in_all() {
    let short = ClientConfig { metadata_timeout: Duration::from_secs(1), ..config() };
    let mut cluster = Cluster::build(0, None, short).await;
    cluster.master.put(1, "last", file(7, 3));
    cluster.kill_master().await;
    let ask = async {
        for n in 0..100 {
            let error = cluster.client.lookup(ROOT, &name(&n.to_string())).await.expect_err("no master");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.message().contains("127.0.0.1"), "{error}");
        }
        let mut pages = cluster.client.list(ROOT, ListOptions::default());
        pages.try_next().await.expect_err("no master");
    };
    tokio::time::timeout(Duration::from_secs(10), ask).await.expect("not a second for each");
    cluster.restart_master().await;
    let found = async {
        loop {
            match cluster.client.lookup(ROOT, &name("last")).await {
                Ok(found) => break found,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await.expect("when it is back");
    assert!(found.attr.is_some());
}

#[tokio::test]
async fn known_files_can_be_declined() {
    let never = ClientConfig { metadata_timeout: Duration::from_secs(1), offline_reads: Duration::ZERO, ..config() };
    let mut cluster = Cluster::build(0, None, never).await;
    cluster.master.state().valid_ms = 0;
    cluster.master.put(1, "a", file(7, 3));
    cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    cluster.kill_master().await;
    let error = cluster.client.lookup(ROOT, &name("a")).await.expect_err("too old");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_failing_store_is_no_reason_to_use_what_is_old() {
    let short = ClientConfig { metadata_timeout: Duration::from_secs(1), ..config() };
    let cluster = Cluster::build(0, None, short).await;
    cluster.master.state().valid_ms = 0;
    cluster.master.put(1, "a", file(7, 3));
    cluster.client.lookup(ROOT, &name("a")).await.expect("found");
    cluster.master.state().failures = vec![ErrorKind::Unavailable; 1000];
    let error = cluster.client.lookup(ROOT, &name("a")).await.expect_err("the master decides");
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "told to fail"));
}

#[tokio::test]
async fn what_is_unavailable_is_retried_and_nothing_else() {
    let cluster = Cluster::start(0).await;
    cluster.master.put(1, "a", file(7, 3));
    cluster.master.state().failures = vec![ErrorKind::Unavailable; 3];
    cluster.client.lookup(ROOT, &name("a")).await.expect("in the end");
    assert_eq!(cluster.master.calls("lookup"), 4);
    cluster.master.state().failures = vec![ErrorKind::StoreRefused];
    let error = cluster.client.lookup(ROOT, &name("b")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    assert_eq!(cluster.master.calls("lookup"), 5);
}

#[tokio::test]
async fn a_retried_change_is_one_change() {
    let cluster = Cluster::start(0).await;
    cluster.master.state().failures = vec![ErrorKind::Unavailable];
    let mount = NewMount::new(NsPath::parse("/data").expect("a path"), "s3://bucket");
    let added = cluster.client.admin().add_mount(mount.clone()).await.expect("added");
    assert_eq!(added.spec, mount);
    let ids = cluster.master.state().request_ids.clone();
    assert_eq!((ids.len(), ids[0].len()), (2, 16));
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_master_that_hangs_ends_in_the_deadline() {
    let short = ClientConfig { metadata_timeout: Duration::from_millis(200), ..config() };
    let cluster = Cluster::build(0, None, short).await;
    cluster.master.hang(true);
    let error = cluster.client.lookup(ROOT, &name("a")).await.expect_err("late");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    cluster.master.hang(false);
    cluster.client.lookup(ROOT, &name("a")).await.expect("again");
}

#[tokio::test]
async fn bad_addresses_are_refused_at_once() {
    for masters in [vec![], vec!["no address".to_owned()]] {
        let config = ClientConfig { masters, ..config() };
        let error = Client::connect(config, Tasks::new(Shutdown::new())).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn the_last_client_ends_the_background_tasks() {
    let mut cluster = Cluster::start(0).await;
    let other = Client::connect(ClientConfig::default(), Tasks::new(Shutdown::new())).expect("a client");
    cluster.client = other;
    cluster.master.without_sessions().await;
    assert!(!cluster.tasks.shutdown().has_begun());
    assert!(cluster.tasks.drain(Duration::from_secs(5)).await);
}
