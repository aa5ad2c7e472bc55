//! Files that workers hold before the under store has them, and what is told of them.

use bytes::Bytes;
use headpond_client::{
    Amount, Durability, DurabilityRule, NewMount, Pending, PersistState, Persistence, Problem, Resolution, Unpersisted,
};
use headpond_proto::v1;
use headpond_types::{ErrorKind, InodeId, NsPath, Timestamp};

use crate::{
    fakes::{Cluster, FakeSocket, bytes, file},
    writing::{create, stored, until},
};

fn path(text: &str) -> NsPath {
    text.parse().expect("a path")
}

#[tokio::test]
async fn what_workers_hold_is_committed_with_its_holders() {
    let cluster = Cluster::start(1).await;
    cluster.master.state().writing.copies = 2;
    let writer = create(&cluster, "f").await;
    writer.write_at(0, Bytes::from_static(b"one")).await.expect("written");
    let attr = writer.persist(false).await.expect("synced");
    assert_eq!((attr.dirty, attr.size, attr.version.as_str()), (true, 3, ""));
    assert!(!writer.is_dirty());
    writer.write_at(3, Bytes::from_static(b"two")).await.expect("written");
    let content = writer.persist(true).await.expect("closed").content;
    assert_eq!(cluster.client.cached_attr(writer.inode()).expect("in memory").attr.expect("there").size, 6);
    {
        let worker = cluster.workers[0].state();
        assert_eq!(worker.staging.orders, [(false, Some(1)), (true, Some(1))]);
    }
    {
        let master = cluster.master.state();
        assert_eq!(master.writing.stagers, [1, 1]);
        let commits: Vec<_> =
            master.writing.commits.iter().map(|commit| (commit.holders.clone(), commit.version.as_str())).collect();
        assert_eq!(commits, [(vec![1, 2], ""), (vec![1, 2], "")]);
    }
    drop(writer);
    until(|| cluster.workers[0].state().staging.ended == [(1, content)]).await;
}

#[tokio::test]
async fn who_syncs_again_and_again_asks_once_for_the_right_to() {
    let cluster = Cluster::start(1).await;
    cluster.master.state().writing.copies = 1;
    let writer = create(&cluster, "f").await;
    for round in 0..5 {
        writer.append(Bytes::from_static(b"more")).await.expect("written");
        assert_eq!(writer.persist(false).await.expect("synced").size, 4 * (round + 1));
    }
    writer.append(Bytes::from_static(b"last")).await.expect("written");
    writer.persist(true).await.expect("closed");
    assert_eq!((cluster.master.calls("prepare"), cluster.master.calls("commit")), (1, 6));
    assert!(cluster.master.state().writing.prepared.is_empty(), "nothing is offered to who closes");
}

