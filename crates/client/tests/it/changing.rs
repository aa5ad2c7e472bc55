//! Changes of names and attributes.

use headpond_client::{AttrChange, NewFile, Owner};
use headpond_types::{ErrorKind, FileKind, InodeId, Name, RenameMode};

use crate::fakes::{Cluster, file};

const ROOT: InodeId = InodeId::ROOT;
const OWNER: Owner = Owner { mode: 0o755, uid: 1, gid: 2 };
const NEW: NewFile = NewFile { mode: 0o644, uid: 1, gid: 2, exclusive: true, truncate: false };

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// What memory has for a name: nothing, that there is none, or an inode.
fn cached(cluster: &Cluster, text: &str) -> Option<Option<InodeId>> {
    Some(cluster.client.cached_lookup(ROOT, text.as_bytes())?.attr.map(|attr| attr.inode))
}

#[tokio::test]
async fn what_was_changed_is_in_memory_at_once() {
    let cluster = Cluster::start(1).await;
    let client = &cluster.client;
    for text in ["d", "f"] {
        assert!(client.lookup(ROOT, &name(text)).await.expect("answered").attr.is_none());
    }
    let made = client.make_directory(ROOT, &name("d"), OWNER).await.expect("made").attr.expect("there");
    assert_eq!(cached(&cluster, "d"), Some(Some(made.inode)));
    let writer = client.create(ROOT, &name("f"), NEW).await.expect("created");
    assert_eq!(cached(&cluster, "f"), Some(Some(writer.inode())));
    assert_eq!(cluster.master.calls("lookup"), 2);

    let change = AttrChange { mode: Some(0o600), ..AttrChange::default() };
    client.set_attr(made.inode, change).await.expect("changed");
    assert_eq!(client.cached_attr(made.inode).expect("in memory").attr.expect("there").mode, 0o600);
    let error = client.create(ROOT, &name("f"), NEW).await.expect_err("it exists");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    client.remove(ROOT, &name("d"), true).await.expect("removed");
    assert!(matches!(cached(&cluster, "d"), None | Some(None)));
    assert!(client.lookup(ROOT, &name("d")).await.expect("answered").attr.is_none());
}

#[tokio::test]
async fn a_tree_is_removed_by_one_call_and_forgotten() {
    let cluster = Cluster::start(0).await;
    let client = &cluster.client;
    client.make_directory(ROOT, &name("d"), OWNER).await.expect("made");
    client.remove_tree(ROOT, &name("d")).await.expect("removed");
    assert_eq!((cluster.master.calls("tree"), cluster.master.calls("remove")), (1, 0));
    assert!(matches!(cached(&cluster, "d"), None | Some(None)));
    assert!(client.lookup(ROOT, &name("d")).await.expect("answered").attr.is_none());
}

#[tokio::test]
async fn a_rename_is_seen_under_both_names() {
    let cluster = Cluster::start(0).await;
    let client = &cluster.client;
    cluster.master.put(1, "a", file(7, 3));
    cluster.master.put(1, "b", file(8, 4));
    for text in ["a", "b"] {
        client.lookup(ROOT, &name(text)).await.expect("found");
    }
    client.rename((ROOT, &name("a")), (ROOT, &name("b")), RenameMode::Replace).await.expect("renamed");
    assert!(client.cached_lookup(ROOT, b"a").is_none() && client.cached_lookup(ROOT, b"b").is_none());
    assert!(client.cached_attr(InodeId(8)).is_none());
    let found = client.lookup(ROOT, &name("b")).await.expect("found");
    assert_eq!(found.attr.expect("there").inode, InodeId(7));
    assert!(client.lookup(ROOT, &name("a")).await.expect("answered").attr.is_none());
}

#[tokio::test]
async fn an_answer_that_a_change_overtook_is_not_kept() {
    let cluster = Cluster::start(0).await;
    let client = &cluster.client;
    cluster.master.put(1, "a", file(7, 3));
    client.lookup(ROOT, &name("a")).await.expect("found");
    client.remove(ROOT, &name("a"), false).await.expect("removed");
    // A master that answers with the state before the change: one that is not the leader any more.
    cluster.master.put(1, "a", file(7, 3));
    cluster.master.state().position -= 1;
    assert!(!client.lookup(ROOT, &name("a")).await.expect("answered").is_valid());
    assert!(client.cached_lookup(ROOT, b"a").is_none());
}

