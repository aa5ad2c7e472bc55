//! The services over a real channel.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use headpond_proto::{
    grant::GrantVerifier,
    status,
    v1::{
        self, AddMountRequest, BatchLookupRequest, BatchOpenRequest, GetAttrRequest, HeartbeatRequest, LeaveRequest,
        ListMountsRequest, ListRequest, ListWorkersRequest, LookupRequest, OpenRequest, ProbeRequest, RegisterRequest,
        RemoveMountRequest, ResolveRequest, StatFsRequest, StatusRequest, WatchRequest,
        admin_service_client::AdminServiceClient, lookup_result, master_service_client::MasterServiceClient,
        open_result, registry_service_client::RegistryServiceClient, watch_event::Event,
    },
};
use headpond_runtime::Clock;
use headpond_types::{ErrorKind, InodeId};
use headpond_ufs::NoCredentials;
use tonic::{Status, transport::Channel};

use super::{Rig, start};
use crate::{Master, MasterConfig};

pub(super) async fn channel(rig: &Rig) -> Channel {
    let uri = format!("http://{}", rig.master.address());
    Channel::from_shared(uri).expect("a URI").connect().await.expect("connected")
}

pub(super) async fn client(rig: &Rig) -> MasterServiceClient<Channel> {
    MasterServiceClient::new(channel(rig).await)
}

/// What a client says in its session: who it is, and nothing more.
pub(super) fn introduction() -> impl Stream<Item = WatchRequest> + Send + 'static {
    let first = WatchRequest { client: "test".to_owned(), ..WatchRequest::default() };
    stream::iter([first]).chain(stream::pending())
}

fn kind(status: &Status) -> ErrorKind {
    status::to_error(status, "call").kind()
}

fn register(uuid: &str) -> RegisterRequest {
    RegisterRequest {
        uuid: uuid.to_owned(),
        address: "127.0.0.1:7200".to_owned(),
        socket: "/run/w.sock".to_owned(),
        node: "n1".to_owned(),
        zone: String::new(),
        capacity: 64 << 20,
    }
}

