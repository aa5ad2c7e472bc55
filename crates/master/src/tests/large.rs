//! Objects that are larger than what a store copies in one request (5 GiB on S3): they are copied in parts, whatever for.

use std::sync::Arc;

use headpond_namespace::Durability;
use headpond_ufs::{Capabilities, Fault, Key, Op, UfsErrorKind, UnderStore};

use super::{
    INTERVAL, Rig,
    holders::{Bed, persistence},
    plain::Plain,
};

/// 35 bytes, which go in four parts.
const LARGE: &str = "0123456789abcdefghijABCDEFGHIJklmno";

/// Stores a large object, which no PUT of such a store takes.
async fn put_large(store: &dyn UnderStore, key: &str) {
    let key = Key::from(key.to_owned());
    let upload = store.create_multipart(&key).await.expect("begun");
    let mut parts = Vec::new();
    for (number, piece) in (1..).zip(LARGE.as_bytes().chunks(10)) {
        let body = bytes::Bytes::copy_from_slice(piece);
        parts.push((number, store.put_part(&key, &upload, number, body).await.expect("stored")));
    }
    let absent = headpond_ufs::Precondition::None;
    store.complete_multipart(&key, &upload, &parts, &absent).await.expect("completed");
}

/// From now on the store copies nothing in one request, and the parts are counted.
fn copy_parts_only(rig: &Rig) {
    rig.store.chance(Some(Op::Copy), 1.0, Fault::Error(UfsErrorKind::Unsupported));
    rig.store.script(Op::CopyPart, [None; 100]);
}

/// How many parts have been copied since then.
fn copied_parts(rig: &Rig) -> usize {
    100 - rig.store.scripted(Op::CopyPart)
}

#[tokio::test]
async fn a_large_object_is_moved_in_parts_and_a_small_one_is_not() {
    // Where a copy takes a condition, and where only the end of an upload does.
    for conditional_copy in [true, false] {
        let rig = Rig::with(Some(INTERVAL), &["d/small"], false, |inner| {
            let capabilities = Capabilities { conditional_copy, ..Plain::of_ten(inner.clone()).capabilities().clone() };
            Arc::new(Plain { inner, capabilities, late: Arc::default() })
        })
        .await;
        for key in ["d/large", "f"] {
            put_large(&rig.store, key).await;
        }
        let before = (rig.inode("/m/d/large").await, rig.inode("/m/d/small").await, rig.inode("/m/f").await);
        rig.store.script(Op::CopyPart, [None; 100]);
        rig.rename("/m/d", "/m/e").await.expect("renamed");
        rig.relocated().await;
        assert_eq!(copied_parts(&rig), if conditional_copy { 4 } else { 5 });
        copy_parts_only(&rig);
        rig.rename("/m/f", "/m/g").await.expect("renamed");
        rig.relocated().await;
        assert_eq!(rig.keys().await, ["e/large", "e/small", "g"]);
        for key in ["e/large", "g"] {
            assert_eq!(rig.object(key).await, LARGE);
        }
        rig.advance(INTERVAL);
        let after = (rig.inode("/m/e/large").await, rig.inode("/m/e/small").await, rig.inode("/m/g").await);
        assert_eq!(after, before);
    }
}

#[tokio::test]
async fn the_further_names_of_a_large_file_get_their_objects_in_parts() {
    for durability in [Durability::Through, Durability::Async] {
        let bed = Bed::over(persistence(durability), &[], Plain::of_ten).await;
        put_large(&bed.store, "f").await;
        copy_parts_only(&bed);
        bed.link("/m/f", "/m/g").await;
        bed.persisted().await;
        assert_eq!((bed.object("g").await.as_str(), copied_parts(&bed)), (LARGE, 4));
        // And again after a new version, which the worker has stored as large as it is.
        let body = LARGE.to_uppercase();
        match durability {
            Durability::Async => drop(bed.hold("/m/f", &body).await),
            _ => drop(bed.write("/m/f", &body).await),
        }
        bed.persisted().await;
        assert_eq!(bed.keys().await, ["f", "g"]);
        for key in ["f", "g"] {
            assert_eq!(bed.object(key).await, body);
        }
        assert_eq!(copied_parts(&bed), 8);
    }
}