#[tokio::test]
async fn what_no_store_has_stays_as_it_was_when_its_file_is_cut_to_nothing() {
    let cluster = Cluster::start(1).await;
    for copies in [1, 0] {
        cluster.master.state().writing.copies = copies;
        let writer = create(&cluster, &format!("f{copies}")).await;
        writer.set_length(0).await.expect("it has no bytes");
        writer.write_at(0, Bytes::from_static(b"earlier")).await.expect("written");
        let content = writer.persist(true).await.expect("closed").content;
        let ended = || cluster.workers[0].state().staging.ended.clone();
        let before = ended();
        writer.set_length(0).await.expect("cut");
        assert_eq!(
            ended()[before.len()..].iter().map(|(_, content)| *content).collect::<Vec<_>>(),
            match copies {
                0 => vec![],
                _ => vec![content],
            }
        );
        assert!(writer.read_at(0, 10).await.expect("read").is_empty() && writer.is_dirty());
        writer.write_at(0, Bytes::from_static(b"later")).await.expect("written");
        writer.set_length(0).await.expect("cut");
        writer.write_at(0, Bytes::from_static(b"last")).await.expect("written");
        assert_eq!(writer.read_at(0, 10).await.expect("read"), "last");
        writer.persist(true).await.expect("closed");
        assert_eq!(stored(&cluster).last().expect("stored"), b"last");
        assert_eq!(ended().len(), before.len() + copies as usize, "only what was acknowledged stays");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_kept_before_it_is_changed() {
    const KIB: usize = 1 << 10;
    let folder = tempfile::tempdir().expect("a directory");
    let socket = FakeSocket::listen(folder.path());
    socket.state().room = 1 << 30;
    let cluster = Cluster::local(folder.path()).await;
    cluster.master.state().writing.copies = 1;
    // Of what was to be kept since the last look: the content, where, and the bytes.
    let kept = || {
        let keeps = std::mem::take(&mut socket.state().keeps);
        let keeps = keeps.into_iter().map(|(keep, bytes)| {
            let (version, range) = (keep.version.expect("a version"), keep.range.expect("a range"));
            (version.content.map(headpond_types::ContentId::from), range.start..range.end, bytes)
        });
        keeps.collect::<Vec<_>>()
    };
    let writer = create(&cluster, "f").await;
    let mut now = vec![1; 20 * KIB];
    writer.write_at(0, now.clone().into()).await.expect("written");
    assert!(writer.try_write_at(7, &[1]));
    let first = writer.persist(false).await.expect("synced").content;
    assert!(writer.try_write_at(20 * KIB as u64, &[2; 100]), "nothing of that was acknowledged");
    assert_eq!(kept(), []);
    assert!(!writer.try_write_at(5_000, &[2]), "the worker has to be asked");
    writer.write_at(5_000, Bytes::from_static(&[2])).await.expect("written");
    assert!(writer.try_write_at(4 * KIB as u64, &[3; 4 * KIB]), "that is kept");
    assert_eq!(kept(), [(first, 4096..8192, vec![1; 4 * KIB])]);
    now.extend([2; 100]);
    now[4 * KIB..8 * KIB].fill(3);
    let second = writer.persist(false).await.expect("synced").content;
    writer.zero(6_000, 10).await.expect("made");
    writer.set_length(10 * KIB as u64).await.expect("cut");
    writer.write_at(15 * KIB as u64, Bytes::from_static(&[9])).await.expect("written");
    assert_eq!(
        kept(),
        [(second, 4096..8192, vec![3; 4 * KIB]), (second, 8192..20 * 1024 + 100, now[8 * KIB..].to_vec())]
    );
    // Whoever has cut it to nothing writes another file.
    writer.set_length(0).await.expect("cut");
    writer.write_at(0, Bytes::from_static(b"anew")).await.expect("written");
    assert_eq!(kept(), []);
    assert_eq!(writer.read_at(0, 10).await.expect("read"), "anew");
}

#[tokio::test]
async fn what_is_stored_at_once_needs_no_right_to_copy() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "f").await;
    assert!(!writer.persist(true).await.expect("persisted").dirty);
    assert_eq!(cluster.workers[0].state().staging.orders, [(true, None)]);
}

#[tokio::test]
async fn a_commit_file_waits_for_what_was_changed_before() {
    let cluster = Cluster::start(1).await;
    let writer = create(&cluster, "_SUCCESS").await;
    cluster.master.state().failures = vec![ErrorKind::Busy; 2];
    writer.persist(true).await.expect("in its turn");
    assert_eq!(cluster.master.calls("prepare"), 3);
}

#[tokio::test]
async fn a_file_that_no_store_has_is_changed_as_any_other() {
    let cluster = Cluster::start(1).await;
    let dirty = headpond_types::Attr { dirty: true, version: String::new(), ..file(7, 100) };
    cluster.master.put(1, "f", dirty);
    let writer = cluster.client.open_writer(InodeId(7), false).await.expect("opened");
    assert!(!writer.is_dirty(), "nothing was changed");
    assert_eq!(writer.read_at(0, 100).await.expect("read"), bytes(0..100));
    writer.append(Bytes::from_static(b"x")).await.expect("written");
    writer.persist(true).await.expect("persisted");
    let mut expected = bytes(0..100);
    expected.push(b'x');
    assert_eq!(cluster.workers[0].state().staging.stored, [expected]);
}

