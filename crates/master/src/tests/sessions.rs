//! What sessions are told of changes.

use futures::StreamExt;
use headpond_proto::v1::{
    self, AddMountRequest, GetAttrRequest, StatusRequest, WatchRequest, admin_service_client::AdminServiceClient,
    watch_event::Event,
};

use super::{
    Rig,
    services::{channel, client},
};

#[tokio::test]
async fn sessions_hear_what_changes() {
    let rig = Rig::new(&["f"]).await;
    let mut client = client(&rig).await;
    let mut watch = client.watch(WatchRequest { client: "test".to_owned() }).await.expect("begins").into_inner();
    let before = rig.inode("/m/f").await;
    rig.put("f", "changed").await;
    rig.advance(super::INTERVAL);
    rig.inode("/m/f").await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let event = watch.next().await.expect("goes on").expect("an event").event;
        if let Some(Event::Invalidation(told)) = event {
            heard.extend(told.entries.into_iter().map(|entry| (entry.name, entry.inode)));
        }
    }
    assert_eq!(heard, [("f".into(), 0), ("f".into(), before.0)]);
    let status = AdminServiceClient::new(channel(&rig).await).status(StatusRequest {}).await.expect("answered");
    assert_eq!(status.into_inner().clients, 1);
}

/// The names of which sessions are told, up to `last`.
async fn told_of(watch: &mut tonic::Streaming<v1::WatchEvent>, last: &str) -> Vec<String> {
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != last) {
        let event = watch.next().await.expect("goes on").expect("an event").event;
        if let Some(Event::Invalidation(told)) = event {
            names.extend(told.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()));
        }
    }
    names
}

#[tokio::test]
async fn a_first_listing_is_told_only_to_whom_it_contradicts() {
    let rig = Rig::new(&["d/a", "d/b"]).await;
    let request = WatchRequest { client: "test".to_owned() };
    let mut watch = client(&rig).await.watch(request.clone()).await.expect("begins").into_inner();
    assert_eq!(rig.find("/m/d/x").await.expect("asked"), None);
    rig.put("d/x", "new").await;
    rig.advance(super::INTERVAL / 2);
    assert_eq!(rig.list("/m/d").await.expect("listed"), ["a", "b", "x"]);
    rig.put("d/y", "new").await;
    rig.advance(super::INTERVAL);
    assert_eq!(rig.list("/m/d").await.expect("listed"), ["a", "b", "x", "y"]);
    assert_eq!(told_of(&mut watch, "y").await, ["d", "x", "y"]);
}

#[tokio::test]
async fn after_a_mount_was_added_a_first_listing_is_told_to_all_if_anybody_asked_before() {
    for asked in [false, true] {
        let rig = Rig::new(&["d/a", "d/b", "d/c"]).await;
        let mut client = client(&rig).await;
        let request = WatchRequest { client: "test".to_owned() };
        let mut watch = client.watch(request).await.expect("begins").into_inner();
        if asked {
            client.get_attr(GetAttrRequest { inode: 1, ..Default::default() }).await.expect("answered");
        }
        let other = v1::Mount { path: "/other".into(), uri: rig.mount().uri, ..Default::default() };
        let request = AddMountRequest { mount: Some(other), request_id: vec![7; 16].into() };
        AdminServiceClient::new(channel(&rig).await).add_mount(request).await.expect("added");
        assert_eq!(rig.list("/m/d").await.expect("listed"), ["a", "b", "c"]);
        rig.put("d/y", "new").await;
        rig.advance(super::INTERVAL);
        assert_eq!(rig.list("/m/d").await.expect("listed"), ["a", "b", "c", "y"]);
        let told = told_of(&mut watch, "y").await;
        let expected: &[&str] = if asked { &["other", "d", "a", "b", "c", "y"] } else { &["other", "d", "y"] };
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn after_a_restart_a_first_listing_is_told_to_all() {
    let rig = Rig::new(&["d/a", "d/b"]).await;
    rig.find("/m/d").await.expect("asked");
    let rig = rig.restart(Some(super::INTERVAL)).await;
    let request = WatchRequest { client: "test".to_owned() };
    let mut watch = client(&rig).await.watch(request).await.expect("begins").into_inner();
    rig.list("/m/d").await.expect("listed");
    assert_eq!(told_of(&mut watch, "b").await, ["a", "b"]);
}
