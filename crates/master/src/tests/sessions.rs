//! What sessions are told of changes.

use std::time::Duration;

use futures::StreamExt;
use headpond_proto::v1::{
    self, AddMountRequest, CreateRequest, GetAttrRequest, LookupRequest, StatusRequest, WatchRequest,
    admin_service_client::AdminServiceClient, watch_event::Event, writing_service_client::WritingServiceClient,
};
use headpond_types::RequestId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::{
    Rig,
    services::{channel, client, introduction},
    writing::request as request_id,
};

#[tokio::test]
async fn sessions_hear_what_changes() {
    let rig = Rig::new(&["f"]).await;
    let mut client = client(&rig).await;
    let mut watch = client.watch(introduction()).await.expect("begins").into_inner();
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
    let mut watch = client(&rig).await.watch(introduction()).await.expect("begins").into_inner();
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
        let mut watch = client.watch(introduction()).await.expect("begins").into_inner();
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
    let mut watch = client(&rig).await.watch(introduction()).await.expect("begins").into_inner();
    rig.list("/m/d").await.expect("listed");
    assert_eq!(told_of(&mut watch, "b").await, ["a", "b"]);
}

/// `message` as of session `session`.
fn within<T>(session: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("headpond-session", session.into());
    request
}

/// The id of the session that begins with `watch`.
async fn begun(watch: &mut tonic::Streaming<v1::WatchEvent>) -> u64 {
    match watch.next().await.expect("goes on").expect("an event").event {
        Some(Event::Session(session)) => session.id,
        other => panic!("a session first, not {other:?}"),
    }
}

#[tokio::test]
async fn a_change_is_answered_when_those_have_heard_who_were_told_otherwise() {
    let rig = Rig::writable(&["d/a"]).await;
    let (dir, mut reader) = (rig.inode("/m/d").await, client(&rig).await);
    let (words, said) = mpsc::channel(4);
    words.send(WatchRequest::default()).await.expect("room");
    let mut watch = reader.watch(ReceiverStream::new(said)).await.expect("begins").into_inner();
    let mut authors = client(&rig).await.watch(introduction()).await.expect("begins").into_inner();
    let (session, author) = (begun(&mut watch).await, begun(&mut authors).await);
    for session in [session, author] {
        let question = LookupRequest { parent: dir.0, name: "new".into(), ..Default::default() };
        let found = reader.lookup(within(session, question)).await.expect("answered").into_inner();
        assert!(found.attr.is_none() && found.valid_ms > 0);
    }
    let mut writing = WritingServiceClient::new(channel(&rig).await);
    let request_id = request_id().0.to_be_bytes().to_vec().into();
    let new = CreateRequest { parent: dir.0, name: "new".into(), mode: 0o644, request_id, ..Default::default() };
    let mut created = rig.tasks.spawn(async move { writing.create(within(author, new)).await });
    let ticket = loop {
        let next = tokio::select! {
            next = watch.next() => next,
            created = &mut created => panic!("not told, but answered {created:?}"),
        };
        let event = next.expect("goes on").expect("an event").event;
        if let Some(Event::Invalidation(told)) = event
            && told.entries.iter().any(|entry| entry.name == "new")
        {
            break told.ticket;
        }
    };
    assert_ne!(ticket, 0);
    let found = rig.find("/m/d/new").await.expect("asked");
    assert!(found.is_some(), "it was made, and is not waited for by who asks now");
    let early = tokio::time::timeout(Duration::from_millis(200), &mut created).await;
    assert!(early.is_err(), "answered before the reader has heard");
    words.send(WatchRequest { taken: vec![ticket], ..Default::default() }).await.expect("room");
    created.await.expect("no panic").expect("created");
}

#[tokio::test]
async fn an_answer_in_a_session_that_is_not_has_no_validity() {
    let rig = Rig::new(&["f"]).await;
    let question = GetAttrRequest { inode: 1, ..Default::default() };
    let mut client = client(&rig).await;
    let found = client.get_attr(within(77, question.clone())).await.expect("answered").into_inner();
    assert_eq!(found.valid_ms, 0);
    let mut watch = client.watch(introduction()).await.expect("begins").into_inner();
    let session = begun(&mut watch).await;
    let found = client.get_attr(within(session, question)).await.expect("answered").into_inner();
    assert_ne!(found.valid_ms, 0);
}

