//! Paths that are longer than the store's keys.

use std::sync::Arc;

use headpond_types::{Error, ErrorKind};
use headpond_ufs::Capabilities;

use super::{INTERVAL, Rig, plain::Plain};

#[tokio::test]
async fn what_the_store_has_no_key_for_is_refused_by_its_length() {
    let rig = Rig::with(Some(INTERVAL), &["f"], false, |inner| {
        let capabilities = Capabilities { max_key: 600, ..inner.capabilities().clone() };
        Arc::new(Plain { inner, capabilities, late: Arc::default() })
    })
    .await;
    let name = |length: usize| "n".repeat(length);
    let dir = format!("/m/{}/{}", name(250), name(250));
    for made in [&dir[..253], &dir] {
        rig.make_directory(made).await.expect("made");
    }
    let kind = |error: Error| error.kind();
    // 501 bytes, a slash and the name; a directory has another slash.
    let long = format!("{dir}/{}", name(99));
    assert_eq!(rig.create(&long).await.map_err(kind).expect_err("too long"), ErrorKind::NameTooLong);
    assert_eq!(
        rig.make_directory(&long[..long.len() - 1]).await.map_err(kind).expect_err("too"),
        ErrorKind::NameTooLong
    );
    assert_eq!(rig.rename("/m/f", &long).await.map_err(kind).expect_err("too long"), ErrorKind::NameTooLong);
    rig.write(&long[..long.len() - 1], "fits").await;
    rig.make_directory(&long[..long.len() - 2]).await.expect("fits");
    assert_eq!(rig.object("f").await, "f");
}