#[tokio::test]
async fn a_retried_change_has_one_id() {
    let cluster = Cluster::start(1).await;
    let client = &cluster.client;
    cluster.master.put(1, "old", file(7, 3));
    let new = name("new");
    let mut seen = Vec::new();
    for change in 0..5 {
        cluster.master.state().request_ids.clear();
        cluster.master.state().failures = vec![ErrorKind::Unavailable; 2];
        match change {
            0 => drop(client.make_directory(ROOT, &name("d"), OWNER).await.expect("made")),
            1 => drop(client.create(ROOT, &name("f"), NEW).await.expect("created")),
            2 => client.rename((ROOT, &name("old")), (ROOT, &new), RenameMode::NoReplace).await.expect("renamed"),
            3 => {
                let mode = AttrChange { mode: Some(0), ..AttrChange::default() };
                client.set_attr(InodeId(7), mode).await.expect("changed");
            }
            _ => client.remove(ROOT, &new, false).await.expect("removed"),
        }
        let ids = cluster.master.state().request_ids.clone();
        // A failure may have gone to what is done in the background.
        assert!(ids.len() >= 2 && ids.iter().all(|id| *id == ids[0]), "{change}: {ids:?}");
        assert!(!seen.contains(&ids[0]));
        seen.push(ids[0].clone());
    }
}

#[tokio::test]
async fn a_file_that_was_made_and_not_written_can_be_read() {
    let cluster = Cluster::start(1).await;
    let writer = cluster.client.create(ROOT, &name("f"), NEW).await.expect("created");
    let open = cluster.client.open(writer.inode()).await.expect("opened");
    assert!(open.length() == 0 && open.read_at(0, 10).await.expect("read").is_empty());
}

#[tokio::test]
async fn the_target_of_a_link_is_asked_for_once() {
    let cluster = Cluster::start(0).await;
    let client = &cluster.client;
    let made = client.symlink(ROOT, &name("l"), b"some/where", OWNER).await.expect("made").attr.expect("there");
    assert_eq!((made.kind, cached(&cluster, "l")), (FileKind::Symlink, Some(Some(made.inode))));
    assert_eq!(client.read_link(made.inode).await.expect("read"), "some/where");
    assert_eq!(cluster.master.calls("read_link"), 0, "who made it knows it");
    cluster.master.state().targets.insert(9, "other".into());
    assert!(client.cached_link(InodeId(9)).is_none());
    for _ in 0..2 {
        assert_eq!(client.read_link(InodeId(9)).await.expect("read"), "other");
    }
    assert_eq!(client.cached_link(InodeId(9)).expect("in memory"), "other");
    assert_eq!(cluster.master.calls("read_link"), 1);
    assert_eq!(client.read_link(InodeId(10)).await.expect_err("no link").kind(), ErrorKind::InvalidArgument);
    let device = client.make_node(ROOT, &name("c"), FileKind::CharDevice(0x0103), OWNER).await.expect("made");
    assert_eq!(device.attr.expect("there").kind, FileKind::CharDevice(0x0103));
}

#[tokio::test]
async fn extended_attributes_are_asked_for_where_there_are_any() {
    let cluster = Cluster::start(0).await;
    let client = &cluster.client;
    cluster.master.put(1, "f", file(7, 3));
    let f = InodeId(7);
    assert_eq!(client.xattrs(f).await.expect("answered"), []);
    assert_eq!(cluster.master.calls("get_xattrs"), 0);
    client.set_xattr(f, b"user.a", Some(b"1"), None).await.expect("set");
    assert_eq!(client.xattrs(f).await.expect("answered"), [("user.a".into(), "1".into())]);
    client.set_xattr(f, b"user.a", None, None).await.expect("removed");
    assert_eq!(client.xattrs(f).await.expect("answered"), []);
    assert_eq!(cluster.master.calls("get_xattrs"), 1);
}