#[tokio::test]
async fn names_are_looked_up_one_by_one_and_in_batches() {
    let rig = Rig::new(&["d/x", "f"]).await;
    let mut client = client(&rig).await;
    let resolve = |path: &'static str| ResolveRequest { path: path.into(), ..Default::default() };
    let mount = client.resolve(resolve("/m")).await.expect("answered").into_inner().attr.expect("exists");
    let lookup = |name: &'static str| LookupRequest { parent: mount.inode, name: name.into(), ..Default::default() };
    let found = client.lookup(lookup("f")).await.expect("answered").into_inner();
    assert_eq!(found.valid_ms, 30_000);
    let file = found.attr.expect("exists");
    let same = client.get_attr(GetAttrRequest { inode: file.inode, ..Default::default() }).await.expect("answered");
    assert_eq!(same.into_inner().attr, Some(file.clone()));

    let lookups = vec![lookup("f"), lookup("absent"), lookup("a/b"), lookup("d")];
    let results = client
        .batch_lookup(BatchLookupRequest { lookups, known_only: false })
        .await
        .expect("answered")
        .into_inner()
        .results;
    let results: Vec<_> = results.into_iter().map(|result| result.result.expect("set")).collect();
    let attr = |result: &lookup_result::Result| match result {
        lookup_result::Result::Found(found) => Ok(found.attr.clone()),
        lookup_result::Result::Failure(failure) => Err(failure.kind.clone()),
        lookup_result::Result::Due(_) => Err("due".to_owned()),
    };
    assert_eq!(attr(&results[0]), Ok(Some(file)));
    assert_eq!(attr(&results[1]), Ok(None));
    assert_eq!(attr(&results[2]), Err("invalid_argument".to_owned()));
    assert_eq!(attr(&results[3]).map(|attr| attr.is_some()), Ok(true));

    let gone = client.get_attr(GetAttrRequest { inode: 999, ..Default::default() }).await.expect_err("no such inode");
    assert_eq!(kind(&gone), ErrorKind::Stale);
    let relative = client.resolve(resolve("m")).await.expect_err("no path");
    assert_eq!(kind(&relative), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn open_gives_a_grant_that_a_worker_accepts() {
    let rig = Rig::new(&["d/x"]).await;
    let mut registry = RegistryServiceClient::new(channel(&rig).await);
    let registered = registry.register(register("w")).await.expect("registered").into_inner();
    let verifier = GrantVerifier::new(registered.grant_key.to_vec(), registered.cluster);
    let mut client = client(&rig).await;
    let open = |path: &'static str, uid| OpenRequest {
        path: path.into(),
        caller: Some(v1::Caller { uid, gids: vec![] }),
        ..Default::default()
    };
    let opened = client.open(open("/m/d/x", 7)).await.expect("opened").into_inner();
    let attr = opened.attr.expect("set");
    let signed = opened.grant.expect("set");
    let grant = verifier.verify(&signed, rig.clock.now()).expect("signed by this master");
    assert_eq!((grant.content, grant.length, &grant.key[..]), (attr.content, 3, &b"d/x"[..]));
    assert_eq!((grant.version, grant.mount), (attr.version, rig.mount().id.0));
    assert_eq!(opened.grant_valid_ms, 12 * 3600 * 1000);

    let by_inode = OpenRequest { inode: attr.inode, ..Default::default() };
    let opens = vec![by_inode.clone(), open("/m/d", 0), open("/m/none", 0)];
    let results = client.batch_open(BatchOpenRequest { opens }).await.expect("answered").into_inner().results;
    let results: Vec<_> = results.into_iter().map(|result| result.result.expect("set")).collect();
    let open_result::Result::Opened(again) = &results[0] else { panic!("opened") };
    assert_eq!(again.grant, Some(signed));
    let failures: Vec<_> = results[1..]
        .iter()
        .map(|result| match result {
            open_result::Result::Failure(failure) => failure.kind.as_str(),
            open_result::Result::Opened(_) => "opened",
        })
        .collect();
    assert_eq!(failures, ["is_a_directory", "not_found"]);

    rig.put("d/x", "changed").await;
    let stale = client.open(OpenRequest { refresh: true, ..by_inode }).await.expect_err("replaced");
    assert_eq!(kind(&stale), ErrorKind::Stale);
}

#[tokio::test]
async fn who_may_not_read_gets_no_grant() {
    let rig = Rig::new(&["f"]).await;
    let mut mount = rig.mount();
    (mount.path, mount.file_mode, mount.uid, mount.gid) = ("/p".parse().expect("a path"), 0o640, 7, 8);
    rig.master.ensure_mount(mount).await.expect("mounted");
    let mut client = client(&rig).await;
    let mut open = async |uid, gids| {
        let caller = Some(v1::Caller { uid, gids });
        client.open(OpenRequest { path: "/p/f".into(), caller, ..Default::default() }).await.map(|_| ())
    };
    open(7, vec![]).await.expect("the owner");
    open(9, vec![8]).await.expect("the group");
    open(0, vec![]).await.expect("root");
    assert_eq!(kind(&open(9, vec![9]).await.expect_err("others")), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn nobody_gets_round_a_closed_directory_by_guessing_ids() {
    let rig = Rig::new(&["d/f"]).await;
    let mut mount = rig.mount();
    (mount.path, mount.uri, mount.dir_mode) = ("/closed".parse().expect("a path"), mount.uri + "/", 0o700);
    rig.master.ensure_mount(mount.clone()).await.expect("mounted");
    (mount.path, mount.dir_mode) = ("/closed/d/open".parse().expect("a path"), 0o755);
    rig.master.ensure_mount(mount).await.expect("mounted");
    let (dir, file) = (rig.inode("/closed/d/open/d").await.0, rig.inode("/closed/d/open/d/f").await.0);
    let mut client = client(&rig).await;
    for (uid, expected) in [(0, None), (7, Some(ErrorKind::PermissionDenied))] {
        let caller = Some(v1::Caller { uid, gids: vec![uid] });
        let lookup = LookupRequest { parent: dir, name: "f".into(), caller: caller.clone(), refresh: false };
        let get_attr = GetAttrRequest { inode: file, refresh: false, caller: caller.clone() };
        let open = OpenRequest { inode: file, caller: caller.clone(), ..Default::default() };
        let list = |inode, recursive| ListRequest { inode, recursive, caller: caller.clone(), ..Default::default() };
        let answers = [
            client.lookup(lookup).await.map(|_| ()),
            client.get_attr(get_attr).await.map(|_| ()),
            client.open(open).await.map(|_| ()),
            client.list(list(dir, false)).await.map(|_| ()),
            client.list(list(1, true)).await.map(|_| ()),
        ];
        let (walk, direct) = answers.split_last().expect("five");
        for answer in direct {
            assert_eq!(answer.as_ref().err().map(kind), expected, "{answer:?}");
        }
        walk.as_ref().expect("the root is open");
        let pages: Result<Vec<_>, _> =
            client.list(list(1, true)).await.expect("begins").into_inner().try_collect().await;
        assert_eq!(pages.as_ref().err().map(kind), expected, "{pages:?}");
    }
}

#[tokio::test]
async fn listings_stream() {
    let keys: Vec<_> = (0..2500).map(|n| format!("d/k{n:04}")).collect();
    let rig = Rig::new(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut client = client(&rig).await;
    let request = ListRequest { path: "/m/d".into(), ..Default::default() };
    let mut stream = client.list(request.clone()).await.expect("begins").into_inner();
    let mut names = Vec::new();
    while let Some(page) = stream.next().await {
        names.extend(page.expect("a page").entries.into_iter().map(|entry| entry.name));
    }
    assert_eq!(names.len(), 2500);
    assert!(names.is_sorted());
    let begin_in_the_middle = ListRequest { recursive: true, start_after: "a".into(), ..request.clone() };
    let refused = client.list(begin_in_the_middle).await.expect_err("not both");
    assert_eq!(kind(&refused), ErrorKind::InvalidArgument);
    let file = client.list(ListRequest { path: "/m/d/k0001".into(), ..request }).await.expect_err("a file");
    assert_eq!(kind(&file), ErrorKind::NotADirectory);
}

#[tokio::test]
async fn workers_register_report_and_leave() {
    let rig = Rig::new(&["f"]).await;
    let mut registry = RegistryServiceClient::new(channel(&rig).await);
    let mut watch = client(&rig).await.watch(introduction()).await.expect("begins").into_inner();
    let mut ring = async || loop {
        let event = watch.next().await.expect("goes on").expect("an event").event;
        if let Some(Event::Ring(ring)) = event {
            return ring;
        }
    };
    assert!(ring().await.members.is_empty());

    let first = registry.register(register("w")).await.expect("registered").into_inner();
    assert_eq!(first.mounts.len(), 1);
    let joined = ring().await;
    assert_eq!(
        joined.members.iter().map(|member| (member.id, member.weight)).collect::<Vec<_>>(),
        [(first.worker, 64)]
    );
    assert_eq!(Some(&joined), first.ring.as_ref());
    let beat = |epoch| HeartbeatRequest {
        worker: first.worker,
        epoch,
        capacity: 64 << 20,
        used: 5,
        ring_epoch: joined.epoch,
        mounts_version: first.mounts_version,
        ..Default::default()
    };
    let unchanged = registry.heartbeat(beat(first.epoch)).await.expect("in the ring").into_inner();
    assert_eq!((unchanged.ring, unchanged.mounts.len()), (None, 0));
    let again = registry.register(register("w")).await.expect("registered").into_inner();
    assert_eq!(again.worker, first.worker);
    let fenced = registry.heartbeat(beat(first.epoch)).await.expect_err("an older registration");
    assert_eq!(kind(&fenced), ErrorKind::Fenced);
    registry.heartbeat(beat(again.epoch)).await.expect("in the ring");

    let space = client(&rig).await.stat_fs(StatFsRequest {}).await.expect("answered").into_inner();
    assert_eq!((space.cache_capacity, space.cache_used), (64 << 20, 5));
    let mut admin = AdminServiceClient::new(channel(&rig).await);
    let workers = admin.list_workers(ListWorkersRequest {}).await.expect("answered").into_inner().workers;
    assert!(workers.len() == 1 && workers[0].live);
    registry.leave(LeaveRequest { worker: again.worker, epoch: again.epoch }).await.expect("left");
    assert!(ring().await.members.is_empty());
}

#[tokio::test]
async fn mounts_are_added_once_and_removed() {
    let rig = Rig::new(&["f"]).await;
    let mut admin = AdminServiceClient::new(channel(&rig).await);
    let mount = |path: &'static str, uri: &str| v1::Mount {
        path: path.into(),
        uri: uri.to_owned(),
        file_mode: 0o644,
        dir_mode: 0o755,
        ..Default::default()
    };
    let request = AddMountRequest { mount: Some(mount("/n", "memory://other")), request_id: vec![1; 16].into() };
    let added = admin.add_mount(request.clone()).await.expect("added").into_inner();
    assert_eq!(admin.add_mount(request).await.expect("repeated").into_inner(), added);
    let mut add = async |mount| {
        let request = AddMountRequest { mount: Some(mount), request_id: Default::default() };
        kind(&admin.add_mount(request).await.expect_err("refused"))
    };
    assert_eq!(add(mount("/n", "memory://other")).await, ErrorKind::AlreadyExists);
    assert_eq!(add(mount("/x", "gopher://x")).await, ErrorKind::InvalidArgument);
    assert_eq!(add(mount("x", "memory://x")).await, ErrorKind::InvalidArgument);
    let mut secret = mount("/x", "memory://x");
    secret.options.insert("secret_access_key".to_owned(), "hush".to_owned());
    assert_eq!(add(secret).await, ErrorKind::InvalidArgument);
    let mut secret = mount("/x", "memory://x");
    secret.options.insert("endpoint".to_owned(), "http://me:hush@host/".to_owned());
    assert_eq!(add(secret).await, ErrorKind::InvalidArgument);

    let remove = |path: &'static str| RemoveMountRequest { path: path.into(), ..Default::default() };
    admin.remove_mount(remove("/n")).await.expect("removed");
    let absent = admin.remove_mount(remove("/n")).await.expect_err("not there");
    assert_eq!(kind(&absent), ErrorKind::NotFound);
    let mounts = admin.list_mounts(ListMountsRequest {}).await.expect("answered").into_inner().mounts;
    assert_eq!(mounts.iter().map(|mount| &mount.path[..]).collect::<Vec<_>>(), [b"/m"]);
    assert_eq!(rig.find("/n").await.expect("no store"), None);
}

#[tokio::test]
async fn a_store_that_cannot_be_listed_is_not_mounted() {
    let rig = Rig::new(&[]).await;
    let fault = headpond_ufs::Fault::Error(headpond_ufs::UfsErrorKind::Refused);
    rig.store.chance(None, 1.0, fault);
    let mut mount = rig.mount();
    mount.path = "/n".parse().expect("a path");
    let error = rig.master.ensure_mount(mount).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    assert_eq!(rig.master.mounts().len(), 1);
    let same = rig.master.ensure_mount(rig.mount()).await.expect("is there already");
    assert_eq!(same, rig.mount());
}

#[tokio::test]
async fn keys_that_are_left_out_are_told_as_long_as_they_are() {
    async fn told(rig: &Rig) -> u64 {
        let mut admin = AdminServiceClient::new(channel(rig).await);
        admin.status(StatusRequest {}).await.expect("answered").into_inner().skipped_keys
    }
    let rig = Rig::new(&["a//b", "a/./c", "a/f", "d//", "f"]).await;
    assert_eq!(told(&rig).await, 0, "nobody looked");
    rig.tree("/m").await.expect("listed");
    assert_eq!(told(&rig).await, 3);
    let rig = rig.restart(Some(super::INTERVAL)).await;
    rig.list("/m/a").await.expect("as it is known");
    assert_eq!(told(&rig).await, 2);
    rig.delete("a/./c").await;
    rig.advance(super::INTERVAL);
    rig.tree("/m").await.expect("listed");
    assert_eq!(told(&rig).await, 2, "one is gone, and another directory was listed");
    for key in ["a//b", "a/f", "d//"] {
        rig.delete(key).await;
    }
    rig.advance(super::INTERVAL);
    rig.tree("/m").await.expect("listed");
    assert_eq!(told(&rig).await, 0, "with their directories");
}

#[tokio::test]
async fn probes_and_status_tell_of_the_journal() {
    let rig = Rig::new(&["a//b", "f"]).await;
    rig.list("/m").await.expect("listed");
    rig.list("/m/a").await.expect("listed");
    let mut admin = AdminServiceClient::new(channel(&rig).await);
    let before = admin.probe(ProbeRequest { durable: false }).await.expect("answered").into_inner().applied_index;
    let after = admin.probe(ProbeRequest { durable: true }).await.expect("answered").into_inner().applied_index;
    assert!(after > before);
    let status = admin.status(StatusRequest {}).await.expect("answered").into_inner();
    assert_eq!((status.mounts, status.skipped_keys, status.problems), (1, 1, Vec::new()));
    assert!(status.inodes >= 3 && status.cluster == rig.master.core.cluster);
    rig.master.ready().expect("serves");

    let mut registry = prometheus_client::registry::Registry::default();
    rig.master.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
    assert!(
        text.contains("headpond_master_mounts 1") && text.contains("headpond_master_sync_listings_total 2"),
        "{text}"
    );
}

#[tokio::test]
async fn an_address_or_a_state_that_is_in_use_is_named() {
    let rig = Rig::new(&[]).await;
    let config = |bind: String, state: &std::path::Path| MasterConfig {
        bind,
        state_dir: state.to_owned(),
        ..MasterConfig::default()
    };
    let other = tempfile::tempdir().expect("a directory");
    let tasks = headpond_runtime::Tasks::new(headpond_runtime::Shutdown::new());
    let credentials = std::sync::Arc::new(NoCredentials);
    let taken = config(rig.master.address().to_string(), other.path());
    let error = Master::start(taken, credentials.clone(), rig.clock.clone(), tasks.clone()).await;
    let error = error.expect_err("the port is in use");
    assert!(error.message().contains(&rig.master.address().to_string()), "{error}");
    let locked = config("127.0.0.1:0".to_owned(), rig.state.path());
    let error = Master::start(locked, credentials, rig.clock.clone(), tasks).await;
    let error = error.expect_err("the state is in use");
    assert!(error.message().contains(&rig.state.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn shutdown_ends_sessions_and_keeps_epochs_growing() {
    let rig = Rig::new(&[]).await;
    let mut watch = client(&rig).await.watch(introduction()).await.expect("begins").into_inner();
    let epoch = rig.master.core.workers.ring().epoch;
    let Rig { clock, store, master, tasks, state, .. } = rig;
    assert!(tasks.drain(Duration::from_secs(10)).await);
    master.stopped().await.expect("clean end");
    while let Some(event) = watch.next().await {
        event.expect("no error");
    }
    let (master, _tasks) = start(&state, &store, &clock, None).await;
    assert!(master.core.workers.ring().epoch > epoch);
    assert_eq!(master.mounts().len(), 1);
    let root = master.core.lookups.attr(InodeId::ROOT, false).await.expect("the root");
    assert_eq!(root.attr.inode, InodeId::ROOT);
}
