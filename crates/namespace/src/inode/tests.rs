//! Rows survive, and damaged ones harm nothing.

use proptest::prelude::*;

use super::*;

fn versions() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{32}",
        "\"[0-9a-f]{32}\"",
        "\"[0-9a-f]{32}-[0-9]{1,4}\"",
        "[0-9a-fA-F]{30,34}",
        "\"?[a-zA-Z0-9é\"]{0,40}\"?",
    ]
}

fn inodes() -> impl Strategy<Value = Inode> {
    let time = prop_oneof![any::<i64>(), (-9_000_000_000_000..9_000_000_000_000i64).prop_map(|ms| ms * 1_000_000)];
    let file = (any::<u64>(), time.clone(), versions(), any::<u128>()).prop_map(|(size, mtime, version, content)| {
        Node::File(File { size, mtime: Timestamp(mtime), version, content: ContentId(content) })
    });
    let what = prop_oneof![
        proptest::collection::vec(1..=u8::MAX, 1..300).prop_map(Unstored::Symlink),
        Just(Unstored::Fifo),
        Just(Unstored::Socket),
        any::<u32>().prop_map(Unstored::CharDevice),
        any::<u32>().prop_map(Unstored::BlockDevice),
    ];
    let unstored = (what, time.clone()).prop_map(|(what, mtime)| Node::Unstored { what, mtime: Timestamp(mtime) });
    let listed = proptest::option::of((any::<i64>().prop_map(Timestamp), any::<u64>()));
    let directory = (time, any::<u64>(), listed, any::<bool>()).prop_map(|(mtime, children, listed, made)| {
        Node::Directory(Directory { mtime: Timestamp(mtime), children, listed, made })
    });
    let name = proptest::option::of(proptest::collection::vec(1..=u8::MAX, 1..256));
    let number = || proptest::option::of(any::<u32>());
    let own_time = || proptest::option::of(any::<i64>().prop_map(Timestamp));
    let own = (number(), number(), number(), own_time(), own_time(), any::<bool>(), any::<bool>());
    let own = own.prop_map(|(mode, uid, gid, ctime, atime, mtime, xattrs)| Own {
        mode,
        uid,
        gid,
        ctime,
        atime,
        mtime,
        xattrs,
    });
    let own = prop_oneof![Just(Own::default()), own];
    let key = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    let node = prop_oneof![file, directory, unstored];
    (any::<u64>(), name, key, own, any::<bool>(), node).prop_map(|(parent, name, key, own, dirty, node)| {
        let dirty = dirty && !matches!(node, Node::Unstored { .. });
        Inode { parent: DirKey(parent), name: name.and_then(|bytes| Name::new(bytes).ok()), key, own, dirty, node }
    })
}

proptest! {
    #[test]
    fn a_row_survives_the_round_trip(inode in inodes()) {
        prop_assert_eq!(Inode::decode(&inode.encode()), Some(inode));
    }

    #[test]
    fn damaged_rows_never_panic(inode in inodes(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = inode.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = Inode::decode(&bytes);
    }
}

#[test]
fn an_object_with_an_md5_etag_takes_one_byte_more_than_its_parts() {
    let inode = Inode {
        parent: DirKey(300),
        name: Some(Name::new("x".repeat(62)).expect("a legal name")),
        key: None,
        own: Own::default(),
        dirty: false,
        node: Node::File(File {
            size: 1 << 20,
            mtime: Timestamp(1_700_000_000_000_000_000),
            version: format!("\"{}\"", "0f".repeat(16)),
            content: ContentId(7),
        }),
    };
    assert_eq!(inode.encode().len(), 2 + 2 + 3 + 6 + 16 + 16 + 1 + 62);
}

fn root() -> Inode {
    Inode {
        parent: DirKey(2),
        name: None,
        key: None,
        own: Own::default(),
        dirty: false,
        node: Node::Directory(Directory::default()),
    }
}

#[test]
fn rows_of_before_there_was_writing_are_what_is_written_still() {
    let directory = [&[0x12, 3, 2], &5i64.to_le_bytes()[..], &[7], &6i64.to_le_bytes(), &[1], b"d"].concat();
    let file = [&[0x11, 6, 0xac, 0x02, 10, 14], &[0; 15][..], &[9], &[0x0f; 16], &[2], b"-2", b"f"].concat();
    let known = Directory { mtime: Timestamp(5), children: 7, listed: Some((Timestamp(6), 1)), made: true };
    let known = Inode { name: Name::new("d").ok(), node: Node::Directory(known), ..root() };
    let object = File {
        size: 10,
        mtime: Timestamp(7_000_000),
        version: format!("{}-2", "0f".repeat(16)),
        content: ContentId(9),
    };
    let object = Inode { parent: DirKey(300), name: Name::new("f").ok(), node: Node::File(object), ..root() };
    for (bytes, inode) in [(directory, known), (file, object)] {
        assert_eq!(inode.encode(), bytes);
        assert_eq!(Inode::decode(&bytes), Some(inode));
    }
}

#[test]
fn attributes_of_before_there_were_times_of_access_are_what_is_written_still() {
    let bytes = [&[0x12, 0x40, 2][..], &[0; 8], &[0, 63, 1, 2, 3], &5i64.to_le_bytes()].concat();
    let ctime = Some(Timestamp(5));
    let own = Own { mode: Some(1), uid: Some(2), gid: Some(3), ctime, atime: None, mtime: true, xattrs: true };
    let inode = Inode { own, ..root() };
    assert_eq!(inode.encode(), bytes);
    assert_eq!(Inode::decode(&bytes), Some(inode));
}

#[test]
fn a_row_of_a_later_release_is_not_guessed_at() {
    let mut bytes = root().encode();
    bytes[1] |= 0x80;
    assert_eq!(Inode::decode(&bytes), None);
    bytes[1] = 0;
    bytes[0] = 0x22;
    assert_eq!(Inode::decode(&bytes), None);
}
