//! Descriptions and ranges.

use bytes::Bytes;
use headpond_ufs::{Key, ListRequest, Precondition, UfsErrorKind};

use super::{Place, describes, fails};

pub(crate) async fn ranges_are_exact(place: Place) {
    let meta = place.put("o", "0123456789").await;
    assert_eq!(meta.size, 10);
    assert!(!meta.version.is_empty());
    describes(&place, "o", &meta).await;
    for (range, expected) in
        [(0..10, "0123456789"), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (0..0, ""), (4..4, ""), (10..10, "")]
    {
        assert_eq!(place.read("o", range.clone(), &meta.version).await.expect("a get"), expected, "{range:?}");
    }
}

pub(crate) async fn another_version_is_changed(place: Place) {
    let old = place.put("o", "old bytes").await;
    let new = place.put("o", "new bytes").await;
    assert_ne!(old.version, new.version);
    for range in [0..9, 0..1, 3..3] {
        fails(place.read("o", range, &old.version).await, UfsErrorKind::Changed);
    }
    assert_eq!(place.read("o", 0..9, &new.version).await.expect("a get"), "new bytes");
}

pub(crate) async fn missing_keys_are_not_found(place: Place) {
    place.put("o", "x").await;
    for name in ["no", "o/below", "o/", "no/such/path"] {
        fails(place.store.head(&place.key(name)).await, UfsErrorKind::NotFound);
        fails(place.read(name, 0..1, "v").await, UfsErrorKind::NotFound);
        fails(place.read(name, 0..0, "v").await, UfsErrorKind::NotFound);
    }
}

pub(crate) async fn ranges_past_the_end_are_invalid(place: Place) {
    let meta = place.put("o", "0123456789").await;
    for range in [0..11, 10..11, 5..100, 11..11, 100..200] {
        fails(place.read("o", range, &meta.version).await, UfsErrorKind::Invalid);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "the wrong range is what is tested")]
    let reversed = 5..4;
    fails(place.read("o", reversed, &meta.version).await, UfsErrorKind::Invalid);
}

pub(crate) async fn empty_objects_are_read(place: Place) {
    let meta = place.put("empty", "").await;
    assert_eq!(meta.size, 0);
    assert_eq!(place.read("empty", 0..0, &meta.version).await.expect("a get"), "");
    fails(place.read("empty", 0..1, &meta.version).await, UfsErrorKind::Invalid);
}

pub(crate) async fn the_root_is_no_object(place: Place) {
    for key in ["", "/"].map(Key::from) {
        fails(place.store.head(&key).await, UfsErrorKind::Invalid);
        fails(place.store.get(&key, 0..1, "v").await.map(|_| ()), UfsErrorKind::Invalid);
        fails(place.store.put(&key, Bytes::new(), &Precondition::None).await, UfsErrorKind::Invalid);
        fails(place.store.delete(&key, &Precondition::None).await, UfsErrorKind::Invalid);
    }
}

pub(crate) async fn large_bodies_arrive_whole(place: Place) {
    let body = Bytes::from((0..=250).cycle().take(6_000_011).collect::<Vec<u8>>());
    let meta = place.put("large", body.clone()).await;
    assert_eq!(place.read("large", 0..meta.size, &meta.version).await.expect("a get"), body);
    assert_eq!(
        place.read("large", 1_234_567..4_567_890, &meta.version).await.expect("a get"),
        body.slice(1_234_567..4_567_890)
    );
}

pub(crate) async fn keys_have_a_greatest_length(place: Place) {
    let most = place.store.capabilities().max_key;
    if most > 1 << 16 {
        return;
    }
    let of_length = |length: usize| {
        let mut name = String::new();
        while place.key(&name).as_bytes().len() < length {
            name.push(if name.len() % 100 == 99 { '/' } else { 'k' });
        }
        name
    };
    let long = of_length(most + 1);
    fails(place.store.head(&place.key(&long)).await, UfsErrorKind::TooLong);
    fails(place.read(&long, 0..1, "v").await, UfsErrorKind::TooLong);
    fails(place.store.put(&place.key(&long), Bytes::new(), &Precondition::None).await, UfsErrorKind::TooLong);
    let request = ListRequest { prefix: place.key(&long), ..ListRequest::default() };
    assert!(place.store.list(&request).await.expect("a listing").entries.is_empty());
    let longest = of_length(most);
    place.put(&longest, "x").await;
    assert_eq!(place.store.head(&place.key(&longest)).await.expect("is there").size, 1);
    place.store.delete(&place.key(&longest), &Precondition::None).await.expect("deleted");
}
