//! Renames, and the objects that follow them.

mod unconditional;

use std::{sync::Arc, time::Duration};

use headpond_namespace::Durability;
use headpond_proto::v1::{StatusRequest, admin_service_client::AdminServiceClient};
use headpond_types::{ErrorKind, FileKind};
use headpond_ufs::{Capabilities, Fault, Local, Op, UfsErrorKind};

use super::{
    INTERVAL, Rig,
    holders::Bed,
    plain::{Late, Plain},
};
use crate::{grants::Source, walk::WalkOptions};

/// The keys of a directory `dir` with `count` files in two directories.
fn directory(dir: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{dir}/{}/k{n:05}", n % 2)).collect()
}

fn refs(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_file_is_renamed_at_once_and_its_object_follows() {
    let rig = Rig::writable(&["a/f", "b/g"]).await;
    let before = rig.find("/m/a/f").await.expect("asked").expect("is there");
    rig.store.script(Op::Copy, [Some(Fault::Latency(Duration::from_millis(50)))]);
    rig.rename("/m/a/f", "/m/b/new").await.expect("renamed");
    let after = rig.find("/m/b/new").await.expect("asked").expect("is there");
    assert_eq!((after.inode, after.content, after.mtime), (before.inode, before.content, before.mtime));
    assert_eq!(rig.find("/m/a/f").await.expect("asked"), None);
    assert_eq!(rig.list("/m/b").await.expect("listed"), ["g", "new"]);
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["a/", "b/g", "b/new"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["a/", "b/", "b/g", "b/new"]);
    let settled = rig.find("/m/b/new").await.expect("asked").expect("is there");
    assert_eq!((settled.inode, settled.mtime), (before.inode, before.mtime));
}

#[tokio::test]
async fn a_directory_of_some_hundred_objects_is_renamed_and_follows() {
    let mut keys = directory("old", 400);
    keys.push("old/empty/".to_owned());
    let rig = Rig::writable(&refs(&keys)).await;
    rig.put("old/none/", "").await;
    // Known in part only.
    let file = rig.inode("/m/old/1/k00001").await;
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    assert_eq!(rig.inode("/m/new/1/k00001").await, file);
    assert_eq!(rig.list("/m/new/0").await.expect("listed").len(), 200);
    assert_eq!(rig.list("/m").await.expect("listed"), ["new/"]);
    rig.relocated().await;
    let mut expected = directory("new", 400);
    expected.extend(["new/empty/", "new/none/"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(rig.keys().await, expected);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed").len(), 405);
    assert_eq!(rig.inode("/m/new/1/k00001").await, file);
    let moved = rig.master.core.metrics.write.relocated_objects.get();
    assert_eq!(moved, 400);
}

/// Waits until relocations that stopped are over.
async fn retried(rig: &Rig) {
    let relocator = &rig.master.core.relocator;
    let retrying = async {
        while relocator.pending() > 0 {
            relocator.retry_now();
            tokio::task::yield_now().await;
        }
    };
    let over = tokio::time::timeout(Duration::from_secs(20), retrying).await;
    over.unwrap_or_else(|_| panic!("{:?}", relocator.problems()));
}

/// With a file `new/f` that was copied there after a rename, which nobody heard of.
async fn copied_unheard() -> Rig {
    let rig = Rig::with(Some(INTERVAL), &["old/f"], false, Plain::in_parts).await;
    rig.find("/m/old/f").await.expect("asked").expect("is there");
    rig.store.script(Op::CompleteMultipart, [Some(Fault::LostAnswer)]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    while !rig.keys().await.contains(&"new/f".to_owned()) {
        tokio::task::yield_now().await;
    }
    rig
}

#[tokio::test]
async fn a_copy_that_nobody_heard_of_goes_with_its_file() {
    let rig = copied_unheard().await;
    rig.unlink("/m/new/f").await.expect("removed");
    retried(&rig).await;
    assert_eq!(rig.keys().await, ["new/"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["new/"]);
}

#[tokio::test]
async fn a_copy_that_nobody_heard_of_makes_way_for_a_newer_version() {
    let rig = copied_unheard().await;
    rig.write("/m/new/f", "newer").await;
    retried(&rig).await;
    assert_eq!(rig.keys().await, ["new/f"]);
    assert_eq!(rig.object("new/f").await, "newer");
}

#[tokio::test]
async fn the_old_name_is_masked_until_all_is_moved() {
    let rig = Rig::writable(&refs(&directory("old", 50))).await;
    rig.list("/m").await.expect("listed");
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Transient));
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.advance(INTERVAL);
    assert_eq!(rig.list("/m").await.expect("listed"), ["new/"]);
    assert_eq!(rig.find("/m/old").await.expect("asked"), None);
    rig.make_directory("/m/old").await.expect("made where objects still are");
    rig.write("/m/old/new", "in it").await;
    rig.rename("/m/new/0/k00000", "/m/f").await.expect("out of what moves");
    rig.rename("/m/new", "/m/on").await.expect("onward");
    assert_eq!(rig.list("/m").await.expect("listed"), ["f", "old/", "on/"]);
    rig.store.heal();
    retried(&rig).await;
    let mut keys = rig.keys().await;
    keys.retain(|key| !key.ends_with('/'));
    let of = |prefix: &str| keys.iter().filter(|key| key.starts_with(prefix)).count();
    assert_eq!((of("f"), of("old/"), of("on/"), keys.len()), (1, 1, 49, 51), "{keys:?}");
    assert_eq!(rig.object("old/new").await, "in it");
}

#[tokio::test]
async fn a_master_that_starts_anew_goes_on_in_the_middle() {
    // Ends while copying, while deleting, and while journalled copies wait for the deletion of their sources.
    for (op, passes) in [(Op::Copy, 150), (Op::Delete, 0), (Op::Delete, 100)] {
        let rig = Rig::writable(&refs(&directory("old", 300))).await;
        rig.tree("/m").await.expect("listed");
        rig.store.script(op, (0..passes).map(|_| None));
        rig.store.chance(Some(op), 1.0, Fault::Hang);
        rig.rename("/m/old", "/m/new").await.expect("renamed");
        while rig.store.scripted(op) > 0 || rig.keys().await.len() < 301 {
            tokio::task::yield_now().await;
        }
        rig.store.heal();
        let rig = rig.restart(Some(INTERVAL)).await;
        assert_eq!(rig.tree("/m").await.expect("listed").len(), 303);
        rig.relocated().await;
        let mut expected = directory("new", 300);
        expected.sort_unstable();
        assert_eq!(rig.keys().await, expected, "{op}");
        rig.advance(INTERVAL);
        assert_eq!(rig.tree("/m").await.expect("listed").len(), 303);
    }
}

#[tokio::test]
async fn a_renamed_directory_waits_for_those_before_it_unless_its_name_is_temporary() {
    let rig = Bed::new(Durability::Through, &["first/x", "second/x", "third/x", "f"]).await;
    rig.tree("/m").await.expect("listed");
    rig.make_directory("/m/_temporary").await.expect("made");
    rig.put("one/x", "of somebody else").await;
    rig.rename("/m/first", "/m/one").await.expect("renamed");
    let relocator = &rig.master.core.relocator;
    while relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.rename("/m/second", "/m/two").await.expect("renamed");
    rig.rename("/m/third", "/m/_temporary/three").await.expect("renamed");
    rig.rename("/m/f", "/m/g").await.expect("renamed");
    while relocator.pending() > 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        relocator.retry_now();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let moved = ["_temporary/", "_temporary/three/x", "first/x", "g", "one/x", "second/x"];
        assert_eq!(rig.keys().await, moved);
    }
    rig.delete("one/x").await;
    relocator.retry_now();
    while relocator.pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.keys().await, ["_temporary/", "_temporary/three/x", "g", "one/x", "two/x"]);
}

#[tokio::test]
async fn an_object_in_the_way_stops_a_move_and_is_reported() {
    let rig = Rig::writable(&["old/a", "old/b"]).await;
    rig.tree("/m").await.expect("listed");
    rig.put("new/b", "of somebody else").await;
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    let relocator = &rig.master.core.relocator;
    while relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(relocator.problems()[0].contains("/m/new") && relocator.problems()[0].contains("new/b"));
    assert_eq!((rig.object("new/b").await, rig.object("old/b").await), ("of somebody else".into(), "old/b".into()));
    let mut admin = AdminServiceClient::new(super::services::channel(&rig).await);
    let status = admin.status(StatusRequest {}).await.expect("answered").into_inner();
    assert_eq!(status.problems, relocator.problems());
    assert_eq!(rig.list("/m/new").await.expect("listed"), ["a", "b"]);
    assert_eq!(rig.find("/m/new/b").await.expect("asked").expect("is there").size, 5);
    rig.delete("new/b").await;
    relocator.retry_now();
    while relocator.pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(relocator.problems().is_empty());
    assert_eq!((rig.object("new/b").await, rig.keys().await.len()), ("old/b".into(), 2));
}

#[tokio::test]
async fn what_is_replaced_goes_with_the_rename() {
    let rig = Rig::writable(&["a", "b"]).await;
    let (a, b) = (rig.inode("/m/a").await, rig.inode("/m/b").await);
    rig.rename("/m/a", "/m/b").await.expect("renamed");
    assert_eq!(rig.inode("/m/b").await, a);
    assert_eq!(rig.master.core.lookups.attr(b, false).await.expect_err("replaced").kind(), ErrorKind::Stale);
    rig.relocated().await;
    assert_eq!((rig.object("b").await, rig.keys().await.len()), ("a".to_owned(), 1));
    rig.advance(INTERVAL);
    assert_eq!(rig.inode("/m/b").await, a);
}

#[tokio::test]
async fn a_directory_replaces_an_empty_one_only() {
    let rig = Rig::writable(&["d/x", "full/y", "f"]).await;
    rig.make_directory("/m/empty").await.expect("made");
    assert_eq!(rig.rename("/m/d", "/m/full").await.expect_err("full").kind(), ErrorKind::NotEmpty);
    assert_eq!(rig.rename("/m/d", "/m/f").await.expect_err("a file").kind(), ErrorKind::NotADirectory);
    assert_eq!(rig.rename("/m/f", "/m/d").await.expect_err("a directory").kind(), ErrorKind::IsADirectory);
    assert_eq!(rig.rename("/m/d", "/m/d/below").await.expect_err("itself").kind(), ErrorKind::InvalidArgument);
    rig.rename("/m/d", "/m/d").await.expect("nothing to do");
    rig.rename("/m/d", "/m/empty").await.expect("renamed");
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["empty/", "empty/x", "f", "full/y"]);
}

