//! Listings.

use headpond_ufs::{Key, ListRequest, Listed, Precondition, UfsErrorKind};

use super::Place;

pub(crate) async fn an_empty_store_lists_nothing(place: Place) {
    for delimited in [false, true] {
        assert_eq!(place.list(place.request("", delimited)).await, []);
    }
}

pub(crate) async fn a_missing_prefix_lists_nothing(place: Place) {
    for (below, delimited) in [("", false), ("", true), ("no/such", true), ("no/such/", false)] {
        assert_eq!(place.list(place.request(below, delimited)).await, []);
    }
}

/// Keys whose order as bytes differs from the order of a walk by directories.
const TREE: [&str; 9] = ["a", "b!", "b.c", "b/x", "b/y/z", "b0", "c/d", "ca", "Z"];

async fn plant(place: &Place) -> Vec<&'static str> {
    for name in TREE {
        place.put(name, name).await;
    }
    let mut sorted = TREE.to_vec();
    sorted.sort_unstable();
    sorted
}

pub(crate) async fn pages_tile_the_listing(place: Place) {
    let sorted = plant(&place).await;
    for max_keys in [0, 1, 2, 3, 9, 1000] {
        let request = ListRequest { max_keys, ..place.request("", false) };
        let all = place.list(request.clone()).await;
        assert!(all.is_sorted_by(|one, other| one.key() < other.key()), "{all:?}");
        assert_eq!(place.names(request).await, sorted, "pages of {max_keys}");
    }
    let one = ListRequest { max_keys: 1, ..place.request("", false) };
    let listed = place.store.list(&one).await.expect("a page");
    let Some(token) = listed.continuation else { panic!("one of nine keys is not all") };
    // A page asked for twice is the same page, as a retry needs it.
    let again = ListRequest { continuation: Some(token), ..one };
    let first = place.store.list(&again).await.expect("a page");
    assert_eq!(place.store.list(&again).await.expect("a page").entries, first.entries);
    for entry in place.list(place.request("b", false)).await {
        let Listed::Object(meta) = entry else { panic!("a flat listing has no prefixes") };
        if !meta.key.as_bytes().ends_with(b"/") {
            assert_eq!(place.store.head(&meta.key).await.expect("a head"), meta);
        }
    }
}

pub(crate) async fn delimited_listings_fold(place: Place) {
    plant(&place).await;
    for max_keys in [0, 1, 2, 5] {
        let names = |below| place.names(ListRequest { max_keys, ..place.request(below, true) });
        assert_eq!(names("").await, ["Z", "a", "b!", "b.c", "b/", "b0", "c/", "ca"]);
        assert_eq!(names("b").await, ["b!", "b.c", "b/", "b0"]);
        assert_eq!(names("b/").await, ["b/x", "b/y/"]);
        assert_eq!(names("b/y").await, ["b/y/"]);
        assert_eq!(names("c").await, ["c/", "ca"]);
    }
    for entry in place.list(place.request("b", true)).await {
        let folded = matches!(entry, Listed::Prefix(_));
        assert_eq!(folded, entry.key().as_bytes().ends_with(b"/"), "{entry:?}");
    }
}

pub(crate) async fn start_after_is_exclusive(place: Place) {
    let sorted = plant(&place).await;
    for after in ["", "a", "b", "b.c", "b/", "b/x", "b/y", "b0", "zz"] {
        let start_after = Some(place.key(after));
        for max_keys in [0, 2] {
            let request = ListRequest { start_after: start_after.clone(), max_keys, ..place.request("", false) };
            let expected: Vec<&str> = sorted.iter().copied().filter(|name| *name > after).collect();
            assert_eq!(place.names(request).await, expected, "after {after:?}");
        }
    }
    for (after, expected) in [("b.c", vec!["b/", "b0", "c/", "ca"]), ("b0", vec!["c/", "ca"])] {
        let request = ListRequest { start_after: Some(place.key(after)), ..place.request("", true) };
        assert_eq!(place.names(request).await, expected, "after {after:?}");
    }
}