#[tokio::test]
async fn what_is_pending_is_told_with_its_reasons() {
    let cluster = Cluster::start(0).await;
    assert_eq!(cluster.client.pending(&path("/"), None).await.expect("answered"), Pending::default());
    cluster.master.state().writing.pending = v1::PendingResponse {
        writing: vec!["/w".into()],
        moving: vec![v1::PendingMove { path: "/m".into(), from: "k/".into(), problem: String::new(), removed: false }],
        dirty: vec![v1::PendingPersist {
            path: "/d".into(),
            number: 4,
            size: 5,
            holders: vec!["h:1".to_owned()],
            state: v1::PersistState::Failed.into(),
            reason: "refused".to_owned(),
            barrier: true,
        }],
        due: 1,
        due_bytes: 5,
        not_due: 2,
        not_due_bytes: 6,
        now: 9,
    };
    let pending = cluster.client.pending(&path("/x"), Some(8)).await.expect("answered");
    let failed = Unpersisted {
        path: path("/d"),
        number: 4,
        size: 5,
        holders: vec!["h:1".to_owned()],
        state: PersistState::Failed,
        reason: Some("refused".to_owned()),
        barrier: true,
    };
    assert_eq!((pending.writing.as_slice(), pending.dirty.as_slice()), (&[path("/w")][..], &[failed][..]));
    assert_eq!((&pending.moving[0].path, &pending.moving[0].problem), (&path("/m"), &None));
    assert_eq!((pending.due, pending.not_due), (Amount { files: 1, bytes: 5 }, Amount { files: 2, bytes: 6 }));
    assert_eq!((pending.now, pending.is_empty()), (9, false));
    let asked: Vec<_> =
        cluster.master.state().writing.asked.iter().map(|asked| (asked.path.clone(), asked.up_to)).collect();
    assert_eq!(asked, [("/".into(), 0), ("/x".into(), 8)]);
    assert_eq!(cluster.client.persist_path(&path("/x")).await.expect("answered"), 3);
    assert_eq!(cluster.master.calls("persist_path /x"), 1);
}

#[tokio::test]
async fn problems_are_listed_and_resolved() {
    let cluster = Cluster::start(0).await;
    let admin = cluster.client.admin();
    let told = v1::Problem {
        path: "/f".into(),
        reason: "another version".to_owned(),
        since_ns: 5,
        held_up: 6,
        conflict: true,
    };
    cluster.master.state().problems = vec![told];
    let reason = "another version".to_owned();
    let expected = Problem { path: path("/f"), reason, since: Timestamp(5), held_up: 6, conflict: true };
    assert_eq!(admin.problems().await.expect("answered"), [expected]);
    for (resolution, diverted) in [
        (Resolution::Retry, None),
        (Resolution::Overwrite, None),
        (Resolution::Skip, None),
        (Resolution::Divert, Some(path("/f-beside"))),
    ] {
        assert_eq!(admin.resolve_problem(&path("/f"), resolution).await.expect("answered"), diverted);
        assert_eq!(cluster.master.calls(&format!("resolve {resolution:?}")), 1);
    }
    let ids: std::collections::BTreeSet<_> = cluster.master.state().request_ids.iter().cloned().collect();
    assert_eq!(ids.len(), 4, "each has an identity");
}

#[tokio::test]
async fn a_mount_is_added_with_all_that_was_said_of_persisting() {
    let cluster = Cluster::start(0).await;
    let persistence = Persistence {
        durability: Durability::Deferred,
        rules: vec![DurabilityRule { pattern: "*.tmp".to_owned(), durability: Durability::Scratch }],
        commit_patterns: vec!["done".to_owned()],
        temporary_patterns: Vec::new(),
        copies: 2,
        strict_copies: true,
    };
    let mount = NewMount { persistence, ..NewMount::new(path("/m"), "memory://m") };
    let added = cluster.client.admin().add_mount(mount.clone()).await.expect("added");
    assert_eq!(added.spec, mount);
}
