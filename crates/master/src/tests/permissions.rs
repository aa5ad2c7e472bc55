//! Who may change what, and attributes of one's own.

use headpond_namespace::AttrChange;
use headpond_proto::v1;
use headpond_types::{ErrorKind, Timestamp};

use super::{
    INTERVAL, Rig, name,
    writing::{OWNER, request},
};
use crate::{
    access::Caller,
    write::{Change, NewEntry},
};

fn caller(uid: u32, gids: &[u32]) -> Caller {
    v1::Caller { uid, gids: gids.to_vec() }.into()
}

#[tokio::test]
async fn mounts_that_take_no_changes_say_so() {
    let rig = Rig::new(&["f"]).await;
    for error in [
        rig.create("/m/new").await.map(|_| ()).expect_err("read-only"),
        rig.create("/m/f").await.map(|_| ()).expect_err("read-only"),
        rig.unlink("/m/f").await.map(|_| ()).expect_err("read-only"),
        rig.rename("/m/f", "/m/g").await.map(|_| ()).expect_err("read-only"),
        rig.create("/outside").await.map(|_| ()).expect_err("no mount"),
    ] {
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    }
    let rig = Rig::writable(&["f"]).await;
    assert_eq!(rig.rename("/m", "/n").await.expect_err("outside").kind(), ErrorKind::ReadOnly);
    let other = headpond_namespace::Mount { path: "/m/sub".parse().expect("a path"), ..rig.mount() };
    rig.master.ensure_mount(other).await.expect("mounted");
    assert_eq!(rig.remove_directory("/m/sub").await.expect_err("a mount").kind(), ErrorKind::Busy);
    assert_eq!(rig.rename("/m/sub", "/m/n").await.expect_err("a mount").kind(), ErrorKind::Busy);
    assert_eq!(rig.rename("/m/f", "/m/sub/f").await.expect_err("another mount").kind(), ErrorKind::CrossMount);
}

#[tokio::test]
async fn permissions_bind_who_changes() {
    let rig = Rig::writable(&["f"]).await;
    let dir = rig.make_directory("/m/d").await.expect("made").attr.expect("is there").inode;
    let set = async |mode| {
        let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
        let change = Change { inode: dir, change, caller: None, request: request() };
        rig.writing().set_attr(change, None).await.expect("changed");
    };
    set(0o1777).await;
    let new = |name_: &str, uid, gid, caller: Caller| NewEntry {
        parent: dir,
        name: name(name_),
        owner: headpond_namespace::Owner { uid, gid, ..OWNER },
        caller: Some(caller),
        request: request(),
    };
    let create = async |new| rig.writing().create(new, false).await.map(|opened| opened.answer.attr.expect("made"));
    create(new("own", 9, 9, caller(9, &[9]))).await.expect("his own");
    for refused in [new("x", 7, 9, caller(9, &[9])), new("x", 9, 8, caller(9, &[9]))] {
        assert_eq!(create(refused).await.expect_err("another's").kind(), ErrorKind::PermissionDenied);
    }
    create(new("roots", 0, 0, caller(0, &[]))).await.expect("root");
    let remove = async |name_: &str, caller| {
        let removal =
            crate::write::Removal { caller: Some(caller), ..rig.removal(&format!("/m/d/{name_}"), false).await };
        rig.writing().remove(removal).await.map(|_| ())
    };
    let sticky = remove("roots", caller(9, &[9])).await.expect_err("sticky");
    assert_eq!(sticky.kind(), ErrorKind::PermissionDenied);
    remove("own", caller(9, &[9])).await.expect("his own");
    remove("roots", caller(7, &[8])).await.expect("owns the directory");

    set(0o2775).await;
    assert_eq!(
        create(new("x", 9, 9, caller(9, &[9]))).await.expect_err("no right").kind(),
        ErrorKind::PermissionDenied
    );
    let inherits = create(new("x", 9, 9, caller(9, &[8, 9]))).await.expect("by group");
    assert_eq!((inherits.uid, inherits.gid), (9, 8));
    let change = async |change, caller: Caller| {
        let change = Change { inode: inherits.inode, change, caller: Some(caller), request: request() };
        rig.writing().set_attr(change, None).await.map(|answer| answer.attr.expect("is there"))
    };
    let to = |uid, gid| AttrChange { uid, gid, ..AttrChange::default() };
    let mode = AttrChange { mode: Some(0o600), mtime: Some(Timestamp(5)), ..AttrChange::default() };
    let changed = change(mode, caller(9, &[9])).await.expect("owner");
    assert_eq!((changed.mode, changed.mtime), (0o600, Timestamp(5)));
    change(to(None, Some(9)), caller(9, &[9])).await.expect("own group");
    for (refused, who) in [(mode, 10), (to(Some(10), None), 9), (to(None, Some(10)), 9)] {
        let error = change(refused, caller(who, &[9])).await.expect_err("not his");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    change(to(Some(10), Some(10)), caller(0, &[])).await.expect("root");
}

#[tokio::test]
async fn own_times_and_modes_survive_what_the_store_says() {
    let rig = Rig::writable(&["f"]).await;
    let inode = rig.inode("/m/f").await;
    let change = AttrChange { mode: Some(0o600), mtime: Some(Timestamp(5)), ..AttrChange::default() };
    rig.writing().set_attr(Change { inode, change, caller: None, request: request() }, None).await.expect("changed");
    rig.advance(INTERVAL);
    rig.list("/m").await.expect("listed");
    rig.advance(INTERVAL);
    let attr = rig.find("/m/f").await.expect("asked").expect("is there");
    assert_eq!((attr.inode, attr.mode, attr.mtime), (inode, 0o600, Timestamp(5)));
}
