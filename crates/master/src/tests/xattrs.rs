//! Extended attributes.

use headpond_namespace::{Xattr, XattrChange};
use headpond_types::{ErrorKind, InodeId, Result};

use super::{INTERVAL, Rig, writing::request};
use crate::{
    access::Caller,
    lookup::Answer,
    write::{Change, NewEntry},
};

impl Rig {
    async fn set_xattr(
        &self,
        inode: InodeId,
        name: &str,
        value: Option<&str>,
        caller: Option<Caller>,
    ) -> Result<Answer> {
        let change = XattrChange { name: name.into(), value: value.map(Into::into), exists: None };
        self.writing().set_xattr(Change { inode, change, caller, request: request() }).await
    }

    fn xattrs(&self, inode: InodeId) -> Vec<Xattr> {
        self.writing().xattrs(inode, None).expect("readable")
    }
}

fn caller(uid: u32) -> Caller {
    headpond_proto::v1::Caller { uid, gids: vec![uid] }.into()
}

#[tokio::test]
async fn attributes_are_kept_by_the_namespace_and_follow_the_object() {
    let rig = Rig::writable(&["f"]).await;
    let f = rig.inode("/m/f").await;
    let answer = rig.set_xattr(f, "user.a", Some("1"), None).await.expect("set");
    assert!(answer.attr.expect("there").has_xattrs);
    rig.advance(INTERVAL * 2);
    assert_eq!(rig.inode("/m/f").await, f);
    let body = "another body".into();
    let key = headpond_ufs::Key::from("f".to_owned());
    headpond_ufs::UnderStore::put(&rig.store, &key, body, &headpond_ufs::Precondition::None).await.expect("stored");
    rig.advance(INTERVAL * 2);
    let replaced = rig.inode("/m/f").await;
    assert_ne!(replaced, f);
    assert_eq!(rig.xattrs(replaced), [(b"user.a".to_vec(), b"1".to_vec())]);
    let error = rig.set_xattr(replaced, "user.b", None, None).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NoAttribute);
    rig.set_xattr(replaced, "user.a", None, None).await.expect("removed");
    assert!(rig.xattrs(replaced).is_empty());
}

#[tokio::test]
async fn names_of_others_and_callers_without_the_right_are_refused() {
    let rig = Rig::writable(&["f"]).await;
    let f = rig.inode("/m/f").await;
    let long = format!("user.{}", "x".repeat(251));
    for (name, kind) in [
        ("user.headpond.etag", ErrorKind::NotSupported),
        ("trusted.x", ErrorKind::NotSupported),
        ("user.", ErrorKind::InvalidArgument),
        (&long[..], ErrorKind::NameTooLong),
    ] {
        assert_eq!(rig.set_xattr(f, name, Some("1"), None).await.expect_err(name).kind(), kind);
    }
    rig.set_xattr(f, &long[..255], Some("1"), None).await.expect("just short enough");
    let mine = rig.create("/m/mine").await.expect("made").answer.attr.expect("there").inode;
    rig.set_xattr(mine, "user.x", Some("1"), Some(caller(7))).await.expect("the owner");
    let error = rig.set_xattr(mine, "user.x", Some("1"), Some(caller(9))).await.expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = rig.writing().xattrs(mine, Some(&caller(9))).expect_err("who may not read");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let link = NewEntry { ..rig.new_entry("/m/l", request()).await };
    let what = headpond_namespace::Unstored::Symlink(b"f".to_vec());
    let link = rig.writing().make_node(link, what).await.expect("made").attr.expect("there").inode;
    let error = rig.set_xattr(link, "user.x", Some("1"), None).await.expect_err("a link");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