#[tokio::test]
async fn a_store_without_conditions_on_copies_is_copied_in_parts() {
    let rig = Rig::with(Some(INTERVAL), &["old/a", "old/b", "f"], false, |inner| {
        let capabilities =
            Capabilities { conditional_copy: false, conditional_delete: false, ..inner.capabilities().clone() };
        Arc::new(Plain { inner, capabilities, late: Arc::default() })
    })
    .await;
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Unsupported));
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.rename("/m/f", "/m/g").await.expect("renamed");
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["g", "new/a", "new/b"]);
    assert_eq!(rig.find("/m/g").await.expect("asked").expect("is there").kind, FileKind::File);
}

#[tokio::test]
async fn a_change_outside_while_objects_move_is_taken_over() {
    let rig = Rig::writable(&["old/a", "old/b", "old/c"]).await;
    rig.tree("/m").await.expect("listed");
    rig.put("old/b", "changed outside").await;
    rig.delete("old/c").await;
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["new/a", "new/b"]);
    assert_eq!(rig.object("new/b").await, "changed outside");
    assert_eq!(rig.list("/m/new").await.expect("listed"), ["a", "b"]);
    assert_eq!(rig.find("/m/new/b").await.expect("asked").expect("is there").size, 15);
}

#[tokio::test]
async fn files_are_removed_and_written_while_their_directory_moves() {
    let rig = Rig::writable(&["old/a", "old/b", "old/c"]).await;
    rig.tree("/m").await.expect("listed");
    let lease = rig.create("/m/old/b").await.expect("opened").lease.expect("a file");
    let grant = rig.persist_grant(lease).await.expect("granted");
    rig.store.script(Op::Copy, [Some(Fault::Latency(Duration::from_millis(50))); 3]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.unlink("/m/new/a").await.expect("removed");
    rig.write("/m/new/d", "new").await;
    let meta = rig.store_staged(&grant, "written").await.expect("stored");
    rig.commit(&grant, &meta, super::writing::request()).await.expect("committed");
    rig.relocated().await;
    assert_eq!(rig.keys().await, ["new/b", "new/c", "new/d"]);
    assert_eq!(rig.object("new/b").await, "written");
    assert_eq!(rig.list("/m/new").await.expect("listed"), ["b", "c", "d"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["new/", "new/b", "new/c", "new/d"]);
}

/// A directory of this machine as the store.
async fn on_disk(keys: &[&str]) -> (Rig, tempfile::TempDir) {
    let root = tempfile::tempdir().expect("a directory");
    let local = Local::open(root.path()).await.expect("opened");
    let rig = Rig::with(Some(INTERVAL), keys, false, |_| Arc::new(local)).await;
    (rig, root)
}

#[tokio::test]
async fn directories_of_a_file_system_move_and_leave_nothing() {
    let (rig, _root) = on_disk(&["old/a", "old/b/c/d", "other/x"]).await;
    rig.make_directory("/m/old/b/empty").await.expect("made");
    let inode = rig.inode("/m/old/a").await;
    rig.rename("/m/old", "/m/other/new").await.expect("renamed");
    assert_eq!(rig.inode("/m/other/new/a").await, inode);
    rig.relocated().await;
    rig.advance(INTERVAL);
    let tree = [
        "other/",
        "other/new/",
        "other/x",
        "other/new/a",
        "other/new/b/",
        "other/new/b/c/",
        "other/new/b/empty/",
        "other/new/b/c/d",
    ];
    let mut listed = rig.tree("/m").await.expect("listed");
    listed.sort_unstable();
    let mut expected = tree.to_vec();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(rig.inode("/m/other/new/a").await, inode, "another version, and the same file");

    rig.unlink("/m/other/x").await.expect("removed");
    rig.write("/m/other/y", "bytes").await;
    rig.remove_directory("/m/other/new/b/empty").await.expect("removed");
    rig.rename("/m/other/y", "/m/other/new/a").await.expect("renamed");
    rig.relocated().await;
    assert_eq!(rig.object("other/new/a").await, "bytes");
    assert_eq!(rig.list("/m/other").await.expect("listed"), ["new/"]);
}

#[tokio::test]
async fn a_copy_that_was_not_journalled_is_known_by_its_bytes() {
    let (rig, _root) = on_disk(&["old/a", "old/b"]).await;
    rig.tree("/m").await.expect("listed");
    // As a master leaves it that ends between copying and journalling; versions of a file system differ for each copy.
    rig.put("new/a", "old/a").await;
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    rig.relocated().await;
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["new/", "new/a", "new/b"]);
    assert_eq!((rig.object("new/a").await, rig.object("new/b").await), ("old/a".into(), "old/b".into()));
}

#[tokio::test]
async fn readers_get_grants_for_where_the_object_is() {
    let rig = Rig::writable(&["a/f", "b/g"]).await;
    let key = async |path: &str| {
        let attr = rig.find(path).await.expect("asked").expect("is there");
        let snapshot = rig.master.core.catalog.snapshot().expect("readable");
        let location = snapshot.location(attr.inode).expect("readable").expect("in a mount");
        let (signed, _) =
            rig.master.core.grants.issue(&attr, || Ok(Source::Object(location.key.into()))).expect("granted");
        let verifier =
            headpond_proto::grant::GrantVerifier::new(rig.master.core.grants.public_key(), rig.master.core.cluster);
        let grant = verifier.verify(&signed, rig.master.core.clock.now()).expect("signed");
        String::from_utf8(grant.key.to_vec()).expect("text")
    };
    assert_eq!(key("/m/a/f").await, "a/f");
    rig.store.script(Op::Copy, [Some(Fault::Error(UfsErrorKind::Transient))]);
    rig.rename("/m/a", "/m/c").await.expect("renamed");
    assert_eq!(key("/m/c/f").await, "a/f");
    while rig.master.core.relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.master.core.relocator.retry_now();
    while rig.master.core.relocator.pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(key("/m/c/f").await, "c/f");
}

#[tokio::test]
async fn a_listing_that_saw_a_move_halfway_undoes_nothing() {
    let late = Arc::new(Late::default());
    let rig = Rig::with(Some(INTERVAL), &["old/a", "old/b"], false, |inner| Plain::late(inner, &late)).await;
    rig.tree("/m").await.expect("listed");
    // One of the two is copied.
    rig.store.script(Op::Copy, [None, Some(Fault::Error(UfsErrorKind::Transient))]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    let relocator = &rig.master.core.relocator;
    while relocator.problems().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.keys().await, ["new/a", "old/b"]);
    late.arm();
    let listing = async {
        let options = WalkOptions { refresh: true, recursive: true, ..WalkOptions::default() };
        rig.walk("/m", options).await.expect("listed")
    };
    let end = async {
        late.answered().await;
        rig.advance(Duration::from_millis(1));
        relocator.retry_now();
        while relocator.pending() > 0 {
            tokio::task::yield_now().await;
        }
        late.release();
    };
    let (listed, ()) = futures::join!(listing, end);
    assert_eq!(listed, ["new/", "new/a", "new/b"]);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["new/", "new/a", "new/b"]);
    rig.advance(INTERVAL);
    assert_eq!(rig.tree("/m").await.expect("listed"), ["new/", "new/a", "new/b"]);
}

#[tokio::test]
async fn a_move_that_hangs_does_not_hold_up_the_next() {
    let rig = Rig::writable(&["a", "b"]).await;
    rig.store.script(Op::Copy, [Some(Fault::Hang)]);
    rig.rename("/m/a", "/m/c").await.expect("renamed");
    while rig.store.scripted(Op::Copy) > 0 {
        tokio::task::yield_now().await;
    }
    rig.rename("/m/b", "/m/d").await.expect("renamed");
    while rig.master.core.relocator.pending() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.keys().await, ["a", "d"]);
    assert_eq!(rig.list("/m").await.expect("listed"), ["c", "d"]);
}