/// The session of a reader with caches above him, who knows that there is no `new` in `/m/d`.
async fn reader_of_the_last_master(rig: &Rig) -> u64 {
    let (dir, mut reader) = (rig.inode("/m/d").await, client(rig).await);
    let first = WatchRequest { client: "reader".to_owned(), cached_above: true, ..Default::default() };
    let said = tokio_stream::iter([first]).chain(futures::stream::pending());
    let mut watch = reader.watch(said).await.expect("begins").into_inner();
    let session = begun(&mut watch).await;
    let question = LookupRequest { parent: dir.0, name: "new".into(), ..Default::default() };
    let found = reader.lookup(within(session, question)).await.expect("answered").into_inner();
    assert!(found.attr.is_none() && found.valid_ms > 0);
    session
}

/// `new` is made in `/m/d` as soon as `reader` is back and has heard, and not before.
async fn waits_for(rig: &Rig, reader: u64, request: RequestId) {
    let mut writing = WritingServiceClient::new(channel(rig).await);
    let request_id = request.0.to_be_bytes().to_vec().into();
    let parent = rig.inode("/m/d").await.0;
    let new = CreateRequest { parent, name: "new".into(), mode: 0o644, request_id, ..Default::default() };
    let mut created = rig.tasks.spawn(async move { writing.create(new).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut created).await;
    assert!(early.is_err(), "answered before the reader is back");
    let (words, said) = mpsc::channel(4);
    let first = WatchRequest { cached_above: true, resumed: true, resumes: reader, ..Default::default() };
    words.send(first).await.expect("room");
    let mut watch = client(rig).await.watch(ReceiverStream::new(said)).await.expect("begins").into_inner();
    assert_eq!(begun(&mut watch).await, reader, "the same session");
    let ticket = loop {
        let event = watch.next().await.expect("goes on").expect("an event").event;
        if let Some(Event::Invalidation(told)) = event
            && told.entries.iter().any(|entry| entry.name == "new")
        {
            break told.ticket;
        }
    };
    let early = tokio::time::timeout(Duration::from_millis(200), &mut created).await;
    assert!(early.is_err(), "answered before the reader has heard");
    words.send(WatchRequest { taken: vec![ticket], ..Default::default() }).await.expect("room");
    created.await.expect("no panic").expect("created");
}

#[tokio::test]
async fn a_new_master_waits_for_those_who_were_told_by_the_last() {
    let rig = Rig::writable(&["d/a"]).await;
    let reader = reader_of_the_last_master(&rig).await;
    // Not even the second after knows less.
    let rig = rig.restart(Some(super::INTERVAL)).await.restart(Some(super::INTERVAL)).await;
    waits_for(&rig, reader, request_id()).await;
}

#[tokio::test]
async fn a_change_of_the_last_master_that_is_asked_for_again_is_waited_for() {
    let rig = Rig::writable(&["d/a"]).await;
    let reader = reader_of_the_last_master(&rig).await;
    let request = request_id();
    let new = rig.new_entry("/m/d/new", request).await;
    rig.writing().create(new, false).await.expect("made, and nobody hears that it was answered");
    let rig = rig.restart(Some(super::INTERVAL)).await;
    waits_for(&rig, reader, request).await;
}

#[tokio::test]
async fn a_session_that_ended_is_unknown_to_the_next_master() {
    let rig = Rig::writable(&["d/a"]).await;
    let known = |rig: &Rig| rig.master.core.catalog.sessions().expect("read").len();
    let (words, said) = mpsc::channel(4);
    words.send(WatchRequest { cached_above: true, ..Default::default() }).await.expect("room");
    let mut watch = client(&rig).await.watch(ReceiverStream::new(said)).await.expect("begins").into_inner();
    begun(&mut watch).await;
    assert_eq!(known(&rig), 1);
    words.send(WatchRequest { leave: true, ..Default::default() }).await.expect("room");
    tokio::time::timeout(Duration::from_secs(10), async {
        while known(&rig) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is forgotten");
}
