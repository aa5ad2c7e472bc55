//! Symbolic links and special files.

use headpond_namespace::{AttrChange, Unstored};
use headpond_types::{Attr, ErrorKind, FileKind, Result};
use headpond_ufs::{Key, Precondition, UnderStore};

use super::{INTERVAL, Rig, writing::request};
use crate::{
    access::Caller,
    lookup::Answer,
    write::{Change, NewEntry},
};

fn link(target: &str) -> Unstored {
    Unstored::Symlink(target.into())
}

impl Rig {
    async fn make_node(&self, path: &str, what: Unstored) -> Result<Attr> {
        let new = self.new_entry(path, request()).await;
        let Answer { attr, .. } = self.writing().make_node(new, what).await?;
        Ok(attr.expect("is there"))
    }

    async fn put_outside(&self, key: &str) {
        self.store.put(&Key::from(key.to_owned()), "outside".into(), &Precondition::None).await.expect("stored");
    }

    async fn delete_outside(&self, key: &str) {
        self.store.delete(&Key::from(key.to_owned()), &Precondition::None).await.expect("deleted");
    }
}

#[tokio::test]
async fn a_link_lives_in_the_namespace_alone_and_outlives_what_the_store_shows() {
    let rig = Rig::writable(&["d/e/f"]).await;
    let made = rig.make_node("/m/d/e/l", link("f")).await.expect("made");
    assert_eq!((made.kind, made.size), (FileKind::Symlink, 1));
    assert_eq!(rig.keys().await, ["d/e/f"]);
    assert_eq!(rig.list("/m/d/e").await.expect("listed"), ["f", "l"]);
    rig.put_outside("d/e/l").await;
    rig.advance(INTERVAL * 2);
    assert_eq!(rig.list("/m/d/e").await.expect("listed"), ["f", "l"]);
    assert_eq!(rig.find("/m/d/e/l").await.expect("asked"), Some(made.clone()), "the object is hidden");
    rig.delete_outside("d/e/l").await;
    rig.delete_outside("d/e/f").await;
    rig.advance(INTERVAL * 2);
    for _ in 0..2 {
        assert_eq!(rig.list("/m").await.expect("listed"), ["d/"]);
        assert_eq!(rig.list("/m/d/e").await.expect("listed"), ["l"]);
        assert_eq!(rig.find("/m/d/e/l").await.expect("asked"), Some(made.clone()));
        rig.advance(INTERVAL * 2);
    }
    rig.unlink("/m/d/e/l").await.expect("removed");
    assert_eq!(rig.keys().await, ["d/e/"], "the directory that it was in stays");
}

#[tokio::test]
async fn a_directory_of_links_costs_the_journal_nothing_when_the_store_has_none_of_it() {
    let rig = Rig::writable(&["d/f", "x"]).await;
    rig.make_node("/m/d/l", link("f")).await.expect("made");
    rig.delete_outside("d/f").await;
    rig.advance(INTERVAL * 2);
    rig.list("/m").await.expect("listed");
    rig.list("/m/d").await.expect("listed");
    let count = |rig: &Rig| rig.master.core.catalog.applied_index();
    let before = count(&rig);
    rig.advance(INTERVAL * 2);
    rig.list("/m").await.expect("listed");
    rig.list("/m/d").await.expect("listed");
    assert_eq!(count(&rig) - before, 2, "that each was listed");
}

#[tokio::test]
async fn links_are_renamed_and_replaced_in_one_step() {
    let rig = Rig::writable(&["v1/f", "plain"]).await;
    rig.make_node("/m/current", link("v1")).await.expect("made");
    let next = rig.make_node("/m/next", link("v2")).await.expect("made");
    rig.rename("/m/next", "/m/current").await.expect("renamed");
    assert_eq!(rig.find("/m/current").await.expect("asked").expect("there").inode, next.inode);
    rig.rename("/m/current", "/m/plain").await.expect("renamed over a file");
    assert_eq!(rig.keys().await, ["v1/f"], "what it replaced is gone from the store");
    rig.unlink("/m/plain").await.expect("removed");
    rig.advance(INTERVAL * 2);
    assert_eq!(rig.list("/m").await.expect("listed"), ["v1/"]);
}

#[tokio::test]
async fn a_directory_takes_its_links_along() {
    let rig = Rig::writable(&["d/f"]).await;
    let l = rig.make_node("/m/d/l", link("f")).await.expect("made");
    rig.rename("/m/d", "/m/e").await.expect("renamed");
    rig.relocated().await;
    rig.advance(INTERVAL * 2);
    assert_eq!(rig.list("/m").await.expect("listed"), ["e/"]);
    assert_eq!(rig.list("/m/e").await.expect("listed"), ["f", "l"]);
    assert_eq!(rig.find("/m/e/l").await.expect("asked").expect("there").inode, l.inode);
    assert_eq!(rig.keys().await, ["e/f"]);
}

#[tokio::test]
async fn a_repeated_request_makes_one_and_a_taken_name_none() {
    let rig = Rig::writable(&["f"]).await;
    let new = rig.new_entry("/m/l", request()).await;
    let first = rig.writing().make_node(new.clone(), link("x")).await.expect("made").attr;
    assert_eq!(rig.writing().make_node(new, link("x")).await.expect("repeated").attr, first);
    for taken in ["/m/l", "/m/f"] {
        let error = rig.make_node(taken, Unstored::Fifo).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
    let opened = rig.create("/m/l").await.expect("found");
    assert!(opened.lease.is_none(), "it is no file");
}

#[tokio::test]
async fn what_no_path_can_be_and_devices_of_users_are_refused() {
    let rig = Rig::writable(&[]).await;
    let kind = |made: Result<Attr>| made.map_err(|error| error.kind()).map(|attr| attr.size);
    assert_eq!(kind(rig.make_node("/m/long", link(&"x".repeat(4096))).await), Err(ErrorKind::NameTooLong));
    assert_eq!(kind(rig.make_node("/m/max", link(&"x".repeat(4095))).await), Ok(4095));
    assert_eq!(kind(rig.make_node("/m/empty", link("")).await), Err(ErrorKind::InvalidArgument));
    assert_eq!(kind(rig.make_node("/m/nul", link("a\0b")).await), Err(ErrorKind::InvalidArgument));
    assert_eq!(kind(rig.make_node("/m/null", Unstored::CharDevice(0x0103)).await), Ok(0));
    let user = Caller::from(headpond_proto::v1::Caller { uid: 7, gids: vec![8] });
    let new = NewEntry { caller: Some(user), ..rig.new_entry("/m/disk", request()).await };
    let error = rig.writing().make_node(new, Unstored::BlockDevice(1)).await.expect_err("a user's device");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_directory_with_the_bit_hands_its_group_down() {
    let rig = Rig::writable(&[]).await;
    let dir = rig.make_directory("/m/d").await.expect("made").attr.expect("there").inode;
    let change = AttrChange { mode: Some(0o2775), gid: Some(30), ..AttrChange::default() };
    let change = Change { inode: dir, change, caller: None, request: request() };
    rig.writing().set_attr(change, None).await.expect("changed");
    let file = rig.create("/m/d/f").await.expect("made").answer.attr.expect("there");
    assert_eq!((file.gid, file.mode), (30, 0o640));
    let below = rig.make_directory("/m/d/below").await.expect("made").attr.expect("there");
    assert_eq!((below.gid, below.mode), (30, 0o2640));
    let link = rig.make_node("/m/d/l", link("f")).await.expect("made");
    assert_eq!((link.gid, link.mode), (30, 0o640));
}
