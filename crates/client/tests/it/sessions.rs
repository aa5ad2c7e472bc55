//! What a client says in its session.

use headpond_client::{Client, ClientConfig};
use headpond_proto::v1;
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::InodeId;

use crate::fakes::Cluster;

const ROOT: InodeId = InodeId::ROOT;

#[tokio::test]
async fn a_change_is_taken_when_nobody_above_believes_otherwise() {
    let cluster = Cluster::start(1).await;
    cluster.client.attr(ROOT).await.expect("answered");
    let mut events = cluster.client.events();
    let mut said = cluster.master.said.subscribe();
    said.wait_for(|said| said.iter().any(|words| words.cached_above)).await.expect("it lives");
    let change = |name: &'static str, ticket| {
        let entry = v1::InvalidatedEntry { parent: ROOT.0, name: name.into(), inode: 0, same: false };
        let told = v1::Invalidation { entries: vec![entry], as_of: 9, ticket, own: false };
        cluster.master.send(v1::watch_event::Event::Invalidation(told));
    };
    change("held", 4);
    change("at once", 5);
    let held = events.recv().await.expect("an event");
    drop(events.recv().await.expect("an event"));
    let taken = |said: &Vec<v1::WatchRequest>| said.iter().flat_map(|words| words.taken.clone()).collect::<Vec<_>>();
    let so_far = said.wait_for(|said| !taken(said).is_empty()).await.expect("it lives").clone();
    assert_eq!(taken(&so_far), [5]);
    drop(held);
    said.wait_for(|said| taken(said) == [5, 4]).await.expect("it lives");
}

#[tokio::test]
async fn a_client_leaves_once_those_above_have_forgotten_everything() {
    for let_go in [false, true] {
        let mut cluster = Cluster::start(1).await;
        let events = cluster.client.events();
        let mut said = cluster.master.said.subscribe();
        said.wait_for(|said| said.iter().any(|words| words.cached_above)).await.expect("it lives");
        if let_go {
            drop(events);
            cluster.client.let_go();
        }
        // The last clone: the client ends.
        cluster.client = Client::connect(ClientConfig::default(), Tasks::new(Shutdown::new())).expect("a client");
        cluster.master.without_sessions().await;
        assert!(cluster.tasks.drain(std::time::Duration::from_secs(5)).await);
        assert_eq!(said.borrow().iter().any(|words| words.leave), let_go);
    }
}