pub(crate) async fn markers_are_objects(place: Place) {
    place.put("m/", "").await;
    place.put("n/x", "x").await;
    let listed = place.list(place.request("m/", true)).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(matches!(&listed[0], Listed::Object(meta) if meta.key == place.key("m/") && meta.size == 0));
    let top = place.list(place.request("", true)).await;
    let prefixes: Vec<Listed> = ["m/", "n/"].map(|name| Listed::Prefix(place.key(name))).into();
    let found: Vec<Listed> = top.into_iter().filter(|entry| *entry.key() != place.key("")).collect();
    assert_eq!(found, prefixes);
    let marker = place.store.head(&place.key("m/")).await.expect("a head");
    assert_eq!(place.read("m/", 0..0, &marker.version).await.expect("a get"), "");
}

pub(crate) async fn odd_keys_survive(place: Place) {
    let names = [
        " lead",
        "a b",
        "a+b",
        "a%20b",
        "100%",
        "a&b=c?d#e",
        "back\\slash",
        "new\nline",
        "tab\tbell\x07",
        "\u{1}ctl",
        "grün/ß",
        "日本/語",
        "quote\"'`",
        "<xml>&amp;",
        "~t",
        "a*b",
        "semi;colon:@!$(),",
        "trail ",
        "trail.",
    ];
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    for name in names {
        place.put(name, name).await;
    }
    assert_eq!(place.names(place.request("", false)).await, sorted);
    assert_eq!(place.names(ListRequest { max_keys: 1, ..place.request("", false) }).await, sorted);
    for name in names {
        assert_eq!(place.read_all(name).await, name);
        let listed = place.names(place.request(name, true)).await;
        assert!(listed.contains(&name.to_owned()), "{name:?} in {listed:?}");
        let after = ListRequest { start_after: Some(place.key(name)), ..place.request("", false) };
        assert!(!place.names(after).await.contains(&name.to_owned()));
        place.store.delete(&place.key(name), &Precondition::None).await.expect("a delete");
    }
    assert_eq!(place.names(place.request("", false)).await, [""; 0]);
}

pub(crate) async fn long_keys_survive(place: Place) {
    let room = 1024 - place.prefix.len();
    let long: String = "0123456789/".chars().cycle().take(room - 1).chain(['e']).collect();
    assert_eq!(place.key(&long).as_bytes().len(), 1024);
    place.put(&long, "long").await;
    assert_eq!(place.read_all(&long).await, "long");
    assert_eq!(place.names(place.request("", false)).await, [long]);
}

/// A store keeps such a key as it is, or says that it cannot; it never takes it for another key.
pub(crate) async fn unrepresentable_keys_are_refused_or_kept(place: Place) {
    let long = "n".repeat(256);
    for name in ["a//b", "./x", "../x", "x/../y", "x/./y", "//", "x/..", long.as_str()] {
        let key = place.key(name);
        match place.store.put(&key, "odd".into(), &Precondition::None).await {
            Ok(_) => {
                assert_eq!(place.read_all(name).await, "odd");
                assert_eq!(place.names(place.request("", false)).await, [name]);
                place.store.delete(&key, &Precondition::None).await.expect("a delete");
            }
            Err(error) => assert_eq!(error.kind(), UfsErrorKind::Invalid, "{error}"),
        }
        assert_eq!(place.names(place.request("", false)).await, [""; 0]);
    }
    match place.store.list(&place.request("a//b/", true)).await {
        Ok(page) => assert_eq!(page.entries, []),
        Err(error) => assert_eq!(error.kind(), UfsErrorKind::Invalid, "{error}"),
    }
    let raw = Key::from([place.prefix.as_bytes(), b"\xff\xfe"].concat());
    match place.store.put(&raw, "raw".into(), &Precondition::None).await {
        Ok(meta) => {
            assert_eq!(place.store.head(&raw).await.expect("a head"), meta);
            let listed = place.list(place.request("", false)).await;
            assert!(listed.contains(&Listed::Object(meta)), "{listed:?}");
        }
        Err(error) => assert_eq!(error.kind(), UfsErrorKind::Invalid, "{error}"),
    }
}
