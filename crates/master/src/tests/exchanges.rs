//! Names that are exchanged, and what becomes of their objects.

use std::sync::Arc;

use headpond_proto::v1;
use headpond_types::{ErrorKind, RenameMode};
use headpond_ufs::Local;

use super::{INTERVAL, Rig};
use crate::write::Renaming;

#[tokio::test]
async fn what_has_both_names_changes_them_and_the_objects_follow() {
    let rig = Rig::writable(&["f", "d/x", "d/e/y", "o/z"]).await;
    let tree = async || {
        let mut tree = rig.tree("/m").await.expect("listed");
        tree.sort_unstable();
        tree
    };
    rig.exchange("/m/f", "/m/d").await.expect("a file and a directory");
    assert_eq!(tree().await, ["d", "f/", "f/e/", "f/e/y", "f/x", "o/", "o/z"]);
    rig.exchange("/m/f/e", "/m/o").await.expect("directories, of which one is being moved");
    rig.exchange("/m/o/y", "/m/f/e/z").await.expect("files below them");
    assert_eq!(tree().await, ["d", "f/", "f/e/", "f/e/z", "f/x", "o/", "o/y"]);
    rig.relocated().await;
    let files: Vec<_> = rig.keys().await.into_iter().filter(|key| !key.ends_with('/')).collect();
    assert_eq!(files, ["d", "f/e/z", "f/x", "o/y"]);
    let bodies = ["d", "f/e/z", "f/x", "o/y"].map(async |key| rig.object(key).await);
    assert_eq!(futures::future::join_all(bodies).await, ["f", "d/e/y", "d/x", "o/z"]);
}

#[tokio::test]
async fn files_and_directories_change_names_where_one_cannot_be_below_the_other() {
    let keys = ["a", "d/x", "d/e/y", "d/empty/", "f", "g", "nothing/", "o/p"];
    for (one, other, expected) in [
        ("f", "d", ["a", "d", "f/e/y", "f/x", "g", "o/p"]),
        ("d", "a", ["a/e/y", "a/x", "d", "f", "g", "o/p"]),
        ("nothing", "g", ["a", "d/e/y", "d/x", "f", "nothing", "o/p"]),
        ("d/e", "o/p", ["a", "d/e", "d/x", "f", "g", "o/p/y"]),
    ] {
        let files = tempfile::tempdir().expect("a directory");
        let local = Local::open(files.path()).await.expect("opened");
        let rig = Rig::with(Some(INTERVAL), &[], false, |_| Arc::new(local)).await;
        for key in keys {
            rig.put(key, if key.ends_with('/') { "" } else { key }).await;
        }
        rig.tree("/m").await.expect("listed");
        rig.exchange(&format!("/m/{one}"), &format!("/m/{other}")).await.expect("exchanged");
        rig.relocated().await;
        let keys: Vec<_> = rig.keys().await.into_iter().filter(|key| !key.ends_with('/')).collect();
        assert_eq!(keys, expected, "{one} and {other}");
        rig.advance(INTERVAL);
        let tree = rig.tree("/m").await.expect("listed");
        let empty = if [one, other].contains(&"d") {
            format!("{}/empty/", if one == "d" { other } else { one })
        } else {
            "d/empty/".to_owned()
        };
        assert!(tree.contains(&empty), "{one} and {other}: {tree:?}");
        assert!(tree.iter().all(|path| !path.starts_with(".headpond")), "{tree:?}");
    }
}

#[tokio::test]
async fn a_file_goes_below_its_own_name_and_back_where_one_cannot_be_below_the_other() {
    let folder = tempfile::tempdir().expect("a directory");
    let local = Local::open(folder.path()).await.expect("opened");
    let rig = Rig::with(Some(INTERVAL), &["f"], false, |_| Arc::new(local)).await;
    rig.rename("/m/f", "/m/t").await.expect("renamed");
    rig.make_directory("/m/f").await.expect("made");
    rig.rename("/m/t", "/m/f/f").await.expect("renamed");
    rig.relocated().await;
    let files = async || rig.keys().await.into_iter().filter(|key| !key.ends_with('/')).collect::<Vec<_>>();
    assert_eq!((files().await, rig.object("f/f").await), (vec!["f/f".to_owned()], "f".to_owned()));
    rig.rename("/m/f/f", "/m/t").await.expect("renamed");
    rig.remove_directory("/m/f").await.expect("removed");
    rig.rename("/m/t", "/m/f").await.expect("renamed");
    rig.relocated().await;
    assert_eq!((files().await, rig.object("f").await), (vec!["f".to_owned()], "f".to_owned()));
}

#[tokio::test]
async fn a_file_that_is_written_keeps_its_bytes_for_the_name_that_it_gets() {
    let rig = Rig::writable(&["old"]).await;
    let lease = rig.create("/m/new").await.expect("opened").lease.expect("a file");
    rig.exchange("/m/new", "/m/old").await.expect("one that no store has yet");
    rig.persist(lease, "new").await.expect("stored");
    rig.relocated().await;
    assert_eq!((rig.object("old").await, rig.object("new").await), ("new".to_owned(), "old".to_owned()));
}

#[tokio::test]
async fn a_repeated_request_exchanges_once() {
    let rig = Rig::writable(&["a", "b"]).await;
    let renaming = Renaming { mode: RenameMode::Exchange, ..rig.renaming("/m/a", "/m/b").await };
    rig.writing().rename(renaming.clone()).await.expect("exchanged");
    rig.writing().rename(renaming).await.expect("answered");
    rig.relocated().await;
    assert_eq!((rig.object("a").await, rig.object("b").await), ("b".to_owned(), "a".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_exchanged_is_refused() {
    let rig = Rig::writable(&["d/f", "g"]).await;
    let refused = async |one: &str, other: &str| rig.exchange(one, other).await.expect_err("refused").kind();
    assert_eq!(refused("/m/d", "/m/d/f").await, ErrorKind::InvalidArgument);
    assert_eq!(refused("/m/d/f", "/m/d").await, ErrorKind::InvalidArgument);
    assert_eq!(refused("/m/g", "/m/none").await, ErrorKind::NotFound);
    assert_eq!(refused("/m/none", "/m/g").await, ErrorKind::NotFound);
    let renaming = Renaming {
        mode: RenameMode::Exchange,
        caller: Some(v1::Caller { uid: 1234, gids: vec![1234] }.into()),
        ..rig.renaming("/m/d/f", "/m/g").await
    };
    let denied = rig.writing().rename(renaming).await.expect_err("not his");
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    assert_eq!(rig.keys().await, ["d/f", "g"]);
}
