//! Registration, restarts, and life without a master.

use headpond_proto::v1::Mount;
use headpond_types::ErrorKind;

use super::{
    faults::{cache_file, flip_byte},
    local::LocalClient,
    pond::{MIB, Pond, config, start},
};

#[tokio::test]
async fn a_restarted_worker_is_warm_without_a_master() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    worker.running.ready().expect("registered");
    let body = pond.lake.put("a", "1", 10 * MIB + 7);
    let (grant, id) = (pond.grant("a"), worker.running.status().worker);
    assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("cold"), body);
    let dir = worker.stop().await;
    assert!(pond.master.registry.borrow().ring.members.is_empty(), "it left the ring");
    let sent = pond.lake.sent();
    let address = pond.master.address.to_string();
    let config = config(dir.path(), &address);
    pond.stop_master().await;

    let worker = start(config, &pond.lake, dir).await.expect("starts without a master");
    assert_eq!(worker.running.ready().expect_err("no master").kind(), ErrorKind::Unavailable);
    assert_eq!(worker.running.status().worker, id);
    assert_eq!(worker.read(&grant, 0..u64::MAX).await.expect("warm"), body);
    assert_eq!(pond.lake.sent(), sent);
    let other = pond.lake.put("b", "1", MIB);
    assert_eq!(worker.read(&pond.grant("b"), 0..MIB).await.expect("mounts are known"), other);
}

#[tokio::test]
async fn a_new_worker_without_a_master_starts_and_says_what_it_lacks() {
    let pond = Pond::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    pond.lake.put("a", "1", MIB);
    let worker = start(config(dir.path(), "127.0.0.1:1"), &pond.lake, dir).await.expect("starts");
    assert_eq!(worker.running.ready().expect_err("no master").kind(), ErrorKind::Unavailable);
    let error = worker.read(&pond.grant("a"), 0..1).await.expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("has not reached a master"), "{error}");
    worker.stop().await;
}

#[tokio::test]
async fn after_a_restart_nothing_unverified_is_lent_as_complete() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let (small, large) = (pond.lake.put("small", "1", 2 * MIB + 3), pond.lake.put("large", "1", 20 * MIB));
    for key in ["small", "large"] {
        worker.read(&pond.grant(key), 0..u64::MAX).await.expect("cold");
    }
    let dir = worker.stop().await;
    flip_byte(&cache_file(dir.path(), 2 * MIB + 3), MIB + 1);
    flip_byte(&cache_file(dir.path(), 20 * MIB), 19 * MIB);

    let worker = pond.worker_in(dir, |_| {}).await;
    let mut client = LocalClient::of(&worker).await;
    let (lent, file) = client.lend(&pond.grant("small"), 4 * MIB).await.expect("lent");
    assert!(lent.complete, "small contents are verified first");
    let mut read = vec![0; small.len()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut read, 0).expect("read");
    assert_eq!(read, small);

    let (lent, _) = client.lend(&pond.grant("large"), 4 * MIB).await.expect("lent");
    assert!(!lent.complete, "large contents are verified meanwhile");
    // The corrupt page costs the lent file; its successor is whole.
    let file = loop {
        let (lent, file) = client.lend(&pond.grant("large"), 4 * MIB).await.expect("lent");
        match client.ensure(lent.lease, 0..20 * MIB).await {
            Ok(ensured) if ensured.complete => break file,
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("was dropped"), "{error}"),
        }
    };
    let mut read = vec![0; large.len()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut read, 0).expect("read");
    assert!(read == large);
}

#[tokio::test]
async fn a_fenced_worker_registers_again() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let id = worker.running.status().worker;
    pond.master.registry.send_modify(|registry| registry.fence = true);
    pond.master.until(|registry| registry.registrations == 2).await;
    pond.master.until_ring_is_known().await;
    assert_eq!(worker.running.status().worker, id);
    worker.running.ready().expect("registered");
}

#[tokio::test]
async fn a_mount_that_is_new_is_asked_for() {
    let pond = Pond::start().await;
    let worker = pond.worker_in(tempfile::tempdir().expect("a directory"), |_| {}).await;
    let body = pond.lake.put("a", "1", MIB);
    let mount = |id| Mount { id, ..Mount::default() };
    let grant = pond.master.grant_on(7, &pond.lake, "a");
    let unknown = worker.read(&grant, 0..MIB).await.expect_err("nobody knows it");
    assert_eq!(unknown.kind(), ErrorKind::Unavailable);
    pond.master.registry.send_modify(|registry| registry.mounts = (vec![mount(1), mount(7)], 2));
    assert_eq!(worker.read(&grant, 0..MIB).await.expect("asked for"), body);
}
